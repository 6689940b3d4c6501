//! Following upstream's git repository: what is served before, during, after and without it; what a stopped or killed mirror makes of
//! what it finds.

#![expect(clippy::unwrap_used, reason = "a test ends by it")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{
    CrateBuilder, FakeUpstream, GitUpstream, MirrorBuilder, MirrorProcess, eventually, git, git_ok, said, text_of,
};

const PATIENCE: Duration = Duration::from_secs(60);
const FILLERS: usize = 300;

fn mirror(upstream: &GitUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
        .upstream_git(upstream)
        .own_port()
}

/// An index of fillers and one crate, by both protocols.
fn upstreams() -> (FakeUpstream, GitUpstream) {
    let (sparse, git) = (FakeUpstream::start(), GitUpstream::start());
    let krate = CrateBuilder::new("word", "1.0.0").build();
    sparse.add(&krate);
    git.commit_index(&format!("{}/dl", sparse.base_url()), &[krate], FILLERS);
    (sparse, git)
}

fn repository(mirror: &MirrorProcess) -> PathBuf {
    mirror.data_dir().join("index.git")
}

/// Runs a command and gives what it printed.
fn run_ok(mirror: &MirrorProcess, args: &[&str]) -> String {
    let output = mirror.run(args);
    assert!(output.status.success(), "{args:?}: {}\n{}", said(&output), mirror.log());
    text_of(&output).0
}

/// The commits that a clone has, which must be whole and what is published.
fn clone_and_check(mirror: &MirrorProcess) {
    let home = tempfile::tempdir().unwrap();
    git_ok(home.path(), &["clone", "-q", &mirror.url("/git/index"), "clone"]);
    let clone = home.path().join("clone");
    git_ok(&clone, &["fsck", "--strict", "--full"]);
    assert_eq!(
        git_ok(&clone, &["rev-parse", "HEAD"]),
        git_ok(&repository(mirror), &["rev-parse", "refs/heads/master"])
    );
}

fn index_requests(upstream: &FakeUpstream) -> usize {
    let requests = upstream.requests();
    requests
        .iter()
        .filter(|request| request.path.starts_with("/index/") && request.path != "/index/config.json")
        .count()
}

#[test]
fn a_sync_by_command_brings_the_whole_tree_and_sparse_then_asks_nobody() {
    let (sparse, git) = upstreams();
    let mirror = mirror(&git).upstream(&sparse).start();
    let said = run_ok(&mirror, &["sync"]);
    assert!(
        said.contains(&git.head()) && said.contains("This was the index"),
        "{said}"
    );
    assert!(said.contains("0 crate files"), "{said}");
    let published = git_ok(&repository(&mirror), &["log", "-1", "--format=%B", "master"]);
    assert!(
        published.contains(&format!("Upstream-Commit: {}", git.head())),
        "{published}"
    );
    sparse.clear_log();
    for number in [0, 7, 299] {
        let reply = mirror.get(&format!("/index/fi/ll/filler-{number:04}"));
        assert_eq!(reply.text(), GitUpstream::filler(number, 1));
    }
    assert_eq!(mirror.get("/index/wo/rd/word").status, 200);
    assert_eq!(index_requests(&sparse), 0, "{:?}", sparse.requests());

    git.commit(&[
        ("fi/ll/filler-0007", Some(&GitUpstream::filler(7, 2))),
        ("fi/ll/filler-0008", None),
    ]);
    let said = run_ok(&mirror, &["sync"]);
    assert!(said.contains("2 files changed"), "{said}");
    let reply = mirror.get("/index/fi/ll/filler-0007");
    assert_eq!(reply.text(), GitUpstream::filler(7, 2));
    assert_eq!(mirror.get("/index/fi/ll/filler-0008").status, 404);
    let before = git_ok(&repository(&mirror), &["rev-parse", "master^{tree}"]);
    git.squash();
    git.prune();
    run_ok(&mirror, &["sync"]);
    assert_eq!(git_ok(&repository(&mirror), &["rev-parse", "master^{tree}"]), before);
    let verified = run_ok(&mirror, &["verify", "--against-upstream"]);
    assert!(verified.contains("config.json alone"), "{verified}");
    clone_and_check(&mirror);
}

#[test]
fn another_mirror_can_be_followed() {
    let (_sparse, git) = upstreams();
    let first = mirror(&git).start();
    run_ok(&first, &["sync"]);
    let second = mirror(&git)
        .env("MIRROR_UPSTREAM__GIT", &first.url("/git/index"))
        .start();
    let files = |mirror: &MirrorProcess| {
        let listed = git_ok(&repository(mirror), &["ls-tree", "-r", "refs/heads/master"]);
        let files = listed.lines().filter(|file| !file.ends_with("\tconfig.json"));
        files.map(str::to_owned).collect::<Vec<_>>()
    };
    run_ok(&second, &["sync"]);
    assert_eq!(files(&second), files(&first));
    git.commit(&[("fi/ll/filler-0001", Some(&GitUpstream::filler(1, 2)))]);
    run_ok(&first, &["sync"]);
    run_ok(&second, &["sync"]);
    assert_eq!(files(&second), files(&first));
    assert_eq!(files(&second).len(), FILLERS + 1);
    clone_and_check(&second);
}

#[test]
fn a_sync_without_a_server_is_served_by_the_next_one_also_offline() {
    let (_, git) = upstreams();
    let data = tempfile::tempdir().unwrap();
    let builder = mirror(&git).data_dir(data.path());
    let synced = builder.run(&["sync"]);
    assert!(synced.status.success(), "{}", said(&synced));
    let verified = builder.run(&["verify", "--against-upstream"]);
    assert!(verified.status.success(), "{}", said(&verified));
    let requests = git.requests();
    let mirror = builder.arg("--offline").start();
    clone_and_check(&mirror);
    assert_eq!(
        mirror.get("/index/fi/ll/filler-0299").text(),
        GitUpstream::filler(299, 1)
    );
    assert_eq!(mirror.get("/index/ab/se/absent").status, 404);
    let refused = mirror.run(&["sync"]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert_eq!(git.requests(), requests, "offline asks nobody");
}

#[test]
fn while_upstream_is_down_sparse_goes_on_and_git_clients_are_told() {
    let (sparse, git) = upstreams();
    git.refuse(true);
    let mirror = mirror(&git).upstream(&sparse).start();
    let home = tempfile::tempdir().unwrap();
    let url = mirror.url("/git/index");
    let refused = std::thread::scope(|scope| {
        let client = scope.spawn(|| testkit::git(home.path(), &["clone", &url, "clone"]));
        let asked = eventually(PATIENCE, || (git.requests() > 0).then_some(()));
        asked.expect("a git client makes the mirror follow");
        assert_eq!(mirror.get("/index/wo/rd/word").status, 200);
        assert_eq!(mirror.get("/readyz").status, 200);
        client.join().unwrap()
    });
    let (_, why) = text_of(&refused);
    assert!(!refused.status.success() && why.contains("not here yet"), "{why}");
    let synced = mirror.run(&["sync"]);
    assert!(!synced.status.success(), "{}", said(&synced));
    assert!(text_of(&synced).1.contains("503"), "{}", said(&synced));

    git.refuse(false);
    run_ok(&mirror, &["sync"]);
    clone_and_check(&mirror);
    git.refuse(true);
    assert!(!mirror.run(&["sync"]).status.success());
    clone_and_check(&mirror);
}

#[test]
fn a_pack_log_that_is_cut_damaged_or_gone_is_made_anew() {
    let (_, git) = upstreams();
    let mut mirror = mirror(&git).start();
    run_ok(&mirror, &["sync"]);
    let home = tempfile::tempdir().unwrap();
    git_ok(home.path(), &["clone", "-q", &mirror.url("/git/index"), "old"]);
    let old = home.path().join("old");
    git.commit(&[("fi/ll/filler-0007", Some(&GitUpstream::filler(7, 2)))]);
    run_ok(&mirror, &["sync"]);
    let log = mirror.data_dir().join("pack-log");
    let files = || -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(&log).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect()
    };
    assert!(!files().is_empty());
    let cut = |part: fn(u64) -> u64| {
        for path in files() {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(part(file.metadata().unwrap().len())).unwrap();
        }
    };
    let flip = |at: fn(usize) -> usize| {
        for path in files() {
            let mut bytes = fs::read(&path).unwrap();
            let at = at(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 0x55;
            }
            fs::write(path, bytes).unwrap();
        }
    };
    let harms: [(&str, &dyn Fn()); 7] = [
        ("deleted", &|| fs::remove_dir_all(&log).unwrap()),
        ("emptied", &|| cut(|_| 0)),
        ("halved", &|| cut(|size| size / 2)),
        ("cut by a byte", &|| cut(|size| size.saturating_sub(1))),
        ("damaged at the start", &|| flip(|_| 0)),
        ("damaged in the middle", &|| flip(|size| size / 2)),
        ("damaged at the end", &|| flip(|size| size.saturating_sub(1))),
    ];
    for (harm, inflict) in harms {
        mirror.terminate();
        inflict();
        mirror.restart();
        // a client that is cut off by damage found while it is served comes again
        let right = eventually(PATIENCE, || {
            let fresh = tempfile::tempdir().unwrap();
            let clone = testkit::git(fresh.path(), &["clone", "-q", &mirror.url("/git/index"), "new"]);
            clone.status.success().then_some(())
        });
        right.unwrap_or_else(|| panic!("{harm}: nothing comes"));
        clone_and_check(&mirror);
        git_ok(&old, &["fetch", "-q"]);
        git_ok(&old, &["fsck", "--strict"]);
        let tip = git_ok(&repository(&mirror), &["rev-parse", "master"]);
        assert_eq!(git_ok(&old, &["rev-parse", "origin/master"]), tip, "{harm}");
        git_ok(&old, &["update-ref", "refs/remotes/origin/master", "HEAD"]);
    }
}

#[test]
fn a_pack_log_that_is_damaged_while_it_is_served_gives_no_wrong_clone() {
    let (_, git) = upstreams();
    let mirror = mirror(&git).start();
    run_ok(&mirror, &["sync"]);
    clone_and_check(&mirror);
    let entries = fs::read_dir(mirror.data_dir().join("pack-log")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    for path in files {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let middle = file.metadata().unwrap().len() / 2;
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x55; 16], middle).unwrap();
    }
    let home = tempfile::tempdir().unwrap();
    let url = mirror.url("/git/index");
    let whole = eventually(PATIENCE, || {
        let clone = testkit::git(home.path(), &["clone", "-q", &url, "clone"]);
        clone.status.success().then_some(())
    });
    assert!(whole.is_some(), "it was not made anew\n{}", mirror.log());
    git_ok(&home.path().join("clone"), &["fsck", "--strict", "--full"]);
    clone_and_check(&mirror);
}

#[test]
fn a_kill_in_the_middle_of_a_sync_leaves_nothing_that_stops_the_next() {
    let (_, git) = upstreams();
    let mut mirror = mirror(&git).start();
    let objects = |mirror: &MirrorProcess| {
        let listed = testkit::git(&repository(mirror), &["count-objects", "-v"]);
        text_of(&listed).0
    };
    let home = tempfile::tempdir().unwrap();
    let mut old: Option<PathBuf> = None;
    for round in 0..3 {
        if round > 0 {
            for number in 0..100 {
                fs::write(
                    git.dir().join(format!("fi/ll/filler-{number:04}")),
                    GitUpstream::filler(number, round + 1),
                )
                .unwrap();
            }
            git.commit(&[]);
        }
        let (posts, before) = (git.posts(), objects(&mirror));
        let branch = repository(&mirror).join("refs/heads/master");
        let tip = fs::read(&branch).ok();
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| mirror.run(&["sync"]));
            let in_the_middle = || match round {
                0 => git.posts() > posts,
                1 => git.posts() > posts && objects(&mirror) != before,
                _ => fs::read(&branch).ok() != tip,
            };
            let reached = eventually(PATIENCE, || in_the_middle().then_some(()));
            mirror.kill9();
            assert!(reached.is_some(), "round {round}\n{}", mirror.log());
            syncing.join().unwrap();
        });
        git_fsck(&mirror);
        mirror.restart();
        run_ok(&mirror, &["sync"]);
        git_fsck(&mirror);
        let verified = run_ok(&mirror, &["verify", "--against-upstream"]);
        assert!(verified.contains("config.json alone"), "round {round}: {verified}");
        clone_and_check(&mirror);
        if let Some(old) = &old {
            git_ok(old, &["fetch", "-q"]);
            git_ok(old, &["fsck", "--strict"]);
        } else {
            git_ok(home.path(), &["clone", "-q", &mirror.url("/git/index"), "old"]);
            old = Some(home.path().join("old"));
        }
    }
}

fn git_fsck(mirror: &MirrorProcess) {
    let fsck = git(&repository(mirror), &["fsck", "--strict", "--full", "--no-dangling"]);
    assert!(fsck.status.success(), "{}", said(&fsck));
}

#[test]
fn git_alone_is_an_upstream_for_crate_files_too() {
    let (sparse, git) = upstreams();
    let mirror = mirror(&git).start();
    run_ok(&mirror, &["sync"]);
    let reply = mirror.get("/api/v1/crates/word/1.0.0/download");
    assert_eq!(reply.status, 200, "{}\n{}", reply.text(), mirror.log());
    assert_eq!(sparse.count(&FakeUpstream::download_path("word", "1.0.0")), 1);
    assert_eq!(mirror.get("/api/v1/crates/word/2.0.0/download").status, 404);
}

const UPLOAD_PACK: &str = "/git/index/git-upload-pack";
const REQUEST: (&str, &str) = ("Content-Type", "application/x-git-upload-pack-request");
const V2: (&str, &str) = ("Git-Protocol", "version=2");

fn pkt(line: &str) -> String {
    format!("{:04x}{line}", line.len() + 4)
}

/// Sends these bytes and reads the answer's head and as much of its body as has come with it.
fn raw(mirror: &MirrorProcess, first: &str, then: &str) -> String {
    let mut stream = TcpStream::connect(mirror.authority()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut said = String::new();
    if !then.is_empty() {
        while reader.read_line(&mut said).unwrap() > 2 {}
        stream.write_all(then.as_bytes()).unwrap();
    }
    let mut rest = Vec::new();
    // It may be reset, which is an answer too.
    let _ = reader.read_to_end(&mut rest);
    said + &String::from_utf8_lossy(&rest)
}

#[test]
fn odd_ways_to_send_a_request_are_refused_or_understood() {
    let (_, git) = upstreams();
    let mirror = mirror(&git).start();
    run_ok(&mirror, &["sync"]);
    let tip = git_ok(&repository(&mirror), &["rev-parse", "refs/heads/master"]);
    let body = [
        pkt("command=ls-refs"),
        "0001".to_owned(),
        pkt("peel"),
        "0000".to_owned(),
    ]
    .concat();
    let head = |more: &str| {
        let (name, value) = REQUEST;
        format!(
            "POST {UPLOAD_PACK} HTTP/1.1\r\nHost: {}\r\n{name}: {value}\r\nGit-Protocol: version=2\r\n\
             Connection: close\r\n{more}\r\n",
            mirror.authority()
        )
    };
    let expecting = head(&format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len()));
    let said = raw(&mirror, &expecting, &body);
    assert!(
        said.starts_with("HTTP/1.1 100") && said.contains(&format!("{tip} HEAD")),
        "{said}"
    );
    let chunked = head("Transfer-Encoding: chunked\r\n");
    let said = raw(
        &mirror,
        &format!("{chunked}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        "",
    );
    assert!(said.contains(&format!("{tip} HEAD")), "{said}");
    for size in ["zz", "-1", "", "ffffffffffffffffff", "10000000000000000", "0x10"] {
        let said = raw(&mirror, &format!("{chunked}{size}\r\n{body}\r\n0\r\n\r\n"), "");
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{size}: {said}");
    }
    let send = |headers: &[(&str, &str)]| {
        let headers = [&[REQUEST, V2], headers].concat();
        mirror.request("POST", UPLOAD_PACK, &headers, body.as_bytes())
    };
    for coding in ["deflate", "br", "zstd", "gzip, gzip", "gzip,br"] {
        assert_eq!(send(&[("Content-Encoding", coding)]).status, 415, "{coding}");
    }
    let advertisement = "/git/index/info/refs?service=git-upload-pack";
    let with_body = mirror.request("GET", advertisement, &[V2], body.as_bytes());
    assert!(
        with_body.status == 200 && with_body.text().contains("version 2"),
        "{}",
        with_body.text()
    );
    let other = mirror.request("GET", advertisement, &[("Git-Protocol", "version=9")], b"");
    assert!(other.text().contains(&format!("{tip} HEAD")), "{}", other.text());
    let paths = [
        "/git/../../index.git/HEAD",
        "/git/index/../../index.git/HEAD",
        "/git/index/%2e%2e/%2e%2e/index.git/HEAD",
        "/git/index/..%2f..%2findex.git/HEAD",
        "/git/index//HEAD",
        "/git/index/objects/pack/",
    ];
    for path in paths {
        let reply = mirror.get(path);
        assert!((400..=404).contains(&reply.status), "{path}: {}", reply.status);
        assert!(!reply.text().contains("refs/"), "{path}: {}", reply.text());
    }
    assert!(!mirror.log().contains("panicked"), "{}", mirror.log());
}

#[test]
fn a_storm_of_clones_is_served_in_turn_and_the_rest_meanwhile() {
    let (_, git) = upstreams();
    let mirror = mirror(&git).env("MIRROR_GIT__CLONES_AT_ONCE", "8").start();
    run_ok(&mirror, &["sync"]);
    clone_and_check(&mirror);
    let tip = git_ok(&repository(&mirror), &["rev-parse", "refs/heads/master"]);
    let want = pkt(&format!("want {tip}"));
    let body = [
        pkt("command=fetch"),
        "0001".to_owned(),
        want,
        pkt("done"),
        "0000".to_owned(),
    ]
    .concat();
    let before = mirror.peak_rss_bytes();
    let packs = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..200)
            .map(|_| scope.spawn(|| mirror.request("POST", UPLOAD_PACK, &[REQUEST, V2], body.as_bytes())))
            .collect();
        for number in 0..100 {
            let reply = mirror.get(&format!("/index/fi/ll/filler-{number:04}"));
            assert_eq!(reply.text(), GitUpstream::filler(number, 1));
        }
        let replies = clients.into_iter().map(|client| client.join().unwrap());
        let has = |body: &[u8], four: &[u8]| body.windows(4).any(|part| part == four);
        replies
            .filter(|reply| {
                assert!(
                    has(&reply.body, b"PACK") || has(&reply.body, b"ERR "),
                    "{}",
                    reply.status
                );
                has(&reply.body, b"PACK")
            })
            .count()
    });
    assert!(packs > 8, "{packs} of 200 had their turn");
    let grown = mirror.peak_rss_bytes() - before;
    assert!(grown < 64 << 20, "{grown} bytes");
    clone_and_check(&mirror);
}
