//! `blobs/ab/<64 hex digits>`: which files are kept, by what their bytes are.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use registry::Checksum;
use rustix::fs::OFlags;

use crate::{Error, KeptFile, temp_file::TempFile};

/// Where files go that are not what their name says. Three letters: no checksum's folder.
const BAD: &str = "bad";

#[derive(Debug)]
pub(crate) struct Blobs {
    directory: PathBuf,
    /// Folders (by first byte) that are known to be there and flushed into `blobs/`.
    folders: Mutex<[bool; 256]>,
}

impl Blobs {
    pub(crate) fn open(directory: PathBuf) -> Result<Self, Error> {
        create_directory(&directory)?;
        Ok(Self {
            directory,
            folders: Mutex::new([false; 256]),
        })
    }

    fn folder(&self, checksum: &Checksum) -> PathBuf {
        self.directory.join(format!("{:02x}", checksum.as_bytes()[0]))
    }

    pub(crate) fn path(&self, checksum: &Checksum) -> PathBuf {
        self.folder(checksum).join(checksum.to_hex())
    }

    /// The kept file. What has the name but cannot be a crate file is moved out of the way.
    pub(crate) fn find(&self, checksum: &Checksum) -> Result<Option<KeptFile>, Error> {
        let path = self.path(checksum);
        let file = match open_itself(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // Links and sockets do not open at all; what they are is seen from outside.
            Err(error) => {
                return match self.look(checksum)? {
                    Some(_) => Err(Error::disk("open", &path, error)),
                    None => Ok(None),
                };
            }
        };
        let metadata = file.metadata().map_err(|error| Error::disk("look at", &path, error))?;
        let size_bytes = self.sound_size(checksum, &metadata);
        Ok(size_bytes.map(|size_bytes| KeptFile { file, size_bytes }))
    }

    /// The size of a kept file without opening it.
    fn look(&self, checksum: &Checksum) -> Result<Option<u64>, Error> {
        let path = self.path(checksum);
        let metadata = present(fs::symlink_metadata(&path), "look at", &path)?;
        Ok(metadata.and_then(|metadata| self.sound_size(checksum, &metadata)))
    }

    /// The size in bytes of what can be a crate file; anything else is moved out of the way.
    fn sound_size(&self, checksum: &Checksum, metadata: &Metadata) -> Option<u64> {
        match fault(metadata) {
            None => Some(metadata.len()),
            Some(fault) => {
                self.set_aside(checksum, fault);
                None
            }
        }
    }

    /// Moves a file to `blobs/bad/`. Failing to do so is logged: a fill replaces the file if it can.
    pub(crate) fn set_aside(&self, checksum: &Checksum, fault: &str) {
        let path = self.path(checksum);
        match self.move_to_bad(checksum, &path) {
            Ok(target) => log::error!("kept file {checksum} {fault}: moved to {target:?}"),
            Err(error) => log::error!("kept file {checksum} {fault}, and cannot be moved away: {error}"),
        }
    }

    fn move_to_bad(&self, checksum: &Checksum, path: &Path) -> io::Result<PathBuf> {
        let bad = self.directory.join(BAD);
        DirBuilder::new().recursive(true).mode(0o750).create(&bad)?;
        let target = bad.join(checksum.to_hex());
        if fs::rename(path, &target).is_ok() {
            return Ok(target);
        }
        // A folder does not replace a file, nor a file a folder.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let target = bad.join(format!("{checksum}.{}", since.as_nanos()));
        fs::rename(path, &target)?;
        Ok(target)
    }

    /// Takes a finished file in, so that it outlives a power cut. Blocks for the disk.
    pub(crate) fn keep(&self, temp: TempFile, checksum: &Checksum) -> Result<(), Error> {
        self.prepare_folder(checksum)?;
        let target = self.path(checksum);
        temp.rename(&target)?;
        flush_directory(&self.folder(checksum)).inspect_err(|_| {
            // It is not recorded as kept, so it should not look so; if this fails, a later start adopts it.
            let _ = fs::remove_file(&target);
        })
    }

    fn prepare_folder(&self, checksum: &Checksum) -> Result<(), Error> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = &mut folders[usize::from(checksum.as_bytes()[0])];
        if *ready {
            return Ok(());
        }
        let folder = self.folder(checksum);
        match DirBuilder::new().mode(0o750).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::disk("create", &folder, error));
            }
            _ => {}
        }
        flush_directory(&self.directory)?;
        *ready = true;
        Ok(())
    }

    /// Forgets a file and says how large it was. Those who read it go on.
    pub(crate) fn evict(&self, checksum: &Checksum) -> Result<Option<u64>, Error> {
        let Some(size_bytes) = self.look(checksum)? else {
            return Ok(None);
        };
        let path = self.path(checksum);
        Ok(present(fs::remove_file(&path), "remove", &path)?.map(|()| size_bytes))
    }

    /// Calls back for each kept file, in no order. What is no crate file is passed over.
    pub(crate) fn for_each(&self, mut each: impl FnMut(Checksum, u64)) -> Result<(), Error> {
        for_each_entry(&self.directory, |folder| {
            let name = folder.file_name();
            let name = name.to_string_lossy();
            if name.len() != 2 || !folder.file_type().is_ok_and(|kind| kind.is_dir()) {
                return Ok(());
            }
            for_each_entry(&folder.path(), |entry| {
                let Some(checksum) = named_checksum(entry, &name) else {
                    return Ok(());
                };
                // A file that is gone by now was evicted.
                if let Ok(metadata) = entry.metadata()
                    && fault(&metadata).is_none()
                {
                    each(checksum, metadata.len());
                }
                Ok(())
            })
        })
    }
}

/// Opens what is here and nothing that it points to; a pipe without waiting for its other end.
fn open_itself(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.cast_signed());
    options.open(path)
}

/// Why this cannot be a kept file, if it cannot.
fn fault(metadata: &Metadata) -> Option<&'static str> {
    if !metadata.is_file() {
        Some("is not a regular file")
    } else if metadata.len() == 0 {
        Some("is empty")
    } else {
        None
    }
}

fn named_checksum(entry: &fs::DirEntry, folder: &str) -> Option<Checksum> {
    let name = entry.file_name();
    let name = name.to_str()?;
    let checksum = name.parse().ok()?;
    name.starts_with(folder).then_some(checksum)
}

fn present<T>(found: io::Result<T>, doing: &'static str, path: &Path) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::disk(doing, path, error)),
    }
}

fn for_each_entry(directory: &Path, mut each: impl FnMut(&fs::DirEntry) -> Result<(), Error>) -> Result<(), Error> {
    let unreadable = |error| Error::disk("read", directory, error);
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        each(&entry.map_err(unreadable)?)?;
    }
    Ok(())
}

pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    let created = DirBuilder::new().recursive(true).mode(0o750).create(path);
    created.map_err(|error| Error::disk("create", path, error))
}

pub(crate) fn flush_directory(path: &Path) -> Result<(), Error> {
    let flushed = File::open(path).and_then(|directory| directory.sync_all());
    flushed.map_err(|error| Error::disk("flush", path, error))
}

#[cfg(test)]
mod tests;
