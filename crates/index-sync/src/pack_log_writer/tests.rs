use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use git_smart_http::{Limits, Protocol, respond};
use tempfile::TempDir;
use testkit::git_ok;

use super::*;
use crate::{Change, Repository, RepositoryLimits, TreeFile};

const MONTH: Duration = Duration::from_secs(30 * 86_400);

struct Bench {
    dir: TempDir,
    repository: Option<Repository>,
}

impl Bench {
    fn new(limits: RepositoryLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repository = Some(open(&dir, limits));
        Self { dir, repository }
    }

    fn repository(&mut self) -> &mut Repository {
        self.repository.as_mut().unwrap()
    }

    /// Stops, does something to the files, and starts again.
    fn restarted(&mut self, meanwhile: impl FnOnce(&Path)) {
        self.repository = None;
        meanwhile(self.dir.path());
        self.repository = Some(open(&self.dir, RepositoryLimits::default()));
    }

    fn publish(&mut self, name: &str, text: &str) -> CommitId {
        let file = TreeFile::Index(format!("3/a/{name}").parse().unwrap());
        let content = Some(text.as_bytes().to_vec());
        let change = Change { file, content };
        let time = 1_800_000_000;
        self.repository().commit(&[change], "Publish", time).unwrap().unwrap()
    }

    fn state(&self) -> PackLogState {
        self.repository.as_ref().unwrap().pack_log().unwrap().state()
    }

    /// Waits for the log that ends at what is published.
    fn log(&self) -> PackLog {
        let tip = self.repository.as_ref().unwrap().reader().tip().unwrap().unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if let PackLogState::Ready(log) = self.state()
                && log.view().head().map(|head| head.id) == Some(id(tip.commit))
                && log.view().root_is_whole()
            {
                return log;
            }
            thread::yield_now();
        }
        panic!("the log is never ready");
    }

    /// What a git client gets that has the tree of `have`, or nothing, judged by git: all of the newest commit.
    fn assert_serves(&self, have: Option<&Clone>) -> Clone {
        let view = self.log().view();
        let want = view.head().unwrap().id;
        let clone = Clone {
            dir: tempfile::tempdir().unwrap(),
            head: CommitId::from_bytes(want.0),
        };
        let git = clone.git();
        git_ok(clone.dir.path(), &["init", "-q", "--bare", "-b", "master", "git"]);
        let have_line = have.map_or_else(String::new, |have| pkt(&format!("have {}\n", have.head)));
        if let Some(have) = have {
            let theirs = have.git().join("objects");
            fs::write(git.join("objects/info/alternates"), format!("{}\n", theirs.display())).unwrap();
        }
        let want = pkt(&format!("want {}\n", clone.head));
        let body = format!(
            "{}0001{}{want}{have_line}{}0000",
            pkt("command=fetch"),
            pkt("ofs-delta"),
            pkt("done\n")
        );
        let answer = respond(&view, Protocol::V2, body.as_bytes(), &Limits::default()).unwrap();
        let bytes: Vec<u8> = answer.pieces().flat_map(|piece| piece.unwrap().to_vec()).collect();
        let pack = git.join("objects/pack/pack-x.pack");
        fs::write(&pack, packed(&bytes)).unwrap();
        git_ok(&git, &["index-pack", "--strict", pack.to_str().unwrap()]);
        git_ok(&git, &["update-ref", "refs/heads/master", &clone.head.to_string()]);
        assert_eq!(git_ok(&git, &["fsck", "--strict", "--no-dangling"]), "");
        let published = self.dir.path().join("index.git");
        let listed = |dir: &Path| git_ok(dir, &["ls-tree", "-r", "master"]);
        assert_eq!(listed(&git), listed(&published));
        clone
    }
}

struct Clone {
    dir: TempDir,
    head: CommitId,
}

impl Clone {
    fn git(&self) -> PathBuf {
        self.dir.path().join("git")
    }
}

fn open(dir: &TempDir, limits: RepositoryLimits) -> Repository {
    let mut repository = Repository::open(&dir.path().join("index.git"), limits).unwrap();
    repository.keep_pack_log(&dir.path().join("pack-log"), MONTH).unwrap();
    repository
}

fn pkt(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

/// The pack in an answer of protocol 2: what comes on side-band 1.
fn packed(mut bytes: &[u8]) -> Vec<u8> {
    let mut pack = Vec::new();
    let mut begun = false;
    while bytes.len() >= 4 {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..4]).unwrap(), 16).unwrap();
        let (line, rest) = bytes.split_at(length.max(4));
        let line = &line[4..];
        match line.first() {
            Some(1) if begun => pack.extend_from_slice(&line[1..]),
            Some(3) if begun => panic!("{}", String::from_utf8_lossy(line)),
            _ => begun |= line == b"packfile\n",
        }
        bytes = rest;
    }
    pack
}

/// One file of the log by the beginning of its name.
fn log_file(dir: &Path, prefix: &str) -> PathBuf {
    let files = fs::read_dir(dir.join("pack-log")).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    paths
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix))
        .unwrap()
}

#[test]
fn each_commit_is_there_before_it_is_published() {
    let mut bench = Bench::new(RepositoryLimits::default());
    assert!(
        matches!(bench.state(), PackLogState::Building { .. }),
        "nothing is published"
    );
    bench.publish("abc", "one\n");
    let first = bench.assert_serves(None);
    for n in 0..5 {
        bench.publish("abd", &format!("{n}\n"));
        let PackLogState::Ready(log) = bench.state() else {
            panic!("the log is not ready after a small commit");
        };
        assert_eq!(log.view().commits().len(), n + 2);
    }
    // The first content again: to one who has the first tree alone it must be sent once more.
    bench.publish("abc", "two\n");
    let middle = bench.assert_serves(Some(&first));
    bench.publish("abc", "one\n");
    bench.assert_serves(None);
    bench.assert_serves(Some(&first));
    bench.assert_serves(Some(&middle));
}

#[test]
fn a_log_that_is_gone_cut_or_damaged_is_made_anew() {
    let mut bench = Bench::new(RepositoryLimits::default());
    for n in 0..20 {
        bench.publish(
            &format!("a{}{}", ["b", "c"][n / 10], n % 10),
            &format!("{n} {}\n", "text".repeat(n)),
        );
    }
    let half = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let wrecks: [&dyn Fn(&Path); 6] = [
        &|dir| fs::remove_dir_all(dir.join("pack-log")).unwrap(),
        &|dir| half(log_file(dir, "entries")),
        &|dir| half(log_file(dir, "index")),
        &|dir| half(log_file(dir, "commits")),
        &|dir| fs::write(log_file(dir, "commits"), b"packlog\n\xff\0\0\0\0\0\0\0").unwrap(),
        &|dir| fs::remove_file(log_file(dir, "index")).unwrap(),
    ];
    for (number, wreck) in wrecks.into_iter().enumerate() {
        bench.restarted(wreck);
        let clone = bench.assert_serves(None);
        bench.publish("abc", &format!("after {number}\n"));
        bench.assert_serves(Some(&clone));
        assert!(bench.log().view().verify(|_, _| ()).is_ok());
    }
}

#[test]
fn a_log_without_its_repository_begins_anew() {
    let mut bench = Bench::new(RepositoryLimits::default());
    bench.publish("abc", "one\n");
    bench.publish("abd", "two\n");
    bench.restarted(|dir| fs::remove_dir_all(dir.join("index.git")).unwrap());
    bench.publish("abe", "three\n");
    assert_eq!(bench.log().view().commits().len(), 1);
    bench.assert_serves(None);
}

#[test]
fn damage_that_is_found_while_serving_is_mended() {
    let mut bench = Bench::new(RepositoryLimits::default());
    bench.publish("abc", &"something that is damaged\n".repeat(20));
    bench.publish("abd", "something\n");
    let path = log_file(bench.dir.path(), "entries");
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();
    let view = bench.log().view();
    view.verify(|_, _| ()).unwrap_err();
    assert!(view.is_damaged());
    bench.assert_serves(None);
}

#[test]
fn what_a_crash_left_in_the_log_alone_is_published() {
    let mut bench = Bench::new(RepositoryLimits::default());
    let before = bench.publish("abc", "one\n");
    let ahead = bench.publish("abd", "two\n");
    let set_branch = |commit: CommitId| {
        move |dir: &Path| fs::write(dir.join("index.git/refs/heads/master"), format!("{commit}\n")).unwrap()
    };
    bench.restarted(set_branch(before));
    let tip = |bench: &Bench| {
        bench
            .repository
            .as_ref()
            .unwrap()
            .reader()
            .tip()
            .unwrap()
            .unwrap()
            .commit
    };
    assert_eq!(tip(&bench), ahead);
    bench.assert_serves(None);
    // A branch that went back further, as one brought back from a backup, is what counts.
    let third = bench.publish("abe", "three\n");
    bench.restarted(set_branch(before));
    assert_eq!(tip(&bench), before);
    assert_eq!(bench.log().view().head().unwrap().id, id(before));
    let other = bench.publish("abf", "another\n");
    assert_ne!(other, third);
    bench.assert_serves(None);
}

#[test]
fn a_client_that_asks_just_before_the_branch_moves_does_not_have_the_log_made_anew() {
    let mut bench = Bench::new(RepositoryLimits::default());
    bench.publish("abc", "one\n");
    let tree = bench.repository().reader();
    let before = tree.tip().unwrap();
    let next = bench.publish("abd", "two\n");
    let after = tree.tip().unwrap();
    tree.set_tip(before);
    tree.set_next(next);
    let PackLogState::Ready(log) = bench.state() else {
        panic!("the log is not ready while a commit is published");
    };
    assert_eq!(log.view().head().map(|head| head.id), Some(id(next)));
    let keeper = bench.repository().pack_log().unwrap();
    let is_here = |keeper: &PackLogReader| matches!(locked(&keeper.shared.place).writer, Whereabouts::Here(_));
    assert!(is_here(&keeper), "somebody mends what is good");
    tree.set_tip(after);
    bench.assert_serves(None);
    assert!(is_here(&keeper));
}

#[test]
fn an_old_tip_updates_over_a_squash_and_a_clone_begins_after_it() {
    let limits = RepositoryLimits {
        slack_bytes: 40_000,
        retire_after: Duration::ZERO,
        ..RepositoryLimits::default()
    };
    let mut bench = Bench::new(limits);
    bench.publish("abc", "one\n");
    let old = bench.assert_serves(None);
    let mut squashed = None;
    for n in 0..1000 {
        bench.publish("abd", &format!("{n}\n"));
        squashed = bench.repository().upkeep(SystemTime::now()).unwrap().squashed;
        if squashed.is_some() {
            break;
        }
    }
    let (_, root) = squashed.expect("history is squashed");
    let clone = bench.assert_serves(None);
    assert_eq!(clone.head, root);
    let commits = git_ok(&clone.git(), &["rev-list", "--count", "master"]);
    assert_eq!(commits, "1");
    bench.assert_serves(Some(&old));
    bench.publish("abe", "after\n");
    bench.assert_serves(Some(&old));
    bench.assert_serves(Some(&clone));
    bench.restarted(|_| ());
    bench.assert_serves(Some(&old));
}

#[test]
fn many_objects_are_appended_beside_the_publisher() {
    let mut bench = Bench::new(RepositoryLimits::default());
    bench.publish("abc", "one\n");
    let first = bench.assert_serves(None);
    let change = |number: usize| Change {
        file: TreeFile::Index(format!("fi/ll/filler-{number:04}").parse().unwrap()),
        content: Some(format!("{number}\n").repeat(1 + number % 700).into_bytes()),
    };
    let changes: Vec<Change> = (0..=MANY_OBJECTS).map(change).collect();
    bench.repository().commit(&changes, "Publish many", 1).unwrap().unwrap();
    let many = bench.assert_serves(None);
    bench.assert_serves(Some(&first));
    assert!(bench.log().view().verify(|_, _| ()).is_ok());
    // Made anew from what are mostly deltas, it is the same for a client.
    bench.restarted(|dir| {
        let git = dir.join("index.git");
        git_ok(&git, &["repack", "-q", "-a", "-d", "-f"]);
        fs::remove_dir_all(dir.join("pack-log")).unwrap();
    });
    assert_eq!(bench.assert_serves(None).head, many.head);
    assert!(bench.log().view().verify(|_, _| ()).is_ok());
    bench.publish("abc", "two\n");
    bench.assert_serves(Some(&many));
}
