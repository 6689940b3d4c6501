//! Whether a kept file still is what its name says.

use std::io;

use registry::Checksum;
use sha2::{Digest, Sha256};

use crate::blobs::Blob;

const PIECE_BYTES: usize = 256 << 10;

/// What a kept file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its bytes are right.
    Good,
    /// They are not; it has been moved to `blobs/bad/`.
    Bad {
        /// What they hash to.
        actual: Checksum,
    },
    /// There is no such file (or it was none, and has been moved).
    Absent,
}

/// Hashes a file as it is on disk.
pub(crate) fn hash(blob: &Blob) -> io::Result<Checksum> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut position = 0;
    while position < blob.identity.size_bytes {
        let left = usize::try_from(blob.identity.size_bytes - position).unwrap_or(PIECE_BYTES);
        let piece = &mut piece[..left.min(PIECE_BYTES)];
        blob.file.read_into(position, piece)?;
        hash.update(&*piece);
        position += piece.len() as u64;
    }
    Ok(Checksum::from_bytes(hash.finalize().into()))
}
