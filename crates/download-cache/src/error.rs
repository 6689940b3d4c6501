//! What can go wrong with a crate file.

use std::{io, net::IpAddr, path::Path, path::PathBuf, sync::Arc, time::Duration};

use registry::Checksum;
use rustix::io::Errno;
use upstream_http::UpstreamUrl;

/// Everything that this crate refuses or fails to do. It can be cloned, since every waiter of a fill hears the same.
///
/// Addresses in here carry no query.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no runtime for the fills to run in.
    #[error("the download cache was opened outside of a tokio runtime")]
    NoRuntime,
    /// Something on the mirror's own disk failed.
    #[error("failed to {doing} {path:?}")]
    Disk {
        /// What was tried: `open`, `write`, ...
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The file does not even fit for as long as it is passed on.
    #[error("the cache's disk has no space left for it{}", needed(*.needed_bytes))]
    NoSpace {
        /// How large the file is, if upstream said so.
        needed_bytes: Option<u64>,
    },
    /// The file would fit, but so much space is to stay free.
    #[error("only {free_bytes} bytes are free on the cache's disk, and {min_free_bytes} are to stay so")]
    Reserve {
        /// What is free.
        free_bytes: u64,
        /// `min_free_bytes`.
        min_free_bytes: u64,
    },
    /// Too many other files are being fetched.
    #[error("too many other files are being fetched ({fills} fills)")]
    Busy {
        /// Fills that run or wait for their turn.
        fills: usize,
    },
    /// Too many files are being fetched for this client.
    #[error("too many files are being fetched for {client} already ({fills} fills)")]
    BusyForClient {
        /// Its address.
        client: IpAddr,
        /// Fills that were begun for it and have not ended.
        fills: usize,
    },
    /// The fill was not done in time.
    #[error("{url} was not fetched within {limit:?}")]
    Deadline {
        /// What was asked for.
        url: String,
        /// How long a fill may take.
        limit: Duration,
    },
    /// Upstream gives bytes, but so few that the fill only takes up a place.
    #[error("only {size_bytes} bytes of {url} came in {waited:.1?}, and {min_bytes_per_second} a second are the least")]
    TooSlow {
        /// What was asked for.
        url: String,
        /// How much came in that time.
        size_bytes: u64,
        /// How long the fill waited for it.
        waited: Duration,
        /// `min_bytes_per_second`.
        min_bytes_per_second: u64,
    },
    /// Upstream does not give this file (403, 404, 410 and other final answers).
    #[error("{url} was refused with status {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// Upstream's status.
        status: u16,
    },
    /// Upstream is in trouble, or answered with something that is no file (429, 5xx, 206, ...).
    #[error("{url} answered with status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// Upstream's status.
        status: u16,
        /// When upstream wants to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The request failed.
    #[error("upstream failed")]
    Upstream(#[source] Arc<upstream_http::Error>),
    /// The file is larger than a crate file may be.
    #[error("{url} is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// `max_file_bytes`.
        limit_bytes: u64,
    },
    /// These are not the bytes that the index promises.
    #[error("{url} has checksum {actual} ({size_bytes} bytes) where the index says {expected}")]
    WrongBytes {
        /// What was asked for.
        url: String,
        /// The index's checksum.
        expected: Checksum,
        /// The checksum of what came.
        actual: Checksum,
        /// How much came.
        size_bytes: u64,
    },
    /// The index names the checksum of an empty file, and that is what came.
    #[error("{url} is empty, and so is no crate file")]
    Empty {
        /// What was asked for.
        url: String,
    },
    /// A second attempt brought other bytes, or another length, than waiters have already been given.
    #[error("{url} changed while it was fetched again")]
    Changed {
        /// What was asked for.
        url: String,
    },
    /// The fill ended without an outcome: the mirror is shutting down, or has a bug.
    #[error("the fetch was abandoned")]
    Abandoned,
}

impl Error {
    /// Whether the reason is load or slowness, so that asking a little later is good advice (503 rather than 502).
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NoSpace { .. }
            | Self::Busy { .. }
            | Self::BusyForClient { .. }
            | Self::Deadline { .. }
            | Self::TooSlow { .. }
            | Self::Abandoned => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 503 | 504),
            // Too many open files.
            Self::Disk { source, .. } => {
                let errno = source.raw_os_error().map(Errno::from_raw_os_error);
                matches!(errno, Some(Errno::MFILE | Errno::NFILE))
            }
            Self::Upstream(error) => error.is_timeout(),
            _ => false,
        }
    }

    /// Whether the mirror's own machine is the reason, and not upstream.
    pub fn is_local(&self) -> bool {
        matches!(
            self,
            Self::NoRuntime | Self::Disk { .. } | Self::NoSpace { .. } | Self::Reserve { .. }
        )
    }

    /// How long upstream asked to be left alone, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The whole chain in one line of at most 500 characters.
    pub(crate) fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(500)
            .collect()
    }

    pub(crate) fn disk(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { needed_bytes: None },
            _ => Self::Disk {
                doing,
                path: path.to_owned(),
                source: Arc::new(source),
            },
        }
    }

    /// A status other than 200: final, or worth another attempt.
    pub(crate) fn status(url: &UpstreamUrl, status: u16, retry_after: Option<Duration>) -> Self {
        let url = shown(url);
        match status {
            400..=499 if !matches!(status, 408 | 429) => Self::Refused { url, status },
            _ => Self::Status {
                url,
                status,
                retry_after,
            },
        }
    }

    pub(crate) fn upstream(url: &UpstreamUrl, error: upstream_http::Error) -> Self {
        match error {
            upstream_http::Error::TooLarge { limit_bytes, .. } => Self::TooLarge {
                url: shown(url),
                limit_bytes,
            },
            // An error page that is also badly framed says its status all the same.
            upstream_http::Error::Framing {
                status: Some(status @ 400..=599),
                ..
            } => Self::status(url, status, None),
            other => Self::Upstream(Arc::new(other)),
        }
    }
}

fn needed(bytes: Option<u64>) -> String {
    bytes.map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default()
}

/// An address without its query, which may be a signature: that is what its debug form is.
pub(crate) fn shown(url: &UpstreamUrl) -> String {
    format!("{url:?}").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let path = Path::new("blobs");
        let full = Error::disk("write", path, io::ErrorKind::StorageFull.into());
        assert!(matches!(full, Error::NoSpace { .. }) && full.is_temporary());
        let broken = Error::disk("write", path, io::Error::other("broken\nfor good"));
        assert!(broken.is_local() && !broken.is_temporary());
        assert_eq!(broken.in_one_line(), "failed to write \"blobs\": broken for good");
    }

    #[test]
    fn addresses_are_shown_without_their_query() {
        let url: UpstreamUrl = "https://host.example/a/b?signature=1".parse().unwrap();
        assert_eq!(shown(&url), "https://host.example/a/b");
    }
}
