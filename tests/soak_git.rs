//! A random walk of upstream's index, followed over git round by round, with git clients left behind at old commits (issue 3, "Proof").
//!
//! After each round the published tree is upstream's but for `config.json` and the crates whose removal is held. A client that updates, from whatever
//! commit it had, has the published commit and lacks nothing. In the first half processes are killed (`kill -9`) at random moments: what is published is
//! whole before the next start, and clients notice nothing after it. In the second half one server does all: memory, open files and files on the disk stay flat.
//! Now and then upstream changes so much that the mirror drops its own history.
//!
//! `MIRROR_SOAK_ROUNDS` is how often (20, with 10 kills; `just soak-git` says 2,000, with 200), `MIRROR_SOAK_SEED` repeats a run.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

#[path = "soak_git/clients.rs"]
mod clients;
#[path = "soak_git/disk.rs"]
mod disk;
#[path = "soak_git/kills.rs"]
mod kills;
#[path = "soak_git/walk.rs"]
mod walk;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::SystemTime;

use testkit::{MirrorProcess, number_from_environment, said};

use clients::{CLIENTS, Clients};
use disk::{Disk, blobs};
use kills::Kills;
use walk::Walk;

/// The limits of a repository at any moment: packs, and bytes, which are 64 MiB and two and a half snapshots, of which the largest here has 4 MiB.
const MOST_PACKS: usize = 64;
const MOST_BYTES: u64 = (64 + 10) << 20;
/// Two files for each pack, and what else is in a data directory.
const MOST_FILES: usize = 200;
/// The promise is 300 MiB for an index a hundred times as large.
const MOST_RSS_BYTES: u64 = 256 << 20;
/// Over the second half of a long run.
const MAY_GROW_BYTES: u64 = 32 << 20;
const MAY_OPEN_MORE: usize = 8;
/// A shorter run tells nothing of growth.
const LONG: u64 = 400;
/// Upstream begins to change heavily in the thirteenth of so many rounds, until the mirror drops its history, which is due after four.
const HEAVY_EVERY: u64 = 100;
const HEAVY_AT: u64 = 12;
const HEAVY_LIMIT: u64 = 12;

struct Soak {
    walk: Walk,
    mirror: MirrorProcess,
    disk: Disk,
    clients: Clients,
    kills: Kills,
    /// The published commit without a parent.
    root: String,
    most: Most,
}

/// The largest of each that was seen.
#[derive(Debug, Default)]
struct Most {
    squashes: u64,
    left_behind: u64,
    heavy_rounds: u64,
    peak_rss_bytes: u64,
    open_files: usize,
    files: usize,
    packs: usize,
    repository_bytes: u64,
}

/// What must not grow.
#[derive(Debug, Clone, Copy)]
struct Reading {
    rss_bytes: u64,
    open_files: usize,
}

impl Soak {
    fn new(seed: u64, fsck_every: u64) -> Self {
        let walk = Walk::new(seed);
        let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
            .upstream_git(&walk.upstream)
            .own_port()
            .env("MIRROR_INDEX__SYNC_INTERVAL", "24h")
            // clients that were left behind for longer come from a commit that is not known any more
            .env("MIRROR_GIT__OLD_TIPS", "5m")
            .start();
        let disk = Disk::new(mirror.data_dir());
        let mut soak = Self {
            walk,
            mirror,
            disk,
            clients: Clients::new(fsck_every),
            kills: Kills::default(),
            root: String::new(),
            most: Most::default(),
        };
        soak.sync();
        soak.root = soak.disk.root();
        for number in 0..CLIENTS {
            let url = soak.url();
            soak.clients.update(number, &url, &soak.disk, &mut soak.walk.random);
        }
        // once more, since the first is larger than others
        soak.round();
        soak
    }

    fn url(&self) -> String {
        self.mirror.url("/git/index")
    }

    fn round(&mut self) {
        self.walk.step();
        self.sync();
        self.compare();
        if self.walk.random.next(2) == 0 {
            self.update_a_client();
        }
    }

    fn sync(&mut self) {
        let begun = SystemTime::now();
        let output = self.mirror.run(&["sync"]);
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&self.walk.upstream.head()), "{text}");
        if !text.contains(" 0 files changed") {
            self.kills.learn(self.walk.heavy, self.disk.round_took(begun));
        }
    }

    fn compare(&self) {
        let [upstream, mirror] = [self.walk.upstream.dir(), self.disk.repository()].map(|dir| blobs(&dir));
        let paths: BTreeSet<&String> = upstream.keys().chain(mirror.keys()).collect();
        let differ = |path: &&&String| upstream.get(**path) != mirror.get(**path);
        let wrong = paths.iter().filter(differ).filter(|path| !self.walk.may_differ(path));
        let wrong: Vec<&&String> = wrong.collect();
        assert!(wrong.is_empty(), "published otherwise than upstream has it: {wrong:?}");
    }

    fn update_a_client(&mut self) {
        let url = self.url();
        self.clients.update_one(&url, &self.disk, &mut self.walk.random);
    }

    /// Heavy rounds begin, or have come to their end: the mirror dropped its history.
    fn weigh(&mut self, round: u64) {
        let root = self.disk.root();
        if root != self.root {
            self.root = root;
            self.most.squashes += 1;
            self.update_over_a_squash();
            if self.walk.heavy {
                self.walk.lighten();
            }
        }
        if round % HEAVY_EVERY == HEAVY_AT {
            (self.walk.heavy, self.most.heavy_rounds) = (true, 0);
        } else if self.walk.heavy {
            self.most.heavy_rounds += 1;
            let weighs = self.disk.repository_bytes();
            let due = self.most.heavy_rounds > HEAVY_LIMIT;
            assert!(
                !due,
                "its history stays, and index.git has {weighs} bytes\n{}",
                self.mirror.log()
            );
        }
    }

    /// The clients that were left behind update at once, but for one, which skips it.
    fn update_over_a_squash(&mut self) {
        let (tip, url, skips) = (self.disk.tip(), self.url(), self.walk.random.next(CLIENTS));
        for number in (0..CLIENTS).filter(|number| *number != skips) {
            if self.clients.tip(number).is_some_and(|theirs| theirs != tip) {
                self.clients.update(number, &url, &self.disk, &mut self.walk.random);
                self.most.left_behind += 1;
            }
        }
    }

    fn note_peak(&mut self) {
        self.most.peak_rss_bytes = self.most.peak_rss_bytes.max(self.mirror.peak_rss_bytes());
    }

    fn reading(&self) -> Reading {
        let handles = format!("/proc/{}/fd", self.mirror.id());
        Reading {
            rss_bytes: self.mirror.rss_bytes(),
            open_files: std::fs::read_dir(handles).unwrap().count(),
        }
    }

    /// The limits that hold after each round.
    fn measure(&mut self) -> Reading {
        self.note_peak();
        let (reading, most) = (self.reading(), &mut self.most);
        most.open_files = most.open_files.max(reading.open_files);
        most.files = most.files.max(self.disk.files());
        most.packs = most.packs.max(self.disk.packs());
        most.repository_bytes = most.repository_bytes.max(self.disk.repository_bytes());
        assert!(most.files <= MOST_FILES && most.packs <= MOST_PACKS, "{most:?}");
        assert!(most.repository_bytes <= MOST_BYTES, "{most:?}");
        assert!(most.peak_rss_bytes <= MOST_RSS_BYTES, "{most:?}");
        reading
    }

    fn print(&self, round: u64, reading: Reading) {
        let (files, packs) = (self.disk.files(), self.disk.packs());
        let (repository, pack_log) = (self.disk.repository_bytes() >> 20, self.disk.pack_log_bytes() >> 20);
        println!(
            "{round} rounds, {} kills, {} squashes: {reading:?}, {files} files, {packs} packs, index.git {repository} MiB, pack log {pack_log} MiB",
            self.kills.count, self.most.squashes
        );
    }
}

#[test]
fn an_index_that_changes_at_random_is_followed_and_served_to_clients_left_behind() {
    let rounds = number_from_environment("MIRROR_SOAK_ROUNDS").unwrap_or(20);
    let random = || RandomState::new().build_hasher().finish();
    let seed = number_from_environment("MIRROR_SOAK_SEED").unwrap_or_else(random);
    println!("MIRROR_SOAK_SEED={seed} repeats this");
    let mut soak = Soak::new(seed, if rounds > 100 { 5 } else { 1 });
    // the caches of the last server take some hundred rounds to fill
    let (half, warm) = (rounds / 2, rounds * 3 / 4);
    let kill_every = (rounds / 2).div_ceil((rounds / 10).max(10)).max(1);
    let mut before = None;
    for round in 0..rounds {
        if round < half && round % kill_every == 0 {
            soak.killed_round();
        } else {
            soak.round();
        }
        soak.weigh(round);
        let reading = soak.measure();
        if round == warm {
            before = Some(reading);
        }
        if round % 50 == 49 {
            soak.print(round + 1, reading);
        }
    }
    for _ in 0..20 {
        soak.update_a_client();
    }
    ends_well(soak, before.expect("there are more than a few rounds"), rounds);
}

fn ends_well(mut soak: Soak, before: Reading, rounds: u64) {
    let after = soak.measure();
    soak.print(rounds, after);
    soak.kills.print();
    println!(
        "{before:?} half of the way after the last kill, {after:?} at the end, at most {:?}",
        soak.most
    );
    let grew =
        after.rss_bytes > before.rss_bytes + MAY_GROW_BYTES || after.open_files > before.open_files + MAY_OPEN_MORE;
    assert!(rounds < LONG || !grew, "{before:?} {after:?}");
    assert!(soak.most.squashes >= rounds.div_ceil(HEAVY_EVERY), "{:?}", soak.most);
    assert!(soak.most.left_behind > 0, "no client was left behind before a squash");
    assert!(soak.mirror.is_running());
}
