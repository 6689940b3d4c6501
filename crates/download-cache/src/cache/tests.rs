//! Real fills from a fake upstream on the loopback.

use std::{fs, path::Path, pin::pin, task::Waker};

use testkit::{FakeUpstream, Fault, Times};

use super::*;

mod disk;
mod every_call_fails;
mod faults;
mod opening;
mod sharing;

/// Much longer than anything here takes; only a hang gets there.
const SOON: Duration = Duration::from_secs(30);
/// Where the file is that all tests ask for.
const PATH: &str = "/files/x.crate";

struct Fixture {
    upstream: FakeUpstream,
    cache: DownloadCache,
    events: Arc<Mutex<Vec<Event>>>,
    data: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// With other limits than quick retries and patient connections.
    fn with(change: impl FnOnce(&mut Config, &mut upstream_http::Config)) -> Self {
        let upstream = FakeUpstream::start();
        let data = tempfile::tempdir().unwrap();
        let mut config = Config::new(data.path());
        config.backoff = Duration::from_millis(1);
        let mut http = upstream_http::Config::new("download-cache's tests");
        http.stall_timeout = SOON;
        change(&mut config, &mut http);
        let http = UpstreamHttp::start(http).unwrap();
        http.trust(upstream.authority().parse().unwrap(), None);
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = events.clone();
        let cache = DownloadCache::open(config, http, move |event| told.lock().unwrap().push(event)).unwrap();
        Self {
            upstream,
            cache,
            events,
            data,
        }
    }

    fn url(&self, path: &str) -> UpstreamUrl {
        format!("{}{path}", self.upstream.base_url()).parse().unwrap()
    }

    /// A file at [`PATH`].
    fn file(&self, size: usize) -> (Vec<u8>, Wanted) {
        let bytes = noise(size);
        self.upstream.serve_at(PATH, &bytes);
        let wanted = wanted(&bytes);
        (bytes, wanted)
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<CrateFile, Error> {
        self.cache.fetch(wanted.clone(), self.url(PATH)).await
    }

    async fn waiter(&self, wanted: &Wanted) -> Waiter {
        match self.fetch(wanted).await.unwrap() {
            CrateFile::Filling(waiter) => waiter,
            CrateFile::Kept(_) => panic!("{wanted} is kept already"),
        }
    }

    /// Fetches a file that is not there, to the end of its fill.
    async fn fill(&self, wanted: &Wanted) -> Result<Vec<u8>, Cut> {
        let waiter = self.waiter(wanted).await;
        read(waiter).await
    }

    /// Asks for a file whose fill fails, and gives the reason.
    async fn failure(&self, wanted: &Wanted) -> Error {
        let cut = self.fill(wanted).await.unwrap_err();
        assert!(self.cache.kept(&wanted.checksum).unwrap().is_none());
        assert_eq!(self.unfinished(), 0);
        assert_eq!(self.cache.stats().fills_failed, 1);
        self.nothing_told();
        cut.error
    }

    /// The owner of the cache was told of no kept file.
    fn nothing_told(&self) {
        let events = self.events.lock().unwrap();
        assert!(events.is_empty(), "{events:?}");
    }

    fn unfinished(&self) -> usize {
        entries(&self.data.path().join("tmp"))
    }

    fn requests(&self) -> usize {
        self.upstream.count(PATH)
    }
}

/// What a waiter had when its fill failed.
#[derive(Debug)]
struct Cut {
    bytes: Vec<u8>,
    error: Error,
}

async fn read(mut waiter: Waiter) -> Result<Vec<u8>, Cut> {
    soon(async {
        let begun_at = waiter.position();
        let mut bytes = Vec::new();
        while let Some(piece) = waiter.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(error) => {
                    assert!(waiter.next().await.is_none(), "there is nothing after an error");
                    return Err(Cut { bytes, error });
                }
            }
            assert_eq!(waiter.position(), begun_at + bytes.len() as u64);
        }
        Ok(bytes)
    })
    .await
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("this does not hang")
}

/// What a future says now.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// Bytes without a pattern that a mix-up of offsets would keep.
fn noise(size: usize) -> Vec<u8> {
    let mut state = size as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(next).collect()
}

fn wanted(bytes: &[u8]) -> Wanted {
    Wanted {
        name: "x".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        checksum: Checksum::of(bytes),
    }
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

fn whole(kept: &KeptFile) -> Vec<u8> {
    kept.read_at(0, usize::MAX).unwrap().to_vec()
}
