//! All that this crate asks of the file system, in one place, so that a test can make any call fail.

use std::{
    fmt,
    fs::{self, DirBuilder, DirEntry, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use rustix::fs::OFlags;
use tokio::sync::OwnedSemaphorePermit;

/// Called before each operation on a file or directory, with its name; an error takes the operation's place.
pub type FaultHook = Arc<dyn Fn(&'static str) -> io::Result<()> + Send + Sync>;

/// The file system, as this crate uses it. Everything blocks.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    hook: Option<FaultHook>,
}

impl Disk {
    pub(crate) fn new(hook: Option<FaultHook>) -> Self {
        Self { hook }
    }

    fn before(&self, operation: &'static str) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(operation))
    }

    /// With everything above it.
    pub(crate) fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.before("create a directory")?;
        DirBuilder::new().recursive(true).mode(0o750).create(path)
    }

    /// This one alone; one that is there will do.
    pub(crate) fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.before("create a folder")?;
        match DirBuilder::new().mode(0o750).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            created => created,
        }
    }

    pub(crate) fn flush_directory(&self, path: &Path) -> io::Result<()> {
        self.before("flush a directory")?;
        File::open(path)?.sync_all()
    }

    /// In no order.
    pub(crate) fn entries(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        self.before("read a directory")?;
        fs::read_dir(directory)?.collect()
    }

    /// What is here, and not what it points to.
    pub(crate) fn look(&self, path: &Path) -> io::Result<Metadata> {
        self.before("look at")?;
        fs::symlink_metadata(path)
    }

    /// Opens what is here and nothing that it points to; a pipe without waiting for its other end.
    pub(crate) fn open(&self, path: &Path) -> io::Result<DiskFile> {
        self.before("open")?;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags.cast_signed());
        Ok(self.file(options.open(path)?))
    }

    pub(crate) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        self.before("create")?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o640);
        Ok(self.file(options.open(path)?))
    }

    /// A file without a name, in memory, which holds its share of that until nobody reads it any more.
    #[cfg(target_os = "linux")]
    pub(crate) fn create_in_memory(&self, share: OwnedSemaphorePermit) -> io::Result<DiskFile> {
        use rustix::fs::{MemfdFlags, memfd_create};

        self.before("create in memory")?;
        let file = memfd_create("fill", MemfdFlags::CLOEXEC)?;
        Ok(DiskFile {
            share: Some(share),
            ..self.file(file.into())
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn create_in_memory(&self, _: OwnedSemaphorePermit) -> io::Result<DiskFile> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before("rename")?;
        fs::rename(from, to)
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.before("remove")?;
        fs::remove_file(path)
    }

    fn file(&self, file: File) -> DiskFile {
        DiskFile {
            file,
            disk: self.clone(),
            share: None,
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

/// An opened file.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    disk: Disk,
    /// Of the memory for such files, if it is there and not on a disk.
    share: Option<OwnedSemaphorePermit>,
}

impl DiskFile {
    /// Whether it is on no disk and so cannot be given a name.
    pub(crate) fn is_nameless(&self) -> bool {
        self.share.is_some()
    }

    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.disk.before("look at a file")?;
        self.file.metadata()
    }

    /// All of these bytes, or an error.
    pub(crate) fn read_into(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.before("read")?;
        self.file.read_exact_at(bytes, position)
    }

    pub(crate) fn read_at(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        self.read_into(position, &mut bytes)?;
        Ok(bytes.into())
    }

    /// What memory has of these bytes, from the first one on; `None` if that is nothing or the file system cannot tell.
    #[cfg(target_os = "linux")]
    pub(crate) fn read_now(&self, position: u64, len: usize) -> io::Result<Option<Bytes>> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};

        self.disk.before("read now")?;
        let mut bytes = vec![0; len];
        let mut pieces = [io::IoSliceMut::new(&mut bytes)];
        match preadv2(&self.file, &mut pieces, position, ReadWriteFlags::NOWAIT) {
            Ok(0) if len > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                bytes.truncate(read);
                Ok(Some(bytes.into()))
            }
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What memory has cannot be told here.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn read_now(&self, _: u64, _: usize) -> io::Result<Option<Bytes>> {
        Ok(None)
    }

    /// Whether the page cache has its beginning, as far as that can be told.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.read_now(0, 1), Ok(Some(_)))
    }

    /// Takes the file out of the page cache; nothing depends on whether that works.
    pub(crate) fn leave_memory(&self) {
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    pub(crate) fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.disk.before("write")?;
        self.file.write_all_at(bytes, position)
    }

    pub(crate) fn cut_to(&self, size_bytes: u64) -> io::Result<()> {
        self.disk.before("shorten")?;
        self.file.set_len(size_bytes)
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.disk.before("flush")?;
        self.file.sync_all()
    }
}

/// What changes when somebody writes to a file or puts another one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub size_bytes: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            size_bytes: metadata.len(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
