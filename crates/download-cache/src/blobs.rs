//! `blobs/ab/<64 hex digits>`: which files are kept, by what their bytes are.

use std::{
    fs::{DirEntry, Metadata},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use registry::Checksum;

use crate::{
    Error,
    disk::{Disk, DiskFile, Identity},
    temp_file::TempFile,
};

/// Where files go that are not what their name says. Three letters: no checksum's folder.
const BAD: &str = "bad";

#[derive(Debug)]
pub(crate) struct Blobs {
    directory: PathBuf,
    disk: Disk,
    /// Folders (by first byte) that are known to be there and flushed into `blobs/`.
    folders: Mutex<[bool; 256]>,
}

impl Blobs {
    pub(crate) fn open(directory: PathBuf, disk: Disk) -> Result<Self, Error> {
        let created = disk.create_directory(&directory);
        created.map_err(|error| Error::disk("create", &directory, error))?;
        Ok(Self {
            directory,
            disk,
            folders: Mutex::new([false; 256]),
        })
    }

    fn folder(&self, checksum: &Checksum) -> PathBuf {
        self.directory.join(format!("{:02x}", checksum.as_bytes()[0]))
    }

    pub(crate) fn path(&self, checksum: &Checksum) -> PathBuf {
        self.folder(checksum).join(checksum.to_hex())
    }

    /// The kept file, opened and not read. What has the name but cannot be a crate file is moved out of the way.
    pub(crate) fn find(&self, checksum: &Checksum) -> Result<Option<Blob>, Error> {
        let path = self.path(checksum);
        let file = match self.disk.open(&path) {
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
        let identity = Identity::of(&metadata);
        let sound = self.sound_size(checksum, &metadata).is_some();
        Ok(sound.then_some(Blob { file, identity }))
    }

    /// The size of a kept file without opening it.
    pub(crate) fn look(&self, checksum: &Checksum) -> Result<Option<u64>, Error> {
        let path = self.path(checksum);
        let metadata = present(self.disk.look(&path), "look at", &path)?;
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

    /// Moves the file that was read to `blobs/bad/`, unless another one is in its place by now.
    pub(crate) fn set_aside_read(&self, checksum: &Checksum, read: Identity, fault: &str) {
        let now = self.disk.look(&self.path(checksum));
        match now {
            Ok(metadata) if Identity::of(&metadata) != read => {}
            _ => self.set_aside(checksum, fault),
        }
    }

    /// Moves a file to `blobs/bad/`. Failing to do so is logged: a fill replaces the file if it can.
    fn set_aside(&self, checksum: &Checksum, fault: &str) {
        let path = self.path(checksum);
        match self.move_to_bad(checksum, &path) {
            Ok(target) => log::error!("kept file {checksum} {fault}: moved to {target:?}"),
            Err(error) => log::error!("kept file {checksum} {fault}, and cannot be moved away: {error}"),
        }
    }

    fn move_to_bad(&self, checksum: &Checksum, path: &Path) -> io::Result<PathBuf> {
        let bad = self.directory.join(BAD);
        self.disk.create_folder(&bad)?;
        let target = bad.join(checksum.to_hex());
        if self.disk.rename(path, &target).is_ok() {
            return Ok(target);
        }
        // A folder does not replace a file, nor a file a folder.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let target = bad.join(format!("{checksum}.{}", since.as_nanos()));
        self.disk.rename(path, &target)?;
        Ok(target)
    }

    pub(crate) fn is_set_aside(&self, checksum: &Checksum) -> bool {
        let bad = self.directory.join(BAD).join(checksum.to_hex());
        self.disk.look(&bad).is_ok()
    }

    /// Takes a finished file in, so that it outlives a power cut. Blocks for the disk.
    pub(crate) fn keep(&self, temp: TempFile, checksum: &Checksum) -> Result<(), Error> {
        self.prepare_folder(checksum)?;
        let target = self.path(checksum);
        temp.rename(&target)?;
        self.flush_directory(&self.folder(checksum)).inspect_err(|_| {
            // It is not recorded as kept, so it should not look so; if this fails, a later start adopts it.
            let _ = self.disk.remove(&target);
        })
    }

    pub(crate) fn prepare_folder(&self, checksum: &Checksum) -> Result<(), Error> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = &mut folders[usize::from(checksum.as_bytes()[0])];
        if *ready {
            return Ok(());
        }
        let folder = self.folder(checksum);
        let created = self.disk.create_folder(&folder);
        created.map_err(|error| Error::disk("create", &folder, error))?;
        self.flush_directory(&self.directory)?;
        *ready = true;
        Ok(())
    }

    /// Makes the names in a checksum's folder durable.
    pub(crate) fn flush_folder(&self, first_byte: u8) -> Result<(), Error> {
        self.flush_directory(&self.directory.join(format!("{first_byte:02x}")))
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    fn flush_directory(&self, path: &Path) -> Result<(), Error> {
        let flushed = self.disk.flush_directory(path);
        flushed.map_err(|error| Error::disk("flush", path, error))
    }

    /// Forgets a file and says how large it was. Those who read it go on.
    pub(crate) fn evict(&self, checksum: &Checksum) -> Result<Option<u64>, Error> {
        let Some(size_bytes) = self.look(checksum)? else {
            return Ok(None);
        };
        let path = self.path(checksum);
        Ok(present(self.disk.remove(&path), "remove", &path)?.map(|()| size_bytes))
    }

    /// The kept files whose checksums begin with this byte, with their sizes in bytes, in no order. What is no crate file is passed over.
    pub(crate) fn in_folder(&self, first_byte: u8) -> Result<Vec<(Checksum, u64)>, Error> {
        let name = format!("{first_byte:02x}");
        let folder = self.directory.join(&name);
        let Some(entries) = present(self.disk.entries(&folder), "read", &folder)? else {
            return Ok(Vec::new());
        };
        let kept = |entry: &DirEntry| {
            let checksum = named_checksum(entry, &name)?;
            // A file that is gone by now was evicted.
            let metadata = entry.metadata().ok()?;
            fault(&metadata).is_none().then_some((checksum, metadata.len()))
        };
        Ok(entries.iter().filter_map(kept).collect())
    }

    /// Calls back for each kept file, in no order.
    pub(crate) fn for_each(&self, mut each: impl FnMut(Checksum, u64)) -> Result<(), Error> {
        for first_byte in 0..=u8::MAX {
            for (checksum, size_bytes) in self.in_folder(first_byte)? {
                each(checksum, size_bytes);
            }
        }
        Ok(())
    }
}

/// A kept file, opened.
#[derive(Debug)]
pub(crate) struct Blob {
    pub file: DiskFile,
    pub identity: Identity,
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

fn named_checksum(entry: &DirEntry, folder: &str) -> Option<Checksum> {
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

#[cfg(test)]
mod tests;
