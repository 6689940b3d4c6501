//! What git, and the pack log's own reader, say of the data directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use git_smart_http::PackLogWriter;
use testkit::{git, git_ok, said};

const BRANCH: &str = "refs/heads/master";

/// A data directory, whether a process works on it or not.
pub struct Disk {
    data_dir: PathBuf,
}

/// Where a process was when it was killed, as far as it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    BeforeTheFetch,
    Fetching,
    /// What was fetched is here, and not all of it published.
    Publishing,
    /// The pack log has a commit that the branch does not name yet.
    InThePackLog,
    /// The branch has moved, and the round is not noted as done.
    BranchMoved,
    Upkeep,
    AfterTheRound,
}

impl Disk {
    pub fn new(data_dir: PathBuf) -> Self {
        Self { data_dir }
    }

    pub fn repository(&self) -> PathBuf {
        self.data_dir.join("index.git")
    }

    /// The published commit.
    pub fn tip(&self) -> String {
        git_ok(&self.repository(), &["rev-parse", BRANCH])
    }

    /// The commit without a parent that it goes back to.
    pub fn root(&self) -> String {
        git_ok(&self.repository(), &["rev-list", "--max-parents=0", BRANCH])
    }

    /// How long after `begun` the last round was noted as done.
    pub fn round_took(&self, begun: SystemTime) -> Duration {
        let file = self.repository().join("refs/mirror/upstream");
        let noted = file.metadata().and_then(|noted| noted.modified()).unwrap();
        noted.duration_since(begun).unwrap_or_default()
    }

    pub fn files(&self) -> usize {
        below(&self.data_dir).0
    }

    pub fn repository_bytes(&self) -> u64 {
        below(&self.repository()).1
    }

    pub fn pack_log_bytes(&self) -> u64 {
        below(&self.data_dir.join("pack-log")).1
    }

    /// With those that were replaced and wait for their end.
    pub fn packs(&self) -> usize {
        let entries = std::fs::read_dir(self.repository().join("objects/pack")).unwrap();
        let is_pack = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "pack");
        entries.flatten().map(|entry| entry.path()).filter(is_pack).count()
    }

    /// Nothing runs here: all that the branch needs is there and right, and so is the last commit of the pack log, which is the
    /// branch's or goes beside it. `before` is a commit that was published; what is published now comes from it.
    pub fn is_sound(&self, before: &str) -> String {
        let (repository, tip) = (self.repository(), self.tip());
        whole(&repository);
        assert!(self.comes_from(before, &tip), "{tip} takes the place of {before}");
        let logged = self.logged();
        if logged != tip {
            connected(&repository, &logged);
            let near = self.comes_from(&tip, &logged) || self.comes_from(&logged, &tip);
            assert!(near, "the pack log ends at {logged}, and {tip} is published");
        }
        tip
    }

    /// The last commit of the pack log. A copy is opened: opening mends.
    fn logged(&self) -> String {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(self.data_dir.join("pack-log")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let (writer, _) = PackLogWriter::open(copy.path()).expect("a kill does not damage the pack log");
        let view = writer.log().view();
        view.head().expect("there was a commit before the kill").id.to_string()
    }

    /// Whether `new` was published on top of `old`, or in the place of that with its history.
    pub fn comes_from(&self, old: &str, new: &str) -> bool {
        let repository = self.repository();
        let is_on = |old: &str, new: &str| {
            git(&repository, &["merge-base", "--is-ancestor", old, new])
                .status
                .success()
        };
        if is_on(old, new) {
            return true;
        }
        let messages = git_ok(&repository, &["log", "--format=%B", new]);
        let mut replaced = messages.lines().filter_map(|line| line.strip_prefix("Replaces: "));
        replaced.any(|replaced| {
            let is_gone = !git(&repository, &["cat-file", "-e", replaced]).status.success();
            replaced == old || is_gone || is_on(old, replaced)
        })
    }

    /// Whether what a round fetched is here, and the round not over.
    pub fn is_fetched(&self) -> bool {
        self.repository().join("refs/mirror/incoming").exists()
    }

    /// Whether one pack is taking the place of others.
    pub fn is_replacing(&self) -> bool {
        let text = std::fs::read_to_string(self.repository().join("mirror-retired")).unwrap_or_default();
        text.lines().any(|line| line.starts_with("replace "))
    }

    /// Where in a round that was to bring `upstream` the process was killed; `before` was published then.
    pub fn moment(&self, before: &str, upstream: &str) -> Moment {
        let repository = self.repository();
        let read = |name: &str| std::fs::read_to_string(repository.join(name)).unwrap_or_default();
        if self.is_replacing() {
            Moment::Upkeep
        } else if repository.join("mirror-fetch").exists() {
            Moment::Fetching
        } else if !read("refs/mirror/incoming").is_empty() {
            match self.tip() {
                tip if tip != before => Moment::BranchMoved,
                tip if tip != self.logged() => Moment::InThePackLog,
                _ => Moment::Publishing,
            }
        } else if read("refs/mirror/upstream").trim() == upstream {
            Moment::AfterTheRound
        } else {
            Moment::BeforeTheFetch
        }
    }
}

/// `git fsck` of every object that is there, and of all that the references need.
pub fn whole(repository: &Path) {
    let fsck = git(repository, &["fsck", "--strict", "--full", "--no-dangling"]);
    assert!(fsck.status.success(), "{}", said(&fsck));
}

/// Whether all that a commit needs is there.
pub fn connected(repository: &Path, commit: &str) {
    let fsck = git(repository, &["fsck", "--connectivity-only", "--no-dangling", commit]);
    assert!(fsck.status.success(), "{commit}: {}", said(&fsck));
}

/// The files of the branch with their ids.
pub fn blobs(repository: &Path) -> BTreeMap<String, String> {
    let listed = git_ok(repository, &["ls-tree", "-r", BRANCH]);
    let entry = |line: &str| {
        let (what, path) = line.split_once('\t')?;
        Some((path.to_owned(), what.rsplit(' ').next()?.to_owned()))
    };
    listed.lines().filter_map(entry).collect()
}

/// How many files there are below a directory, and their bytes.
fn below(dir: &Path) -> (usize, u64) {
    // a file may go while they are counted
    let Ok(entries) = std::fs::read_dir(dir) else {
        return (0, 0);
    };
    let count = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(what) if what.is_dir() => below(&entry.path()),
        Ok(what) => (1, what.len()),
        Err(_) => (0, 0),
    };
    let sum = |sum: (usize, u64), more: (usize, u64)| (sum.0 + more.0, sum.1 + more.1);
    entries.flatten().map(count).fold((0, 0), sum)
}
