use std::process::Command;

use tempfile::TempDir;

use super::*;

/// What real git says to this; it must be content.
pub(super) fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap();
    let (answer, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "git {arguments:?}: {said}{answer}");
    answer.into_owned()
}

/// Dangling objects are fine, they are what a killed writer leaves; anything else is not.
pub(super) fn fsck(dir: &Path) {
    let said = git(dir, &["fsck", "--strict", "--full", "--no-progress"]);
    assert!(said.lines().all(|line| line.starts_with("dangling ")), "{said}");
}

pub(super) fn put(path: &str, content: impl Into<Vec<u8>>) -> Change {
    Change {
        file: file(path),
        content: Some(content.into()),
    }
}

pub(super) fn file(path: &str) -> TreeFile {
    match path {
        "config.json" => TreeFile::ConfigJson,
        path => TreeFile::Index(path.parse().unwrap()),
    }
}

pub(super) fn text(tree: &PublishedTree, path: &str) -> Option<String> {
    tree.read(&file(path))
        .unwrap()
        .map(|blob| String::from_utf8(blob.bytes).unwrap())
}

fn remove(path: &str) -> Change {
    Change {
        file: file(path),
        content: None,
    }
}

fn open(dir: &Path) -> Repository {
    Repository::open(dir, RepositoryLimits::default()).unwrap()
}

/// A repository with one commit of three files.
fn started() -> (TempDir, Repository, CommitId) {
    let dir = tempfile::tempdir().unwrap();
    let mut repository = open(&dir.path().join("index.git"));
    let changes = [
        put("config.json", "{}"),
        put("se/rd/serde", "serde 1"),
        put("3/a/abc", "abc 1"),
    ];
    let commit = repository.commit(&changes, "first\n", 1_700_000_000).unwrap().unwrap();
    (dir, repository, commit)
}

#[test]
fn is_a_repository_that_git_clones() {
    let (dir, mut repository, first) = started();
    let index = dir.path().join("index.git");
    let second = repository
        .commit(&[put("se/rd/serde", "serde 2")], "second\n", 1_700_000_001)
        .unwrap()
        .unwrap();
    fsck(&index);
    assert_eq!(
        git(&index, &["log", "--format=%H %an <%ae> %ct %s"])
            .lines()
            .collect::<Vec<_>>(),
        [
            format!("{second} mirror <mirror@localhost> 1700000001 second"),
            format!("{first} mirror <mirror@localhost> 1700000000 first"),
        ]
    );
    assert_eq!(
        git(&index, &["ls-tree", "-r", "--name-only", "HEAD"]),
        "3/a/abc\nconfig.json\nse/rd/serde\n"
    );
    git(dir.path(), &["clone", "-q", "index.git", "clone"]);
    assert_eq!(
        fs::read_to_string(dir.path().join("clone/se/rd/serde")).unwrap(),
        "serde 2"
    );
    fsck(&dir.path().join("clone"));
}

#[test]
fn gives_the_same_ids_everywhere() {
    let (_one, _, first) = started();
    let (_other, _, same) = started();
    assert_eq!(first, same);
}

#[test]
fn publishes_nothing_if_nothing_changes() {
    let (_dir, mut repository, first) = started();
    assert_eq!(
        repository
            .commit(&[put("3/a/abc", "abc 1"), remove("1/x")], "same\n", 1)
            .unwrap(),
        None
    );
    assert_eq!(repository.commit(&[], "same\n", 1).unwrap(), None);
    assert_eq!(repository.reader().tip().unwrap().unwrap().commit, first);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(open(dir.path()).commit(&[remove("1/x")], "same\n", 1).unwrap(), None);
    fsck(dir.path());
}

#[test]
fn removes_files_and_the_folders_they_leave_empty() {
    let (dir, mut repository, _) = started();
    let index = dir.path().join("index.git");
    repository
        .commit(&[remove("se/rd/serde")], "less\n", 1)
        .unwrap()
        .unwrap();
    assert_eq!(git(&index, &["ls-tree", "--name-only", "HEAD"]), "3\nconfig.json\n");
    assert_eq!(text(&repository.reader(), "se/rd/serde"), None);
    repository
        .commit(&[remove("3/a/abc"), remove("config.json")], "nothing\n", 1)
        .unwrap()
        .unwrap();
    assert_eq!(git(&index, &["ls-tree", "HEAD"]), "");
    assert_eq!(repository.reader().count_files().unwrap(), 0);
    fsck(&index);
    drop(repository);
    assert!(open(&index).commit(&[put("1/a", "a")], "again\n", 1).unwrap().is_some());
    fsck(&index);
}

#[test]
fn applies_changes_in_their_order() {
    let (_dir, mut repository, _) = started();
    let changes = [put("1/a", "one"), put("1/a", "two"), put("1/b", "b"), remove("1/b")];
    repository.commit(&changes, "order\n", 1).unwrap().unwrap();
    assert_eq!(text(&repository.reader(), "1/a").unwrap(), "two");
    assert_eq!(text(&repository.reader(), "1/b"), None);
}

#[test]
fn writes_each_commit_as_one_pack() {
    let (dir, mut repository, _) = started();
    let index = dir.path().join("index.git");
    let changes: Vec<_> = (0..100)
        .map(|n| put(&format!("cr/at/crate{n}"), format!("crate {n}")))
        .collect();
    repository.commit(&changes, "many\n", 1).unwrap().unwrap();
    let counts = git(&index, &["count-objects", "-v"]);
    for line in ["count: 0", "packs: 2", "garbage: 0"] {
        assert!(counts.lines().any(|found| found == line), "{counts}");
    }
    fsck(&index);
    assert_eq!(text(&repository.reader(), "cr/at/crate57").unwrap(), "crate 57");
    assert!(layout::list(&layout::staging(&index)).unwrap().is_empty());
}

#[test]
fn survives_being_opened_again() {
    let (dir, repository, first) = started();
    let before = repository.reader().tip().unwrap().unwrap();
    drop(repository);
    let mut repository = open(&dir.path().join("index.git"));
    assert_eq!(repository.reader().tip().unwrap().unwrap(), before);
    assert_eq!(
        (before.commit, before.time_unix, before.message.as_str()),
        (first, 1_700_000_000, "first\n")
    );
    assert!(repository.commit(&[put("1/a", "a")], "more\n", 1).unwrap().is_some());
    assert_eq!(
        git(&dir.path().join("index.git"), &["rev-list", "--count", "HEAD"]),
        "2\n"
    );
}

#[test]
fn sweeps_what_a_killed_writer_left() {
    let (dir, mut repository, first) = started();
    let index = dir.path().join("index.git");
    let many: Vec<_> = (0..100)
        .map(|n| put(&format!("cr/at/crate{n}"), format!("crate {n}")))
        .collect();
    let tip = repository.commit(&many, "many\n", 1).unwrap().unwrap();
    drop(repository);
    let pack = layout::packs(&index).join(format!("{}.pack", packs_on_disk(&index).unwrap()[0]));
    let leftovers = [
        "HEAD.lock",
        "refs/heads/master.lock",
        "mirror-retired.lock",
        "mirror-staging/.tmpAbc",
        "mirror-staging/pack-0000000000000000000000000000000000000001.pack",
        "objects/pack/.tmpAbc",
        "objects/pack/tmp_pack_x",
        "objects/pack/pack-0000000000000000000000000000000000000002.keep",
        "objects/pack/pack-0000000000000000000000000000000000000003.idx",
        "objects/pack/pack-0000000000000000000000000000000000000004.pack",
        "objects/00/tmp_obj_1",
        "objects/00/00000000000000000000000000000000000000",
    ];
    for leftover in leftovers {
        let path = index.join(leftover);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The last one is a loose object that a power cut left empty.
        let content = if leftover.starts_with("objects/00/0") {
            Vec::new()
        } else {
            fs::read(&pack).unwrap()
        };
        fs::write(&path, &content[..content.len() / 2]).unwrap();
    }
    let mut repository = open(&index);
    for leftover in leftovers {
        assert!(!index.join(leftover).exists(), "{leftover} is still there");
    }
    fsck(&index);
    assert_eq!(repository.reader().tip().unwrap().unwrap().commit, tip);
    assert_eq!(repository.reader().changed_between(first, tip).unwrap().len(), 100);
    assert!(repository.commit(&[put("1/a", "a")], "on\n", 1).unwrap().is_some());
    fsck(&index);
}

#[test]
fn goes_on_after_its_making_was_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("objects/info")).unwrap();
    fs::write(dir.path().join("HEAD.lock"), "ref").unwrap();
    assert!(
        open(dir.path())
            .commit(&[put("1/a", "a")], "on\n", 1)
            .unwrap()
            .is_some()
    );
    fsck(dir.path());
}

#[test]
fn says_that_it_is_damaged() {
    type Damage = fn(&Path, &[String]);
    let no_pack: Damage = |index, packs| packs.iter().for_each(|pack| storage::remove_pack(index, pack).unwrap());
    // The second commit needs folders of the first.
    let no_first: Damage = |index, packs| storage::remove_pack(index, &packs[0]).unwrap();
    let branch: Damage = |index, _| fs::write(index.join(BRANCH), "nonsense\n").unwrap();
    for (what, damage) in [("no pack", no_pack), ("first pack", no_first), ("branch", branch)] {
        let (dir, mut repository, _) = started();
        let index = dir.path().join("index.git");
        let mut packs = packs_on_disk(&index).unwrap();
        repository.commit(&[put("1/a", "a")], "second\n", 1).unwrap().unwrap();
        drop(repository);
        packs.extend(
            packs_on_disk(&index)
                .unwrap()
                .into_iter()
                .filter(|pack| *pack != packs[0])
                .collect::<Vec<_>>(),
        );
        damage(&index, &packs);
        let opened = Repository::open(&index, RepositoryLimits::default());
        assert!(
            matches!(opened, Err(Error::Damaged { .. })),
            "{what}: {:?}",
            opened.err()
        );
    }
}

#[test]
fn notices_a_pack_that_was_cut_short() {
    let (dir, mut repository, _) = started();
    let index = dir.path().join("index.git");
    let many: Vec<_> = (0..100)
        .map(|n| put(&format!("cr/at/crate{n}"), format!("crate {n}")))
        .collect();
    repository.commit(&many, "many\n", 1).unwrap().unwrap();
    drop(repository);
    let pack = layout::packs(&index).join(format!("{}.pack", packs_on_disk(&index).unwrap()[0]));
    let content = fs::read(&pack).unwrap();
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, &content[..content.len() / 2]).unwrap();
    let opened = Repository::open(&index, RepositoryLimits::default());
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{:?}", opened.err());
}

#[test]
fn does_not_overrun_another_program() {
    let (dir, mut repository, first) = started();
    let index = dir.path().join("index.git");
    repository.commit(&[put("1/a", "a")], "second\n", 1).unwrap().unwrap();
    git(&index, &["update-ref", BRANCH, &first.to_string()]);
    let refused = repository.commit(&[put("1/b", "b")], "third\n", 1);
    assert!(matches!(refused, Err(Error::BranchMoved { .. })), "{refused:?}");
    // Then what the other did is what is published.
    repository.commit(&[put("1/b", "b")], "third\n", 1).unwrap().unwrap();
    assert_eq!(git(&index, &["log", "--format=%s"]), "third\nfirst\n");
    assert_eq!(text(&repository.reader(), "1/a"), None);
    fsck(&index);
}

#[test]
fn goes_on_after_a_failed_write() {
    let (dir, mut repository, first) = started();
    let index = dir.path().join("index.git");
    fs::write(index.join("refs/heads/master.lock"), "").unwrap();
    assert!(repository.commit(&[put("1/a", "a")], "second\n", 1).is_err());
    assert_eq!(repository.reader().tip().unwrap().unwrap().commit, first);
    assert!(repository.commit(&[put("1/a", "a")], "second\n", 1).unwrap().is_some());
    assert_eq!(text(&repository.reader(), "1/a").unwrap(), "a");
    fsck(&index);
}

#[test]
fn follows_a_branch_that_git_packed() {
    let (dir, repository, first) = started();
    let index = dir.path().join("index.git");
    drop(repository);
    git(&index, &["pack-refs", "--all"]);
    assert!(!index.join(BRANCH).exists());
    let mut repository = open(&index);
    assert_eq!(repository.reader().tip().unwrap().unwrap().commit, first);
    repository.commit(&[put("1/a", "a")], "second\n", 1).unwrap().unwrap();
    assert_eq!(git(&index, &["log", "--format=%s"]), "second\nfirst\n");
}
