//! What a bundle brought of another mirror's index, published.

use super::states::{line, line_of, mirror};
use super::*;
use crate::{ImportChanges, StateKind, TreeId};

const SITE: &str = "0123456789abcdef0123456789abcdef";

impl Bench {
    /// Brings all of the other mirror's index here, by the difference to `from`, which is here already.
    async fn import(&self, outside: &Self, from: Option<TreeId>) -> (TreeId, ImportChanges) {
        let to = outside.export().await;
        let staged = self.stage(from, outside.payload(from, to)).await;
        assert_eq!(staged, to);
        self.index
            .keep_state(StateKind::Import, &format!("b{to}"), to, "a bundle")
            .await
            .unwrap();
        let site = self.index.state(StateKind::Site, SITE).unwrap();
        let told = self.index.compare_with_published(site, to).await.unwrap();
        let changes = self.publish(to).await;
        assert_eq!(told, changes, "what the dry run said");
        (to, changes)
    }

    async fn publish(&self, next: TreeId) -> ImportChanges {
        let changes = self.index.publish_state(SITE, next, "Import a bundle").await.unwrap();
        assert_eq!(self.index.state(StateKind::Site, SITE).unwrap(), Some(next));
        changes
    }

    async fn here(&self, name: &str) -> Option<String> {
        let entry = self.index.file(&path(name), Ask::Never).await.unwrap()?;
        Some(String::from_utf8(entry.bytes.to_vec()).unwrap())
    }
}

fn counts(changes: &ImportChanges) -> [u64; 8] {
    [
        &changes.new_crates,
        &changes.new_versions,
        &changes.yanked,
        &changes.unyanked,
        &changes.removed_crates,
        &changes.removed_versions,
        &changes.changed_checksums,
        &changes.held_checksums,
    ]
    .map(|counted| counted.count)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_index_comes_in_one_commit_and_then_what_changes() {
    let (outside, office) = (mirror().await, mirror().await);
    for n in 0..300 {
        let name = format!("krate{n}");
        outside
            .set(&name, &(line(&name, "1.0.0") + &line(&name, "1.1.0")))
            .await;
    }
    let (first, changes) = office.import(&outside, None).await;
    assert_eq!(counts(&changes), [300, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((office.commits(), office.index.status().files), (2, 300));
    assert_eq!(office.files_in("master"), outside.files_in("master"));
    assert_eq!(office.here("krate3").await, outside.here("krate3").await);
    let subject = git_ok(&office.git_dir(), &["log", "-1", "--format=%s"]);
    assert_eq!(subject.trim(), "Import a bundle");
    // Once more is no change.
    assert!(office.publish(first).await.is_nothing());
    assert_eq!(office.commits(), 2);
    outside.set("krate3", "").await;
    outside.set("krate4", &line("krate4", "1.1.0")).await;
    outside
        .set(
            "krate5",
            &(line("krate5", "1.0.0") + &line_of("krate5", "1.1.0", "krate5 1.1.0", true)),
        )
        .await;
    outside.set("new", &line("new", "0.1.0")).await;
    let (second, changes) = office.import(&outside, Some(first)).await;
    assert_eq!(counts(&changes), [1, 0, 1, 0, 1, 3, 0, 0]);
    assert_eq!(
        changes.removed_versions.names,
        ["krate3 1.0.0", "krate3 1.1.0", "krate4 1.0.0"]
    );
    assert_eq!((office.commits(), office.index.status().files), (3, 300));
    assert_eq!(office.files_in("master"), outside.files_in("master"));
    assert_eq!(office.here("krate3").await, None);
    assert_eq!(office.decided("krate3"), [DecisionKind::Removed; 2]);
    assert!(office.here("krate5").await.unwrap().contains("\"yanked\":true"));
    // One bundle is lost on the way: the next one, from what is here, brings its changes too.
    outside
        .set("krate4", &(line("krate4", "1.1.0") + &line("krate4", "1.2.0")))
        .await;
    outside.export().await;
    outside.set("krate3", &line("krate3", "1.1.0")).await;
    let (third, changes) = office.import(&outside, Some(second)).await;
    assert_eq!(counts(&changes), [1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(office.files_in(&third.to_string()), outside.files_in("master"));
    assert_eq!(office.files_in("master"), outside.files_in("master"));
    assert!(
        office
            .decided("krate3")
            .iter()
            .all(|kind| *kind == DecisionKind::Removed)
    );
    assert_eq!(office.decided("krate3").len(), 1, "1.0.0 stays removed");
    // All of it again, from nothing.
    let again = office.stage(None, outside.payload(None, third)).await;
    assert_eq!(again, third);
    assert!(office.publish(again).await.is_nothing());
    office.fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_is_here_stays() {
    let (outside, office) = (mirror().await, mirror().await);
    office.set("own", &line("own", "1.0.0")).await;
    office
        .set("serde", &(line("serde", "0.9.0") + &line("serde", "1.0.0")))
        .await;
    outside
        .set("serde", &(line("serde", "1.0.0") + &line("serde", "1.0.1")))
        .await;
    // It waits for its commit still, and was read before.
    office.here("serde").await.unwrap();
    let (first, changes) = office.import(&outside, None).await;
    assert_eq!(counts(&changes), [0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(office.here("own").await, Some(line("own", "1.0.0")));
    let versions = |text: String| -> Vec<String> {
        let file = registry::IndexFile::parse(text.as_bytes(), &path("serde")).unwrap();
        file.lines().iter().map(|line| line.vers.clone().into_owned()).collect()
    };
    let mut found = versions(office.here("serde").await.unwrap());
    found.sort();
    assert_eq!(found, ["0.9.0", "1.0.0", "1.0.1"]);
    outside.set("serde", "").await;
    let (_, changes) = office.import(&outside, Some(first)).await;
    assert_eq!(
        counts(&changes),
        [0, 0, 0, 0, 0, 2, 0, 0],
        "of what the other mirror had"
    );
    assert_eq!(versions(office.here("serde").await.unwrap()), ["0.9.0"]);
    assert_eq!(office.files_in("master").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_checksum_is_held_if_its_file_is_here() {
    let (outside, office) = (mirror().await, mirror().await);
    for name in ["serde", "tokio"] {
        outside.set(name, &line(name, "1.0.0")).await;
    }
    let (first, _) = office.import(&outside, None).await;
    locked(&office.kept).insert(Checksum::of(b"serde 1.0.0"));
    for name in ["serde", "tokio"] {
        outside.set(name, &line_of(name, "1.0.0", "other", false)).await;
    }
    let (second, changes) = office.import(&outside, Some(first)).await;
    assert_eq!(counts(&changes), [0, 0, 0, 0, 0, 0, 1, 1]);
    assert_eq!(changes.held_checksums.names, ["serde 1.0.0"]);
    assert_eq!(office.here("serde").await, Some(line("serde", "1.0.0")));
    assert_eq!(
        office.here("tokio").await,
        Some(line_of("tokio", "1.0.0", "other", false))
    );
    assert_eq!(
        (office.decided("serde"), office.index.status().held),
        (vec![DecisionKind::HeldChecksum], 1)
    );
    // The operator's word is taken, and the same state again changes nothing of it.
    office.index.accept(&"serde".parse().unwrap(), None).await.unwrap();
    assert_eq!(office.here("serde").await, outside.here("serde").await);
    assert!(office.publish(second).await.is_nothing());
    assert_eq!(office.here("serde").await, outside.here("serde").await);
}

/// A request to upstream that began before the import must not put back what was published then.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_loses_nothing_of_an_import() {
    let (outside, office) = (mirror().await, Bench::new().await);
    office.publish_first().await;
    office.upstream.add(&krate("serde", "1.0.0"));
    office.text("serde").await;
    office.upstream.add(&krate("serde", "1.1.0"));
    outside
        .set(
            "serde",
            &format!(
                "{}\n{}",
                krate("serde", "1.0.0").index_line.trim_end(),
                line("serde", "2.0.0")
            ),
        )
        .await;
    office.pass(MINUTE);
    let gate = office.upstream.hold(&FakeUpstream::index_path("serde"));
    let index = office.index.clone();
    let request = tokio::spawn(async move { index.file(&path("serde"), Ask::Now).await });
    assert!(gate.wait_reached(1, Duration::from_secs(10)));
    office.import(&outside, None).await;
    assert!(
        office.here("serde").await.unwrap().contains("2.0.0"),
        "before upstream has answered"
    );
    gate.open();
    request.await.unwrap().unwrap();
    let mut versions = office.versions("serde").await;
    versions.sort();
    assert_eq!(versions, ["1.0.0", "1.1.0", "2.0.0"]);
    office.assert_same_in_git("serde").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_cut_short_is_done_again() {
    let (outside, mut office) = (mirror().await, mirror().await);
    for name in ["serde", "tokio", "rand"] {
        outside.set(name, &(line(name, "1.0.0") + &line(name, "1.1.0"))).await;
    }
    let (first, _) = office.import(&outside, None).await;
    locked(&office.kept).insert(Checksum::of(b"rand 1.0.0"));
    outside.set("serde", &line("serde", "1.1.0")).await;
    outside.set("tokio", "").await;
    outside
        .set(
            "rand",
            &(line_of("rand", "1.0.0", "other", false) + &line("rand", "1.1.0")),
        )
        .await;
    let second = outside.export().await;
    let payload = || outside.payload(Some(first), second);
    // Before the first piece, and after it.
    office.stage(Some(first), payload()).await;
    office = office.restarted().await;
    assert!(
        office.refs().iter().all(|name| !name.contains("staged")),
        "{:?}",
        office.refs()
    );
    office.stage(Some(first), payload()).await;
    office
        .index
        .keep_state(StateKind::Import, "b2", second, "a bundle")
        .await
        .unwrap();
    // After the decisions.
    let before = office.files_in("master");
    let decided = {
        let whole = office.index.publish_state("other-site", first, "").await.unwrap();
        assert!(whole.is_nothing());
        let inner = &office.index.inner;
        let rows = |name: &str, versions: &[&str]| -> Vec<metadata_db::DecisionRow> {
            let row = |vers: &&str| metadata_db::DecisionRow {
                vers: (*vers).to_owned(),
                kind: DecisionKind::Removed,
                whole_crate: name == "tokio",
                line: line(name, vers).trim_end().as_bytes().to_vec(),
                held_line: None,
                checksum: Checksum::of(format!("{name} {vers}").as_bytes()),
                new_checksum: None,
                decided_at: inner.now_unix(),
            };
            versions.iter().map(row).collect()
        };
        inner
            .decisions
            .put_all(&path("serde"), &rows("serde", &["1.0.0"]), &[])
            .unwrap();
        inner
            .decisions
            .put_all(&path("tokio"), &rows("tokio", &["1.0.0", "1.1.0"]), &[])
            .unwrap();
        inner.decisions.all().unwrap().len()
    };
    assert_eq!(decided, 3);
    office = office.restarted().await;
    assert_eq!(office.files_in("master"), before);
    let commits = office.commits();
    let changes = office.publish(second).await;
    assert_eq!(counts(&changes), [0, 0, 0, 0, 1, 3, 0, 1]);
    let published = office.files_in("master");
    assert_eq!(office.commits(), commits + 1);
    assert_eq!(office.here("tokio").await, None);
    assert_eq!(office.here("serde").await, Some(line("serde", "1.1.0")));
    assert!(office.here("rand").await.unwrap().contains(&line("rand", "1.0.0")));
    // After the commit: the site's state is not there yet.
    office
        .index
        .keep_state(StateKind::Site, SITE, first, "as it was")
        .await
        .unwrap();
    office = office.restarted().await;
    let again = office.publish(second).await;
    assert!(again.is_nothing(), "{again:?}");
    assert_eq!((office.commits(), office.files_in("master")), (commits + 1, published));
    // It lost its own part of what is known: then all of it is compared.
    office.index.forget_state(StateKind::Site, SITE).await.unwrap();
    assert!(office.publish(second).await.is_nothing());
    assert_eq!(office.commits(), commits + 1);
    office.fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_committed_is_not_published() {
    let (outside, office) = (mirror().await, mirror().await);
    outside.set("serde", &line("serde", "1.0.0")).await;
    let next = outside.export().await;
    assert_eq!(office.stage(None, outside.payload(None, next)).await, next);
    let lock = office.git_dir().join("refs/heads/master.lock");
    std::fs::write(&lock, "").unwrap();
    let failed = office.index.publish_state(SITE, next, "Import").await;
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    assert_eq!(office.here("serde").await, None);
    assert_eq!(office.index.state(StateKind::Site, SITE).unwrap(), None);
    // The next try sweeps it away.
    office.publish(next).await;
    assert!(office.here("serde").await.is_some());
    let unknown = "1234567890123456789012345678901234567890".parse().unwrap();
    let failed = office.index.publish_state(SITE, unknown, "Import").await;
    assert!(matches!(failed, Err(Error::MissingObject { .. })), "{failed:?}");
    let failed = office.index.publish_state("../x", next, "Import").await;
    assert!(matches!(failed, Err(Error::StateName { .. })), "{failed:?}");
    office.fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_imports_at_once_come_one_after_the_other() {
    let (outside, office) = (mirror().await, mirror().await);
    let mut states = Vec::new();
    for n in 0..4 {
        let name = format!("krate{n}");
        outside.set(&name, &line(&name, "1.0.0")).await;
        let only = Some(vec![path(&name)]);
        let state = outside.index.state_of_published(only, None).await.unwrap();
        assert_eq!(office.stage(None, outside.payload(None, state)).await, state);
        states.push(state);
    }
    let publish = |(n, state): (usize, TreeId)| {
        let index = office.index.clone();
        tokio::spawn(async move { index.publish_state(&format!("site{n}"), state, "Import").await })
    };
    let imports: Vec<_> = states.into_iter().enumerate().map(publish).collect();
    for import in imports {
        assert_eq!(counts(&import.await.unwrap().unwrap()), [1, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!((office.files_in("master").len(), office.commits()), (4, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_in_the_commit_that_follows_and_in_no_other() {
    let (outside, office) = (mirror().await, mirror().await);
    outside.set("serde", &line("serde", "1.0.0")).await;
    office.set("own", &line("own", "1.0.0")).await;
    office.import(&outside, None).await;
    let subjects = git_ok(&office.git_dir(), &["log", "--format=%s", "--name-only"]);
    let lines: Vec<_> = subjects.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        [
            "Import a bundle",
            "se/rd/serde",
            "Publish own",
            "3/o/own",
            "Set config.json",
            "config.json"
        ]
    );
}
