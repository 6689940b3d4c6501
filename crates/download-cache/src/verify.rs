//! Whether a kept file still is what its name says.

use registry::Checksum;
use sha2::{Digest, Sha256};

use crate::{Error, KeptFile, blobs::Blobs};

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

pub(crate) fn verify(blobs: &Blobs, checksum: &Checksum) -> Result<Verdict, Error> {
    let Some(kept) = blobs.find(checksum)? else {
        return Ok(Verdict::Absent);
    };
    let actual = hash(&kept).map_err(|error| Error::disk("read", &blobs.path(checksum), error))?;
    if actual == *checksum {
        return Ok(Verdict::Good);
    }
    blobs.set_aside(checksum, &format!("has checksum {actual}"));
    Ok(Verdict::Bad { actual })
}

fn hash(kept: &KeptFile) -> std::io::Result<Checksum> {
    let mut hash = Sha256::new();
    let mut position = 0;
    while position < kept.size_bytes {
        let bytes = kept.read_at(position, PIECE_BYTES)?;
        hash.update(&bytes);
        position += bytes.len() as u64;
    }
    Ok(Checksum::from_bytes(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tells_good_from_bad_and_moves_the_bad_away() {
        let root = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(root.path().join("blobs")).unwrap();
        let bytes = vec![7; PIECE_BYTES + 1];
        let checksum = Checksum::of(&bytes);
        assert_eq!(verify(&blobs, &checksum).unwrap(), Verdict::Absent);

        let path = blobs.path(&checksum);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(verify(&blobs, &checksum).unwrap(), Verdict::Good);

        fs::write(&path, "rot").unwrap();
        let actual = Checksum::of(b"rot");
        assert_eq!(verify(&blobs, &checksum).unwrap(), Verdict::Bad { actual });
        assert!(blobs.find(&checksum).unwrap().is_none());
        assert_eq!(
            fs::read(root.path().join("blobs/bad").join(checksum.to_hex())).unwrap(),
            b"rot"
        );
    }
}
