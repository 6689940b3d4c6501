use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use metadata_db::{DecisionKind, DecisionsDb, MetadataDb};
use registry::{Checksum, IndexEdit, IndexPath};
use tempfile::TempDir;
use testkit::{CrateBuilder, FakeUpstream, GitUpstream, git_ok};

use super::super::Clock;
use super::*;
use crate::{Ask, Config, Follow, PackLogState, Repository, RepositoryLimits, SparseUpstream, StateKind};

/// An index that follows a git upstream, with a sparse one beside it.
struct Bench {
    dir: TempDir,
    git: GitUpstream,
    sparse: FakeUpstream,
    kept: Arc<Mutex<HashSet<Checksum>>>,
    limits: RepositoryLimits,
    index: Index,
}

impl Bench {
    fn new() -> Self {
        Self::with(RepositoryLimits::default())
    }

    fn with(limits: RepositoryLimits) -> Self {
        let (dir, git, sparse) = (
            tempfile::tempdir().unwrap(),
            GitUpstream::start(),
            FakeUpstream::start(),
        );
        let kept = Arc::default();
        let index = open(&dir, &git, &sparse, &kept, limits.clone());
        index.publish_config_json(b"{\"dl\":\"here\"}".to_vec());
        Self {
            dir,
            git,
            sparse,
            kept,
            limits,
            index,
        }
    }

    async fn restarted(mut self) -> Self {
        self.index.shutdown().await;
        self.index = open(&self.dir, &self.git, &self.sparse, &self.kept, self.limits.clone());
        self
    }

    fn git_dir(&self) -> PathBuf {
        self.dir.path().join("index.git")
    }

    /// One round, which must go well.
    async fn round(&self) -> SyncReport {
        let report = self.index.sync_once(|_| ()).await.unwrap();
        // Upkeep comes after the commit; a `git fsck` that runs while packs are removed misses them.
        let upkeep_is_over = self.index.inner.publisher.with_repository(|_| Ok(()));
        upkeep_is_over.await.unwrap();
        report
    }

    /// Publishes a state of another mirror's index: these lines, whatever was there of their files before.
    async fn import(&self, site: &str, files: &[(&str, String)]) {
        let mut changes: Vec<_> = files
            .iter()
            .map(|(name, text)| Ok::<_, String>((path(name), IndexEdit::whole(text.as_bytes()))))
            .collect();
        changes.sort_by_key(|change| change.as_ref().map(|(path, _)| path.clone()).ok());
        let before = self.index.state(StateKind::Site, site).unwrap();
        let state = self.index.stage_state(before, changes.into_iter()).await.unwrap();
        self.index.publish_state(site, state, "Import").await.unwrap();
    }

    async fn text(&self, name: &str) -> Option<String> {
        let entry = self.index.file(&path(name), Ask::IfOld).await.unwrap()?;
        Some(String::from_utf8(entry.bytes.to_vec()).unwrap())
    }

    fn decided(&self, name: &str) -> Vec<DecisionKind> {
        let rows = self.index.inner.decisions.decisions_for(&path(name)).unwrap();
        rows.iter().map(|row| row.kind).collect()
    }

    fn tip(&self) -> crate::Tip {
        self.index.tree().tip().unwrap().expect("something is published")
    }

    fn commits(&self) -> usize {
        git_ok(&self.git_dir(), &["rev-list", "--count", "master"])
            .parse()
            .unwrap()
    }

    /// What is published is upstream's tree but for `config.json`, says so, and git finds nothing wrong with it.
    fn assert_like_upstream(&self) {
        assert_eq!(self.index.verify_against_upstream().unwrap(), []);
        let listed = |dir: &std::path::Path, tree: &str| {
            let all = git_ok(dir, &["ls-tree", "-r", "--full-tree", tree]);
            let lines = all.lines().filter(|line| !line.ends_with("\tconfig.json"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(listed(&self.git_dir(), "master"), listed(&self.git.dir(), "master"));
        assert_eq!(
            git_ok(&self.git_dir(), &["cat-file", "blob", "master:config.json"]),
            "{\"dl\":\"here\"}"
        );
        let fsck = git_ok(&self.git_dir(), &["fsck", "--strict", "--no-dangling"]);
        assert_eq!(fsck, "");
        assert!(!self.git_dir().join("mirror-fetch").exists());
        self.assert_logged();
    }

    /// Git clients are served what is published; while they cannot be, they are told so.
    fn assert_logged(&self) {
        let tip = *self.tip().commit.as_bytes();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) {
            if let Some(PackLogState::Ready(log)) = self.index.pack_log() {
                let view = log.view();
                if view.root_is_whole() && view.head().is_some_and(|head| head.id.0 == tip) {
                    return view.verify(|_, _| ()).unwrap();
                }
            }
            std::thread::yield_now();
        }
        panic!("the pack log never has what is published");
    }
}

fn open(
    dir: &TempDir,
    git: &GitUpstream,
    sparse: &FakeUpstream,
    kept: &Arc<Mutex<HashSet<Checksum>>>,
    limits: RepositoryLimits,
) -> Index {
    let mut repository = Repository::open(&dir.path().join("index.git"), limits).unwrap();
    let month = Duration::from_secs(30 * 86_400);
    repository.keep_pack_log(&dir.path().join("pack-log"), month).unwrap();
    let metadata = Arc::new(MetadataDb::open(&dir.path().join("mirror.db")).unwrap().db);
    let decisions = Arc::new(DecisionsDb::open(&dir.path().join("decisions.db")).unwrap());
    let http = UpstreamHttp::start(upstream_http::Config::new("mirror-test/0 (nobody@localhost)")).unwrap();
    let config = Config {
        upstream: Some(SparseUpstream {
            base: format!("{}/index/", sparse.base_url()),
        }),
        batch_delay: Duration::from_millis(10),
        max_age: Duration::ZERO,
        ..Config::default()
    };
    let kept = Arc::clone(kept);
    let kept_or_served = Arc::new(move |checksum: &Checksum| locked(&kept).contains(checksum));
    let clock: Clock = Arc::new(SystemTime::now);
    let sparse = Some(http.clone());
    let index = Index::open_at(clock, config, repository, metadata, decisions, sparse, kept_or_served).unwrap();
    let follow = FollowConfig {
        url: git.url(),
        when: Follow::Never,
        sync_interval: Duration::from_secs(600),
    };
    index.follow(follow, http).unwrap();
    index
}

fn path(name: &str) -> IndexPath {
    IndexPath::of(&name.parse().unwrap())
}

fn checksum(seed: &str) -> Checksum {
    Checksum::of(seed.as_bytes())
}

fn line(name: &str, vers: &str, yanked: bool) -> String {
    line_of(name, vers, &format!("{name} {vers}"), yanked)
}

fn line_of(name: &str, vers: &str, seed: &str, yanked: bool) -> String {
    let cksum = checksum(seed);
    format!(r#"{{"name":"{name}","vers":"{vers}","deps":[],"cksum":"{cksum}","features":{{}},"yanked":{yanked}}}"#)
        + "\n"
}

/// Some hundred files.
fn publish_many(git: &GitUpstream, crates: usize) {
    let files: Vec<(String, String)> = (0..crates)
        .map(|n| {
            let name = format!("krate{n}");
            (
                path(&name).to_string(),
                line(&name, "1.0.0", false) + &line(&name, "1.1.0", n % 3 == 0),
            )
        })
        .chain([("README.md".to_owned(), "an index\n".to_owned())])
        .chain([("config.json".to_owned(), "{\"dl\":\"there\"}".to_owned())])
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), Some(text.as_str())))
        .collect();
    git.commit(&files);
}

fn change(git: &GitUpstream, name: &str, text: &str) {
    git.commit(&[(path(name).as_str(), Some(text))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_index_comes_and_then_what_changes() {
    let bench = Bench::new();
    publish_many(&bench.git, 300);
    let report = bench.round().await;
    assert!(
        report.first && report.changed_files == 300 && report.received_bytes > 1000,
        "{report:?}"
    );
    bench.assert_like_upstream();
    assert!(
        bench
            .tip()
            .message
            .ends_with(&format!("\n\nUpstream-Commit: {}\n", bench.git.head()))
    );
    assert_eq!(bench.index.status().files, 300);

    let (posts, commits) = (bench.git.posts(), bench.commits());
    let report = bench.round().await;
    assert!(!report.first && report.changed_files == 0);
    // Protocol 2 asks for the references by a POST, and then for nothing.
    assert_eq!((bench.git.posts(), bench.commits()), (posts + 1, commits));

    let yanked = line("krate1", "1.0.0", true) + &line("krate1", "1.1.0", false);
    change(&bench.git, "krate1", &yanked);
    assert_eq!(bench.round().await.changed_files, 1);
    assert_eq!(bench.text("krate1").await, Some(yanked));
    bench.assert_like_upstream();
    assert_eq!(bench.commits(), commits + 1);

    for n in 0..100 {
        change(
            &bench.git,
            &format!("new{}", n % 50),
            &line(&format!("new{}", n % 50), &format!("0.{n}.0"), false),
        );
    }
    bench
        .git
        .commit(&[("README.md", Some("another\n")), ("docs/a.md", Some("beside\n"))]);
    assert_eq!(bench.round().await.changed_files, 50);
    bench.assert_like_upstream();
    let unyanked = line("krate1", "1.0.0", false) + &line("krate1", "1.1.0", false);
    change(&bench.git, "krate1", &unyanked);
    bench.git.commit(&[("docs/a.md", None)]);
    bench.round().await;
    bench.assert_like_upstream();
    assert_eq!(bench.text("krate1").await, Some(unyanked));
    assert_eq!(bench.sparse.requests().len(), 0, "all of it came by git");
    let shallow = std::fs::read_to_string(bench.git_dir().join("shallow")).unwrap();
    assert_eq!(shallow.lines().count(), 1, "{shallow}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_squash_upstream_is_no_change() {
    let bench = Bench::new();
    publish_many(&bench.git, 40);
    bench.round().await;
    for pruned in [false, true] {
        for n in 0..3 {
            change(&bench.git, "krate1", &line("krate1", &format!("2.{n}.0"), pruned));
            bench.round().await;
        }
        let (before, commits) = (bench.tip(), bench.commits());
        let squashed = bench.git.squash();
        if pruned {
            bench.git.prune();
        }
        let report = bench.round().await;
        assert_eq!((report.upstream.to_string(), report.changed_files), (squashed, 0));
        assert_eq!((bench.tip(), bench.commits()), (before, commits));
        bench.assert_like_upstream();
        change(&bench.git, "krate2", &line("krate2", "9.0.0", pruned));
        bench.git.squash();
        if pruned {
            bench.git.prune();
        }
        assert_eq!(bench.round().await.changed_files, 1);
        bench.assert_like_upstream();
        change(&bench.git, "krate3", &line("krate3", "9.0.0", pruned));
        bench.round().await;
        bench.assert_like_upstream();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_or_killed_fetch_stops_nobody() {
    let bench = Bench::new();
    publish_many(&bench.git, 100);
    bench.git.cut_after(Some(2000));
    bench.index.sync_once(|_| ()).await.unwrap_err();
    assert_eq!(bench.text("krate1").await, None, "nothing of it is published");
    let status = bench.index.follow_status().unwrap();
    assert!(!status.synced && status.last_error.is_some());
    bench.git.cut_after(None);
    // What a killed one leaves.
    let left = bench.git_dir().join("mirror-fetch/objects/pack");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join(".tmpAbCd"), b"PACK").unwrap();
    std::fs::write(bench.git_dir().join("mirror-fetch/shallow.lock"), b"").unwrap();
    bench.round().await;
    bench.assert_like_upstream();
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(bench.git_dir().join("shallow.lock"), b"").unwrap();
    change(&bench.git, "krate1", &line("krate1", "3.0.0", false));
    let bench = bench.restarted().await;
    assert!(!left.exists());
    bench.round().await;
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_end_of_a_round_is_mended_by_the_next() {
    let bench = Bench::new();
    publish_many(&bench.git, 50);
    bench.round().await;
    let before = bench.git.head();
    change(&bench.git, "krate1", &line("krate1", "3.0.0", false));
    bench.round().await;
    // As if it had ended after the commit, and before the reference moved.
    std::fs::write(bench.git_dir().join("refs/mirror/upstream"), format!("{before}\n")).unwrap();
    std::fs::write(
        bench.git_dir().join("refs/mirror/incoming"),
        format!("{}\n", bench.git.head()),
    )
    .unwrap();
    let (bench, commits) = (bench.restarted().await, 2);
    assert!(bench.index.follow_status().unwrap().synced);
    bench.round().await;
    assert!(!bench.git_dir().join("refs/mirror/incoming").exists());
    assert!(bench.commits() >= commits);
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_run_gc_while_the_mirror_is_down() {
    let bench = Bench::new();
    publish_many(&bench.git, 300);
    bench.round().await;
    change(&bench.git, "krate1", &line("krate1", "3.0.0", false));
    bench.round().await;
    bench.index.shutdown().await;
    git_ok(&bench.git_dir(), &["gc", "-q"]);
    assert!(!bench.git_dir().join("refs/mirror/upstream").exists());
    let bench = bench.restarted().await;
    let known = bench.index.upstream_commit().unwrap().map(|commit| commit.to_string());
    assert_eq!(known, Some(bench.git.head().to_string()), "its name is packed now");
    change(&bench.git, "krate2", &line("krate2", "3.0.0", false));
    let report = bench.round().await;
    assert!(
        !report.first && report.changed_files == 1 && report.received_bytes < 20_000,
        "{report:?}"
    );
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_removes_is_removed_but_not_too_much_at_once() {
    let bench = Bench::new();
    publish_many(&bench.git, 60);
    bench.round().await;
    let rest = line("krate1", "1.1.0", false);
    change(&bench.git, "krate1", &rest);
    bench.git.commit(&[(path("krate2").as_str(), None)]);
    bench.round().await;
    assert_eq!(bench.text("krate1").await, Some(rest));
    assert_eq!(
        (bench.decided("krate1"), bench.decided("krate2").len()),
        (vec![DecisionKind::Removed], 2)
    );
    assert_eq!(
        bench.index.file(&path("krate2"), Ask::Never).await.unwrap().map(|_| ()),
        None
    );
    bench.assert_like_upstream();

    let names: Vec<String> = (10..21).map(|n| path(&format!("krate{n}")).to_string()).collect();
    let gone: Vec<_> = names.iter().map(|path| (path.as_str(), None)).collect();
    bench.git.commit(&gone);
    bench.round().await;
    assert_eq!(
        bench.decided("krate10"),
        [DecisionKind::HeldRemoval, DecisionKind::HeldRemoval]
    );
    assert!(bench.text("krate10").await.unwrap().contains("1.0.0"));
    assert_eq!(bench.index.verify_against_upstream().unwrap().len(), 11);
    assert_eq!(bench.index.status().held, 22);

    // And back again, as it was.
    for n in 10..21 {
        let name = format!("krate{n}");
        change(
            &bench.git,
            &name,
            &(line(&name, "1.0.0", false) + &line(&name, "1.1.0", n % 3 == 0)),
        );
    }
    change(&bench.git, "krate2", &line("krate2", "1.0.0", false));
    bench.round().await;
    assert_eq!((bench.index.status().held, bench.decided("krate2").len()), (0, 1));
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_checksum_is_held_where_the_old_file_was_kept() {
    let bench = Bench::new();
    let old = line("serde", "1.0.0", false);
    let other = line("other", "1.0.0", false);
    bench.git.commit(&[
        (path("serde").as_str(), Some(&old)),
        (path("other").as_str(), Some(&other)),
    ]);
    bench.round().await;
    locked(&bench.kept).insert(checksum("serde 1.0.0"));
    let next = line("serde", "1.1.0", false);
    change(
        &bench.git,
        "serde",
        &(line_of("serde", "1.0.0", "changed", false) + &next),
    );
    change(&bench.git, "other", &line_of("other", "1.0.0", "changed", false));
    bench.round().await;
    assert_eq!(bench.text("serde").await, Some(old.clone() + &next));
    assert_eq!(
        bench.text("other").await,
        Some(line_of("other", "1.0.0", "changed", false))
    );
    assert_eq!(bench.decided("serde"), [DecisionKind::HeldChecksum]);
    assert_eq!(bench.index.verify_against_upstream().unwrap().len(), 1);
    // A later change elsewhere in the file does not undo it.
    change(
        &bench.git,
        "serde",
        &(line_of("serde", "1.0.0", "changed", false) + &line("serde", "1.1.0", true)),
    );
    bench.round().await;
    assert_eq!(
        bench.text("serde").await,
        Some(old.clone() + &line("serde", "1.1.0", true))
    );
    change(&bench.git, "serde", &old);
    bench.round().await;
    assert_eq!(bench.decided("serde"), [DecisionKind::Removed]);
    assert_eq!(bench.text("serde").await, Some(old));
}

/// Rewrites what was decided about a crate.
fn decide(bench: &Bench, name: &str, change: impl Fn(&mut metadata_db::DecisionRow)) {
    let decisions = &bench.index.inner.decisions;
    for mut row in decisions.decisions_for(&path(name)).unwrap() {
        change(&mut row);
        decisions.put(&path(name), &row).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_removal_goes_once_the_operator_or_the_hour_allows_it() {
    let bench = Bench::new();
    publish_many(&bench.git, 60);
    bench.round().await;
    let names: Vec<String> = (10..21).map(|n| format!("krate{n}")).collect();
    let paths: Vec<IndexPath> = names.iter().map(|name| path(name)).collect();
    let gone: Vec<_> = paths.iter().map(|path| (path.as_str(), None)).collect();
    bench.git.commit(&gone);
    bench.round().await;
    let commits = bench.commits();
    bench.round().await;
    assert_eq!((bench.index.status().held, bench.commits()), (22, commits));

    decide(&bench, "krate10", |row| row.kind = DecisionKind::Accepted);
    bench.round().await;
    assert_eq!(bench.decided("krate10"), [DecisionKind::Removed; 2]);
    assert_eq!(bench.index.verify_against_upstream().unwrap().len(), 10);
    // One went in this hour, and ten are held: one too many.
    bench.round().await;
    assert_eq!(bench.index.status().held, 20);
    decide(&bench, "krate10", |row| row.decided_at -= 4_000);
    bench.round().await;
    assert_eq!(bench.index.status().held, 0);
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_checksum_is_taken_once_the_operator_accepts_it() {
    let bench = Bench::new();
    change(&bench.git, "serde", &line("serde", "1.0.0", false));
    bench.round().await;
    locked(&bench.kept).insert(checksum("serde 1.0.0"));
    let changed = line_of("serde", "1.0.0", "changed", false);
    change(&bench.git, "serde", &changed);
    bench.round().await;
    bench.round().await;
    assert_eq!(bench.decided("serde"), [DecisionKind::HeldChecksum]);
    decide(&bench, "serde", |row| row.kind = DecisionKind::Accepted);
    bench.round().await;
    assert_eq!(
        (bench.text("serde").await, bench.decided("serde")),
        (Some(changed), vec![])
    );
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unrelated_history_is_a_change_of_the_tree_alone() {
    let bench = Bench::new();
    publish_many(&bench.git, 40);
    bench.round().await;
    let ours = bench.tip();
    let dir = bench.git.dir();
    git_ok(&dir, &["checkout", "-q", "--orphan", "other"]);
    change(&bench.git, "krate1", &line("krate1", "2.0.0", false));
    git_ok(&dir, &["update-ref", "refs/heads/master", "refs/heads/other"]);
    git_ok(&dir, &["checkout", "-q", "master"]);
    assert_eq!(bench.round().await.changed_files, 1);
    bench.assert_like_upstream();
    let parents = git_ok(&bench.git_dir(), &["rev-list", "--parents", "-n", "1", "master"]);
    assert!(
        parents.ends_with(&ours.commit.to_string()),
        "clients go on from what they have"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_branch_master_counts() {
    let bench = Bench::new();
    publish_many(&bench.git, 40);
    let dir = bench.git.dir();
    git_ok(&dir, &["symbolic-ref", "HEAD", "refs/heads/nothing"]);
    bench.round().await;
    bench.assert_like_upstream();
    git_ok(&dir, &["branch", "-m", "master", "trunk"]);
    let error = bench.index.sync_once(|_| ()).await.unwrap_err();
    assert!(
        crate::upstream_sparse::with_sources(&error).contains("refs/heads/master"),
        "{error}"
    );
    assert!(bench.text("krate1").await.is_some(), "what is published stays");
    git_ok(&dir, &["branch", "-m", "trunk", "master"]);
    git_ok(&dir, &["symbolic-ref", "HEAD", "refs/heads/master"]);
    change(&bench.git, "krate1", &line("krate1", "2.0.0", false));
    bench.round().await;
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn git_and_sparse_are_merged_by_version() {
    let bench = Bench::new();
    let ahead = |version: &str| CrateBuilder::new("serde", version).build();
    bench.sparse.add(&ahead("1.0.0"));
    bench.sparse.add(&ahead("1.2.0"));
    bench.sparse.add(&CrateBuilder::new("alone", "1.0.0").build());
    let from_sparse = bench.text("serde").await.unwrap();
    bench.text("alone").await.unwrap();
    let lines: Vec<&str> = from_sparse.lines().collect();
    // Git has one version that sparse has not, and not its newest.
    let in_git = format!("{}\n{}", lines[0], line("serde", "1.1.0", false));
    publish_many(&bench.git, 20);
    change(&bench.git, "serde", &in_git);
    bench.round().await;
    assert_eq!(bench.text("serde").await, Some(format!("{in_git}{}\n", lines[1])));
    let differ: Vec<String> = bench
        .index
        .verify_against_upstream()
        .unwrap()
        .into_iter()
        .map(|one| one.path)
        .collect();
    assert_eq!(differ, [path("alone").to_string(), path("serde").to_string()]);
    // Now nothing that is here is asked for again; what is not is.
    let requests = bench.sparse.requests().len();
    bench.text("krate1").await.unwrap();
    bench.text("serde").await.unwrap();
    assert_eq!(bench.sparse.requests().len(), requests);
    bench.sparse.add(&CrateBuilder::new("newer", "1.0.0").build());
    assert!(bench.text("newer").await.is_some());
    // Git catches up with another mind about one version, and changes it last.
    let yanked = lines[1].replace("\"yanked\":false", "\"yanked\":true");
    assert_ne!(yanked, lines[1]);
    change(&bench.git, "serde", &format!("{in_git}{yanked}\n"));
    bench.round().await;
    assert_eq!(bench.text("serde").await, Some(format!("{in_git}{yanked}\n")));
    // What git never had is not removed by it.
    assert!(bench.text("alone").await.is_some());
    assert_eq!(bench.decided("alone"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_read_are_published_as_they_are() {
    let bench = Bench::new();
    let odd = format!(
        "{}not an index line\r\n\n{}",
        line("odd", "1.0.0", false),
        line("odd", "1.0.1", false)
    );
    publish_many(&bench.git, 5);
    bench.round().await;
    change(&bench.git, "odd", &odd);
    bench.round().await;
    assert_eq!(bench.text("odd").await.as_deref(), Some(odd.as_str()));
    assert_eq!(bench.index.follow_status().unwrap().unreadable_files, 1);
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_gone_disturbs_nobody() {
    let bench = Bench::new();
    publish_many(&bench.git, 20);
    bench.round().await;
    bench.git.refuse(true);
    let error = bench.index.sync_once(|_| ()).await.unwrap_err();
    assert!(crate::upstream_sparse::with_sources(&error).contains("503"), "{error}");
    assert!(bench.text("krate1").await.is_some());
    let status = bench.index.follow_status().unwrap();
    assert!(status.synced && status.current && status.last_error.is_some());
    // After a restart nobody knows how old it is: sparse is asked, and what it lacks stays.
    let bench = bench.restarted().await;
    assert!(!bench.index.follow_status().unwrap().current);
    assert!(bench.text("krate1").await.is_some());
    assert_eq!(bench.sparse.count(&FakeUpstream::index_path("krate1")), 1);
    bench.git.refuse(false);
    bench.round().await;
    assert!(bench.index.follow_status().unwrap().current);
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_squash_keeps_what_the_next_round_needs() {
    let limits = RepositoryLimits {
        slack_bytes: 100_000,
        retire_after: Duration::ZERO,
        ..RepositoryLimits::default()
    };
    let bench = Bench::with(limits);
    publish_many(&bench.git, 200);
    bench.round().await;
    let root = || git_ok(&bench.git_dir(), &["rev-list", "--max-parents=0", "master"]);
    let first = root();
    let mut rounds = 0;
    while root() == first {
        rounds += 1;
        assert!(rounds < 200, "history is never squashed");
        change(&bench.git, "krate1", &line("krate1", &format!("2.{rounds}.0"), false));
        bench.round().await;
    }
    bench.assert_like_upstream();
    let packs = std::fs::read_dir(bench.git_dir().join("objects/pack")).unwrap().count();
    assert!(packs <= 2 * 64, "{packs} files");
    change(&bench.git, "krate1", &line("krate1", "3.0.0", false));
    bench.round().await;
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_first_index_is_withheld_from_git_clients_until_it_is_whole() {
    let bench = Bench::new();
    publish_many(&bench.git, 5_500);
    bench.round().await;
    let whole = *bench.tip().commit.as_bytes();
    let first_ready = loop {
        match bench.index.pack_log().unwrap() {
            PackLogState::Ready(log) => break log.view().head().unwrap().id.0,
            PackLogState::Building { percent } => assert!(percent < 100),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(first_ready, whole, "an index without most of its crates was served");
    bench.assert_like_upstream();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_wants_the_whole_index() {
    let bench = Bench::new();
    assert!(!bench.index.want_whole(), "this one is followed for nobody");
    publish_many(&bench.git, 10);
    bench.index.shutdown().await;
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::open(&dir.path().join("index.git"), RepositoryLimits::default()).unwrap();
    let metadata = Arc::new(MetadataDb::open(&dir.path().join("mirror.db")).unwrap().db);
    let decisions = Arc::new(DecisionsDb::open(&dir.path().join("decisions.db")).unwrap());
    let index = Index::open(
        Config::default(),
        repository,
        metadata,
        decisions,
        None,
        Arc::new(|_| false),
    )
    .unwrap();
    let http = UpstreamHttp::start(upstream_http::Config::new("mirror-test/0 (nobody@localhost)")).unwrap();
    let follow = FollowConfig {
        url: bench.git.url(),
        when: Follow::WhenWanted,
        sync_interval: Duration::from_millis(20),
    };
    index.follow(follow, http).unwrap();
    assert_eq!(index.follow_status().unwrap().phase, FollowPhase::Waiting);
    assert!(index.want_whole());
    let rounds = |count: u64| {
        let index = &index;
        async move {
            let reached = || index.follow_status().unwrap().rounds >= count;
            tokio::time::timeout(Duration::from_secs(60), async {
                while !reached() {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .expect("rounds go on");
        }
    };
    rounds(1).await;
    assert_eq!(index.status().files, 10);
    change(&bench.git, "krate1", &line("krate1", "3.0.0", false));
    rounds(index.follow_status().unwrap().rounds + 2).await;
    let entry = index.file(&path("krate1"), Ask::Never).await.unwrap().unwrap();
    assert_eq!(entry.bytes, line("krate1", "3.0.0", false));
    index.set_mode(Mode::Offline);
    assert!(index.sync_once(|_| ()).await.is_err());
    index.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_and_imports_beside_each_other_lose_nothing() {
    let bench = Bench::new();
    publish_many(&bench.git, 100);
    let rounds = async {
        for n in 0..8 {
            bench.round().await;
            let name = format!("krate{n}");
            let more = line(&name, "1.0.0", false) + &line(&name, "1.1.0", n % 3 == 0) + &line(&name, "3.0.0", false);
            change(&bench.git, &name, &more);
        }
        bench.round().await;
    };
    let imports = async {
        for n in 0..8 {
            let (name, own) = (format!("krate{n}"), format!("own{n}"));
            let more = line(&name, "1.0.0", false) + &line(&name, "9.0.0", false);
            let files = [(name.as_str(), more), (own.as_str(), line(&own, "0.1.0", false))];
            bench.import("site", &files).await;
        }
    };
    tokio::join!(rounds, imports);
    for n in 0..8 {
        let text = bench.text(&format!("krate{n}")).await.unwrap();
        let mut versions: Vec<&str> = text.lines().map(|line| line.split('"').nth(7).unwrap()).collect();
        versions.sort_unstable();
        assert_eq!(versions, ["1.0.0", "1.1.0", "3.0.0", "9.0.0"], "{text}");
        assert!(bench.text(&format!("own{n}")).await.is_some());
    }
    assert_eq!(bench.text("krate50").await.unwrap().lines().count(), 2);
    assert_eq!(bench.index.status().files, 108);
    assert!(bench.tip().message.contains("Upstream-Commit: "));
    let fsck = git_ok(&bench.git_dir(), &["fsck", "--strict", "--no-dangling"]);
    assert_eq!(fsck, "");
    bench.assert_logged();
}

/// A whole index by a bundle is more than the pack log takes at once: it is made on a thread of its own, as after a first round.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_import_comes_into_the_pack_log() {
    let bench = Bench::new();
    let names: Vec<String> = (0..6_000).map(|n| format!("krate{n}")).collect();
    let files: Vec<(&str, String)> = names
        .iter()
        .map(|name| (name.as_str(), line(name, "1.0.0", false)))
        .collect();
    bench.import("site", &files).await;
    bench.assert_logged();
    assert_eq!(bench.index.status().files, 6_000);
    let clone = bench.dir.path().join("clone");
    git_ok(bench.dir.path(), &["clone", "-q", "--no-local", "index.git", "clone"]);
    assert_eq!(git_ok(&clone, &["ls-files"]).lines().count(), 6_001);
}
