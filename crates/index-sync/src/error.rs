use std::io;
use std::path::{Path, PathBuf};

/// Why the index could not be read, changed or brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // The git half: `index.git`.
    /// The file system refused something below `index.git`.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// gix refused something.
    #[error("cannot {action}")]
    Git {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: gix::Error,
    },
    /// `index.git` is not what a writer of ours leaves behind, not even one that was killed.
    #[error("the repository {} is damaged: {why}", path.display())]
    Damaged {
        /// The repository.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An object that is not, or no longer, in `index.git`.
    #[error("object {id} is not in the repository")]
    MissingObject {
        /// The object's id, in hexadecimal.
        id: String,
    },
    /// A tree of upstream's repository is none that git makes.
    #[error("tree {id} of upstream is refused: {why}")]
    UpstreamTree {
        /// The tree's id, in hexadecimal.
        id: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Someone else moved the published branch.
    #[error("the published branch is at {found}, expected {expected}: another program has moved it")]
    BranchMoved {
        /// The commit we published last, or `nothing`.
        expected: String,
        /// What the branch's file holds.
        found: String,
    },
    /// A text that is not 40 hexadecimal digits.
    #[error("`{text}` is not a git object id")]
    ObjectId {
        /// What was given, shortened.
        text: String,
    },
    /// A name under which no state of the index can be kept.
    #[error("`{name}` cannot name a state of the index: it takes 1 to 64 digits, lower-case letters and hyphens")]
    StateName {
        /// What was given, shortened.
        name: String,
    },
    /// The changes of a state could not be read to their end.
    #[error("the changes of the index cannot be read")]
    Changes {
        /// What whoever reads them says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A change that does not fit the file it is about.
    #[error("the change of {path} cannot be applied")]
    Edit {
        /// The index file.
        path: String,
        /// Why not.
        source: registry::EditError,
    },
    /// Changes must come in the order of their paths, and each file once.
    #[error("the change of {path} is not in its place: they are to be in the order of their paths")]
    ChangeOrder {
        /// The index file.
        path: String,
    },
    // The sparse half: upstream, merge and publisher.
    /// It is not here, and upstream cannot be asked or does not answer.
    #[error("upstream cannot be asked: {why}")]
    Unavailable {
        /// What upstream or the way to it said.
        why: String,
    },
    /// There is nothing to keep or to accept.
    #[error("{what}: {why}")]
    NothingToDecide {
        /// The crate, with its version if one was named.
        what: String,
        /// Why there is nothing.
        why: &'static str,
    },
    /// The sparse upstream's address cannot be used.
    #[error("the sparse upstream's address cannot be used")]
    UpstreamAddress(#[source] upstream_http::Error),
    /// A commit failed; it will be tried again.
    #[error("the index file is not committed yet: {why}")]
    NotCommitted {
        /// Why the last try failed.
        why: String,
    },
    /// The mirror is stopping, or the publisher's thread is gone.
    #[error("the publisher has stopped")]
    Stopped,
    /// The publisher's thread could not be started.
    #[error("failed to start the publisher's thread")]
    Thread {
        /// Why not.
        source: io::Error,
    },
    /// The pack log could not be read or written.
    #[error("failed to read or write the pack log")]
    PackLog(#[from] git_smart_http::Error),
    /// A database could not be read or written.
    #[error("failed to read or write what is remembered")]
    Database(#[from] metadata_db::Error),
}

impl Error {
    /// For `map_err`: what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// For `map_err`: what was asked of gix.
    pub(crate) fn git(action: &'static str) -> impl FnOnce(gix::Error) -> Self {
        move |source| Self::Git { action, source }
    }
}
