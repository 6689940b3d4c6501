//! What the owner of the server decides, and the counts of connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Limits and times of the acceptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a client may take for one whole request head, from its first byte on (from the
    /// opening of the connection for the first one).
    pub head_timeout: Duration,
    /// How long a connection without requests stays open.
    pub keep_alive: Duration,
    /// How long a client may keep us from writing a single byte; also how long it may fall silent
    /// within a request's body.
    pub write_stall: Duration,
    /// How long running requests may take after the server was told to stop; whole seconds,
    /// rounded up.
    pub shutdown_timeout: Duration,
    /// Connections at once **per worker**; more wait in the listener's backlog.
    pub max_connections: usize,
    /// Worker threads, 1 to 512.
    pub workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(75),
            write_stall: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(20),
            max_connections: 4096,
            workers: 2,
        }
    }
}

/// Connections by kind since the start; shared with whoever shows metrics.
#[derive(Debug, Default)]
pub struct Connections {
    http1: AtomicU64,
    http2: AtomicU64,
    upgraded: AtomicU64,
    open: AtomicU64,
}

impl Connections {
    /// Connections that spoke HTTP/1, since the start.
    pub fn http1(&self) -> u64 {
        self.http1.load(Relaxed)
    }

    /// Connections that began with HTTP/2 (prior knowledge), since the start.
    pub fn http2(&self) -> u64 {
        self.http2.load(Relaxed)
    }

    /// Connections that became HTTP/2 by `Upgrade: h2c`, since the start.
    pub fn upgraded(&self) -> u64 {
        self.upgraded.load(Relaxed)
    }

    /// Connections open now, those included that have said nothing yet.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    pub(crate) fn count(&self, kind: Kind) {
        let counter = match kind {
            Kind::Http1 => &self.http1,
            Kind::Http2 => &self.http2,
            Kind::Upgraded => &self.upgraded,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn opened(self: &Arc<Self>) -> Opened {
        self.open.fetch_add(1, Relaxed);
        Opened(Arc::clone(self))
    }
}

/// What a connection turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http1,
    Http2,
    Upgraded,
}

/// Counts one connection as open for as long as it lives.
#[derive(Debug)]
pub(crate) struct Opened(Arc<Connections>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
