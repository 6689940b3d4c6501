//! What a connection is going to speak, told from its first bytes.

use std::{
    io::{Error, ErrorKind, Result},
    sync::Arc,
    time::Duration,
};

use actix_rt::net::TcpStream;
use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    config::{Config, Connections, Kind},
    frames::PREFACE,
    head::{Head, Scan, Scanner},
    http2_side::Http2Side,
    io::{Io, Stopping},
    upgrade,
};

/// Unsent bytes that the kernel takes before a write has to wait. A write may go on when half of them have left: with more of them, a
/// client that takes 1 KB a second would seem to take nothing for minutes.
const UNSENT_LIMIT_BYTES: u32 = 32 * 1024;
/// How long sent bytes may stay unacknowledged, or a client's window shut: with a receive buffer that it empties at 1 KB a second, a
/// window opens once in a minute.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(180);
/// How long a client that is one too many has to ask, so that it can be told.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nCache-Control: no-store\r\n\
    Content-Type: text/plain\r\nContent-Length: 63\r\n\r\ntoo many connections are open; close some, or come again later\n";
const TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// What the first bytes say.
enum First {
    Http1,
    Http2,
    /// An HTTP/1 request that asks to go on in HTTP/2, as the HTTP/2 that it becomes.
    Upgrade(BytesMut),
}

/// Waits for a connection's first request and makes of it what actix-http takes.
pub(crate) async fn accept(
    mut tcp: TcpStream,
    config: Config,
    connections: &Arc<Connections>,
    mut stopping: Stopping,
) -> Result<(Io, Kind)> {
    set_options(&tcp)?;
    let Some(opened) = connections.opened(tcp.peer_addr().ok().map(|peer| peer.ip())) else {
        refuse(tcp, connections).await;
        return Err(Error::other("too many connections"));
    };
    let mut begun = BytesMut::new();
    let first = tokio::select! {
        first = read_first(&mut tcp, &mut begun) => first?,
        () = tokio::time::sleep(config.head_timeout) => {
            // Best effort: whoever is that slow may be gone.
            if !begun.starts_with(&PREFACE[..4]) {
                let _ = tcp.try_write(TIMED_OUT);
            }
            let what = format!("no request within {:?}", config.head_timeout);
            return Err(Error::new(ErrorKind::TimedOut, what));
        }
        () = &mut stopping => return Err(Error::other("server stops")),
    };
    let (io, kind) = match first {
        First::Http1 => (Io::http1(tcp, &begun, config, opened), Kind::Http1),
        First::Http2 => {
            let (side, inbox) = Http2Side::prior_knowledge(&begun)?;
            let io = Io::http2(tcp, side, inbox, stopping, config, opened);
            (io, Kind::Http2)
        }
        First::Upgrade(request) => {
            tcp.write_all(upgrade::SWITCHING).await?;
            let side = Http2Side::upgraded();
            let io = Io::http2(tcp, side, request, stopping, config, opened);
            (io, Kind::Upgraded)
        }
    };
    connections.count(kind);
    Ok((io, kind))
}

/// Tells a client, if it asks in HTTP/1 and soon, that there are too many connections.
async fn refuse(mut tcp: TcpStream, connections: &Arc<Connections>) {
    let Some(_refusing) = connections.refusing() else {
        return;
    };
    let mut begun = BytesMut::new();
    let tell = async {
        if let First::Http1 | First::Upgrade(_) = read_first(&mut tcp, &mut begun).await? {
            tcp.write_all(TOO_MANY).await?;
            tcp.shutdown().await?;
        }
        Ok::<_, Error>(())
    };
    // best effort: it is not one of ours
    let _ = tokio::time::timeout(REFUSAL_TIME, tell).await;
}

fn set_options(tcp: &TcpStream) -> Result<()> {
    tcp.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(tcp);
        socket.set_tcp_notsent_lowat(UNSENT_LIMIT_BYTES)?;
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT))?;
    }
    Ok(())
}

async fn read_first(tcp: &mut TcpStream, begun: &mut BytesMut) -> Result<First> {
    let mut scanner = Scanner::default();
    loop {
        let scanned = begun.len();
        if tcp.read_buf(begun).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if begun.starts_with(PREFACE) {
            return Ok(First::Http2);
        }
        if PREFACE.starts_with(begun) {
            continue;
        }
        // While it looked like the preface nothing was scanned.
        let unscanned = if PREFACE.starts_with(&begun[..scanned]) {
            0
        } else {
            scanned
        };
        match scanner.feed(&begun[unscanned..]) {
            Scan::More => {}
            Scan::End(end) if unscanned + end == begun.len() => return Ok(whole_head(begun)),
            // Requests in a row stay on HTTP/1; what is refused is refused by the rewriter.
            Scan::End(_) | Scan::Refused(_) => return Ok(First::Http1),
        }
    }
}

fn whole_head(bytes: &[u8]) -> First {
    let head = Head::parse(bytes).ok();
    match head.as_ref().and_then(upgrade::as_http2) {
        Some(request) => First::Upgrade(request),
        None => First::Http1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_get_their_options() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        set_options(&tcp).unwrap();
        assert!(tcp.nodelay().unwrap());
        #[cfg(target_os = "linux")]
        {
            let socket = SockRef::from(&tcp);
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_LIMIT_BYTES);
            let timeout = socket.tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(UNACKNOWLEDGED_LIMIT));
        }
    }
}
