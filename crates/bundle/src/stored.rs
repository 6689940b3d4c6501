use std::io::{self, Write};

use registry::Checksum;
use sha2::{Digest, Sha256};

/// A file that lies ready to be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its SHA-256.
    pub checksum: Checksum,
    /// Its size.
    pub bytes: u64,
}

/// Writes through, and knows in the end what a [`Stored`] says.
pub(crate) struct HashingWriter<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            bytes: 0,
        }
    }

    pub(crate) fn finish(self) -> (W, Stored) {
        let checksum = Checksum::from_bytes(self.hasher.finalize().into());
        (
            self.inner,
            Stored {
                checksum,
                bytes: self.bytes,
            },
        )
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
