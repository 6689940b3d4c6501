//! What is on disk, and disks that are full or broken.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_files_outlive_the_cache_and_leftovers_do_not() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1000);
    fixture.fill(&wanted).await.unwrap();
    let leftover = fixture.data.path().join("tmp/fill-0123-4");
    fs::write(&leftover, "half a file").unwrap();

    let http = UpstreamHttp::start(upstream_http::Config::new("test")).unwrap();
    let next = DownloadCache::open(Config::new(fixture.data.path()), http, |_| {}).unwrap();
    assert!(!leftover.exists());
    let mut kept = Vec::new();
    next.for_each_kept(|checksum, size_bytes| kept.push((checksum, size_bytes)))
        .unwrap();
    assert_eq!(kept, [(wanted.checksum, 1000)]);
    assert_eq!(next.verify(&wanted.checksum).unwrap(), Verdict::Good);
    assert!(whole(&next.kept(&wanted.checksum).unwrap().unwrap()) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evicted_and_rotten_files_are_fetched_again() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1000);
    fixture.fill(&wanted).await.unwrap();
    assert_eq!(fixture.cache.evict(&wanted.checksum).unwrap(), Some(1000));
    fixture.fill(&wanted).await.unwrap();
    assert_eq!(fixture.requests(), 2);

    fs::write(fixture.cache.inner.blobs.path(&wanted.checksum), "rot").unwrap();
    let verdict = fixture.cache.verify(&wanted.checksum).unwrap();
    assert_eq!(
        verdict,
        Verdict::Bad {
            actual: Checksum::of(b"rot")
        }
    );
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    assert_eq!(fixture.requests(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_little_space_files_are_passed_on_and_not_kept() {
    let free = Arc::new(AtomicU64::new(99_999));
    let asked = free.clone();
    let fixture = Fixture::with(|config, _| {
        config.min_free_bytes = 100_000;
        config.free_bytes = Arc::new(move |_| Ok(asked.load(Ordering::Relaxed)));
    });
    let (bytes, wanted_small) = fixture.file(90_000);
    assert!(fixture.fill(&wanted_small).await.unwrap() == bytes);
    assert!(fixture.cache.kept(&wanted_small.checksum).unwrap().is_none());
    assert_eq!(fixture.unfinished(), 0);
    let stats = fixture.cache.stats();
    assert_eq!((stats.fills_ok, stats.fills_not_kept, stats.fills_failed), (1, 1, 0));
    fixture.nothing_told();

    // It heals when there is space again.
    free.store(100_000, Ordering::Relaxed);
    fixture.fill(&wanted_small).await.unwrap();
    assert!(fixture.cache.kept(&wanted_small.checksum).unwrap().is_some());

    // What does not fit at all goes through memory, unless it is large.
    free.store(0, Ordering::Relaxed);
    let (bytes, wanted) = fixture.file(100_001);
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    assert!(fixture.cache.kept(&wanted.checksum).unwrap().is_none());
    let (_, wanted) = fixture.file((8 << 20) + 1);
    let error = fixture.fill(&wanted).await.unwrap_err().error;
    let expected = Some((8 << 20) + 1);
    assert!(
        matches!(error, Error::NoSpace { needed_bytes } if needed_bytes == expected),
        "{error:?}"
    );
    assert!(error.is_local() && error.is_temporary());
    assert_eq!(fixture.unfinished(), 0);
}

/// Takes no more bytes while it is full; memory does.
#[derive(Clone, Default)]
struct FillingDisk {
    is_full: Arc<AtomicBool>,
    goes_to_memory: Arc<AtomicBool>,
}

impl FillingDisk {
    fn fixture(&self) -> Fixture {
        let disk = self.clone();
        Fixture::with(|config, _| config.fault_hook = Some(Arc::new(move |operation| disk.before(operation))))
    }

    fn fill(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
        self.goes_to_memory.store(false, Ordering::Relaxed);
    }

    fn before(&self, operation: &str) -> std::io::Result<()> {
        match operation {
            "create in memory" => self.goes_to_memory.store(true, Ordering::Relaxed),
            "write" if self.is_full.load(Ordering::Relaxed) && !self.went_to_memory() => {
                return Err(Errno::NOSPC.into());
            }
            _ => {}
        }
        Ok(())
    }

    fn went_to_memory(&self) -> bool {
        self.goes_to_memory.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_in_the_middle_costs_no_client() {
    let disk = FillingDisk::default();
    let fixture = disk.fixture();
    let (bytes, wanted) = fixture.file(3 << 20);
    let gate = fixture.upstream.hold_after(PATH, 1 << 20);
    let later = fixture.waiter(&wanted).await;
    let mut quick = fixture.waiter(&wanted).await;
    let mut had = soon(quick.next()).await.unwrap().unwrap().to_vec();
    assert_eq!(fixture.unfinished(), 1);
    disk.fill(true);
    gate.open();
    had.extend(read(quick).await.unwrap());
    assert!(had == bytes && read(later).await.unwrap() == bytes);
    assert!(disk.went_to_memory());
    assert!(fixture.cache.kept(&wanted.checksum).unwrap().is_none());
    assert_eq!(fixture.unfinished(), 0);
    let stats = fixture.cache.stats();
    assert_eq!((stats.fills_ok, stats.fills_not_kept, stats.fills_failed), (1, 1, 0));
    assert_eq!(fixture.requests(), 1);
    fixture.nothing_told();

    // It heals when there is space again.
    disk.fill(false);
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    assert!(whole(&fixture.cache.kept(&wanted.checksum).unwrap().unwrap()) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_goes_on_in_memory_over_attempts_and_without_a_length() {
    for trouble in [Fault::CutAfter(2 << 20), Fault::Chunked, Fault::ChunkedCut] {
        let disk = FillingDisk::default();
        let fixture = disk.fixture();
        let (bytes, wanted) = fixture.file(3 << 20);
        let name = format!("{trouble:?}");
        disk.fill(true);
        fixture.upstream.fault(PATH, trouble, Times::Once);
        let filled = fixture.fill(&wanted).await;
        assert!(filled.is_ok_and(|filled| filled == bytes), "{name}");
        assert!(disk.went_to_memory(), "{name}");
        assert_eq!(fixture.unfinished(), 0, "{name}");
        assert!(fixture.cache.kept(&wanted.checksum).unwrap().is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_memory_is_refused_by_a_disk_that_fills_up() {
    for trouble in [None, Some(Fault::Chunked)] {
        let disk = FillingDisk::default();
        let fixture = disk.fixture();
        let (bytes, wanted) = fixture.file((8 << 20) + 1);
        if let Some(trouble) = trouble {
            fixture.upstream.fault(PATH, trouble, Times::Always);
        }
        disk.fill(true);
        let cut = fixture.fill(&wanted).await.unwrap_err();
        assert!(matches!(cut.error, Error::NoSpace { .. }), "{:?}", cut.error);
        assert!(cut.error.is_local() && cut.error.is_temporary());
        assert!(cut.bytes.len() < bytes.len() && bytes.starts_with(&cut.bytes));
        assert_eq!((fixture.unfinished(), fixture.requests()), (0, 1));
        fixture.nothing_told();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_kept_is_passed_on() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(300_000);
    let gate = fixture.upstream.hold(PATH);
    let waiter = fixture.waiter(&wanted).await;
    assert!(gate.wait_reached(1, SOON));
    fs::remove_dir_all(fixture.data.path().join("blobs")).unwrap();
    gate.open();
    assert!(read(waiter).await.unwrap() == bytes);
    assert_eq!(fixture.unfinished(), 0);
    assert_eq!(fixture.cache.stats().fills_not_kept, 1);
    fixture.nothing_told();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_place_for_unfinished_files_small_ones_are_passed_on() {
    let fixture = Fixture::new();
    fs::remove_dir(fixture.data.path().join("tmp")).unwrap();
    let (bytes, wanted) = fixture.file(300_000);
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    assert_eq!(fixture.cache.stats().fills_not_kept, 1);
    fixture.nothing_told();

    let (_, wanted) = fixture.file((8 << 20) + 1);
    let error = fixture.fill(&wanted).await.unwrap_err().error;
    assert!(error.is_local() && !error.is_temporary(), "{error:?}");
}

#[test]
fn a_cache_needs_a_runtime() {
    let data = tempfile::tempdir().unwrap();
    let http = UpstreamHttp::start(upstream_http::Config::new("test")).unwrap();
    let opened = DownloadCache::open(Config::new(data.path()), http, |_| {});
    assert!(matches!(opened, Err(Error::NoRuntime)));
}

#[test]
fn waiters_hear_of_a_runtime_that_stops() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (fixture, _gate, waiter) = runtime.block_on(async {
        let fixture = Fixture::new();
        let (_, wanted) = fixture.file(1 << 20);
        let gate = fixture.upstream.hold_after(PATH, 300_000);
        let mut waiter = fixture.waiter(&wanted).await;
        soon(waiter.next()).await.unwrap().unwrap();
        (fixture, gate, waiter)
    });
    runtime.shutdown_timeout(SOON);
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = other.block_on(async move {
        let mut waiter = waiter;
        loop {
            if let Err(error) = soon(waiter.next()).await.expect("an error comes before the end") {
                break error;
            }
        }
    });
    assert!(matches!(error, Error::Abandoned), "{error:?}");
    assert_eq!(fixture.unfinished(), 0);
    assert_eq!(fixture.cache.stats().fills_running, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_panics_hangs_nobody() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1000);
    let http = fixture.cache.inner.upstream.clone();
    let config = Config::new(fixture.data.path());
    let cache = DownloadCache::open(config, http, |event| panic!("as this test wants: {event:?}")).unwrap();
    let fetched = cache.fetch(wanted.clone(), fixture.url(PATH)).await.unwrap();
    let CrateFile::Filling(waiter) = fetched else {
        panic!("it is kept already");
    };
    let error = read(waiter).await.unwrap_err().error;
    assert!(matches!(error, Error::Abandoned), "{error:?}");
    assert_eq!(cache.drain(SOON).await, 0);
    assert!(whole(&cache.kept(&wanted.checksum).unwrap().unwrap()) == bytes);
}
