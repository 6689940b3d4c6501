use std::collections::BTreeSet;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::repository::layout::{list, packs};
use crate::repository::tests::{fsck, git, put};
use crate::{BlobId, RepositoryLimits};

const TIME: i64 = 1_700_000_000;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(TIME as u64)
}

fn opened(dir: &TempDir, limits: RepositoryLimits) -> Repository {
    Repository::open(dir.path(), limits).unwrap()
}

fn started() -> (TempDir, Repository) {
    let dir = tempfile::tempdir().unwrap();
    let mut repository = opened(&dir, RepositoryLimits::default());
    let changes = [
        put("config.json", "{}"),
        put("se/rd/serde", "serde 1"),
        put("3/a/abc", "abc 1"),
    ];
    repository.commit(&changes, "first\n", TIME).unwrap().unwrap();
    (dir, repository)
}

fn refs(dir: &TempDir) -> Vec<String> {
    let all = git(dir.path(), &["for-each-ref", "--format=%(refname)", "refs/mirror"]);
    all.lines().map(str::to_owned).collect()
}

/// A file that deflates badly, and its path.
fn file(n: usize) -> (String, Vec<u8>) {
    let mut seed = n as u64 + 1;
    let mut next = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    let name = format!("krate{n:05}");
    let path = IndexPath::of(&name.parse().unwrap()).to_string();
    (path, (0..400).map(|_| next()).collect())
}

fn files(range: std::ops::Range<usize>) -> Vec<Change> {
    let files = range.map(file);
    files.map(|(path, content)| put(&path, content)).collect()
}

#[test]
fn a_state_of_all_has_the_index_files_and_nothing_else() {
    let (dir, mut repository) = started();
    let leaf = |kind, text: &[u8]| Leaf {
        kind,
        id: BlobId::of(text).into(),
    };
    repository
        .commit(&[put("3/a/abd", "run me"), put("3/a/abe", "README")], "more\n", TIME)
        .unwrap();
    let raw = |path: &str, leaf| RawChange {
        path: path.to_owned(),
        leaf: Some(leaf),
    };
    let odd = [
        raw("README.md", leaf(EntryKind::Blob, b"README")),
        raw(".github/flow.yml", leaf(EntryKind::Blob, b"README")),
        raw("se/rd/README", leaf(EntryKind::Blob, b"README")),
        raw("3/a/abf", leaf(EntryKind::Link, b"README")),
        raw("3/a/abd", leaf(EntryKind::BlobExecutable, b"run me")),
    ];
    repository.commit_raw(&[], &odd, "odd\n", TIME).unwrap().unwrap();
    let state = repository.state_of_published(None, None, TIME).unwrap();
    let expected = "100644 3/a/abc\n100644 3/a/abd\n100644 3/a/abe\n100644 se/rd/serde\n";
    let listed = |tree: TreeId| {
        git(
            dir.path(),
            &["ls-tree", "-r", "--format=%(objectmode) %(path)", &tree.to_string()],
        )
    };
    assert_eq!(listed(state), expected);
    fsck(dir.path());
    // What makes the same files by itself has the same id.
    let made = [
        "3/a/abc=abc 1",
        "3/a/abd=run me",
        "3/a/abe=README",
        "se/rd/serde=serde 1",
    ];
    let made = made
        .map(|file| file.split_once('=').unwrap())
        .map(|(path, text)| put(path, text));
    assert_eq!(repository.stage(None, &made, now()).unwrap(), state);
    let only = ["1/x", "se/rd/serde"].map(|path| path.parse().unwrap());
    let selected = repository.state_of_published(Some(&only), None, TIME).unwrap();
    assert_eq!(listed(selected), "100644 se/rd/serde\n");
    let only = ["3/a/abc".parse().unwrap()];
    let more = repository
        .state_of_published(Some(&only), Some(selected), TIME)
        .unwrap();
    assert_eq!(listed(more), "100644 3/a/abc\n100644 se/rd/serde\n");
    repository
        .commit(
            &[Change {
                file: crate::TreeFile::Index(only[0].clone()),
                content: None,
            }],
            "gone\n",
            TIME,
        )
        .unwrap();
    assert_eq!(
        repository.state_of_published(Some(&only), Some(more), TIME).unwrap(),
        selected
    );
}

#[test]
fn an_empty_repository_has_an_empty_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut repository = opened(&dir, RepositoryLimits::default());
    let empty = repository.state_of_published(None, None, TIME).unwrap();
    assert_eq!(empty.to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    assert_eq!(repository.stage(None, &[], now()).unwrap(), empty);
    repository
        .keep_state(StateKind::Export, "none", empty, "none\n", TIME)
        .unwrap();
    assert_eq!(
        repository.reader().state(StateKind::Export, "none").unwrap(),
        Some(empty)
    );
    assert_eq!(repository.reader().changes_between(None, empty).unwrap(), []);
    fsck(dir.path());
    drop(repository);
    let mut repository = opened(&dir, RepositoryLimits::default());
    repository.commit(&[put("1/a", "a")], "first\n", TIME).unwrap();
    repository.upkeep(now()).unwrap();
    assert_eq!(repository.reader().changes_between(Some(empty), empty).unwrap(), []);
}

#[test]
fn sixty_of_each_kind_are_kept_and_the_oldest_go() {
    let (dir, mut repository) = started();
    let tree = repository.state_of_published(None, None, TIME).unwrap();
    let other = repository.stage(None, &[put("1/a", "a")], now()).unwrap();
    for n in 0..65 {
        // The clock may go backwards.
        repository
            .keep_state(StateKind::Import, &format!("b{n}"), tree, "a bundle\n", TIME - n)
            .unwrap();
    }
    repository
        .keep_state(StateKind::Export, "b0", other, "a bundle\n", TIME)
        .unwrap();
    repository
        .keep_state(StateKind::Site, "b0", tree, "a site\n", TIME)
        .unwrap();
    let reader = repository.reader();
    let kept: Vec<bool> = (0..65)
        .map(|n| reader.state(StateKind::Import, &format!("b{n}")).unwrap() == Some(tree))
        .collect();
    assert_eq!(kept, (0..65).map(|n| n >= 5).collect::<Vec<_>>());
    assert_eq!(reader.state(StateKind::Export, "b0").unwrap(), Some(other));
    assert_eq!(reader.state(StateKind::Site, "b0").unwrap(), Some(tree));
    repository
        .keep_state(StateKind::Site, "b0", other, "a site\n", TIME)
        .unwrap();
    assert_eq!(reader.state(StateKind::Site, "b0").unwrap(), Some(other));
    repository.forget_state(StateKind::Site, "b0").unwrap();
    repository.forget_state(StateKind::Site, "b0").unwrap();
    assert_eq!(reader.state(StateKind::Site, "b0").unwrap(), None);
    for name in ["", "a/b", "..", "a.lock", "A", "ä", &"a".repeat(65)] {
        let refused = repository.keep_state(StateKind::Site, name, tree, "a site\n", TIME);
        assert!(matches!(refused, Err(Error::StateName { .. })), "{name}: {refused:?}");
    }
    let absent = "1234567890123456789012345678901234567890".parse().unwrap();
    let refused = repository.keep_state(StateKind::Site, "b0", absent, "a site\n", TIME);
    assert!(matches!(refused, Err(Error::MissingObject { .. })), "{refused:?}");
    fsck(dir.path());
}

#[test]
fn states_outlast_an_operators_gc() {
    let (dir, mut repository) = started();
    let tree = repository.state_of_published(None, None, TIME).unwrap();
    repository
        .keep_state(StateKind::Export, "one", tree, "one\n", TIME)
        .unwrap();
    repository
        .keep_state(StateKind::Export, "two", tree, "two\n", TIME)
        .unwrap();
    repository.commit(&[put("3/a/abc", "abc 2")], "second\n", TIME).unwrap();
    drop(repository);
    git(dir.path(), &["gc", "-q", "--prune=now"]);
    assert!(
        !dir.path().join("refs/mirror/exports/one").exists(),
        "git packs references"
    );
    let mut repository = opened(&dir, RepositoryLimits::default());
    let changes = repository.reader().changes_between(Some(tree), tree).unwrap();
    assert_eq!(changes, []);
    assert_eq!(repository.reader().state(StateKind::Export, "one").unwrap(), Some(tree));
    let old = BlobId::of(b"abc 1");
    assert_eq!(repository.reader().blob(old).unwrap(), b"abc 1");
    repository.forget_state(StateKind::Export, "one").unwrap();
    assert_eq!(refs(&dir), ["refs/mirror/exports/two"]);
    fsck(dir.path());
}

/// Nothing of a state that is being made is lost by a squash, and the limits hold all the while.
#[test]
fn a_squash_in_between_takes_nothing_of_what_is_staged() {
    let limits = RepositoryLimits {
        packs: 16,
        loose_objects: 64,
        slack_bytes: 128 << 10,
        retire_after: Duration::ZERO,
        ..RepositoryLimits::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let mut repository = opened(&dir, limits);
    repository.commit(&[put("config.json", "{}")], "first\n", TIME).unwrap();
    let (mut tree, mut squashes) = (None, 0);
    for n in 0..60 {
        tree = Some(repository.stage(tree, &files(n * 10..n * 10 + 10), now()).unwrap());
        let noise: Vec<u8> = (0..40).flat_map(|m| file(10_000 + 40 * n + m).1).collect();
        repository
            .commit(&[put("no/is/noise", noise)], "noise\n", TIME)
            .unwrap()
            .unwrap();
        squashes += usize::from(repository.upkeep(now()).unwrap().squashed.is_some());
        let all = list(&packs(dir.path())).unwrap();
        let count = all.iter().filter(|path| path.extension().unwrap() == "pack").count();
        assert!(count <= 16, "{count} packs after {n} pieces");
    }
    assert!(squashes > 2, "only {squashes} squashes");
    let tree = tree.unwrap();
    repository.finish_staging(tree, TIME).unwrap();
    assert_eq!(refs(&dir), [format!("refs/mirror/staged/{tree}")]);
    repository
        .keep_state(StateKind::Import, "bundle", tree, "a bundle\n", TIME)
        .unwrap();
    assert_eq!(refs(&dir), ["refs/mirror/imports/bundle"]);
    let reader = repository.reader();
    let found = reader.changes_between(None, tree).unwrap();
    let expected: BTreeSet<(String, Vec<u8>)> = (0..600).map(file).collect();
    let found = found
        .iter()
        .map(|file| (file.path.to_string(), reader.blob(file.new.unwrap()).unwrap()));
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
    fsck(dir.path());
}

#[test]
fn what_a_killed_import_left_goes() {
    let limits = RepositoryLimits {
        slack_bytes: 64 << 10,
        retire_after: Duration::ZERO,
        ..RepositoryLimits::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let mut repository = opened(&dir, limits.clone());
    repository.commit(&[put("config.json", "{}")], "first\n", TIME).unwrap();
    let tree = repository.stage(None, &files(0..100), now()).unwrap();
    repository.finish_staging(tree, TIME).unwrap();
    repository.stage(Some(tree), &files(100..200), now()).unwrap();
    assert_eq!(refs(&dir).len(), 2);
    drop(repository);
    let mut repository = opened(&dir, limits);
    assert!(refs(&dir).is_empty(), "{:?}", refs(&dir));
    // The first makes one pack of what is needed, the second removes the others.
    repository.upkeep(now()).unwrap();
    repository.upkeep(now()).unwrap();
    let left = git(dir.path(), &["cat-file", "--batch-all-objects", "--batch-check"]);
    assert_eq!(left.lines().count(), 3, "{left}");
    fsck(dir.path());
}

#[test]
fn only_the_newest_states_that_nobody_keeps_stay() {
    let (dir, mut repository) = started();
    let mut made = Vec::new();
    for n in 0..6 {
        let text = format!("abc {n} again");
        repository.commit(&[put("3/a/abc", text)], "next\n", TIME).unwrap();
        made.push(repository.state_of_published(None, None, TIME).unwrap());
    }
    // The same as before is no other.
    assert_eq!(repository.state_of_published(None, None, TIME).unwrap(), made[5]);
    let mut expected: Vec<_> = made[2..]
        .iter()
        .map(|tree| format!("refs/mirror/staged/{tree}"))
        .collect();
    expected.sort();
    assert_eq!(refs(&dir), expected);
}

/// States count to what must be kept: they are no reason to squash again and again.
#[test]
fn a_large_state_is_no_reason_to_squash() {
    let limits = RepositoryLimits {
        slack_bytes: 64 << 10,
        retire_after: Duration::ZERO,
        ..RepositoryLimits::default()
    };
    let (dir, mut repository) = started();
    drop(repository);
    repository = opened(&dir, limits.clone());
    let tree = repository.stage(None, &files(0..1_000), now()).unwrap();
    repository
        .keep_state(StateKind::Export, "large", tree, "large\n", TIME)
        .unwrap();
    let squashed = |repository: &mut Repository, n: usize| {
        let text = format!("abc {n}");
        repository.commit(&[put("3/a/abc", text)], "next\n", TIME).unwrap();
        repository.upkeep(now()).unwrap().squashed.is_some()
    };
    assert!((0..20).all(|n| !squashed(&mut repository, n)));
    drop(repository);
    let mut repository = opened(&dir, limits);
    assert!((20..40).all(|n| !squashed(&mut repository, n)));
    fsck(dir.path());
}
