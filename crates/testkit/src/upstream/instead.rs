//! The faults that are another answer, sent in the ordinary way.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Fault;
use super::content::Answer;

/// The answer to send instead of the right one; `None` if the fault is about how it is sent.
pub(super) fn instead(fault: &Fault, right: &Answer, path: &str) -> Option<Answer> {
    Some(match fault {
        Fault::Status(status) => Answer::new(*status, "text/plain", "a fault of the fake upstream\n"),
        Fault::StatusWithRetryAfter(status, after) => {
            Answer::new(*status, "text/plain", "come back later\n").with("Retry-After", after.as_secs().to_string())
        }
        Fault::Html200 => Answer::new(
            200,
            "text/html",
            "<!doctype html>\n<html><body><form>Log in to continue</form></body></html>\n",
        ),
        Fault::Json403 => Answer::new(
            403,
            "application/json",
            "{\"errors\":[{\"detail\":\"We are unable to process your request at this time.\"}]}",
        ),
        Fault::NotModified => Answer {
            status: 304,
            headers: Vec::new(),
            body: Arc::default(),
        },
        Fault::Redirect(status, location) => Answer::new(*status, "text/plain", "").with("Location", location),
        Fault::RedirectLoop => Answer::new(302, "text/plain", "").with("Location", path),
        Fault::ExtraHeaders(headers) => headers
            .iter()
            .fold(right.clone(), |answer, (name, value)| answer.with(name, value)),
        Fault::HeaderFlood => (0..10_000).fold(right.clone(), |answer, number| {
            answer.with(&format!("X-Flood-{number}"), "x".repeat(85))
        }),
        _ => return other_body(fault, right),
    })
}

fn other_body(fault: &Fault, right: &Answer) -> Option<Answer> {
    let body = |bytes: Vec<u8>| Answer {
        body: Arc::new(bytes),
        ..right.clone()
    };
    Some(match fault {
        Fault::WrongBytes => body(right.body.iter().map(|byte| !byte).collect()),
        Fault::OneBitWrong => {
            let mut bytes = right.body.to_vec();
            let at = bytes.len().saturating_sub(11);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1);
            body(bytes)
        }
        Fault::ExtraBytes => body([&right.body, &b"extra"[..]].concat()),
        Fault::Empty200 => Answer {
            status: 200,
            ..body(Vec::new())
        },
        Fault::Partial206 => {
            let (half, whole) = (right.body.len() / 2, right.body.len());
            let range = format!("bytes 0-{}/{whole}", half.saturating_sub(1));
            Answer {
                status: 206,
                ..body(right.body[..half].to_vec()).with("Content-Range", range)
            }
        }
        Fault::Multipart206 => multipart(right),
        Fault::GzipLie => right.clone().with("Content-Encoding", "gzip"),
        Fault::GzipEncoded => body(gzip(&right.body)).with("Content-Encoding", "gzip"),
        Fault::GzipBomb(size_bytes) => body(gzip(&vec![0; *size_bytes])).with("Content-Encoding", "gzip"),
        _ => return None,
    })
}

fn multipart(right: &Answer) -> Answer {
    let whole = right.body.len();
    let part = |first: usize, end: usize| {
        let head = format!(
            "--part\r\nContent-Range: bytes {first}-{}/{whole}\r\n\r\n",
            end.max(1) - 1
        );
        [head.as_bytes(), &right.body[first..end], b"\r\n"].concat()
    };
    let body = [part(0, whole / 2), part(whole / 2, whole), b"--part--\r\n".to_vec()].concat();
    Answer::new(206, "multipart/byteranges; boundary=part", body)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(bytes).expect("writing to memory cannot fail");
    gzip.finish().expect("writing to memory cannot fail")
}
