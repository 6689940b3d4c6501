//! `kill -9` at random moments under load (issue 2, "Tests"; threats S3, S4): after each the mirror starts at once, git and SQLite find
//! nothing wrong with what is on the disk, every kept file is what its name says, and nothing is lost that was acknowledged as kept.
//!
//! `MIRROR_CRASH_ROUNDS` is how often (10; `just soak-crash` says 200), `MIRROR_CRASH_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, Fault, MirrorProcess, Times, eventually, git};

/// The promise is 5 s; machines that run tests do other things too.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Long enough for a batch of index files to be committed within many of the rounds.
const LONGEST_LOAD: Duration = Duration::from_millis(2_500);
const CRATES_PER_ROUND: u64 = 40;

struct Random(u64);

impl Random {
    /// xorshift64: repeatable, which is all that is wanted of it.
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is no setting of the mirror but one of the test"
)]
fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Crash {
    upstream: FakeUpstream,
    mirror: MirrorProcess,
    random: Random,
    crates: BTreeMap<String, BuiltCrate>,
    /// Those that the mirror has told a client it keeps.
    acknowledged: BTreeSet<String>,
    slowest_start: Duration,
}

impl Crash {
    fn new(seed: u64) -> Self {
        let upstream = FakeUpstream::start();
        let binary = Path::new(env!("CARGO_BIN_EXE_mirror"));
        let mirror = MirrorProcess::builder(binary).upstream(&upstream).start();
        Self {
            upstream,
            mirror,
            random: Random(seed | 1),
            crates: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            slowest_start: Duration::ZERO,
        }
    }

    /// New crates for a round, some of them large and slow to come. Their names begin with `r{round}x`.
    fn publish(&mut self, round: u64) -> Vec<String> {
        let names = (0..CRATES_PER_ROUND).map(|number| {
            let name = format!("r{round}x{number}");
            let size_bytes = [100, 3_000, 70_000, 300_000][self.random.next(4) as usize];
            let krate = CrateBuilder::new(&name, "1.0.0").padding(size_bytes).build();
            self.upstream.add(&krate);
            if self.random.next(5) == 0 {
                let slow = Fault::Slow {
                    bytes_per_second: 150_000,
                };
                self.upstream.fault(&download_upstream(&name), slow, Times::Always);
            }
            self.crates.insert(name.clone(), krate);
            name
        });
        names.collect()
    }

    /// Asks from many sides until the kill, which ends the answers in whatever way.
    fn load_and_kill(&mut self, round: u64, names: &[String]) {
        let moment = Duration::from_millis(20 + self.random.next(LONGEST_LOAD.as_millis() as u64));
        let (stop, whole, listed) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(BTreeSet::new()));
        let seeds: Vec<u64> = (0..6).map(|_| self.random.next(u64::MAX) | 1).collect();
        let (mirror, crates) = (&self.mirror, &self.crates);
        thread::scope(|scope| {
            for (number, seed) in seeds.into_iter().enumerate() {
                let (stop, whole) = (&stop, &whole);
                scope.spawn(move || {
                    let mut random = Random(seed);
                    while !stop.load(Relaxed) {
                        let name = &names[random.next(names.len() as u64) as usize];
                        if number % 3 == 0 {
                            look_up(mirror, &crates[name]);
                        } else {
                            whole.fetch_add(u64::from(download(mirror, &crates[name])), Relaxed);
                        }
                    }
                });
            }
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    listed.lock().unwrap().extend(found(mirror, round));
                }
            });
            // Not a wait for anything: the random moment is what is tested.
            thread::sleep(moment);
            mirror.kill9();
            stop.store(true, Relaxed);
        });
        let listed = listed.into_inner().unwrap();
        let (whole, acknowledged) = (whole.load(Relaxed), listed.len());
        println!(
            "round {round}: killed after {moment:?}, {whole} files were whole, {acknowledged} acknowledged as kept"
        );
        self.acknowledged.extend(listed);
    }

    fn restart(&mut self) {
        let begun = Instant::now();
        self.mirror.restart();
        assert_eq!(self.mirror.get("/healthz").status, 200);
        let took = begun.elapsed();
        assert!(
            took < START_LIMIT,
            "it took {took:?} to the first answer\n{}",
            self.mirror.log()
        );
        self.slowest_start = self.slowest_start.max(took);
    }

    /// Starts with upstream gone, so that nothing can be mended from there; sometimes only after another kill at once.
    fn comes_back(&mut self, round: u64) {
        self.upstream.go_down();
        self.restart();
        if self.random.next(4) == 0 {
            self.mirror.kill9();
            self.disk_is_sound();
            self.restart();
        }
        let unfinished = std::fs::read_dir(self.mirror.data_dir().join("tmp")).unwrap();
        let unfinished: Vec<_> = unfinished.map(|entry| entry.unwrap().file_name()).collect();
        assert!(unfinished.is_empty(), "{unfinished:?}");
        self.nothing_acknowledged_is_lost(round);
        let log = self.mirror.log();
        assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{log}");
        self.disk_is_sound();
        self.upstream.come_back();
    }

    /// Those of this round and some of the older ones.
    fn nothing_acknowledged_is_lost(&mut self, round: u64) {
        let prefix = format!("r{round}x");
        let (new, old): (Vec<_>, Vec<_>) = self.acknowledged.iter().partition(|name| name.starts_with(&prefix));
        let some = (0..old.len().min(60)).map(|_| old[self.random.next(old.len() as u64) as usize]);
        for name in new.into_iter().chain(some) {
            let reply = self.mirror.get(&path(name));
            let right = reply.status == 200 && reply.body == self.crates[name].bytes;
            assert!(
                right,
                "{name} was acknowledged and is lost: {}\n{}",
                reply.status,
                self.mirror.log()
            );
        }
    }

    /// What other programs say of the data directory.
    fn disk_is_sound(&self) {
        let data_dir = self.mirror.data_dir();
        let fsck = git(&data_dir.join("index.git"), &["fsck", "--strict"]);
        assert!(fsck.status.success(), "git fsck: {}", testkit::said(&fsck));
        integrity(&data_dir);
        hashes(&self.mirror);
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/crates/{name}/1.0.0/download")
}

fn download_upstream(name: &str) -> String {
    FakeUpstream::download_path(name, "1.0.0")
}

/// Whether the whole file came; what comes as a whole is right, also while the mirror dies.
fn download(mirror: &MirrorProcess, krate: &BuiltCrate) -> bool {
    let Ok(reply) = mirror.try_request("GET", &path(&krate.name), &[], b"") else {
        return false;
    };
    let whole = reply.status == 200 && reply.complete;
    assert!(
        !whole || reply.body == krate.bytes,
        "a complete wrong body of {}",
        krate.name
    );
    whole
}

fn look_up(mirror: &MirrorProcess, krate: &BuiltCrate) {
    let path = format!("/index/{}", krate.index_path());
    let reply = mirror.try_request("GET", &path, &[], b"");
    if let Ok(reply) = reply.as_ref()
        && reply.status == 200
        && reply.complete
    {
        assert_eq!(reply.text(), format!("{}\n", krate.index_line));
    }
}

/// The names of this round that a search finds, which are those of kept files.
fn found(mirror: &MirrorProcess, round: u64) -> Vec<String> {
    let path = format!("/api/v1/crates?q=r{round}x&per_page=100");
    let Ok(reply) = mirror.try_request("GET", &path, &[], b"") else {
        return Vec::new();
    };
    if reply.status != 200 || !reply.complete {
        return Vec::new();
    }
    let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let crates = json["crates"].as_array().unwrap().iter();
    crates.map(|krate| krate["name"].as_str().unwrap().to_owned()).collect()
}

/// SQLite's own word on copies, so that the mirror finds its logs as the kill left them.
fn integrity(data_dir: &Path) {
    let copy = tempfile::tempdir().unwrap();
    for file in ["mirror.db", "mirror.db-wal", "decisions.db", "decisions.db-wal"] {
        if data_dir.join(file).exists() {
            std::fs::copy(data_dir.join(file), copy.path().join(file)).unwrap();
        }
    }
    let script = "import sqlite3\n\
                  for name in ['mirror.db', 'decisions.db']:\n \
                  db = sqlite3.connect(name)\n \
                  print([row[0] for row in db.execute('PRAGMA integrity_check')], db.execute('PRAGMA foreign_key_check').fetchall())";
    let mut python = Command::new("python3");
    let output = python.args(["-c", script]).current_dir(copy.path()).output().unwrap();
    let said = testkit::said(&output);
    assert_eq!(testkit::text_of(&output).0, "['ok'] []\n['ok'] []\n", "{said}");
}

fn hashes(mirror: &MirrorProcess) {
    let files = mirror.kept_files();
    for some in files.chunks(500) {
        let output = Command::new("sha256sum").args(some).output().unwrap();
        assert!(output.status.success(), "{}", testkit::said(&output));
        for line in testkit::text_of(&output).0.lines() {
            let (hash, file) = line.split_once("  ").unwrap();
            assert!(file.ends_with(&format!("/{}/{hash}", &hash[..2])), "{line}");
        }
    }
}

fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

#[test]
fn a_power_cut_at_any_moment_costs_nothing_that_was_kept() {
    for program in ["python3", "sha256sum", "git"] {
        if !runs(program) {
            eprintln!("skipped: there is no {program} to judge the data directory");
            return;
        }
    }
    let rounds = number_from_environment("MIRROR_CRASH_ROUNDS").unwrap_or(10);
    let random = || RandomState::new().build_hasher().finish();
    let seed = number_from_environment("MIRROR_CRASH_SEED").unwrap_or_else(random);
    println!("MIRROR_CRASH_SEED={seed} MIRROR_CRASH_ROUNDS={rounds}");
    let mut crash = Crash::new(seed);
    for round in 0..rounds {
        let names = crash.publish(round);
        crash.load_and_kill(round, &names);
        crash.disk_is_sound();
        crash.comes_back(round);
    }
    println!("the slowest start took {:?}", crash.slowest_start);
    ends_well(crash);
}

/// After all of it everything can be had, is kept, and is there without upstream.
fn ends_well(mut crash: Crash) {
    crash.upstream.clear_faults();
    for krate in crash.crates.values() {
        let had = eventually(Duration::from_secs(60), || download(&crash.mirror, krate).then_some(()));
        assert!(had.is_some(), "{} cannot be had\n{}", krate.name, crash.mirror.log());
    }
    assert!(crash.mirror.terminate().success());
    crash.disk_is_sound();
    crash.upstream.go_down();
    crash.restart();
    for krate in crash.crates.values() {
        assert!(
            download(&crash.mirror, krate),
            "{} is lost\n{}",
            krate.name,
            crash.mirror.log()
        );
    }
    assert_eq!(crash.mirror.kept_files().len(), crash.crates.len());
    let all = crash.crates.len() as u64;
    let recorded = eventually(Duration::from_secs(60), || {
        (crash.mirror.metric("kept_files") == all).then_some(())
    });
    assert!(
        recorded.is_some(),
        "{} of {all} files are recorded",
        crash.mirror.metric("kept_files")
    );
}
