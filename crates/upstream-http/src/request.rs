//! What is asked of upstream.

use std::time::Instant;

use awc::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;

use crate::{Error, UpstreamUrl};

/// Headers that are this crate's own business.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// A GET, or all of a POST but its body.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to ask.
    pub url: UpstreamUrl,
    /// Headers to send along, also after a redirect: `If-None-Match`, `Accept` and the like. Those that frame a message,
    /// name the client or carry a secret are refused.
    pub headers: Vec<(String, String)>,
    /// The most bytes of body to take.
    pub max_body: u64,
    /// When all of it, redirects and body included, must be done. `None`: as long as bytes keep coming.
    pub deadline: Option<Instant>,
    /// Whether to open a connection for this request alone: for asking again what a pooled one answered strangely.
    pub fresh_connection: bool,
}

impl Request {
    /// A GET without headers, deadline or a connection of its own.
    pub fn get(url: UpstreamUrl, max_body: u64) -> Self {
        Self {
            url,
            headers: Vec::new(),
            max_body,
            deadline: None,
            fresh_connection: false,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn checked_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        self.headers.iter().map(checked).collect()
    }
}

/// What turns a request into a POST.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub content_type: HeaderValue,
    pub body: Bytes,
}

impl Post {
    pub(crate) fn new(content_type: &str, body: Bytes) -> Result<Self, Error> {
        let (_, content_type) = checked(&("content-type".to_owned(), content_type.to_owned()))?;
        Ok(Self { content_type, body })
    }
}

fn checked((name, value): &(String, String)) -> Result<(HeaderName, HeaderValue), Error> {
    let invalid = |reason| Error::InvalidHeader {
        name: name.clone(),
        reason,
    };
    let parsed: HeaderName = name.parse().map_err(|_| invalid("is no header's name"))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(invalid("is not for callers to set"));
    }
    let value = HeaderValue::from_str(value).map_err(|_| invalid("has a value that cannot be sent"))?;
    Ok((parsed, value))
}
