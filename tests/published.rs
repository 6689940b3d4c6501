//! The published tree as plain git and cargo see it (issue 2, "Published"): `git clone` of `index.git` while the mirror serves, `git fsck
//! --strict` at all times, one linear history, sparse body and blob the same, commits within two seconds, one commit for a changed
//! `public_url`, and restarts that change nothing.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{
    CargoProject, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, ReservedPort, eventually, git, git_ok, said,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// A batch is committed within two seconds; on a busy machine three times as long.
const BATCH: Duration = Duration::from_secs(6);

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

fn repository(mirror: &MirrorProcess) -> PathBuf {
    mirror.data_dir().join("index.git")
}

fn tip(repository: &Path) -> String {
    git_ok(repository, &["rev-parse", "refs/heads/master"])
}

fn commits(repository: &Path) -> usize {
    git_ok(repository, &["rev-list", "--count", "refs/heads/master"])
        .parse()
        .unwrap()
}

/// None before the first commit.
fn files(repository: &Path) -> BTreeSet<String> {
    let listed = git(repository, &["ls-tree", "-r", "--name-only", "refs/heads/master"]);
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn blob(repository: &Path, path: &str) -> Option<Vec<u8>> {
    let shown = git(repository, &["cat-file", "blob", &format!("refs/heads/master:{path}")]);
    shown.status.success().then_some(shown.stdout)
}

/// Clean, linear, with the one branch that old and new cargos look for.
fn check(repository: &Path) {
    let fsck = git(repository, &["fsck", "--strict", "--full", "--no-dangling"]);
    assert!(fsck.status.success(), "{}", said(&fsck));
    let complaints = String::from_utf8_lossy(&fsck.stderr).to_lowercase();
    assert!(
        !complaints.contains("error") && !complaints.contains("warning"),
        "{complaints}"
    );
    assert_eq!(git_ok(repository, &["symbolic-ref", "HEAD"]), "refs/heads/master");
    let branches = git_ok(
        repository,
        &["for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags"],
    );
    assert_eq!(branches, "refs/heads/master");
    assert_eq!(
        git_ok(repository, &["rev-list", "--min-parents=2", "--count", "--all"]),
        "0"
    );
    assert_eq!(
        git_ok(repository, &["rev-list", "--max-parents=0", "--count", "master"]),
        "1"
    );
}

/// Names that fall into many folders and into few.
fn names(count: usize) -> Vec<String> {
    let letters = |number: usize| char::from(b'a' + u8::try_from(number % 26).unwrap());
    let name = |number: usize| format!("{}{}-crate-{number}", letters(number), letters(number / 3));
    (0..count)
        .map(name)
        .chain(["a", "ab", "abc"].map(str::to_owned))
        .collect()
}

fn publish(upstream: &FakeUpstream, names: &[String]) {
    for name in names {
        upstream.add(&CrateBuilder::new(name, "1.0.0").build());
    }
}

fn pull(mirror: &MirrorProcess, names: &[String]) {
    for name in names {
        assert_eq!(mirror.get(&FakeUpstream::index_path(name)).status, 200, "{name}");
    }
}

fn path_of(name: &str) -> String {
    FakeUpstream::index_path(name).trim_start_matches("/index/").to_owned()
}

/// Waits until all of them are in a commit.
fn wait_committed(mirror: &MirrorProcess, names: &[String]) {
    let all = || {
        let files = files(&repository(mirror));
        names.iter().all(|name| files.contains(&path_of(name))).then_some(())
    };
    eventually(PATIENCE, all).unwrap_or_else(|| panic!("not committed\n{}", mirror.log()));
}

#[test]
fn every_sparse_body_is_the_blob_of_the_published_tree() {
    let upstream = FakeUpstream::start();
    let names = names(60);
    publish(&upstream, &names);
    let mirror = mirror()
        .upstream(&upstream)
        .env("MIRROR_PUBLIC_URL", "http://mirror.test/rust")
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .start();
    pull(&mirror, &names);
    wait_committed(&mirror, &names);
    for name in &names[..20] {
        upstream.add(&CrateBuilder::new(name, "1.1.0").build());
    }
    let bodies: Vec<_> = names
        .iter()
        .map(|name| mirror.get(&FakeUpstream::index_path(name)))
        .collect();
    let repository = repository(&mirror);
    for (name, body) in names.iter().zip(&bodies) {
        let same = eventually(PATIENCE, || {
            (blob(&repository, &path_of(name)).as_ref() == Some(&body.body)).then_some(())
        });
        assert!(same.is_some(), "{name}: {}", body.text());
        let id = git_ok(&repository, &["rev-parse", &format!("master:{}", path_of(name))]);
        assert_eq!(body.header("etag"), Some(format!("\"{id}\"").as_str()));
    }
    let mut expected: BTreeSet<_> = names.iter().map(|name| path_of(name)).collect();
    expected.insert("config.json".to_owned());
    assert_eq!(files(&repository), expected);
    assert_eq!(
        blob(&repository, "config.json"),
        Some(mirror.get("/index/config.json").body)
    );
    check(&repository);
}

#[test]
fn a_change_is_committed_within_a_batch_and_no_change_is_no_commit() {
    let upstream = FakeUpstream::start();
    let names = names(3);
    publish(&upstream, &names);
    let mirror = mirror()
        .upstream(&upstream)
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .start();
    let repository = repository(&mirror);
    for name in &names {
        let body = mirror.get(&FakeUpstream::index_path(name)).body;
        let committed = eventually(BATCH, || {
            (blob(&repository, &path_of(name)).as_ref() == Some(&body)).then_some(())
        });
        assert!(committed.is_some(), "{name}\n{}", mirror.log());
    }
    let (before, count) = (tip(&repository), commits(&repository));
    assert!(count <= names.len() + 2, "{count} commits");
    for _ in 0..5 {
        pull(&mirror, &names);
        assert_eq!(mirror.get("/index/no/bo/nobody").status, 404);
    }
    let more = ["zz-last".to_owned()];
    publish(&upstream, &more);
    pull(&mirror, &more);
    wait_committed(&mirror, &more);
    assert_eq!(
        git_ok(&repository, &["rev-parse", "master~1"]),
        before,
        "asking again is no change"
    );
}

#[test]
fn a_clone_made_while_it_serves_is_an_index_for_cargo() {
    let upstream = FakeUpstream::start();
    upstream.add(
        &CrateBuilder::new("outer", "1.0.0")
            .dep("inner", "1")
            .lib("pub use inner::WORD;")
            .build(),
    );
    upstream.add(
        &CrateBuilder::new("inner", "1.0.0+meta")
            .lib("pub const WORD: &str = \"by git\";")
            .build(),
    );
    let port = ReservedPort::new();
    // what is published without a public_url is the address it listens on
    let mirror = mirror()
        .upstream(&upstream)
        .arg("--listen")
        .arg(&port.authority())
        .start();
    let project = || {
        let project = CargoProject::new().dependency("outer", "1");
        project.main_rs("fn main() { println!(\"{}\", outer::WORD); }")
    };
    let sparse = project().use_mirror(&mirror);
    assert_eq!(sparse.cargo_ok(&["run", "-q"]), "by git\n");
    wait_committed(&mirror, &["outer", "inner"].map(str::to_owned));
    upstream.go_down();

    let dir = tempfile::tempdir().unwrap();
    let source = repository(&mirror);
    git_ok(dir.path(), &["clone", "-q", source.to_str().unwrap(), "clone"]);
    let clone = dir.path().join("clone");
    check(&clone.join(".git"));
    assert!(clone.join("in/ne/inner").is_file());
    for (index, with_cli) in [(&clone, false), (&clone, true), (&source, false)] {
        let index = format!("file://{}", index.display());
        let by_git = project()
            .use_index(&index)
            .env("CARGO_NET_GIT_FETCH_WITH_CLI", &with_cli.to_string());
        assert_eq!(by_git.cargo_ok(&["run", "-q"]), "by git\n", "{index}");
        assert_eq!(by_git.lockfile(), sparse.lockfile());
    }
}

#[test]
fn a_clone_follows_by_fast_forward() {
    let upstream = FakeUpstream::start();
    let names = names(20);
    publish(&upstream, &names);
    let mut mirror = mirror().upstream(&upstream).start();
    let (first, rest) = names.split_at(5);
    pull(&mirror, first);
    wait_committed(&mirror, first);
    let dir = tempfile::tempdir().unwrap();
    let source = repository(&mirror).display().to_string();
    git_ok(dir.path(), &["clone", "-q", &source, "clone"]);
    let clone = dir.path().join("clone");
    for some in rest.chunks(6) {
        pull(&mirror, some);
        wait_committed(&mirror, some);
        git_ok(&clone, &["pull", "-q", "--ff-only"]);
        assert!(some.iter().all(|name| clone.join(path_of(name)).is_file()));
        mirror.restart();
    }
    assert_eq!(tip(&clone), tip(&repository(&mirror)));
    check(&clone.join(".git"));
}

#[test]
fn another_public_url_is_one_commit_and_a_restart_is_none() {
    let upstream = FakeUpstream::start();
    let names = names(10);
    publish(&upstream, &names);
    let data = tempfile::tempdir().unwrap();
    let repository = data.path().join("index.git");
    let start = |url: &str| {
        let mirror = mirror().upstream(&upstream).data_dir(data.path());
        mirror.env("MIRROR_PUBLIC_URL", url).start()
    };
    let configured = |url: &str| {
        let config = blob(&repository, "config.json")?;
        let json: serde_json::Value = serde_json::from_slice(&config).unwrap();
        (json["api"] == url).then_some(())
    };
    let first = start("http://one.test");
    pull(&first, &names);
    wait_committed(&first, &names);
    assert!(configured("http://one.test").is_some());
    assert!(first.terminate().success());
    let (before, count) = (tip(&repository), commits(&repository));
    let lines = git_ok(&repository, &["ls-tree", "-r", "master"]);

    for (url, added) in [
        ("http://one.test", 0),
        ("https://two.test/x", 1),
        ("https://two.test/x", 1),
    ] {
        let next = start(url);
        eventually(PATIENCE, || configured(url)).unwrap_or_else(|| panic!("{url}\n{}", next.log()));
        pull(&next, &names);
        assert!(next.terminate().success());
        assert_eq!(commits(&repository), count + added, "{url}");
        check(&repository);
    }
    assert_eq!(git_ok(&repository, &["rev-parse", "master~1"]), before);
    let changed = git_ok(&repository, &["diff", "--name-only", "master~1", "master"]);
    assert_eq!(changed, "config.json");
    let now = git_ok(&repository, &["ls-tree", "-r", "master"]);
    let without_config = |lines: &str| lines.lines().filter(|line| !line.contains("config.json")).count();
    assert_eq!(without_config(&now), without_config(&lines));
}

#[test]
fn fsck_is_clean_at_every_moment_and_everything_outlives_restarts() {
    let upstream = FakeUpstream::start();
    let names = names(150);
    publish(&upstream, &names);
    let mut mirror = mirror().upstream(&upstream).start();
    let dir = repository(&mirror);
    std::thread::scope(|scope| {
        let loads: Vec<_> = names
            .chunks(names.len().div_ceil(4))
            .map(|some| {
                let mirror = &mirror;
                scope.spawn(move || pull(mirror, some))
            })
            .collect();
        while loads.iter().any(|load| !load.is_finished()) {
            // before the first commit there is no branch to check
            if git(&dir, &["rev-parse", "--verify", "-q", "master"]).status.success() {
                check(&dir);
            }
        }
    });
    wait_committed(&mirror, &names);
    check(&dir);
    let bodies: Vec<_> = names
        .iter()
        .map(|name| mirror.get(&FakeUpstream::index_path(name)))
        .collect();
    let before = tip(&dir);
    upstream.go_down();
    for way in ["SIGTERM", "SIGKILL", "SIGKILL"] {
        if way == "SIGKILL" {
            mirror.kill9();
        } else {
            assert!(mirror.terminate().success());
        }
        check(&dir);
        mirror.restart();
        assert_eq!(tip(&dir), before, "{way}");
        check(&dir);
        assert_eq!(mirror.metric("index_files"), names.len() as u64);
        for (name, body) in names.iter().zip(&bodies) {
            let again = mirror.get(&FakeUpstream::index_path(name));
            assert_eq!((again.status, &again.body), (200, &body.body), "{name} after {way}");
            assert_eq!(again.header("etag"), body.header("etag"));
        }
    }
}

#[test]
fn what_was_pulled_just_before_the_end_is_committed() {
    let upstream = FakeUpstream::start();
    let names = names(30);
    publish(&upstream, &names);
    let mirror = mirror().upstream(&upstream).start();
    pull(&mirror, &names);
    assert!(mirror.terminate().success());
    let files = files(&repository(&mirror));
    assert!(names.iter().all(|name| files.contains(&path_of(name))), "{files:?}");
    check(&repository(&mirror));
}

#[test]
fn a_removed_crate_leaves_the_tree() {
    let upstream = FakeUpstream::start();
    let names = names(5);
    publish(&upstream, &names);
    let mirror = mirror()
        .upstream(&upstream)
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .env("MIRROR_INDEX__REMOVAL_GRACE", "500ms")
        .start();
    pull(&mirror, &names);
    wait_committed(&mirror, &names);
    upstream.remove_crate(&names[0]);
    let path = FakeUpstream::index_path(&names[0]);
    eventually(PATIENCE, || (mirror.get(&path).status == 404).then_some(())).expect("its grace is short");
    let gone = eventually(BATCH, || {
        (!files(&repository(&mirror)).contains(&path_of(&names[0]))).then_some(())
    });
    assert!(gone.is_some());
    check(&repository(&mirror));
}
