//! What the operator says to upstream's changes of mind (`mirror removed`, `mirror keep`, `mirror accept`), over a sparse upstream
//! and over git.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use testkit::{
    BuiltCrate, CrateBuilder, FakeUpstream, GitUpstream, MirrorBuilder, MirrorProcess, eventually, git_ok, said,
    text_of,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn builder() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// A mirror that asks upstream for every request, and takes a removal after a second.
fn asking(upstream: &FakeUpstream) -> MirrorBuilder {
    builder()
        .upstream(upstream)
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
        .env("MIRROR_INDEX__REMOVAL_GRACE", "1s")
}

fn krate(version: &str) -> BuiltCrate {
    CrateBuilder::new("abcd", version).build()
}

fn other_bytes(version: &str) -> BuiltCrate {
    CrateBuilder::new("abcd", version).lib("pub fn other() {}").build()
}

fn download(version: &str) -> String {
    format!("/api/v1/crates/abcd/{version}/download")
}

fn index_text(mirror: &MirrorProcess) -> String {
    mirror.get("/index/ab/cd/abcd").text()
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    text_of(output).0
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    text_of(output).1
}

/// What is committed is what the sparse index says.
fn assert_committed(mirror: &MirrorProcess) {
    let repository = mirror.data_dir().join("index.git");
    let text = index_text(mirror);
    let committed = || {
        let files = git_ok(&repository, &["ls-tree", "-r", "--name-only", "master"]);
        let there = files.lines().any(|file| file == "ab/cd/abcd");
        there.then(|| git_ok(&repository, &["cat-file", "blob", "master:ab/cd/abcd"]))
    };
    let same = eventually(PATIENCE, || (committed()?.trim_end() == text.trim_end()).then_some(()));
    assert!(same.is_some(), "{}", mirror.log());
}

fn wait_until(mirror: &MirrorProcess, what: &str, mut done: impl FnMut() -> bool) {
    assert!(
        eventually(PATIENCE, || done().then_some(())).is_some(),
        "{what}\n{}",
        mirror.log()
    );
}

#[test]
fn a_removed_version_can_be_kept_and_let_go_again() {
    let upstream = FakeUpstream::start();
    let gone = krate("1.0.0");
    upstream.add(&gone);
    upstream.add(&krate("1.1.0"));
    let mut mirror = asking(&upstream).start();
    assert!(ok(&mirror.run(&["removed"])).contains("removed nothing"));
    mirror.keep(&gone);
    upstream.remove_version("abcd", "1.0.0");
    wait_until(&mirror, "it is removed", || !index_text(&mirror).contains("\"1.0.0\""));
    assert_eq!(mirror.get(&download("1.0.0")).status, 404);
    let listed = ok(&mirror.run(&["removed"]));
    assert!(listed.contains("abcd 1.0.0: removed upstream on 20"), "{listed}");
    assert!(listed.contains("mirror keep abcd@1.0.0"), "{listed}");
    let json: serde_json::Value = serde_json::from_str(&ok(&mirror.run(&["removed", "--json"]))).unwrap();
    assert_eq!(json[0]["state"], "removed");
    assert_eq!(json[0]["checksum"], gone.checksum.to_hex());
    let status = mirror.get("/status").text();
    assert!(status.contains("Upstream changed its mind") && status.contains("mirror keep abcd@1.0.0"));

    let kept = ok(&mirror.run(&["keep", "abcd@1.0.0"]));
    assert!(kept.contains("published again"), "{kept}");
    for _ in 0..2 {
        let text = index_text(&mirror);
        assert!(text.contains("\"1.0.0\"") && text.contains("\"1.1.0\""), "{text}");
        assert_eq!(
            mirror.get(&download("1.0.0")).body,
            gone.bytes,
            "upstream has it no more"
        );
        mirror.restart();
    }
    assert_committed(&mirror);
    assert!(ok(&mirror.run(&["removed"])).contains("abcd 1.0.0: kept on 20"));
    assert!(refused(&mirror.run(&["keep", "abcd@1.0.0"])).contains("kept already"));
    assert!(refused(&mirror.run(&["keep", "abcd@1.1.0"])).contains("abcd 1.1.0"));
    assert!(refused(&mirror.run(&["accept", "efgh"])).contains("has not changed its mind"));

    // without a server too
    mirror.terminate();
    let accepted = ok(&mirror.run(&["accept", "abcd@1.0.0"]));
    assert!(accepted.contains("upstream says counts again"), "{accepted}");
    let listed = ok(&mirror.run(&["removed"]));
    assert!(listed.contains("removed upstream"), "upstream was asked: {listed}");
    mirror.restart();
    assert!(!index_text(&mirror).contains("\"1.0.0\""));
    // and what comes back is published by itself
    upstream.add(&gone);
    wait_until(&mirror, "it is back", || index_text(&mirror).contains("\"1.0.0\""));
    assert!(ok(&mirror.run(&["removed"])).contains("removed nothing"));
    assert!(!mirror.get("/status").text().contains("Upstream changed its mind"));
}

#[test]
fn a_changed_checksum_waits_for_the_operator_who_may_take_it() {
    let upstream = FakeUpstream::start();
    let (old, new) = (krate("1.0.0"), other_bytes("1.0.0"));
    upstream.add(&old);
    let mirror = asking(&upstream).start();
    mirror.keep(&old);
    let blob = mirror.kept_files().pop().unwrap();
    upstream.republish(&new);
    assert!(index_text(&mirror).contains(&old.checksum.to_hex()));
    assert_eq!(mirror.get(&download("1.0.0")).body, old.bytes);
    let listed = ok(&mirror.run(&["removed"]));
    assert!(
        listed.contains("changed its checksum") && listed.contains(&new.checksum.to_hex()),
        "{listed}"
    );
    let accepted = ok(&mirror.run(&["accept", "abcd@1.0.0"]));
    assert!(accepted.contains("upstream's line is published"), "{accepted}");
    assert!(
        mirror
            .log()
            .contains("by command, version 1.0.0 is taken as upstream changed it"),
        "{}",
        mirror.log()
    );
    assert_eq!(mirror.get(&download("1.0.0")).body, new.bytes);
    assert!(index_text(&mirror).contains(&new.checksum.to_hex()));
    assert_eq!(std::fs::read(blob).unwrap(), old.bytes, "the old bytes stay aside");
    assert_committed(&mirror);
    assert!(ok(&mirror.run(&["removed"])).contains("removed nothing"), "all agree");
    assert_eq!(mirror.metric("index_held"), 0);
}

#[test]
fn a_changed_checksum_may_be_refused_for_good() {
    let upstream = FakeUpstream::start();
    let (old, new) = (krate("1.0.0"), other_bytes("1.0.0"));
    upstream.add(&old);
    let mut mirror = asking(&upstream).start();
    mirror.keep(&old);
    upstream.republish(&new);
    assert!(index_text(&mirror).contains(&old.checksum.to_hex()));
    ok(&mirror.run(&["keep", "abcd"]));
    assert_eq!(mirror.metric("index_held"), 0, "nothing waits any more");
    mirror.restart();
    assert!(index_text(&mirror).contains(&old.checksum.to_hex()));
    assert_eq!(mirror.get(&download("1.0.0")).body, old.bytes);
    assert!(ok(&mirror.run(&["removed"])).contains("kept on 20"));
}

/// Over git: the same words, published without a round, and in force through the next ones.
#[test]
fn over_git_the_operators_word_counts_at_once_and_in_later_rounds() {
    let (files, git) = (FakeUpstream::start(), GitUpstream::start());
    let dl = format!("{}/dl", files.base_url());
    let (first, second) = (krate("1.0.0"), krate("1.1.0"));
    for krate in [&first, &second] {
        files.add(krate);
    }
    git.commit_index(&dl, &[first.clone(), second.clone()], 30);
    let mirror = builder().upstream_git(&git).own_port().start();
    ok(&mirror.run(&["sync"]));
    mirror.keep_all(&[first.clone(), second.clone()]);

    let changed = other_bytes("1.1.0");
    files.republish(&changed);
    files.remove_version("abcd", "1.0.0");
    git.commit(&[("ab/cd/abcd", Some(&format!("{}\n", changed.index_line)))]);
    ok(&mirror.run(&["sync"]));
    let text = index_text(&mirror);
    assert_eq!(
        text,
        format!("{}\n", second.index_line),
        "one is removed, the other held"
    );
    let listed = ok(&mirror.run(&["removed"]));
    assert!(
        listed.contains("1.0.0: removed") && listed.contains("1.1.0: upstream changed"),
        "{listed}"
    );

    ok(&mirror.run(&["keep", "abcd@1.0.0"]));
    ok(&mirror.run(&["accept", "abcd@1.1.0"]));
    let wanted = format!("{}\n{}\n", changed.index_line, first.index_line);
    assert_eq!(index_text(&mirror), wanted);
    assert_eq!(mirror.get(&download("1.0.0")).body, first.bytes);
    assert_eq!(mirror.get(&download("1.1.0")).body, changed.bytes);
    assert_committed(&mirror);
    for number in [1, 2] {
        git.commit(&[("fi/ll/filler-0001", Some(&GitUpstream::filler(1, number + 1)))]);
        ok(&mirror.run(&["sync"]));
        assert_eq!(index_text(&mirror), wanted);
    }
    let listed = ok(&mirror.run(&["removed"]));
    assert!(listed.contains("1.0.0: kept") && !listed.contains("1.1.0"), "{listed}");
    // the operator lets go: the next round leaves it out
    ok(&mirror.run(&["accept", "abcd"]));
    ok(&mirror.run(&["sync"]));
    assert_eq!(index_text(&mirror), format!("{}\n", changed.index_line));
    // it reappears
    let both = format!("{}\n{}\n", first.index_line, changed.index_line);
    git.commit(&[("ab/cd/abcd", Some(&both))]);
    ok(&mirror.run(&["sync"]));
    assert_eq!(index_text(&mirror), both);
    assert!(ok(&mirror.run(&["removed"])).contains("removed nothing"));
}

/// What upstream has no more cannot be fetched again, so no budget takes it away; and the status page tells of the budget.
#[test]
fn a_budget_does_not_take_what_upstream_no_longer_has() {
    let upstream = FakeUpstream::start();
    let gone = CrateBuilder::new("abcd", "1.0.0").padding(50_000).build();
    upstream.add(&gone);
    upstream.add(&krate("1.1.0"));
    let mirror = asking(&upstream)
        .env("MIRROR_CACHE__MAX_SIZE", "150KB")
        .env("MIRROR_CACHE__MIN_AGE", "0s")
        .start();
    mirror.keep(&gone);
    upstream.remove_version("abcd", "1.0.0");
    wait_until(&mirror, "it is removed", || !index_text(&mirror).contains("\"1.0.0\""));
    for number in 0..6 {
        let more = CrateBuilder::new(&format!("more-{number}"), "1.0.0")
            .padding(40_000)
            .build();
        upstream.add(&more);
        let reply = mirror.get(&format!("/api/v1/crates/{}/1.0.0/download", more.name));
        assert_eq!(reply.body, more.bytes);
    }
    wait_until(&mirror, "the budget is kept", || {
        mirror.metric("evicted_files") >= 3 && mirror.metric("kept_bytes") <= 150_000
    });
    ok(&mirror.run(&["keep", "abcd@1.0.0"]));
    assert_eq!(mirror.get(&download("1.0.0")).body, gone.bytes);
    let status = mirror.get("/status").text();
    for part in ["Care of what is kept", "150000 bytes, ", "mirror accept abcd@1.0.0"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert!(mirror.get("/").text().contains("it may use"));
}
