//! Lockfiles and lists, read where the command was given.

use std::path::Path;

use selection::{CrateSpec, Elsewhere, Lockfile, Selected, parse_list};

use crate::appliance::StartError;
use crate::cli::Named;
use crate::settings::Settings;

/// More than any real one has.
const MAX_BYTES: u64 = 64 << 20;

/// What is named: exactly, and by requirements.
pub fn by_lockfiles(settings: &Settings, named: &Named) -> Result<(Vec<Selected>, Vec<CrateSpec>), StartError> {
    let (mut locked, mut crates) = (Vec::new(), named.krate.clone());
    for path in &named.lockfile {
        locked.extend(lockfile(settings, path)?.0);
    }
    for path in &named.list {
        let list = parse_list(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        crates.extend(list);
    }
    Ok((locked, crates))
}

/// The crates of a lockfile, and the packages that come from elsewhere, without those of the workspace itself.
pub fn lockfile(settings: &Settings, path: &Path) -> Result<(Vec<Selected>, Vec<Elsewhere>), StartError> {
    let lockfile = Lockfile::parse(&read(path)?, &own_registries(settings));
    let mut lockfile = lockfile.map_err(|error| format!("{}: {error}", path.display()))?;
    if lockfile.crates.is_empty() && lockfile.elsewhere.is_empty() {
        return Err(format!(
            "{}: it names no package, not even the project's own: is it a lockfile?",
            path.display()
        )
        .into());
    }
    lockfile.elsewhere.retain(|package| package.source.is_some());
    if !lockfile.elsewhere.is_empty() {
        let (path, count) = (path.display(), lockfile.elsewhere.len());
        log::warn!(
            "{path}: {count} packages come from elsewhere (git, other registries), which this mirror does not have"
        );
    }
    Ok((lockfile.crates, lockfile.elsewhere))
}

fn read(path: &Path) -> Result<String, StartError> {
    let failed = |why: &dyn std::fmt::Display| format!("{} cannot be read: {why}", path.display());
    let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if size > MAX_BYTES {
        return Err(failed(&format!("it has {size} bytes")).into());
    }
    Ok(std::fs::read_to_string(path).map_err(|error| failed(&error))?)
}

/// A lockfile names crates.io however it was reached by source replacement. One made with a registry of its own names this mirror, or
/// what is behind it.
fn own_registries(settings: &Settings) -> Vec<String> {
    let public = settings.public_url.as_ref().map(ToString::to_string);
    let bases = public.into_iter().chain([settings.local_url()]);
    let own = bases.flat_map(|base| {
        let base = base.trim_end_matches('/').to_owned();
        ["/index", "/git/index", "/git/index.git"].map(|path| format!("{base}{path}"))
    });
    let upstream = [&settings.upstream.sparse, &settings.upstream.git];
    own.chain(upstream.into_iter().flatten().cloned()).collect()
}
