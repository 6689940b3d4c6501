//! The machine fails under the mirror (issue 2, "The house", "Metadata and search"; threats S2, S6, S7, S10): parts of the data directory
//! that cannot be used, a directory that is moved away under a live server, and anything newer than this program, which is refused
//! untouched.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use testkit::{
    BuiltCrate, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, Reply, ReservedPort, eventually, git, http,
    may_mount, misnamed, said, text_of,
};

const SOON: Duration = Duration::from_secs(60);

fn builder() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

fn publish(upstream: &FakeUpstream, name: &str) -> BuiltCrate {
    let krate = CrateBuilder::new(name, "1.0.0").padding(100_000).build();
    upstream.add(&krate);
    krate
}

fn get(mirror: &MirrorProcess, name: &str) -> Reply {
    mirror.get(&format!("/api/v1/crates/{name}/1.0.0/download"))
}

fn assert_whole(reply: &Reply, krate: &BuiltCrate) {
    assert_eq!((reply.status, reply.complete), (200, true), "{}", reply.text());
    assert!(reply.body == krate.bytes, "{} wrong bytes", reply.body.len());
}

fn wait_until(mirror: &MirrorProcess, what: &str, mut done: impl FnMut() -> bool) {
    let found = eventually(SOON, || done().then_some(()));
    assert!(found.is_some(), "not in time: {what}\n{}", mirror.log());
}

/// Every file below `dir` with its bytes, every other entry without.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, None);
        } else {
            let bytes = path.is_file().then(|| fs::read(&path).unwrap());
            found.insert(path, bytes);
        }
    }
    found
}

fn reasons(mirror: &MirrorProcess) -> (u16, String) {
    let reply = mirror.get("/readyz");
    let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(json["ready"], reply.status == 200);
    (reply.status, json["reasons"].to_string())
}

/// One that knows of everything that a data directory can have in it.
fn logging() -> MirrorBuilder {
    builder()
        .env("MIRROR_CACHE__FETCH_LOG_DAYS", "30")
        .env("MIRROR_CACHE__MAX_SIZE", "1GiB")
}

/// A data directory with one kept file, of a mirror that has ended.
fn used_data_dir(dir: &Path) -> BuiltCrate {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "kept");
    let mirror = logging().data_dir(dir).upstream(&upstream).start();
    assert_whole(&get(&mirror, "kept"), &krate);
    assert!(mirror.terminate().success());
    krate
}

#[test]
fn what_is_newer_than_this_program_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let krate = used_data_dir(&data_dir);
    // the place of `user_version` in a database, by SQLite's file format
    let newer = |bytes: &mut [u8]| bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    let all = [
        "serve --listen 127.0.0.1:0",
        "evict kept",
        "prune",
        "verify --repair",
        "search kept",
        "pins",
        "who kept",
    ];
    for (file, not_looked_at_by) in [
        ("FORMAT", &[][..]),
        ("mirror.db", &["pins", "who kept"]),
        ("decisions.db", &["search kept", "who kept"]),
        ("fetch-log.db", &["evict kept", "search kept", "pins"]),
    ] {
        let path = data_dir.join(file);
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        if file == "FORMAT" {
            bytes = b"2\n".to_vec();
        } else {
            newer(&mut bytes);
        }
        fs::write(&path, &bytes).unwrap();
        let before = contents(&data_dir);
        for command in all.iter().filter(|command| !not_looked_at_by.contains(command)) {
            let words: Vec<&str> = command.split(' ').collect();
            let output = logging().data_dir(&data_dir).run(&words);
            let (stdout, stderr) = text_of(&output);
            assert!(
                matches!(output.status.code(), Some(1 | 2)),
                "{file} {command:?}: {}",
                said(&output)
            );
            assert!(stderr.contains("knows"), "{file} {command:?}: {stderr}");
            assert!(!stdout.contains("listening"), "{file} {command:?}");
            let after = contents(&data_dir);
            let changed: Vec<_> = before
                .keys()
                .chain(after.keys())
                .filter(|path| before.get(*path) != after.get(*path))
                .collect();
            assert!(changed.is_empty(), "{file} {command:?} changed {changed:?}");
        }
        fs::write(&path, &good).unwrap();
    }
    let mirror = builder().data_dir(&data_dir).start();
    assert_whole(&get(&mirror, "kept"), &krate);
}

#[test]
fn a_directory_that_is_moved_away_is_noticed_and_nothing_is_written_in_its_place() {
    let upstream = FakeUpstream::start();
    let (kept, cold) = (publish(&upstream, "kept"), publish(&upstream, "cold"));
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, elsewhere) = (dir.path().join("data"), dir.path().join("elsewhere"));
    let mirror = builder().data_dir(&data_dir).upstream(&upstream).start();
    assert_whole(&get(&mirror, "kept"), &kept);
    assert_eq!(reasons(&mirror), (200, "[]".to_owned()));

    fs::rename(&data_dir, &elsewhere).unwrap();
    for place in ["nothing in its place", "an empty directory in its place"] {
        let (status, why) = reasons(&mirror);
        assert_eq!(status, 503, "{place}");
        assert!(why.contains("moved or replaced"), "{place}: {why}");
        assert_eq!(mirror.get("/healthz").status, 200, "{place}");
        for krate in [&kept, &cold] {
            let reply = get(&mirror, &krate.name);
            let right = reply.status == 200 && reply.complete && reply.body == krate.bytes;
            assert!(
                right || reply.status >= 500,
                "{place}: {} {}",
                reply.status,
                reply.text()
            );
            assert!(
                !reply.text().contains("elsewhere") && !reply.text().contains("tmp/"),
                "{}",
                reply.text()
            );
        }
        if data_dir.exists() {
            assert!(contents(&data_dir).is_empty(), "{:?}", contents(&data_dir).keys());
        } else {
            fs::create_dir(&data_dir).unwrap();
        }
    }
    fs::remove_dir(&data_dir).unwrap();
    fs::rename(&elsewhere, &data_dir).unwrap();
    // what could not be committed meanwhile may be tried again only after a pause
    wait_until(&mirror, "it is ready", || reasons(&mirror) == (200, "[]".to_owned()));
    assert_whole(&get(&mirror, "kept"), &kept);
    wait_until(&mirror, "what was not to be had is there", || {
        get(&mirror, "cold").body == cold.bytes
    });
    assert!(mirror.terminate().success());
    let fsck = git(&data_dir.join("index.git"), &["fsck", "--strict"]);
    assert!(fsck.status.success(), "{}", said(&fsck));
}

/// Puts a file in the place of a directory, and back.
struct Blocked(PathBuf);

impl Blocked {
    fn new(path: PathBuf) -> Self {
        fs::rename(&path, path.with_extension("aside")).unwrap();
        fs::write(&path, "in the way").unwrap();
        Self(path)
    }

    fn free(self) {
        fs::remove_file(&self.0).unwrap();
        fs::rename(self.0.with_extension("aside"), &self.0).unwrap();
    }
}

#[test]
fn a_kept_file_that_became_shorter_is_set_aside_at_the_start() {
    let upstream = FakeUpstream::start();
    let kept = publish(&upstream, "kept");
    let mut mirror = builder().upstream(&upstream).start();
    mirror.keep(&kept);
    assert!(mirror.terminate().success());
    let blob = mirror.kept_files().pop().unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&blob)
        .unwrap()
        .set_len(100)
        .unwrap();
    mirror.restart();
    wait_until(&mirror, "it is set aside", || !blob.exists());
    assert_whole(&get(&mirror, "kept"), &kept);
}

#[test]
fn blobs_that_cannot_be_used_break_nothing_else_and_heal() {
    let upstream = FakeUpstream::start();
    let (kept, cold) = (publish(&upstream, "kept"), publish(&upstream, "cold"));
    let mirror = builder().upstream(&upstream).start();
    assert_whole(&get(&mirror, "kept"), &kept);
    for place in ["blobs", "tmp"] {
        let blocked = Blocked::new(mirror.data_dir().join(place));
        for krate in [&kept, &cold] {
            let reply = get(&mirror, &krate.name);
            let right = reply.status == 200 && reply.complete && reply.body == krate.bytes;
            assert!(
                right || reply.status >= 500 || !reply.complete,
                "{place}: {} {}",
                reply.status,
                reply.text()
            );
            assert!(!reply.text().contains("in the way"), "{place}");
            if reply.status >= 500 {
                let path = mirror.data_dir().to_str().unwrap().to_owned();
                assert!(!reply.text().contains(&path), "{place}: {}", reply.text());
            }
        }
        assert_eq!(mirror.get("/index/ke/pt/kept").status, 200, "{place}");
        assert_eq!(mirror.get("/").status, 200, "{place}");
        assert!(mirror.is_running(), "{place}");
        blocked.free();
        wait_until(&mirror, "it heals", || get(&mirror, "kept").body == kept.bytes);
    }
    wait_until(&mirror, "the cold one comes", || {
        get(&mirror, "cold").body == cold.bytes
    });
    wait_until(&mirror, "and is kept", || mirror.kept_files().len() == 2);
}

#[test]
fn a_kept_file_that_is_none_is_fetched_again() {
    let upstream = FakeUpstream::start();
    let kept = publish(&upstream, "kept");
    // what memory has is served whatever became of the file
    let mirror = builder().upstream(&upstream).env("MIRROR_CACHE__MEMORY", "0").start();
    assert_whole(&get(&mirror, "kept"), &kept);
    let file = mirror.kept_files().pop().unwrap();
    let elsewhere = mirror.data_dir().join("elsewhere");
    for what in ["deleted", "empty", "a directory", "a link"] {
        fs::remove_file(&file).unwrap();
        match what {
            "empty" => fs::write(&file, "").unwrap(),
            "a directory" => fs::create_dir(&file).unwrap(),
            "a link" => {
                fs::write(&elsewhere, "other bytes").unwrap();
                std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
            }
            _ => {}
        }
        assert_whole(&get(&mirror, "kept"), &kept);
        wait_until(&mirror, what, || {
            fs::symlink_metadata(&file).is_ok_and(|found| found.is_file() && found.len() > 0)
        });
        assert_eq!(fs::read(&file).unwrap(), kept.bytes, "{what}");
    }
    assert_eq!(upstream.count(&FakeUpstream::download_path("kept", "1.0.0")), 5);
}

#[test]
fn an_index_that_cannot_be_written_costs_no_download_and_heals() {
    let upstream = FakeUpstream::start();
    let (kept, cold) = (publish(&upstream, "kept"), publish(&upstream, "cold"));
    let mirror = builder().upstream(&upstream).start();
    assert_whole(&get(&mirror, "kept"), &kept);
    wait_until(&mirror, "the first batch", || mirror.metric("index_files") == 1);
    let blocked = Blocked::new(mirror.data_dir().join("index.git/objects"));
    assert_whole(&get(&mirror, "kept"), &kept);
    assert_whole(&get(&mirror, "cold"), &cold);
    assert_eq!(mirror.get("/index/co/ld/cold").text(), format!("{}\n", cold.index_line));
    wait_until(&mirror, "the log says what is wrong", || {
        mirror.log().contains("index.git")
    });
    blocked.free();
    wait_until(&mirror, "the batch is committed", || mirror.metric("index_files") == 2);
    assert!(mirror.terminate().success());
    let fsck = git(&mirror.data_dir().join("index.git"), &["fsck", "--strict"]);
    assert!(fsck.status.success(), "{}", said(&fsck));
}

#[test]
fn an_index_that_is_deleted_under_the_mirror_is_noticed_and_begun_anew_only_by_a_restart() {
    let upstream = FakeUpstream::start();
    let (kept, cold) = (publish(&upstream, "kept"), publish(&upstream, "cold"));
    let mut mirror = builder().upstream(&upstream).start();
    assert_whole(&get(&mirror, "kept"), &kept);
    wait_until(&mirror, "the first batch", || mirror.metric("index_files") == 1);
    assert_eq!(reasons(&mirror), (200, "[]".to_owned()));
    let index = mirror.data_dir().join("index.git");

    let other = index.join("refs/heads/master");
    let branch = fs::read(&other).unwrap();
    fs::write(&other, format!("{}\n", "12".repeat(20))).unwrap();
    let (status, why) = reasons(&mirror);
    assert!(status == 503 && why.contains("index.git"), "replaced: {status} {why}");
    fs::write(&other, branch).unwrap();
    assert_eq!(reasons(&mirror), (200, "[]".to_owned()));

    fs::remove_dir_all(&index).unwrap();
    let (status, why) = reasons(&mirror);
    assert!(status == 503 && why.contains("index.git"), "deleted: {status} {why}");
    assert_whole(&get(&mirror, "cold"), &cold);
    wait_until(&mirror, "a commit fails", || mirror.log().contains("failed to commit"));
    assert!(!index.exists(), "{:?}", contents(&index).keys());
    assert_eq!(mirror.get("/healthz").status, 200);
    mirror.restart();
    assert_eq!(reasons(&mirror), (200, "[]".to_owned()));
    assert_whole(&get(&mirror, "cold"), &cold);
}

#[test]
fn commits_that_fail_for_long_make_the_mirror_not_ready_until_they_succeed() {
    let upstream = FakeUpstream::start();
    let (kept, cold) = (publish(&upstream, "kept"), publish(&upstream, "cold"));
    let mirror = builder().upstream(&upstream).start();
    assert_whole(&get(&mirror, "kept"), &kept);
    wait_until(&mirror, "the first batch", || mirror.metric("index_files") == 1);
    let blocked = Blocked::new(mirror.data_dir().join("index.git/objects/pack"));
    assert_whole(&get(&mirror, "cold"), &cold);
    wait_until(&mirror, "a commit fails", || mirror.log().contains("failed to commit"));
    assert_eq!(reasons(&mirror), (200, "[]".to_owned()), "one failure is none");
    wait_until(&mirror, "it is not ready", || {
        let (status, why) = reasons(&mirror);
        status == 503 && why.contains("cannot be committed")
    });
    blocked.free();
    wait_until(&mirror, "it is ready again", || {
        reasons(&mirror) == (200, "[]".to_owned())
    });
    assert_eq!(mirror.metric("index_files"), 2);
}

/// A disk of 64 MiB, which is full but for so much while this is there.
struct Ballast(PathBuf);

impl Ballast {
    fn on(mirror: &MirrorProcess, free_bytes: u64) -> Self {
        let path = mirror.data_dir().join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        let piece = [1; 64 << 10];
        let mut size_bytes = 0;
        while let Ok(written) = file.write(&piece) {
            size_bytes += written as u64;
        }
        file.set_len(size_bytes.checked_sub(free_bytes).unwrap()).unwrap();
        Self(path)
    }

    fn lift(self) {
        fs::remove_file(self.0).unwrap();
    }
}

const DISK_BYTES: u64 = 64 << 20;

fn is_kept(mirror: &MirrorProcess, krate: &BuiltCrate) -> bool {
    let name = krate.checksum.to_hex();
    mirror.kept_files().iter().any(|file| file.ends_with(&name))
}

/// Whatever becomes of the one who holds this: it is over then.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Asks for kept files and their index files for as long as `what` lasts, and for each at least once: all answers are right.
fn hits_go_on(mirror: &MirrorProcess, kept: &[BuiltCrate], what: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let hits = scope.spawn(|| {
            for (hits, krate) in kept.iter().cycle().enumerate() {
                if over.load(Relaxed) && hits >= kept.len() {
                    break;
                }
                assert_whole(&get(mirror, &krate.name), krate);
                let line = mirror.get(&format!("/index/{}", krate.index_path()));
                assert_eq!(line.text(), format!("{}\n", krate.index_line));
            }
        });
        let until_then = Over(&over);
        what();
        drop(until_then);
        hits.join().unwrap();
    });
}

#[test]
fn a_disk_that_is_full_costs_no_hit_and_heals() {
    if !may_mount() {
        eprintln!("skipped: no disk can be mounted here");
        return;
    }
    let upstream = FakeUpstream::start();
    let kept: Vec<_> = (0..20)
        .map(|number| publish(&upstream, &format!("kept{number}")))
        .collect();
    let [begun, cold, large] = [("begun", 6), ("cold", 6), ("large", 9)].map(|(name, size_mib)| {
        let krate = CrateBuilder::new(name, "1.0.0").padding(size_mib << 20).build();
        upstream.add(&krate);
        krate
    });
    let mirror = builder()
        .upstream(&upstream)
        .disk_bytes(DISK_BYTES)
        .env("MIRROR_CACHE__MIN_FREE", "0")
        .start();
    mirror.keep_all(&kept);
    let gate = upstream.hold_after(&FakeUpstream::download_path("begun", "1.0.0"), 2 << 20);
    let client = mirror.exchange("GET", "/api/v1/crates/begun/1.0.0/download", &[], b"");
    assert!(gate.wait_reached(1, SOON));
    let ballast = Ballast::on(&mirror, 0);
    hits_go_on(&mirror, &kept, || {
        gate.open();
        // files of 6 MiB are passed on through memory, also one that had begun on disk
        let (reply, _) = client.finish().unwrap();
        assert_whole(&reply, &begun);
        assert_whole(&get(&mirror, "cold"), &cold);
        let refused = get(&mirror, "large");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.text().contains("space"), "{}", refused.text());
        assert!([&begun, &cold, &large].iter().all(|krate| !is_kept(&mirror, krate)));
    });
    assert!(misnamed(&mirror.kept_files()).is_none_or(|wrong| wrong.is_empty()));
    ballast.lift();
    // the promise is 10 s; machines that run tests do other things too
    let healed = eventually(Duration::from_secs(30), || {
        let had = [&begun, &cold, &large].map(|krate| get(&mirror, &krate.name).body == krate.bytes);
        (had == [true; 3]).then_some(())
    });
    assert!(healed.is_some(), "{}", mirror.log());
    assert!([&begun, &cold, &large].iter().all(|krate| is_kept(&mirror, krate)));
    wait_until(&mirror, "they are recorded", || mirror.metric("kept_files") == 23);
    assert!(!mirror.log().contains("panicked"), "{}", mirror.log());
}

#[test]
fn what_is_left_of_a_disk_is_left_to_others() {
    if !may_mount() {
        eprintln!("skipped: no disk can be mounted here");
        return;
    }
    let upstream = FakeUpstream::start();
    let kept: Vec<_> = (0..5)
        .map(|number| publish(&upstream, &format!("kept{number}")))
        .collect();
    let cold = publish(&upstream, "cold");
    let mirror = builder()
        .upstream(&upstream)
        .disk_bytes(DISK_BYTES)
        .env("MIRROR_CACHE__MIN_FREE", "16MiB")
        .start();
    mirror.keep_all(&kept);
    let ballast = Ballast::on(&mirror, 8 << 20);
    hits_go_on(&mirror, &kept, || {
        assert_whole(&get(&mirror, "cold"), &cold);
        assert!(!is_kept(&mirror, &cold));
    });
    ballast.lift();
    let healed = eventually(Duration::from_secs(30), || {
        assert_whole(&get(&mirror, "cold"), &cold);
        is_kept(&mirror, &cold).then_some(())
    });
    assert!(healed.is_some(), "{}", mirror.log());
}

#[test]
fn a_log_that_nobody_reads_any_more_is_no_reason_to_fail() {
    let upstream = FakeUpstream::start();
    let (port, home) = (ReservedPort::new(), tempfile::tempdir().unwrap());
    let mut mirror = Command::new(env!("CARGO_BIN_EXE_mirror"))
        .arg("serve")
        .env_clear()
        .current_dir(home.path())
        .env("MIRROR_LOG", "debug")
        .env("MIRROR_LISTEN", port.authority())
        .env("MIRROR_UPSTREAM__SPARSE", upstream.sparse_url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // the reading ends go before a word was written
    drop((mirror.stdout.take(), mirror.stderr.take()));
    let get = |path: &str| http::get(&port.authority(), path);
    let listens = eventually(SOON, || get("/healthz").ok().map(|reply| reply.status));
    let krates = [publish(&upstream, "one"), publish(&upstream, "two")];
    let served = krates.each_ref().map(|krate| {
        let reply = get(&format!("/api/v1/crates/{}/1.0.0/download", krate.name));
        reply.is_ok_and(|reply| reply.body == krate.bytes)
    });
    let refused = get("/api/v1/crates/none/1.0.0/download").map(|reply| reply.status);
    let running = mirror.try_wait().unwrap();
    mirror.kill().unwrap();
    mirror.wait().unwrap();
    assert_eq!((listens, served), (Some(200), [true, true]));
    assert_eq!((refused.ok(), running), (Some(404), None));
}
