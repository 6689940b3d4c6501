use std::io;

use registry::Checksum;

use crate::{MemberName, PublicKey};

/// What can be wrong with a bundle, or stop one from being written.
///
/// The text names the first thing that is wrong; it reads well after "cannot import FILE:". Nothing out of a bundle gets
/// into it unless it is of the expected form or was made harmless for a terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or disk that is read gave up.
    #[error("could not read {what}")]
    Read {
        /// The member that was read, or what was between members.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The bundle could not be written.
    #[error("could not write the bundle")]
    Write {
        /// What the system said.
        source: io::Error,
    },
    /// What is in a member could not be written where it was to go.
    #[error("could not write what is in {member}")]
    CopyOut {
        /// The member.
        member: MemberName,
        /// What the system said.
        source: io::Error,
    },
    /// The bundle ends too early: a stick that was taken out, or a copy that was not finished.
    #[error("it ends in the middle of {what}: the file was cut off")]
    Truncated {
        /// The member, or what was expected.
        what: String,
    },
    /// A member is not what has to stand there.
    #[error("where {expected} should begin: {why}")]
    Header {
        /// What should be there: a member's name, or the end.
        expected: String,
        /// What is there.
        why: String,
    },
    /// A member's bytes are not the ones that were meant.
    #[error("{member} is damaged: its SHA-256 is {actual}, and it should be {expected}")]
    Content {
        /// The member.
        member: MemberName,
        /// What `SHA256SUMS` says.
        expected: Checksum,
        /// What came.
        actual: Checksum,
    },
    /// The manifest breaks the rules.
    #[error("MANIFEST.json: {why}")]
    Manifest {
        /// Which.
        why: String,
    },
    /// `SHA256SUMS` is not exactly what the manifest makes it.
    #[error("SHA256SUMS, line {line}: {why}")]
    Sums {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// There is a signature, and it is not one.
    #[error("SHA256SUMS.minisig: {why}")]
    Signature {
        /// What is wrong.
        why: String,
    },
    /// A trusted key is asked for, and nobody signed.
    #[error("it is not signed")]
    Unsigned,
    /// It is signed well, by a key that is not among the trusted ones.
    #[error("it is signed by a key that is not trusted here: {key} (key id {})", key.id())]
    UnknownSigner {
        /// The key that the manifest names and that signed.
        key: PublicKey,
    },
    /// The index payload breaks the rules.
    #[error("index/changes.gz, record {record}: {why}")]
    Payload {
        /// Counted from 1.
        record: u64,
        /// What is wrong.
        why: String,
    },
    /// The list of decisions breaks the rules.
    #[error("index/decisions.jsonl.gz, line {line}: {why}")]
    Decisions {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// A file or text is no minisign key.
    #[error("this is no minisign key: {why}")]
    Key {
        /// What is wrong.
        why: String,
    },
    /// A text is no receipt.
    #[error("this is no receipt: line {line}: {why}")]
    Receipt {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Some other text is not of its form: an id, a tree, a time.
    #[error("{text:?} is no {what}")]
    Form {
        /// What it should be.
        what: &'static str,
        /// The text, shortened.
        text: String,
    },
    /// What is to be packed does not make a bundle.
    #[error("cannot be packed: {why}")]
    Contents {
        /// Why not.
        why: String,
    },
    /// A file to be packed is not what was planned; the bundle that was being written is to be thrown away.
    #[error("{member} cannot be packed: {why}")]
    Source {
        /// Which.
        member: MemberName,
        /// What is wrong with it.
        why: String,
    },
    /// With `--split`: something is larger than a part may be.
    #[error("{member} needs a part of {needs_bytes} bytes, and parts may have {limit_bytes}")]
    DoesNotFit {
        /// The first member that does not fit.
        member: MemberName,
        /// What a part with it alone has.
        needs_bytes: u64,
        /// What was asked for.
        limit_bytes: u64,
    },
    /// It was asked for more after an error.
    #[error("it was found to be wrong before")]
    Broken,
    /// A part that does not go with the others.
    #[error("part {part}: {why}")]
    Part {
        /// Its number.
        part: u16,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// From an I/O error that may carry one of ours inside, as [`Member`](crate::Member) gives them through `Read`.
    pub(crate) fn from_read(what: impl Into<String>, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated { what: what.into() },
            Err(source) => Self::Read {
                what: what.into(),
                source,
            },
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// At most 60 characters of a foreign text, with nothing in it that a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        format!("{short}…")
    } else {
        short
    }
}

/// What a JSON reader says, in our words: its kind and column without the foreign text.
pub(crate) fn json_fault(error: &serde_json::Error) -> String {
    shown(&error.to_string())
}
