//! Rot (issue 4, "Verify"): a client never gets bad bytes, `mirror verify` and the scrubber find them, and what can be is
//! fetched again.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, Reply, eventually, said, text_of};

/// Longer than anything here takes on a machine that does ten other things.
const SOON: Duration = Duration::from_secs(60);
/// Hashed whenever it is read from disk, and only at its first opening.
const SIZES: [(&str, usize); 2] = [("small", 20_000), ("large", 1_000_000)];

fn builder(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
        .upstream(upstream)
        .env("MIRROR_CACHE__SCRUB_INTERVAL", "0")
}

fn publish(upstream: &FakeUpstream) -> Vec<BuiltCrate> {
    let build = |(name, size): (&str, usize)| {
        let krate = CrateBuilder::new(name, "1.0.0").padding(size).build();
        upstream.add(&krate);
        krate
    };
    SIZES.map(build).into()
}

fn get(mirror: &MirrorProcess, krate: &BuiltCrate) -> Reply {
    mirror.get(&format!("/api/v1/crates/{}/{}/download", krate.name, krate.version))
}

fn blob(data: &Path, krate: &BuiltCrate) -> PathBuf {
    let name = krate.checksum.to_hex();
    data.join("blobs").join(&name[..2]).join(name)
}

fn bad(data: &Path, krate: &BuiltCrate) -> PathBuf {
    data.join("blobs/bad").join(krate.checksum.to_hex())
}

/// Flips one bit in the middle, as a disk does: size and name stay.
fn flip(path: &Path) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
}

fn wait_until(mirror: &MirrorProcess, what: &str, mut done: impl FnMut() -> bool) {
    let found = eventually(SOON, || done().then_some(()));
    assert!(found.is_some(), "not in time: {what}\n{}", mirror.log());
}

/// A data directory in which both crates are kept, of a mirror that has ended.
fn filled(upstream: &FakeUpstream) -> (tempfile::TempDir, Vec<BuiltCrate>) {
    let crates = publish(upstream);
    let data = tempfile::tempdir().unwrap();
    let mirror = builder(upstream).data_dir(data.path()).start();
    mirror.keep_all(&crates);
    mirror.terminate();
    (data, crates)
}

#[test]
fn a_client_gets_right_bytes_and_the_bad_ones_are_set_aside() {
    let upstream = FakeUpstream::start();
    let (data, crates) = filled(&upstream);
    crates.iter().for_each(|krate| flip(&blob(data.path(), krate)));
    let mirror = builder(&upstream).data_dir(data.path()).start();
    for krate in &crates {
        let reply = get(&mirror, krate);
        assert!(reply.status == 200 && reply.body == krate.bytes, "{}", krate.name);
        assert!(bad(data.path(), krate).exists() && blob(data.path(), krate).exists());
    }
    assert_eq!(mirror.metric("bad_files"), 2);
    wait_until(&mirror, "both are recorded again", || mirror.metric("kept_files") == 2);
    upstream.go_down();
    for krate in &crates {
        let reply = get(&mirror, krate);
        assert!(reply.status == 200 && reply.body == krate.bytes, "{}", krate.name);
    }
}

#[test]
fn offline_a_damaged_file_is_a_503_and_never_bad_bytes() {
    let upstream = FakeUpstream::start();
    let (data, crates) = filled(&upstream);
    crates.iter().for_each(|krate| flip(&blob(data.path(), krate)));
    let mut mirror = builder(&upstream).data_dir(data.path()).arg("--offline").start();
    for _ in 0..2 {
        for krate in &crates {
            let reply = get(&mirror, krate);
            assert_eq!(reply.status, 503, "{}", reply.text());
            assert!(reply.header("retry-after").is_some());
            assert!(reply.text().contains("damaged"), "{}", reply.text());
            assert!(bad(data.path(), krate).exists());
        }
        mirror.restart();
    }
    let never_kept = get(&mirror, &CrateBuilder::new("other", "1.0.0").build());
    assert_eq!(never_kept.status, 404);
}

#[test]
fn verify_names_what_is_bad_or_missing_and_repairs_it() {
    let upstream = FakeUpstream::start();
    let (data, crates) = filled(&upstream);
    let (small, large) = (&crates[0], &crates[1]);
    let command = |args: &[&str]| builder(&upstream).data_dir(data.path()).run(args);
    let well = command(&["verify"]);
    assert_eq!(well.status.code(), Some(0), "{}", said(&well));
    assert!(text_of(&well).0.contains("2 files of"), "{}", said(&well));

    flip(&blob(data.path(), small));
    std::fs::remove_file(blob(data.path(), large)).unwrap();
    for _ in 0..2 {
        // without a server nothing is fetched unless it is asked for
        let found = command(&["verify"]);
        let (text, _) = text_of(&found);
        assert_eq!(found.status.code(), Some(1), "{}", said(&found));
        assert!(text.contains("2 are bad or missing, 2 of them not repaired"), "{text}");
        assert!(text.contains("small 1.0.0") && text.contains("large 1.0.0"), "{text}");
        assert!(bad(data.path(), small).exists());
    }
    let offline = command(&["verify", "--repair", "--offline"]);
    assert_eq!(offline.status.code(), Some(1), "{}", said(&offline));
    assert!(
        text_of(&offline)
            .0
            .contains("not repaired: upstream is not to be asked")
    );

    let repaired = command(&["verify", "--repair"]);
    assert_eq!(repaired.status.code(), Some(0), "{}", said(&repaired));
    assert!(
        text_of(&repaired).0.contains("all of them are repaired"),
        "{}",
        said(&repaired)
    );
    for krate in &crates {
        assert!(std::fs::read(blob(data.path(), krate)).unwrap() == krate.bytes);
    }
    assert_eq!(command(&["verify"]).status.code(), Some(0));
}

#[test]
fn verify_by_the_server_finds_rot_beneath_its_memory_and_repairs_it() {
    let upstream = FakeUpstream::start();
    let crates = publish(&upstream);
    let data = tempfile::tempdir().unwrap();
    let mirror = builder(&upstream).data_dir(data.path()).start();
    mirror.keep_all(&crates);
    let well = mirror.run(&["verify"]);
    assert_eq!(well.status.code(), Some(0), "{}", said(&well));
    crates.iter().for_each(|krate| flip(&blob(data.path(), krate)));
    let repaired = mirror.run(&["verify", "--repair"]);
    let (text, _) = text_of(&repaired);
    assert_eq!(repaired.status.code(), Some(0), "{}", said(&repaired));
    assert!(
        text.contains("2 were bad or missing, and all of them are repaired"),
        "{text}"
    );
    for krate in &crates {
        assert!(std::fs::read(blob(data.path(), krate)).unwrap() == krate.bytes);
        let reply = get(&mirror, krate);
        assert!(reply.status == 200 && reply.body == krate.bytes, "{}", krate.name);
    }
    assert_eq!(mirror.metric("bad_files"), 2);
}

#[test]
fn a_file_without_a_record_is_adopted_if_it_is_right() {
    let upstream = FakeUpstream::start();
    let (data, crates) = filled(&upstream);
    let elsewhere = tempfile::tempdir().unwrap();
    for krate in &crates {
        std::fs::copy(blob(data.path(), krate), elsewhere.path().join(&krate.name)).unwrap();
    }
    // a start forgets what is not there; the index lists it still
    crates
        .iter()
        .for_each(|krate| std::fs::remove_file(blob(data.path(), krate)).unwrap());
    let mirror = builder(&upstream).data_dir(data.path()).start();
    wait_until(&mirror, "both are forgotten", || mirror.metric("kept_files") == 0);
    for krate in &crates {
        std::fs::copy(elsewhere.path().join(&krate.name), blob(data.path(), krate)).unwrap();
    }
    flip(&blob(data.path(), &crates[0]));
    let verified = mirror.run(&["verify"]);
    let (text, _) = text_of(&verified);
    assert_eq!(
        verified.status.code(),
        Some(1),
        "the flipped one is bad: {}",
        said(&verified)
    );
    assert!(text.contains("1 without a record were adopted"), "{text}");
    assert_eq!(mirror.metric("kept_files"), 1);
    assert!(bad(data.path(), &crates[0]).exists());
}

#[test]
fn the_scrubber_finds_rot_and_fetches_the_file_again() {
    let upstream = FakeUpstream::start();
    let (data, crates) = filled(&upstream);
    crates.iter().for_each(|krate| flip(&blob(data.path(), krate)));
    let mirror = builder(&upstream)
        .data_dir(data.path())
        .env("MIRROR_CACHE__SCRUB_INTERVAL", "1s")
        .env("MIRROR_CACHE__SCRUB_RATE", "1GiB")
        .start();
    wait_until(&mirror, "both are repaired", || mirror.metric("repaired_files") == 2);
    for krate in &crates {
        assert!(std::fs::read(blob(data.path(), krate)).unwrap() == krate.bytes);
        assert!(bad(data.path(), krate).exists());
    }
    assert!(mirror.metric("scrubbed_files") >= 2);
    wait_until(&mirror, "both are recorded again", || mirror.metric("kept_files") == 2);
    assert!(
        mirror
            .log()
            .contains("small 1.0.0: its file was damaged and is here anew"),
        "{}",
        mirror.log()
    );
}
