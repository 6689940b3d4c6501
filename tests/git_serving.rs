//! The index over git, by the clients that there are: git itself with each of its protocols, cargo with each of its git libraries; what
//! is refused, and how.

#![expect(clippy::unwrap_used, reason = "a test ends by it")]

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, Exchange, FakeUpstream, GitUpstream, MirrorBuilder, MirrorProcess, Reply,
    eventually, git, git_ok, run_if_there, said, text_of, toolchains,
};

const PATIENCE: Duration = Duration::from_secs(60);
const FILLERS: usize = 300;
const REQUEST: (&str, &str) = ("Content-Type", "application/x-git-upload-pack-request");
const V2: (&str, &str) = ("Git-Protocol", "version=2");

/// The same index by both protocols.
struct Upstreams {
    sparse: FakeUpstream,
    git: GitUpstream,
    crates: Vec<BuiltCrate>,
}

impl Upstreams {
    fn start() -> Self {
        let mut upstreams = Self {
            sparse: FakeUpstream::start(),
            git: GitUpstream::start(),
            crates: Vec::new(),
        };
        upstreams.publish(CrateBuilder::new("word", "1.0.0").lib("pub const WORD: &str = \"first\";"));
        let app = CrateBuilder::new("app-core", "1.0.0").dep("word", "1");
        upstreams.publish(app.lib("pub fn words() -> String { format!(\"by git: {}\", word::WORD) }"));
        upstreams
    }

    fn publish(&mut self, krate: CrateBuilder) {
        let krate = krate.build();
        self.sparse.add(&krate);
        self.crates.push(krate);
        let dl = format!("{}/dl", self.sparse.base_url());
        self.git.commit_index(&dl, &self.crates, FILLERS);
    }

    fn mirror(&self) -> MirrorBuilder {
        MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
            .upstream(&self.sparse)
            .upstream_git(&self.git)
            .own_port()
    }
}

fn sync(mirror: &MirrorProcess) {
    let synced = mirror.run(&["sync"]);
    assert!(synced.status.success(), "{}\n{}", said(&synced), mirror.log());
}

fn published_tree(mirror: &MirrorProcess) -> String {
    git_ok(
        &mirror.data_dir().join("index.git"),
        &["rev-parse", "refs/heads/master^{tree}"],
    )
}

/// With what else is in its configuration.
fn project_by_git(mirror: &MirrorProcess, more: &str) -> CargoProject {
    let config = format!(
        "[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\nregistry = \"{}\"\n{more}",
        mirror.url("/git/index")
    );
    CargoProject::new()
        .dependency("app-core", "1")
        .main_rs("fn main() { println!(\"{}\", app_core::words()); }")
        .config(&config)
}

/// A clone that is kept up to date, by one protocol.
struct Clone {
    dir: std::path::PathBuf,
    protocol: String,
    what: String,
}

impl Clone {
    fn new(home: &Path, mirror: &MirrorProcess, protocol: usize, depth: &[&str]) -> Self {
        let name = format!("v{protocol}{}", depth.concat());
        let clone = Self {
            dir: home.join(&name),
            protocol: format!("protocol.version={protocol}"),
            what: name.clone(),
        };
        let url = mirror.url("/git/index");
        let start = ["-c", &clone.protocol, "clone", "-q"];
        git_ok(home, &[&start[..], depth, &[&url, &name]].concat());
        clone.check(mirror);
        clone
    }

    /// Whole, and what is published.
    fn check(&self, mirror: &MirrorProcess) {
        git_ok(&self.dir, &["fsck", "--strict", "--full"]);
        let tree = git_ok(&self.dir, &["rev-parse", "origin/master^{tree}"]);
        assert_eq!(tree, published_tree(mirror), "{}", self.what);
    }

    /// Gives how many objects were sent.
    fn update(&self, mirror: &MirrorProcess, how: &[&str]) -> usize {
        let before = self.packed_objects();
        self.fetch(how);
        self.check(mirror);
        self.packed_objects() - before
    }

    fn fetch(&self, how: &[&str]) {
        // each pack is kept as it came
        let start = ["-c", &self.protocol, "-c", "fetch.unpackLimit=1", "fetch", "-q"];
        git_ok(&self.dir, &[&start[..], how].concat());
    }

    /// Each counted once.
    fn objects(&self) -> usize {
        let ids = ["--batch-all-objects", "--batch-check=%(objectname)", "--unordered"];
        git_ok(&self.dir, &[&["cat-file"][..], &ids].concat()).lines().count()
    }

    /// Those that are in two packs are counted twice.
    fn packed_objects(&self) -> usize {
        let text = git_ok(&self.dir, &["count-objects", "-v"]);
        let count = text.lines().find_map(|line| line.strip_prefix("in-pack: "));
        let count = count.and_then(|count| count.parse().ok());
        count.unwrap_or_else(|| panic!("git counts objects: {text}"))
    }
}

#[test]
fn git_clones_and_updates_by_each_protocol_full_and_shallow() {
    let upstreams = Upstreams::start();
    let mut mirror = upstreams.mirror().start();
    let home = tempfile::tempdir().unwrap();
    let mut clones = Vec::new();
    for protocol in 0..3 {
        clones.push(Clone::new(home.path(), &mirror, protocol, &[]));
        clones.push(Clone::new(home.path(), &mirror, protocol, &["--depth=1"]));
        let unshallowed = Clone::new(home.path(), &mirror, protocol, &["--depth=1", "--no-tags"]);
        let is_shallow = || git_ok(&unshallowed.dir, &["rev-parse", "--is-shallow-repository"]);
        assert_eq!(is_shallow(), "true");
        unshallowed.update(&mirror, &["--unshallow"]);
        assert_eq!(is_shallow(), "false");
        clones.push(unshallowed);
    }
    let left_behind = Clone::new(home.path(), &mirror, 2, &["--no-checkout"]);
    let update_all = |mirror: &MirrorProcess, lacked: usize| {
        for clone in &clones {
            let sent = clone.update(mirror, &[]);
            assert_eq!(sent, lacked, "{}: no more than what it lacked", clone.what);
        }
    };
    upstreams
        .git
        .commit(&[("fi/ll/filler-0007", Some(&GitUpstream::filler(7, 2)))]);
    sync(&mirror);
    // commit, root, `fi`, `fi/ll`, and the file
    update_all(&mirror, 5);

    for number in 0..100 {
        let path = format!("fi/ll/filler-{number:04}");
        upstreams.git.commit(&[(&path, Some(&GitUpstream::filler(number, 3)))]);
    }
    upstreams.git.commit(&[("fi/ll/filler-0299", None)]);
    sync(&mirror);
    update_all(&mirror, 104);

    upstreams.git.squash();
    upstreams.git.prune();
    sync(&mirror);
    update_all(&mirror, 0);
    upstreams
        .git
        .commit(&[("fi/ll/filler-0008", Some(&GitUpstream::filler(8, 4)))]);
    sync(&mirror);
    update_all(&mirror, 5);

    upstreams
        .git
        .commit(&[("fi/ll/filler-0009", Some(&GitUpstream::filler(9, 4)))]);
    mirror.restart();
    sync(&mirror);
    update_all(&mirror, 5);
    assert_eq!(left_behind.update(&mirror, &[]), 5 + 104 + 5 + 5, "all of it at once");
    let first = git_ok(&left_behind.dir, &["rev-parse", "HEAD"]);
    for protocol in 0..3 {
        let by_h2c = Clone::new(
            home.path(),
            &mirror,
            protocol,
            &["--single-branch", "-c", "http.version=HTTP/2"],
        );
        assert_eq!(by_h2c.update(&mirror, &[]), 0);
        by_h2c.update(&mirror, &["--depth=2"]);
        by_h2c.update(&mirror, &["--deepen=1"]);
        by_h2c.update(&mirror, &["--unshallow"]);
        Clone::new(home.path(), &mirror, protocol, &["--filter=blob:none"]);
        // any published commit may be wanted
        let old = Clone::new(home.path(), &mirror, protocol, &["--depth=1", "--branch=master"]);
        git_ok(&old.dir, &["fetch", "-q", "--depth=1", "origin", &first]);
        assert_eq!(git_ok(&old.dir, &["rev-parse", "FETCH_HEAD"]), first);
        let unknown = git(&old.dir, &["fetch", "origin", &"1".repeat(40)]);
        assert!(text_of(&unknown).1.contains("not our ref"), "{}", said(&unknown));
    }
    for clone in &clones {
        assert_eq!(
            git_ok(&clone.dir, &["branch", "-r", "--format", "%(refname)"])
                .lines()
                .count(),
            2
        );
        assert_eq!(git_ok(&clone.dir, &["tag"]), "");
    }
}

/// One crate's index file of 8 MiB, of which a pack keeps three quarters; another one for each seed.
fn weighty(mut seed: u64) -> String {
    const CHARACTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut character = || {
        // xorshift64
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        char::from(CHARACTERS[(seed % 64) as usize])
    };
    // deflate looks back 32 KiB and sees no repetition
    let noise: String = (0..64 << 10).map(|_| character()).collect();
    let feature = noise.repeat(16);
    let line = |minor| {
        format!(
            "{{\"name\":\"weighty\",\"vers\":\"0.{minor}.0\",\"deps\":[],\"cksum\":\"{minor:064x}\",\"features\":{{\"f\":[\"{feature}\"]}},\"yanked\":false}}\n"
        )
    };
    (0..8).map(line).collect()
}

/// Upstream replaces a large file until the mirror drops its own history; those that are kept up follow until then.
fn make_it_squash(upstreams: &Upstreams, mirror: &MirrorProcess, kept_up: &[Clone]) {
    let repository = mirror.data_dir().join("index.git");
    let root = || git_ok(&repository, &["rev-list", "--max-parents=0", "refs/heads/master"]);
    // upstream's git is spared its search for likeness
    git_ok(&upstreams.git.dir(), &["config", "core.bigFileThreshold", "1m"]);
    let first_root = root();
    let mut times = 0;
    while root() == first_root {
        kept_up.iter().for_each(|clone| clone.fetch(&[]));
        times += 1;
        assert!(times <= 12, "the mirror keeps its whole history: {}", mirror.log());
        let large = weighty(times as u64);
        upstreams.git.commit(&[("we/ig/weighty", Some(&large))]);
        sync(mirror);
        // upkeep goes on when a sync is over, and is over when the next commit is published
        let small = GitUpstream::filler(6, 1 + times);
        upstreams.git.commit(&[("fi/ll/filler-0006", Some(&small))]);
        sync(mirror);
    }
    // the pack log is put in order behind the squash, and until that is done clients are given what was published before
    let url = mirror.url("/git/index");
    let is_served = || {
        let seen = git_ok(&repository, &["ls-remote", &url, "refs/heads/master"]);
        let tip = git_ok(&repository, &["rev-parse", "refs/heads/master"]);
        seen.starts_with(&tip).then_some(())
    };
    eventually(PATIENCE, is_served).expect("what is published is soon given to clients");
}

#[test]
fn git_and_cargo_update_across_a_squash_of_the_mirrors_own_history() {
    let mut upstreams = Upstreams::start();
    let mut mirror = upstreams.mirror().start();
    let home = tempfile::tempdir().unwrap();
    let project = project_by_git(&mirror, "");
    assert_eq!(project.cargo_ok(&["run", "-q"]), "by git: first\n");
    let clone = |protocol, depth| Clone::new(home.path(), &mirror, protocol, depth);
    let shallow: &[&str] = &["--depth=1"];
    let left_behind = [clone(0, &[]), clone(1, shallow), clone(2, &[]), clone(2, shallow)];
    let kept_up = [clone(0, shallow), clone(1, &[])];
    upstreams.publish(CrateBuilder::new("word", "1.1.0").lib("pub const WORD: &str = \"second\";"));
    sync(&mirror);
    make_it_squash(&upstreams, &mirror, &kept_up);
    for clone in &kept_up {
        // root, `we`, `we/ig` and its file, and the commit without parents; commit, root, `fi`, `fi/ll` and its file
        let sent = clone.update(&mirror, &[]);
        assert_eq!(sent, 5 + 5, "{}: no more than what it lacked", clone.what);
    }
    mirror.restart();
    for clone in &left_behind {
        let had = clone.objects();
        let sent = clone.update(&mirror, &[]);
        assert_eq!(sent, clone.objects() - had, "{}: nothing that it had", clone.what);
    }
    assert_eq!(project.cargo_ok(&["run", "-q", "--locked"]), "by git: first\n");
    project.cargo_ok(&["update", "-q"]);
    assert_eq!(project.cargo_ok(&["run", "-q", "--locked"]), "by git: second\n");

    let small = GitUpstream::filler(7, 2);
    upstreams.git.commit(&[("fi/ll/filler-0007", Some(&small))]);
    sync(&mirror);
    for clone in left_behind.iter().chain(&kept_up) {
        assert_eq!(clone.update(&mirror, &[]), 5, "{}", clone.what);
    }
}

#[test]
fn every_cargo_builds_by_git_and_sees_what_is_new() {
    let mut upstreams = Upstreams::start();
    let mirror = upstreams.mirror().start();
    let mut ways: Vec<(Vec<String>, &str)> = vec![(vec![], ""), (vec![], "[net]\ngit-fetch-with-cli = true\n")];
    if let Some(nightly) = toolchains().into_iter().find(|name| name.starts_with("nightly-")) {
        let nightly = format!("+{nightly}");
        ways.push((vec![nightly.clone(), "-Zgitoxide=fetch".to_owned()], ""));
        ways.push((
            vec![nightly, "-Zgitoxide=fetch".to_owned(), "-Zgit=shallow-index".to_owned()],
            "",
        ));
    }
    let mut projects: Vec<_> = ways
        .iter()
        .map(|(args, more)| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            (project_by_git(&mirror, more), args, *more)
        })
        .collect();
    // that of the system's packages is often much older
    if ["cargo", "rustc"]
        .iter()
        .all(|name| Path::new("/usr/bin").join(name).exists())
    {
        let project = project_by_git(&mirror, "").env("PATH", "/usr/bin:/bin");
        projects.push((project, Vec::new(), "the system's cargo"));
    }
    for (project, args, more) in &projects {
        let says = project.cargo_ok(&[&args[..], &["run", "-q"]].concat());
        assert_eq!(says, "by git: first\n", "{args:?} {more}");
    }
    for name in ["app-core", "word"] {
        let asked = upstreams.sparse.count(&FakeUpstream::download_path(name, "1.0.0"));
        assert_eq!(asked, 1, "{name}: all others came from the mirror");
    }
    upstreams.publish(CrateBuilder::new("word", "1.1.0").lib("pub const WORD: &str = \"second\";"));
    sync(&mirror);
    for (project, args, more) in &projects {
        project.cargo_ok(&[&args[..], &["update", "-q"]].concat());
        let says = project.cargo_ok(&[&args[..], &["run", "-q", "--locked"]].concat());
        assert_eq!(says, "by git: second\n", "{args:?} {more}");
    }
}

#[test]
fn what_is_no_fetch_is_refused_plainly() {
    let upstreams = Upstreams::start();
    let mirror = upstreams.mirror().start();
    let home = tempfile::tempdir().unwrap();
    let clone = Clone::new(home.path(), &mirror, 2, &[]);
    let before = published_tree(&mirror);
    git_ok(&clone.dir, &["commit", "-q", "--allow-empty", "-m", "mine"]);
    let pushed = git(&clone.dir, &["push", "origin", "HEAD:refs/heads/master"]);
    let (_, why) = text_of(&pushed);
    assert!(!pushed.status.success() && why.contains("read-only mirror"), "{why}");
    assert_eq!(published_tree(&mirror), before);

    let dumb = run_if_there(
        "env",
        &["GIT_SMART_HTTP=0", "git", "clone", &mirror.url("/git/index"), "dumb"],
    )
    .expect("env is everywhere");
    let (_, why) = text_of(&dumb);
    assert!(!dumb.status.success() && why.contains("smart protocol"), "{why}");

    let post = |path: &str, headers: &[(&str, &str)]| mirror.request("POST", path, headers, b"0000");
    let plain = |reply: Reply, status: u16, words: &str| {
        let text = reply.text();
        assert_eq!(reply.status, status, "{text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    };
    plain(
        mirror.get("/git/index/info/refs?service=git-receive-pack"),
        403,
        "read-only",
    );
    plain(post("/git/index/git-receive-pack", &[]), 403, "read-only");
    plain(mirror.get("/git/index/info/refs"), 403, "smart protocol");
    plain(
        mirror.get("/git/index/info/refs?service=git-upload-archive"),
        403,
        "smart protocol",
    );
    for path in [
        "HEAD",
        "objects/info/packs",
        "objects/00/11",
        "git-upload-archive",
        "config",
    ] {
        plain(mirror.get(&format!("/git/index/{path}")), 404, "smart protocol");
    }
    plain(post("/git/index/git-upload-pack", &[]), 415, "git-upload-pack");
    let other = ("Content-Type", "application/x-git-receive-pack-request");
    plain(post("/git/index/git-upload-pack", &[other]), 415, "git-upload-pack");
    assert_eq!(mirror.get("/git/index/git-upload-pack").status / 100, 4);
    assert!(!mirror.log().contains("panicked"), "{}", mirror.log());
}

/// A request of more than 64 KiB: git asks first whether it may, and then sends it in chunks.
#[test]
fn a_client_with_a_long_history_of_its_own_gets_what_it_lacks() {
    let upstreams = Upstreams::start();
    let mirror = upstreams.mirror().start();
    let home = tempfile::tempdir().unwrap();
    let mut commits = String::new();
    for number in 0..4000 {
        let who = format!("committer test <test@example.com> {} +0000", 1_700_000_000 + number);
        commits.push_str(&format!("commit refs/heads/own\n{who}\ndata 2\nx\n\n"));
    }
    for version in ["0", "1", "2"] {
        let own = home.path().join(version);
        std::fs::create_dir(&own).unwrap();
        git_ok(&own, &["init", "-q", "-b", "own"]);
        std::fs::write(own.join("commits"), &commits).unwrap();
        let import = format!("cd '{}' && git fast-import --quiet < commits", own.display());
        let imported = run_if_there("sh", &["-c", &import]).expect("sh is everywhere");
        assert!(imported.status.success(), "{}", said(&imported));
        let (protocol, url) = (format!("protocol.version={version}"), mirror.url("/git/index.git"));
        let keep_apart = "+refs/heads/master:refs/remotes/origin/master";
        git_ok(
            &own,
            &[
                "-c",
                &protocol,
                "-c",
                "http.postBuffer=65536",
                "fetch",
                "-q",
                &url,
                keep_apart,
            ],
        );
        git_ok(&own, &["fsck", "--strict", "--full"]);
        let tree = git_ok(&own, &["rev-parse", "origin/master^{tree}"]);
        assert_eq!(tree, published_tree(&mirror), "version {version}");
    }
    // more haves than a request may have
    let few = upstreams.mirror().env("MIRROR_GIT__MAX_HAVES", "10").start();
    let own = home.path().join("2");
    let refused = git(
        &own,
        &[
            "fetch",
            &few.url("/git/index"),
            "+refs/heads/master:refs/remotes/few/master",
        ],
    );
    let (_, why) = text_of(&refused);
    assert!(!refused.status.success() && why.contains("more than 10 haves"), "{why}");
}

const PACK: &str = "PACK\0\0\0\x02";

fn has(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

/// What has come when `words` have; panics at the answer's end.
fn read_until(exchange: &mut Exchange, words: &str) -> Vec<u8> {
    let mut seen = 0;
    loop {
        let all = exchange.read_at_least(seen + 1).unwrap();
        assert!(all.len() > seen, "the answer ended: {}", String::from_utf8_lossy(all));
        if has(all, words) {
            return all.to_vec();
        }
        seen = all.len();
    }
}

fn pkt(line: &str) -> String {
    format!("{:04x}{line}", line.len() + 4)
}

fn ls_refs() -> Vec<u8> {
    let parts = [&pkt("command=ls-refs\n"), "0001", &pkt("peel\n"), "0000"];
    parts.concat().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_are_unpacked_bounded_and_understood_or_refused() {
    let upstreams = Upstreams::start();
    let mirror = upstreams.mirror().env("MIRROR_GIT__MAX_REQUEST_BYTES", "2MiB").start();
    sync(&mirror);
    let send = |headers: &[(&str, &str)], body: &[u8]| {
        let headers = [&[REQUEST, V2], headers].concat();
        mirror.request("POST", "/git/index/git-upload-pack", &headers, body)
    };
    let packed = [("Content-Encoding", "gzip")];
    let tip = git_ok(
        &mirror.data_dir().join("index.git"),
        &["rev-parse", "refs/heads/master"],
    );
    for reply in [send(&[], &ls_refs()), send(&packed, &gzip(&ls_refs()))] {
        assert_eq!(reply.status, 200);
        assert!(reply.text().contains(&format!("{tip} HEAD")), "{}", reply.text());
        assert_eq!(
            reply.header("content-type"),
            Some("application/x-git-upload-pack-result")
        );
        assert!(
            reply
                .header("cache-control")
                .is_some_and(|value| value.contains("no-cache"))
        );
    }
    let before = mirror.peak_rss_bytes();
    let bomb = gzip(&vec![b'0'; 200 << 20]);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(send(&packed, &bomb).status, 413);
    assert!(mirror.peak_rss_bytes() - before < 32 << 20, "the bomb is not unpacked");
    assert_eq!(send(&packed, b"no gzip at all").status, 400);
    assert_eq!(send(&[("Content-Encoding", "br")], &ls_refs()).status, 415);
    let oversized = mirror.try_request(
        "POST",
        "/git/index/git-upload-pack",
        &[REQUEST, V2],
        &vec![b'0'; 3 << 20],
    );
    // a server that has seen enough may close before all was sent
    assert!(oversized.is_err() || oversized.is_ok_and(|reply| reply.status == 413));

    let none = "0".repeat(40);
    for body in [
        "zzzz",
        "0003",
        "ffff",
        "0014command=ls-refs",
        &pkt("command=steal\n"),
        &[&pkt("command=fetch"), "0001", &pkt("want nothing"), "0000"].concat(),
        &[
            &pkt("command=fetch"),
            "0001",
            &pkt(&format!("want {none}")),
            &pkt("done"),
            "0000",
        ]
        .concat(),
    ] {
        let reply = send(&[], body.as_bytes());
        let text = reply.text();
        assert_eq!(reply.status, 200, "{body}: {text}");
        let told = text.get(4..).is_some_and(|text| text.starts_with("ERR ")) || text.contains("not our ref");
        assert!(told, "{body}: {text}");
        assert!(!reply.body.windows(4).any(|four| four == b"PACK"), "{body}");
    }
    let v0 = |body: &str| mirror.request("POST", "/git/index/git-upload-pack", &[REQUEST], body.as_bytes());
    for body in ["0009want\n", "garbage", &pkt(&format!("have {none}\n"))] {
        let text = v0(body).text();
        assert!(
            text.get(4..).is_some_and(|text| text.starts_with("ERR ")),
            "{body}: {text}"
        );
    }
    assert_eq!(send(&[], &ls_refs()).status, 200);
    assert!(!mirror.log().contains("panicked"), "{}", mirror.log());
}

#[test]
fn more_clones_than_allowed_wait_for_their_turn_and_hear_of_it() {
    let upstreams = Upstreams::start();
    upstreams.git.commit(&[("we/ig/weighty", Some(&weighty(1)))]);
    let mirror = upstreams.mirror().env("MIRROR_GIT__CLONES_AT_ONCE", "1").start();
    sync(&mirror);
    let want = pkt(&format!(
        "want {}\n",
        git_ok(&mirror.data_dir().join("index.git"), &["rev-parse", "master"]).trim()
    ));
    let body = [&pkt("command=fetch"), "0001", &want, &pkt("done\n"), "0000"].concat();
    let path = "/git/index/git-upload-pack";
    // a client that stops reading in the middle of its pack
    let mut first = mirror.exchange("POST", path, &[REQUEST, V2], body.as_bytes());
    first.read_at_least(20).unwrap();
    let mut second = mirror.exchange("POST", path, &[REQUEST, V2], body.as_bytes());
    let before = read_until(&mut second, "waiting: this mirror is sending");
    assert!(!has(&before, PACK), "{}", String::from_utf8_lossy(&before));
    drop(first);
    read_until(&mut second, PACK);
    drop(second);
    let home = tempfile::tempdir().unwrap();
    git_ok(home.path(), &["clone", "-q", &mirror.url("/git/index"), "clone"]);
    git_ok(&home.path().join("clone"), &["fsck", "--strict", "--full"]);
}

#[test]
fn large_requests_that_are_never_finished_do_not_fill_the_memory() {
    let upstreams = Upstreams::start();
    let mirror = upstreams.mirror().start();
    sync(&mirror);
    let before = mirror.rss_bytes();
    let part = vec![b'0'; 7 << 20];
    let head = format!(
        "POST /git/index/git-upload-pack HTTP/1.1\r\nHost: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        mirror.authority(),
        REQUEST.1,
        8 << 20
    );
    let unfinished: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(mirror.authority()).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            // one that is refused meanwhile is closed
            drop(stream.write_all(&part));
            stream
        })
        .collect();
    let grown = mirror.rss_bytes().saturating_sub(before);
    assert!(grown < 160 << 20, "40 requests of 7 MiB take {grown} bytes");
    drop(unfinished);
    let home = tempfile::tempdir().unwrap();
    git_ok(home.path(), &["clone", "-q", &mirror.url("/git/index"), "clone"]);
}

#[test]
fn damage_at_which_clients_hang_up_is_found_and_mended() {
    let upstreams = Upstreams::start();
    let large: Vec<String> = (1..=3).map(weighty).collect();
    upstreams.git.commit(&[
        ("we/ig/weighty", Some(&large[0])),
        ("we/ig/weighty1", Some(&large[1])),
        ("we/ig/weighty2", Some(&large[2])),
    ]);
    let mirror = upstreams.mirror().start();
    sync(&mirror);
    let home = tempfile::tempdir().unwrap();
    let url = mirror.url("/git/index");
    git_ok(home.path(), &["clone", "-q", "--bare", &url, "before"]);
    let log = std::fs::read_dir(mirror.data_dir().join("pack-log")).unwrap();
    let entries = log
        .map(|entry| entry.unwrap().path())
        .max_by_key(|path| path.metadata().unwrap().len());
    let file = std::fs::OpenOptions::new().write(true).open(entries.unwrap()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damaged", 4_000_000).unwrap();
    let damaged = git(home.path(), &["clone", "-q", "--bare", &url, "damaged"]);
    assert!(!damaged.status.success(), "a damaged object was taken for a good one");
    let mended = eventually(PATIENCE, || {
        let clone = git(home.path(), &["clone", "-q", "--bare", &url, "mended"]);
        clone.status.success().then_some(())
    });
    assert!(mended.is_some(), "it was not made anew\n{}", mirror.log());
    git_ok(&home.path().join("mended"), &["fsck", "--strict", "--full"]);
}

#[test]
fn who_comes_by_another_name_hears_which_setting_to_make() {
    let upstreams = Upstreams::start();
    let home = tempfile::tempdir().unwrap();
    let clone_by_name = |mirror: &MirrorProcess| {
        let url = mirror.url("/git/index").replace("127.0.0.1", "localhost");
        git(home.path(), &["clone", "-q", &url, "clone"])
    };
    let mirror = upstreams.mirror().start();
    let refused = clone_by_name(&mirror);
    let (_, why) = text_of(&refused);
    assert!(!refused.status.success(), "{why}");
    let port = mirror.authority().rsplit(':').next().unwrap().to_owned();
    let named = why.contains("set public_url to http://localhost") && why.contains("sparse");
    assert!(named, "{port}: {why}");
    let advertised = mirror.request(
        "GET",
        "/git/index/info/refs?service=git-upload-pack",
        &[("Host", "mirror.test")],
        b"",
    );
    assert!(
        advertised.status == 200 && advertised.text().contains("ERR "),
        "{}",
        advertised.text()
    );

    let mirror = upstreams
        .mirror()
        .env("MIRROR_PUBLIC_URL", "http://mirror.test/rust")
        .start();
    let cloned = clone_by_name(&mirror);
    assert!(cloned.status.success(), "{}", said(&cloned));
    let config = std::fs::read_to_string(home.path().join("clone/config.json")).unwrap();
    assert!(config.contains("http://mirror.test/rust"), "{config}");
}

#[test]
fn an_index_in_parts_is_served_only_if_the_operator_says_so() {
    let upstreams = Upstreams::start();
    let home = tempfile::tempdir().unwrap();
    for version in ["0", "2"] {
        let mirror = upstreams.mirror().env("MIRROR_INDEX__FOLLOW", "never").start();
        assert_eq!(mirror.get("/index/wo/rd/word").status, 200);
        let protocol = format!("protocol.version={version}");
        let refused = git(
            home.path(),
            &["-c", &protocol, "clone", &mirror.url("/git/index"), "clone"],
        );
        let (_, why) = text_of(&refused);
        assert!(!refused.status.success(), "{why}");
        assert!(
            why.contains("index.follow") && why.contains("index.serve_partial"),
            "{why}"
        );
        assert_eq!(upstreams.git.requests(), 0, "never is never");
    }
    let mirror = upstreams
        .mirror()
        .env("MIRROR_INDEX__FOLLOW", "never")
        .env("MIRROR_INDEX__SERVE_PARTIAL", "true")
        .start();
    assert_eq!(mirror.get("/index/wo/rd/word").status, 200);
    let repository = mirror.data_dir().join("index.git");
    let is_there = || {
        let shown = git(&repository, &["cat-file", "-e", "refs/heads/master:wo/rd/word"]);
        shown.status.success().then_some(())
    };
    eventually(PATIENCE, is_there).expect("what was asked for is published soon");
    Clone::new(home.path(), &mirror, 2, &[]);
    assert_eq!(upstreams.git.requests(), 0);
}
