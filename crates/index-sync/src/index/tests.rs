mod decide;
mod import;
mod look_ahead;
mod states;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use metadata_db::DecisionKind;
use tempfile::TempDir;
use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, Fault, Times, Validators, git, git_ok};

use super::*;
use crate::{RepositoryLimits, SparseUpstream};

const GRACE: u64 = 900;
const MINUTE: u64 = 61;

/// An index over a fake upstream, with a clock of its own.
struct Bench {
    dir: TempDir,
    upstream: FakeUpstream,
    now: Arc<Mutex<SystemTime>>,
    kept: Arc<Mutex<HashSet<Checksum>>>,
    index: Index,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_patience(Duration::from_secs(20), change)
    }

    fn with_patience(head_timeout: Duration, change: impl FnOnce(&mut Config)) -> Self {
        let upstream = FakeUpstream::start();
        let dir = tempfile::tempdir().unwrap();
        let now = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
        let kept = Arc::default();
        let mut config = config(&upstream);
        change(&mut config);
        let index = open_with(head_timeout, &dir, config, &now, &kept);
        Self {
            dir,
            upstream,
            now,
            kept,
            index,
        }
    }

    /// Stops and starts again on the same directory.
    async fn restarted(self) -> Self {
        self.index.shutdown().await;
        let Self {
            dir,
            upstream,
            now,
            kept,
            index,
        } = self;
        drop(index);
        let index = open(&dir, config(&upstream), &now, &kept);
        Self {
            dir,
            upstream,
            now,
            kept,
            index,
        }
    }

    fn pass(&self, seconds: u64) {
        *locked(&self.now) += Duration::from_secs(seconds);
    }

    async fn get(&self, name: &str) -> Result<Option<Arc<IndexEntry>>, Error> {
        self.index.file(&path(name), Ask::IfOld).await
    }

    async fn text(&self, name: &str) -> String {
        let entry = self.get(name).await.unwrap().expect("the crate is there");
        String::from_utf8(entry.bytes.to_vec()).unwrap()
    }

    async fn versions(&self, name: &str) -> Vec<String> {
        let text = self.text(name).await;
        let file = registry::IndexFile::parse(text.as_bytes(), &path(name)).unwrap();
        file.lines().iter().map(|line| line.vers.clone().into_owned()).collect()
    }

    /// How often upstream was asked for this crate's index file.
    fn asked(&self, name: &str) -> usize {
        self.upstream.count(&FakeUpstream::index_path(name))
    }

    fn git_dir(&self) -> PathBuf {
        self.dir.path().join("index.git")
    }

    fn blob(&self, name: &str) -> Vec<u8> {
        let output = git(&self.git_dir(), &["cat-file", "blob", name]);
        assert!(output.status.success(), "{name} is not in git");
        output.stdout
    }

    /// Publishes a `config.json`, and waits until it is committed.
    async fn publish_first(&self) {
        self.index
            .publish_config_json(registry::mirror_config("http://127.0.0.1:1"));
        let committed = async {
            while self.index.status().tip.is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), committed).await.unwrap();
    }

    fn commits(&self) -> usize {
        git_ok(&self.git_dir(), &["rev-list", "--count", "master"])
            .trim()
            .parse()
            .unwrap()
    }

    fn decided(&self, name: &str) -> Vec<DecisionKind> {
        let rows = self.index.inner.decisions.decisions_for(&path(name)).unwrap();
        rows.iter().map(|row| row.kind).collect()
    }

    /// What is in git is what the sparse protocol says, for this crate.
    async fn assert_same_in_git(&self, name: &str) {
        self.index.committed(&path(name)).await.unwrap();
        let entry = self.index.file(&path(name), Ask::Never).await.unwrap().unwrap();
        let blob = self.blob(&format!("master:{}", path(name)));
        assert_eq!(blob, entry.bytes);
        let id = git_ok(&self.git_dir(), &["rev-parse", &format!("master:{}", path(name))]);
        assert_eq!(id.trim(), entry.id.to_string());
    }
}

fn config(upstream: &FakeUpstream) -> Config {
    Config {
        upstream: Some(SparseUpstream {
            base: format!("{}/index/", upstream.base_url()),
        }),
        batch_delay: Duration::from_millis(10),
        removal_grace: Duration::from_secs(GRACE),
        ..Config::default()
    }
}

fn open(dir: &TempDir, config: Config, now: &Arc<Mutex<SystemTime>>, kept: &Arc<Mutex<HashSet<Checksum>>>) -> Index {
    open_with(Duration::from_secs(20), dir, config, now, kept)
}

fn open_with(
    head_timeout: Duration,
    dir: &TempDir,
    config: Config,
    now: &Arc<Mutex<SystemTime>>,
    kept: &Arc<Mutex<HashSet<Checksum>>>,
) -> Index {
    let now = Arc::clone(now);
    open_by(Arc::new(move || *locked(&now)), head_timeout, dir, config, kept)
}

fn open_by(
    clock: Clock,
    head_timeout: Duration,
    dir: &TempDir,
    config: Config,
    kept: &Arc<Mutex<HashSet<Checksum>>>,
) -> Index {
    let repository = Repository::open(&dir.path().join("index.git"), RepositoryLimits::default()).unwrap();
    let metadata = Arc::new(MetadataDb::open(&dir.path().join("mirror.db")).unwrap().db);
    let decisions = Arc::new(DecisionsDb::open(&dir.path().join("decisions.db")).unwrap());
    let mut http = upstream_http::Config::new("mirror-test/0 (nobody@localhost)");
    http.head_timeout = head_timeout;
    let http = UpstreamHttp::start(http).unwrap();
    let kept = Arc::clone(kept);
    let kept_or_served = Arc::new(move |checksum: &Checksum| locked(&kept).contains(checksum));
    Index::open_at(
        clock,
        config,
        repository,
        metadata,
        decisions,
        Some(http),
        kept_or_served,
    )
    .unwrap()
}

fn path(name: &str) -> IndexPath {
    IndexPath::of(&name.parse().unwrap())
}

fn krate(name: &str, version: &str) -> BuiltCrate {
    CrateBuilder::new(name, version).build()
}

fn other_bytes(name: &str, version: &str) -> BuiltCrate {
    CrateBuilder::new(name, version).lib("pub fn other() {}").build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_makes_one_request_and_the_first_to_come_may_leave() {
    let bench = Bench::new().await;
    let serde = krate("serde", "1.0.0");
    bench.upstream.add(&serde);
    let gate = bench.upstream.hold(&FakeUpstream::index_path("serde"));
    let ask = || {
        let index = bench.index.clone();
        tokio::spawn(async move { index.file(&path("serde"), Ask::IfOld).await })
    };
    let first = ask();
    assert!(gate.wait_reached(1, Duration::from_secs(10)));
    let crowd: Vec<_> = (0..100).map(|_| ask()).collect();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.open();
    for one in crowd {
        let entry = one.await.unwrap().unwrap().expect("upstream has it");
        assert_eq!(entry.bytes, format!("{}\n", serde.index_line.trim_end()).as_bytes());
    }
    assert_eq!(bench.asked("serde"), 1);
    bench.assert_same_in_git("serde").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_file_is_asked_again_with_what_upstream_gave() {
    for (validators, etag, date) in [
        (Validators::Etag, true, false),
        (Validators::LastModified, false, true),
        (Validators::Both, true, true),
        (Validators::None, false, false),
    ] {
        let bench = Bench::new().await;
        bench.upstream.set_validators(validators);
        bench.upstream.add(&krate("serde", "1.0.0"));
        let text = bench.text("serde").await;
        bench.index.committed(&path("serde")).await.unwrap();
        let commits = bench.commits();
        assert_eq!(
            (bench.text("serde").await, bench.asked("serde")),
            (text.clone(), 1),
            "it is young"
        );
        bench.pass(MINUTE);
        assert_eq!((bench.text("serde").await, bench.asked("serde")), (text.clone(), 2));
        let again = bench.upstream.requests().pop().unwrap();
        assert_eq!(again.header("if-none-match").is_some(), etag, "{validators:?}");
        assert_eq!(again.header("if-modified-since").is_some(), date, "{validators:?}");
        assert_eq!(
            bench.index.status().not_modified,
            u64::from(etag || date),
            "{validators:?}"
        );
        assert_eq!(
            (bench.index.status().pending, bench.commits()),
            (0, commits),
            "{validators:?}"
        );
        bench.upstream.yank("serde", "1.0.0", true);
        bench.pass(MINUTE);
        assert_ne!(bench.text("serde").await, text, "{validators:?}");
        assert_eq!(bench.index.status().changed_lines, 1);
        bench.assert_same_in_git("serde").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_that_nothing_was_said_to_earn_is_asked_again() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.upstream.fault("/index/", Fault::NotModified, Times::Once);
    assert_eq!(bench.versions("serde").await, ["1.0.0"]);
    assert_eq!(bench.asked("serde"), 2);
    bench.upstream.add(&krate("tokio", "1.0.0"));
    bench.upstream.fault("/index/", Fault::NotModified, Times::Always);
    assert!(matches!(bench.get("tokio").await, Err(Error::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_is_served_when_upstream_is_gone_and_it_is_not_hammered() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    bench.upstream.go_down();
    bench.pass(MINUTE);
    assert_eq!(bench.text("serde").await, text);
    let requests = bench.index.status().requests;
    assert!(bench.index.status().last_upstream_error.is_some());
    for _ in 0..20 {
        assert_eq!(bench.text("serde").await, text);
        assert!(matches!(bench.get("tokio").await, Err(Error::Unavailable { .. })));
    }
    assert_eq!(bench.index.status().requests, requests);
    assert!(
        bench.index.file(&path("serde"), Ask::Now).await.is_err(),
        "who insists hears of it"
    );
    bench.upstream.come_back();
    bench.upstream.add(&krate("tokio", "1.0.0"));
    bench.pass(2);
    assert_eq!(bench.versions("tokio").await, ["1.0.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_says_nothing_is_as_good_as_gone() {
    let bench = Bench::with_patience(Duration::from_millis(500), |_| {});
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    bench.upstream.fault("/index/", Fault::StallBeforeHead, Times::Always);
    bench.pass(MINUTE);
    assert_eq!(bench.text("serde").await, text);
    let before = bench.asked("serde");
    assert_eq!(bench.text("serde").await, text);
    assert_eq!(bench.asked("serde"), before, "the second did not wait for anything");
    for name in ["first", "second"] {
        assert!(matches!(bench.get(name).await, Err(Error::Unavailable { .. })));
    }
    assert_eq!(
        (bench.asked("first"), bench.asked("second")),
        (1, 0),
        "silent twice is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_odd_name_takes_no_other_out_of_service() {
    let bench = Bench::with_patience(Duration::from_millis(500), |_| {});
    let faults = [
        Fault::Redirect(302, "http://127.0.0.1:1/".to_owned()),
        Fault::Redirect(301, "http://127.0.0.2:1/".to_owned()),
        Fault::StallBeforeHead,
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        bench
            .upstream
            .fault(&FakeUpstream::index_path("redi"), fault.clone(), Times::Always);
        for round in 0..3 {
            let answer = bench.get("redi").await;
            assert!(
                matches!(answer, Err(Error::Unavailable { .. })),
                "{fault:?}: {answer:?}"
            );
            let cold = format!("cold{n}{round}");
            bench.upstream.add(&krate(&cold, "1.0.0"));
            assert_eq!(bench.versions(&cold).await, ["1.0.0"], "{fault:?}");
            bench.pass(31);
        }
        bench.upstream.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_mirror_that_lacks_a_file_does_not_say_that_there_is_none() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    let offline = Fault::ExtraHeaders(vec![("Mirror-Offline".to_owned(), "1".to_owned())]);
    for name in ["serde", "nobody"] {
        bench
            .upstream
            .fault(&FakeUpstream::index_path(name), offline.clone(), Times::Always);
    }
    bench.upstream.remove_crate("serde");
    for _ in 0..3 {
        bench.pass(GRACE);
        assert_eq!(bench.text("serde").await, text);
    }
    assert!(bench.decided("serde").is_empty());
    assert!(matches!(bench.get("nobody").await, Err(Error::Unavailable { .. })));
    assert_eq!(bench.index.status().absent_names, 0);
    bench.upstream.clear_faults();
    bench.pass(MINUTE);
    assert!(
        bench.get("nobody").await.unwrap().is_none(),
        "and without the mark there is none"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_remembered_for_a_while_but_not_after_an_error() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        assert!(bench.get("nobody").await.unwrap().is_none());
    }
    assert_eq!((bench.asked("nobody"), bench.index.status().absent_names), (1, 1));
    bench.pass(MINUTE);
    bench.upstream.fault("/index/", Fault::Status(500), Times::Once);
    assert!(matches!(bench.get("nobody").await, Err(Error::Unavailable { .. })));
    bench.pass(2);
    bench.upstream.add(&krate("nobody", "1.0.0"));
    assert_eq!(bench.versions("nobody").await, ["1.0.0"]);
    assert_eq!(bench.index.status().absent_names, 0);
    for status in [404, 410, 451] {
        bench.upstream.fault("/index/", Fault::Status(status), Times::Once);
        assert!(bench.get(&format!("nobody{status}")).await.unwrap().is_none());
    }
    for status in [400, 401, 403, 429, 502, 503] {
        bench.upstream.fault("/index/", Fault::Status(status), Times::Once);
        let answer = bench.get(&format!("nobody{status}")).await;
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{status}: {answer:?}");
        bench.pass(60);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_page_keeps_the_last_good_file_and_is_no_answer_for_the_rest() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    let faults = [
        Fault::Html200,
        Fault::Empty200,
        Fault::CutAfter(20),
        Fault::GzipEncoded,
        Fault::GzipBomb(1 << 20),
        Fault::CloseDelimited,
        Fault::ChunkedCut,
        Fault::ContentLengthTooLarge,
        Fault::ContentLengthTooSmall,
        Fault::Endless,
        Fault::Partial206,
        Fault::RedirectLoop,
        Fault::HeaderFlood,
        Fault::Raw(b"not HTTP\r\n\r\n".to_vec()),
        Fault::Reset,
    ];
    for fault in faults {
        bench.pass(MINUTE);
        bench.upstream.set_validators(Validators::None);
        bench.upstream.fault("/index/", fault.clone(), Times::Always);
        assert_eq!(bench.text("serde").await, text, "{fault:?}");
        bench.pass(MINUTE);
        bench.upstream.add(&krate("tokio", "1.0.0"));
        assert!(
            matches!(bench.get("tokio").await, Err(Error::Unavailable { .. })),
            "{fault:?}"
        );
        assert!(bench.index.status().last_upstream_error.is_some());
        bench.upstream.clear_faults();
    }
    assert!(bench.index.status().refused >= 4, "{:?}", bench.index.status());
    bench.pass(MINUTE);
    bench.upstream.add(&krate("serde", "1.1.0"));
    assert_eq!(bench.versions("serde").await, ["1.0.0", "1.1.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_another_crate_refuses_the_file() {
    let bench = Bench::new().await;
    let (serde, tokio) = (krate("serde", "1.0.0"), krate("tokio", "1.0.0"));
    let mixed = format!("{}\n{}\n", serde.index_line.trim_end(), tokio.index_line.trim_end());
    bench.upstream.set_index_file(path("serde").as_str(), mixed.as_bytes());
    assert!(matches!(bench.get("serde").await, Err(Error::Unavailable { .. })));
    assert_eq!(bench.index.status().refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_after_the_grace_if_config_json_can_be_read() {
    let bench = Bench::new().await;
    for version in ["1.0.0", "1.1.0"] {
        bench.upstream.add(&krate("serde", version));
    }
    bench.text("serde").await;
    assert_eq!(bench.upstream.count("/index/config.json"), 0);
    bench.upstream.remove_version("serde", "1.0.0");
    bench.pass(MINUTE);
    assert_eq!(bench.versions("serde").await, ["1.1.0", "1.0.0"]);
    assert_eq!(bench.upstream.count("/index/config.json"), 1);
    bench.assert_same_in_git("serde").await;

    bench.pass(GRACE);
    bench.upstream.fault("/index/config.json", Fault::Html200, Times::Once);
    assert_eq!(
        bench.versions("serde").await.len(),
        2,
        "a broken upstream removes nothing"
    );
    let bench = bench.restarted().await;
    assert_eq!(bench.versions("serde").await, ["1.1.0"]);
    assert_eq!(bench.decided("serde"), [DecisionKind::Removed]);
    bench.assert_same_in_git("serde").await;

    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.pass(MINUTE);
    assert_eq!(bench.versions("serde").await.len(), 2);
    assert_eq!(bench.decided("serde"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crate_that_is_gone_leaves_the_tree_after_the_grace() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    bench.index.committed(&path("serde")).await.unwrap();
    bench.upstream.remove_crate("serde");
    bench.pass(MINUTE);
    assert_eq!(bench.text("serde").await, text);
    bench.pass(GRACE);
    assert!(bench.get("serde").await.unwrap().is_none());
    bench.index.committed(&path("serde")).await.unwrap();
    assert_eq!(
        git_ok(&bench.git_dir(), &["ls-tree", "-r", "--name-only", "master"]),
        ""
    );
    assert_eq!(bench.index.status().files, 0);
    assert!(bench.get("serde").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_ten_crates_within_an_hour_are_held() {
    let bench = Bench::new().await;
    let names: Vec<String> = (0..13).map(|n| format!("krate{n}")).collect();
    for name in &names {
        bench.upstream.add(&krate(name, "1.0.0"));
        bench.text(name).await;
        bench.upstream.remove_crate(name);
    }
    for seconds in [MINUTE, GRACE] {
        bench.pass(seconds);
        let asks = names.iter().map(|name| {
            let (index, path) = (bench.index.clone(), path(name));
            tokio::spawn(async move { index.file(&path, Ask::IfOld).await })
        });
        for ask in asks.collect::<Vec<_>>() {
            ask.await.unwrap().unwrap();
        }
    }
    let kinds: Vec<DecisionKind> = names.iter().flat_map(|name| bench.decided(name)).collect();
    let count = |kind| kinds.iter().filter(|decided| **decided == kind).count();
    assert_eq!(
        (count(DecisionKind::Removed), count(DecisionKind::HeldRemoval)),
        (10, 3),
        "{:?}",
        bench.index.status()
    );
    assert_eq!(bench.index.status().held, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_checksum_is_held_only_if_the_old_file_was_seen_here() {
    for seen in [true, false] {
        let bench = Bench::new().await;
        let (old, new) = (krate("serde", "1.0.0"), other_bytes("serde", "1.0.0"));
        assert_ne!(old.checksum, new.checksum);
        bench.upstream.add(&old);
        bench.text("serde").await;
        if seen {
            locked(&bench.kept).insert(old.checksum);
        }
        bench.upstream.republish(&new);
        bench.pass(MINUTE);
        bench.text("serde").await;
        let listed = bench
            .index
            .checksum(&"serde".parse().unwrap(), &"1.0.0".parse().unwrap())
            .await
            .unwrap();
        assert_eq!(listed.unwrap().checksum, if seen { old.checksum } else { new.checksum });
        assert_eq!(
            bench.decided("serde"),
            if seen { vec![DecisionKind::HeldChecksum] } else { vec![] }
        );
        assert_eq!(bench.index.status().held, u64::from(seen));
        bench.upstream.republish(&old);
        bench.pass(MINUTE);
        bench.text("serde").await;
        assert_eq!((bench.decided("serde"), bench.index.status().held), (vec![], 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything_and_offline_asks_nothing() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    let config = bench.index.upstream_config().await.unwrap();
    let bench = bench.restarted().await;
    bench.upstream.clear_log();
    bench.index.set_mode(Mode::Offline);
    assert_eq!(bench.text("serde").await, text);
    assert!(bench.get("tokio").await.unwrap().is_none());
    assert_eq!(bench.index.upstream_config().await.unwrap(), config);
    let version = "2.0.0".parse().unwrap();
    assert_eq!(
        bench.index.checksum(&"serde".parse().unwrap(), &version).await.unwrap(),
        None
    );
    assert!(bench.index.file(&path("serde"), Ask::Now).await.is_err());
    assert_eq!(bench.upstream.requests().len(), 0);
    assert_eq!(bench.index.status().files, 1);

    bench.index.set_mode(Mode::Online);
    assert_eq!(bench.text("serde").await, text);
    let again = bench.upstream.requests().pop().unwrap();
    assert!(
        again.header("if-none-match").is_some(),
        "the validators outlive a restart"
    );
    git_ok(&bench.git_dir(), &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_mirror_db_costs_one_unconditional_request() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    bench.index.committed(&path("serde")).await.unwrap();
    let path = path("serde");
    bench.index.inner.metadata.forget_upstream_state(&path).unwrap();
    bench.pass(MINUTE);
    assert_eq!(bench.text("serde").await, text);
    let again = bench.upstream.requests().pop().unwrap();
    assert!(again.header("if-none-match").is_none() && again.header("if-modified-since").is_none());
    bench.pass(MINUTE);
    bench.text("serde").await;
    assert_eq!(bench.index.status().not_modified, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_upstream_is_not_asked_with_the_first_ones_validators() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.text("serde").await;
    bench.index.shutdown().await;
    let Bench {
        dir,
        now,
        kept,
        index,
        upstream,
    } = bench;
    drop((index, upstream));
    let upstream = FakeUpstream::start();
    upstream.set_validators(Validators::LastModified);
    upstream.add(&krate("serde", "1.0.0"));
    upstream.add(&krate("serde", "1.1.0"));
    let index = open(&dir, config(&upstream), &now, &kept);
    let bench = Bench {
        dir,
        upstream,
        now,
        kept,
        index,
    };
    assert_eq!(bench.versions("serde").await, ["1.0.0", "1.1.0"]);
    let asked = bench.upstream.requests().pop().unwrap();
    assert!(asked.header("if-none-match").is_none() && asked.header("if-modified-since").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_crate_that_the_operator_keeps_is_published_again() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let text = bench.text("serde").await;
    bench.upstream.remove_crate("serde");
    bench.pass(MINUTE);
    bench.text("serde").await;
    bench.pass(GRACE);
    assert!(bench.get("serde").await.unwrap().is_none());
    let decisions = &bench.index.inner.decisions;
    let mut row = decisions.decisions_for(&path("serde")).unwrap().remove(0);
    row.kind = DecisionKind::Kept;
    decisions.put(&path("serde"), &row).unwrap();
    let entry = bench.index.file(&path("serde"), Ask::Now).await.unwrap().unwrap();
    assert_eq!(entry.bytes, text.as_bytes());
    bench.assert_same_in_git("serde").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_checksum_that_the_operator_accepts_is_taken_although_upstream_says_not_modified() {
    let bench = Bench::new().await;
    let (old, new) = (krate("serde", "1.0.0"), other_bytes("serde", "1.0.0"));
    locked(&bench.kept).insert(old.checksum);
    bench.upstream.add(&old);
    bench.text("serde").await;
    bench.upstream.republish(&new);
    bench.pass(MINUTE);
    bench.text("serde").await;
    bench.pass(MINUTE);
    bench.text("serde").await;
    assert_eq!(bench.index.status().not_modified, 1, "a hold alone needs no body");
    let decisions = &bench.index.inner.decisions;
    let mut row = decisions.decisions_for(&path("serde")).unwrap().remove(0);
    row.kind = DecisionKind::Accepted;
    decisions.put(&path("serde"), &row).unwrap();
    bench.index.file(&path("serde"), Ask::Now).await.unwrap();
    let listed = bench
        .index
        .checksum(&"serde".parse().unwrap(), &"1.0.0".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(listed.unwrap().checksum, new.checksum);
    assert_eq!((bench.decided("serde"), bench.index.status().held), (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_than_allowed_are_under_way() {
    let bench = Bench::with(|config| config.requests_at_once = 4).await;
    let names: Vec<String> = (0..40).map(|n| format!("krate{n}")).collect();
    names.iter().for_each(|name| bench.upstream.add(&krate(name, "1.0.0")));
    let gate = bench.upstream.hold("/index/");
    let asks = names.iter().map(|name| {
        let (index, path) = (bench.index.clone(), path(name));
        tokio::spawn(async move { index.file(&path, Ask::IfOld).await })
    });
    let asks: Vec<_> = asks.collect();
    assert!(gate.wait_reached(4, Duration::from_secs(10)));
    assert!(!gate.wait_reached(5, Duration::from_millis(300)));
    gate.open();
    for ask in asks {
        assert!(ask.await.unwrap().unwrap().is_some());
    }
    assert_eq!(bench.upstream.requests().len(), 40);
    assert_eq!(bench.index.status().requests, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_asks_only_for_what_is_absent() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.text("serde").await;
    bench.index.upstream_config().await.unwrap();
    bench.index.set_mode(Mode::Fallback);
    bench.upstream.add(&krate("serde", "1.1.0"));
    bench.upstream.add(&krate("tokio", "1.0.0"));
    bench.pass(MINUTE);
    bench.index.upstream_config().await.unwrap();
    assert_eq!(bench.versions("serde").await, ["1.0.0"]);
    assert_eq!(
        (bench.asked("serde"), bench.upstream.count("/index/config.json")),
        (1, 1)
    );
    assert_eq!(bench.versions("tokio").await, ["1.0.0"]);
    let version = "1.1.0".parse().unwrap();
    assert!(
        bench
            .index
            .checksum(&"serde".parse().unwrap(), &version)
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(bench.asked("serde"), 2, "the version was absent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_listed_makes_the_file_be_asked_once() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("Serde", "1.0.0"));
    let name: CrateName = "serde".parse().unwrap();
    let (old, new) = ("1.0.0".parse().unwrap(), "1.1.0".parse().unwrap());
    let listed = bench.index.checksum(&name, &old).await.unwrap().unwrap();
    assert_eq!(listed.spelled.as_str(), "Serde");
    assert_eq!(
        (listed.checksum, listed.yanked),
        (krate("Serde", "1.0.0").checksum, false)
    );
    assert_eq!(
        bench.index.checksum(&name, &new).await.unwrap(),
        None,
        "asked a moment ago"
    );
    assert_eq!(bench.asked("serde"), 1);
    bench.pass(MINUTE);
    assert!(bench.index.checksum(&name, &old).await.unwrap().is_some());
    assert_eq!(bench.asked("serde"), 1, "what is listed needs no upstream");
    bench.upstream.add(&krate("Serde", "1.1.0"));
    assert!(bench.index.checksum(&name, &new).await.unwrap().is_some());
    assert_eq!(bench.asked("serde"), 2);
    bench.upstream.go_down();
    bench.pass(MINUTE);
    let unknown = "9.0.0".parse().unwrap();
    assert!(matches!(
        bench.index.checksum(&name, &unknown).await,
        Err(Error::Unavailable { .. })
    ));
    assert!(bench.index.checksum(&name, &new).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_config_is_asked_again_after_a_while_and_survives_trouble() {
    let bench = Bench::new().await;
    let first = bench.index.upstream_config().await.unwrap();
    assert_eq!(bench.index.upstream_config().await.unwrap(), first);
    assert_eq!(bench.upstream.count("/index/config.json"), 1);
    bench.pass(MINUTE);
    bench.upstream.set_dl("http://127.0.0.1:9/{crate}");
    let second = bench.index.upstream_config().await.unwrap();
    assert_eq!(second.download.as_str(), "http://127.0.0.1:9/{crate}");
    bench.pass(MINUTE);
    bench.upstream.set_config_json(b"<html>please log in</html>");
    assert_eq!(bench.index.upstream_config().await.unwrap(), second);
    let bench = bench.restarted().await;
    bench.upstream.go_down();
    assert_eq!(bench.index.upstream_config().await.unwrap(), second);

    let fresh = Bench::new().await;
    fresh.upstream.go_down();
    assert!(matches!(
        fresh.index.upstream_config().await,
        Err(Error::Unavailable { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_committed_within_two_seconds() {
    let bench = Bench::with(|config| config.batch_delay = Config::default().batch_delay).await;
    bench.publish_first().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.upstream.add(&krate("tokio", "1.0.0"));
    let start = Instant::now();
    bench.text("serde").await;
    bench.text("tokio").await;
    assert_eq!(bench.index.status().pending, 2, "read from memory before the commit");
    bench.assert_same_in_git("serde").await;
    let took = start.elapsed();
    bench.assert_same_in_git("tokio").await;
    assert!(took < Duration::from_secs(6), "three times two seconds: {took:?}");
    assert_eq!(
        git_ok(&bench.git_dir(), &["log", "--format=%s", "master"]),
        "Publish 2 index files\nSet config.json"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn through_many_changes_git_and_sparse_and_upstream_agree() {
    let bench = Bench::new().await;
    let names: Vec<String> = (0..25).map(|n| format!("krate{n}")).collect();
    for round in 0..12 {
        for (n, name) in names.iter().enumerate() {
            match (n + round) % 5 {
                0 => bench.upstream.add(&krate(name, &format!("{round}.0.0"))),
                1 if round > 4 => bench.upstream.yank(name, &format!("{}.0.0", round - 1), round % 2 == 0),
                _ => {}
            }
        }
        bench.pass(MINUTE);
        let asks = names.iter().flat_map(|name| [name, name]).map(|name| {
            let (index, path) = (bench.index.clone(), path(name));
            tokio::spawn(async move { index.file(&path, Ask::IfOld).await })
        });
        for (n, ask) in asks.collect::<Vec<_>>().into_iter().enumerate() {
            let entry = ask.await.unwrap().unwrap().map(|entry| entry.bytes.to_vec());
            assert_eq!(
                entry,
                bench.upstream.index_file(path(&names[n / 2]).as_str()),
                "round {round}"
            );
        }
    }
    for name in &names {
        bench.assert_same_in_git(name).await;
    }
    assert_eq!(bench.index.status().files, 25);
    let bench = bench.restarted().await;
    bench.upstream.clear_log();
    for name in &names {
        bench.text(name).await;
    }
    assert_eq!(
        bench.index.status().not_modified,
        25,
        "what is remembered fits what is in the tree"
    );
    git_ok(&bench.git_dir(), &["fsck", "--strict"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_config_json_is_one_commit_per_change() {
    let bench = Bench::new().await;
    for address in ["http://127.0.0.1:1", "http://127.0.0.1:1", "http://127.0.0.1:2"] {
        bench.index.publish_config_json(registry::mirror_config(address));
        bench.upstream.add(&krate("serde", "1.0.0"));
        bench.text("serde").await;
    }
    bench.index.shutdown().await;
    let blob = bench.blob("master:config.json");
    assert_eq!(blob, registry::mirror_config("http://127.0.0.1:2"));
    let before = bench.commits();
    let bench = bench.restarted().await;
    bench
        .index
        .publish_config_json(registry::mirror_config("http://127.0.0.1:2"));
    let bench = bench.restarted().await;
    assert_eq!(bench.commits(), before);
    bench
        .index
        .publish_config_json(registry::mirror_config("http://127.0.0.1:3"));
    bench.index.shutdown().await;
    assert_eq!(bench.commits(), before + 1);
    assert!(git_ok(&bench.git_dir(), &["log", "-1", "--format=%s", "master"]).starts_with("Set config.json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_config_json_waits_for_no_batch() {
    let bench = Bench::with(|config| config.batch_delay = Duration::from_secs(3600)).await;
    for address in ["http://127.0.0.1:1", "http://127.0.0.1:2"] {
        let new = registry::mirror_config(address);
        bench.index.publish_config_json(new.clone());
        let name = "refs/heads/master:config.json";
        let is_new = || git(&bench.git_dir(), &["cat-file", "blob", name]).stdout == new;
        tokio::time::timeout(Duration::from_secs(60), async {
            while !is_new() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it is committed within the minute");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_waits_for_the_commit_and_loses_nothing() {
    let bench = Bench::with(|config| {
        config.pending_bytes = 500;
        config.memory_bytes = 0;
        config.batch_delay = Duration::from_secs(1);
    })
    .await;
    let names: Vec<String> = (0..10).map(|n| format!("krate{n}")).collect();
    names.iter().for_each(|name| bench.upstream.add(&krate(name, "1.0.0")));
    let asks = names.iter().map(|name| {
        let (index, path) = (bench.index.clone(), path(name));
        tokio::spawn(async move { index.file(&path, Ask::IfOld).await })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert!(ask.await.unwrap().unwrap().is_some());
    }
    for name in &names {
        bench.assert_same_in_git(name).await;
    }
    assert_eq!(bench.index.status().files, 10);
    assert!(bench.commits() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_is_heard_of_and_tried_again() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    let (objects, away) = (bench.git_dir().join("objects"), bench.git_dir().join("away"));
    std::fs::rename(&objects, &away).unwrap();
    std::fs::write(&objects, "not a directory").unwrap();
    bench
        .index
        .publish_config_json(registry::mirror_config("http://127.0.0.1:1"));
    let entry = bench.index.inner.here(&path("serde")).await;
    assert!(entry.is_err() || entry.unwrap().is_none());
    let serde = Arc::new(IndexEntry::new(format!(
        "{}\n",
        krate("serde", "1.0.0").index_line.trim_end()
    )));
    bench
        .index
        .inner
        .publisher
        .submit(&path("serde"), Some(serde), None)
        .await
        .unwrap();
    assert!(matches!(
        bench.index.committed(&path("serde")).await,
        Err(Error::NotCommitted { .. })
    ));
    let status = bench.index.status();
    assert_eq!(status.commits_failing_since, Some(*locked(&bench.now)));
    assert!(status.publisher_alive);
    bench.pass(MINUTE);
    assert_eq!(
        bench.text("serde").await.lines().count(),
        1,
        "served from memory meanwhile"
    );
    std::fs::remove_file(&objects).unwrap();
    std::fs::rename(&away, &objects).unwrap();
    let committed = async {
        while bench.index.committed(&path("serde")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), committed)
        .await
        .expect("tried again");
    bench.assert_same_in_git("serde").await;
    let healed = async {
        while bench.index.status().commits_failing_since.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), healed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_deleted_is_noticed_and_not_begun_anew() {
    let bench = Bench::new().await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.text("serde").await;
    bench.assert_same_in_git("serde").await;
    let tree = bench.index.tree();
    tree.check_on_disk().unwrap();
    std::fs::remove_dir_all(bench.git_dir()).unwrap();
    assert!(matches!(tree.check_on_disk(), Err(Error::Damaged { .. })));
    let tokio = Arc::new(IndexEntry::new(krate("tokio", "1.0.0").index_line));
    let publisher = &bench.index.inner.publisher;
    publisher.submit(&path("tokio"), Some(tokio), None).await.unwrap();
    // The first try fails while it writes, the next before it reads.
    for _ in 0..2 {
        let committed = bench.index.committed(&path("tokio")).await;
        assert!(matches!(committed, Err(Error::NotCommitted { .. })), "{committed:?}");
        assert!(!bench.git_dir().exists());
    }
    assert!(bench.index.status().commits_failing_since.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_has_ended_takes_nothing_and_is_known_to_have() {
    let (dir, ends) = (
        tempfile::tempdir().unwrap(),
        Arc::new(std::sync::atomic::AtomicBool::new(false)),
    );
    let ended = Arc::clone(&ends);
    let clock: Clock = Arc::new(move || {
        let here = std::thread::current();
        assert!(
            here.name() != Some("publisher") || !ended.load(Ordering::Relaxed),
            "this is its end"
        );
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    });
    let config = Config {
        batch_delay: Duration::from_millis(10),
        ..Config::default()
    };
    let index = open_by(clock, Duration::from_secs(1), &dir, config, &Arc::default());
    let publisher = &index.inner.publisher;
    let entry = Arc::new(IndexEntry::new(krate("serde", "1.0.0").index_line));
    publisher
        .submit(&path("serde"), Some(Arc::clone(&entry)), None)
        .await
        .unwrap();
    index.committed(&path("serde")).await.unwrap();
    assert!(index.status().publisher_alive);
    ends.store(true, Ordering::Relaxed);
    publisher
        .submit(&path("tokio"), Some(Arc::clone(&entry)), None)
        .await
        .unwrap();
    assert!(matches!(index.committed(&path("tokio")).await, Err(Error::Stopped)));
    assert!(!index.status().publisher_alive);
    let more = publisher.submit(&path("other"), Some(entry), None).await;
    assert!(matches!(more, Err(Error::Stopped)), "{more:?}");
    assert!(index.file(&path("serde"), Ask::Never).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_empty_disk_the_first_commit_waits_for_no_other() {
    let bench = Bench::with(|config| config.batch_delay = Duration::from_secs(3600)).await;
    bench.publish_first().await;
    let files = git_ok(&bench.git_dir(), &["ls-tree", "--name-only", "master"]);
    assert_eq!(files.trim(), "config.json");
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.text("serde").await;
    assert_eq!(bench.index.status().pending, 1, "the next ones wait for others");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_commits_what_waits_and_takes_nothing_more() {
    let bench = Bench::with(|config| config.batch_delay = Duration::from_secs(3600)).await;
    bench.upstream.add(&krate("serde", "1.0.0"));
    bench.text("serde").await;
    bench.index.shutdown().await;
    bench.assert_same_in_git("serde").await;
    bench.upstream.add(&krate("tokio", "1.0.0"));
    assert!(matches!(bench.get("tokio").await, Err(Error::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_upstream_only_the_tree_answers() {
    let bench = Bench::with(|config| config.upstream = None).await;
    assert!(bench.get("serde").await.unwrap().is_none());
    assert!(matches!(
        bench.index.upstream_config().await,
        Err(Error::Unavailable { .. })
    ));
    assert!(matches!(
        bench.index.file(&path("serde"), Ask::Now).await,
        Err(Error::Unavailable { .. })
    ));
    assert_eq!(bench.upstream.requests().len(), 0);
}
