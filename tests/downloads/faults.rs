//! Every fault of the fake upstream, each with a small file (which is whole before anything goes out) and a large one (which streams).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use testkit::{BuiltCrate, FakeUpstream, Fault, MirrorProcess, Reply, Times, curl, eventually, said};

use super::{LARGE_BYTES, SOON, assert_whole, builder, detail, download, is_kept, publish, start, wait_until};

/// What no client may be given, and what the client after it reads.
fn bad() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::Status(500), "500"),
        (Fault::Status(404), "404"),
        (Fault::Status(410), "410"),
        (Fault::Status(301), "redirects"),
        (Fault::Status(204), "204"),
        (Fault::Html200, "checksum"),
        (Fault::Json403, "403"),
        (Fault::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), ""),
        (Fault::Raw(Vec::new()), ""),
        (Fault::HeaderFlood, ""),
        (Fault::NotModified, "304"),
        (Fault::Partial206, "206"),
        (Fault::CutAfter(0), ""),
        (Fault::CutAfter(700), ""),
        (Fault::CutAfter(250_000), ""),
        // Without a length a cut looks like an end, so the client for upstream takes none of these, not even whole ones.
        (Fault::CutWithoutLength(700), "how long it is"),
        (Fault::CutWithoutLength(200_000), "how long it is"),
        (Fault::CloseDelimited, "how long it is"),
        (Fault::ChunkedCut, ""),
        (Fault::WrongBytes, "checksum"),
        (Fault::ExtraBytes, "checksum"),
        (Fault::Empty200, "checksum"),
        (Fault::Endless, "limit"),
        (Fault::ContentLengthTooLarge, ""),
        (Fault::ContentLengthTooSmall, ""),
        (Fault::ContentLengthHuge, ""),
        (Fault::GzipLie, "content-encoding"),
        (Fault::GzipEncoded, "content-encoding"),
        (Fault::GzipBomb(8 << 20), "content-encoding"),
        (Fault::Reset, ""),
        (Fault::ResetAfter(700), ""),
        (Fault::ResetAfter(250_000), ""),
    ]
}

/// Unusual, and right all the same.
fn unusual() -> Vec<Fault> {
    let headers = [
        ("Set-Cookie", "a=b"),
        ("Location", "http://127.0.0.1:9/"),
        ("Content-Disposition", "attachment; filename=\"../../x\""),
        ("X-Upstream", "secret"),
        ("Strict-Transport-Security", "max-age=1"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    vec![
        Fault::Chunked,
        Fault::ExtraHeaders(headers.to_vec()),
        Fault::Delay(Duration::from_millis(300)),
        Fault::Trickle {
            bytes: 60_000,
            every: Duration::from_millis(50),
        },
    ]
}

/// A fault that reaches behind the end of a small file would not be one.
fn bites(fault: &Fault, krate: &BuiltCrate) -> bool {
    let size = krate.bytes.len();
    !matches!(fault, Fault::CutAfter(at) | Fault::CutWithoutLength(at) | Fault::ResetAfter(at) if *at >= size)
}

struct Case {
    fault: Fault,
    reason: &'static str,
    krate: BuiltCrate,
}

fn cases(upstream: &FakeUpstream, faults: Vec<(Fault, &'static str)>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, (fault, reason)) in faults.into_iter().enumerate() {
        for (size, size_bytes) in [("small", 1_000), ("large", LARGE_BYTES)] {
            let krate = publish(upstream, &format!("{size}{number}"), "1.0.0", size_bytes);
            if bites(&fault, &krate) {
                let path = FakeUpstream::download_path(&krate.name, "1.0.0");
                upstream.fault(&path, fault.clone(), Times::Always);
                let fault = fault.clone();
                cases.push(Case { fault, reason, krate });
            }
        }
    }
    cases
}

fn get(mirror: &MirrorProcess, krate: &BuiltCrate) -> Reply {
    mirror.get(&download(&krate.name, "1.0.0"))
}

/// `None` for an answer that was cut off, in its body or even before its head had left.
fn whole(mirror: &MirrorProcess, krate: &BuiltCrate) -> Option<Reply> {
    let reply = mirror.try_request("GET", &download(&krate.name, "1.0.0"), &[], b"");
    reply.ok().filter(|reply| reply.complete)
}

/// The first answer may be cut off, and one soon after it says why.
fn meets(mirror: &MirrorProcess, case: &Case) {
    let Case { fault, reason, krate } = case;
    let shown = format!("{fault:.40?} with {}", krate.name);
    let refusal = eventually(SOON, || whole(mirror, krate));
    let answer = refusal.unwrap_or_else(|| panic!("{shown}: never a whole answer"));
    let detail = detail(&answer);
    assert_eq!(answer.status, 502, "{shown}: {detail}");
    assert!(
        detail.contains(&format!("{} 1.0.0", krate.name)) && detail.contains(reason),
        "{shown}: {detail}"
    );
    assert!(answer.body.len() < 1_000, "{shown}: {detail}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(!is_kept(mirror, krate), "{shown}");
}

#[test]
fn no_fault_of_upstream_becomes_a_complete_wrong_body_and_all_heal() {
    let upstream = FakeUpstream::start();
    let cases = cases(&upstream, bad());
    let mirror = builder(&upstream).env("MIRROR_CACHE__MAX_FILE_SIZE", "1MiB").start();
    thread::scope(|scope| {
        for case in &cases {
            scope.spawn(|| meets(&mirror, case));
        }
    });
    assert!(mirror.kept_files().is_empty(), "{:?}", mirror.kept_files());
    wait_until("unfinished files are gone", || {
        std::fs::read_dir(mirror.data_dir().join("tmp")).unwrap().count() == 0
    });
    upstream.clear_faults();
    for case in &cases {
        let mut reply = None;
        wait_until("the next good answer heals it", || {
            let answer = get(&mirror, &case.krate);
            let done = answer.status == 200;
            reply = Some(answer);
            done
        });
        assert_whole(&reply.unwrap(), &case.krate);
        assert!(is_kept(&mirror, &case.krate));
    }
    assert_eq!(mirror.kept_files().len(), cases.len());
    assert_eq!(mirror.get("/healthz").status, 200);
}

#[test]
fn a_waiter_who_got_the_first_bytes_is_cut_off_and_not_finished() {
    let upstream = FakeUpstream::start();
    let mut krate = publish(&upstream, "late", "1.0.0", LARGE_BYTES);
    // right but for its last byte: nothing is seen of it before the comparison
    *krate.bytes.last_mut().unwrap() ^= 1;
    upstream.replace_crate_bytes("late", "1.0.0", &krate.bytes);
    let path = FakeUpstream::download_path("late", "1.0.0");
    let gate = upstream.hold_after(&path, 200_000);
    let mirror = start(&upstream);
    let mut clients: Vec<_> = (0..20)
        .map(|_| mirror.exchange("GET", &download("late", "1.0.0"), &[], b""))
        .collect();
    for client in &mut clients {
        assert!(!client.read_at_least(100_000).unwrap().is_empty());
    }
    gate.open();
    for client in clients {
        let (reply, _) = client.finish().unwrap();
        assert_eq!(
            (reply.status, reply.complete),
            (200, false),
            "{} bytes",
            reply.body.len()
        );
        assert!(
            reply.body.len() <= krate.bytes.len() - (64 << 10),
            "{} bytes",
            reply.body.len()
        );
    }
    let reply = get(&mirror, &krate);
    assert_eq!(reply.status, 502);
    assert!(detail(&reply).contains("checksum"), "{}", reply.text());
    assert_eq!(
        upstream.count(&path),
        1,
        "what waiters have cannot be made good by asking again"
    );
}

#[test]
fn unusual_answers_are_taken_and_no_header_of_upstream_is_passed_on() {
    let upstream = FakeUpstream::start();
    let cases = cases(&upstream, unusual().into_iter().map(|fault| (fault, "")).collect());
    let mirror = start(&upstream);
    let replies = cases
        .iter()
        .map(|case| mirror.exchange("GET", &download(&case.krate.name, "1.0.0"), &[], b""));
    for (exchange, case) in replies.collect::<Vec<_>>().into_iter().zip(&cases) {
        let (reply, _) = exchange.finish().unwrap();
        assert_whole(&reply, &case.krate);
        for header in [
            "set-cookie",
            "location",
            "content-disposition",
            "x-upstream",
            "strict-transport-security",
        ] {
            assert_eq!(reply.header(header), None, "{:?}", case.fault);
        }
    }
    assert_eq!(mirror.kept_files().len(), cases.len());
}

#[test]
fn transient_trouble_is_not_the_clients_trouble() {
    let upstream = FakeUpstream::start();
    let faults = [
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Reset,
        Fault::Raw(Vec::new()),
        Fault::CutAfter(700),
        Fault::CutAfter(250_000),
        Fault::ChunkedCut,
        Fault::ResetAfter(250_000),
    ];
    let mirror = start(&upstream);
    let asked: Vec<_> = faults
        .into_iter()
        .enumerate()
        .map(|(number, fault)| {
            let krate = publish(&upstream, &format!("shaky{number}"), "1.0.0", LARGE_BYTES);
            upstream.fault(&FakeUpstream::download_path(&krate.name, "1.0.0"), fault, Times::N(2));
            let exchange = mirror.exchange("GET", &download(&krate.name, "1.0.0"), &[], b"");
            (krate, exchange)
        })
        .collect();
    for (krate, exchange) in asked {
        assert_whole(&exchange.finish().unwrap().0, &krate);
        let path = FakeUpstream::download_path(&krate.name, "1.0.0");
        let connections: Vec<u64> = upstream
            .requests()
            .iter()
            .filter(|asked| asked.path == path)
            .map(|asked| asked.connection)
            .collect();
        assert_eq!(connections.len(), 3, "{}", krate.name);
        assert!(
            connections[1] != connections[0] && connections[2] != connections[1],
            "{}: tried again on a fresh connection",
            krate.name
        );
    }
}

#[test]
fn a_stalled_body_goes_on_where_it_stopped_once_upstream_is_itself_again() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "stalled", "1.0.0", LARGE_BYTES);
    let path = FakeUpstream::download_path("stalled", "1.0.0");
    upstream.fault(&path, Fault::StallAfter(150_000), Times::Once);
    let mirror = start(&upstream);
    let mut client = mirror.exchange("GET", &download("stalled", "1.0.0"), &[], b"");
    // at least the first 32 KiB go out as they come; after that, waking clients for less than 128 KiB waits for the next bytes
    assert!(client.read_at_least(30_000).unwrap().len() >= 30_000);
    assert!(!is_kept(&mirror, &krate));
    upstream.clear_faults();
    assert_whole(&client.finish().unwrap().0, &krate);
    assert!(upstream.wait_for(|log| log.iter().filter(|asked| asked.path == path).count() == 2, SOON));
}

/// What an old proxy sends; the body of its answer ends with a length or with the connection.
fn old_get(mirror: &MirrorProcess, krate: &BuiltCrate) -> Vec<u8> {
    let mut stream = TcpStream::connect(mirror.authority()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let path = download(&krate.name, "1.0.0");
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: h\r\n\r\n").as_bytes())
        .unwrap();
    let mut bytes = Vec::new();
    // a reset is an end as well
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn http10_clients_are_not_given_an_end_that_is_none() {
    let upstream = FakeUpstream::start();
    let mut wrong = publish(&upstream, "wrong", "1.0.0", LARGE_BYTES);
    *wrong.bytes.last_mut().unwrap() ^= 1;
    upstream.replace_crate_bytes("wrong", "1.0.0", &wrong.bytes);
    let right = publish(&upstream, "right", "1.0.0", LARGE_BYTES);
    let told = publish(&upstream, "told", "1.0.0", LARGE_BYTES);
    for name in ["wrong", "right"] {
        upstream.fault(
            &FakeUpstream::download_path(name, "1.0.0"),
            Fault::Chunked,
            Times::Always,
        );
    }
    let mirror = start(&upstream);
    let whole = |answer: &[u8], krate: &BuiltCrate| {
        let head = String::from_utf8_lossy(&answer[..answer.len().min(500)]).into_owned();
        let length = format!("\r\ncontent-length: {}\r\n", krate.bytes.len());
        head.to_ascii_lowercase().contains(&length) && answer.ends_with(&krate.bytes)
    };
    assert!(whole(&old_get(&mirror, &told), &told), "its length is known");
    for krate in [&wrong, &right] {
        let answer = old_get(&mirror, krate);
        let head = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        assert!(
            head.starts_with("HTTP/1.0 50") || whole(&answer, krate),
            "{}: {head}",
            krate.name
        );
    }
    wait_until("what is right is told with its length", || {
        whole(&old_get(&mirror, &right), &right)
    });
    assert!(old_get(&mirror, &wrong).starts_with(b"HTTP/1.0 502"));
}

#[test]
fn a_cut_is_seen_in_every_protocol() {
    let upstream = FakeUpstream::start();
    let mut krates = Vec::new();
    for (name, fault) in [("sized", None), ("chunked", Some(Fault::Chunked))] {
        for version in ["1.0.0", "1.0.1", "1.0.2"] {
            let mut krate = publish(&upstream, name, version, LARGE_BYTES);
            *krate.bytes.last_mut().unwrap() ^= 1;
            upstream.replace_crate_bytes(name, version, &krate.bytes);
            if let Some(fault) = &fault {
                upstream.fault(
                    &FakeUpstream::download_path(name, version),
                    fault.clone(),
                    Times::Always,
                );
            }
            krates.push(krate);
        }
    }
    let mirror = start(&upstream);
    let out = tempfile::tempdir().unwrap();
    let ways = ["--http1.1", "--http2", "--http2-prior-knowledge"];
    for (number, (krate, way)) in krates.iter().zip(ways.iter().cycle()).enumerate() {
        let Some(mut curl) = curl() else { return };
        let file = out.path().join(number.to_string());
        let url = mirror.url(&download(&krate.name, &krate.version));
        let sized = krate.name == "sized";
        let gate = upstream.hold_after(&FakeUpstream::download_path(&krate.name, &krate.version), 200_000);
        let curl = curl.args([way, "-w", "%{http_code}", "-o"]).arg(&file).arg(url);
        let curl = curl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let size = || std::fs::metadata(&file).map_or(0, |file| file.len());
        // chunks know no gate: then the refusal may come before the first byte
        wait_until("it has begun", || !sized || size() > 0);
        gate.open();
        let output = curl.wait_with_output().unwrap();
        let shown = format!("{way} {}: {}", krate.name, said(&output));
        let refused = !sized && output.stdout == b"502";
        assert!(refused || !output.status.success(), "taken for whole: {shown}");
        assert!(size() < krate.bytes.len() as u64, "{shown}");
    }
}
