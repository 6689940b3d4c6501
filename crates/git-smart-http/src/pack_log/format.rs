//! The records of the three files. All numbers are little-endian.

use std::path::Path;

use super::{Commit, Segment};
use crate::{Error, Kind, ObjectId};

/// The version of all three files.
pub(crate) const VERSION: u32 = 1;
/// Magic, version and generation stand in front of each file.
pub(crate) const HEADER_BYTES: u64 = 16;
/// One record of `index`.
pub(crate) const RECORD_BYTES: u64 = 48;
/// One record of `commits`.
pub(crate) const COMMIT_BYTES: u64 = 128;

const MAGIC: &[u8; 8] = b"packlog\n";

/// The first bytes of each file.
pub(crate) fn header(generation: u32) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..].copy_from_slice(&generation.to_le_bytes());
    bytes
}

/// The generation that a header names.
pub(crate) fn generation(header: &[u8; HEADER_BYTES as usize], path: &Path) -> Result<u32, Error> {
    let version = u32_at(header, 8);
    let other = |found| Error::OtherVersion {
        path: path.to_owned(),
        expected: VERSION,
        found,
    };
    if header[..8] != MAGIC[..] {
        return Err(other("something else".to_owned()));
    }
    if version != VERSION {
        return Err(other(format!("version {version}")));
    }
    Ok(u32_at(header, 12))
}

/// One object of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRecord {
    pub id: ObjectId,
    pub kind: Kind,
    /// An earlier range of the log has a copy.
    pub repeats: bool,
    pub inflated: u64,
    /// Where in `entries` the deflated bytes are, counted from behind the header.
    pub offset: u64,
    pub deflated: u32,
}

impl EntryRecord {
    pub(crate) fn encode(&self) -> [u8; RECORD_BYTES as usize] {
        let mut bytes = [0; RECORD_BYTES as usize];
        bytes[..20].copy_from_slice(&self.id.0);
        bytes[20] = self.kind.number();
        bytes[21] = u8::from(self.repeats);
        bytes[24..32].copy_from_slice(&self.inflated.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.deflated.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; RECORD_BYTES as usize]) -> Option<EntryRecord> {
        Some(EntryRecord {
            id: id_at(bytes, 0),
            kind: Kind::from_number(bytes[20])?,
            repeats: bytes[21] == 1,
            inflated: u64_at(bytes, 24),
            offset: u64_at(bytes, 32),
            deflated: u32_at(bytes, 40),
        })
    }
}

/// What a range of the log is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What a commit added to the one before it.
    Ordinary {
        /// Nothing was before it: all of its objects are here.
        whole: bool,
    },
    /// All objects of a commit that has an ordinary range too.
    Snapshot,
}

/// One record of `commits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    pub commit: Commit,
    pub purpose: Purpose,
    pub segment: Segment,
}

impl CommitRecord {
    pub(crate) fn encode(&self) -> [u8; COMMIT_BYTES as usize] {
        let mut bytes = [0; COMMIT_BYTES as usize];
        bytes[..20].copy_from_slice(&self.commit.id.0);
        bytes[20..40].copy_from_slice(&self.commit.tree.0);
        bytes[40..60].copy_from_slice(&self.commit.parent.unwrap_or(ObjectId::NULL).0);
        bytes[60] = match self.purpose {
            Purpose::Ordinary { whole: false } => 1,
            Purpose::Ordinary { whole: true } => 2,
            Purpose::Snapshot => 3,
        };
        bytes[61] = u8::from(self.commit.parent.is_some());
        bytes[64..72].copy_from_slice(&self.commit.time.to_le_bytes());
        let segment = &self.segment;
        let numbers = [segment.start, segment.end, segment.payload_start, segment.payload_end];
        for (place, number) in bytes[72..104].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[104..108].copy_from_slice(&segment.payload_crc.to_le_bytes());
        bytes[108..112].copy_from_slice(&segment.index_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..124]);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None when the record is not what was written.
    pub(crate) fn decode(bytes: &[u8; COMMIT_BYTES as usize]) -> Option<CommitRecord> {
        if crc32fast::hash(&bytes[..124]) != u32_at(bytes, 124) {
            return None;
        }
        let purpose = match bytes[60] {
            1 => Purpose::Ordinary { whole: false },
            2 => Purpose::Ordinary { whole: true },
            3 => Purpose::Snapshot,
            _ => return None,
        };
        Some(CommitRecord {
            commit: Commit {
                id: id_at(bytes, 0),
                tree: id_at(bytes, 20),
                parent: (bytes[61] == 1).then(|| id_at(bytes, 40)),
                time: u64_at(bytes, 64).cast_signed(),
            },
            purpose,
            segment: Segment {
                start: u64_at(bytes, 72),
                end: u64_at(bytes, 80),
                payload_start: u64_at(bytes, 88),
                payload_end: u64_at(bytes, 96),
                payload_crc: u32_at(bytes, 104),
                index_crc: u32_at(bytes, 108),
            },
        })
    }
}

fn id_at(bytes: &[u8], at: usize) -> ObjectId {
    ObjectId(bytes[at..at + 20].try_into().expect("twenty bytes were cut out"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were cut out"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut out"))
}
