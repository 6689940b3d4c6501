use std::fmt;

use registry::Checksum;

/// One file of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberName {
    /// `MANIFEST.json`: what the bundle is.
    Manifest,
    /// `SHA256SUMS`: the hash of each other member but the signature.
    Sums,
    /// `SHA256SUMS.minisig`: the signature of that.
    Signature,
    /// `index/changes.gz`: what changed in the index.
    Changes,
    /// `index/decisions.jsonl.gz`: what the outside mirror removed or holds.
    Decisions,
    /// `crates/<sha256>.crate`: a crate file.
    Crate(Checksum),
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str("MANIFEST.json"),
            Self::Sums => f.write_str("SHA256SUMS"),
            Self::Signature => f.write_str("SHA256SUMS.minisig"),
            Self::Changes => f.write_str("index/changes.gz"),
            Self::Decisions => f.write_str("index/decisions.jsonl.gz"),
            Self::Crate(checksum) => write!(f, "crates/{checksum}.crate"),
        }
    }
}
