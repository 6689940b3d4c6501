//! What is taken out of a response's head, and what is refused.

use std::time::{Duration, SystemTime};

use awc::{
    ClientResponse,
    http::{
        Version,
        header::{
            CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HttpDate, LAST_MODIFIED,
            RETRY_AFTER, TRANSFER_ENCODING,
        },
    },
};

use crate::{Body, Error, Request, UpstreamUrl, body::Framing};

/// Longer waits are not upstream's to impose.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// An answer of upstream. Of its headers there is only what is named here.
#[derive(Debug)]
pub struct Response {
    /// The status; never one of the redirects that are followed.
    pub status: u16,
    /// How long the body will be. The body is held to it.
    pub content_length: Option<u64>,
    /// Printable ASCII of at most 256 bytes, quotes included.
    pub etag: Option<String>,
    /// Printable ASCII of at most 64 bytes.
    pub last_modified: Option<String>,
    /// What the body is said to be, without parameters; printable ASCII of at most 128 bytes.
    pub content_type: Option<String>,
    /// How long to wait before asking again, whether it was given in seconds or as a date; at most a day.
    pub retry_after: Option<Duration>,
    /// Where the answer came from, after redirects.
    pub url: UpstreamUrl,
    /// The bytes, as they arrive.
    pub body: Body,
}

/// A response without its body.
#[derive(Debug)]
pub(crate) struct Head {
    status: u16,
    content_length: Option<u64>,
    etag: Option<String>,
    last_modified: Option<String>,
    content_type: Option<String>,
    retry_after: Option<Duration>,
    url: UpstreamUrl,
    pub framing: Framing,
}

impl Head {
    pub(crate) fn read(response: &ClientResponse, url: &UpstreamUrl, request: &Request) -> Result<Self, Error> {
        let headers = response.headers();
        let status = response.status().as_u16();
        let framing = framing(status, response.version(), headers);
        let framing = framing.map_err(|reason| Error::Framing {
            url: url.shown(),
            status: Some(status),
            reason: reason.to_owned(),
        })?;
        refuse_encoded(headers, url)?;
        let content_length = match framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        if content_length.is_some_and(|length| length > request.max_body) {
            return Err(Error::TooLarge {
                url: url.shown(),
                limit_bytes: request.max_body,
            });
        }
        Ok(Self {
            status,
            content_length,
            etag: printable(headers, &ETAG, 256),
            last_modified: printable(headers, &LAST_MODIFIED, 64),
            content_type: printable(headers, &CONTENT_TYPE, 128)
                .and_then(|value| value.split(';').next().map(|kind| kind.trim().to_owned())),
            retry_after: printable(headers, &RETRY_AFTER, 64).and_then(|value| wait(&value)),
            url: url.clone(),
            framing,
        })
    }

    pub(crate) fn with(self, body: Body) -> Response {
        Response {
            status: self.status,
            content_length: self.content_length,
            etag: self.etag,
            last_modified: self.last_modified,
            content_type: self.content_type,
            retry_after: self.retry_after,
            url: self.url,
            body,
        }
    }
}

/// awc takes an HTTP/1.1 response with neither length nor chunks as an empty one, so this is the only guard.
fn framing(status: u16, version: Version, headers: &HeaderMap) -> Result<Framing, &'static str> {
    if matches!(status, 204 | 304) {
        return Ok(Framing::Empty);
    }
    if status < 200 {
        return Err("it is an interim response");
    }
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).collect();
    let length = match lengths[..] {
        [] => None,
        [one] => {
            let digits = one.to_str().map_err(|_| "its content-length is no number")?.trim();
            Some(digits.parse().map_err(|_| "its content-length is no number")?)
        }
        _ => return Err("it has several content-lengths"),
    };
    let chunked = match headers.get(TRANSFER_ENCODING) {
        None => false,
        Some(value) if value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => true,
        Some(_) => return Err("its transfer-encoding is unknown"),
    };
    match (version, length, chunked) {
        (Version::HTTP_2, Some(length), _) => Ok(Framing::Length(length)),
        (Version::HTTP_2, None, _) => Ok(Framing::Stream),
        (_, Some(length), false) => Ok(Framing::Length(length)),
        (Version::HTTP_11, None, true) => Ok(Framing::Chunked),
        (_, Some(_), true) => Err("it has both content-length and transfer-encoding"),
        (_, None, _) => Err("it says nowhere how long it is"),
    }
}

fn refuse_encoded(headers: &HeaderMap, url: &UpstreamUrl) -> Result<(), Error> {
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.as_bytes().trim_ascii();
        if !value.is_empty() && !value.eq_ignore_ascii_case(b"identity") {
            return Err(Error::Encoded {
                url: url.shown(),
                encoding: String::from_utf8_lossy(value).chars().take(64).collect(),
            });
        }
    }
    Ok(())
}

fn printable(headers: &HeaderMap, name: &HeaderName, max_bytes: usize) -> Option<String> {
    let value = headers.get(name)?.as_bytes();
    let fine = !value.is_empty() && value.len() <= max_bytes && value.iter().all(|b| matches!(b, b' '..=b'~'));
    fine.then(|| String::from_utf8_lossy(value).into_owned())
}

fn wait(value: &str) -> Option<Duration> {
    let wait = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date: HttpDate = value.parse().ok()?;
            // A date that has passed means: now.
            SystemTime::from(date)
                .duration_since(SystemTime::now())
                .unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}
