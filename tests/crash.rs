//! `kill -9` under load (issues 2 and 4, "Crash"; threats S3, S4, P2): after each the mirror starts at once, git and SQLite find
//! nothing wrong with what is on the disk, every kept file is what its name says, and nothing is lost that was acknowledged as kept.
//!
//! Once at random moments of fills, syncs, evictions, prunes and verifications, the commands killed with the server; once with a budget, where what is pinned stays;
//! and once before each Nth system call that changes the disk (`points`). What a kill cannot show, the order in which things reach the disk, is read from a trace (`order`).
//!
//! `MIRROR_CRASH_ROUNDS` is how often (10; `just soak-crash` says 1,000), `MIRROR_CRASH_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

#[path = "crash/budget.rs"]
mod budget;
#[path = "crash/oracles.rs"]
mod oracles;
#[path = "crash/order.rs"]
mod order;
#[path = "crash/points.rs"]
mod points;
#[path = "crash/strace.rs"]
mod strace;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{
    BuiltCrate, CrateBuilder, FakeUpstream, Fault, GitUpstream, MirrorProcess, Random, Times, eventually,
    number_from_environment,
};

use oracles::{disk_is_sound, no_unfinished_files, there_are_judges};

/// The promise is 5 s; machines that run tests do other things too.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Long enough for a batch of index files to be committed within many of the rounds.
const LONGEST_LOAD: Duration = Duration::from_millis(2_500);
const CRATES_PER_ROUND: u64 = 40;
const DEFAULT_ROUNDS: u64 = 10;

fn rounds() -> u64 {
    number_from_environment("MIRROR_CRASH_ROUNDS").unwrap_or(DEFAULT_ROUNDS)
}

struct Crash {
    upstream: FakeUpstream,
    git: GitUpstream,
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
        let git = GitUpstream::start();
        git.commit_index(&format!("{}/dl", upstream.base_url()), &[], 0);
        let binary = Path::new(env!("CARGO_BIN_EXE_mirror"));
        let mirror = MirrorProcess::builder(binary)
            .upstream(&upstream)
            .upstream_git(&git)
            // rounds begin when a command asks for one
            .env("MIRROR_INDEX__SYNC_INTERVAL", "24h")
            .start();
        Self {
            upstream,
            git,
            mirror,
            random: Random::new(seed | 1),
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
        let names: Vec<String> = names.collect();
        let lines: Vec<(String, String)> = names
            .iter()
            .map(|name| {
                (
                    self.crates[name].index_path(),
                    format!("{}\n", self.crates[name].index_line),
                )
            })
            .collect();
        let files: Vec<_> = lines
            .iter()
            .map(|(path, line)| (path.as_str(), Some(line.as_str())))
            .collect();
        self.git.commit(&files);
        names
    }

    /// A few that were kept for long and may go in this round.
    fn choose_victims(&mut self) -> Vec<String> {
        let old: Vec<String> = self.acknowledged.iter().cloned().collect();
        let count = old.len().min(3);
        let victims = (0..count).map(|_| old[self.random.next(old.len() as u64) as usize].clone());
        let victims: Vec<String> = victims.collect();
        victims.iter().for_each(|name| {
            self.acknowledged.remove(name);
        });
        victims
    }

    /// Asks from many sides until the kill, which ends the answers in whatever way.
    fn load_and_kill(&mut self, round: u64, names: &[String]) {
        let moment = Duration::from_millis(20 + self.random.next(LONGEST_LOAD.as_millis() as u64));
        let victims = self.choose_victims();
        let (stop, whole, listed) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(BTreeSet::new()));
        let seeds: Vec<u64> = (0..6).map(|_| self.random.next(u64::MAX) | 1).collect();
        let (mirror, crates) = (&self.mirror, &self.crates);
        thread::scope(|scope| {
            for (number, seed) in seeds.into_iter().enumerate() {
                let (stop, whole) = (&stop, &whole);
                scope.spawn(move || {
                    let mut random = Random::new(seed);
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
            let end = Instant::now() + moment;
            let victims = &victims;
            scope.spawn(move || run_commands(mirror, victims, end));
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
        self.git.refuse(true);
        self.restart();
        if self.random.next(4) == 0 {
            self.mirror.kill9();
            disk_is_sound(&self.mirror);
            self.restart();
        }
        no_unfinished_files(&self.mirror);
        self.nothing_acknowledged_is_lost(round);
        let log = self.mirror.log();
        assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{log}");
        disk_is_sound(&self.mirror);
        self.upstream.come_back();
        self.git.refuse(false);
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

/// All that changes the data directory besides downloads, until everything ends at the same time.
fn run_commands(mirror: &MirrorProcess, victims: &[String], end: Instant) {
    let evictions = victims.iter().map(|name| vec!["evict", name.as_str()]);
    let others = [vec!["sync"], vec!["verify"], vec!["prune"], vec!["sync"]];
    for command in evictions.chain(others).cycle() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        // one that finds no server any more does its work by itself, and dies as well
        if let Some(output) = mirror.run_or_kill(&command, left) {
            let said = testkit::said(&output);
            assert!(!said.contains("panicked"), "{command:?}: {said}");
        }
    }
}

#[test]
fn a_power_cut_at_any_moment_costs_nothing_that_was_kept() {
    if !there_are_judges() {
        return;
    }
    let rounds = rounds();
    let random = || RandomState::new().build_hasher().finish();
    let seed = number_from_environment("MIRROR_CRASH_SEED").unwrap_or_else(random);
    println!("MIRROR_CRASH_SEED={seed} MIRROR_CRASH_ROUNDS={rounds}");
    let mut crash = Crash::new(seed);
    for round in 0..rounds {
        let names = crash.publish(round);
        crash.load_and_kill(round, &names);
        disk_is_sound(&crash.mirror);
        crash.comes_back(round);
    }
    println!("the slowest start took {:?}", crash.slowest_start);
    crash.ends_well();
}

impl Crash {
    /// After all of it everything can be had, is kept, and is there without upstream.
    fn ends_well(mut self) {
        self.upstream.clear_faults();
        for krate in self.crates.values() {
            let had = eventually(Duration::from_secs(60), || download(&self.mirror, krate).then_some(()));
            assert!(had.is_some(), "{} cannot be had\n{}", krate.name, self.mirror.log());
        }
        assert!(self.mirror.terminate().success());
        disk_is_sound(&self.mirror);
        self.upstream.go_down();
        self.git.refuse(true);
        self.restart();
        for krate in self.crates.values() {
            assert!(
                download(&self.mirror, krate),
                "{} is lost\n{}",
                krate.name,
                self.mirror.log()
            );
        }
        assert_eq!(self.mirror.kept_files().len(), self.crates.len());
        let all = self.crates.len() as u64;
        let recorded = eventually(Duration::from_secs(60), || {
            (self.mirror.metric("kept_files") == all).then_some(())
        });
        assert!(
            recorded.is_some(),
            "{} of {all} files are recorded",
            self.mirror.metric("kept_files")
        );
    }
}
