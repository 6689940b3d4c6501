//! Every fault of the fake upstream, each with a small file (which is whole before anything goes out) and a large one (which streams).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use testkit::{
    BuiltCrate, Effect, FakeUpstream, Fault, MirrorProcess, NamedFault, Reply, Times, curl, eventually, said,
};

use super::{LARGE_BYTES, SOON, assert_whole, builder, detail, download, is_kept, publish, start, wait_until};

/// What no client may be given, by name, with a word that the client after it reads.
fn bad() -> Vec<(Fault, &'static str)> {
    let named = NamedFault::all()
        .into_iter()
        .filter(|named| named.effect == Effect::Refused);
    let others = [
        (Fault::Status(410), "410"),
        (Fault::CutAfter(0), ""),
        (Fault::CutAfter(250_000), ""),
        (Fault::CutWithoutLength(200_000), "how long it is"),
        (Fault::ResetAfter(250_000), ""),
    ];
    named
        .map(|named| (named.fault, reason(named.name)))
        .chain(others)
        .collect()
}

fn reason(name: &str) -> &'static str {
    match name {
        "500 storm" => "500",
        "404" => "404",
        "204" => "204",
        "JSON 403" => "403",
        "304 unasked" => "304",
        "206 unasked" | "206 in several parts" => "206",
        "redirect without a Location" => "redirects",
        "HTML with 200" | "wrong bytes" | "one bit wrong" | "extra bytes" | "empty 200" => "checksum",
        // Without a length a cut looks like an end, so the client for upstream takes none of these, not even whole ones.
        "cut off without a length" | "whole without a length" => "how long it is",
        "endless" => "limit",
        "gzip lie" | "gzip unasked" | "gzip bomb" => "content-encoding",
        _ => "",
    }
}

/// A fault that reaches behind the end of a small file would not be one.
fn bites(fault: &Fault, krate: &BuiltCrate) -> bool {
    let size = krate.bytes.len();
    !matches!(fault, Fault::CutAfter(at) | Fault::CutWithoutLength(at) | Fault::ResetAfter(at) if *at >= size)
}

fn is_busy(fault: &Fault) -> bool {
    matches!(fault, Fault::Status(429 | 503) | Fault::StatusWithRetryAfter(..))
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
    // an upstream that is too busy is one to come back to
    let status = if is_busy(fault) { 503 } else { 502 };
    assert_eq!(answer.status, status, "{shown}: {detail}");
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
    let unusual = NamedFault::all()
        .into_iter()
        .filter(|named| named.effect == Effect::Unusual);
    let cases = cases(&upstream, unusual.map(|named| (named.fault, "")).collect());
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

/// 503 while nothing has come, a cut where something has.
fn is_ended(mirror: &MirrorProcess, case: &Case) {
    let shown = format!("{:.40?} with {}", case.fault, case.krate.name);
    let (reply, timing) = mirror.get_timed(&download(&case.krate.name, "1.0.0"));
    match reply.status {
        503 => assert!(reply.header("retry-after").is_some(), "{shown}"),
        status => assert_eq!((status, reply.complete), (200, false), "{shown}"),
    }
    // the head after 20 s at the latest, and three attempts of 30 s
    assert!(timing.head < SOON, "{shown}: {timing:?}");
    assert!(timing.total < 2 * SOON, "{shown}: {timing:?}");
}

#[test]
fn what_never_comes_to_an_end_is_ended_by_the_mirror() {
    let upstream = FakeUpstream::start();
    let stalls = NamedFault::all()
        .into_iter()
        .filter(|named| named.effect == Effect::Stalls);
    let cases = cases(&upstream, stalls.map(|named| (named.fault, "")).collect());
    let mirror = start(&upstream);
    thread::scope(|scope| {
        for case in &cases {
            scope.spawn(|| is_ended(&mirror, case));
        }
    });
    assert!(mirror.kept_files().is_empty());
    upstream.clear_faults();
    wait_until("all heal", || {
        let is_right = |case: &Case| whole(&mirror, &case.krate).is_some_and(|reply| reply.body == case.krate.bytes);
        cases.iter().all(is_right)
    });
}

/// What the documents say of faults is about these and no others.
#[test]
fn every_fault_has_its_line_in_the_documents() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/RELIABILITY.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text
        .split("\n##")
        .map(str::trim_start)
        .find(|section| section.starts_with("What upstream can do"))
        .unwrap();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let told: Vec<&str> = rows.map(|(name, _)| name).filter(|name| *name != "fault").collect();
    let played: Vec<&str> = NamedFault::all().iter().map(|named| named.name).collect();
    assert_eq!(told, played);
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
