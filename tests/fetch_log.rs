//! Who fetched what (issue 4, `mirror who`, `cache.fetch_log_days`): by which address a client is known, that the log outlives the process,
//! that it is off by default, and that a damaged one costs no start. And what an idle mirror asks upstream while its timers fire.

use std::path::Path;
use std::time::Duration;

use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, eventually, text_of};

const PATIENCE: Duration = Duration::from_secs(60);
const DOWNLOAD: &str = "/api/v1/crates/abcd/1.0.0/download";

fn mirror(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror"))).upstream(upstream)
}

fn logging(upstream: &FakeUpstream) -> MirrorBuilder {
    mirror(upstream).env("MIRROR_CACHE__FETCH_LOG_DAYS", "30")
}

fn publish(upstream: &FakeUpstream) -> BuiltCrate {
    let krate = CrateBuilder::new("abcd", "1.0.0").build();
    upstream.add(&krate);
    krate
}

fn fetch(mirror: &MirrorProcess, headers: &[(&str, &str)]) {
    assert_eq!(mirror.request("GET", DOWNLOAD, headers, b"").status, 200);
}

/// What `mirror who` prints; it succeeds.
fn who(mirror: &MirrorProcess, what: &str) -> String {
    let told = mirror.run(&["who", what]);
    let (stdout, stderr) = text_of(&told);
    assert!(told.status.success(), "{stderr}");
    stdout
}

#[test]
fn who_fetched_a_version_is_known_at_once_and_after_a_kill() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream);
    let mirror = logging(&upstream).env("MIRROR_TRUSTED_PROXIES", "127.0.0.0/8").start();
    assert!(who(&mirror, "abcd@1.0.0").contains("no client fetched abcd 1.0.0; the log is empty"));
    let by_proxy = [
        ("x-forwarded-for", "198.51.100.1, 203.0.113.9"),
        ("user-agent", "cargo/1.95.0 \u{85}(office)"),
    ];
    fetch(&mirror, &by_proxy);
    fetch(&mirror, &by_proxy);
    fetch(&mirror, &[("user-agent", "curl/8")]);
    for (method, path) in [("HEAD", DOWNLOAD), ("GET", "/api/v1/crates/abcd/9.9.9/download")] {
        mirror.request(method, path, &[("x-forwarded-for", "192.0.2.77")], b"");
    }
    let told = who(&mirror, "abcd@1.0.0");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    let office = lines.iter().find(|line| line.contains("203.0.113.9")).unwrap();
    for part in [
        "1.0.0",
        "2 times since",
        "1 of them from disk",
        "cargo/1.95.0",
        &krate.checksum.to_hex()[..12],
    ] {
        assert!(office.contains(part), "{part}: {told}");
    }
    let direct = lines.iter().find(|line| line.contains("curl/8")).unwrap();
    assert!(direct.contains("127.0.0.1") && direct.contains("once"), "{told}");
    assert!(!told.contains("198.51.100.1") && !told.contains("192.0.2.77"), "{told}");
    assert_eq!(who(&mirror, "ABCD"), told.replace("abcd 1.0.0 was", "ABCD was"));

    mirror.kill9();
    mirror.wait_end(PATIENCE).unwrap();
    assert_eq!(who(&mirror, "abcd@1.0.0"), told, "what was told is on the disk");
    assert!(who(&mirror, "abcd@2.0.0").contains("no client fetched abcd 2.0.0"));
}

#[test]
fn nobody_but_a_trusted_proxy_names_another_client() {
    let upstream = FakeUpstream::start();
    publish(&upstream);
    let mirror = logging(&upstream).start();
    fetch(&mirror, &[("x-forwarded-for", "203.0.113.9")]);
    let told = who(&mirror, "abcd");
    assert!(told.contains("127.0.0.1") && !told.contains("203.0.113.9"), "{told}");
}

#[test]
fn it_is_off_by_default_and_says_how_to_have_it() {
    let upstream = FakeUpstream::start();
    publish(&upstream);
    let mirror = mirror(&upstream).start();
    fetch(&mirror, &[]);
    for running in [true, false] {
        let refused = mirror.run(&["who", "abcd@1.0.0"]);
        let (stdout, stderr) = text_of(&refused);
        assert_eq!((refused.status.code(), stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains("cache.fetch_log_days"), "{stderr}");
        assert!(!mirror.data_dir().join("fetch-log.db").exists());
        if running {
            assert!(mirror.terminate().success());
        }
    }
    assert_eq!(mirror.run(&["who", "not a name"]).status.code(), Some(2));
    let refused = mirror.run(&["who"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_damaged_log_is_put_aside_and_costs_no_start() {
    let upstream = FakeUpstream::start();
    publish(&upstream);
    let mut mirror = logging(&upstream).start();
    fetch(&mirror, &[]);
    assert!(mirror.terminate().success());
    let path = mirror.data_dir().join("fetch-log.db");
    let garbage = vec![0xA5; 20_000];
    std::fs::write(&path, &garbage).unwrap();
    mirror.restart();
    assert!(mirror.wait_for_log("fetch-log.db is damaged", PATIENCE));
    assert_eq!(mirror.get("/readyz").status, 200);
    fetch(&mirror, &[("user-agent", "after")]);
    let told = who(&mirror, "abcd");
    assert!(told.lines().count() == 2 && told.contains("after"), "{told}");
    let aside = std::fs::read_dir(mirror.data_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside
        .filter(|path| path.to_string_lossy().contains("fetch-log.db.corrupt-"))
        .collect();
    assert!(
        aside.iter().any(|path| std::fs::read(path).unwrap() == garbage),
        "{aside:?}"
    );
}

#[test]
fn a_mirror_that_nobody_asks_asks_nobody_while_its_timers_fire() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream);
    let mirror = logging(&upstream).env("MIRROR_INDEX__SPARSE_MAX_AGE", "1s").start();
    mirror.keep(&krate);
    let log = mirror.data_dir().join("fetch-log.db-wal");
    let written = || std::fs::metadata(&log).map_or(0, |found| found.len());
    // what waits is written by the timer that everything shares; index files are long stale by then
    for _ in 0..2 {
        let before = written();
        assert_eq!(mirror.request("GET", DOWNLOAD, &[], b"").status, 200);
        upstream.clear_log();
        eventually(PATIENCE, || (written() != before).then_some(())).expect("the timer fires");
        let asked: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
        assert!(asked.is_empty(), "{asked:?}");
    }
}
