use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use registry::{IndexPath, MAX_FILE_BYTES};
use tokio::sync::{Semaphore, SemaphorePermit};
use upstream_http::{Authority, Body, Proxy, Request, Response, UpstreamHttp, UpstreamUrl};

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

/// What a failure says of whatever else could be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Nothing: upstream itself answered.
    One,
    /// It would fail as well, if it is not this one alone that upstream is silent about.
    Silence,
    /// It would fail as well.
    All,
}

/// Why there is no answer that could be used.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) why: String,
    pub(crate) extent: Extent,
    /// How long we were asked to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of this one thing.
    pub(crate) fn of_one(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            extent: Extent::One,
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
        let url = self.base.join(file).map_err(|error| self.failure(&error))?;
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
        let response = self.http.get(request).await.map_err(|error| self.failure(&error))?;
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
            404 if response.offline_mirror => Err(Failure::of_one(format!(
                "{} is a mirror that is offline and does not keep it",
                self.base
            ))),
            404 | 410 | 451 => Ok(Reply::Absent),
            status => {
                let retry_after = response.retry_after.filter(|_| matches!(status, 429 | 503));
                // Elsewhere nobody can ask for a pause of all requests.
                let own = response.url.authority() == self.base.authority();
                let all = own && retry_after.is_some();
                Err(Failure {
                    why: format!("upstream answered with status {status} for {}", response.url),
                    extent: if all { Extent::All } else { Extent::One },
                    retry_after,
                })
            }
        }
    }

    /// The whole body, which the client holds to the request's limit.
    async fn collect(&self, mut body: Body, deadline: Instant) -> Result<Bytes, Failure> {
        let mut bytes = BytesMut::new();
        let mut large = None;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| self.failure(&error))?;
            if large.is_none() && bytes.len() + piece.len() > LARGE_BYTES {
                large = Some(turn(&self.large, deadline).await?);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    fn failure(&self, error: &upstream_http::Error) -> Failure {
        Failure {
            why: with_sources(error),
            extent: self.extent(error),
            retry_after: None,
        }
    }

    /// Only the way to upstream's own host, or to the proxy before it, says something of other requests: what a redirect
    /// leads to is the business of the one that was asked for.
    fn extent(&self, error: &upstream_http::Error) -> Extent {
        use upstream_http::Error as Http;
        let own = self.base.authority();
        let route = self.http.choose(&self.base);
        let proxy = route.proxy().map(Proxy::authority);
        let is_ours =
            |authority: &str| authority == own.to_string() || proxy.is_some_and(|proxy| authority == proxy.to_string());
        let is_own_url = |url: &str| url.parse::<UpstreamUrl>().is_ok_and(|url| url.authority() == own);
        let all = match error {
            Http::Stopped => true,
            Http::Resolve { host, .. } => {
                let is_host = |authority: &Authority| authority.host().trim_matches(['[', ']']) == host.as_str();
                is_host(own) || proxy.is_some_and(is_host)
            }
            Http::Connect { target, .. } | Http::Tls { target, .. } => is_ours(target),
            // A tunnel was asked for by its host and port, plain http by its whole address.
            Http::ProxyRefused { target, .. } => is_ours(target) || is_own_url(target),
            Http::HeadTimeout { url, .. } if is_own_url(url) => return Extent::Silence,
            _ => false,
        };
        if all { Extent::All } else { Extent::One }
    }
}

async fn turn(semaphore: &Semaphore, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
    match tokio::time::timeout_at(deadline.into(), semaphore.acquire()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Failure::of_one("too many index requests are under way upstream")),
    }
}

/// The error and all that caused it, in one line.
pub(crate) fn with_sources(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Transparent errors repeat what was said already.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use upstream_http::{Config, Error as Http, ProxyConfig};

    use super::*;

    fn extents(proxy: Option<&str>, errors: Vec<Http>) -> Vec<Extent> {
        let mut config = Config::new("mirror-test/0 (nobody@localhost)");
        config.proxy = ProxyConfig {
            setting: proxy.map(str::to_owned),
            ..ProxyConfig::default()
        };
        let http = UpstreamHttp::start(config).unwrap();
        let upstream = UpstreamSparse::new(http, "http://index.test:81/index", 1).unwrap();
        errors.iter().map(|error| upstream.failure(error).extent).collect()
    }

    fn faults_of(host: &str) -> Vec<Http> {
        let (target, url) = (format!("{host}:81"), format!("http://{host}:81/index/se/rd/serde"));
        vec![
            Http::Resolve {
                host: host.to_owned(),
                source: io::ErrorKind::NotFound.into(),
            },
            Http::Connect {
                target: target.clone(),
                detail: String::new(),
            },
            Http::Tls {
                target: target.clone(),
                certificate: true,
                source: io::ErrorKind::InvalidData.into(),
            },
            refusal(&target),
            refusal(&url),
            Http::HeadTimeout {
                url,
                waited: Duration::ZERO,
            },
        ]
    }

    fn refusal(target: &str) -> Http {
        Http::ProxyRefused {
            proxy: "http://proxy.test:3128".to_owned(),
            target: target.to_owned(),
            status: 403,
            status_line: String::new(),
        }
    }

    #[test]
    fn only_the_way_to_upstream_itself_concerns_all_of_it() {
        use Extent::{All, One, Silence};
        assert_eq!(
            extents(None, faults_of("index.test")),
            [All, All, All, All, All, Silence]
        );
        assert_eq!(extents(None, faults_of("other.test")), [One; 6]);
        let proxy = || Http::Connect {
            target: "proxy.test:3128".to_owned(),
            detail: String::new(),
        };
        let url = "http://index.test:81/index/se/rd/serde".to_owned();
        let own = vec![proxy(), Http::Stopped, Http::Deadline { url }];
        assert_eq!(extents(Some("http://proxy.test:3128"), own), [All, All, One]);
        assert_eq!(extents(None, vec![proxy()]), [One]);
    }
}
