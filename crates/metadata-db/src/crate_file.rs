//! What is inside a crate file, read with bounds and by crates.io's rules.

use std::collections::HashMap;
use std::io::Read;

use registry::{CrateName, CrateVersion};
use tar::{Archive, Entry, EntryType};

use crate::inflated::{Inflated, unreadable};
use crate::manifest::CargoToml;
use crate::search::cut;
use crate::{ManifestState, Readme};

/// Of what a crate file inflates to, so much is looked at.
pub const MAX_INFLATED_BYTES: u64 = 64 << 20;
/// The most files and directories one may hold.
pub const MAX_ENTRIES: usize = 50_000;
/// The largest Cargo.toml that is read.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// Longer READMEs are cut here.
pub const MAX_README_BYTES: usize = 512 << 10;
/// What may be held back before the Cargo.toml has said which file is the README.
const MAX_CANDIDATE_BYTES: usize = 4 << 20;
const MAX_REASON_BYTES: usize = 400;

/// Reads the Cargo.toml and the README out of a crate file, in memory and in one pass.
///
/// The rules are crates.io's own: every entry stands below `{name}-{version}/`, in one spelling that the Cargo.toml
/// confirms and that is `name` but for case, `-` and `_`; there are only files and directories, and one Cargo.toml at
/// the root. What breaks them is [`ManifestState::Unparsable`], and so is a reader that fails.
/// A file that inflates to more than [`MAX_INFLATED_BYTES`] is read so far, and marked [`partial`](crate::Manifest::partial).
/// The work is bounded by these sizes: well below two seconds.
pub fn read_crate_file(reader: impl Read, name: &CrateName, version: &CrateVersion) -> ManifestState {
    match Reading::new(name, version).run(reader) {
        Ok((cargo_toml, readme)) => {
            let mut manifest = Box::new(cargo_toml.manifest);
            manifest.readme = readme;
            ManifestState::Read(manifest)
        }
        Err(why) => {
            let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            ManifestState::Unparsable(cut(&why, MAX_REASON_BYTES).to_owned())
        }
    }
}

/// What has been met so far.
struct Reading<'a> {
    name: &'a CrateName,
    version: &'a CrateVersion,
    /// `{name}-{version}` as the first entry spells it.
    root: Option<String>,
    /// How the name is spelled in `root`.
    spelled: String,
    cargo_toml: Option<CargoToml>,
    /// Files that may be the README, by their path in lower case.
    readmes: HashMap<String, Readme>,
    candidate_bytes: usize,
}

impl<'a> Reading<'a> {
    fn new(name: &'a CrateName, version: &'a CrateVersion) -> Self {
        Self {
            name,
            version,
            root: None,
            spelled: String::new(),
            cargo_toml: None,
            readmes: HashMap::new(),
            candidate_bytes: 0,
        }
    }

    fn run(mut self, reader: impl Read) -> Result<(CargoToml, Option<Readme>), String> {
        let mut inflated = Inflated::new(reader);
        let outcome = self.read_entries(&mut inflated).and_then(|()| inflated.finish());
        let partial = inflated.limit_met;
        if !(partial && self.cargo_toml.is_some()) {
            outcome?;
        }
        let mut cargo_toml = self.cargo_toml.ok_or("it has no Cargo.toml")?;
        cargo_toml.manifest.partial = partial;
        let readme = cargo_toml
            .readme_paths
            .iter()
            .find_map(|path| self.readmes.remove(path));
        Ok((cargo_toml, readme))
    }

    fn read_entries(&mut self, inflated: &mut Inflated<impl Read>) -> Result<(), String> {
        let mut archive = Archive::new(inflated);
        let entries = archive.entries().map_err(unreadable)?;
        for (at, entry) in entries.enumerate() {
            if at >= MAX_ENTRIES {
                return Err(format!("it has more than {MAX_ENTRIES} entries"));
            }
            self.entry(entry.map_err(unreadable)?)?;
        }
        Ok(())
    }

    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), String> {
        let path = match std::str::from_utf8(&entry.path_bytes()) {
            Ok(path) => path.to_owned(),
            Err(_) => return Err(format!("the path `{}` is not UTF-8", entry.path_bytes().escape_ascii())),
        };
        let is_directory = match entry.header().entry_type() {
            EntryType::Regular => false,
            EntryType::Directory => true,
            other => return Err(format!("`{path}` is {}", kind_of(other))),
        };
        check_extensions(&mut entry, &path)?;
        let inner = self.inner_path(&path, is_directory)?;
        let lower = inner.to_ascii_lowercase();
        if lower == "cargo.toml" {
            return self.cargo_toml(entry, inner, is_directory);
        }
        if !is_directory && self.may_be_readme(&lower) {
            self.readme(entry, inner, lower)?;
        }
        Ok(())
    }

    /// The path inside the crate; empty for its root.
    fn inner_path<'p>(&mut self, path: &'p str, is_directory: bool) -> Result<&'p str, String> {
        let (root, inner) = path.split_once('/').unwrap_or((path, ""));
        match &self.root {
            Some(known) if known == root => {}
            Some(known) => return Err(format!("`{path}` is not below `{known}/`")),
            None => {
                self.spelled = self
                    .spelling(root)
                    .ok_or_else(|| format!("`{path}` is not below `{}-{}/`", self.name, self.version))?;
                self.root = Some(root.to_owned());
            }
        }
        let inner = if is_directory {
            inner.trim_end_matches('/')
        } else {
            inner
        };
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if (inner.is_empty() && !is_directory) || (!inner.is_empty() && inner.split('/').any(odd)) {
            return Err(format!("`{path}` is not a plain path"));
        }
        Ok(inner)
    }

    /// The crate's name as `root` has it, if `root` belongs to this name and version.
    fn spelling(&self, root: &str) -> Option<String> {
        let name = root.strip_suffix(self.version.as_str())?.strip_suffix('-')?;
        let spelled: CrateName = name.parse().ok()?;
        (spelled.canonical() == self.name.canonical()).then(|| name.to_owned())
    }

    fn cargo_toml(&mut self, entry: Entry<'_, impl Read>, inner: &str, is_directory: bool) -> Result<(), String> {
        if is_directory {
            return Err(format!("its `{inner}` is a directory"));
        }
        if self.cargo_toml.is_some() {
            return Err(format!("it has a second Cargo.toml, `{inner}`"));
        }
        if inner != "Cargo.toml" && inner != "cargo.toml" {
            return Err(format!("its Cargo.toml is spelled `{inner}`"));
        }
        let (bytes, longer) = read_up_to(entry, MAX_MANIFEST_BYTES)?;
        if longer {
            return Err(format!("its Cargo.toml is longer than {MAX_MANIFEST_BYTES} bytes"));
        }
        let read = CargoToml::parse(bytes)?;
        if read.name != self.spelled || read.version != self.version.as_str() {
            return Err(format!("its Cargo.toml speaks of `{}` `{}`", read.name, read.version));
        }
        self.cargo_toml = Some(read);
        Ok(())
    }

    /// Once the Cargo.toml is known, exactly what it says; before that, what is usually one.
    fn may_be_readme(&self, lower: &str) -> bool {
        match &self.cargo_toml {
            Some(read) => read.readme_paths.iter().any(|path| path == lower),
            None => {
                let text = [".md", ".markdown", ".txt", ".rst", ".adoc"];
                lower == "readme" || text.iter().any(|ending| lower.ends_with(ending))
            }
        }
    }

    fn readme(&mut self, entry: Entry<'_, impl Read>, inner: &str, lower: String) -> Result<(), String> {
        if self.candidate_bytes > MAX_CANDIDATE_BYTES && self.cargo_toml.is_none() {
            return Ok(());
        }
        let (bytes, longer) = read_up_to(entry, MAX_README_BYTES)?;
        self.candidate_bytes += bytes.len() + lower.len();
        let (text, cut) = readable(&bytes, longer);
        let path = inner.to_owned();
        self.readmes.entry(lower).or_insert(Readme { path, text, cut });
        Ok(())
    }
}

/// A README for display and whether it was cut: without a byte order mark, NUL and what is not UTF-8 as U+FFFD, which
/// makes it longer. `longer` says that `bytes` end before the file does, perhaps inside a character.
fn readable(bytes: &[u8], longer: bool) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)).replace('\0', "\u{fffd}");
    let whole = if longer {
        text.trim_end_matches('\u{fffd}')
    } else {
        &text
    };
    let kept = cut(whole, MAX_README_BYTES);
    (kept.to_owned(), longer || kept.len() < whole.len())
}

fn read_up_to(entry: impl Read, limit: usize) -> Result<(Vec<u8>, bool), String> {
    let mut bytes = Vec::new();
    entry
        .take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let longer = bytes.len() > limit;
    bytes.truncate(limit);
    Ok((bytes, longer))
}

/// Two sizes for one entry, or a sparse map, let two readers see two different archives.
fn check_extensions(entry: &mut Entry<'_, impl Read>, path: &str) -> Result<(), String> {
    let size_bytes = entry.header().entry_size().map_err(unreadable)?;
    let Some(extensions) = entry.pax_extensions().map_err(unreadable)? else {
        return Ok(());
    };
    for extension in extensions {
        let extension = extension.map_err(unreadable)?;
        let (key, value) = (extension.key_bytes(), extension.value_bytes());
        if key == b"size" && value != size_bytes.to_string().as_bytes() {
            return Err(format!(
                "`{path}` has two sizes, {size_bytes} and `{}`",
                value.escape_ascii()
            ));
        }
        if key.starts_with(b"GNU.sparse") {
            return Err(format!("`{path}` is sparse"));
        }
    }
    Ok(())
}

fn kind_of(kind: EntryType) -> String {
    match kind {
        EntryType::Symlink => "a symlink".to_owned(),
        EntryType::Link => "a hard link".to_owned(),
        EntryType::Char | EntryType::Block => "a device".to_owned(),
        EntryType::Fifo => "a fifo".to_owned(),
        EntryType::GNUSparse => "sparse".to_owned(),
        other => format!(
            "neither file nor directory but of kind {}",
            other.as_byte().escape_ascii()
        ),
    }
}

#[cfg(test)]
mod tests;
