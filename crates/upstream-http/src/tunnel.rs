//! `CONNECT`: a way through a proxy to upstream.

use std::io;

use actix_rt::net::TcpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Authority, Error, Proxy};

/// Of a proxy's answer.
const MAX_HEAD_BYTES: usize = 8192;

/// Asks the proxy for a tunnel.
pub(crate) async fn tunnel(mut io: TcpStream, proxy: &Proxy, target: &Authority) -> Result<TcpStream, Error> {
    let broke = |source: io::Error| Error::Connect {
        target: proxy.authority().to_string(),
        detail: format!("the proxy broke the connection: {source}"),
    };
    let authorization = match proxy.authorization() {
        Some(value) => format!("Proxy-Authorization: {value}\r\n"),
        None => String::new(),
    };
    let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    io.write_all(ask.as_bytes()).await.map_err(broke)?;
    let mut head = Vec::new();
    // A refusal has a page behind its head, and a connection that stays open: neither is waited for.
    while end_of(&head).is_none() && head.len() < MAX_HEAD_BYTES {
        if io.read_buf(&mut head).await.map_err(broke)? == 0 {
            break;
        }
    }
    let status = proxy_status(&head);
    // TLS servers never speak first, so nothing beyond the head of a tunnel can have come.
    if end_of(&head) == Some(head.len()) && (200..300).contains(&status) {
        return Ok(io);
    }
    Err(refused(proxy, target, status, &head))
}

fn end_of(head: &[u8]) -> Option<usize> {
    head.windows(4).position(|part| part == b"\r\n\r\n").map(|at| at + 4)
}

fn refused(proxy: &Proxy, target: &Authority, status: u16, head: &[u8]) -> Error {
    let line = head.split(|&b| b == b'\r' || b == b'\n').next().unwrap_or_default();
    Error::ProxyRefused {
        proxy: proxy.to_string(),
        target: target.to_string(),
        status,
        status_line: String::from_utf8_lossy(line).chars().take(200).collect(),
    }
}

fn proxy_status(head: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(head);
    let mut words = text.split(' ');
    match (words.next(), words.next()) {
        (Some(version), Some(status)) if version.starts_with("HTTP/1.") => {
            status.trim().get(..3).and_then(|s| s.parse().ok()).unwrap_or(0)
        }
        _ => 0,
    }
}
