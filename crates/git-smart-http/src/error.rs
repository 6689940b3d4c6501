//! What can go wrong with a request, and what with the pack log.

use std::{io, path::PathBuf};

use bytes::Bytes;

use crate::{ObjectId, pkt_line};

/// Everything that this crate refuses or fails to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The four bytes in front of a pkt-line are no length that a request may have.
    #[error("bad pkt-line length \"{length}\" at byte {at}")]
    BadLength {
        /// Where in the body.
        at: usize,
        /// The bytes, escaped.
        length: String,
    },
    /// The body ends inside of a pkt-line.
    #[error("the pkt-line at byte {at} should have {expected} bytes, and {left} are left")]
    CutShort {
        /// Where in the body.
        at: usize,
        /// How long the line says it is, with its length.
        expected: usize,
        /// What the body still has.
        left: usize,
    },
    /// More of something than a request may have.
    #[error("more than {limit} {what} in one request")]
    TooMany {
        /// Of what: `wants`, `haves`, ...
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A line that does not belong where it is.
    #[error("expected {expected}, got \"{line}\"")]
    Unexpected {
        /// What could have stood there.
        expected: &'static str,
        /// The first bytes of what did, escaped.
        line: String,
    },
    /// Something that git knows and this server does not do.
    #[error("{what} is not supported by this server")]
    Unsupported {
        /// What was asked for, escaped.
        what: String,
    },
    /// The body ended before the request was complete.
    #[error("the request ended where {expected} should follow")]
    Unfinished {
        /// What is missing.
        expected: &'static str,
    },
    /// The disk under the pack log failed.
    #[error("failed to {doing} {path:?}")]
    Disk {
        /// What was tried: `open`, `write`, ...
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The files are a pack log of another version, or none: rebuild it.
    #[error("{path:?} is not a pack log of version {expected} (found {found}): it has to be rebuilt")]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// The version that this program writes.
        expected: u32,
        /// What the file says.
        found: String,
    },
    /// The bytes are not the ones that were written: rebuild the log.
    #[error("the pack log is damaged at commit {commit}: {what}")]
    Damaged {
        /// Whose range of the log it is.
        commit: ObjectId,
        /// What does not fit.
        what: &'static str,
    },
    /// A commit must follow the last one, or be a new root.
    #[error("commit {commit} (parent {parent:?}) does not follow {head:?}")]
    NotOnTop {
        /// What should be appended.
        commit: ObjectId,
        /// Its parent.
        parent: Option<ObjectId>,
        /// The last commit of the log.
        head: Option<ObjectId>,
    },
    /// The log has this commit already.
    #[error("commit {commit} is in the pack log already")]
    AlreadyThere {
        /// Which.
        commit: ObjectId,
    },
    /// A snapshot is of a commit that the log has.
    #[error("commit {commit} is not in the pack log")]
    UnknownCommit {
        /// Which.
        commit: ObjectId,
    },
    /// The first object of a commit's range is the commit itself, and it is the only one.
    #[error("object {object} stands where only the commit object {commit} may stand first")]
    CommitFirst {
        /// Whose range.
        commit: ObjectId,
        /// What was given.
        object: ObjectId,
    },
    /// The range has no object at all, not even its commit.
    #[error("commit {commit} was given without its objects")]
    NoObjects {
        /// Whose range.
        commit: ObjectId,
    },
    /// A deflated object has to fit into four gigabytes.
    #[error("object {object} is too large for the pack log")]
    TooLarge {
        /// Which.
        object: ObjectId,
    },
}

impl Error {
    /// Whether the client is to blame (the answer is then 400, or [`Error::pkt_line`]).
    pub fn is_request(&self) -> bool {
        matches!(
            self,
            Error::BadLength { .. }
                | Error::CutShort { .. }
                | Error::TooMany { .. }
                | Error::Unexpected { .. }
                | Error::Unsupported { .. }
                | Error::Unfinished { .. }
        )
    }

    /// Whether the log has to be built anew from the repository.
    pub fn needs_rebuild(&self) -> bool {
        matches!(self, Error::OtherVersion { .. } | Error::Damaged { .. })
    }

    /// The error as git clients show it: an `ERR` pkt-line. Faults of this machine are not described.
    pub fn pkt_line(&self) -> Bytes {
        match self.is_request() {
            true => pkt_line::error(&format!("upload-pack: {self}")),
            false => pkt_line::error("upload-pack: the server cannot read its repository"),
        }
    }

    pub(crate) fn disk(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Disk { doing, path, source }
    }

    pub(crate) fn unexpected(expected: &'static str, line: &[u8]) -> Error {
        Error::Unexpected {
            expected,
            line: evidence(line),
        }
    }

    pub(crate) fn unsupported(what: &[u8]) -> Error {
        let what = if what.is_empty() {
            "an empty line".to_owned()
        } else {
            evidence(what)
        };
        Error::Unsupported { what }
    }
}

/// The first bytes of what a client sent, printable and short enough for a log line.
pub(crate) fn evidence(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(80)].escape_ascii().to_string()
}
