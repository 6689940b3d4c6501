use std::time::Duration;

use super::Fault;

/// What comes of a fault for the client of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing of it may be taken: the client is refused or cut off.
    Refused,
    /// The bytes are right: the client may get them, or be refused.
    Unusual,
    /// As `Refused`, but only once a limit of time is over: about half a minute for each attempt.
    Stalls,
}

/// A fault with ordinary measures under the name that `docs/RELIABILITY.md` has for it.
#[derive(Debug, Clone)]
pub struct NamedFault {
    /// The name.
    pub name: &'static str,
    /// What is played.
    pub fault: Fault,
    /// What may come of it.
    pub effect: Effect,
}

impl NamedFault {
    /// Every kind of fault that an upstream can play.
    pub fn all() -> Vec<Self> {
        let with = |effect: Effect, faults: Vec<(&'static str, Fault)>| {
            let named = move |(name, fault)| Self { name, fault, effect };
            faults.into_iter().map(named)
        };

        with(Effect::Refused, statuses())
            .chain(with(Effect::Refused, heads()))
            .chain(with(Effect::Refused, framing()))
            .chain(with(Effect::Refused, bytes()))
            .chain(with(Effect::Unusual, unusual()))
            .chain(with(Effect::Stalls, stalls()))
            .collect()
    }
}

fn statuses() -> Vec<(&'static str, Fault)> {
    let to = |address: &str| Fault::Redirect(302, address.to_owned());
    vec![
        ("500 storm", Fault::Status(500)),
        ("503 storm", Fault::Status(503)),
        (
            "503 with Retry-After",
            Fault::StatusWithRetryAfter(503, Duration::from_secs(1)),
        ),
        ("429 storm", Fault::Status(429)),
        (
            "429 with Retry-After",
            Fault::StatusWithRetryAfter(429, Duration::from_secs(1)),
        ),
        ("404", Fault::Status(404)),
        ("204", Fault::Status(204)),
        ("JSON 403", Fault::Json403),
        ("304 unasked", Fault::NotModified),
        ("206 unasked", Fault::Partial206),
        ("206 in several parts", Fault::Multipart206),
        ("redirect without a Location", Fault::Status(301)),
        ("redirect loop", Fault::RedirectLoop),
        ("redirect to loopback", to("http://127.0.0.1:9/x")),
        ("redirect to link-local", to("http://169.254.169.254/latest/meta-data/")),
        ("redirect to a private address", to("http://10.0.0.1/x")),
        ("redirect to a file", to("file:///etc/passwd")),
    ]
}

fn heads() -> Vec<(&'static str, Fault)> {
    let raw = |bytes: &[u8]| Fault::Raw(bytes.to_vec());
    vec![
        ("reset before the head", Fault::Reset),
        ("closed before the head", raw(b"")),
        ("not HTTP", raw(b"SSH-2.0-OpenSSH\r\n")),
        (
            "head without an end",
            raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/gzip\r\nContent-Le"),
        ),
        (
            "NUL in a header",
            raw(b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nok"),
        ),
        (
            "negative length",
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok"),
        ),
        ("header flood", Fault::HeaderFlood),
        ("endless head", Fault::EndlessHead),
        ("interim answers", Fault::Interim(3)),
    ]
}

fn framing() -> Vec<(&'static str, Fault)> {
    vec![
        ("cut off with a length", Fault::CutAfter(700)),
        ("cut off without a length", Fault::CutWithoutLength(700)),
        ("whole without a length", Fault::CloseDelimited),
        ("cut off in chunks", Fault::ChunkedCut),
        ("chunk size that is no number", Fault::BadChunk),
        ("chunks and a length", Fault::LengthAndChunks),
        ("two lengths", Fault::TwoLengths),
        ("length too large", Fault::ContentLengthTooLarge),
        ("length too small", Fault::ContentLengthTooSmall),
        ("length of 2^63", Fault::ContentLengthHuge),
        ("reset in the body", Fault::ResetAfter(700)),
    ]
}

fn bytes() -> Vec<(&'static str, Fault)> {
    vec![
        ("HTML with 200", Fault::Html200),
        ("empty 200", Fault::Empty200),
        ("wrong bytes", Fault::WrongBytes),
        ("one bit wrong", Fault::OneBitWrong),
        ("extra bytes", Fault::ExtraBytes),
        ("endless", Fault::Endless),
        ("gzip lie", Fault::GzipLie),
        ("gzip unasked", Fault::GzipEncoded),
        ("gzip bomb", Fault::GzipBomb(8 << 20)),
    ]
}

fn unusual() -> Vec<(&'static str, Fault)> {
    let headers = [
        ("Set-Cookie", "a=b"),
        ("Location", "http://127.0.0.1:9/"),
        ("Content-Disposition", "attachment; filename=\"../../x\""),
        ("X-Upstream", "secret"),
        ("Strict-Transport-Security", "max-age=1"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    vec![
        ("chunks", Fault::Chunked),
        (
            "headers that are not for clients",
            Fault::ExtraHeaders(headers.to_vec()),
        ),
        ("second answer behind the first", Fault::SecondAnswer),
        ("slow head", Fault::SlowHead(Duration::from_millis(1))),
        ("late", Fault::Delay(Duration::from_millis(300))),
        (
            "in small pieces",
            Fault::Trickle {
                bytes: 60_000,
                every: Duration::from_millis(50),
            },
        ),
        (
            "slow",
            Fault::Slow {
                bytes_per_second: 1_000_000,
            },
        ),
    ]
}

fn stalls() -> Vec<(&'static str, Fault)> {
    let second = Duration::from_secs(1);
    vec![
        ("stall before the head", Fault::StallBeforeHead),
        ("stall after the head", Fault::StallAfterHead),
        ("stall in the body", Fault::StallAfter(700)),
        (
            "one byte a second",
            Fault::Trickle {
                bytes: 1,
                every: second,
            },
        ),
        ("head of one byte a second", Fault::SlowHead(second)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_is_there_once() {
        let all = NamedFault::all();
        let names: BTreeSet<_> = all.iter().map(|named| named.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().filter(|named| named.effect != Effect::Unusual).count() >= 25);
    }
}
