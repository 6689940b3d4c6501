//! What the mirror makes of an upstream that is in trouble, wrong or changes its mind (issue 2, "The index"; `design.md`, "Where the
//! index comes from"): what is kept is served whatever upstream does, nothing wrong is taken, removals wait, changed checksums are held.
//! Rows I1 to I6 of the threats, as far as they show outside.

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::{
    BuiltCrate, CrateBuilder, FakeUpstream, Fault, MirrorBuilder, MirrorProcess, Times, Validators, eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// A mirror that asks upstream for every request.
fn asking(upstream: &FakeUpstream) -> MirrorBuilder {
    mirror().upstream(upstream).env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
}

fn publish(upstream: &FakeUpstream, name: &str, version: &str) -> BuiltCrate {
    let krate = CrateBuilder::new(name, version).build();
    upstream.add(&krate);
    krate
}

/// Everything that an upstream may do instead of giving an index file.
fn troubles() -> Vec<Fault> {
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    vec![
        Fault::Status(500),
        Fault::Status(403),
        Fault::StatusWithRetryAfter(429, Duration::from_secs(1)),
        Fault::StatusWithRetryAfter(503, Duration::from_secs(1)),
        Fault::Html200,
        Fault::Json403,
        Fault::Empty200,
        Fault::Partial206,
        Fault::Raw(b"no HTTP at all\r\n\r\n".to_vec()),
        Fault::Raw(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Fault::HeaderFlood,
        Fault::RedirectLoop,
        Fault::Redirect(302, "file:///etc/passwd".to_owned()),
        Fault::Redirect(302, "http://127.0.0.1:1/index/ab/cd/abcd".to_owned()),
        Fault::Redirect(301, "http://169.254.169.254/latest".to_owned()),
        Fault::CutAfter(10),
        Fault::ChunkedCut,
        Fault::WrongBytes,
        Fault::ExtraBytes,
        Fault::Endless,
        Fault::ContentLengthTooLarge,
        Fault::ContentLengthTooSmall,
        Fault::ContentLengthHuge,
        Fault::GzipLie,
        Fault::GzipEncoded,
        Fault::GzipBomb(64 << 20),
        Fault::ExtraHeaders(header("Content-Encoding", "br")),
        Fault::StallBeforeHead,
        Fault::StallAfterHead,
        Fault::StallAfter(10),
        Fault::Reset,
        Fault::ResetAfter(10),
    ]
}

/// Runs `test` for each, a few at a time: most of their time they wait.
fn each<T: Sync>(all: &[T], test: impl Fn(&T) + Sync) {
    for some in all.chunks(11) {
        std::thread::scope(|scope| {
            for one in some {
                let test = &test;
                scope.spawn(move || test(one));
            }
        });
    }
}

/// Faults that leave nothing to tell whether an answer was the right one.
fn may_be_taken(fault: &Fault) -> bool {
    // gzip that was not asked for may be undone or refused
    matches!(fault, Fault::GzipEncoded)
}

#[test]
fn what_is_kept_is_served_whatever_upstream_does_and_renewed_when_it_is_well() {
    each(&troubles(), |fault| {
        let upstream = FakeUpstream::start();
        publish(&upstream, "abcd", "1.0.0");
        let mirror = asking(&upstream).start();
        let path = FakeUpstream::index_path("abcd");
        let good = mirror.get(&path);
        assert_eq!(good.status, 200, "{fault:?}");
        // longer than the first, so that half of the file is not all of its first line
        upstream.add(&CrateBuilder::new("abcd", "1.1.0").dep("other", "1").build());
        upstream.fault(&path, fault.clone(), Times::Always);
        for _ in 0..3 {
            let (reply, timing) = mirror.get_timed(&path);
            assert_eq!(reply.status, 200, "{fault:?}: {}", reply.text());
            if !may_be_taken(fault) {
                assert_eq!(reply.body, good.body, "{fault:?}");
                assert_eq!(reply.header("etag"), good.header("etag"));
            }
            assert!(timing.total < Duration::from_secs(15), "{fault:?}: {timing:?}");
        }
        assert!(upstream.faults_played() > 0, "{fault:?}");
        upstream.clear_faults();
        let renewed = eventually(PATIENCE, || mirror.get(&path).text().contains("1.1.0").then_some(()));
        assert!(renewed.is_some(), "{fault:?}\n{}", mirror.log());
    });
}

#[test]
fn what_is_not_kept_is_unavailable_and_not_absent_until_upstream_is_well() {
    let stalls = |fault: &Fault| {
        matches!(
            fault,
            Fault::StallBeforeHead
                | Fault::StallAfterHead
                | Fault::StallAfter(_)
                | Fault::Endless
                | Fault::ContentLengthHuge
        )
    };
    let troubles: Vec<_> = troubles().into_iter().filter(|fault| !stalls(fault)).collect();
    each(&troubles, |fault| {
        let upstream = FakeUpstream::start();
        let krate = publish(&upstream, "abcd", "1.0.0");
        let mirror = asking(&upstream).start();
        let path = FakeUpstream::index_path("abcd");
        let download = "/api/v1/crates/abcd/1.0.0/download";
        upstream.fault(&path, fault.clone(), Times::Always);
        for asked in [path.as_str(), download] {
            let reply = mirror.get(asked);
            if may_be_taken(fault) && reply.status == 200 {
                continue;
            }
            assert_eq!(reply.status, 503, "{fault:?}: {}", reply.text());
            assert!(reply.header("retry-after").is_some(), "{fault:?}");
            assert_eq!(reply.header("cache-control"), Some("no-store"));
        }
        assert_eq!(
            upstream.count(&FakeUpstream::download_path("abcd", "1.0.0")),
            0,
            "{fault:?}"
        );
        upstream.clear_faults();
        let got = eventually(PATIENCE, || {
            Some(mirror.get(download)).filter(|reply| reply.status == 200)
        });
        assert_eq!(
            got.unwrap_or_else(|| panic!("{fault:?}\n{}", mirror.log())).body,
            krate.bytes
        );
    });
}

#[test]
fn an_upstream_that_is_gone_costs_little_time_and_is_found_again() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let mirror = asking(&upstream).start();
    let path = FakeUpstream::index_path("abcd");
    let good = mirror.get(&path).body;
    upstream.go_down();
    let started = Instant::now();
    for _ in 0..200 {
        assert_eq!(mirror.get(&path).body, good);
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let absent = mirror.get("/index/ot/he/other");
    assert_eq!(absent.status, 503, "{}", absent.text());
    publish(&upstream, "abcd", "1.1.0");
    upstream.come_back();
    let renewed = eventually(PATIENCE, || mirror.get(&path).text().contains("1.1.0").then_some(()));
    assert!(renewed.is_some(), "{}", mirror.log());
    assert!(mirror.log().contains("upstream answers again"));
}

#[test]
fn a_name_that_is_sent_elsewhere_takes_no_other_out_of_service() {
    for target in ["http://127.0.0.1:1/", "http://127.0.0.1:22/", "http://169.254.169.254/"] {
        let upstream = FakeUpstream::start();
        let redi = FakeUpstream::index_path("redi");
        upstream.fault(&redi, Fault::Redirect(302, target.to_owned()), Times::Always);
        let mirror = asking(&upstream).start();
        for number in 0..5 {
            assert_eq!(mirror.get(&redi).status, 503, "{target}");
            let cold = format!("cold{number}");
            publish(&upstream, &cold, "1.0.0");
            let reply = mirror.get(&FakeUpstream::index_path(&cold));
            assert_eq!(reply.status, 200, "{target} {cold}: {}", reply.text());
        }
        assert!(!mirror.log().contains("upstream cannot be asked"), "{}", mirror.log());
    }
}

#[test]
fn a_mirror_behind_an_offline_mirror_loses_nothing() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "abcd", "1.0.0");
    publish(&upstream, "cold", "1.0.0");
    let dir = tempfile::tempdir().unwrap();
    let behind = |first: &MirrorProcess| {
        mirror()
            .data_dir(&dir.path().join("data"))
            .upstream_sparse(&format!("sparse+{}", first.url("/index/")))
            .env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s")
            .env("MIRROR_INDEX__REMOVAL_GRACE", "500ms")
            .start()
    };
    let (abcd, cold) = (FakeUpstream::index_path("abcd"), FakeUpstream::index_path("cold"));
    let (kept, unkept) = (
        "/api/v1/crates/abcd/1.0.0/download",
        "/api/v1/crates/cold/1.0.0/download",
    );
    let online = asking(&upstream).start();
    let second = behind(&online);
    let text = second.get(&abcd).body;
    assert_eq!(second.get(kept).body, krate.bytes);
    assert!(second.terminate().success());
    drop(online);

    let without_upstream = mirror().start();
    let offline = asking(&upstream).env("MIRROR_MODE", "offline").start();
    for first in [&without_upstream, &offline] {
        for asked in [abcd.as_str(), kept] {
            let reply = first.get(asked);
            assert_eq!(
                (reply.status, reply.header("mirror-offline")),
                (404, Some("1")),
                "{asked}"
            );
            let why = "is not kept here, and this mirror is offline";
            assert!(reply.text().contains(why), "{}", reply.text());
        }
        assert_eq!(first.get("/nowhere").header("mirror-offline"), None);
        let second = behind(first);
        let three_times = Duration::from_millis(1500);
        let lost = eventually(three_times, || (second.get(&abcd).body != text).then_some(()));
        assert!(lost.is_none(), "{}", second.log());
        assert_eq!(second.get(kept).body, krate.bytes);
        for asked in [cold.as_str(), unkept] {
            let reply = second.get(asked);
            assert_eq!(reply.status, 503, "{asked}: {}", reply.text());
        }
        assert!(
            !second.log().contains("not in upstream's index any more"),
            "{}",
            second.log()
        );
        assert!(second.terminate().success());
    }
    let second = behind(&offline);
    assert_eq!(second.get(&cold).status, 503);
    assert!(offline.run(&["mode", "online"]).status.success());
    let found = eventually(PATIENCE, || (second.get(&cold).status == 200).then_some(()));
    assert!(found.is_some(), "{}", second.log());
    let nobody = FakeUpstream::index_path("nobody");
    assert_eq!(offline.get(&nobody).header("mirror-offline"), None);
    assert_eq!(second.get(&nobody).status, 404);
}

#[test]
fn a_stalled_upstream_makes_a_kept_answer_wait_only_once() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let mirror = asking(&upstream).start();
    let path = FakeUpstream::index_path("abcd");
    let good = mirror.get(&path).body;
    let gate = upstream.hold(&path);
    assert_eq!(mirror.get(&path).body, good, "after a few seconds");
    let (late, timing) = mirror.get_timed(&path);
    assert_eq!(late.body, good);
    assert!(
        timing.total < Duration::from_secs(4),
        "who comes late does not wait: {timing:?}"
    );
    gate.open();
}

/// A line with more than the usual, for a crate `abcd`.
fn line(vers: &str, more: &str) -> String {
    let cksum = "ab".repeat(32);
    format!(
        "{{\"name\":\"abcd\",\"vers\":\"{vers}\",\"deps\":[],\"cksum\":\"{cksum}\",\"features\":{{}},\"yanked\":false{more}}}"
    )
}

#[test]
fn unknown_parts_of_lines_pass_byte_for_byte() {
    let usual = line("1.0.0", "");
    let bodies = [
        usual.clone(),
        format!("{usual}\n"),
        format!("{usual}\n\n\n"),
        format!("{usual}\r\n{}\r\n", line("1.0.1", "")),
        line("1.0.0", ",\"v\":3"),
        line("1.0.0", ",\"v\":4294967295"),
        line(
            "1.0.0",
            ",\"new\":{\"deep\":[[[[[[[[{}]]]]]]]]},\"pubtime\":\"2999-01-01T00:00:00Z\"",
        ),
        line("1.0.0", ",\"huge\":123456789012345678901234567890,\"small\":1e-400"),
        line("1.0.0", ",\"text\":\"\\u0000\\ud83d\\ude00 é\""),
        line("1.0.0", ",\"links\":null,\"rust_version\":\"1.99\""),
        format!("  {usual}  \n"),
        format!("{}\n{}", line("not a version", ""), line("00.1", "")),
        usual.replace("\"abcd\"", "\"AbCd\""),
        usual.replace("{\"name\":", "{ \"first\" : 1 ,\t\"name\" : "),
    ];
    each(&bodies, |body| {
        let upstream = FakeUpstream::start();
        upstream.set_index_file("ab/cd/abcd", body.as_bytes());
        let reply = asking(&upstream).start().get(&FakeUpstream::index_path("abcd"));
        assert_eq!(reply.text(), *body);
    });
}

#[test]
fn a_file_with_anything_else_in_it_is_refused_as_a_whole() {
    let upstream = FakeUpstream::start();
    let mirror = asking(&upstream).start();
    let path = FakeUpstream::index_path("abcd");
    let usual = line("1.0.0", "");
    upstream.set_index_file("ef/gh/efgh", b"<html>");
    assert_eq!(mirror.get(&FakeUpstream::index_path("efgh")).status, 503);
    let log = mirror.log();
    assert!(log.contains("efgh: upstream's answer is refused"), "{log}");
    assert!(!log.contains("the last good one"), "there is none: {log}");
    upstream.set_index_file("ab/cd/abcd", usual.as_bytes());
    assert_eq!(mirror.get(&path).text(), usual);
    let hash = "ab".repeat(32);
    let deep = format!(",\"x\":{}", "[".repeat(200_000));
    let long = format!(",\"x\":\"{}\"", "x".repeat(5 << 20));
    let many = format!("{}\n", line("1.0.1", &format!(",\"x\":\"{}\"", "x".repeat(1 << 20)))).repeat(33);
    let bodies: Vec<Vec<u8>> = vec![
        b"<html>".to_vec(),
        b"[]".to_vec(),
        b"null\n".to_vec(),
        b"\n\n".to_vec(),
        b"\0".repeat(100),
        format!("{usual}\nmore\n").into_bytes(),
        format!("{usual}\n{}", &usual[..60]).into_bytes(),
        format!("\u{feff}{usual}").into_bytes(),
        [usual.as_bytes(), b"\xff\xfe"].concat(),
        usual.replace("\"abcd\"", "\"other\"").into_bytes(),
        usual.replace("\"abcd\"", "\"../abcd\"").into_bytes(),
        usual.replace("1.0.0", "").into_bytes(),
        usual.replace(&hash, &hash.to_uppercase()).into_bytes(),
        usual.replace(&hash, &hash[1..]).into_bytes(),
        usual.replace(&hash, "").into_bytes(),
        usual.replace("\"vers\"", "\"version\"").into_bytes(),
        usual.replace("\"yanked\":false", "\"yanked\":\"no\"").into_bytes(),
        line("1.0.1", &deep).into_bytes(),
        line("1.0.1", &long).into_bytes(),
        many.into_bytes(),
    ];
    for body in &bodies {
        upstream.set_index_file("ab/cd/abcd", body);
        let before = upstream.count(&path);
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        // after a refusal upstream is left alone for some seconds; an operator's word is not
        let refused = mirror.run(&["refresh", "abcd"]);
        assert_eq!(refused.status.code(), Some(1), "{shown}");
        assert_eq!(upstream.count(&path), before + 1, "{shown}");
        assert_eq!(mirror.get(&path).text(), usual, "{shown}");
    }
    assert!(mirror.metric("upstream_index_refused") + 2 >= bodies.len() as u64);
    let log = mirror.log();
    assert!(
        log.contains("abcd: upstream's answer is refused, the last good one stays in force"),
        "{log}"
    );
    assert!(
        log.lines().all(|line| line.len() < 2000),
        "an odd body does not flood the log"
    );
    upstream.set_index_file("ab/cd/abcd", line("1.0.2", "").as_bytes());
    assert!(mirror.run(&["refresh", "abcd"]).status.success());
}

#[test]
fn odd_validators_do_no_harm() {
    let path = FakeUpstream::index_path("abcd");
    let huge = format!("\"{}\"", "e".repeat(60_000));
    for (name, value) in [
        ("ETag", "W/\"weak\""),
        ("ETag", "unquoted"),
        ("ETag", "\""),
        ("ETag", "\"a\u{7f}b\""),
        ("ETag", huge.as_str()),
        ("Last-Modified", "Mon, 01 Jan 2999 00:00:00 GMT"),
        ("Last-Modified", "yesterday"),
        ("Set-Cookie", "a=b"),
        ("Content-Type", "text/html; charset=utf-16"),
        ("Content-Disposition", "attachment"),
        ("X-Odd", "\u{e9}"),
    ] {
        let upstream = FakeUpstream::start();
        upstream.set_validators(Validators::None);
        publish(&upstream, "abcd", "1.0.0");
        upstream.fault(
            &path,
            Fault::ExtraHeaders(vec![(name.to_owned(), value.to_owned())]),
            Times::Always,
        );
        let mirror = asking(&upstream).start();
        let first = mirror.get(&path);
        if first.status != 200 {
            assert_eq!(first.status, 503, "{name}: {value:.60}");
            continue;
        }
        assert_eq!(Some(&first.body), upstream.index_file("ab/cd/abcd").as_ref());
        let tag = first.header("etag").unwrap();
        assert!(tag.len() == 42 && !tag.starts_with("W/"), "our own: {tag}");
        assert!(
            first.headers.iter().all(|(_, given)| given != value),
            "{:?}",
            first.headers
        );
        publish(&upstream, "abcd", "1.1.0");
        assert!(mirror.get(&path).text().contains("1.1.0"), "{name}: {value:.60}");
        let sent = upstream.requests().into_iter().flat_map(|request| request.headers);
        assert!(sent.into_iter().all(|(_, value)| value.len() <= 256));
    }
}

#[test]
fn not_modified_without_a_reason_is_asked_again() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let path = FakeUpstream::index_path("abcd");
    upstream.fault(&path, Fault::NotModified, Times::Once);
    let mirror = asking(&upstream).start();
    assert_eq!(mirror.get(&path).status, 200);
    assert_eq!(upstream.count(&path), 2);
    let other = FakeUpstream::index_path("efgh");
    upstream.fault(&other, Fault::NotModified, Times::Always);
    assert_eq!(mirror.get(&other).status, 503);
}

#[test]
fn an_older_answer_takes_no_version_away() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let old = upstream.index_file("ab/cd/abcd").unwrap();
    publish(&upstream, "abcd", "1.1.0");
    let new = upstream.index_file("ab/cd/abcd").unwrap();
    let mirror = asking(&upstream).start();
    let path = FakeUpstream::index_path("abcd");
    assert_eq!(mirror.get(&path).body, new);
    // an edge of a CDN that is behind, in turn with one that is not
    for _ in 0..3 {
        upstream.set_index_file("ab/cd/abcd", &old);
        assert_eq!(mirror.get(&path).body, new);
        upstream.set_index_file("ab/cd/abcd", &new);
        assert_eq!(mirror.get(&path).body, new);
    }
}

#[test]
fn a_removed_version_goes_after_its_grace_and_its_bytes_stay() {
    let upstream = FakeUpstream::start();
    let gone = publish(&upstream, "abcd", "1.0.0");
    publish(&upstream, "abcd", "1.1.0");
    let mirror = asking(&upstream).env("MIRROR_INDEX__REMOVAL_GRACE", "1s").start();
    let path = FakeUpstream::index_path("abcd");
    let download = "/api/v1/crates/abcd/1.0.0/download";
    assert_eq!(mirror.get(download).body, gone.bytes);
    let kept = eventually(PATIENCE, || mirror.kept_files().pop()).unwrap();
    upstream.remove_version("abcd", "1.0.0");
    assert!(mirror.get(&path).text().contains("1.0.0"), "one answer is none");
    let removed = eventually(PATIENCE, || {
        (!mirror.get(&path).text().contains("\"1.0.0\"")).then_some(())
    });
    assert!(removed.is_some(), "{}", mirror.log());
    assert!(mirror.get(&path).text().contains("1.1.0"));
    assert_eq!(mirror.get(download).status, 404);
    assert_eq!(
        std::fs::read(kept).unwrap(),
        gone.bytes,
        "the operator may want it back"
    );
    assert!(mirror.log().contains("1.0.0"), "{}", mirror.log());
}

#[test]
fn nothing_is_removed_while_upstreams_config_cannot_be_read() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let mirror = asking(&upstream).env("MIRROR_INDEX__REMOVAL_GRACE", "500ms").start();
    let path = FakeUpstream::index_path("abcd");
    assert_eq!(mirror.get(&path).status, 200);
    upstream.fault("/index/config.json", Fault::Html200, Times::Always);
    upstream.remove_crate("abcd");
    let three_times = Duration::from_millis(1500);
    let lost = eventually(three_times, || (mirror.get(&path).status != 200).then_some(()));
    assert!(lost.is_none(), "{}", mirror.log());
    upstream.clear_faults();
    let removed = eventually(PATIENCE, || (mirror.get(&path).status == 404).then_some(()));
    assert!(removed.is_some(), "{}", mirror.log());
    publish(&upstream, "abcd", "2.0.0");
    let back = eventually(PATIENCE, || mirror.get(&path).text().contains("2.0.0").then_some(()));
    assert!(back.is_some(), "a name that comes back is served again");
}

#[test]
fn more_than_ten_crates_at_once_are_a_broken_upstream() {
    let upstream = FakeUpstream::start();
    let names: Vec<String> = (0..14).map(|number| format!("crate-{number}")).collect();
    for name in &names {
        publish(&upstream, name, "1.0.0");
    }
    let mirror = asking(&upstream).env("MIRROR_INDEX__REMOVAL_GRACE", "1s").start();
    let there = || {
        let paths = names.iter().map(|name| FakeUpstream::index_path(name));
        paths.filter(|path| mirror.get(path).status == 200).count()
    };
    assert_eq!(there(), 14);
    for name in &names {
        upstream.remove_crate(name);
    }
    let held = eventually(PATIENCE, || {
        (there() == 4 && mirror.metric("index_held") == 4).then_some(())
    });
    assert!(
        held.is_some(),
        "{} there, {} held\n{}",
        there(),
        mirror.metric("index_held"),
        mirror.log()
    );
    for _ in 0..5 {
        assert_eq!(there(), 4, "they stay");
    }
    assert!(
        mirror.get("/").text().contains("4\u{a0}changes"),
        "the front page tells the operator"
    );
}

#[test]
fn a_changed_checksum_is_held_where_the_old_file_was_served() {
    let upstream = FakeUpstream::start();
    let old = publish(&upstream, "abcd", "1.0.0");
    let mut mirror = asking(&upstream).start();
    let path = FakeUpstream::index_path("abcd");
    let download = "/api/v1/crates/abcd/1.0.0/download";
    assert_eq!(mirror.get(download).body, old.bytes);
    let before = mirror.get(&path).body;
    let new = CrateBuilder::new("abcd", "1.0.0").lib("pub fn other() {}").build();
    upstream.republish(&new);
    for _ in 0..2 {
        assert_eq!(mirror.get(&path).body, before);
        assert_eq!(mirror.get(download).body, old.bytes);
        assert_eq!(mirror.metric("index_held"), 1);
        mirror.restart();
    }
    let more = publish(&upstream, "abcd", "1.1.0");
    let grown = eventually(PATIENCE, || mirror.get(&path).text().contains("1.1.0").then_some(()));
    assert!(grown.is_some(), "the rest of the file goes on");
    let text = mirror.get(&path).text();
    assert!(
        text.contains(&old.checksum.to_hex()) && !text.contains(&new.checksum.to_hex()),
        "{text}"
    );
    assert_eq!(mirror.get("/api/v1/crates/abcd/1.1.0/download").body, more.bytes);
}

#[test]
fn a_changed_checksum_is_taken_where_the_old_file_never_was() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let mirror = asking(&upstream).start();
    let path = FakeUpstream::index_path("abcd");
    assert_eq!(mirror.get(&path).status, 200);
    let new = CrateBuilder::new("abcd", "1.0.0").lib("pub fn other() {}").build();
    upstream.republish(&new);
    assert!(mirror.get(&path).text().contains(&new.checksum.to_hex()));
    assert_eq!(mirror.get("/api/v1/crates/abcd/1.0.0/download").body, new.bytes);
    assert_eq!(mirror.metric("index_held"), 0);
    assert!(mirror.log().contains("checksum"), "it is reported: {}", mirror.log());
}

#[test]
fn a_yank_and_other_changes_of_a_line_pass() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let mirror = asking(&upstream).start();
    let path = FakeUpstream::index_path("abcd");
    for yanked in [false, true, false] {
        upstream.yank("abcd", "1.0.0", yanked);
        assert_eq!(Some(mirror.get(&path).body), upstream.index_file("ab/cd/abcd"));
    }
    let changed = upstream.index_file("ab/cd/abcd").unwrap();
    let changed = String::from_utf8(changed)
        .unwrap()
        .replace("\"features\":{}", "\"features\":{\"f\":[]}");
    assert!(changed.contains("\"f\""), "{changed}");
    upstream.set_index_file("ab/cd/abcd", changed.as_bytes());
    assert_eq!(mirror.get(&path).text(), changed);
    let more = publish(&upstream, "abcd", "1.1.0").index_line;
    assert_eq!(Some(mirror.get(&path).body), upstream.index_file("ab/cd/abcd"));
    let turned = format!("{more}\n{changed}");
    upstream.set_index_file("ab/cd/abcd", turned.as_bytes());
    assert_eq!(mirror.get(&path).text(), turned, "the order is upstream's");
}

#[test]
fn an_idle_mirror_asks_nothing() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "abcd", "1.0.0");
    let mut mirror = asking(&upstream).start();
    assert!(upstream.requests().is_empty(), "a start asks nothing");
    mirror.keep(&krate);
    for _ in 0..2 {
        upstream.clear_log();
        for path in [
            "/",
            "/status",
            "/help",
            "/search?q=abcd",
            "/crates/abcd",
            "/config.toml",
            "/index/config.json",
        ] {
            assert_eq!(mirror.get(path).status, 200, "{path}");
        }
        for path in [
            "/healthz",
            "/readyz",
            "/metrics",
            "/api/v1/crates?q=abcd",
            "/api/v1/crates/abcd/1.0.0/download",
        ] {
            assert_eq!(mirror.get(path).status, 200, "{path}");
        }
        for command in ["healthcheck", "mode"] {
            assert!(mirror.run(&[command]).status.success());
        }
        let asked: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
        assert!(asked.is_empty(), "{asked:?}");
        mirror.restart();
    }
}
