use std::io::Read;

use flate2::read::GzDecoder;

use super::*;

/// What a client sees of one fault, once; the next request has the right answer again.
fn play(fault: Fault) -> std::io::Result<Reply> {
    let upstream = with_serde();
    upstream.fault(FILE, fault.clone(), Times::Once);
    let reply = http::get(&upstream.authority(), FILE);
    assert_eq!(get(&upstream, FILE).body, right(), "after {fault:?}");
    reply
}

fn right() -> Vec<u8> {
    krate("1.0.0").bytes
}

#[test]
fn other_answers() {
    for (fault, status, header, value) in [
        (Fault::Status(503), 503, "content-length", "29"),
        (
            Fault::StatusWithRetryAfter(429, Duration::from_secs(7)),
            429,
            "retry-after",
            "7",
        ),
        (Fault::Html200, 200, "content-type", "text/html"),
        (Fault::Json403, 403, "content-type", "application/json"),
        (Fault::Empty200, 200, "content-length", "0"),
        (
            Fault::Redirect(307, "http://127.0.0.1/x".to_owned()),
            307,
            "location",
            "http://127.0.0.1/x",
        ),
        (Fault::RedirectLoop, 302, "location", FILE),
        (
            Fault::ExtraHeaders(vec![("Set-Cookie".to_owned(), "a=b".to_owned())]),
            200,
            "set-cookie",
            "a=b",
        ),
        (Fault::NotModified, 304, "x", ""),
    ] {
        let reply = play(fault.clone()).unwrap();
        assert_eq!(reply.status, status, "{fault:?}");
        assert_eq!(reply.header(header).unwrap_or_default(), value, "{fault:?}");
        assert!(reply.complete, "{fault:?}");
    }
    assert_eq!(play(Fault::HeaderFlood).unwrap().headers.len(), 10_004);
    assert!(play(Fault::Raw(b"SSH-2.0-x\r\n".to_vec())).is_err());
}

#[test]
fn other_bodies_in_a_right_frame() {
    let wrong = play(Fault::WrongBytes).unwrap();
    assert!(wrong.complete && wrong.body.len() == right().len() && wrong.body != right());
    let bit = play(Fault::OneBitWrong).unwrap();
    let differ = bit.body.iter().zip(right()).filter(|(one, other)| **one != *other);
    assert!(bit.complete && bit.body.len() == right().len() && differ.count() == 1);
    let parts = play(Fault::Multipart206).unwrap();
    assert!(parts.status == 206 && parts.complete && parts.body.len() > right().len());
    let extra = play(Fault::ExtraBytes).unwrap();
    assert!(extra.complete && extra.body == [&right(), &b"extra"[..]].concat());
    let half = play(Fault::Partial206).unwrap();
    assert_eq!(
        (half.status, half.body.as_slice()),
        (206, &right()[..right().len() / 2])
    );
    assert!(
        half.header("content-range")
            .unwrap()
            .ends_with(&format!("/{}", right().len()))
    );
    let lie = play(Fault::GzipLie).unwrap();
    assert!(lie.header("content-encoding") == Some("gzip") && lie.body == right());
    let encoded = play(Fault::GzipEncoded).unwrap();
    let mut decoded = Vec::new();
    GzDecoder::new(encoded.body.as_slice())
        .read_to_end(&mut decoded)
        .unwrap();
    assert!(decoded == right() && encoded.header("content-encoding") == Some("gzip"));
    assert!(play(Fault::GzipBomb(1 << 20)).unwrap().body.len() < 1 << 12);
}

#[test]
fn cuts_and_frames() {
    let (right, all) = (right(), right().len());
    for (fault, size_bytes, complete, framing) in [
        (Fault::CutAfter(5), 5, false, "content-length"),
        (Fault::CutWithoutLength(5), 5, true, "connection"),
        (Fault::CloseDelimited, all, true, "connection"),
        (Fault::Chunked, all, true, "transfer-encoding"),
        (Fault::ContentLengthTooLarge, all, false, "content-length"),
        (Fault::ContentLengthTooSmall, all / 2, true, "content-length"),
        (
            Fault::Trickle {
                bytes: 20_000,
                every: Duration::from_millis(1),
            },
            all,
            true,
            "content-length",
        ),
        (
            Fault::Slow {
                bytes_per_second: 400_000,
            },
            all,
            true,
            "content-length",
        ),
        (Fault::Delay(Duration::from_millis(1)), all, true, "content-length"),
    ] {
        let reply = play(fault.clone()).unwrap();
        assert_eq!(
            (reply.body.as_slice(), reply.complete),
            (&right[..size_bytes], complete),
            "{fault:?}"
        );
        assert!(reply.header(framing).is_some(), "{fault:?}");
    }
    for fault in [Fault::ChunkedCut, Fault::BadChunk] {
        let cut = play(fault).unwrap();
        assert!(!cut.complete && !cut.body.is_empty() && right.starts_with(&cut.body));
    }
}

#[test]
fn heads_and_answers_that_can_be_read_in_two_ways() {
    let lengths = play(Fault::TwoLengths).unwrap();
    let given = lengths.headers.iter().filter(|(name, _)| name == "Content-Length");
    assert_eq!(given.count(), 2);
    let both = play(Fault::LengthAndChunks).unwrap();
    assert!(both.header("content-length").is_some() && both.body == right());
    assert!(play(Fault::Interim(3)).unwrap().body == right());
    assert!(play(Fault::SlowHead(Duration::from_micros(10))).unwrap().body == right());
    let first = play(Fault::SecondAnswer).unwrap();
    assert!(first.complete && first.body == right());
}

#[test]
fn resets_are_resets() {
    assert_eq!(
        play(Fault::Reset).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    let upstream = with_serde();
    upstream.fault(FILE, Fault::ResetAfter(5), Times::Once);
    let reply = http::get(&upstream.authority(), FILE);
    assert!(reply.is_err() || !reply.unwrap().complete);
}

#[test]
fn stalls_end_when_the_faults_are_cleared() {
    for (fault, size_bytes) in [
        (Fault::StallBeforeHead, None),
        (Fault::EndlessHead, None),
        (Fault::StallAfterHead, Some(0)),
        (Fault::StallAfter(7), Some(7)),
        (Fault::ContentLengthHuge, Some(right().len())),
        (
            Fault::Trickle {
                bytes: 7,
                every: SOON * 10,
            },
            Some(7),
        ),
        (Fault::Endless, Some(right().len() + 100_000)),
    ] {
        let upstream = with_serde();
        upstream.fault(FILE, fault.clone(), Times::Always);
        let mut held = Exchange::start(&upstream.authority(), "GET", FILE, &[], b"").unwrap();
        if let Some(size_bytes) = size_bytes {
            assert!(held.read_at_least(size_bytes).unwrap().len() >= size_bytes, "{fault:?}");
        }
        let played = crate::eventually(SOON, || (upstream.faults_played() == 1).then_some(()));
        assert!(played.is_some(), "{fault:?}");
        upstream.clear_faults();
        match held.finish() {
            Err(_) => assert_eq!(size_bytes, None, "{fault:?}"),
            Ok((reply, _)) => assert!(size_bytes.is_some() && !reply.complete, "{fault:?}"),
        }
        let closed = crate::eventually(SOON, || (upstream.open_connections() == 0).then_some(()));
        assert!(closed.is_some(), "{fault:?}");
    }
}
