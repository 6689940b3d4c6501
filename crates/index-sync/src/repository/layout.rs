//! What a bare repository of ours looks like on disk, and what a killed writer may have left in it.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::durable::{remove_file, replace_file, sync_dir};

/// The branch that is published.
pub(crate) const BRANCH: &str = "refs/heads/master";

const HEAD: &str = "ref: refs/heads/master\n";
/// `gc.auto` keeps a curious operator's git from packing beneath us: we do that ourselves.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n[gc]\n\tauto = 0\n";

/// Makes whatever is missing of a bare repository; a new one and one whose making was cut short end alike.
pub(crate) fn init(dir: &Path) -> Result<(), Error> {
    for part in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        let path = dir.join(part);
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
    }
    for part in ["objects", "refs", ""] {
        sync_dir(&dir.join(part))?;
    }
    for (name, content) in [("config", CONFIG), ("HEAD", HEAD)] {
        let path = dir.join(name);
        if !path.exists() {
            replace_file(&path, &dir.join(format!("{name}.lock")), content.as_bytes())?;
        }
    }
    Ok(())
}

/// Where packs are made; outside of `objects/`, so that no reader ever sees one that is not whole and flushed.
pub(crate) fn staging(dir: &Path) -> PathBuf {
    dir.join("mirror-staging")
}

/// Where the packs are.
pub(crate) fn packs(dir: &Path) -> PathBuf {
    dir.join("objects").join("pack")
}

/// The file of the pack with this name.
pub(crate) fn pack_path(dir: &Path, name: &str) -> PathBuf {
    packs(dir).join(format!("{name}.pack"))
}

/// Where a loose object is, or would be.
pub(crate) fn loose_object(dir: &Path, id: gix::ObjectId) -> PathBuf {
    let hex = id.to_hex().to_string();
    dir.join("objects").join(&hex[..2]).join(&hex[2..])
}

/// The paths in a directory; none if it does not exist.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("list", dir))?,
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(Error::io("list", dir)))
        .collect()
}

/// The 256 directories of loose objects, as far as they exist.
pub(crate) fn fan_out(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = list(&dir.join("objects"))?;
    found.retain(|path| {
        let name = name_of(path);
        name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    Ok(found)
}

/// A path's last part; empty if that is not text, which none of git's names is.
pub(crate) fn name_of(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// Removes what a killed writer left, before the first read. Nothing that a published commit needs can be among it:
/// objects get their names when they are whole, and the branch moves after that.
pub(crate) fn sweep(dir: &Path) -> Result<usize, Error> {
    let mut leftovers = stale_locks(dir)?;
    leftovers.extend(list(&staging(dir))?);
    leftovers.extend(unfinished_packs(dir)?);
    for fan_out in fan_out(dir)? {
        leftovers.extend(list(&fan_out)?.into_iter().filter(|path| {
            name_of(path).starts_with("tmp_obj") || path.metadata().is_ok_and(|metadata| metadata.len() == 0)
        }));
    }
    for path in &leftovers {
        log::info!("removing {}, left behind by a writer that was killed", path.display());
        remove_file(path)?;
    }
    Ok(leftovers.len())
}

fn stale_locks(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("refs")];
    let mut files = list(dir)?;
    while let Some(folder) = folders.pop() {
        for path in list(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    found.extend(
        files
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "lock")),
    );
    Ok(found)
}

/// A pack is there once both `.pack` and `.idx` are; each without the other, and what belongs to neither, goes.
fn unfinished_packs(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = list(&packs(dir))?;
    found.retain(|path| {
        let name = name_of(path);
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        match extension {
            _ if name.starts_with("tmp_") || name.starts_with(".tmp") => true,
            "lock" => true,
            "pack" => !path.with_extension("idx").exists(),
            "idx" | "keep" | "rev" | "bitmap" | "mtimes" => !path.with_extension("pack").exists(),
            _ => false,
        }
    });
    Ok(found)
}
