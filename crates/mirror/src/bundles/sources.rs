//! What there is to import: bundles, crate files and vendored sources among the files and folders that were named.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::appliance::StartError;

/// What `cargo vendor` writes into the folder of each crate.
pub const VENDORED: &str = ".cargo-checksum.json";
/// What comes first in a bundle, and so at its very beginning.
const FIRST_MEMBER: &[u8] = b"MANIFEST.json\0";
/// What a receipt begins with.
const RECEIPT: &[u8] = b"mirror receipt ";

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Bundles and parts of such.
    pub bundles: Vec<PathBuf>,
    /// Crate files.
    pub crates: Vec<PathBuf>,
    /// Folders with the sources of one crate.
    pub vendored: Vec<PathBuf>,
}

impl Sources {
    /// Looks at what was named; what a folder has besides is passed over.
    pub fn find(named: &[PathBuf]) -> Result<Self, StartError> {
        let mut sources = Self::default();
        for path in named {
            let failed = |error: io::Error| format!("{} cannot be read: {error}", path.display());
            if std::fs::metadata(path).map_err(failed)?.is_dir() {
                let before = sources.count();
                sources.look_into(path).map_err(failed)?;
                if sources.count() == before {
                    return Err(format!(
                        "{}: there is no bundle in it, no .crate file, and nothing that `cargo vendor` made",
                        path.display()
                    )
                    .into());
                }
            } else if is_crate(path) {
                sources.crates.push(path.clone());
            } else if is_receipt(path).map_err(failed)? {
                return Err(format!(
                    "{} is a receipt: it goes back to the mirror outside, for mirror export --since",
                    path.display()
                )
                .into());
            } else {
                // whatever it is, it was meant as a bundle: what is wrong with it is said when it is read
                sources.bundles.push(path.clone());
            }
        }
        Ok(sources)
    }

    fn count(&self) -> usize {
        self.bundles.len() + self.crates.len() + self.vendored.len()
    }

    fn look_into(&mut self, folder: &Path) -> io::Result<()> {
        if folder.join(VENDORED).is_file() {
            self.vendored.push(folder.to_owned());
            return Ok(());
        }
        let mut entries = std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        for path in entries {
            let kind = std::fs::symlink_metadata(&path)?.file_type();
            if !kind.is_dir() && !kind.is_file() {
                // no link on a stick is followed, and no pipe is waited for
                continue;
            }
            if kind.is_dir() {
                if path.join(VENDORED).is_file() {
                    self.vendored.push(path);
                }
            } else if is_crate(&path) {
                self.crates.push(path);
            } else if is_bundle(&path)? {
                self.bundles.push(path);
            }
        }
        Ok(())
    }
}

fn is_crate(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "crate")
}

fn is_receipt(path: &Path) -> io::Result<bool> {
    begins_with(path, RECEIPT)
}

fn begins_with(path: &Path, first: &[u8]) -> io::Result<bool> {
    let mut begins = Vec::new();
    File::open(path)?.take(first.len() as u64).read_to_end(&mut begins)?;
    Ok(begins == first)
}

/// By its beginning; or by its name, so that a damaged one is not passed over.
fn is_bundle(path: &Path) -> io::Result<bool> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let is_part = extension.len() == 3 && extension.bytes().all(|byte| byte.is_ascii_digit());
    if extension == "tar" || is_part {
        return Ok(true);
    }
    // what is being written still has the same beginning
    if extension == "part" {
        return Ok(false);
    }
    begins_with(path, FIRST_MEMBER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_looked_into_and_what_is_no_source_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let stick = dir.path();
        let file = |name: &str, bytes: &[u8]| {
            let path = stick.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let damaged = file("a.tar", b"");
        let part = file("b.002", b"");
        let other = file("week", FIRST_MEMBER);
        let krate = file("serde-1.0.0.crate", b"x");
        file("week.part", FIRST_MEMBER);
        file("week.receipt", b"mirror receipt 1\n");
        let vendored = file("serde/.cargo-checksum.json", b"{}");
        file("notes/readme.txt", b"");
        std::os::unix::fs::symlink("/dev/zero", stick.join("zero.tar")).unwrap();
        let found = Sources::find(&[stick.to_owned()]).unwrap();
        assert_eq!(
            found,
            Sources {
                bundles: vec![damaged, part, other],
                crates: vec![krate.clone()],
                vendored: vec![vendored.parent().unwrap().to_owned()],
            }
        );
        let one = Sources::find(&[stick.join("serde"), krate, stick.join("notes/readme.txt")]).unwrap();
        assert_eq!((one.bundles.len(), one.crates.len(), one.vendored.len()), (1, 1, 1));
        let nothing = Sources::find(&[stick.join("notes")]).unwrap_err().to_string();
        assert!(nothing.contains("there is no bundle in it"), "{nothing}");
        let gone = Sources::find(&[stick.join("gone")]).unwrap_err().to_string();
        assert!(gone.contains("cannot be read"), "{gone}");
    }
}
