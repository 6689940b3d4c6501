use std::fmt;

use registry::{Checksum, IndexPath};

/// Something that upstream did to a crate and that the operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// A published version is not in upstream's answer; not yet counted as removed.
    Missing { vers: String },
    /// A version is removed: upstream lacked it for the whole grace.
    Removed { vers: String },
    /// A whole crate would be removed, but too many went at once.
    RemovalHeld { versions: usize },
    /// A removed version is there again.
    Returned { vers: String, old: Checksum, new: Checksum },
    /// A version's checksum changed, and the old line stays in force.
    ChecksumHeld { vers: String, old: Checksum, new: Checksum },
    /// A version's checksum changed, and nothing of the old one was kept or served here.
    ChecksumTaken { vers: String, old: Checksum, new: Checksum },
    /// Upstream went back to the checksum that stayed in force.
    ChecksumBack { vers: String },
}

impl Report {
    /// Writes it to the log, once, with the crate's name.
    pub(crate) fn log(&self, path: &IndexPath) {
        let level = match self {
            Self::RemovalHeld { .. } => log::Level::Error,
            Self::ChecksumHeld { .. } | Self::ChecksumTaken { .. } | Self::Removed { .. } => log::Level::Warn,
            Self::Returned { old, new, .. } if old != new => log::Level::Warn,
            Self::Missing { .. } | Self::Returned { .. } | Self::ChecksumBack { .. } => log::Level::Info,
        };
        log::log!(level, "{}: {self}", path.file_name());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { vers } => write!(
                f,
                "version {vers} is not in upstream's index any more; its line stays until that is certain"
            ),
            Self::Removed { vers } => write!(f, "version {vers} was removed upstream and is left out from now on"),
            Self::RemovalHeld { versions } => write!(
                f,
                "the crate with its {versions} versions is gone upstream, but so are too many others within an hour: \
                 the removal is held, the lines stay"
            ),
            Self::Returned { vers, old, new } if old == new => write!(f, "removed version {vers} is back upstream"),
            Self::Returned { vers, old, new } => {
                write!(
                    f,
                    "removed version {vers} is back upstream with checksum {new} instead of {old}"
                )
            }
            Self::ChecksumHeld { vers, old, new } => write!(
                f,
                "upstream changed the checksum of version {vers} to {new}; files with {old} were kept or served here, \
                 so the old line stays and the new one is held"
            ),
            Self::ChecksumTaken { vers, old, new } => write!(
                f,
                "upstream changed the checksum of version {vers} from {old} to {new}; taken, nothing was kept or served"
            ),
            Self::ChecksumBack { vers } => {
                write!(
                    f,
                    "upstream went back to the checksum of version {vers} that is in force; the hold is dropped"
                )
            }
        }
    }
}
