//! A random walk of upstream's index, followed over git round by round, with git clients left behind at old commits (issue 3, "Proof").
//!
//! After each round the published tree is upstream's but for `config.json` and the crates whose removal is held. A client that updates, from whatever
//! commit it had, has the published commit and a clean `git fsck --strict`. Memory, open files and files on the disk stay flat.
//!
//! `MIRROR_SOAK_ROUNDS` is how often (20; `just soak-git` says 2,000), `MIRROR_SOAK_SEED` repeats a run.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use testkit::{GitUpstream, MirrorProcess, git_ok, said};

/// Crates at the start; the walk goes on from there.
const CRATES: u64 = 300;
/// The limits of a repository (64 packs of three files, 256 loose objects) and what else is in a data directory.
const MOST_FILES: usize = 800;
const MAY_GROW_BYTES: u64 = 48 << 20;
const MAY_OPEN_MORE: usize = 24;

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

/// One version of upstream's index.
#[derive(Debug, Clone)]
struct Version {
    number: u64,
    checksum: u64,
    yanked: bool,
}

struct Soak {
    upstream: GitUpstream,
    mirror: MirrorProcess,
    clients: tempfile::TempDir,
    random: Random,
    crates: BTreeMap<String, Vec<Version>>,
    /// Crates that once left the index whole: of these the mirror lets only so many go within an hour.
    removed: BTreeSet<String>,
    published: usize,
}

/// What must not grow.
#[derive(Debug, Clone, Copy)]
struct Reading {
    rss_bytes: u64,
    open_files: usize,
}

impl Soak {
    fn new(seed: u64) -> Self {
        let upstream = GitUpstream::start();
        let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
            .env("MIRROR_UPSTREAM__GIT", &upstream.url())
            .env("MIRROR_INDEX__SYNC_INTERVAL", "24h")
            // a git index names its address, so the clients of a mirror on any free port need it to have one
            .env("MIRROR_PUBLIC_URL", "http://127.0.0.1:1")
            .start();
        let mut soak = Self {
            upstream,
            mirror,
            clients: tempfile::tempdir().unwrap(),
            random: Random(seed | 1),
            crates: BTreeMap::new(),
            removed: BTreeSet::new(),
            published: 0,
        };
        let names: BTreeSet<String> = (0..CRATES).map(|_| soak.add()).collect();
        soak.commit(&names, Some("{\"dl\":\"http://127.0.0.1:1/dl\"}\n"));
        soak.sync();
        soak
    }

    /// A new crate, or a new version of one that is there.
    fn add(&mut self) -> String {
        let number = self.published;
        self.published += 1;
        let name = match self.some_crate() {
            Some(name) if self.crates.len() as u64 >= CRATES && self.random.next(3) > 0 => name,
            _ => format!("walk{number}"),
        };
        let version = Version {
            number: number as u64,
            checksum: self.random.next(u64::MAX),
            yanked: false,
        };
        self.crates.entry(name.clone()).or_default().push(version);
        name
    }

    fn some_crate(&mut self) -> Option<String> {
        let at = self.random.next(self.crates.len().max(1) as u64);
        self.crates.keys().nth(at as usize).cloned()
    }

    /// One change of upstream's index; gives the crate that it touched.
    fn change(&mut self) -> String {
        let kind = self.random.next(10);
        let Some(name) = self.some_crate().filter(|_| kind >= 4) else {
            return self.add();
        };
        let at = self.random.next(self.crates[&name].len() as u64) as usize;
        let checksum = self.random.next(u64::MAX);
        let versions = self.crates.get_mut(&name).unwrap();
        match kind {
            // the same line as before a yank is the same blob as before
            4..=7 => versions[at].yanked = !versions[at].yanked,
            8 if self.removed.len() < 8 || versions.len() > 1 => {
                versions.remove(at);
                if versions.is_empty() {
                    self.crates.remove(&name);
                    self.removed.insert(name.clone());
                }
            }
            _ => versions[at].checksum = checksum,
        }
        name
    }

    fn commit(&mut self, names: &BTreeSet<String>, config: Option<&str>) {
        let texts: Vec<(String, Option<String>)> = names
            .iter()
            .map(|name| {
                (
                    path_of(name),
                    self.crates.get(name).map(|versions| text_of(name, versions)),
                )
            })
            // one that was added and removed within the round was never there
            .filter(|(path, text)| text.is_some() || self.upstream.dir().join(path).exists())
            .collect();
        let mut files: Vec<(&str, Option<&str>)> =
            texts.iter().map(|(path, text)| (&**path, text.as_deref())).collect();
        files.extend(config.map(|config| ("config.json", Some(config))));
        self.upstream.commit(&files);
    }

    fn round(&mut self) {
        let commits = 1 + self.random.next(3);
        for _ in 0..commits {
            let changes = 1 + self.random.next(4);
            let names: BTreeSet<String> = (0..changes).map(|_| self.change()).collect();
            self.commit(&names, None);
        }
        if self.random.next(15) == 0 {
            self.upstream.squash();
            if self.random.next(3) == 0 {
                self.upstream.prune();
            }
        }
        self.sync();
        self.compare();
        if self.random.next(2) == 0 {
            self.update_a_client();
        }
    }

    fn sync(&self) {
        let output = self.mirror.run(&["sync"]);
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&self.upstream.head()), "{text}");
    }

    fn repository(&self) -> PathBuf {
        self.mirror.data_dir().join("index.git")
    }

    fn compare(&self) {
        let [upstream, mirror] = [self.upstream.dir(), self.repository()].map(|dir| blobs(&dir));
        let paths: BTreeSet<&String> = upstream.keys().chain(mirror.keys()).collect();
        let held: BTreeSet<String> = self.removed.iter().map(|name| path_of(name)).collect();
        let differ = |path: &&&String| upstream.get(**path) != mirror.get(**path);
        let wrong: Vec<&&String> = paths
            .iter()
            .filter(differ)
            .filter(|path| path.as_str() != "config.json" && !held.contains(path.as_str()))
            .collect();
        assert!(wrong.is_empty(), "published otherwise than upstream has it: {wrong:?}");
    }

    /// One of six, each with its own habits; the others stay where they are. Now and then one begins again.
    fn update_a_client(&mut self) {
        let number = self.random.next(6);
        let dir = self.clients.path().join(format!("client{number}"));
        let url = self.mirror.url("/git/index");
        let protocol = format!("protocol.version={}", number % 3);
        let shallow = if number > 3 { "--depth=1" } else { "--no-tags" };
        if dir.exists() && self.random.next(20) == 0 {
            std::fs::remove_dir_all(&dir).unwrap();
        }
        if dir.exists() {
            let master = "+refs/heads/master:refs/heads/master";
            git_ok(&dir, &["-c", &protocol, "fetch", "-q", shallow, &url, master]);
        } else {
            let to = dir.to_str().unwrap();
            let home = self.clients.path();
            git_ok(home, &["-c", &protocol, "clone", "-q", "--bare", shallow, &url, to]);
        }
        let [theirs, ours] = [&dir, &self.repository()].map(|dir| git_ok(dir, &["rev-parse", "refs/heads/master"]));
        assert_eq!(theirs, ours, "client {number}");
        git_ok(&dir, &["fsck", "--strict", "--no-dangling"]);
    }

    fn reading(&self) -> Reading {
        let handles = format!("/proc/{}/fd", self.mirror.id());
        Reading {
            rss_bytes: self.mirror.rss_bytes(),
            open_files: std::fs::read_dir(handles).unwrap().count(),
        }
    }
}

fn path_of(name: &str) -> String {
    format!("{}/{}/{name}", &name[..2], &name[2..4])
}

fn text_of(name: &str, versions: &[Version]) -> String {
    let line = |version: &Version| {
        format!(
            "{{\"name\":\"{name}\",\"vers\":\"0.{}.0\",\"deps\":[],\"cksum\":\"{:064x}\",\"features\":{{}},\"yanked\":{}}}\n",
            version.number, version.checksum, version.yanked
        )
    };
    versions.iter().map(line).collect()
}

/// The files of the branch with their ids.
fn blobs(dir: &Path) -> BTreeMap<String, String> {
    let listed = git_ok(dir, &["ls-tree", "-r", "refs/heads/master"]);
    let entry = |line: &str| {
        let (what, path) = line.split_once('\t')?;
        Some((path.to_owned(), what.rsplit(' ').next()?.to_owned()))
    };
    listed.lines().filter_map(entry).collect()
}

fn files_below(dir: &Path) -> usize {
    // a file may go while they are counted
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_below(&entry.path()),
        _ => 1,
    };
    entries.flatten().map(count).sum()
}

#[test]
fn an_index_that_changes_at_random_is_followed_and_served_to_clients_left_behind() {
    let rounds = number_from_environment("MIRROR_SOAK_ROUNDS").unwrap_or(20);
    let random = || RandomState::new().build_hasher().finish();
    let seed = number_from_environment("MIRROR_SOAK_SEED").unwrap_or_else(random);
    println!("MIRROR_SOAK_SEED={seed} repeats this");
    let mut soak = Soak::new(seed);
    let (warm, mut before, mut most_files) = (rounds.div_ceil(2).min(200), None, 0);
    for round in 0..rounds {
        soak.round();
        let files = files_below(&soak.mirror.data_dir());
        most_files = most_files.max(files);
        assert!(files <= MOST_FILES, "{files} files after {round} rounds");
        if round == warm {
            before = Some(soak.reading());
        }
        if round % 100 == 99 {
            println!("{} rounds: {:?}, {files} files", round + 1, soak.reading());
        }
    }
    for _ in 0..20 {
        soak.update_a_client();
    }
    let (before, after) = (before.expect("there is more than one round"), soak.reading());
    println!("{before:?} after {warm} rounds, {after:?} at the end, at most {most_files} files");
    assert!(
        after.rss_bytes <= before.rss_bytes + MAY_GROW_BYTES,
        "{before:?} {after:?}"
    );
    assert!(
        after.open_files <= before.open_files + MAY_OPEN_MORE,
        "{before:?} {after:?}"
    );
    assert!(soak.mirror.is_running());
}
