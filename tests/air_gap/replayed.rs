//! The real index of 2020, week by week, with made-up crate files for the versions that somebody locks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, GitUpstream, git_ok};

/// The bundle of the real index, where the repository has its neighbour.
pub fn real_index() -> Option<PathBuf> {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/crates-index-2020-03.bundle");
    if bundle.is_file() {
        return bundle.canonicalize().ok();
    }
    eprintln!("skipped: there is no ../shared/data/crates-index-2020-03.bundle beside the repository");
    None
}

/// Upstream: git for the index, and crate files.
pub struct Replayed {
    pub git: GitUpstream,
    pub files: FakeUpstream,
    /// Oldest first.
    pub commits: Vec<String>,
    /// Where it has come to.
    at: String,
    /// Index files of crates that have made-up files, as upstream has them at that commit.
    real: BTreeMap<String, String>,
    /// Crate and version, and what stands for it.
    made: BTreeMap<(String, String), BuiltCrate>,
    _bare: tempfile::TempDir,
}

impl Replayed {
    pub fn of(bundle: &Path) -> Self {
        let bare = tempfile::tempdir().unwrap();
        git_ok(
            bare.path(),
            &["clone", "-q", "--bare", bundle.to_str().unwrap(), "index.git"],
        );
        let repository = bare.path().join("index.git");
        let commits = git_ok(&repository, &["rev-list", "--reverse", "--first-parent", "master"]);
        let git = GitUpstream::of(&repository);
        let commits: Vec<String> = commits.lines().map(str::to_owned).collect();
        Self {
            git,
            files: FakeUpstream::start(),
            at: commits[0].clone(),
            commits,
            real: BTreeMap::new(),
            made: BTreeMap::new(),
            _bare: bare,
        }
    }

    /// Goes on to a commit of the real index; gives the crates whose files it changed.
    pub fn go_to(&mut self, commit: &str) -> Vec<String> {
        let dir = self.git.dir();
        let range = [self.at.as_str(), commit];
        let changed = git_ok(&dir, &[&["diff-tree", "-r", "--name-only"][..], &range].concat());
        self.at = commit.to_owned();
        let changed: BTreeSet<&str> = changed.lines().filter(|path| *path != "config.json").collect();
        let known: Vec<String> = self
            .real
            .keys()
            .filter(|path| changed.contains(path.as_str()))
            .cloned()
            .collect();
        for path in known {
            self.read(&path);
        }
        self.commit();
        let name = |path: &&str| path.rsplit('/').next().unwrap().to_owned();
        changed.iter().map(name).collect()
    }

    fn read(&mut self, path: &str) {
        let dir = self.git.dir();
        let what = format!("{}:{path}", self.at);
        let there = testkit::git(&dir, &["cat-file", "-e", &what]).status.success();
        if there {
            self.real
                .insert(path.to_owned(), git_ok(&dir, &["cat-file", "blob", &what]));
        } else {
            self.real.remove(path);
        }
    }

    /// Makes crate files for these versions, and commits index lines that name them; gives how many are new.
    pub fn make(&mut self, versions: &[(String, String)]) -> usize {
        let new: Vec<_> = versions
            .iter()
            .filter(|key| !self.made.contains_key(key))
            .cloned()
            .collect();
        for (name, version) in &new {
            let krate = CrateBuilder::new(name, version).build();
            self.files.add(&krate);
            let path = krate.index_path();
            self.made.insert((name.clone(), version.clone()), krate);
            if !self.real.contains_key(&path) {
                self.read(&path);
            }
        }
        if !new.is_empty() {
            self.commit();
        }
        new.len()
    }

    /// An index file whose lines name made-up files where there are such.
    fn made_up(&self, text: &str) -> String {
        let line = |line: &str| {
            let json: Value = serde_json::from_str(line).unwrap();
            let [name, vers, cksum] = ["name", "vers", "cksum"].map(|key| json[key].as_str().unwrap().to_owned());
            match self.made.get(&(name, vers)) {
                Some(krate) => line.replace(&cksum, &krate.checksum.to_hex()),
                None => line.to_owned(),
            }
        };
        text.lines().map(|text| line(text) + "\n").collect()
    }

    /// The tree of the real commit with our files in it, behind what was upstream before.
    fn commit(&self) {
        let dir = self.git.dir();
        let tree = git_ok(&dir, &["rev-parse", &format!("{}^{{tree}}", self.at)]);
        let mut stream = String::from(
            "commit refs/heads/master\ncommitter test <test@example.com> 1700000000 +0000\ndata 4\nweek\n",
        );
        let before = testkit::git(&dir, &["rev-parse", "-q", "--verify", "refs/heads/master"]);
        let before = String::from_utf8(before.stdout).unwrap();
        writeln!(stream, "from {}\nM 040000 {tree} \"\"", before.trim()).unwrap();
        let config = format!("{{\"dl\":\"{}/dl\"}}\n", self.files.base_url());
        let mut file = |path: &str, text: &str| {
            writeln!(stream, "M 100644 inline {path}\ndata {}\n{text}", text.len()).unwrap();
        };
        file("config.json", &config);
        for (path, text) in &self.real {
            file(path, &self.made_up(text));
        }
        let mut import = Command::new("git")
            .args(["fast-import", "--quiet"])
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success());
    }
}

/// The crates of the registry that a lockfile names, with their versions.
pub fn locked(lockfile: &str) -> Vec<(String, String)> {
    let package = |text: &str| {
        let value = |key: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        value("source")?;
        Some((value("name")?, value("version")?))
    };
    lockfile.split("[[package]]").filter_map(package).collect()
}
