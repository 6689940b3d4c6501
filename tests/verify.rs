//! Rot (issue 4, "Verify"): a client never gets bad bytes, `mirror verify` and the scrubber find them, and what can be is
//! fetched again.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;
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

/// An offline mirror that has found both crates damaged, as a client asked for them.
fn offline_with_rot(upstream: &FakeUpstream, data: &Path, crates: &[BuiltCrate]) -> MirrorProcess {
    crates.iter().for_each(|krate| flip(&blob(data, krate)));
    let mirror = builder(upstream).data_dir(data).arg("--offline").start();
    for krate in crates {
        assert_eq!(get(&mirror, krate).status, 503);
    }
    wait_until(&mirror, "what is not there is not counted", || {
        mirror.metric("kept_bytes") == 0
    });
    mirror
}

fn names_both(found: &Output) {
    let (text, _) = text_of(found);
    assert_eq!(found.status.code(), Some(1), "{}", said(found));
    assert!(text.contains("2 are bad or missing, 2 of them not repaired"), "{text}");
    assert!(text.contains("small 1.0.0") && text.contains("large 1.0.0"), "{text}");
    assert_eq!(text.matches("set aside earlier").count(), 2, "{text}");
}

#[test]
fn rot_that_an_offline_server_found_stays_known_and_heals_when_it_goes_online() {
    let upstream = FakeUpstream::start();
    let (data, crates) = filled(&upstream);
    let mut mirror = offline_with_rot(&upstream, data.path(), &crates);
    names_both(&mirror.run(&["verify"]));
    mirror.restart();
    wait_until(&mirror, "the start has looked through the files", || {
        mirror.log().contains("no other copy is here: 2")
    });
    assert_eq!((mirror.metric("kept_bytes"), mirror.metric("kept_files")), (0, 0));
    assert_eq!(mirror.metric("kept_crates"), 0);
    names_both(&mirror.run(&["verify"]));

    assert!(mirror.run(&["mode", "online"]).status.success());
    wait_until(&mirror, "both are fetched again", || {
        mirror.metric("repaired_files") == 2
    });
    let bytes: usize = crates.iter().map(|krate| krate.bytes.len()).sum();
    wait_until(&mirror, "both count again", || {
        mirror.metric("kept_bytes") == bytes as u64
    });
    let well = mirror.run(&["verify"]);
    assert_eq!(well.status.code(), Some(0), "{}", said(&well));
    for krate in &crates {
        assert!(std::fs::read(blob(data.path(), krate)).unwrap() == krate.bytes);
    }
}

#[test]
fn rot_that_an_offline_server_found_is_repaired_by_command_or_by_the_next_start() {
    let upstream = FakeUpstream::start();
    let (data, crates) = filled(&upstream);
    let mirror = offline_with_rot(&upstream, data.path(), &crates);
    mirror.terminate();
    let command = |args: &[&str]| builder(&upstream).data_dir(data.path()).run(args);
    names_both(&command(&["verify"]));
    let repaired = command(&["verify", "--repair"]);
    assert_eq!(repaired.status.code(), Some(0), "{}", said(&repaired));
    for krate in &crates {
        assert!(std::fs::read(blob(data.path(), krate)).unwrap() == krate.bytes);
    }

    offline_with_rot(&upstream, data.path(), &crates).terminate();
    let mirror = builder(&upstream).data_dir(data.path()).start();
    wait_until(&mirror, "both are fetched again", || {
        mirror.metric("repaired_files") == 2
    });
    // evicted is not lost
    let evicted = mirror.run(&["evict", "small"]);
    assert!(evicted.status.success(), "{}", said(&evicted));
    let well = mirror.run(&["verify"]);
    assert_eq!(well.status.code(), Some(0), "{}", said(&well));
    mirror.terminate();

    // found by a command, which leaves the row as it was
    flip(&blob(data.path(), &crates[1]));
    assert_eq!(command(&["verify"]).status.code(), Some(1));
    let mirror = builder(&upstream).data_dir(data.path()).arg("--offline").start();
    wait_until(&mirror, "the start has looked through the files", || {
        mirror.log().contains("no other copy is here: 1")
    });
    assert_eq!(mirror.metric("kept_bytes"), 0);
    let found = mirror.run(&["verify"]);
    assert!(
        text_of(&found).0.contains("1 is bad or missing, and not repaired"),
        "{}",
        said(&found)
    );
    assert!(mirror.run(&["evict", "large"]).status.success());
    let well = mirror.run(&["verify"]);
    assert_eq!(well.status.code(), Some(0), "{}", said(&well));
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
    assert!(text.contains("1 without a record was adopted"), "{text}");
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

#[test]
fn the_scrubber_notices_what_is_gone_and_fetches_it_again() {
    let upstream = FakeUpstream::start();
    let crates = publish(&upstream);
    let data = tempfile::tempdir().unwrap();
    let mirror = builder(&upstream)
        .data_dir(data.path())
        .env("MIRROR_CACHE__SCRUB_INTERVAL", "1s")
        .env("MIRROR_CACHE__SCRUB_RATE", "1GiB")
        .start();
    mirror.keep_all(&crates);
    let (small, large) = (blob(data.path(), &crates[0]), blob(data.path(), &crates[1]));
    std::fs::remove_file(&small).unwrap();
    // not in one step: the file may be back in between
    wait_until(&mirror, "a folder is in the place of the file", || {
        let _ = std::fs::remove_file(&large);
        std::fs::create_dir(&large).is_ok()
    });
    wait_until(&mirror, "both are back", || {
        let is_back = |krate| std::fs::read(blob(data.path(), krate)).is_ok_and(|bytes| bytes == krate.bytes);
        crates.iter().all(is_back)
    });
    assert!(mirror.metric("missing_files") >= 2);
    wait_until(&mirror, "both are repaired", || mirror.metric("repaired_files") >= 2);

    assert!(mirror.run(&["mode", "offline"]).status.success());
    let before = mirror.metric("missing_files");
    std::fs::remove_file(&small).unwrap();
    wait_until(&mirror, "it is missed", || mirror.metric("missing_files") == before + 1);
    wait_until(&mirror, "and not counted", || {
        mirror.metric("kept_bytes") == crates[1].bytes.len() as u64
    });
    assert!(
        mirror
            .log()
            .contains("small 1.0.0: it is recorded, but its file is not there"),
        "{}",
        mirror.log()
    );
    assert!(mirror.run(&["mode", "online"]).status.success());
    wait_until(&mirror, "it is back", || small.exists());
}
