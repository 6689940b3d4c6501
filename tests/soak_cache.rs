//! Downloads at random through an upstream that does everything wrong that it can (issue 4, "Faults"; threats P1, P9, U1 to U8): warm and cold files, whole
//! ones and parts, from 1 to 100 clients at once, with a budget so small that what is kept comes and goes,
//! and a disk on which small files rot.
//!
//! Every complete body is compared with what was published: none is wrong. `sha256sum` finds no kept file that is not what its name says, nothing
//! unfinished stays, memory stays flat, and once upstream is itself again everything can be had.
//!
//! `MIRROR_CACHE_DOWNLOADS` is how many (1,000; `just soak-cache` says 100,000), `MIRROR_CACHE_SEED` repeats the choices of a run, though not their order in time.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

#[path = "soak_cache/clients.rs"]
mod clients;
#[path = "soak_cache/weather.rs"]
mod weather;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use testkit::{
    BuiltCrate, CrateBuilder, FakeUpstream, MirrorProcess, NamedFault, Random, eventually, misnamed,
    number_from_environment, said,
};

use clients::{Counts, client, is_whole};
use weather::{Mood, Weather};

const CRATES: usize = 300;
const SIZES: [usize; 6] = [200, 3_000, 20_000, 70_000, 300_000, 700_000];
/// About a ninth of all of them.
const BUDGET_BYTES: u64 = 6 << 20;
/// Below what the mirror keeps in memory and hashes each time that it reads it from disk.
const SMALL_BYTES: u64 = 100_000;
const SOON: Duration = Duration::from_secs(60);
/// The promise is 96 MiB for a server that was built to be fast.
const MOST_RSS_BYTES: u64 = 160 << 20;
/// From a fifth of a long run to its end.
const MAY_GROW_BYTES: u64 = 24 << 20;
/// A shorter run tells nothing of growth, and has no time for faults that take half a minute.
const LONG: u64 = 20_000;

struct Soak {
    upstream: FakeUpstream,
    weather: Weather,
    mirror: MirrorProcess,
    crates: Vec<BuiltCrate>,
    random: Random,
    counts: Counts,
    rotten: u64,
}

impl Soak {
    fn new(seed: u64) -> Self {
        let upstream = FakeUpstream::start();
        let crates: Vec<BuiltCrate> = (0..CRATES)
            .map(|number| {
                let size_bytes = SIZES[number % SIZES.len()];
                let krate = CrateBuilder::new(&format!("soaked{number}"), "1.0.0").padding(size_bytes);
                krate.build()
            })
            .collect();
        crates.iter().for_each(|krate| upstream.add(krate));
        let weather = Weather::over(&upstream, seed);
        let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
            .upstream(&upstream)
            // an endless body ends here
            .env("MIRROR_CACHE__MAX_FILE_SIZE", "1MiB")
            .env("MIRROR_CACHE__MIN_FREE", "0")
            .env("MIRROR_CACHE__MAX_SIZE", &BUDGET_BYTES.to_string())
            .env("MIRROR_CACHE__MIN_AGE", "0s")
            // less than is kept, so that files are read from disk too
            .env("MIRROR_CACHE__MEMORY", "2MiB")
            .start();
        // an upstream that cannot be reached is left alone for a while: then nothing but crate files is missing
        for krate in &crates {
            assert_eq!(mirror.get(&format!("/index/{}", krate.index_path())).status, 200);
        }
        Self {
            upstream,
            weather,
            mirror,
            crates,
            random: Random::new(seed | 1),
            counts: Counts::default(),
            rotten: 0,
        }
    }

    /// So many downloads by some clients at once, in one mood of upstream.
    fn some(&mut self, mood: Mood, most: u64) {
        let clients = (*self.random.of(&[1, 3, 10, 30, 100])).min(most);
        let each = (most / clients).clamp(1, 10);
        let seeds: Vec<u64> = (0..clients).map(|_| self.random.next(u64::MAX) | 1).collect();
        if mood == Mood::Down {
            self.upstream.go_down();
        }
        self.weather.set(mood);
        let (mirror, crates, counts) = (&self.mirror, &self.crates, &self.counts);
        thread::scope(|scope| {
            for seed in seeds {
                scope.spawn(move || client(mirror, crates, counts, Random::new(seed), each));
            }
        });
        if mood == Mood::Down {
            self.upstream.come_back();
        }
        self.upstream.clear_log();
    }

    /// Some are forgotten, the reasons for which they failed too, so that they are fetched again.
    fn forget_some(&mut self) {
        for _ in 0..8 {
            let name = self.random.of(&self.crates).name.clone();
            // what is not kept cannot be forgotten, which it says
            self.mirror.run(&["evict", &name]);
        }
    }

    /// The disk turns a bit in a small file, which is hashed each time it is read.
    fn rot_some(&mut self) {
        let files = self.mirror.kept_files();
        let is_small = |file: &&PathBuf| std::fs::metadata(file).is_ok_and(|file| file.len() < SMALL_BYTES);
        let files: Vec<&PathBuf> = files.iter().filter(is_small).collect();
        if files.is_empty() {
            return;
        }
        let path = self.random.of(&files);
        // it may be evicted meanwhile
        let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else {
            return;
        };
        let at = self.random.next(file.metadata().unwrap().len());
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        self.rotten += 1;
    }

    fn nothing_wrong_is_kept(&self) {
        // it fails if it finds anything, which it then sets aside
        let verified = said(&self.mirror.run(&["verify"]));
        assert!(!verified.contains("panicked"), "{verified}");
        if let Some(wrong) = misnamed(&self.mirror.kept_files()) {
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    }

    fn kept_bytes(&self) -> u64 {
        // one that is gone meanwhile was evicted
        let size_bytes = |file: PathBuf| std::fs::metadata(file).map_or(0, |file| file.len());
        self.mirror.kept_files().into_iter().map(size_bytes).sum()
    }

    fn print(&self) {
        let (rss, peak) = (self.mirror.rss_bytes() >> 20, self.mirror.peak_rss_bytes() >> 20);
        let kept = self.mirror.kept_files().len();
        let (fills, rotten) = (self.mirror.metric("fills_ok"), self.rotten);
        println!(
            "{}; {fills} fills, {kept} kept, {rotten} rotten, {rss} MiB now, {peak} at most",
            self.counts
        );
    }
}

#[test]
fn nobody_gets_a_complete_wrong_body_whatever_upstream_does() {
    let downloads = number_from_environment("MIRROR_CACHE_DOWNLOADS").unwrap_or(1_000);
    let random = || RandomState::new().build_hasher().finish();
    let seed = number_from_environment("MIRROR_CACHE_SEED").unwrap_or_else(random);
    println!("MIRROR_CACHE_SEED={seed} MIRROR_CACHE_DOWNLOADS={downloads}");
    let mut soak = Soak::new(seed);
    let (mut warm_rss, mut printed, mut stalled) = (None, 0, false);
    while soak.counts.asked() < downloads {
        let asked = soak.counts.asked();
        let mood = if asked == 0 {
            // an upstream that is away from the start leaves nothing to compare, and is left alone for a while
            Mood::Calm
        } else if downloads >= LONG && !stalled && asked > downloads / 2 {
            stalled = true;
            Mood::Stalling
        } else {
            soak.weather.next_mood()
        };
        soak.some(mood, downloads - asked);
        soak.forget_some();
        soak.rot_some();
        if asked * 10 / downloads > printed {
            printed = asked * 10 / downloads;
            soak.nothing_wrong_is_kept();
            soak.print();
        }
        if asked > downloads / 5 && warm_rss.is_none() {
            warm_rss = Some(soak.mirror.rss_bytes());
        }
    }
    ends_well(soak, warm_rss.unwrap_or(u64::MAX / 2), downloads);
}

fn ends_well(soak: Soak, warm_rss: u64, downloads: u64) {
    let (rss, peak) = (soak.mirror.rss_bytes(), soak.mirror.peak_rss_bytes());
    soak.print();
    soak.weather.print();
    assert!(
        downloads < LONG || rss < warm_rss + MAY_GROW_BYTES,
        "{warm_rss} bytes, then {rss}"
    );
    assert!(peak < MOST_RSS_BYTES, "{peak} bytes");
    assert!(
        soak.counts.right() > downloads / if downloads < LONG { 50 } else { 4 },
        "{}",
        soak.counts
    );
    all_is_had(&soak);
    let unfinished = || std::fs::read_dir(soak.mirror.data_dir().join("tmp")).unwrap().count();
    let swept = eventually(SOON, || (unfinished() == 0).then_some(()));
    assert!(swept.is_some(), "{} files are unfinished", unfinished());
    let is_within = eventually(SOON, || (soak.kept_bytes() <= BUDGET_BYTES).then_some(()));
    assert!(is_within.is_some(), "{} bytes are kept", soak.kept_bytes());
    soak.nothing_wrong_is_kept();
    soak.upstream.go_down();
    what_is_kept_is_served(&soak);
    let set_aside = std::fs::read_dir(soak.mirror.data_dir().join("blobs/bad")).map_or(0, Iterator::count);
    let is_found = soak.rotten > 0 && set_aside > 0;
    assert!(downloads < LONG || is_found, "{} files rotted", soak.rotten);
    if downloads >= LONG {
        let played: BTreeSet<_> = soak.weather.played().into_keys().collect();
        let missed: Vec<_> = NamedFault::all()
            .into_iter()
            .filter(|named| !played.contains(named.name))
            .collect();
        assert!(missed.is_empty(), "{missed:?}");
    }
    let log = soak.mirror.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Once upstream is itself again.
fn all_is_had(soak: &Soak) {
    soak.weather.set(Mood::Calm);
    for krate in &soak.crates {
        let had = eventually(SOON, || is_whole(&soak.mirror, krate).then_some(()));
        assert!(had.is_some(), "{} cannot be had\n{}", krate.name, soak.mirror.log());
    }
}

fn what_is_kept_is_served(soak: &Soak) {
    let kept = soak.mirror.kept_files();
    let is_kept = |krate: &&BuiltCrate| kept.iter().any(|file| file.ends_with(krate.checksum.to_hex()));
    let served = soak.crates.iter().filter(is_kept).map(|krate| {
        assert!(is_whole(&soak.mirror, krate), "{} is kept and not served", krate.name);
    });
    assert_eq!(served.count(), kept.len());
    assert!(!kept.is_empty());
}
