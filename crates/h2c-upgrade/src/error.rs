//! Why the server could not start.

use std::{io, net::SocketAddr};

/// Why [`serve`](crate::serve) could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There was nothing to listen on.
    #[error("no listening socket was given")]
    NoListener,
    /// The number of worker threads is outside of what actix-server takes.
    #[error("{workers} workers asked for, but 1 to 512 are possible")]
    Workers {
        /// What the configuration says.
        workers: usize,
    },
    /// A listening socket could not be used.
    #[error("failed to listen on {address:?}")]
    Listen {
        /// Where the socket is bound, if it is.
        address: Option<SocketAddr>,
        /// What the system said.
        source: io::Error,
    },
}
