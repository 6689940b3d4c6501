//! A disk on which one call fails: the first, the second, and so on, until what the cache does all day passes untouched.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::io::Errno;

use super::*;

const SMALL: &str = "/files/small.crate";
const LARGE: &str = "/files/large.crate";

/// Lets calls through until one is to fail.
#[derive(Debug, Default)]
struct Counted {
    /// Calls until the one that fails; it was that one's turn when this is 0.
    left: AtomicU64,
}

impl Counted {
    const NEVER: u64 = u64::MAX;

    fn fail_after(&self, calls: u64) {
        self.left.store(calls, Ordering::Relaxed);
    }

    fn has_failed(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn call(&self, errno: Errno) -> io::Result<()> {
        let one_less = |left: u64| match left {
            0 | Self::NEVER => None,
            left => Some(left - 1),
        };
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if before == Ok(1) { Err(errno.into()) } else { Ok(()) }
    }
}

struct Scenario {
    upstream: FakeUpstream,
    http: UpstreamHttp,
    small: (Vec<u8>, Wanted),
    large: (Vec<u8>, Wanted),
}

impl Scenario {
    fn new() -> Self {
        let upstream = FakeUpstream::start();
        let http = UpstreamHttp::start(upstream_http::Config::new("download-cache's tests")).unwrap();
        http.trust(upstream.authority().parse().unwrap(), None);
        let file = |path: &str, size: usize| {
            let bytes = noise(size);
            upstream.serve_at(path, &bytes);
            let wanted = wanted(&bytes);
            (bytes, wanted)
        };
        let (small, large) = (file(SMALL, 20_000), file(LARGE, 300_000));
        Self {
            upstream,
            http,
            small,
            large,
        }
    }

    fn open(&self, data: &Path, errno: Errno, calls: &Arc<Counted>) -> Result<DownloadCache, Error> {
        let mut config = Config::new(data);
        config.attempts = 1;
        config.remember_failure = Duration::ZERO;
        // Nothing stays in memory, so that everything is read from disk.
        config.memory_bytes = 0;
        let counted = calls.clone();
        config.fault_hook = Some(Arc::new(move |_| counted.call(errno)));
        DownloadCache::open(config, self.http.clone(), |_| {})
    }

    /// Fill, open, verify, evict, rot, fill again. Whatever fails, no step gives wrong bytes.
    async fn run(&self, cache: &DownloadCache) {
        for ((bytes, wanted), path) in [(&self.small, SMALL), (&self.large, LARGE)] {
            self.get(cache, wanted, path, bytes).await;
            match soon(cache.open_kept(&wanted.checksum)).await {
                Ok(Some(kept)) => assert!(kept.read_at(0, usize::MAX).map_or(true, |read| read == bytes)),
                Ok(None) => {}
                Err(error) => assert!(error.is_local(), "{error:?}"),
            }
            let verdict = cache.verify(&wanted.checksum);
            assert!(!matches!(verdict, Ok(Verdict::Bad { .. })), "{verdict:?}");
            let _ = cache.evict_unused(&wanted.checksum);
            self.get(cache, wanted, path, bytes).await;
            // Another length, since two writes within a tick of the file system's clock look like one.
            let _ = fs::write(cache.inner.blobs.path(&wanted.checksum), &bytes[1..]);
            self.get(cache, wanted, path, bytes).await;
            let listed = cache.checksums_in(wanted.checksum.as_bytes()[0]);
            assert!(listed.map_or_else(|error| error.is_local(), |kept| kept.len() <= 1));
        }
    }

    /// Asks for a file; `false` if that failed, and then for a reason of the disk.
    async fn get(&self, cache: &DownloadCache, wanted: &Wanted, path: &str, bytes: &[u8]) -> bool {
        let url = format!("{}{path}", self.upstream.base_url()).parse().unwrap();
        let error = match soon(cache.fetch(wanted.clone(), url)).await {
            Ok(CrateFile::Kept(kept)) => match kept.read_at(0, usize::MAX) {
                Ok(read) => {
                    assert!(read == bytes);
                    return true;
                }
                Err(error) => Error::disk("read", Path::new("kept"), error),
            },
            Ok(CrateFile::Filling(waiter)) => match read(waiter).await {
                Ok(read) => {
                    assert!(read == bytes);
                    return true;
                }
                Err(cut) => cut.error,
            },
            Err(error) => error,
        };
        assert!(error.is_local(), "not the disk's fault, or a panic: {error:?}");
        false
    }

    /// After the trouble: the next requests are right, what is kept is whole, and nothing unfinished is left.
    async fn is_well(&self, cache: &DownloadCache, data: &Path) {
        for ((bytes, wanted), path) in [(&self.small, SMALL), (&self.large, LARGE)] {
            cache.evict(&wanted.checksum).unwrap();
            for _ in 0..2 {
                assert!(self.get(cache, wanted, path, bytes).await);
            }
            let kept = soon(cache.open_kept(&wanted.checksum)).await.unwrap().unwrap();
            assert!(whole(&kept) == *bytes);
        }
        assert_eq!(cache.drain(SOON).await, 0);
        assert_eq!(entries(&data.join("tmp")), 0);
        assert_whole(data);
    }
}

/// Every file in `blobs/` has the bytes of its name, or is set aside.
fn assert_whole(data: &Path) {
    for folder in fs::read_dir(data.join("blobs")).unwrap() {
        let folder = folder.unwrap();
        if folder.file_name() == "bad" {
            continue;
        }
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let bytes = fs::read(file.path()).unwrap();
            assert_eq!(Checksum::of(&bytes).to_hex(), file.file_name().to_str().unwrap());
        }
    }
}

async fn every_call(errno: Errno) {
    let scenario = Scenario::new();
    let mut call = 0;
    loop {
        call += 1;
        let data = tempfile::tempdir().unwrap();
        let calls = Arc::new(Counted::default());
        calls.fail_after(call);
        let opened = scenario.open(data.path(), errno, &calls);
        let cache = match opened {
            Ok(cache) => {
                scenario.run(&cache).await;
                cache
            }
            Err(error) => {
                assert!(error.is_local() && calls.has_failed(), "{error:?}");
                scenario.open(data.path(), errno, &calls).unwrap()
            }
        };
        let failed = calls.has_failed();
        calls.fail_after(Counted::NEVER);
        scenario.is_well(&cache, data.path()).await;
        if !failed {
            break;
        }
    }
    assert!(call > 50, "only {call} calls: the hook is not asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk() {
    every_call(Errno::NOSPC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_disk() {
    every_call(Errno::IO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_open_files() {
    every_call(Errno::MFILE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_turned_read_only() {
    every_call(Errno::ROFS).await;
}
