//! What is given of kept files: checked bytes, from memory or disk, and never bad ones.

use std::{
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;

const SMALL: usize = 20_000;
const LARGE: usize = 400_000;

fn blob(fixture: &Fixture, wanted: &Wanted) -> std::path::PathBuf {
    fixture.cache.inner.blobs.path(&wanted.checksum)
}

/// Changes one byte and nothing else.
fn flip(path: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1000).unwrap();
}

/// The same data directory, opened anew.
fn reopened(fixture: &Fixture, change: impl FnOnce(&mut Config)) -> DownloadCache {
    let mut config = Config::new(fixture.data.path());
    change(&mut config);
    let told = fixture.events.clone();
    let http = fixture.cache.inner.upstream.clone();
    DownloadCache::open(config, http, move |event| told.lock().unwrap().push(event)).unwrap()
}

async fn open(cache: &DownloadCache, wanted: &Wanted) -> Option<KeptFile> {
    soon(cache.open_kept(&wanted.checksum)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_come_from_memory_and_large_ones_from_disk() {
    let fixture = Fixture::new();
    let (small, wanted_small) = fixture.file(SMALL);
    assert!(open(&fixture.cache, &wanted_small).await.is_none());
    fixture.fill(&wanted_small).await.unwrap();
    let (large, wanted_large) = fixture.file(LARGE);
    fixture.fill(&wanted_large).await.unwrap();

    // A fill puts it there at once: no file is opened.
    fs::rename(blob(&fixture, &wanted_small), fixture.data.path().join("elsewhere")).unwrap();
    let kept = open(&fixture.cache, &wanted_small).await.unwrap();
    assert!(kept.whole().unwrap() == small && whole(&kept) == small);
    assert!(kept.read_now(5, 10).unwrap().unwrap() == small[5..15]);
    assert!(kept.read_at(SMALL as u64 - 3, 10).unwrap() == small[SMALL - 3..]);
    assert!(kept.read_at(SMALL as u64 + 3, 10).unwrap().is_empty());
    let stats = fixture.cache.stats();
    assert!(stats.memory_hits == 1 && stats.memory_bytes > SMALL as u64, "{stats:?}");

    let kept = open(&fixture.cache, &wanted_large).await.unwrap();
    assert!(kept.whole().is_none() && whole(&kept) == large);
    assert_eq!(kept.size_bytes, LARGE as u64);
    // A file that was just read is in the page cache; a file system that cannot tell says nothing.
    if let Some(now) = kept.read_now(1000, 64 << 10).unwrap() {
        assert!(!now.is_empty() && large[1000..].starts_with(&now));
    }
    assert!(kept.read_now(LARGE as u64, 10).unwrap().unwrap().is_empty());
    assert!(kept.read_at(LARGE as u64 + 1, 10).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_bytes_are_set_aside_and_fetched_again() {
    let fixture = Fixture::new();
    for size in [SMALL, LARGE] {
        let (bytes, wanted) = fixture.file(size);
        fixture.fill(&wanted).await.unwrap();
        flip(&blob(&fixture, &wanted));
        let cache = reopened(&fixture, |_| {});
        assert!(open(&cache, &wanted).await.is_none());
        let bad = fixture.data.path().join("blobs/bad").join(wanted.checksum.to_hex());
        assert!(bad.exists() && !blob(&fixture, &wanted).exists());
        assert!(cache.is_set_aside(&wanted.checksum));
        let told = fixture.events.lock().unwrap().last().cloned();
        assert!(matches!(told, Some(Event::Bad { checksum }) if checksum == wanted.checksum));
        assert_eq!(cache.stats().bad_files, 1);

        let fetched = cache.fetch(wanted.clone(), fixture.url(PATH)).await.unwrap();
        let CrateFile::Filling(waiter) = fetched else {
            panic!("it is there already");
        };
        assert!(read(waiter).await.unwrap() == bytes);
        assert!(whole(&open(&cache, &wanted).await.unwrap()) == bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetching_what_turns_out_bad_is_a_fill() {
    let fixture = Fixture::with(|config, _| config.memory_bytes = 0);
    for size in [SMALL, LARGE] {
        let (bytes, wanted) = fixture.file(size);
        fixture.fill(&wanted).await.unwrap();
        // A large one was hashed when it came; that somebody wrote to it since then makes that worthless.
        fs::write(blob(&fixture, &wanted), &bytes[1..]).unwrap();
        assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    }
    assert_eq!(fixture.cache.stats().bad_files, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_file_that_cannot_be_read_is_fetched_again() {
    let fixture = Fixture::with(|config, _| {
        config.memory_bytes = 0;
        let reads = AtomicU64::new(0);
        // The first read is the waiter's, of the unfinished file; the second one is of the kept file.
        config.fault_hook = Some(Arc::new(move |operation| {
            let broken = operation == "read" && reads.fetch_add(1, Ordering::Relaxed) == 1;
            if broken {
                Err(io::Error::from_raw_os_error(5))
            } else {
                Ok(())
            }
        }));
    });
    let (bytes, wanted) = fixture.file(SMALL);
    fixture.fill(&wanted).await.unwrap();
    let waiter = fixture.waiter(&wanted).await;
    assert!(read(waiter).await.unwrap() == bytes);
    assert_eq!(fixture.requests(), 2);
    assert!(whole(&open(&fixture.cache, &wanted).await.unwrap()) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_hashed_once_for_all_who_want_it() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(LARGE);
    fixture.fill(&wanted).await.unwrap();
    let reads = Arc::new(AtomicU64::new(0));
    let counted = reads.clone();
    let cache = reopened(&fixture, |config| {
        config.fault_hook = Some(Arc::new(move |operation| {
            counted.fetch_add(u64::from(operation == "read"), Ordering::Relaxed);
            Ok(())
        }));
    });
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (cache, checksum) = (cache.clone(), wanted.checksum);
            tokio::spawn(async move { cache.open_kept(&checksum).await.unwrap().unwrap() })
        })
        .collect();
    let mut kept = Vec::new();
    for client in clients {
        kept.push(soon(client).await.unwrap());
    }
    assert_eq!(reads.load(Ordering::Relaxed), LARGE.div_ceil(256 << 10) as u64);
    assert!(whole(&kept[7]) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_use_stays_and_an_evicted_one_is_gone() {
    let fixture = Fixture::new();
    let (_, small) = fixture.file(SMALL);
    fixture.fill(&small).await.unwrap();
    let (bytes, large) = fixture.file(LARGE);
    fixture.fill(&large).await.unwrap();

    let kept = open(&fixture.cache, &large).await.unwrap();
    assert_eq!(fixture.cache.evict_unused(&large.checksum).unwrap(), Eviction::InUse);
    assert!(whole(&kept) == bytes);
    drop(kept);
    let freed = Eviction::Freed(LARGE as u64);
    assert_eq!(fixture.cache.evict_unused(&large.checksum).unwrap(), freed);
    assert_eq!(fixture.cache.evict_unused(&large.checksum).unwrap(), Eviction::Absent);
    assert!(open(&fixture.cache, &large).await.is_none());

    let freed = Eviction::Freed(SMALL as u64);
    assert_eq!(fixture.cache.evict_unused(&small.checksum).unwrap(), freed);
    assert!(open(&fixture.cache, &small).await.is_none(), "not from memory either");
    assert_eq!(fixture.cache.stats().memory_bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_verifying_cannot_read_is_fetched_again_though_memory_has_it() {
    let broken = Arc::new(AtomicU64::new(0));
    let now = broken.clone();
    let fixture = Fixture::with(|config, _| {
        config.fault_hook = Some(Arc::new(move |operation| {
            let fails = operation == "read" && now.load(Ordering::Relaxed) == 1;
            if fails {
                Err(io::Error::from_raw_os_error(5))
            } else {
                Ok(())
            }
        }));
    });
    let (bytes, wanted) = fixture.file(SMALL);
    fixture.fill(&wanted).await.unwrap();
    broken.store(1, Ordering::Relaxed);
    assert!(
        whole(&open(&fixture.cache, &wanted).await.unwrap()) == bytes,
        "from memory"
    );
    assert!(fixture.cache.verify(&wanted.checksum).is_err());
    assert!(fixture.cache.open_kept(&wanted.checksum).await.is_err());
    let waiter = fixture.waiter(&wanted).await;
    broken.store(0, Ordering::Relaxed);
    assert!(read(waiter).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_rots_beneath_its_copy_in_memory_is_found() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(SMALL);
    fixture.fill(&wanted).await.unwrap();
    flip(&blob(&fixture, &wanted));
    assert!(whole(&open(&fixture.cache, &wanted).await.unwrap()) == bytes);
    let verdict = fixture.cache.verify(&wanted.checksum).unwrap();
    assert!(matches!(verdict, Verdict::Bad { .. }));
    assert!(open(&fixture.cache, &wanted).await.is_none());
    assert_eq!(fixture.cache.checksums_in(wanted.checksum.as_bytes()[0]).unwrap(), []);
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
}
