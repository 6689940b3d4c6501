//! What the owner of the server decides, and the counts of connections.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
    /// The least that a client must move in `write_stall` of waiting for it, as bytes per second; 0 is no limit. What it
    /// takes shows only as the kernel's buffers empty, some 50 KiB at a time, so small numbers come to one such step.
    pub min_bytes_per_second: u64,
    /// Worker threads, 1 to 512.
    pub workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(75),
            write_stall: Duration::from_secs(180),
            shutdown_timeout: Duration::from_secs(20),
            min_bytes_per_second: 100,
            workers: 2,
        }
    }
}

/// How many connections may be open at once. Who comes beyond that is told so with a 503, if it asks in HTTP/1.
pub struct Limits {
    /// In all.
    pub connections: u64,
    /// Of one client, that is of one IPv4 address, or of one network of 64 bits in IPv6.
    pub per_client: u64,
    /// Addresses that speak for many clients, such as a trusted proxy's: the limit for one client is not for them.
    pub exempt: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl Default for Limits {
    /// None.
    fn default() -> Self {
        Self {
            connections: u64::MAX,
            per_client: u64::MAX,
            exempt: Box::new(|_| false),
        }
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("connections", &self.connections)
            .field("per_client", &self.per_client)
            .finish_non_exhaustive()
    }
}

/// Those who are told that they are too many, at once; whoever comes beyond hears nothing.
const REFUSALS_AT_ONCE: u64 = 64;

/// Connections by kind since the start, and those open now; shared with whoever shows metrics.
#[derive(Debug, Default)]
pub struct Connections {
    limits: Limits,
    http1: AtomicU64,
    http2: AtomicU64,
    upgraded: AtomicU64,
    open: AtomicU64,
    refused: AtomicU64,
    refusing: AtomicU64,
    cut: AtomicU64,
    clients: Mutex<HashMap<IpAddr, u64>>,
}

impl Connections {
    /// None yet, and at most so many.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Connections that were refused because there were too many, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Connections that were cut because the client took or sent too little, since the start.
    pub fn cut(&self) -> u64 {
        self.cut.load(Relaxed)
    }

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

    pub(crate) fn count_cut(&self) {
        self.cut.fetch_add(1, Relaxed);
    }

    /// Counts a connection in; `None` if it is one too many.
    pub(crate) fn opened(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Opened> {
        let client = peer.map(client).filter(|_| self.limits.per_client < u64::MAX);
        let client = client.filter(|client| !(self.limits.exempt)(*client));
        if let Some(client) = client {
            let mut clients = self.clients();
            let open = clients.entry(client).or_default();
            if *open >= self.limits.per_client {
                self.refused.fetch_add(1, Relaxed);
                return None;
            }
            *open += 1;
        }
        let opened = Opened {
            connections: Arc::clone(self),
            client,
        };
        if self.open.fetch_add(1, Relaxed) >= self.limits.connections {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        Some(opened)
    }

    /// The right to tell a client that there are too many; `None` if too many are being told.
    pub(crate) fn refusing(self: &Arc<Self>) -> Option<Refusing> {
        let refusing = Refusing(Arc::clone(self));
        (self.refusing.fetch_add(1, Relaxed) < REFUSALS_AT_ONCE).then_some(refusing)
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom an address stands for: a single machine has a whole network of IPv6 to itself.
pub fn client(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
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
pub(crate) struct Opened {
    pub(crate) connections: Arc<Connections>,
    client: Option<IpAddr>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Relaxed);
        if let Some(client) = self.client {
            let mut clients = self.connections.clients();
            if let Some(open) = clients.get_mut(&client) {
                *open -= 1;
                if *open == 0 {
                    clients.remove(&client);
                }
            }
        }
    }
}

/// Counts one client that is being told.
#[derive(Debug)]
pub(crate) struct Refusing(Arc<Connections>);

impl Drop for Refusing {
    fn drop(&mut self) {
        self.0.refusing.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(connections: u64, per_client: u64) -> Arc<Connections> {
        Arc::new(Connections::new(Limits {
            connections,
            per_client,
            exempt: Box::new(|client| client.is_loopback()),
        }))
    }

    fn peer(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn each_client_has_its_share_and_gets_it_back() {
        let connections = limited(100, 2);
        let first = connections.opened(peer("10.0.0.1"));
        let _second = connections.opened(peer("::ffff:10.0.0.1")).unwrap();
        assert!(first.is_some() && connections.opened(peer("10.0.0.1")).is_none());
        assert!(connections.opened(peer("10.0.0.2")).is_some(), "another client");
        drop(first);
        assert!(connections.opened(peer("10.0.0.1")).is_some());
        assert_eq!((connections.open(), connections.refused()), (1, 1));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let connections = limited(100, 1);
        let _first = connections.opened(peer("2001:db8::1")).unwrap();
        assert!(connections.opened(peer("2001:db8::ffff:2")).is_none());
        assert!(connections.opened(peer("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn whoever_speaks_for_many_has_no_share_but_all_together_have_a_limit() {
        let connections = limited(3, 1);
        let open: Vec<_> = (0..3).map(|_| connections.opened(peer("127.0.0.1")).unwrap()).collect();
        assert!(connections.opened(peer("127.0.0.1")).is_none());
        assert!(connections.opened(peer("10.0.0.1")).is_none());
        drop(open);
        assert_eq!((connections.open(), connections.clients().len()), (0, 0));
    }
}
