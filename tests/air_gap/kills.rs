//! `kill -9` at random moments of exports and imports, of the command and of the server, and two imports at once.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{BuiltCrate, CrateBuilder, MirrorProcess, Random, number_from_environment, said};

use crate::flips::seed;
use crate::oracles::{disk_is_sound, there_are_judges};
use crate::sides::{Log, Outside, has_all, index_of, office, ok, refused, same_as_outside, text, visible};
use crate::strace::{DISK_CALLS, Strace};

const DEFAULT_KILLS: u64 = 10;
const CRATES_PER_ROUND: u64 = 15;
const LIMIT: Duration = Duration::from_secs(120);

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Export,
    Outside,
    Import,
    Office,
    ImportAlone,
}

const VICTIMS: [Victim; 5] = [
    Victim::Export,
    Victim::Office,
    Victim::Import,
    Victim::Outside,
    Victim::ImportAlone,
];

struct Kills {
    outside: Outside,
    office: MirrorProcess,
    log: Log,
    random: Random,
    crates: Vec<BuiltCrate>,
    /// The last bundle that was imported.
    last: PathBuf,
    /// How long what dies goes on, by what it is; learned from kills that came too late or early.
    takes: [Duration; VICTIMS.len()],
    unfinished: u64,
}

impl Kills {
    fn new() -> Self {
        let crates: Vec<_> = (0..CRATES_PER_ROUND)
            .map(|number| krate(&format!("start{number}"), "1.0.0"))
            .collect();
        let outside = Outside::with(&crates);
        outside.keep(&crates);
        let last = outside.export("start.tar", &[]);
        let (office, key) = (office(), outside.key());
        let begun = Instant::now();
        ok(&office.run(&["import", text(&last), "--trust", &key]));
        let takes = [begun.elapsed(); VICTIMS.len()];
        Self {
            outside,
            office,
            log: Log::default(),
            random: Random::new(seed()),
            crates,
            last,
            takes,
            unfinished: 0,
        }
    }

    /// A week upstream: new crates, a new version, a yank, a removal.
    fn week(&mut self, round: u64) {
        let mut new: Vec<_> = (0..CRATES_PER_ROUND)
            .map(|number| krate(&format!("r{round}x{number}"), "1.0.0"))
            .collect();
        new.push(krate("start0", &format!("1.{}.0", round + 1)));
        self.outside.publish(&new);
        let yanked = self.random.of(&self.crates).clone();
        self.outside.files.yank(&yanked.name, &yanked.version, true);
        self.outside.follow(&[&yanked.name]);
        self.outside.keep(&new);
        self.crates.extend(new);
    }

    fn moment(&mut self, victim: Victim) -> Duration {
        self.takes[victim as usize] * self.random.next(1_000) as u32 / 1_000
    }

    /// Half of the kills are to come before the end.
    fn learn(&mut self, victim: Victim, ended: bool) {
        let takes = &mut self.takes[victim as usize];
        *takes = if ended { *takes * 3 / 4 } else { *takes * 4 / 3 };
        self.unfinished += u64::from(!ended);
    }

    fn round(&mut self, round: u64) {
        let victim = VICTIMS[(round % VICTIMS.len() as u64) as usize];
        self.week(round);
        let bundle = self.outside.on_stick(&format!("week{round}.tar"));
        if matches!(victim, Victim::Export | Victim::Outside) {
            self.kill_export(victim, &bundle);
        }
        let since = self.last.clone();
        let words = ["export", "-o", text(&bundle), "--since", text(&since)];
        // a kill after the end left a whole one, which stays
        if !bundle.exists() {
            ok(&self.outside.mirror.run(&words));
        }
        if matches!(victim, Victim::Import | Victim::Office | Victim::ImportAlone) {
            self.kill_import(victim, &bundle);
        }
        ok(&self.office.run(&["import", text(&bundle)]));
        self.last = bundle;
        self.is_whole();
    }

    fn kill_export(&mut self, victim: Victim, bundle: &Path) {
        let moment = self.moment(victim);
        let words = ["export", "-o", text(bundle), "--since", text(&self.last)];
        let before = index_of(&self.outside.mirror.data_dir());
        let ended = match victim {
            Victim::Export => self.outside.mirror.run_or_kill(&words, moment).is_some(),
            _ => killed_with_server(&self.outside.mirror, &words, moment, &|| true),
        };
        self.learn(victim, ended);
        println!("{victim:?} killed after {moment:?}; the command had ended: {ended}");
        disk_is_sound(&self.outside.mirror);
        if !self.outside.mirror.is_running() {
            self.outside.mirror.restart();
        }
        assert_eq!(
            index_of(&self.outside.mirror.data_dir()),
            before,
            "an export changes nothing"
        );
        if bundle.exists() {
            // it has its name, so it is whole
            ok(&self.office.run(&["import", "--check", text(bundle)]));
            if !ended {
                // written, but perhaps not counted: then nothing can continue it
                std::fs::remove_file(bundle).unwrap();
            }
        }
    }

    fn kill_import(&mut self, victim: Victim, bundle: &Path) {
        let moment = self.moment(victim);
        let before = index_of(&self.office.data_dir());
        let files = self.office.kept_files();
        let words = ["import", text(bundle)];
        let ended = match victim {
            Victim::Import => self.office.run_or_kill(&words, moment).is_some(),
            Victim::ImportAlone => {
                assert!(self.office.terminate().success());
                self.office.run_or_kill(&words, moment).is_some()
            }
            _ => {
                // once all is staged, what is left takes little time and would be hit seldom
                let waits = self.random.next(2) == 0;
                let imports = self.office.data_dir().join("imports");
                let is_reached = || !waits || is_staged(&imports);
                killed_with_server(&self.office, &words, moment / if waits { 4 } else { 1 }, &is_reached)
            }
        };
        self.learn(victim, ended);
        // what was killed may have left its work to the server, which goes on with it
        let goes_on = victim == Victim::Import && !ended;
        if !goes_on {
            disk_is_sound(&self.office);
        }
        let what = format!("{victim:?} killed after {moment:?}; the command had ended: {ended}");
        self.is_old_or_new(&what, ended, &before, &files);
    }

    /// What is published is what was before, or all of the bundle; everything that it names can be had.
    fn is_old_or_new(&mut self, what: &str, ended: bool, before: &str, files: &[PathBuf]) {
        if !self.office.is_running() {
            self.office.restart();
        }
        let now = index_of(&self.office.data_dir());
        let there = index_of(&self.outside.mirror.data_dir());
        assert!(now == before || now == there, "{what}: half of the index is published");
        println!("{what}, published: {}", now == there);
        let kept = self.office.kept_files();
        assert!(files.iter().all(|file| kept.contains(file)), "a kept file is gone");
        let old = self.crates.len() - CRATES_PER_ROUND as usize - 1;
        has_all(&self.office, &self.crates[..old]);
        if ended || now == there {
            // everything that the index has now can be had
            has_all(&self.office, &self.crates);
        }
        self.log.grown(&self.office);
    }

    fn is_whole(&mut self) {
        same_as_outside(&self.outside.mirror, &self.office, &self.crates);
        disk_is_sound(&self.office);
        disk_is_sound(&self.outside.mirror);
        let rows = self.log.grown(&self.office);
        let is_calm = |row: &serde_json::Value| row["result"] == "imported" || row["result"] == "unchanged";
        assert!(rows.iter().all(is_calm), "{rows:?}");
        let log = self.office.log() + &self.outside.mirror.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

fn krate(name: &str, version: &str) -> BuiltCrate {
    CrateBuilder::new(name, version).padding(20_000).build()
}

/// Whether a part of a bundle is staged.
fn is_staged(imports: &Path) -> bool {
    let folders = std::fs::read_dir(imports).into_iter().flatten().flatten();
    folders
        .into_iter()
        .any(|folder| folder.path().join("MANIFEST.1.json").exists())
}

/// The command that a server dies under, so long after `is_reached`; whether it had ended well by itself.
fn killed_with_server(mirror: &MirrorProcess, words: &[&str], moment: Duration, is_reached: &dyn Fn() -> bool) -> bool {
    thread::scope(|scope| {
        let command = scope.spawn(|| mirror.run_or_kill(words, LIMIT));
        while !is_reached() && !command.is_finished() {
            // `eventually` pauses for longer than what is waited for takes.
            thread::yield_now();
        }
        // Not a wait for anything: the random moment is what is tested.
        thread::sleep(moment);
        mirror.kill9();
        let output = command.join().unwrap().expect("a command ends when its server is dead");
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
        output.status.success()
    })
}

#[test]
fn killed_at_any_moment_nothing_is_half_there_and_the_next_try_ends_it() {
    if !there_are_judges() {
        return;
    }
    let count = number_from_environment("MIRROR_AIR_GAP_KILLS").unwrap_or(DEFAULT_KILLS);
    println!("MIRROR_AIR_GAP_KILLS={count}");
    let mut kills = Kills::new();
    for round in 0..count {
        kills.round(round);
    }
    println!("{} of {count} kills hit something unfinished", kills.unfinished);
    let left = std::fs::read_dir(kills.office.data_dir().join("imports")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() <= 1, "what was staged is gone, but for the lock: {left:?}");
    assert!(kills.office.terminate().success());
    kills.office.restart();
    kills.is_whole();
}

/// A call that happens more often within one thread is tried no further.
const MOST: u64 = 20;

impl Kills {
    /// Whether the server was killed before the Nth such call of one of its threads, while it took in a bundle; `None` where that cannot be done.
    fn killed_before(&mut self, call: &str, nth: u64, round: u64) -> Option<bool> {
        self.week(round);
        let bundle = self.outside.on_stick(&format!("week{round}.tar"));
        let since = self.last.clone();
        ok(&self
            .outside
            .mirror
            .run(&["export", "-o", text(&bundle), "--since", text(&since)]));
        let (before, files) = (index_of(&self.office.data_dir()), self.office.kept_files());
        let inject = format!("inject={call}:signal=KILL:when={nth}");
        let trace = format!("trace={call}");
        let strace = Strace::on(&self.office, &["-o", "/dev/null", "-e", &trace, "-e", &inject])?;
        let import = ["import", text(&bundle)];
        let output = self.office.run(&import);
        let was_killed = !self.office.is_running();
        self.office.kill9();
        strace.wait();
        disk_is_sound(&self.office);
        let (ended, killed) = (
            output.status.success(),
            if was_killed { "killed" } else { "not killed" },
        );
        let what = format!("{killed} before {call} {nth}; the command had ended well: {ended}");
        self.is_old_or_new(&what, ended, &before, &files);
        ok(&self.office.run(&import));
        self.last = bundle;
        self.is_whole();
        Some(was_killed)
    }
}

#[test]
fn killed_before_any_call_that_changes_the_disk_an_import_is_not_half_there() {
    if !there_are_judges() {
        return;
    }
    let is_soak = number_from_environment("MIRROR_AIR_GAP_KILLS").is_some_and(|kills| kills > DEFAULT_KILLS);
    let (mut kills, mut round, mut count) = (Kills::new(), 0, 0);
    for call in DISK_CALLS {
        for nth in 1..=if is_soak { MOST } else { 1 } {
            round += 1;
            match kills.killed_before(call, nth, round) {
                Some(true) => count += 1,
                Some(false) => break,
                None => return,
            }
        }
    }
    println!("{count} kills");
    assert!(count >= DISK_CALLS.len() / 2, "strace hit only {count} times");
}

#[test]
fn two_imports_at_once_are_one() {
    let crates: Vec<_> = (0..CRATES_PER_ROUND)
        .map(|number| krate(&format!("start{number}"), "1.0.0"))
        .collect();
    let outside = Outside::with(&crates);
    outside.keep(&crates);
    let bundle = outside.export("bundle.tar", &[]);
    let (office, key, mut log) = (office(), outside.key(), Log::default());
    let words = ["import", text(&bundle), "--trust", &key];
    let held = std::fs::create_dir_all(office.data_dir().join("imports"))
        .and_then(|()| std::fs::File::create(office.data_dir().join("imports/LOCK")))
        .unwrap();
    held.lock().unwrap();
    let before = visible(&office, &crates);
    let said = refused(&office.run(&words));
    assert!(said.contains("under way"), "{said}");
    assert_eq!(visible(&office, &crates), before);
    held.unlock().unwrap();
    drop(held);
    log.grown(&office);

    let outputs = thread::scope(|scope| {
        let both = [(); 3].map(|()| scope.spawn(|| office.run(&words)));
        both.map(|one| one.join().unwrap())
    });
    for output in outputs.iter().filter(|output| !output.status.success()) {
        assert!(refused(output).contains("under way"), "{}", testkit::said(output));
    }
    assert!(outputs.iter().any(|output| output.status.success()));
    let rows = log.grown(&office);
    let imported = rows.iter().filter(|row| row["result"] == json!("imported")).count();
    assert_eq!(imported, 1, "{rows:?}");
    same_as_outside(&outside.mirror, &office, &crates);
}
