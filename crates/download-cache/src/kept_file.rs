//! A crate file that is kept, opened.

use std::io;

use bytes::Bytes;

use crate::{disk::DiskFile, known::Reading};

/// A kept file. It can be read to its end even if it is evicted meanwhile.
#[derive(Debug)]
pub struct KeptFile {
    source: Source,
    /// Its size when it was opened; such files never change.
    pub size_bytes: u64,
}

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    Disk(DiskFile, #[expect(dead_code, reason = "it is held, not read")] Reading),
}

impl KeptFile {
    pub(crate) fn in_memory(bytes: Bytes) -> Self {
        Self {
            size_bytes: bytes.len() as u64,
            source: Source::Memory(bytes),
        }
    }

    pub(crate) fn on_disk(file: DiskFile, size_bytes: u64, reading: Reading) -> Self {
        Self {
            source: Source::Disk(file, reading),
            size_bytes,
        }
    }

    /// All of a small file, which is in memory and checked; no copy is made.
    pub fn whole(&self) -> Option<Bytes> {
        match &self.source {
            Source::Memory(bytes) => Some(bytes.clone()),
            Source::Disk(..) => None,
        }
    }

    /// Up to `len` bytes from `position` on without waiting for the disk: fewer if no more of them are in memory or the file
    /// ends. `None` if none are, or if that cannot be told: [`read_at`](Self::read_at) is to be asked, where it may block.
    ///
    /// # Errors
    /// Those of the disk; `UnexpectedEof` if the file has become shorter.
    pub fn read_now(&self, position: u64, len: usize) -> io::Result<Option<Bytes>> {
        let len = self.within(position, len);
        match &self.source {
            Source::Memory(bytes) => Ok(Some(part(bytes, position, len))),
            Source::Disk(..) if len == 0 => Ok(Some(Bytes::new())),
            Source::Disk(file, _) => file.read_now(position, len),
        }
    }

    /// Up to `len` bytes from `position` on: fewer only at the file's end, none after it. Blocks for the disk: ask for pieces of 64 KiB or so.
    ///
    /// # Errors
    /// Those of the disk; `UnexpectedEof` if the file has become shorter.
    pub fn read_at(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let len = self.within(position, len);
        match &self.source {
            Source::Memory(bytes) => Ok(part(bytes, position, len)),
            Source::Disk(file, _) => file.read_at(position, len),
        }
    }

    fn within(&self, position: u64, len: usize) -> usize {
        let left = self.size_bytes.saturating_sub(position);
        usize::try_from(left).unwrap_or(usize::MAX).min(len)
    }
}

fn part(bytes: &Bytes, position: u64, len: usize) -> Bytes {
    let first = usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(first..first + len)
}
