//! The budget of the cache (issue 4, "Budget"): least recently used first, what stays all the same, and `mirror prune`.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::path::Path;
use std::time::Duration;

use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, Reply, eventually, said, text_of};

/// Longer than anything here takes on a machine that does ten other things.
const SOON: Duration = Duration::from_secs(60);
/// Much more than the kernel takes in for a client that does not read.
const LARGE_BYTES: usize = 12_000_000;

fn builder(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
        .upstream(upstream)
        .env("MIRROR_CACHE__MIN_AGE", "0s")
}

/// Crates of 100 KB and some each.
fn publish(upstream: &FakeUpstream, names: &[&str]) -> Vec<BuiltCrate> {
    let build = |name: &&str| {
        let krate = CrateBuilder::new(name, "1.0.0").padding(100_000).build();
        upstream.add(&krate);
        krate
    };
    names.iter().map(build).collect()
}

fn get(mirror: &MirrorProcess, krate: &BuiltCrate) -> Reply {
    mirror.get(&format!("/api/v1/crates/{}/{}/download", krate.name, krate.version))
}

fn is_kept(mirror: &MirrorProcess, krate: &BuiltCrate) -> bool {
    let name = krate.checksum.to_hex();
    mirror.kept_files().iter().any(|file| file.ends_with(&name))
}

fn wait_until(mirror: &MirrorProcess, what: &str, mut done: impl FnMut() -> bool) {
    let found = eventually(SOON, || done().then_some(()));
    assert!(found.is_some(), "not in time: {what}\n{}", mirror.log());
}

/// The kept bytes as the disk has them.
fn bytes_on_disk(mirror: &MirrorProcess) -> u64 {
    let files = mirror.kept_files();
    files
        .iter()
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

#[test]
fn what_was_not_used_for_longest_goes_first_and_comes_back_when_it_is_wanted() {
    let upstream = FakeUpstream::start();
    let crates = publish(&upstream, &["aa", "bb", "cc", "dd"]);
    let data = tempfile::tempdir().unwrap();
    let mirror = builder(&upstream).data_dir(data.path()).start();
    mirror.keep_all(&crates);
    assert_eq!(mirror.metric("evicted_files"), 0, "without a budget nothing goes");
    // last use is remembered in seconds; `aa` is used again, a second or more after all of them came
    let wanted = unix_now() + 2;
    wait_until(&mirror, "the clock goes on", || unix_now() >= wanted);
    assert_eq!(get(&mirror, &crates[0]).status, 200);
    mirror.terminate();

    let max_bytes = bytes_on_disk(&mirror) - 150_000;
    let mirror = builder(&upstream)
        .data_dir(data.path())
        .arg("--cache-max-size")
        .arg(&max_bytes.to_string())
        .start();
    wait_until(&mirror, "two of them go", || mirror.metric("evicted_files") == 2);
    assert!(bytes_on_disk(&mirror) <= max_bytes);
    assert!(is_kept(&mirror, &crates[0]), "it was used last");
    assert_eq!(mirror.metric("kept_files"), 2);
    assert_eq!(mirror.metric("budget_bytes"), max_bytes);
    assert!(
        mirror.log().contains("made room: 2 files forgotten"),
        "{}",
        mirror.log()
    );

    // what is asked for again is fetched again, and something else goes for it
    let gone = crates.iter().find(|krate| !is_kept(&mirror, krate)).unwrap();
    let reply = get(&mirror, gone);
    assert!(reply.status == 200 && reply.body == gone.bytes);
    let more = publish(&upstream, &["ee", "ff", "gg"]);
    for krate in &more {
        let reply = get(&mirror, krate);
        assert!(reply.status == 200 && reply.body == krate.bytes);
    }
    wait_until(&mirror, "room is made for what came", || {
        mirror.metric("evicted_files") >= 4 && bytes_on_disk(&mirror) <= max_bytes
    });
}

#[test]
fn young_and_pinned_files_and_those_being_read_stay() {
    let upstream = FakeUpstream::start();
    let crates = publish(&upstream, &["aa", "bb"]);
    let large = CrateBuilder::new("large", "1.0.0").padding(LARGE_BYTES).build();
    upstream.add(&large);
    let data = tempfile::tempdir().unwrap();
    let mirror = builder(&upstream).data_dir(data.path()).start();
    mirror.keep_all(&crates);
    mirror.keep(&large);
    let pinned = mirror.run(&["pin", "ours", "--crate", "aa@1.0.0"]);
    assert!(pinned.status.success(), "{}", said(&pinned));
    mirror.terminate();

    // all of them are younger than ten minutes
    let young = builder(&upstream)
        .data_dir(data.path())
        .env("MIRROR_CACHE__MIN_AGE", "10m")
        .env("MIRROR_CACHE__MAX_SIZE", "1")
        .start();
    assert!(
        young.wait_for_log("cache.max_size cannot be kept", SOON),
        "{}",
        young.log()
    );
    assert_eq!((young.kept_files().len(), young.metric("evicted_files")), (3, 0));
    young.terminate();

    // one is pinned, one is being read by a client that takes its time
    let mirror = builder(&upstream).data_dir(data.path()).start();
    let mut reading = mirror.exchange("GET", "/api/v1/crates/large/1.0.0/download", &[], b"");
    assert!(reading.read_at_least(1000).unwrap().len() >= 1000);
    let pruned = mirror.run(&["prune", "--cache-max-size", "1"]);
    let (text, _) = text_of(&pruned);
    assert!(
        pruned.status.code() == Some(1) && text.starts_with("1 file forgotten"),
        "{}\n{}",
        said(&pruned),
        mirror.log()
    );
    assert!(text.contains("pinned, being read"), "{text}");
    assert!(is_kept(&mirror, &crates[0]) && !is_kept(&mirror, &crates[1]) && is_kept(&mirror, &large));
    let (reply, _) = reading.finish().unwrap();
    assert!(reply.complete && reply.body == large.bytes);

    // the client has gone and the pin is taken back
    assert!(mirror.run(&["unpin", "ours"]).status.success());
    wait_until(&mirror, "all of them go", || {
        let pruned = mirror.run(&["prune", "--cache-max-size", "1"]);
        pruned.status.success() && mirror.kept_files().is_empty()
    });
    assert_eq!(mirror.metric("kept_files"), 0);
}

#[test]
fn what_is_unpinned_goes_at_once() {
    let upstream = FakeUpstream::start();
    let crates = publish(&upstream, &["aa"]);
    let mirror = builder(&upstream).env("MIRROR_CACHE__MAX_SIZE", "1").start();
    assert!(mirror.run(&["pin", "ours", "--crate", "aa@1.0.0"]).status.success());
    mirror.keep_all(&crates);
    assert!(
        mirror.wait_for_log("cache.max_size cannot be kept", SOON),
        "{}",
        mirror.log()
    );
    assert!(mirror.run(&["unpin", "ours"]).status.success());
    // a look that nothing wakes comes after half a minute
    let gone = eventually(Duration::from_secs(20), || mirror.kept_files().is_empty().then_some(()));
    assert!(gone.is_some(), "{}", mirror.log());
}

#[test]
fn offline_nothing_goes_but_by_command() {
    let upstream = FakeUpstream::start();
    let crates = publish(&upstream, &["aa", "bb"]);
    let data = tempfile::tempdir().unwrap();
    let mirror = builder(&upstream).data_dir(data.path()).start();
    mirror.keep_all(&crates);
    mirror.terminate();

    let offline = || builder(&upstream).data_dir(data.path()).arg("--offline");
    let mirror = offline().env("MIRROR_CACHE__MAX_SIZE", "150000").start();
    assert!(
        mirror.wait_for_log("nothing goes by itself while upstream may not be asked", SOON),
        "{}",
        mirror.log()
    );
    assert_eq!(mirror.kept_files().len(), 2);
    let pruned = mirror.run(&["prune"]);
    let (text, _) = text_of(&pruned);
    assert!(
        pruned.status.success() && text.starts_with("upstream may not be asked: what goes now cannot be fetched again"),
        "{}",
        said(&pruned)
    );
    assert!(text.contains("\n1 file forgotten"), "{text}");
    mirror.terminate();

    // back online the mirror makes room by itself
    let mirror = offline().env("MIRROR_CACHE__MAX_SIZE", "1").start();
    assert!(
        mirror.wait_for_log("nothing goes by itself while upstream may not be asked", SOON),
        "{}",
        mirror.log()
    );
    assert_eq!(mirror.kept_files().len(), 1);
    assert!(mirror.run(&["mode", "online"]).status.success());
    let gone = eventually(Duration::from_secs(20), || mirror.kept_files().is_empty().then_some(()));
    assert!(gone.is_some(), "{}", mirror.log());
}

#[test]
fn prune_works_without_a_server_and_needs_a_budget() {
    let upstream = FakeUpstream::start();
    let crates = publish(&upstream, &["aa", "bb"]);
    let mirror = builder(&upstream).start();
    mirror.keep_all(&crates);
    let refused = mirror.run(&["prune"]);
    let (_, why) = text_of(&refused);
    assert_eq!(refused.status.code(), Some(1));
    assert!(why.contains("cache.max_size is not set"), "{why}");
    mirror.terminate();

    let half = mirror.run(&["prune", "--cache-max-size", "150000"]);
    let (text, progress) = text_of(&half);
    assert!(progress.contains("making room: 0 files forgotten"), "{progress}");
    assert!(
        half.status.success() && text.starts_with("1 file forgotten, "),
        "{}",
        said(&half)
    );
    assert_eq!(mirror.kept_files().len(), 1);
    let again = mirror.run(&["prune", "--cache-max-size", "150000"]);
    assert!(text_of(&again).0.starts_with("0 files forgotten"), "{}", said(&again));
}

fn unix_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}
