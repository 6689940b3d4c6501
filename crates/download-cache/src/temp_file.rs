//! Unfinished files in `tmp/`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use registry::Checksum;
use tokio::sync::Semaphore;

use crate::{
    Error,
    disk::{Disk, DiskFile},
};

/// `tmp/` is for the whole mirror; files that begin so are ours to sweep.
const PREFIX: &str = "fill-";
/// Larger pieces than this are written and compared in steps.
const STEP_BYTES: usize = 128 << 10;

/// With a full disk, files up to this size are passed on through memory,
const LARGEST_IN_MEMORY_KIB: u32 = 8 << 10;
/// as long as all of them together take no more than this.
const ALL_IN_MEMORY_KIB: usize = 32 << 10;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Where unfinished files are.
#[derive(Debug)]
pub(crate) struct TempDirectory {
    path: PathBuf,
    disk: Disk,
    /// Files that could not be removed: they are tried again when the next one is made.
    leftovers: Mutex<Vec<PathBuf>>,
    /// Memory for files that a full disk has no place for.
    memory_kib: Arc<Semaphore>,
}

impl TempDirectory {
    pub(crate) fn open(path: PathBuf, disk: Disk) -> Result<Self, Error> {
        let created = disk.create_directory(&path);
        created.map_err(|error| Error::disk("create", &path, error))?;
        Ok(Self {
            path,
            disk,
            leftovers: Mutex::default(),
            memory_kib: Arc::new(Semaphore::new(ALL_IN_MEMORY_KIB)),
        })
    }

    /// Removes what a crash left, and says how many files that were.
    pub(crate) fn sweep(&self) -> Result<usize, Error> {
        let entries = self.disk.entries(&self.path);
        let mut removed = 0;
        for entry in entries.map_err(|error| Error::disk("read", &self.path, error))? {
            if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
                continue;
            }
            let path = entry.path();
            let gone = self.disk.remove(&path);
            gone.map_err(|error| Error::disk("remove", &path, error))?;
            removed += 1;
        }
        Ok(removed)
    }

    fn remove(&self, path: &Path) {
        match self.disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("failed to remove {path:?}, it is tried again with the next file: {error}");
                self.leftovers().push(path.to_owned());
            }
            _ => {}
        }
    }

    fn remove_leftovers(&self) {
        let leftovers = std::mem::take(&mut *self.leftovers());
        for path in &leftovers {
            self.remove(path);
        }
    }

    fn leftovers(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is removed when this is dropped, unless it was renamed. Open handles go on working.
#[derive(Debug)]
pub(crate) struct TempFile {
    pub path: PathBuf,
    pub file: Arc<DiskFile>,
    directory: Arc<TempDirectory>,
    /// It may have no more bytes than these.
    limit_bytes: u64,
    /// Whether the name in `tmp/` is ours to remove.
    is_named: bool,
}

impl TempFile {
    pub(crate) fn create(directory: &Arc<TempDirectory>, checksum: &Checksum) -> Result<Self, Error> {
        directory.remove_leftovers();
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = directory.path.join(format!("{PREFIX}{checksum}-{number}"));
            match directory.disk.create(&path) {
                Ok(file) => {
                    return Ok(Self {
                        path,
                        file: Arc::new(file),
                        directory: directory.clone(),
                        limit_bytes: u64::MAX,
                        is_named: true,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::disk("create", &path, error)),
            }
        }
    }

    /// A file of at most this size that is passed on and cannot be kept, for a disk that has no place for it; `None` if it is too
    /// large for that, or too many others are under way. One of unknown size may become as large as any in memory.
    pub(crate) fn in_memory(directory: &Arc<TempDirectory>, size_bytes: Option<u64>) -> Option<Self> {
        let size_bytes = size_bytes.unwrap_or(u64::from(LARGEST_IN_MEMORY_KIB) << 10);
        let kib = u32::try_from(size_bytes.div_ceil(1024)).ok()?;
        if kib > LARGEST_IN_MEMORY_KIB {
            return None;
        }
        let share = directory.memory_kib.clone().try_acquire_many_owned(kib).ok()?;
        let file = directory.disk.create_in_memory(share).ok()?;
        Some(Self {
            path: PathBuf::from("memory"),
            file: Arc::new(file),
            directory: directory.clone(),
            limit_bytes: size_bytes,
            is_named: false,
        })
    }

    /// A copy of the first bytes, in memory, for the rest to follow: for a disk that filled up meanwhile. `None` as for
    /// [`TempFile::in_memory`], or if they cannot be read.
    pub(crate) fn moved_to_memory(&self, held_bytes: u64, size_bytes: Option<u64>) -> Option<Self> {
        if self.file.is_nameless() {
            return None;
        }
        let moved = Self::in_memory(&self.directory, size_bytes)?;
        let mut position = 0;
        while position < held_bytes {
            let len = (held_bytes - position).min(STEP_BYTES as u64);
            let piece = self.file.read_at(position, len as usize).ok()?;
            moved.write_at(&piece, position).ok()?;
            position += len;
        }
        Some(moved)
    }

    pub(crate) fn write_at(&self, bytes: &[u8], position: u64) -> Result<(), Error> {
        if position + bytes.len() as u64 > self.limit_bytes {
            return Err(Error::NoSpace { needed_bytes: None });
        }
        let written = self.file.write_at(bytes, position);
        written.map_err(|error| Error::disk("write", &self.path, error))
    }

    /// Whether the file has these bytes here.
    pub(crate) fn holds_at(&self, bytes: &[u8], position: u64) -> Result<bool, Error> {
        let mut held = vec![0; bytes.len().min(STEP_BYTES)];
        let mut position = position;
        for piece in bytes.chunks(STEP_BYTES) {
            let held = &mut held[..piece.len()];
            let read = self.file.read_into(position, held);
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
        let cut = self.file.cut_to(size_bytes);
        cut.map_err(|error| Error::disk("shorten", &self.path, error))
    }

    /// Makes the bytes durable under their final name; the directory is the caller's to flush.
    pub(crate) fn rename(mut self, target: &Path) -> Result<(), Error> {
        if self.file.is_nameless() {
            return Err(Error::NoSpace { needed_bytes: None });
        }
        let flushed = self.file.flush();
        flushed.map_err(|error| Error::disk("flush", &self.path, error))?;
        let renamed = self.directory.disk.rename(&self.path, target);
        renamed.map_err(|error| Error::disk("rename to", target, error))?;
        self.is_named = false;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if self.is_named {
            self.directory.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    fn opened(path: &Path) -> Arc<TempDirectory> {
        Arc::new(TempDirectory::open(path.to_owned(), Disk::default()).unwrap())
    }

    #[test]
    fn unfinished_files_vanish_and_stay_readable() {
        let directory = tempfile::tempdir().unwrap();
        let temp_directory = opened(directory.path());
        let temp = TempFile::create(&temp_directory, &Checksum::of(b"x")).unwrap();
        let other = TempFile::create(&temp_directory, &Checksum::of(b"x")).unwrap();
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
        assert_eq!(handle.read_at(0, 5).unwrap(), "hello");
    }

    #[test]
    fn comparing_goes_over_steps() {
        let directory = tempfile::tempdir().unwrap();
        let temp = TempFile::create(&opened(directory.path()), &Checksum::of(b"x")).unwrap();
        let mut bytes: Vec<u8> = (0..3 * STEP_BYTES + 7).map(|i| (i % 251) as u8).collect();
        temp.write_at(&bytes, 0).unwrap();
        assert!(temp.holds_at(&bytes, 0).unwrap());
        *bytes.last_mut().unwrap() ^= 1;
        assert!(!temp.holds_at(&bytes, 0).unwrap());
    }

    #[test]
    fn files_in_memory_are_bounded_as_long_as_anybody_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let temp_directory = opened(directory.path());
        let in_memory = |kib: u64| TempFile::in_memory(&temp_directory, Some(kib << 10));
        assert!(in_memory(u64::from(LARGEST_IN_MEMORY_KIB) + 1).is_none());
        let all: Vec<_> = (0..4).map(|_| in_memory(8 << 10).unwrap()).collect();
        assert!(in_memory(1).is_none(), "they take all there is");
        all[0].write_at(b"hello", 0).unwrap();
        assert!(all[0].holds_at(b"ell", 1).unwrap());
        let reader = all[0].file.clone();
        drop(all);
        assert_eq!(files(directory.path()), 0);
        assert_eq!(reader.read_at(0, 5).unwrap(), "hello");
        let again: Vec<_> = (0..3).map(|_| in_memory(8 << 10).unwrap()).collect();
        assert!(in_memory(1).is_none(), "one of them is being read");
        drop((reader, again));
        let nameless = in_memory(8 << 10).unwrap();
        let refused = nameless.rename(&directory.path().join("x"));
        assert!(matches!(refused, Err(Error::NoSpace { .. })));
        assert_eq!(files(directory.path()), 0);
    }

    #[test]
    fn what_was_written_moves_to_memory_and_the_rest_stays_within_its_share() {
        let directory = tempfile::tempdir().unwrap();
        let temp = TempFile::create(&opened(directory.path()), &Checksum::of(b"x")).unwrap();
        let bytes: Vec<u8> = (0..2 * STEP_BYTES + 7).map(|i| (i % 251) as u8).collect();
        temp.write_at(&bytes, 0).unwrap();
        let (held, size) = (bytes.len() as u64 - 3, bytes.len() as u64 + 5);
        let moved = temp.moved_to_memory(held, Some(size)).unwrap();
        assert!(moved.holds_at(&bytes[..held as usize], 0).unwrap());
        assert!(moved.holds_at(&bytes, 0).is_err(), "more than was asked for");
        moved.write_at(b"12345678", held).unwrap();
        assert!(moved.write_at(b"9", size).is_err(), "more than its share");
        assert!(moved.moved_to_memory(held, Some(size)).is_none(), "it is there");
        assert!(temp.moved_to_memory(held, Some((8 << 20) + 1)).is_none(), "too large");
        let unknown = temp.moved_to_memory(held, None).unwrap();
        unknown.write_at(b"1", (8 << 20) - 1).unwrap();
        assert!(unknown.write_at(b"1", 8 << 20).is_err());
        drop(temp);
        assert_eq!(files(directory.path()), 0);
    }

    #[test]
    fn sweeping_takes_only_fills() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("fill-ab-1"), "").unwrap();
        fs::write(directory.path().join("pack-1"), "").unwrap();
        assert_eq!(opened(directory.path()).sweep().unwrap(), 1);
        assert!(directory.path().join("pack-1").exists());
    }
}
