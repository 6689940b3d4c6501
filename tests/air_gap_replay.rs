//! A year of weekly bundles (issue 5): 52 increments cut from 1,000 commits of the real index of 2020, with made-up crate files. Each week some
//! projects are locked against what is there. `mirror check` says the same on both sides of the gap, and no `cargo fetch` in the office fails that it had not announced.
//!
//! `MIRROR_REPLAY_WEEKS` is how many weeks (2; `just e2e-air-gap` says 52), `MIRROR_AIR_GAP_SEED` repeats a run. Skipped where there is no `../shared/data`.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

#[path = "air_gap/replayed.rs"]
mod replayed;
#[path = "air_gap/sides.rs"]
#[expect(dead_code, reason = "much of it is for the test `air_gap`")]
mod sides;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{CargoProject, MirrorProcess, Random, number_from_environment};

use replayed::{Replayed, locked, real_index};
use sides::{Log, both_ways, builder, check, index_of, key_of, office, ok, text};

/// All that there are.
const YEAR: u64 = 52;
const DEFAULT_WEEKS: u64 = 2;
/// New in each week; the last one is not fetched outside.
const PROJECTS: usize = 3;
/// Lockfiles of earlier weeks that are looked at again.
const REMEMBERED: usize = 6;
/// A project with more packages is left for another one.
const MOST_PACKAGES: usize = 120;
/// So seldom the whole index goes to cargo by git.
const GIT_EACH: u64 = 13;

/// The promise is a second; machines that run tests do other things too.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// A project with its lockfile, and what was said of it outside last.
struct Locked {
    project: CargoProject,
    said: Value,
}

impl Locked {
    fn path(&self) -> PathBuf {
        self.project.path().join("Cargo.lock")
    }
}

struct Replay {
    upstream: Replayed,
    outside: MirrorProcess,
    office: MirrorProcess,
    stick: TempDir,
    random: Random,
    remembered: VecDeque<Locked>,
    last: Option<PathBuf>,
    log: Log,
    fetched: u64,
    announced: u64,
    bytes: u64,
}

#[test]
fn a_year_of_weekly_bundles_breaks_no_build_that_check_had_not_announced() {
    let Some(bundle) = real_index() else { return };
    let weeks = number_from_environment("MIRROR_REPLAY_WEEKS")
        .unwrap_or(DEFAULT_WEEKS)
        .min(YEAR);
    let seed = number_from_environment("MIRROR_AIR_GAP_SEED").unwrap_or(20_200_325);
    println!("MIRROR_REPLAY_WEEKS={weeks} MIRROR_AIR_GAP_SEED={seed}");
    let begun = Instant::now();
    let mut replay = Replay::new(&bundle, seed);
    replay.week(0, 0);
    for week in 1..=weeks {
        let commit = replay.upstream.commits.len() as u64 - 1;
        replay.week(week, (commit * week / YEAR) as usize);
    }
    println!(
        "{weeks} weeks in {:?}: {} fetches went well, {} failed as announced; increments of {} bytes in all",
        begun.elapsed(),
        replay.fetched,
        replay.announced,
        replay.bytes
    );
    assert!(replay.office.terminate().success());
    let begun = Instant::now();
    replay.office.restart();
    assert_eq!(replay.office.get("/index/se/rd/serde").status, 200);
    let took = begun.elapsed();
    println!("with the whole index it takes {took:?} from the start to the first answer");
    assert!(took < FIRST_ANSWER, "{took:?}");
    assert!(
        replay.fetched >= weeks && replay.announced >= 1,
        "both kinds of answers were tried"
    );
}

impl Replay {
    fn new(bundle: &std::path::Path, seed: u64) -> Self {
        let upstream = Replayed::of(bundle);
        let outside = builder()
            .upstream_git(&upstream.git)
            .own_port()
            .env("MIRROR_INDEX__SYNC_INTERVAL", "24h")
            .start();
        Self {
            upstream,
            outside,
            office: office(),
            stick: tempfile::tempdir().unwrap(),
            random: Random::new(seed | 1),
            remembered: VecDeque::new(),
            last: None,
            log: Log::default(),
            fetched: 0,
            announced: 0,
            bytes: 0,
        }
    }

    fn week(&mut self, week: u64, commit: usize) {
        let commit = self.upstream.commits[commit].clone();
        let mut news = self.upstream.go_to(&commit);
        ok(&self.outside.run(&["sync"]));
        if news.is_empty() {
            news = ["log", "rand", "itoa", "semver", "either"].map(str::to_owned).into();
        }
        let projects = self.locked_projects(&news);
        // what nobody fetched outside cannot be carried, and both sides say so
        let fetched = projects
            .iter()
            .take(PROJECTS - 1)
            .map(|project| project.path().join("Cargo.lock"));
        for lockfile in fetched {
            ok(&self.outside.run(&["prefetch", "--lockfile", text(&lockfile)]));
        }
        for old in &self.remembered {
            assert_eq!(
                check(&self.office, &old.path()),
                old.said,
                "week {week}: before the import it is as a week ago"
            );
        }
        self.try_fetch(
            &projects[0],
            week,
            &check(&self.office, &projects[0].path().join("Cargo.lock")),
        );
        for project in projects {
            self.remembered.push_back(Locked {
                project,
                said: Value::Null,
            });
        }
        for old in &mut self.remembered {
            old.said = check(&self.outside, &old.path());
        }
        self.carry(week);
        for old in &self.remembered {
            assert_eq!(
                check(&self.office, &old.path()),
                old.said,
                "week {week}: both sides say the same"
            );
        }
        let latest = self.remembered.len() - PROJECTS;
        let old = self.random.next(self.remembered.len() as u64) as usize;
        let remembered = std::mem::take(&mut self.remembered);
        for (number, locked) in remembered.iter().enumerate() {
            if number >= latest || number == old {
                self.try_fetch(&locked.project, week, &locked.said);
            }
        }
        self.remembered = remembered;
        while self.remembered.len() > REMEMBERED {
            self.remembered.pop_front();
        }
    }

    /// Projects on what is new, as far as cargo can resolve them, locked with the checksums of made-up crate files.
    fn locked_projects(&mut self, news: &[String]) -> Vec<CargoProject> {
        let [sparse, _] = both_ways(&self.outside);
        let (mut projects, mut packages) = (Vec::new(), Vec::new());
        while projects.len() < PROJECTS {
            let name = self.random.of(news).clone();
            let project = CargoProject::new().dependency(&name, "*").use_index(&sparse);
            if !project.cargo(&["generate-lockfile"]).status.success() {
                continue;
            }
            let named = locked(&project.lockfile());
            if named.len() <= MOST_PACKAGES {
                packages.extend(named);
                projects.push(project);
            }
        }
        let new = self.upstream.make(&packages);
        ok(&self.outside.run(&["sync"]));
        for project in &projects {
            let before = locked(&project.lockfile());
            std::fs::remove_file(project.path().join("Cargo.lock")).unwrap();
            project.cargo_ok(&["generate-lockfile"]);
            assert_eq!(locked(&project.lockfile()), before, "only checksums are made up");
        }
        println!("{} packages locked, {new} of them for the first time", packages.len());
        projects
    }

    /// The stick goes over.
    fn carry(&mut self, week: u64) {
        let bundle = self.stick.path().join(format!("week-{week}.tar"));
        let mut words = vec!["export", "-o", text(&bundle)];
        if let Some(last) = &self.last {
            words.extend(["--since", text(last)]);
        }
        ok(&self.outside.run(&words));
        let key = key_of(&self.outside.data_dir());
        let trust: &[&str] = if self.last.is_none() { &["--trust", &key] } else { &[] };
        let begun = Instant::now();
        ok(&self.office.run(&[&["import", text(&bundle)], trust].concat()));
        let (took, size) = (begun.elapsed(), std::fs::metadata(&bundle).unwrap().len());
        println!("week {week}: {size} bytes, imported in {took:?}");
        if self.last.is_some() {
            self.bytes += size;
        }
        let rows = self.log.grown(&self.office);
        assert_eq!(
            (rows.len(), &rows[0]["result"]),
            (1, &Value::from("imported")),
            "{rows:?}"
        );
        assert!(
            index_of(&self.office.data_dir()) == index_of(&self.outside.data_dir()),
            "week {week}: the index differs"
        );
        self.last = Some(bundle);
    }

    /// cargo in the office, from nothing: it fetches all of it exactly where `mirror check` says so.
    fn try_fetch(&mut self, project: &CargoProject, week: u64, said: &Value) {
        let ways = both_ways(&self.office);
        let by = if week % GIT_EACH == GIT_EACH - 1 {
            &ways[..]
        } else {
            &ways[..1]
        };
        for index in by {
            let office = CargoProject::new()
                .use_index(index)
                .time_limit(Duration::from_secs(600));
            for file in ["Cargo.toml", "Cargo.lock"] {
                std::fs::copy(project.path().join(file), office.path().join(file)).unwrap();
            }
            let fetched = office.cargo(&["fetch", "--locked"]);
            let ready = said["ready"].as_bool().unwrap();
            assert_eq!(
                fetched.status.success(),
                ready,
                "week {week} by {index}: check said {said}, and cargo {}",
                testkit::said(&fetched)
            );
            *(if ready { &mut self.fetched } else { &mut self.announced }) += 1;
        }
    }
}
