//! Killed before the Nth call that changes the disk, for each such call and N = 1, 2, 3, ... until all goes well.
//!
//! strace follows the running server and kills it (`inject=CALL:signal=KILL:when=N`; it counts the calls of each thread by itself). So there is no point in
//! the program that this could forget, and nothing in the program that is there for tests only.

use std::time::Duration;

use testkit::{BuiltCrate, CrateBuilder, eventually};

use crate::oracles::{disk_is_sound, no_unfinished_files, there_are_judges};
use crate::strace::{DISK_CALLS, Strace};
use crate::{Crash, DEFAULT_ROUNDS, download, found, path, rounds};

const SOON: Duration = Duration::from_secs(60);
/// A call that happens more often within one thread is tried no further.
const MOST: u64 = 60;

impl Crash {
    /// A file comes, is recorded, goes and comes again, and a round brings its index file by git.
    fn scenario(&mut self, krate: &BuiltCrate, round: u64) {
        let mirror = &self.mirror;
        // an upstream that could not be reached a moment ago is left alone for a while
        let comes = || download(mirror, krate);
        let is_listed = || found(mirror, round).contains(&krate.name);
        for done in [&comes as &dyn Fn() -> bool, &is_listed] {
            let ended = eventually(SOON, || (!mirror.is_running() || done()).then_some(()));
            ended.expect("it is done, or the server is dead");
        }
        for command in [&["evict", krate.name.as_str()][..], &["sync"]] {
            // without a server it would work by itself, and mend what is to be judged
            if mirror.is_running() {
                mirror.run_or_kill(command, SOON);
            }
        }
        download(mirror, krate);
    }

    /// Whether the server was killed.
    fn killed_before(&mut self, call: &str, nth: u64, round: u64) -> Option<bool> {
        let krate = CrateBuilder::new(&format!("r{round}x0"), "1.0.0")
            .padding(300_000)
            .build();
        self.upstream.add(&krate);
        let line = format!("{}\n", krate.index_line);
        self.git.commit(&[(krate.index_path().as_str(), Some(line.as_str()))]);
        let inject = format!("inject={call}:signal=KILL:when={nth}");
        let strace = Strace::on(
            &self.mirror,
            &["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject],
        )?;
        self.scenario(&krate, round);
        let was_killed = !self.mirror.is_running();
        self.mirror.kill9();
        strace.wait();
        println!("{call} {nth}: {}", if was_killed { "killed" } else { "went well" });
        disk_is_sound(&self.mirror);
        self.upstream.go_down();
        self.git.refuse(true);
        self.restart();
        no_unfinished_files(&self.mirror);
        let reply = self.mirror.get(&path(&krate.name));
        let right = reply.status == 200 && reply.complete && reply.body == krate.bytes;
        assert!(
            right || matches!(reply.status, 502 | 503),
            "{call} {nth}: {}",
            reply.status
        );
        self.upstream.come_back();
        self.git.refuse(false);
        let had = eventually(SOON, || download(&self.mirror, &krate).then_some(()));
        assert!(had.is_some(), "{call} {nth}: it cannot be had\n{}", self.mirror.log());
        let log = self.mirror.log();
        assert!(!log.contains("panicked"), "{call} {nth}: {log}");
        self.crates.insert(krate.name.clone(), krate);
        Some(was_killed)
    }
}

#[test]
fn a_kill_before_any_call_that_changes_the_disk_costs_nothing() {
    if !there_are_judges() {
        return;
    }
    // the suite tries the first of each
    let most = if rounds() > DEFAULT_ROUNDS { MOST } else { 1 };
    let (mut crash, mut round, mut kills) = (Crash::new(1), 0, 0);
    for call in DISK_CALLS {
        for nth in 1..=most {
            round += 1;
            match crash.killed_before(call, nth, round) {
                Some(true) => kills += 1,
                Some(false) => break,
                None => return,
            }
        }
    }
    println!("{kills} kills, the slowest start took {:?}", crash.slowest_start);
    assert!(kills >= DISK_CALLS.len() / 2, "strace hit only {kills} times");
    crash.ends_well();
}
