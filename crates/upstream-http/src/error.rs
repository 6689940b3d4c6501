//! What can go wrong between the mirror and an upstream.

use std::{error, io, net::IpAddr, path::PathBuf, time::Duration};

use crate::address::Blocked;

/// Everything that this crate refuses or fails to do, with the evidence.
///
/// Addresses in here carry no query: the targets of redirects are often signed by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an address that upstream may have.
    #[error("{url:?} cannot be an upstream address: {reason}")]
    InvalidUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A request header that callers may not set, or that no request can carry.
    #[error("request header {name:?} {reason}")]
    InvalidHeader {
        /// The header's name; its value may be a secret and is not kept.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A token that cannot be sent in a header.
    #[error("the upstream token is empty or has characters other than printable ASCII")]
    InvalidToken,
    /// A proxy setting that cannot be used.
    #[error("{setting} is not a usable proxy: {reason}")]
    ProxySetting {
        /// The setting or variable; its value may hold a password and is not kept.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// `upstream.ca_file` could not be read, or holds no certificate.
    #[error("upstream.ca_file {path:?}: {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to check certificates against.
    #[error(
        "no root certificates were found: install the system's (package ca-certificates), \
         or set SSL_CERT_FILE or upstream.ca_file; {detail}"
    )]
    NoRoots {
        /// What loading the system's roots said.
        detail: String,
    },
    /// TLS could not be set up at all.
    #[error("failed to set up TLS")]
    TlsSetup(#[source] rustls::Error),
    /// The client's thread could not be started.
    #[error("failed to start the thread for upstream requests")]
    Start(#[source] io::Error),
    /// The client's thread is gone.
    #[error("the upstream client has stopped")]
    Stopped,
    /// The host has no address.
    #[error("failed to resolve {host}")]
    Resolve {
        /// The host that was asked for: upstream's or the proxy's.
        host: String,
        /// What the system's resolver said.
        #[source]
        source: io::Error,
    },
    /// The host has an address that an untrusted host may not have.
    #[error("{host} is at {address}, which is {why} and not public; only configured hosts may be")]
    Address {
        /// The host that was asked for.
        host: String,
        /// The address that was refused.
        address: IpAddr,
        /// Why.
        why: Blocked,
    },
    /// No address of the host took the connection.
    #[error("failed to connect to {target}: {detail}")]
    Connect {
        /// `host:port`, upstream's or the proxy's.
        target: String,
        /// The addresses that were tried and what each said.
        detail: String,
    },
    /// The TLS handshake failed.
    #[error("TLS with {target} failed{}", tls_hint(*.certificate))]
    Tls {
        /// `host:port` of upstream.
        target: String,
        /// Whether the certificate was the reason.
        certificate: bool,
        /// What rustls said.
        #[source]
        source: io::Error,
    },
    /// The proxy refused.
    #[error("proxy {proxy} refused {target}: {status_line:?}{}", proxy_hint(*.status))]
    ProxyRefused {
        /// The proxy, without its credentials.
        proxy: String,
        /// What was asked of it.
        target: String,
        /// Its status; 0 if what it said was no HTTP.
        status: u16,
        /// Its first line, at most 200 characters.
        status_line: String,
    },
    /// No response head in time.
    #[error("{url} sent no response within {waited:?}")]
    HeadTimeout {
        /// What was asked for.
        url: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The body stopped arriving.
    #[error("{url} sent nothing for {waited:?} after {received_bytes} bytes of the body")]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long nothing came.
        waited: Duration,
        /// How much had arrived.
        received_bytes: u64,
    },
    /// The request's own deadline passed.
    #[error("{url} was not finished by its deadline")]
    Deadline {
        /// What was asked for.
        url: String,
    },
    /// More bytes than the request allows.
    #[error("{url} is larger than the limit of {limit_bytes} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The request's limit.
        limit_bytes: u64,
    },
    /// The body ended before its end.
    #[error("{url} ended after {received_bytes} bytes{}", promised(*.expected_bytes))]
    Truncated {
        /// What was asked for.
        url: String,
        /// How much arrived.
        received_bytes: u64,
        /// What Content-Length promised, if there was one.
        expected_bytes: Option<u64>,
    },
    /// The body is encoded although it was asked for as it is.
    #[error("{url} came with content-encoding {encoding:?}, which was not asked for")]
    Encoded {
        /// What was asked for.
        url: String,
        /// The encoding, at most 64 characters.
        encoding: String,
    },
    /// The response does not say where it ends, or is no HTTP.
    #[error("{url} answered{} in a way that cannot be trusted: {reason}", with_status(*.status))]
    Framing {
        /// What was asked for.
        url: String,
        /// The status, if one was read.
        status: Option<u16>,
        /// What is wrong.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {target:?}: {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where it sends us, at most 200 characters, without its query or a user's name.
        target: String,
        /// Why that is not followed.
        reason: String,
    },
    /// The connection broke while the request was sent, or before or in its response.
    #[error("the connection for {url} broke")]
    Disconnected {
        /// What was asked for.
        url: String,
        /// What the connection said.
        #[source]
        source: Box<dyn error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether the same request may well succeed a little later, with nobody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::HeadTimeout { .. }
            | Self::Stalled { .. }
            | Self::Deadline { .. }
            | Self::Truncated { .. }
            | Self::Disconnected { .. } => true,
            Self::Tls { certificate, .. } => !certificate,
            Self::ProxyRefused { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// Whether upstream was too slow, rather than wrong or absent.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::HeadTimeout { .. } | Self::Stalled { .. } | Self::Deadline { .. }
        )
    }
}

fn with_status(status: Option<u16>) -> String {
    status.map(|status| format!(" (status {status})")).unwrap_or_default()
}

fn tls_hint(certificate: bool) -> &'static str {
    if certificate {
        " (is your company's CA in SSL_CERT_FILE or upstream.ca_file?)"
    } else {
        ""
    }
}

fn proxy_hint(status: u16) -> &'static str {
    if status == 407 {
        " (put user and password into upstream.proxy or the proxy variable)"
    } else {
        ""
    }
}

fn promised(expected_bytes: Option<u64>) -> String {
    match expected_bytes {
        Some(bytes) => format!(" of {bytes}"),
        None => ", before the end of its last chunk".to_owned(),
    }
}
