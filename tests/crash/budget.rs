//! Killed while room is made: what is pinned stays, and what went is only absent.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, MirrorProcess, Random, eventually, said};

use crate::oracles::{disk_is_sound, no_unfinished_files, there_are_judges};
use crate::{LONGEST_LOAD, download, found, path, rounds};

/// A round brings four times as much.
const BUDGET_BYTES: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);
const CRATES_PER_ROUND: u64 = 40;
const SIZE_BYTES: usize = 100_000;

struct Squeezed {
    upstream: FakeUpstream,
    mirror: MirrorProcess,
    random: Random,
    crates: BTreeMap<String, BuiltCrate>,
    /// Pinned sets that a command has acknowledged, each with the one file that it is about.
    pinned: Vec<(String, String)>,
}

impl Squeezed {
    fn new() -> Self {
        let upstream = FakeUpstream::start();
        let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
            .upstream(&upstream)
            .env("MIRROR_CACHE__MAX_SIZE", &BUDGET_BYTES.to_string())
            .env("MIRROR_CACHE__MIN_AGE", "0s")
            .start();
        Self {
            upstream,
            mirror,
            random: Random::new(7),
            crates: BTreeMap::new(),
            pinned: Vec::new(),
        }
    }

    fn round(&mut self, round: u64) {
        let names: Vec<String> = (0..CRATES_PER_ROUND)
            .map(|number| format!("r{round}x{number}"))
            .collect();
        for name in &names {
            let krate = CrateBuilder::new(name, "1.0.0").padding(SIZE_BYTES).build();
            self.upstream.add(&krate);
            self.crates.insert(name.clone(), krate);
        }
        let end = Instant::now() + LONGEST_LOAD / 2 + LONGEST_LOAD * self.random.next(1_000) as u32 / 1_000;
        let over = AtomicBool::new(false);
        let seeds: Vec<u64> = (0..4).map(|_| self.random.next(u64::MAX) | 1).collect();
        let (mirror, crates, names, over) = (&self.mirror, &self.crates, &names, &over);
        let pinned = thread::scope(|scope| {
            for seed in seeds {
                scope.spawn(move || {
                    let mut random = Random::new(seed);
                    while !over.load(Relaxed) {
                        download(mirror, &crates[&names[random.next(CRATES_PER_ROUND) as usize]]);
                    }
                });
            }
            let commands = scope.spawn(move || prune_and_pin(mirror, &crates[&names[0]], round, end));
            // Not a wait for anything: the random moment is what is tested.
            thread::sleep(end.saturating_duration_since(Instant::now()));
            mirror.kill9();
            over.store(true, Relaxed);
            commands.join().unwrap()
        });
        println!("round {round}: {pinned:?} is pinned for good");
        self.pinned.extend(pinned);
    }

    fn ask_upstream(&self, mode: &str) {
        let output = self.mirror.run(&["mode", mode]);
        assert!(output.status.success(), "{}", said(&output));
    }

    /// Without upstream; what is pinned and was kept is there, all else is there or absent.
    fn comes_back(&mut self) {
        self.mirror.restart();
        self.ask_upstream("offline");
        no_unfinished_files(&self.mirror);
        let pins = self.mirror.run(&["pins"]);
        let shown = said(&pins);
        for (set, name) in &self.pinned {
            assert!(
                shown.contains(set.as_str()),
                "{set} was acknowledged and is lost: {shown}"
            );
            let krate = &self.crates[name];
            assert!(
                download(&self.mirror, krate),
                "{name} is pinned and lost\n{}",
                self.mirror.log()
            );
        }
        for krate in self.crates.values() {
            let reply = self.mirror.get(&path(&krate.name));
            let is_right = reply.status == 200 && reply.complete && reply.body == krate.bytes;
            let is_absent = reply.status == 404 && reply.header("mirror-offline").is_some();
            assert!(is_right || is_absent, "{}: {}", krate.name, reply.status);
        }
        assert!(!self.mirror.log().contains("panicked"), "{}", self.mirror.log());
        self.ask_upstream("online");
    }
}

impl Squeezed {
    /// Files that no index line was left of count again once there is one, after a start.
    fn is_small_in_the_end(&mut self) {
        for krate in self.crates.values() {
            let path = format!("/index/{}", krate.index_path());
            let listed = eventually(SOON, || (self.mirror.get(&path).status == 200).then_some(()));
            assert!(listed.is_some(), "{path}");
        }
        self.mirror.restart();
        let pinned = self.pinned.iter().map(|(_, name)| self.crates[name].bytes.len() as u64);
        let most = BUDGET_BYTES + pinned.sum::<u64>();
        let kept = || {
            let files = self.mirror.kept_files();
            let sizes = files
                .iter()
                .filter_map(|file| Some(std::fs::metadata(file).ok()?.len()));
            sizes.sum::<u64>()
        };
        let is_small = eventually(SOON, || (kept() <= most).then_some(()));
        assert!(is_small.is_some(), "{} bytes are kept of {most}", kept());
    }
}

/// Prunes again and again, and pins one file on the way. Gives what then is kept, by the word of a search that came after the pin.
fn prune_and_pin(mirror: &MirrorProcess, krate: &BuiltCrate, round: u64, end: Instant) -> Option<(String, String)> {
    let left = || end.saturating_duration_since(Instant::now());
    let (set, of) = (format!("set{round}"), format!("{}@=1.0.0", krate.name));
    let pin = ["pin", set.as_str(), "--crate", of.as_str()];
    let mut is_pinned = false;
    while !left().is_zero() {
        let command = if is_pinned { &["prune"][..] } else { &pin[..] };
        let output = mirror.run_or_kill(command, left())?;
        is_pinned = is_pinned || output.status.success();
        if is_pinned && download(mirror, krate) && found(mirror, round).contains(&krate.name) {
            break;
        }
    }
    if left().is_zero() {
        return None;
    }
    while !left().is_zero() {
        // it ends or is killed
        let _ = mirror.run_or_kill(&["prune"], left());
    }
    Some((set, krate.name.clone()))
}

#[test]
fn a_kill_while_room_is_made_takes_nothing_that_is_pinned() {
    if !there_are_judges() {
        return;
    }
    let mut squeezed = Squeezed::new();
    for round in 0..(rounds() / 3).max(2) {
        squeezed.round(round);
        disk_is_sound(&squeezed.mirror);
        squeezed.comes_back();
    }
    assert!(!squeezed.pinned.is_empty(), "nothing was pinned in time");
    squeezed.is_small_in_the_end();
}
