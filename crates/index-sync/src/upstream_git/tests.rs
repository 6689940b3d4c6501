mod hostile;
mod hostile_server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::{FakeUpstream, Fault, GitUpstream, Times, git_ok};

use super::*;
use crate::upstream_sparse::with_sources;

/// A repository to fetch for, that has nothing.
fn empty() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("objects/pack")).unwrap();
    dir
}

fn upstream_at(url: &str) -> Arc<UpstreamGit> {
    let http = UpstreamHttp::start(upstream_http::Config::new("mirror-test/0 (nobody@localhost)")).unwrap();
    Arc::new(UpstreamGit::new(http, url, Handle::current()).unwrap())
}

/// A first fetch; the error as it would be logged.
async fn fetch(url: &str) -> Result<CommitId, String> {
    let (upstream, dir) = (upstream_at(url), empty());
    let fetching = tokio::task::spawn_blocking(move || {
        let fetched = upstream
            .fetch(dir.path(), &[], &Stop::new())
            .map(|fetched| fetched.commit);
        assert!(!dir.path().join("mirror-fetch").exists());
        fetched.map_err(|error| with_sources(&error))
    });
    fetching.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_index_is_said_in_words() {
    let git = GitUpstream::start();
    let error = fetch(&git.url()).await.unwrap_err();
    assert!(error.contains("matched any of the 0 refs"), "empty: {error}");
    git.commit(&[("1/a", Some("a\n"))]);
    git_ok(&git.dir(), &["branch", "-m", "master", "trunk"]);
    let error = fetch(&git.url()).await.unwrap_err();
    assert!(error.contains("refs/heads/master"), "renamed: {error}");
    let error = fetch(&format!("{}/nothing", git.url())).await.unwrap_err();
    assert!(error.contains("status 404"), "absent: {error}");
    let page = FakeUpstream::start();
    page.serve_at("/git/info/refs?service=git-upload-pack", b"<html>log in</html>");
    page.serve_at("/git/info/refs", b"<html>log in</html>");
    let error = fetch(&format!("{}/git", page.base_url())).await.unwrap_err();
    assert!(error.contains("smart"), "a login page: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_the_first_request_is_followed_by_all() {
    let (git, front) = (GitUpstream::start(), FakeUpstream::start());
    let head = git.commit(&[("1/a", Some("a\n"))]);
    let target = format!("{}/info/refs?service=git-upload-pack", git.url());
    front.fault("/", Fault::Redirect(301, target), Times::Always);
    let http = UpstreamHttp::start(upstream_http::Config::new("mirror-test/0 (nobody@localhost)")).unwrap();
    http.trust(git.url().parse::<UpstreamUrl>().unwrap().authority().clone(), None);
    let url = format!("{}/old", front.base_url());
    let upstream = Arc::new(UpstreamGit::new(http, &url, Handle::current()).unwrap());
    let dir = empty();
    let fetching = tokio::task::spawn_blocking(move || {
        let fetched = upstream.fetch(dir.path(), &[], &Stop::new()).unwrap();
        fetched.commit.to_string()
    });
    assert_eq!(fetching.await.unwrap(), head);
    assert!(front.requests().iter().all(|request| request.method == "GET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_would_fill_the_memory_is_refused() {
    let git = GitUpstream::start();
    git.commit(&[("1/a", Some(&"0".repeat(80 << 20)))]);
    let error = fetch(&git.url()).await.unwrap_err();
    assert!(error.contains("too large"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_ends_when_the_mirror_does() {
    let front = FakeUpstream::start();
    let gate = front.hold("/");
    let (upstream, dir, stop) = (
        upstream_at(&format!("{}/git", front.base_url())),
        empty(),
        Arc::new(Stop::new()),
    );
    let theirs = Arc::clone(&stop);
    let fetching = tokio::task::spawn_blocking(move || upstream.fetch(dir.path(), &[], &theirs).map(|_| ()));
    assert!(gate.wait_reached(1, Duration::from_secs(10)));
    let started = Instant::now();
    stop.now();
    let error = fetching.await.unwrap().unwrap_err();
    assert!(with_sources(&error).contains("the mirror stops"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
    gate.open();
}

#[test]
fn a_tree_with_something_missing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    git_ok(dir.path(), &["init", "-q", "-b", "master"]);
    for (name, text) in [("a", "one"), ("b", "two")] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("file"), text).unwrap();
    }
    let commit = |message: &str| {
        git_ok(dir.path(), &["add", "-A"]);
        git_ok(dir.path(), &["commit", "-q", "-m", message]);
        git_ok(dir.path(), &["rev-parse", "HEAD"]).parse::<CommitId>().unwrap()
    };
    let before = commit("before");
    std::fs::write(dir.path().join("a/file"), "other").unwrap();
    let after = commit("after");
    let checked = |known: &[CommitId]| check(&open_git(&dir.path().join(".git"), 64).unwrap(), after, known);
    checked(&[]).unwrap();
    checked(&[before]).unwrap();
    let remove = |path: &str| {
        let id = git_ok(dir.path(), &["rev-parse", &format!("HEAD:{path}")]);
        std::fs::remove_file(dir.path().join(format!(".git/objects/{}/{}", &id[..2], &id[2..]))).unwrap();
    };
    // What a known tree has is not looked at again.
    remove("b/file");
    checked(&[before]).unwrap();
    assert!(matches!(checked(&[]), Err(Error::MissingObject { .. })));
    remove("a/file");
    assert!(matches!(checked(&[before]), Err(Error::MissingObject { .. })));
}
