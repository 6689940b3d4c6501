//! gix's way out: its HTTP requests travel through `upstream_http`, with the mirror's proxy, roots, token and time limits.

use std::any::Any;
use std::io::{self, BufRead, Cursor, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gix::protocol::transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use upstream_http::{Body, Request, UpstreamHttp, UpstreamUrl};

use crate::memory::locked;
use crate::upstream_sparse::with_sources;

/// The most bytes of one answer: a whole index with all of upstream's history is a tenth of it.
const MAX_ANSWER_BYTES: u64 = 8 << 30;
/// The most bytes of an answer that lists references, which are held in memory: some two hundred thousand of them.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The most bytes that are posted: what we want and have, at about fifty bytes each.
const MAX_POST_BYTES: usize = 8 << 20;

/// A connection to one upstream. Blocks: not for an async thread.
pub(super) struct GitHttp {
    way: Arc<Way>,
    redirected: Option<String>,
}

struct Way {
    http: UpstreamHttp,
    runtime: Handle,
    stop: watch::Receiver<bool>,
    deadline: Deadline,
    received: Arc<AtomicU64>,
}

/// How long all requests of one fetch may take together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    pub(super) fn after(after: Duration) -> Self {
        let at = Instant::now() + after;
        Self { at, after }
    }

    fn passed(self) -> io::Error {
        let said = format!("upstream has not sent all of it within {:?}", self.after);
        io::Error::new(io::ErrorKind::TimedOut, said)
    }
}

impl Way {
    /// Waits for `future`, unless the mirror stops first or the fetch has taken too long.
    fn wait<T>(&self, future: impl Future<Output = T>) -> io::Result<T> {
        let mut stop = self.stop.clone();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                // A sender that is gone is a mirror that is gone.
                _ = stop.wait_for(|stop| *stop) => Err(io::Error::new(io::ErrorKind::Interrupted, "the mirror stops")),
                // Also before something that is there: a byte now and then does not put it off.
                () = tokio::time::sleep_until(self.deadline.at) => Err(self.deadline.passed()),
                done = future => Ok(done),
            }
        })
        // `Interrupted` would be tried again by whoever reads.
        .map_err(io::Error::other)
    }
}

impl GitHttp {
    pub(super) fn new(
        http: UpstreamHttp,
        runtime: Handle,
        stop: watch::Receiver<bool>,
        deadline: Deadline,
        received: Arc<AtomicU64>,
    ) -> Self {
        Self {
            way: Arc::new(Way {
                http,
                runtime,
                stop,
                deadline,
                received,
            }),
            redirected: None,
        }
    }

    fn exchange(
        &self,
        url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        post: Option<Vec<u8>>,
    ) -> io::Result<Exchange> {
        let url: UpstreamUrl = url.parse().map_err(io::Error::other)?;
        let mut request = Request::get(url, MAX_ANSWER_BYTES);
        let mut content_type = String::new();
        for header in headers {
            let Some((name, value)) = header.as_ref().split_once(':') else {
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                // We say who we are, and have a token of our own.
                "user-agent" | "authorization" => {}
                "content-type" => value.trim().clone_into(&mut content_type),
                _ => request = request.with_header(name, value.trim()),
            }
        }
        Ok(Exchange {
            way: Arc::clone(&self.way),
            next: Next::Request {
                request,
                content_type,
                post,
            },
            headers: Vec::new(),
            url: String::new(),
        })
    }
}

/// One request and its answer.
struct Exchange {
    way: Arc<Way>,
    next: Next,
    headers: Vec<u8>,
    /// Where the answer came from.
    url: String,
}

enum Next {
    /// To be sent once somebody reads the answer: then what is posted is whole.
    Request {
        request: Request,
        content_type: String,
        post: Option<Vec<u8>>,
    },
    Answer {
        body: Body,
        /// How many more bytes of it are taken.
        left: u64,
    },
    Nothing,
}

impl Exchange {
    /// Sends the request, if that has not happened yet.
    fn send(&mut self) -> io::Result<()> {
        let (request, content_type, post) = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Request {
                request,
                content_type,
                post,
            } => (request, content_type, post),
            other => {
                self.next = other;
                return Ok(());
            }
        };
        let is_fetch = post.as_ref().is_some_and(|post| !is_list(post));
        let left = if is_fetch { MAX_ANSWER_BYTES } else { MAX_LIST_BYTES };
        let way = Arc::clone(&self.way);
        let sent = way.wait(async {
            match post {
                None => way.http.get(request).await,
                Some(post) => way.http.post(request, &content_type, Bytes::from(post)).await,
            }
        })?;
        let response = sent.map_err(|error| io::Error::other(with_sources(&error)))?;
        if response.status != 200 {
            let said = format!("upstream answered with status {} for {}", response.status, response.url);
            return Err(io::Error::other(said));
        }
        self.headers = format!("Content-Type: {}\n", response.content_type.unwrap_or_default()).into_bytes();
        self.url = response.url.to_string();
        let body = response.body;
        self.next = Next::Answer { body, left };
        Ok(())
    }

    fn next_piece(&mut self) -> io::Result<Bytes> {
        self.send()?;
        let Next::Answer { body, left } = &mut self.next else {
            return Ok(Bytes::new());
        };
        match self.way.wait(body.next())? {
            Some(Ok(piece)) => {
                self.way.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
                *left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                    let limit = MAX_LIST_BYTES >> 20;
                    io::Error::other(format!("upstream lists more than {limit} MiB of references"))
                })?;
                Ok(piece)
            }
            Some(Err(error)) => Err(io::Error::other(with_sources(&error))),
            None => {
                self.next = Next::Nothing;
                Ok(Bytes::new())
            }
        }
    }
}

/// Whether what is posted, in protocol 2, asks for references.
fn is_list(post: &[u8]) -> bool {
    post.get(4..).is_some_and(|line| line.starts_with(b"command=ls-refs"))
}

/// An exchange as the three parts that gix has of it see it.
type Shared = Arc<Mutex<Exchange>>;

/// Takes what is posted.
pub(super) struct PostBody(Shared);

impl Write for PostBody {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut locked(&self.0).next {
            Next::Request { post: Some(post), .. } if post.len() + bytes.len() <= MAX_POST_BYTES => {
                post.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Next::Request { .. } => Err(io::Error::other("the request is larger than any that is needed")),
            _ => Err(io::Error::other("the request was sent already")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The headers of an answer, which are waited for at the first read.
pub(super) struct Headers {
    exchange: Shared,
    text: Option<Cursor<Vec<u8>>>,
}

impl Headers {
    fn text(&mut self) -> io::Result<&mut Cursor<Vec<u8>>> {
        if self.text.is_none() {
            let mut exchange = locked(&self.exchange);
            exchange.send()?;
            self.text = Some(Cursor::new(exchange.headers.clone()));
        }
        Ok(self.text.as_mut().expect("it was just put there"))
    }
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.text()?.read(buffer)
    }
}

impl BufRead for Headers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.text()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(text) = &mut self.text {
            text.consume(amount);
        }
    }
}

/// The body of an answer, as it arrives.
pub(super) struct ResponseBody {
    exchange: Shared,
    piece: Bytes,
}

impl Read for ResponseBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for ResponseBody {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() {
            self.piece = locked(&self.exchange).next_piece()?;
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        // The range is what `fill_buf` gave.
        self.piece = self.piece.slice(amount.min(self.piece.len())..);
    }
}

fn parts(exchange: Exchange) -> (Headers, ResponseBody, PostBody) {
    let exchange = Arc::new(Mutex::new(exchange));
    let headers = Headers {
        exchange: Arc::clone(&exchange),
        text: None,
    };
    let body = ResponseBody {
        exchange: Arc::clone(&exchange),
        piece: Bytes::new(),
    };
    (headers, body, PostBody(exchange))
}

impl Http for GitHttp {
    type Headers = Headers;
    type ResponseBody = ResponseBody;
    type PostBody = PostBody;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Headers, ResponseBody>> {
        let mut exchange = self.exchange(url, headers, None).map_err(gix::Error::from_error)?;
        exchange.send().map_err(gix::Error::from_error)?;
        // What follows is asked where the first answer came from.
        let tail = url.strip_prefix(base_url).unwrap_or_default();
        if let Some(base) = exchange.url.strip_suffix(tail)
            && base != base_url
        {
            self.redirected = Some(base.to_owned());
        }
        let (headers, body, _) = parts(exchange);
        Ok(GetResponse { headers, body })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Headers, ResponseBody, PostBody>> {
        let exchange = self.exchange(url, headers, Some(Vec::new()));
        let (headers, body, post_body) = parts(exchange.map_err(gix::Error::from_error)?);
        Ok(PostResponse {
            post_body,
            headers,
            body,
        })
    }

    fn configure(&mut self, _config: &dyn Any) -> gix::Result {
        // Nothing of git's configuration has a say here.
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.redirected.clone()
    }
}
