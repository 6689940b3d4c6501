//! `Upgrade: h2c` (RFC 7540, section 3.2): which requests take it, and what HTTP/2 they become.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{BufMut, BytesMut};

use crate::{
    frames::{self, PREFACE},
    head::{Framing, Head},
};

/// The answer that ends HTTP/1 on a connection.
pub(crate) const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

/// Most settings in one header.
const SETTINGS_LIMIT: usize = 32;
/// Bytes of one setting: two of its number, four of its value.
const SETTING_LEN: usize = 6;

/// Fields that speak of the connection and not of the request.
const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "upgrade",
];

/// Fields that promise a body, or change what the answer looks like.
const UNFIT: [&str; 4] = ["content-length", "expect", "te", "trailer"];

/// The beginning of an HTTP/2 connection whose stream 1 is this request; `None` if the request
/// does not ask for HTTP/2, or should rather stay what it is.
pub(crate) fn as_http2(head: &Head<'_>) -> Option<BytesMut> {
    let bodiless = head.framing == Framing::None && matches!(head.method, b"GET" | b"HEAD");
    let unfit = UNFIT.iter().any(|name| head.fields.iter().any(|field| field.is(name)));
    if !bodiless || unfit || !head.is_http11 || !wants_h2c(head) {
        return None;
    }
    if !settings_are_fine(head.only("http2-settings")?.value) {
        return None;
    }
    let authority = head.only("host")?.value;
    if !is_plain_authority(authority) || !is_plain_path(head.target) {
        return None;
    }
    let mut block = BytesMut::new();
    put_field(&mut block, b":method", head.method);
    put_field(&mut block, b":scheme", b"http");
    put_field(&mut block, b":authority", authority);
    put_field(&mut block, b":path", head.target);
    put_fields(&mut block, head);
    if block.len() > frames::DEFAULT_FRAME_LIMIT {
        return None;
    }
    let mut out = BytesMut::from(PREFACE);
    let flags = frames::END_STREAM | frames::END_HEADERS;
    frames::put_header(&mut out, block.len(), frames::HEADERS, flags, 1);
    out.put_slice(&block);
    Some(out)
}

/// The fields of the request itself, those left out that `Connection` claims for the connection.
fn put_fields(block: &mut BytesMut, head: &Head<'_>) {
    let named: Vec<_> = options(head, "connection").collect();
    for field in &head.fields {
        let hop = HOP_BY_HOP.iter().any(|name| field.is(name));
        if !hop && !named.iter().any(|name| name.eq_ignore_ascii_case(field.name)) {
            put_field(block, &field.name.to_ascii_lowercase(), field.value);
        }
    }
}

fn options<'a>(head: &'a Head<'_>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let fields = head.fields.iter().filter(move |field| field.is(name));
    fields.flat_map(|field| field.options())
}

fn wants_h2c(head: &Head<'_>) -> bool {
    let has = |name, option: &[u8]| options(head, name).any(|o| o.eq_ignore_ascii_case(option));
    has("upgrade", b"h2c")
        && has("connection", b"upgrade")
        && has("connection", b"http2-settings")
        && !has("connection", b"close")
}

/// Whether the settings are well formed and none asks us to stay below what HTTP/2 starts with.
///
/// The h2 crate does not hear of this header: it meets the same settings as the first frame that
/// the client sends after the 101, and may use the defaults until then.
fn settings_are_fine(value: &[u8]) -> bool {
    if value.len() > SETTINGS_LIMIT * SETTING_LEN * 4 / 3 {
        return false;
    }
    let Ok(payload) = URL_SAFE_NO_PAD.decode(value) else {
        return false;
    };
    let settings = payload.chunks_exact(SETTING_LEN);
    settings.remainder().is_empty()
        && settings.into_iter().all(|setting| {
            let number = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match number {
                // HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE
                1 => value >= 4_096,
                2 => value <= 1,
                4 => (65_535..=0x7fff_ffff).contains(&value),
                5 => (16_384..=0x00ff_ffff).contains(&value),
                _ => true,
            }
        })
}

/// What the `http` crate surely takes; anything else is better answered over HTTP/1 with a 400
/// than over HTTP/2 with a reset stream.
fn is_plain_authority(host: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let (name, port) = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !host.ends_with(b"]") => (&host[..colon], &host[colon + 1..]),
        _ => (host, &b"0"[..]),
    };
    let port_is_fine = (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit);
    let name_is_fine = match name.strip_prefix(b"[").and_then(|n| n.strip_suffix(b"]")) {
        Some(v6) => v6.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
        None => name.iter().all(allowed),
    };
    port_is_fine && name_is_fine && !name.is_empty()
}

fn is_plain_path(target: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?".contains(byte);
    target.starts_with(b"/") && target.iter().all(allowed)
}

/// HPACK: a literal field that is not added to the table.
fn put_field(block: &mut BytesMut, name: &[u8], value: &[u8]) {
    block.put_u8(0);
    put_string(block, name);
    put_string(block, value);
}

/// HPACK: a length with a prefix of seven bits, and the bytes as they are.
fn put_string(block: &mut BytesMut, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        block.put_u8(length as u8);
    } else {
        block.put_u8(127);
        length -= 127;
        while length >= 128 {
            block.put_u8((length % 128 + 128) as u8);
            length /= 128;
        }
        block.put_u8(length as u8);
    }
    block.put_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n";
    const SETTINGS: &str = "HTTP2-Settings: AAMAAABkAAQAAQAAAAIAAAAA\r\n";

    fn upgraded(head: &str) -> Option<BytesMut> {
        as_http2(&Head::parse(head.as_bytes()).unwrap())
    }

    fn with(line: &str, fields: &str) -> bool {
        let head = format!("{line} HTTP/1.1\r\nHost: a:1\r\n{OFFER}{SETTINGS}{fields}\r\n");
        upgraded(&head).is_some()
    }

    fn with_settings(bytes: &[u8]) -> bool {
        let text = URL_SAFE_NO_PAD.encode(bytes);
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{OFFER}HTTP2-Settings: {text}\r\n\r\n");
        upgraded(&head).is_some()
    }

    #[test]
    fn a_request_becomes_stream_one() {
        let head = format!("GET /x HTTP/1.1\r\nHost: a\r\n{OFFER}{SETTINGS}Accept: b\r\n\r\n");
        let due = b"\0\x07:method\x03GET\0\x07:scheme\x04http\0\x0a:authority\x01a\
            \0\x05:path\x02/x\0\x06accept\x01b";
        let out = upgraded(&head).unwrap();
        let frame = out.strip_prefix(PREFACE).unwrap();
        assert_eq!(frame[..9], [0, 0, due.len() as u8, 1, 5, 0, 0, 0, 1]);
        assert_eq!(&frame[9..], due);
    }

    #[test]
    fn only_plain_requests_without_a_body_are_taken() {
        assert!(with("GET /x?y=z", ""));
        assert!(with("HEAD /x", "Content-Type: a\r\n"));
        assert!(!with("POST /x", ""));
        assert!(!with("GET /x", "Content-Length: 2\r\n"));
        assert!(!with("GET /x", "Content-Length: 0\r\n"));
        assert!(!with("GET /x", "Transfer-Encoding: chunked\r\n"));
        assert!(!with("GET /x", "Expect: 100-continue\r\n"));
        assert!(!with("GET /x", "Connection: close\r\n"));
        assert!(!with("GET /x", "Host: b\r\n"));
        assert!(!with("GET /x", SETTINGS));
        assert!(!with("GET http://a/x", ""));
        assert!(!with("OPTIONS *", ""));
        assert!(!with("GET /<x>", ""));
        assert!(!with("GET /x", &format!("X: {}\r\n", "y".repeat(16_384))));
    }

    #[test]
    fn an_incomplete_offer_is_none() {
        for fields in [
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            "Connection: HTTP2-Settings\r\nUpgrade: h2c\r\n",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket\r\n",
            "Connection: Upgrade, HTTP2-Settings\r\n",
        ] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{SETTINGS}{fields}\r\n");
            assert!(upgraded(&head).is_none(), "{fields}");
        }
        let unnamed = format!("GET / HTTP/1.1\r\n{OFFER}{SETTINGS}\r\n");
        assert!(upgraded(&unnamed).is_none());
    }

    #[test]
    fn settings_are_checked() {
        assert!(with_settings(&[]));
        assert!(with_settings(&[0, 4, 0, 1, 0, 0, 0, 99, 1, 2, 3, 4]));
        assert!(!with_settings(&[0, 4, 0, 1, 0]));
        assert!(!with_settings(&[0, 4, 0, 0, 0, 1]));
        assert!(!with_settings(&[0, 4, 0x80, 0, 0, 0]));
        assert!(!with_settings(&[0, 2, 0, 0, 0, 2]));
        assert!(!with_settings(&[0, 5, 0, 0, 0x3f, 0xff]));
        assert!(!with_settings(&[0; SETTING_LEN * (SETTINGS_LIMIT + 1)]));
        let padded = format!("GET / HTTP/1.1\r\nHost: a\r\n{OFFER}HTTP2-Settings: AA==\r\n\r\n");
        assert!(upgraded(&padded).is_none());
    }

    #[test]
    fn authorities_are_checked() {
        for host in ["a", "a.b-c_d:80", "127.0.0.1:1", "[::1]", "[::1]:8080"] {
            assert!(is_plain_authority(host.as_bytes()), "{host}");
        }
        for host in ["", ":80", "a:", "a:b", "u@a", "a/b", "::1", "[", "a:123456"] {
            assert!(!is_plain_authority(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn long_strings_have_long_lengths() {
        let mut out = BytesMut::new();
        put_string(&mut out, &[b'a'; 1337]);
        assert_eq!(out[..3], [127, 0xba, 0x09]);
    }
}
