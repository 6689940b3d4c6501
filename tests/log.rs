//! What the log says (issue 2, "one log line per event, with crate, version and cause"), and that no client or upstream writes lines of
//! its own into it. Row W7 of the threats.

use std::path::Path;
use std::time::Duration;

use testkit::{CrateBuilder, FakeUpstream, Fault, MirrorBuilder, MirrorProcess, Times, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// The lines from `since` on that have all of these parts.
fn lines(mirror: &MirrorProcess, since: usize, parts: &[&str]) -> Vec<String> {
    let log = mirror.log();
    let lines = log.lines().skip(since);
    let lines = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.map(str::to_owned).collect()
}

#[test]
fn one_event_is_one_line_with_crate_version_and_cause() {
    let upstream = FakeUpstream::start();
    let krate = CrateBuilder::new("abcd", "1.2.3+x").build();
    upstream.add(&krate);
    upstream.add(&CrateBuilder::new("gone", "0.1.0").build());
    upstream.fault(
        &FakeUpstream::download_path("gone", "0.1.0"),
        Fault::Status(403),
        Times::Always,
    );
    let mirror = mirror().upstream(&upstream).start();
    mirror.keep(&krate);
    let size = format!("{} bytes", krate.bytes.len());
    assert_eq!(
        lines(&mirror, 0, &["INFO", "abcd", "1.2.3+x", &size]).len(),
        1,
        "{}",
        mirror.log()
    );
    assert_eq!(lines(&mirror, 0, &["abcd 1.2.3+x"]).len(), 1, "{}", mirror.log());

    assert_eq!(mirror.get("/api/v1/crates/gone/0.1.0/download").status, 502);
    assert!(mirror.wait_for_log("failed to fetch gone 0.1.0", PATIENCE));
    let failed = lines(&mirror, 0, &["WARN", "failed to fetch gone 0.1.0", "403"]);
    assert_eq!(failed.len(), 1, "{}", mirror.log());
    assert_eq!(lines(&mirror, 0, &["gone 0.1.0"]).len(), 1, "{}", mirror.log());

    let before = mirror.log().lines().count();
    for _ in 0..3 {
        assert_eq!(mirror.get("/api/v1/crates/abcd/1.2.3+x/download").body, krate.bytes);
        assert_eq!(mirror.get("/index/ab/cd/abcd").status, 200);
    }
    assert_eq!(
        lines(&mirror, before, &["abcd"]),
        [] as [String; 0],
        "a hit is no event"
    );

    upstream.go_down();
    let cause = "upstream cannot be asked, what is here is served";
    let told = || {
        assert_eq!(mirror.get("/index/ot/he/other").status, 503);
        mirror.log().contains(cause).then_some(())
    };
    eventually(PATIENCE, told).expect("that it is gone is an event");
    for _ in 0..3 {
        assert_eq!(mirror.get("/index/mo/re/more").status, 503);
    }
    let lost = lines(&mirror, before, &["WARN", cause]);
    assert_eq!(lost.len(), 1, "{}", mirror.log());
}

#[test]
fn every_line_is_the_mirrors_own() {
    let upstream = FakeUpstream::start();
    upstream.add(&CrateBuilder::new("abcd", "1.0.0").build());
    let odd = "HTTP/1.1 500 \u{1b}[31mred\u{1b}[0m\r\nX: \u{1b}]0;title\u{7}\r\nContent-Length: 0\r\n\r\n";
    upstream.fault("/index/ev/il/evil", Fault::Raw(odd.into()), Times::Always);
    upstream.set_index_file(
        "wo/rs/worse",
        b"{\"name\":\"\\u001b[2J\\nINFO forged\",\"vers\":\"1\",\"cksum\":\"x\"}",
    );
    upstream.set_index_file("fo/rg/forged", b"\x1b[2J\n[2026-01-01T00:00:00Z ERROR mirror] forged\n");
    let mirror = mirror().upstream(&upstream).env("RUST_LOG", "debug").start();
    for path in [
        "/index/ab/cd/abcd",
        "/index/ev/il/evil",
        "/index/wo/rs/worse",
        "/index/fo/rg/forged",
        "/%0d%0a[2026-01-01T00:00:00Z%20ERROR%20mirror]%20forged",
        "/%1b[2J%1b[31mred",
        "/crates/%1b[2J",
        "/crates/abcd/%0aforged",
        "/index/%0d%0aforged",
        "/api/v1/crates/%1b[31m/1.0.0/download",
        "/api/v1/crates/abcd/1.0.0%0aforged/download",
        "/api/v1/crates?q=%1b[2J%0aforged",
        "/search?q=%1b[2J%0aforged",
    ] {
        mirror.get(path);
    }
    for header in [
        ("User-Agent", "\u{1b}[2Jagent"),
        ("Referer", "x\u{9b}31m"),
        ("Host", "\u{9b}31m"),
        ("\u{1b}", "x"),
    ] {
        // some of these are refused before anybody looks at the path
        mirror.request("GET", "/index/ab/cd/abcd", &[header], b"");
    }
    mirror.run(&["refresh", "evil"]);
    mirror.run(&["refresh", "worse"]);
    assert!(mirror.terminate().success());
    let log = mirror.log();
    let odd = |c: char| c.is_control() && c != '\n';
    assert!(!log.contains(odd), "{log:?}");
    let after_stanza = log.split("/index/\"\n").nth(1).unwrap();
    for line in after_stanza.lines().filter(|line| !line.is_empty()) {
        assert!(line.starts_with("[20"), "{line}");
        assert!(!line.contains("mirror] forged"), "{line}");
    }
    assert!(
        log.contains("worse") && log.contains("forged: upstream's answer is refused"),
        "{log}"
    );
}
