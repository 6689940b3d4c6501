//! The data directory: made, checked for its layout's version, and locked for one server.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The layout that this program reads and writes, as it stands in `FORMAT`.
const FORMAT: u32 = 1;

/// Why a data directory cannot be used. Reads well after "the data directory".
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made, read or written.
    #[error("{} (from {named_by}) cannot be used: {step}: {cause}", .dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// The setting's source.
        named_by: String,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// Another process holds its lock.
    #[error("{} is in use by another mirror (its LOCK is held)", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It has a layout that this program does not know; nothing was changed.
    #[error("{} has format {}, and this program knows {FORMAT}{}", .dir.display(), .found.escape_debug(), advice(.found))]
    Unknown {
        /// The directory.
        dir: PathBuf,
        /// What its FORMAT says.
        found: String,
    },
}

fn advice(found: &str) -> &'static str {
    match found.parse::<u32>() {
        Ok(found) if found > FORMAT => ": use a newer mirror",
        _ => ": its FORMAT file is damaged, or it is no mirror's",
    }
}

/// A data directory that belongs to this process until it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held for life; the system frees it even after kill -9.
    lock: File,
}

impl DataDir {
    /// Makes the directory if needed, locks it, and checks or writes its `FORMAT`.
    pub fn lock(path: &Path, named_by: &str) -> Result<Self, DataDirError> {
        let unusable = |step| {
            move |cause| DataDirError::Unusable {
                dir: path.to_owned(),
                named_by: named_by.to_owned(),
                step,
                cause,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(path)
            .map_err(unusable("making it"))?;
        let path = path.canonicalize().map_err(unusable("resolving it"))?;
        let found = read_format(&path).map_err(unusable("reading FORMAT"))?;
        if let Some(found) = &found
            && found.parse() != Ok(FORMAT)
        {
            return Err(DataDirError::Unknown {
                dir: path,
                found: found.clone(),
            });
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o640)
            .open(path.join("LOCK"))
            .map_err(unusable("opening LOCK"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse { dir: path }),
            Err(TryLockError::Error(cause)) => return Err(unusable("locking it")(cause)),
        }
        if found.is_none() {
            write_format(&path).map_err(unusable("writing FORMAT"))?;
        }
        Ok(Self { path, lock })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still names the directory that was locked: not after it was moved, deleted or unmounted.
    pub fn is_in_place(&self) -> bool {
        let identity = |found: &Metadata| (found.dev(), found.ino());
        let held = self.lock.metadata().ok();
        let there = std::fs::metadata(self.path.join("LOCK")).ok();
        held.zip(there)
            .is_some_and(|(held, there)| identity(&held) == identity(&there))
    }
}

/// Refuses a directory of a newer format, without locking or changing it: for commands that only read.
pub fn check_format(path: &Path) -> Result<(), DataDirError> {
    match read_format(path) {
        Ok(Some(found)) if found.parse() != Ok(FORMAT) => Err(DataDirError::Unknown {
            dir: path.to_owned(),
            found,
        }),
        _ => Ok(()),
    }
}

fn read_format(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path.join("FORMAT")) {
        Ok(file) => file.take(64).read_to_string(&mut text)?,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    Ok(Some(text.trim().to_owned()))
}

fn write_format(path: &Path) -> io::Result<()> {
    let fresh = path.join("FORMAT.new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o640)
        .open(&fresh)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path.join("FORMAT"))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/mirror-data");
        let held = DataDir::lock(&path, "a test").unwrap();
        assert!(matches!(
            DataDir::lock(&path, "a test"),
            Err(DataDirError::InUse { .. })
        ));
        drop(held);
        let held = DataDir::lock(&path, "a test").unwrap();
        assert!(held.is_in_place());
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        assert!(!held.is_in_place());
    }

    #[test]
    fn a_newer_one_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("FORMAT"), "2\n").unwrap();
        assert!(matches!(
            DataDir::lock(dir.path(), "a test"),
            Err(DataDirError::Unknown { .. })
        ));
        assert!(check_format(dir.path()).is_err());
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["FORMAT"]);
        assert_eq!(std::fs::read_to_string(dir.path().join("FORMAT")).unwrap(), "2\n");
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let message = DataDir::lock(&path, "the flag --data-dir").unwrap_err().to_string();
        assert!(message.contains("file") && message.contains("--data-dir"), "{message}");
    }
}
