//! From a host's name to a connection with one of its addresses.

use std::{io, net::SocketAddr, time::Duration};

use actix_rt::net::TcpStream;
use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{Authority, Error};

/// What one address may take, so that a dead IPv6 route does not eat the whole time-out.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the next address waits for the one before it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// The addresses in the system's order, but with the two families taking turns.
pub(crate) async fn lookup(target: &Authority) -> Result<Vec<SocketAddr>, Error> {
    let host = target.bare_host();
    let failed = |source| Error::Resolve {
        host: host.to_owned(),
        source,
    };
    let found = tokio::net::lookup_host((host, target.port()));
    let found: Vec<SocketAddr> = found.await.map_err(failed)?.collect();
    let Some(first) = found.first() else {
        return Err(failed(io::ErrorKind::NotFound.into()));
    };
    let (same, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut other = other.into_iter();
    let mut turns: Vec<_> = same
        .into_iter()
        .flat_map(|address| [Some(address), other.next()])
        .flatten()
        .collect();
    turns.extend(other);
    Ok(turns)
}

/// The first address that answers. Each next one is tried once the ones before it failed or took a moment.
pub(crate) async fn race(target: &Authority, addresses: Vec<SocketAddr>) -> Result<TcpStream, Error> {
    let mut waiting = addresses.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut failures: Vec<String> = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            tries.push(open(address));
        } else if tries.is_empty() {
            return Err(Error::Connect {
                target: target.to_string(),
                detail: failures.join(", "),
            });
        }
        tokio::select! {
            Some((address, outcome)) = tries.next() => match outcome {
                Ok(io) => return Ok(io),
                Err(error) => failures.push(format!("{address}: {error}")),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

async fn open(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let opened = tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await;
    let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let opened = opened.and_then(|io| {
        io.set_nodelay(true)?;
        Ok(io)
    });
    (address, opened)
}
