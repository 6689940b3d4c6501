//! Connections of real clients and of bad ones (issue 2, "Connections"; threats C4, C6, C8, C9): curl in all its ways, a cold `cargo
//! fetch` of 300 crates, keep-alive whatever cargo's `Connection` header says, git's plain refusal, a prompt end, too many connections.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, FakeUpstream, MirrorBuilder, MirrorProcess, cargo_available, curl,
    eventually, git, said, text_of, toolchains,
};

const SOON: Duration = Duration::from_secs(60);

fn builder(upstream: &FakeUpstream) -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror"))).upstream(upstream)
}

fn publish(upstream: &FakeUpstream, name: &str, size_bytes: usize) -> BuiltCrate {
    let krate = CrateBuilder::new(name, "1.0.0").padding(size_bytes).build();
    upstream.add(&krate);
    krate
}

fn download(name: &str) -> String {
    format!("/api/v1/crates/{name}/1.0.0/download")
}

fn connect(mirror: &MirrorProcess) -> TcpStream {
    let stream = TcpStream::connect(mirror.authority()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// Status line, headers and body of one answer on a connection that goes on.
fn answer(reader: &mut BufReader<TcpStream>) -> (String, String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(
            reader.read_line(&mut head).unwrap(),
            0,
            "the connection ended after {head:?}"
        );
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    let read = reader.read_exact(&mut body);
    read.unwrap_or_else(|error| panic!("{error} in the body of {} bytes behind {head:?}", body.len()));
    (head.lines().next().unwrap().to_owned(), lower, body)
}

/// All that comes until the peer closes; a reset is an end too.
fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            panic!(
                "neither an answer nor an end within {SOON:?}, only {:?}",
                String::from_utf8_lossy(&bytes)
            )
        }
        _ => bytes,
    }
}

#[test]
fn curl_gets_everything_in_each_of_its_ways() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "serde", 300_000);
    let mirror = builder(&upstream).start();
    let out = tempfile::tempdir().unwrap();
    let urls = [
        "/index/se/rd/serde",
        &download("serde"),
        "/",
        "/api/v1/crates?q=serde",
        "/nothing-here",
    ];
    for (way, version, reuses) in [
        ("--http1.1", "1.1", true),
        ("--http2", "2", true),
        // curl 7.88 trips over its own second request then, also at nginx
        ("--http2-prior-knowledge", "2", false),
    ] {
        let mut told = String::new();
        for urls in urls.chunks(if reuses { urls.len() } else { 1 }) {
            let format = "%{http_code} %{http_version} %{num_connects}\n".to_owned();
            let mut args = vec![way.to_owned(), "-w".to_owned(), format];
            for url in urls {
                let file = out.path().join(url.replace('/', "_"));
                args.extend(["-o".to_owned(), file.to_str().unwrap().to_owned(), mirror.url(url)]);
            }
            let Some(mut curl) = curl() else { return };
            let output = curl.args(&args).output().unwrap();
            told.push_str(&text_of(&output).0);
        }
        let again = u8::from(!reuses);
        let expected = format!(
            "200 {version} 1\n200 {version} {again}\n200 {version} {again}\n200 {version} {again}\n404 {version} {again}\n"
        );
        assert_eq!(told, expected, "{way}");
        let got = |number: usize| std::fs::read(out.path().join(urls[number].replace('/', "_"))).unwrap();
        assert_eq!(
            String::from_utf8(got(0)).unwrap(),
            format!("{}\n", krate.index_line),
            "{way}"
        );
        assert!(got(1) == krate.bytes, "{way}");
        assert!(String::from_utf8(got(2)).unwrap().contains("<html"), "{way}");
    }
    assert_eq!(mirror.metric("connections_upgraded"), 1);
    assert_eq!(mirror.metric("connections_http2"), urls.len() as u64);
}

#[test]
fn curl_takes_a_large_file_with_its_upgrade_every_time() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "large", 1_000_000);
    let mirror = builder(&upstream).start();
    assert!(mirror.get(&download("large")).body == krate.bytes);
    let out = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let mut args = vec!["--http2".to_owned(), "--parallel".to_owned()];
        for number in 0..4 {
            let file = out.path().join(format!("{round}-{number}"));
            args.extend([
                "-o".to_owned(),
                file.to_str().unwrap().to_owned(),
                mirror.url(&download("large")),
            ]);
        }
        let Some(mut curl) = curl() else { return };
        let output = curl.args(&args).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    for file in std::fs::read_dir(out.path()).unwrap() {
        assert!(std::fs::read(file.unwrap().path()).unwrap() == krate.bytes);
    }
}

/// Connections of clients so far. Each of the three requests that this makes is one too.
fn connections(mirror: &MirrorProcess) -> u64 {
    let count = |kind| mirror.metric(&format!("connections_{kind}"));
    count("upgraded") + count("http2") + count("http1")
}

#[test]
fn a_cold_fetch_of_300_crates_takes_four_connections_at_most() {
    if !cargo_available() {
        eprintln!("skipped: there is no cargo");
        return;
    }
    let upstream = FakeUpstream::start();
    let mut toolchains = toolchains();
    toolchains.retain(|name| name.starts_with("nightly"));
    if toolchains.is_empty() {
        eprintln!("without nightly: it is not installed");
    }
    let nightly = toolchains.first().map(|name| format!("+{name}"));
    for toolchain in [None, nightly]
        .into_iter()
        .enumerate()
        .filter(|(number, name)| *number == 0 || name.is_some())
    {
        let (_, toolchain) = toolchain;
        let mirror = builder(&upstream).start();
        let mut project = CargoProject::new().use_mirror(&mirror);
        for number in 0..300 {
            let name = format!("dep{number}");
            // some so large that streams have to share what the connection may buffer
            publish(&upstream, &name, if number % 10 == 0 { 700_000 } else { 100 });
            project = project.dependency(&name, "1");
        }
        upstream.clear_log();
        let before = connections(&mirror);
        let args: Vec<&str> = toolchain.iter().map(String::as_str).chain(["fetch"]).collect();
        project.cargo_ok(&args);
        let used = connections(&mirror) - before - 3;
        assert!((1..=4).contains(&used), "{used} connections of {toolchain:?}");
        assert_eq!(mirror.metric("crate_misses"), 300);
        assert_eq!(
            upstream.requests().len(),
            601,
            "300 index files, 300 crate files and config.json"
        );
    }
}

#[test]
fn keep_alive_works_whatever_the_connection_header_says() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "serde", 300_000);
    let mirror = builder(&upstream).start();
    let settings = "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    let reader = &mut BufReader::new(connect(&mirror));
    for headers in [
        String::new(),
        "Connection: keep-alive\r\n".to_owned(),
        "Connection: Upgrade, HTTP2-Settings\r\n".to_owned(),
        format!("Connection: Upgrade, HTTP2-Settings\r\n{settings}"),
        format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket\r\n{settings}"),
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n".to_owned(),
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: not settings!\r\n".to_owned(),
        format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{settings}"),
        format!("Upgrade: h2c\r\n{settings}"),
        "Connection: upgrade\r\nUpgrade: h2c, h3\r\n".to_owned(),
    ] {
        let request = format!("GET {} HTTP/1.1\r\nHost: h\r\n{headers}\r\n", download("serde"));
        reader.get_mut().write_all(request.as_bytes()).unwrap();
        let (status, head, body) = answer(reader);
        assert_eq!(status, "HTTP/1.1 200 OK", "{headers}");
        assert!(
            !head.contains("connection: close") && body == krate.bytes,
            "{headers}: {head}"
        );
    }
    let cargo =
        format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{settings}\r\n");
    let mut fresh = BufReader::new(connect(&mirror));
    for (reader, expected) in [(reader, "200"), (&mut fresh, "101")] {
        reader.get_mut().write_all(cargo.as_bytes()).unwrap();
        let (status, _, _) = answer(reader);
        let why = "an upgrade is for the first request of a connection";
        assert_eq!(status.split(' ').nth(1), Some(expected), "{why}: {status}");
    }
}

#[test]
fn an_index_in_parts_and_pushes_are_refused_plainly_by_git() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "serde", 100);
    let mirror = builder(&upstream).own_port().start();
    let dir = tempfile::tempdir().unwrap();
    for path in ["/git/index", "/git/index.git", "/index", "/"] {
        let output = git(dir.path(), &["clone", &mirror.url(path), "clone"]);
        let (_, error) = text_of(&output);
        assert!(!output.status.success(), "{path}: {error}");
        let refusals = ["not found", "not valid", "only the index files that were asked for"];
        assert!(refusals.iter().any(|words| error.contains(words)), "{path}: {error}");
    }
    for (method, path) in [
        ("GET", "/git/index/info/refs?service=git-receive-pack"),
        ("POST", "/git/index/git-receive-pack"),
        ("POST", "/git/index/git-upload-pack"),
        ("GET", "/git/index/objects/info/packs"),
        ("GET", "/git/index/HEAD"),
        ("GET", "/git/../../index.git/HEAD"),
        ("GET", "/index.git/HEAD"),
        ("GET", "/index/.git/HEAD"),
    ] {
        let reply = mirror.request(method, path, &[], b"");
        assert!((400..=415).contains(&reply.status), "{method} {path}: {}", reply.status);
        assert!(!reply.text().contains("refs/"), "{method} {path}: {}", reply.text());
    }
}

/// An HTTP/2 connection by prior knowledge that says nothing more.
fn idle_http2(mirror: &MirrorProcess) -> TcpStream {
    let mut stream = connect(mirror);
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "its settings come first");
    let mut rest = vec![0; usize::from(frame[2]) + (usize::from(frame[1]) << 8)];
    stream.read_exact(&mut rest).unwrap();
    stream
}

/// The types of the frames in it.
fn frame_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        types.push(*kind);
        let length = (usize::from(*a) << 16) + (usize::from(*b) << 8) + usize::from(*c);
        bytes = rest.get(length..).unwrap_or_default();
    }
    types
}

#[test]
fn idle_connections_hold_up_no_end() {
    let upstream = FakeUpstream::start();
    let mirror = builder(&upstream).start();
    let silent = connect(&mirror);
    let mut used = BufReader::new(connect(&mirror));
    used.get_mut()
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert_eq!(answer(&mut used).2, b"alive\n");
    let http2 = idle_http2(&mirror);
    let begun = Instant::now();
    assert!(mirror.terminate().success(), "{}", mirror.log());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let goaway = 7;
    assert!(frame_types(&read_to_end(&http2)).contains(&goaway));
    assert!(read_to_end(&silent).is_empty() && read_to_end(used.get_ref()).is_empty());
}

#[test]
fn slow_heads_end_and_half_closed_clients_are_answered() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "serde", 1_000_000);
    let mirror = builder(&upstream).start();
    let silent = connect(&mirror);
    let mut slow = connect(&mirror);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nX-Slow: ").unwrap();

    let mut half = connect(&mirror);
    let request = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", download("serde"));
    half.write_all(request.as_bytes()).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let whole = read_to_end(&half);
    assert!(
        whole.ends_with(&krate.bytes) && whole.starts_with(b"HTTP/1.1 200 "),
        "{} bytes",
        whole.len()
    );

    let begun = Instant::now();
    assert!(read_to_end(&silent).is_empty() || begun.elapsed() < SOON);
    let told = String::from_utf8_lossy(&read_to_end(&slow)).into_owned();
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 408 "), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "serde", 2_000_000);
    let mirror = builder(&upstream).start();
    assert_eq!(mirror.get(&download("serde")).status, 200);
    for _ in 0..50 {
        let mut stream = connect(&mirror);
        stream
            .write_all(format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", download("serde")).as_bytes())
            .unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    // a thousand requests in one go, and nobody to read the answers
    let mut greedy = connect(&mirror);
    greedy.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let requests = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", download("serde")).repeat(1000);
    let _ = greedy.write_all(requests.as_bytes());
    assert_eq!(mirror.get("/healthz").status, 200);
    let rss = mirror.rss_bytes();
    assert!(rss < 150 << 20, "{rss} bytes");
    drop(greedy);
    let gone = eventually(SOON, || (mirror.metric("connections_open") == 1).then_some(()));
    assert!(gone.is_some(), "{} connections", mirror.metric("connections_open"));
}

#[test]
fn one_request_can_not_be_taken_for_two() {
    let upstream = FakeUpstream::start();
    let mirror = builder(&upstream).start();
    let inner = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    let (size, chunk) = (inner.len(), format!("0\r\n\r\n{inner}"));
    let chunks = chunk.len();
    for (what, request) in [
        (
            "both framings",
            format!(
                "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: {chunks}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
            ),
        ),
        (
            "two lengths",
            format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: {size}\r\n\r\n{inner}"),
        ),
        (
            "a list of lengths",
            format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0, {size}\r\n\r\n{inner}"),
        ),
        (
            "a length that is none",
            format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: +{size}\r\n\r\n{inner}"),
        ),
        (
            "an unknown coding",
            format!("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n{chunk}"),
        ),
        (
            "chunked twice",
            format!("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n{chunk}"),
        ),
        (
            "a space before the colon",
            format!("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length : {size}\r\n\r\n{inner}"),
        ),
        (
            "a folded line",
            format!("POST /x HTTP/1.1\r\nHost: h\r\nX: a\r\n Content-Length: {size}\r\n\r\n{inner}"),
        ),
        ("no request", "\0\x01\x02\x03 hello\r\n\r\n".to_owned()),
        (
            "CONNECT",
            "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n".to_owned(),
        ),
        (
            "a proxy's request",
            "GET http://169.254.169.254/latest/ HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        ),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned()),
        ("a bad preface", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned()),
        (
            "a huge head",
            format!("GET /healthz HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)),
        ),
    ] {
        let mut stream = connect(&mirror);
        // it may be refused before all of it is sent
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        let bytes = read_to_end(&stream);
        let told = String::from_utf8_lossy(&bytes);
        assert!(!told.contains("alive"), "{what}: {told}");
        assert!(told.matches("HTTP/1.1 ").count() <= 1, "{what}: {told}");
        let plain = told.is_empty() || told.starts_with("HTTP/1.1 4") || !told.starts_with("HTTP/1.1");
        assert!(plain, "{what}: {told}");
    }
    assert!(upstream.requests().is_empty() && upstream.connections() == 0);
    assert_eq!(mirror.get("/healthz").status, 200);
}

/// CPU time of the process so far, in the kernel's ticks of a hundredth of a second.
fn cpu_ticks(mirror: &MirrorProcess) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", mirror.id())).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn running_out_of_file_descriptors_is_survived() {
    let upstream = FakeUpstream::start();
    let kept = publish(&upstream, "kept", 300_000);
    let cold = publish(&upstream, "cold", 300_000);
    let mirror = builder(&upstream)
        .open_files(80)
        .env("MIRROR_LIMITS__CONNECTIONS", "1000")
        .start();
    assert_eq!(mirror.get(&download("kept")).status, 200);
    let mut inside = BufReader::new(connect(&mirror));
    let mut ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        inside.get_mut().write_all(request.as_bytes()).unwrap();
        answer(&mut inside)
    };
    assert_eq!(ask("/healthz").2, b"alive\n");
    let crowd: Vec<TcpStream> = (0..150).map(|_| connect(&mirror)).collect();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", mirror.id())).unwrap().count();
    assert!(
        eventually(SOON, || (open() >= 78).then_some(())).is_some(),
        "{} are open",
        open()
    );

    let (begun, ticks) = (Instant::now(), cpu_ticks(&mirror));
    assert_eq!(ask("/healthz").2, b"alive\n", "who is connected is served");
    let (status, head, body) = ask(&download("cold"));
    let told = status.starts_with("HTTP/1.1 5") || (status.starts_with("HTTP/1.1 200 ") && body == cold.bytes);
    assert!(told, "{status}\n{head}");
    let spin = eventually(Duration::from_secs(2), || None::<()>);
    assert!(spin.is_none());
    let used = Duration::from_millis((cpu_ticks(&mirror) - ticks) * 10);
    assert!(
        used < begun.elapsed() / 2,
        "{used:?} of CPU time in {:?}: it spins",
        begun.elapsed()
    );

    drop(crowd);
    let healed = eventually(SOON, || {
        let reply = mirror.try_request("GET", &download("cold"), &[], b"").ok()?;
        (reply.status == 200 && reply.body == cold.bytes).then_some(())
    });
    assert!(healed.is_some(), "{}", mirror.log());
    assert!(mirror.get(&download("kept")).body == kept.bytes);
    assert_eq!(mirror.get("/readyz").status, 200);
}

#[test]
fn every_answer_says_how_upstream_is_treated() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "kept", 30_000);
    let mirror = builder(&upstream).start();
    let says = |mode: &str| {
        for path in [
            "/",
            "/healthz",
            "/index/config.json",
            "/index/ke/pt/kept",
            "/index/no/ne/none",
            "/api/v1/crates/kept/1.0.0/download",
            "/api/v1/crates/none/1.0.0/download",
            "/git/index/info/refs?service=git-upload-pack",
            "/nothing/here",
        ] {
            assert_eq!(mirror.get(path).header("mirror-mode"), Some(mode), "{path}");
        }
        let refused = mirror.request("PUT", "/api/v1/crates/new", &[], b"");
        assert_eq!(refused.header("mirror-mode"), Some(mode));
    };
    says("online");
    for mode in ["fallback", "offline"] {
        assert!(mirror.run(&["mode", mode]).status.success());
        says(mode);
    }
}
