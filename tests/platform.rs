//! Plays a platform that runs containers (issue 2, "Ways to run it"; threats S13, U9): a port and settings by the environment alone, a
//! disk that is empty at each start, a router that gives up on a first byte after 30 s, SIGTERM under load and SIGKILL 30 s after it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use testkit::{
    BuiltCrate, CrateBuilder, Exchange, FakeUpstream, Fault, MirrorBuilder, MirrorProcess, Reply, ReservedPort, Times,
    curl, eventually, http, said,
};

const SOON: Duration = Duration::from_secs(60);
/// When routers give up on a request without a first byte, and when platforms kill what has not ended.
const ROUTER_LIMIT: Duration = Duration::from_secs(30);
/// What is promised for SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(25);

fn builder(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror"))).upstream(upstream)
}

fn publish(upstream: &FakeUpstream, name: &str, size_bytes: usize) -> BuiltCrate {
    let krate = CrateBuilder::new(name, "1.0.0").padding(size_bytes).build();
    upstream.add(&krate);
    krate
}

fn path(name: &str) -> String {
    format!("/api/v1/crates/{name}/1.0.0/download")
}

fn assert_whole(reply: &Reply, krate: &BuiltCrate) {
    assert_eq!((reply.status, reply.complete), (200, true), "{}", reply.text());
    assert!(reply.body == krate.bytes, "{} wrong bytes", reply.body.len());
}

#[test]
fn a_start_from_nothing_serves_behind_a_router() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "serde", 300_000);
    let port = ReservedPort::new();
    let number = port.authority().rsplit_once(':').unwrap().1.to_owned();
    let disk = tempfile::tempdir().unwrap();
    let data_dir = disk.path().join("data");
    for start in ["the first start", "the next day, on an empty disk again"] {
        let mirror = builder(&upstream).data_dir(&data_dir).env("PORT", &number).start();
        assert_eq!(
            mirror.stdout(),
            format!("listening on http://[::]:{number}\n"),
            "{start}"
        );
        let router = |path: &str| {
            let headers = [
                ("Host", "app.example"),
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-For", "192.0.2.1"),
            ];
            http::request(&port.authority(), "GET", path, &headers, b"").unwrap()
        };
        let config = router("/index/config.json");
        let json: serde_json::Value = serde_json::from_slice(&config.body).unwrap();
        assert_eq!(json["dl"], "https://app.example/api/v1/crates", "{start}");
        assert_eq!(config.header("cache-control"), Some("no-store"));
        let stanza = router("/config.toml").text();
        assert!(stanza.contains("sparse+https://app.example/index/"), "{stanza}");
        assert_eq!(router("/index/se/rd/serde").text(), format!("{}\n", krate.index_line));
        assert_whole(&router(&path("serde")), &krate);
        assert_eq!((router("/").status, router("/readyz").status), (200, 200));

        let healthy = mirror.run(&["healthcheck"]);
        assert!(healthy.status.success(), "{}", said(&healthy));
        let begun = Instant::now();
        assert_eq!(mirror.terminate().code(), Some(0), "{}", mirror.log());
        assert!(begun.elapsed() < END_LIMIT, "{:?}", begun.elapsed());
        let ended = mirror.run(&["healthcheck"]);
        assert_eq!(ended.status.code(), Some(1), "{}", said(&ended));
        fs::remove_dir_all(&data_dir).unwrap();
    }
    let path = FakeUpstream::download_path("serde", "1.0.0");
    assert_eq!(upstream.count(&path), 2, "nothing was left of the first start");
}

#[test]
fn a_first_byte_comes_before_the_router_gives_up_on_an_upstream_that_stalls() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "silent", 300_000);
    publish(&upstream, "unseen", 100);
    let slow = publish(&upstream, "begins", 300_000);
    let mirror = builder(&upstream).start();
    let download = FakeUpstream::download_path("silent", "1.0.0");
    upstream.fault(&download, Fault::StallBeforeHead, Times::Always);
    upstream.fault(
        &FakeUpstream::index_path("unseen"),
        Fault::StallBeforeHead,
        Times::Always,
    );
    let begins = FakeUpstream::download_path("begins", "1.0.0");
    upstream.fault(&begins, Fault::StallAfter(10_000), Times::Always);
    let get = |path: &str| mirror.exchange("GET", path, &[], b"");

    let mut beginning = get(&path("begins"));
    let stalled = [get(&path("silent")), get("/index/un/se/unseen"), get(&path("unseen"))];
    assert!(beginning.read_at_least(1).unwrap().starts_with(&slow.bytes[..1]));
    for exchange in stalled {
        let (reply, timing) = exchange.finish().unwrap();
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(timing.head < ROUTER_LIMIT, "{timing:?}: {}", reply.text());
        assert!(reply.header("retry-after").is_some());
    }
    // The client was sent away, the fetch was not: it brings the file without being asked again.
    upstream.clear_faults();
    let name = krate.checksum.to_hex();
    let is_kept = || {
        mirror
            .kept_files()
            .iter()
            .any(|file| file.ends_with(&name))
            .then_some(())
    };
    assert!(
        eventually(SOON, is_kept).is_some(),
        "the fetch did not go on\n{}",
        mirror.log()
    );
    assert_whole(&mirror.get(&path("silent")), &krate);
    assert_whole(&beginning.finish().unwrap().0, &slow);
    let healed = || (mirror.get(&path("unseen")).status == 200).then_some(());
    assert!(eventually(SOON, healed).is_some(), "{}", mirror.log());
}

#[test]
fn sigterm_under_load_cuts_no_body_off() {
    let upstream = FakeUpstream::start();
    let krates: Vec<BuiltCrate> = (0..8)
        .map(|number| publish(&upstream, &format!("busy{number}"), 300_000))
        .collect();
    let kept = publish(&upstream, "kept", 3_000_000);
    let mirror = builder(&upstream).start();
    assert_whole(&mirror.get(&path("kept")), &kept);
    let begun = upstream.hold_after("/dl/", 100_000);
    let waiting = upstream.hold(&FakeUpstream::index_path("late"));
    let get = |name: &str| mirror.exchange("GET", &path(name), &[], b"");
    let mut clients: Vec<(Exchange, &BuiltCrate)> = Vec::new();
    for krate in krates.iter().chain(&krates) {
        clients.push((get(&krate.name), krate));
    }
    for (client, _) in &mut clients {
        client.read_at_least(10_000).unwrap();
    }
    // more than what fits into the buffers of a connection
    let mut slow = get("kept");
    slow.read_at_least(1).unwrap();
    let late = publish(&upstream, "late", 300_000);
    clients.push((get("late"), &late));
    assert!(waiting.wait_reached(1, SOON));

    let asked = Instant::now();
    mirror.ask_to_end();
    assert!(
        mirror.wait_for_log("finishing what is under way", SOON),
        "{}",
        mirror.log()
    );
    begun.open();
    waiting.open();
    for (client, krate) in clients {
        assert_whole(&client.finish().unwrap().0, krate);
    }
    assert_whole(&slow.finish().unwrap().0, &kept);
    let status = mirror.wait_end(SOON).unwrap();
    assert!(status.success(), "{}", mirror.log());
    assert!(asked.elapsed() < END_LIMIT, "{:?}\n{}", asked.elapsed(), mirror.log());
    // what was fetched meanwhile is there after the start, upstream or not
    upstream.go_down();
    let mut mirror = mirror;
    mirror.restart();
    for krate in krates.iter().chain([&kept, &late]) {
        assert_whole(&mirror.get(&path(&krate.name)), krate);
    }
}

#[test]
fn sigterm_cuts_no_http2_stream_off() {
    let upstream = FakeUpstream::start();
    let krates: Vec<BuiltCrate> = (0..4)
        .map(|number| publish(&upstream, &format!("stream{number}"), 300_000))
        .collect();
    let mirror = builder(&upstream).start();
    let gate = upstream.hold_after("/dl/", 100_000);
    let out = tempfile::tempdir().unwrap();
    let mut curls = Vec::new();
    for way in ["--http2", "--http2-prior-knowledge"] {
        for krate in &krates {
            let Some(mut curl) = curl() else { return };
            let file = out.path().join(format!("{way}{}", krate.name));
            curl.args([way, "-w", "%{http_version}", "-o"]).arg(file);
            let curl = curl.arg(mirror.url(&path(&krate.name))).stdout(Stdio::piped());
            let curl = curl.stderr(Stdio::piped()).spawn().unwrap();
            curls.push((curl, way, krate));
        }
    }
    let begun = |(way, krate): (&str, &BuiltCrate)| {
        let file = fs::metadata(out.path().join(format!("{way}{}", krate.name)));
        file.is_ok_and(|file| file.len() > 10_000)
    };
    let all = || curls.iter().all(|(_, way, krate)| begun((way, krate))).then_some(());
    assert!(eventually(SOON, all).is_some(), "{}", mirror.log());
    mirror.ask_to_end();
    assert!(
        mirror.wait_for_log("finishing what is under way", SOON),
        "{}",
        mirror.log()
    );
    gate.open();
    for (curl, way, krate) in curls {
        let output = curl.wait_with_output().unwrap();
        assert!(output.status.success(), "{way}: {}\n{}", said(&output), mirror.log());
        assert_eq!(output.stdout, b"2", "{way}");
        assert!(
            fs::read(out.path().join(format!("{way}{}", krate.name))).unwrap() == krate.bytes,
            "{way}"
        );
    }
    assert!(mirror.wait_end(SOON).unwrap().success(), "{}", mirror.log());
}

#[test]
fn it_ends_in_time_although_upstream_never_does() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "stuck", 300_000);
    let mirror = builder(&upstream).start();
    let download = FakeUpstream::download_path("stuck", "1.0.0");
    let gate = upstream.hold_after(&download, 100_000);
    let mut client = mirror.exchange("GET", &path("stuck"), &[], b"");
    client.read_at_least(10_000).unwrap();
    let asked = Instant::now();
    mirror.ask_to_end();
    let status = mirror.wait_end(SOON).unwrap();
    assert!(status.success(), "{status}\n{}", mirror.log());
    assert!(
        asked.elapsed() < ROUTER_LIMIT,
        "SIGKILL would have come: {:?}",
        asked.elapsed()
    );
    let (reply, _) = client.finish().unwrap();
    assert!(
        !reply.complete && krate.bytes.starts_with(&reply.body),
        "cut off, and visibly so"
    );
    gate.open();
    assert!(mirror.kept_files().is_empty());
    let mut mirror = mirror;
    mirror.restart();
    assert_whole(&mirror.get(&path("stuck")), &krate);
}
