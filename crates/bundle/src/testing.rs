//! Bundles made to order, also such as no writer of ours would make.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use registry::{Checksum, IndexEdit, IndexPath, Piece};

use crate::tape::{BLOCK, RECORD_BYTES, padded};
use crate::{
    Contents, CrateFile, DecisionKind, Description, Error, Id, IndexSummary, Manifest, MemberName, OutsideDecision,
    Parent, PayloadWriter, Plan, Prehash, Scope, SecretKey, Stored, Time, Total, Trust, open, write_decisions,
};

/// What a bundle says of itself that says something of the index.
pub(crate) fn description(serial: u64) -> Description {
    Description {
        id: Id::from_bytes([7; 16]),
        site: Id::from_bytes([9; 16]),
        serial,
        parent: (serial > 1).then(|| Parent {
            id: Id::from_bytes([6; 16]),
            serial: serial - 1,
        }),
        created: Time::from_unix(1_795_176_000),
        creator: "mirror 0.1.0".to_owned(),
        key: None,
        index: Some(IndexSummary {
            scope: Scope::Full,
            tree: "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap(),
            files: 1,
            bytes: 50,
            upstream: None,
            whole: false,
        }),
        wanted_missing: 0,
    }
}

pub(crate) fn hashed(bytes: &[u8]) -> Prehash {
    let mut hashed = Prehash::default();
    hashed.write_all(bytes).unwrap();
    hashed
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub(crate) fn index_path(name: &str) -> IndexPath {
    IndexPath::of(&name.parse().unwrap())
}

/// Bytes that gzip cannot make smaller, always the same.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// A bundle with all that one can have.
pub(crate) struct Sample {
    pub plan: Plan,
    pub key: Option<SecretKey>,
    pub changes: Vec<u8>,
    pub decisions: Vec<u8>,
    pub files: Vec<Vec<u8>>,
}

pub(crate) fn edits() -> Vec<(IndexPath, IndexEdit)> {
    let pieces = vec![
        Piece::Copy { offset: 3, length: 20 },
        Piece::New { length: 4 },
        Piece::New { length: 3 },
    ];
    vec![
        (
            index_path("serde"),
            IndexEdit::Pieces {
                pieces,
                new: b"one\ntwo".to_vec(),
            },
        ),
        (index_path("tokio"), IndexEdit::Removed),
        (index_path("toml"), IndexEdit::whole(&noise(1, 3000))),
    ]
}

impl Sample {
    pub(crate) fn new(key: Option<SecretKey>, split: Option<u64>) -> Self {
        let files = [0, 1, 511, 512, 513, 700, 3000, 5000].iter().zip(1..);
        Self::with_files(key, split, files.map(|(length, seed)| noise(seed, *length)).collect())
    }

    pub(crate) fn with_files(key: Option<SecretKey>, split: Option<u64>, files: Vec<Vec<u8>>) -> Self {
        let mut payload = PayloadWriter::new(Vec::new());
        for (path, edit) in edits() {
            payload.push(&path, &edit).unwrap();
        }
        let (changes, stored_changes, total) = payload.finish().unwrap();
        let decision = OutsideDecision {
            path: index_path("tokio"),
            version: "1.0.0".parse().unwrap(),
            kind: DecisionKind::Removed,
            whole_crate: true,
            decided_at: Time::from_unix(1_795_000_000),
            checksum: Checksum::of(b"tokio"),
            new_checksum: None,
        };
        let (decisions, stored_decisions) = write_decisions(Vec::new(), [decision]).unwrap();
        let mut bundle = description(2);
        bundle.key = key.as_ref().map(SecretKey::public_key);
        let index = bundle.index.as_mut().unwrap();
        (index.files, index.bytes) = (total.files, total.bytes);
        let contents = Contents {
            bundle,
            changes: Some(stored_changes),
            decisions: Some(stored_decisions),
            crates: files.iter().map(|file| crate_file(file)).collect(),
        };
        let plan = Plan::new(contents, split).unwrap();
        Self {
            plan,
            key,
            changes,
            decisions,
            files,
        }
    }

    /// The bytes that a member is to have.
    pub(crate) fn source(&self, member: MemberName) -> &[u8] {
        match member {
            MemberName::Changes => &self.changes,
            MemberName::Decisions => &self.decisions,
            MemberName::Crate(checksum) => self.files.iter().find(|file| Checksum::of(file) == checksum).unwrap(),
            _ => unreachable!("the writer makes {member} itself"),
        }
    }

    /// The part as a file.
    pub(crate) fn part(&self, part: u16) -> Vec<u8> {
        let mut writer = self.plan.write_part(part, Vec::new(), self.key.as_ref()).unwrap();
        while let Some((member, _)) = writer.wanted() {
            writer.put(self.source(member)).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(
            bytes.len() as u64,
            self.plan.parts()[usize::from(part) - 1].bytes,
            "planned to the byte"
        );
        bytes
    }
}

pub(crate) fn crate_file(bytes: &[u8]) -> CrateFile {
    CrateFile {
        checksum: Checksum::of(bytes),
        bytes: bytes.len() as u64,
    }
}

pub(crate) fn stored(bytes: &[u8]) -> Stored {
    Stored {
        checksum: Checksum::of(bytes),
        bytes: bytes.len() as u64,
    }
}

/// What a reader gives out of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenOut {
    pub manifest: Manifest,
    pub members: Vec<(MemberName, Vec<u8>)>,
}

pub(crate) fn read(bytes: &[u8], trust: Trust<'_>) -> Result<GivenOut, Error> {
    let mut members = open(bytes)?.trusting(trust)?;
    let mut given = GivenOut {
        manifest: members.manifest().clone(),
        members: Vec::new(),
    };
    while let Some(member) = members.next_member()? {
        let (name, mut bytes) = (member.name(), Vec::new());
        member.copy_to(&mut bytes)?;
        given.members.push((name, bytes));
    }
    assert!(members.next_member()?.is_none(), "the end stays the end");
    Ok(given)
}

/// A member as it lies in a tar.
#[derive(Clone)]
pub(crate) struct Entry {
    pub header: tar::Header,
    pub bytes: Vec<u8>,
}

impl Entry {
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        Self {
            header,
            bytes: bytes.to_vec(),
        }
    }

    pub(crate) fn name(&self) -> String {
        String::from_utf8(self.header.path_bytes().into_owned()).unwrap()
    }

    /// With another header that is right for tar.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut tar::Header)) -> Self {
        change(&mut self.header);
        self.header.set_cksum();
        self
    }
}

pub(crate) fn split(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while bytes[at..at + BLOCK].iter().any(|byte| *byte != 0) {
        let header = tar::Header::from_byte_slice(&bytes[at..at + BLOCK]).clone();
        let size = header.entry_size().unwrap();
        at += BLOCK;
        let length = usize::try_from(size).unwrap();
        entries.push(Entry {
            header,
            bytes: bytes[at..at + length].to_vec(),
        });
        at += usize::try_from(padded(size)).unwrap();
    }
    entries
}

pub(crate) fn join(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(entry.header.as_bytes());
        bytes.extend_from_slice(&entry.bytes);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(
        (bytes.len() + 2 * BLOCK).next_multiple_of(usize::try_from(RECORD_BYTES).unwrap()),
        0,
    );
    bytes
}

/// A bundle of these members whose sums and signature are right, whatever the members are.
pub(crate) fn hand_made(manifest: &Manifest, members: &[(MemberName, &[u8])], key: Option<&SecretKey>) -> Vec<u8> {
    let json = manifest.to_json();
    let all = [&[(MemberName::Manifest, json.as_slice())], members].concat();
    let sums: String = all
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", Checksum::of(bytes)))
        .collect();
    let mut entries = vec![
        Entry::new("MANIFEST.json", &json),
        Entry::new("SHA256SUMS", sums.as_bytes()),
    ];
    if let Some(key) = key {
        let signature = key.sign(hashed(sums.as_bytes()), &manifest.trusted_comment());
        entries.push(Entry::new("SHA256SUMS.minisig", signature.to_text().as_bytes()));
    }
    entries.extend(members.iter().map(|(name, bytes)| Entry::new(&name.to_string(), bytes)));
    join(&entries)
}

/// An unsigned bundle with this index payload alone.
pub(crate) fn with_payload(packed: &[u8], files: u64, bytes: u64, serial: u64) -> Vec<u8> {
    let mut bundle = description(serial);
    let index = bundle.index.as_mut().unwrap();
    (index.files, index.bytes) = (files, bytes);
    let none = Total::default();
    let manifest = Manifest {
        bundle,
        part: 1,
        parts: 1,
        crates: none,
        part_crates: none,
    };
    hand_made(&manifest, &[(MemberName::Changes, packed)], None)
}
