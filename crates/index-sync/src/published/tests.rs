use tempfile::TempDir;
use testkit::git_ok;

use super::*;
use crate::repository::{BRANCH, Change, Repository, RepositoryLimits};

fn repository() -> (TempDir, Repository) {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::open(dir.path(), RepositoryLimits::default()).unwrap();
    (dir, repository)
}

fn path(path: &str) -> IndexPath {
    path.parse().unwrap()
}

/// `se/rd/serde=x` sets, `se/rd/serde` alone removes.
fn commit(repository: &mut Repository, changes: &[&str]) -> CommitId {
    let changes: Vec<_> = changes
        .iter()
        .map(|change| {
            let (name, content) = change
                .split_once('=')
                .map_or((*change, None), |(name, content)| (name, Some(content)));
            let file = if name == "config.json" {
                TreeFile::ConfigJson
            } else {
                TreeFile::Index(path(name))
            };
            Change {
                file,
                content: content.map(|content| content.as_bytes().to_vec()),
            }
        })
        .collect();
    repository.commit(&changes, "a commit\n", 1).unwrap().unwrap()
}

#[test]
fn is_empty_before_the_first_commit() {
    let (_dir, repository) = repository();
    let tree = repository.reader();
    assert_eq!(tree.tip().unwrap(), None);
    assert_eq!(tree.read(&TreeFile::ConfigJson).unwrap(), None);
    assert_eq!(tree.entry(&TreeFile::Index(path("1/a"))).unwrap(), None);
    assert_eq!(tree.count_files().unwrap(), 0);
}

#[test]
fn reads_what_is_published() {
    let (_dir, mut repository) = repository();
    let tree = repository.reader();
    commit(&mut repository, &["config.json={}", "1/a=a", "se/rd/serde=old"]);
    commit(&mut repository, &["se/rd/serde=new"]);
    let serde = tree.read(&TreeFile::Index(path("se/rd/serde"))).unwrap().unwrap();
    assert_eq!(
        (serde.bytes.as_slice(), serde.id),
        (b"new".as_slice(), BlobId::of(b"new"))
    );
    assert_eq!(
        tree.entry(&TreeFile::Index(path("se/rd/serde"))).unwrap(),
        Some(serde.id)
    );
    assert_eq!(tree.read(&TreeFile::ConfigJson).unwrap().unwrap().bytes, b"{}");
    for absent in ["1/b", "se/rd/serdeb", "3/a/abc"] {
        assert_eq!(tree.read(&TreeFile::Index(path(absent))).unwrap(), None);
    }
}

#[test]
fn visits_every_index_file() {
    let (_dir, mut repository) = repository();
    commit(
        &mut repository,
        &["se/rd/serde=s", "config.json={}", "1/a=a", "2/ab=ab", "3/a/abc=abc"],
    );
    let mut seen = Vec::new();
    repository
        .reader()
        .for_each_file(|path, id| seen.push((path.to_string(), id)))
        .unwrap();
    let expected = [("1/a", "a"), ("2/ab", "ab"), ("3/a/abc", "abc"), ("se/rd/serde", "s")];
    assert_eq!(
        seen,
        expected.map(|(path, content)| (path.to_owned(), BlobId::of(content.as_bytes())))
    );
    assert_eq!(repository.reader().count_files().unwrap(), 4);
}

#[test]
fn tells_what_changed_between_commits() {
    let (_dir, mut repository) = repository();
    let tree = repository.reader();
    let old = commit(
        &mut repository,
        &["config.json={}", "1/a=a", "se/rd/serde=1", "to/ki/tokio=1"],
    );
    let new = commit(
        &mut repository,
        &["config.json={ }", "2/ab=b", "se/rd/serde=2", "to/ki/tokio"],
    );
    let change = |name: &str, old: Option<&str>, new: Option<&str>| FileChange {
        path: path(name),
        old: old.map(|content| BlobId::of(content.as_bytes())),
        new: new.map(|content| BlobId::of(content.as_bytes())),
    };
    assert_eq!(
        tree.changed_between(old, new).unwrap(),
        [
            change("2/ab", None, Some("b")),
            change("se/rd/serde", Some("1"), Some("2")),
            change("to/ki/tokio", Some("1"), None),
        ]
    );
    assert_eq!(tree.changed_between(new, old).unwrap().len(), 3);
    assert_eq!(tree.changed_between(new, new).unwrap(), []);
    let unknown = CommitId::from_bytes([7; 20]);
    assert!(matches!(
        tree.changed_between(unknown, new),
        Err(Error::MissingObject { .. })
    ));
}

#[test]
fn keeps_no_handle_of_an_older_generation() {
    let (_dir, mut repository) = repository();
    commit(&mut repository, &["1/a=a"]);
    let tree = repository.reader();
    tree.read(&TreeFile::Index(path("1/a"))).unwrap().unwrap();
    let old = tree.take_handle();
    tree.reopen().unwrap();
    tree.put_back(old);
    assert!(tree.idle().is_empty());
    tree.read(&TreeFile::Index(path("1/a"))).unwrap().unwrap();
    assert_eq!(tree.idle().len(), 1);
}

#[test]
fn a_repository_that_is_not_what_is_published_is_noticed() {
    let (dir, mut repository) = repository();
    let tree = repository.reader();
    tree.check_on_disk().unwrap();
    let first = commit(&mut repository, &["se/rd/serde=a"]);
    let second = commit(&mut repository, &["se/rd/serde=b"]);
    tree.check_on_disk().unwrap();
    git_ok(dir.path(), &["pack-refs", "--all"]);
    assert!(!dir.path().join(BRANCH).exists());
    tree.check_on_disk().unwrap();
    let tip = PublishedTree::open_read_only(dir.path()).unwrap().tip().unwrap();
    assert_eq!(tip.unwrap().commit, second);

    git_ok(dir.path(), &["update-ref", BRANCH, &first.to_string()]);
    assert!(matches!(tree.check_on_disk(), Err(Error::BranchMoved { .. })));
    tree.set_next(first);
    tree.check_on_disk().expect("it is where it is being moved to");
    git_ok(dir.path(), &["update-ref", "-d", BRANCH]);
    assert!(matches!(tree.check_on_disk(), Err(Error::Damaged { .. })));
    let objects = dir.path().join("objects");
    std::fs::rename(&objects, dir.path().join("away")).unwrap();
    assert!(matches!(tree.check_on_disk(), Err(Error::Damaged { .. })));
}
