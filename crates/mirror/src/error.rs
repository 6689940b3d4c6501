use registry::{CrateName, CrateVersion};

/// Why a crate file or an index file could not be served. Statuses are given in `http/error.rs` alone.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The index does not list this version.
    #[error("the index does not list {name} {version}")]
    NotListed {
        /// As it was asked for.
        name: CrateName,
        /// As it was asked for.
        version: CrateVersion,
    },
    /// There is no such crate.
    #[error("the index has no crate `{name}`")]
    NoSuchCrate {
        /// As it was asked for.
        name: CrateName,
    },
    /// It is not kept here, and upstream is not to be asked: whether it exists is not known.
    #[error(
        "{what} is not kept here, and this mirror is offline. It was noted: `mirror wanted -o wanted.txt` here lists it, and \
         `mirror export --list wanted.txt` outside puts it into the next bundle"
    )]
    NotKept {
        /// A crate, or one version of it.
        what: String,
    },
    /// It was kept here, but its file was damaged, and upstream is not to be asked for another.
    #[error(
        "the kept file of {what} was damaged and is set aside, and this mirror is offline. It was noted: `mirror wanted` here \
         lists it, and `mirror export --list` outside puts it into the next bundle"
    )]
    Damaged {
        /// A crate and its version.
        what: String,
    },
    /// The index could not say.
    #[error(transparent)]
    Index(#[from] index_sync::Error),
    /// The crate file could not be fetched or read.
    #[error(transparent)]
    CrateFile(#[from] download_cache::Error),
    /// Upstream's `dl` makes no address that can be asked.
    #[error("upstream's download address cannot be used: {why}")]
    DownloadAddress {
        /// What is wrong with it.
        why: String,
    },
    /// Upstream took so long that the client is better told to come again; the fetch goes on.
    #[error("upstream has not sent it yet; the fetch goes on")]
    NotYet,
    /// The metadata database failed.
    #[error(transparent)]
    Metadata(#[from] metadata_db::Error),
    /// A task of ours ended without an outcome.
    #[error("the work was abandoned")]
    Abandoned,
    /// The request itself makes no sense.
    #[error("{0}")]
    BadRequest(&'static str),
}

/// `error` and its causes in one line, for logs.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // transparent variants repeat what was said already
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
