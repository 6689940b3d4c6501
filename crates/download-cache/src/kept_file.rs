//! A crate file that is on disk for good, opened.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::Bytes;

/// A kept file. It can be read to its end even if it is evicted meanwhile.
#[derive(Debug)]
pub struct KeptFile {
    pub(crate) file: File,
    /// Its size when it was opened; such files never change.
    pub size_bytes: u64,
}

impl KeptFile {
    /// Up to `len` bytes from `position` on: fewer only at the file's end, none after it. Blocks for the disk: ask for pieces of 64 KiB or so.
    ///
    /// # Errors
    /// Those of the disk; `UnexpectedEof` if the file has become shorter.
    pub fn read_at(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let left = self.size_bytes.saturating_sub(position);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(len);
        read_exactly_at(&self.file, position, len)
    }
}

pub(crate) fn read_exactly_at(file: &File, position: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, position)?;
    Ok(bytes.into())
}
