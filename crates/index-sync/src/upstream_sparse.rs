use std::error::Error as StdError;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use registry::{IndexPath, MAX_FILE_BYTES};
use tokio::sync::{Semaphore, SemaphorePermit};
use upstream_http::{Body, Request, Response, UpstreamHttp, UpstreamUrl};

use crate::Error;

/// The longest that one index request may take, waiting for its turn included.
const DEADLINE: Duration = Duration::from_secs(120);
/// The most bytes of a `config.json`; what the registry's reader takes.
const MAX_CONFIG_BYTES: u64 = 64 << 10;

/// Bodies larger than this are read a few at a time, so that an upstream cannot fill our memory with many at once.
const LARGE_BYTES: usize = 1 << 20;
const LARGE_AT_ONCE: usize = 4;

/// What is sent along so that upstream may say "not modified".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

/// What upstream said.
#[derive(Debug)]
pub(crate) enum Reply {
    Body {
        bytes: Bytes,
        etag: Option<String>,
        last_modified: Option<String>,
    },
    NotModified,
    Absent,
}

/// Why there is no answer that could be used.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) why: String,
    /// Nothing at all came back: whatever else is asked now would fail as well.
    pub(crate) unreachable: bool,
    /// How long upstream asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of this one thing.
    pub(crate) fn of_one(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            unreachable: false,
            retry_after: None,
        }
    }
}

/// A sparse index somewhere else, asked for single files.
#[derive(Debug)]
pub(crate) struct UpstreamSparse {
    http: UpstreamHttp,
    base: UpstreamUrl,
    slots: Semaphore,
    large: Semaphore,
    requests: AtomicU64,
    not_modified: AtomicU64,
}

impl UpstreamSparse {
    /// `base` is an http or https address; its host is trusted with a private address, but gets no token by this.
    pub(crate) fn new(http: UpstreamHttp, base: &str, requests_at_once: usize) -> Result<Self, Error> {
        let slash = if base.ends_with('/') { "" } else { "/" };
        let base: UpstreamUrl = format!("{base}{slash}").parse().map_err(Error::UpstreamAddress)?;
        http.trust(base.authority().clone(), None);
        Ok(Self {
            http,
            base,
            slots: Semaphore::new(requests_at_once.max(1)),
            large: Semaphore::new(LARGE_AT_ONCE),
            requests: AtomicU64::new(0),
            not_modified: AtomicU64::new(0),
        })
    }

    pub(crate) fn base(&self) -> &UpstreamUrl {
        &self.base
    }

    /// Requests sent, and how many of them were answered with "not modified".
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.not_modified.load(Ordering::Relaxed),
        )
    }

    /// Asks for one index file. A "not modified" that nothing was said to earn is asked again, once.
    pub(crate) async fn index_file(&self, path: &IndexPath, condition: &Condition) -> Result<Reply, Failure> {
        let reply = self.ask(path.as_str(), MAX_FILE_BYTES as u64, condition, false).await?;
        let bare = Condition::default();
        if !matches!(reply, Reply::NotModified) || *condition != bare {
            return Ok(reply);
        }
        match self.ask(path.as_str(), MAX_FILE_BYTES as u64, &bare, true).await? {
            Reply::NotModified => Err(Failure::of_one("upstream answers 304 to a request without a condition")),
            reply => Ok(reply),
        }
    }

    /// Asks for `config.json`.
    pub(crate) async fn config_json(&self) -> Result<Bytes, Failure> {
        match self
            .ask("config.json", MAX_CONFIG_BYTES, &Condition::default(), false)
            .await?
        {
            Reply::Body { bytes, .. } => Ok(bytes),
            Reply::NotModified => Err(Failure::of_one("upstream answers 304 to a request without a condition")),
            Reply::Absent => Err(Failure::of_one(format!("{}config.json does not exist", self.base))),
        }
    }

    async fn ask(&self, file: &str, max_body: u64, condition: &Condition, fresh: bool) -> Result<Reply, Failure> {
        let deadline = Instant::now() + DEADLINE;
        let _slot = turn(&self.slots, deadline).await?;
        let url = self.base.join(file).map_err(|error| failure(&error))?;
        let mut request = Request::get(url, max_body);
        request.deadline = Some(deadline);
        request.fresh_connection = fresh;
        if let Some(etag) = &condition.etag {
            request = request.with_header("if-none-match", etag);
        }
        if let Some(last_modified) = &condition.last_modified {
            request = request.with_header("if-modified-since", last_modified);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let response = self.http.get(request).await.map_err(|error| failure(&error))?;
        self.read(response, deadline).await
    }

    async fn read(&self, response: Response, deadline: Instant) -> Result<Reply, Failure> {
        match response.status {
            200 => {
                let bytes = self.collect(response.body, deadline).await?;
                Ok(Reply::Body {
                    bytes,
                    etag: response.etag,
                    last_modified: response.last_modified,
                })
            }
            304 => {
                self.not_modified.fetch_add(1, Ordering::Relaxed);
                Ok(Reply::NotModified)
            }
            404 | 410 | 451 => Ok(Reply::Absent),
            status => Err(Failure {
                why: format!("upstream answered with status {status} for {}", response.url),
                unreachable: false,
                retry_after: response.retry_after.filter(|_| matches!(status, 429 | 503)),
            }),
        }
    }

    /// The whole body, which the client holds to the request's limit.
    async fn collect(&self, mut body: Body, deadline: Instant) -> Result<Bytes, Failure> {
        let mut bytes = BytesMut::new();
        let mut large = None;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| failure(&error))?;
            if large.is_none() && bytes.len() + piece.len() > LARGE_BYTES {
                large = Some(turn(&self.large, deadline).await?);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }
}

async fn turn(semaphore: &Semaphore, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
    match tokio::time::timeout_at(deadline.into(), semaphore.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Failure::of_one("too many index requests are under way upstream")),
    }
}

fn failure(error: &upstream_http::Error) -> Failure {
    use upstream_http::Error as Http;
    let unreachable = matches!(
        error,
        Http::Resolve { .. }
            | Http::Address { .. }
            | Http::Connect { .. }
            | Http::Tls { .. }
            | Http::ProxyRefused { .. }
            | Http::HeadTimeout { .. }
            | Http::Stopped
    );
    Failure {
        why: with_sources(error),
        unreachable,
        retry_after: None,
    }
}

/// The error and all that caused it, in one line.
pub(crate) fn with_sources(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
