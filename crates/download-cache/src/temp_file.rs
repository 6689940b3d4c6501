//! Unfinished files in `tmp/`.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use registry::Checksum;

use crate::Error;

/// `tmp/` is for the whole mirror; files that begin so are ours to sweep.
const PREFIX: &str = "fill-";
/// Larger pieces than this are written and compared in steps.
const STEP_BYTES: usize = 128 << 10;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A file that is removed when this is dropped, unless it was renamed. Open handles go on working.
#[derive(Debug)]
pub(crate) struct TempFile {
    pub path: PathBuf,
    pub file: Arc<File>,
    renamed: bool,
}

impl TempFile {
    pub(crate) fn create(directory: &Path, checksum: &Checksum) -> Result<Self, Error> {
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!("{PREFIX}{checksum}-{number}"));
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o640);
            match options.open(&path) {
                Ok(file) => {
                    return Ok(Self {
                        path,
                        file: Arc::new(file),
                        renamed: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::disk("create", &path, error)),
            }
        }
    }

    pub(crate) fn write_at(&self, bytes: &[u8], position: u64) -> Result<(), Error> {
        let written = self.file.write_all_at(bytes, position);
        written.map_err(|error| Error::disk("write", &self.path, error))
    }

    /// Whether the file has these bytes here.
    pub(crate) fn holds_at(&self, bytes: &[u8], position: u64) -> Result<bool, Error> {
        let mut held = vec![0; bytes.len().min(STEP_BYTES)];
        let mut position = position;
        for piece in bytes.chunks(STEP_BYTES) {
            let held = &mut held[..piece.len()];
            let read = self.file.read_exact_at(held, position);
            read.map_err(|error| Error::disk("read", &self.path, error))?;
            if held != piece {
                return Ok(false);
            }
            position += piece.len() as u64;
        }
        Ok(true)
    }

    /// Drops what is after these bytes: they are to be written again.
    pub(crate) fn cut_to(&self, size_bytes: u64) -> Result<(), Error> {
        let cut = self.file.set_len(size_bytes);
        cut.map_err(|error| Error::disk("shorten", &self.path, error))
    }

    /// Makes the bytes durable under their final name; the directory is the caller's to flush.
    pub(crate) fn rename(mut self, target: &Path) -> Result<(), Error> {
        let synced = self.file.sync_all();
        synced.map_err(|error| Error::disk("flush", &self.path, error))?;
        fs::rename(&self.path, target).map_err(|error| Error::disk("rename to", target, error))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("failed to remove {:?}, the next start will: {error}", self.path);
        }
    }
}

/// Removes what a crash left, and says how many files that were.
pub(crate) fn sweep(directory: &Path) -> Result<usize, Error> {
    let unreadable = |error| Error::disk("read", directory, error);
    let mut removed = 0;
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        fs::remove_file(&path).map_err(|error| Error::disk("remove", &path, error))?;
        removed += 1;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn unfinished_files_vanish_and_stay_readable() {
        let directory = tempfile::tempdir().unwrap();
        let temp = TempFile::create(directory.path(), &Checksum::of(b"x")).unwrap();
        let other = TempFile::create(directory.path(), &Checksum::of(b"x")).unwrap();
        assert_eq!(files(directory.path()), 2);
        let mode = temp.file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        temp.write_at(b"hello", 0).unwrap();
        assert!(temp.holds_at(b"ell", 1).unwrap());
        assert!(!temp.holds_at(b"elk", 1).unwrap());
        assert!(temp.holds_at(b"elloh", 1).is_err(), "there is no such byte");
        let handle = temp.file.clone();
        drop((temp, other));
        assert_eq!(files(directory.path()), 0);
        let mut bytes = [0; 5];
        handle.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    #[test]
    fn comparing_goes_over_steps() {
        let directory = tempfile::tempdir().unwrap();
        let temp = TempFile::create(directory.path(), &Checksum::of(b"x")).unwrap();
        let mut bytes: Vec<u8> = (0..3 * STEP_BYTES + 7).map(|i| (i % 251) as u8).collect();
        temp.write_at(&bytes, 0).unwrap();
        assert!(temp.holds_at(&bytes, 0).unwrap());
        *bytes.last_mut().unwrap() ^= 1;
        assert!(!temp.holds_at(&bytes, 0).unwrap());
    }

    #[test]
    fn sweeping_takes_only_fills() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("fill-ab-1"), "").unwrap();
        fs::write(directory.path().join("pack-1"), "").unwrap();
        assert_eq!(sweep(directory.path()).unwrap(), 1);
        assert!(directory.path().join("pack-1").exists());
    }
}
