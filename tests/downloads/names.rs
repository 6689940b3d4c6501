use std::process::{Child, Command, Stdio};

use testkit::{FakeUpstream, MirrorProcess, eventually};

use super::{SOON, crate_requests, download, publish, start};

/// In the place of a crate's name or its version; every one is none.
fn tricks() -> Vec<String> {
    let long = "a".repeat(65);
    let very_long = "b".repeat(10_000);
    let listed = [
        "..",
        ".",
        "%2e%2e",
        "%2E",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%252e%252e%252f",
        "%2F%2F%2F..%2F..%2F..%2Fetc%2Fpasswd",
        "..%5c..%5cetc%5cpasswd",
        "\\..\\..\\etc\\passwd",
        "%5c",
        "C:",
        "C%3A%5Cetc",
        "%00",
        "serde%00",
        "serde%00.crate",
        "%0d%0aSet-Cookie:%20a=b",
        "serde%0a",
        "%ff",
        "%c0%ae%c0%ae",
        "%ff%fe",
        "ser%20de",
        "serde%2f",
        "%2fserde",
        "serde%2f..",
        "~",
        "$HOME",
        "`id`",
        "serde;id",
        "%",
        "%zz",
        "%2",
        "1serde",
        "-serde",
        "_serde",
        "s%C3%A9rde",
        "%D1%95erde",
        "%E2%80%AEedres",
        "%F0%9F%A6%80",
        "serde%E2%80%8B",
        "serde%3f",
        "%3f",
        "%23",
        "serde.git",
    ];
    let mut tricks: Vec<String> = listed.iter().map(|&trick| trick.to_owned()).collect();
    tricks.extend([long, very_long]);
    tricks
}

fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    for trick in tricks() {
        paths.push(download(&trick, "1.0.0"));
        paths.push(download("serde", &trick));
        paths.push(format!("/api/v1/mirror/{trick}/1.0.0/download"));
        paths.push(format!("/index/se/rd/{trick}"));
        paths.push(format!("/index/{trick}"));
        paths.push(format!("/crates/{trick}"));
        paths.push(format!("/crates/serde/{trick}"));
        paths.push(format!("/{trick}"));
    }
    for path in [
        "/api/v1/crates/../../../../etc/passwd",
        "/api/v1/crates/../x/download",
        "/api/v1/crates//1.0.0/download",
        "/api/v1/crates/serde//download",
        "//api/v1/crates/serde/1.0.0/download",
        "/api/v1/crates/serde/1.0.0/download/",
        "/index/../../etc/passwd",
        "/index/..%2f..%2fblobs",
        "/index//etc/passwd",
        "/index/%2fetc%2fpasswd",
        "/../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/blobs/",
        "/mirror.db",
        "/decisions.db",
        "/index.git/config",
        "/index/index.git/config",
        "/assets/../mirror.db",
        "/assets/..%2f..%2fetc%2fpasswd",
    ] {
        paths.push(path.to_owned());
    }
    paths
}

/// `strace` on all threads of the mirror; `None` where it may not.
struct Strace {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Strace {
    fn attach(mirror: &MirrorProcess) -> Option<Self> {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-q", "-e", "trace=%file", "-s", "4096", "-o"])
            .arg(log.path());
        strace.args(["-p", &mirror.id().to_string()]);
        let child = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut this = Self { child, log };
        // A request that makes the mirror look at a path shows that it is watched.
        let watched = eventually(SOON, || {
            if this.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            mirror.get("/readyz");
            std::fs::read_to_string(this.log.path())
                .unwrap()
                .contains("LOCK")
                .then_some(true)
        });
        (watched == Some(true)).then_some(this)
    }

    fn end(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

#[test]
fn no_trick_with_a_path_reaches_the_disk_or_upstream() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "serde", "1.0.0", 100);
    let mirror = start(&upstream);
    let strace = Strace::attach(&mirror);
    if strace.is_none() {
        eprintln!("skipped: there is no strace that may watch the mirror's file accesses");
    }
    for path in paths() {
        let Ok(reply) = mirror.try_request("GET", &path, &[], b"") else {
            panic!("no answer to {path:.200}\n{}", mirror.log());
        };
        let shown = format!("{path:.120}: {} {:.300}", reply.status, reply.text());
        assert!(matches!(reply.status, 400 | 404), "{shown}");
        assert!(
            !reply.text().contains("root:") && reply.header("set-cookie").is_none(),
            "{shown}"
        );
        assert!(reply.body.len() < 16 << 10, "{shown}");
        if path.starts_with("/api/") {
            assert!(reply.body.len() < 300, "{shown}");
        }
        assert!(mirror.is_running(), "{shown}");
    }
    if let Some(strace) = strace {
        let data_dir = mirror.data_dir().to_str().unwrap().to_owned();
        for line in strace.end().lines() {
            let opened = line.split('"').nth(1).unwrap_or_default();
            // the C library looks at the machine's processors there
            let own = ["/sys/", "/proc/", data_dir.as_str()];
            let above = data_dir.starts_with(opened) && !line.contains("open");
            let outside = opened.starts_with('/') && !own.iter().any(|own| opened.starts_with(own)) && !above;
            assert!(!outside && !opened.contains(".."), "{line}");
        }
    }
    assert_eq!(crate_requests(&upstream), 0);
    for asked in upstream.requests() {
        let name = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        assert!(plain && name.len() <= 64 && !name.starts_with('.'), "{}", asked.path);
    }
    assert!(mirror.kept_files().is_empty());
}

#[test]
fn upstream_is_asked_about_the_longest_name_and_not_about_a_longer_one() {
    let upstream = FakeUpstream::start();
    let mirror = start(&upstream);
    let longest = "a".repeat(64);
    assert_eq!(mirror.get(&download(&longest, "1.0.0")).status, 404);
    assert_eq!(upstream.count(&FakeUpstream::index_path(&longest)), 1);
    upstream.clear_log();
    assert_eq!(mirror.get(&download(&"a".repeat(65), "1.0.0")).status, 404);
    let long_version = format!("1.0.0-{}", "a".repeat(145));
    assert_eq!(mirror.get(&download("serde", &long_version)).status, 404);
    assert!(upstream.requests().is_empty());
}

#[test]
fn requests_for_what_is_not_there_cost_no_disk() {
    let upstream = FakeUpstream::start();
    let mirror = start(&upstream);
    for number in 0..300 {
        assert_eq!(mirror.get(&download(&format!("no-such-{number}"), "1.0.0")).status, 404);
        assert_eq!(mirror.get(&download("serde", &format!("{number}.0.0"))).status, 404);
    }
    assert_eq!(crate_requests(&upstream), 0);
    assert_eq!(
        upstream.count(&FakeUpstream::index_path("serde")),
        1,
        "it is remembered as absent"
    );
    assert!(mirror.kept_files().is_empty());
    assert_eq!(mirror.metric("index_files"), 0);
}
