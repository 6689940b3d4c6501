use super::*;

const CARGO: &[u8] = b"GET /index/config.json HTTP/1.1\r\nHost: 127.0.0.1:18311\r\n\
    User-Agent: cargo/1.95.0\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
    HTTP2-Settings: AAMAAABkAAQAAQAAAAIAAAAA\r\naccept: text/plain\r\n\r\n";

fn rewritten(head: &[u8]) -> String {
    let mut out = BytesMut::new();
    Head::parse(head).unwrap().write_without_upgrade(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn framing_of(fields: &str) -> Result<Framing, Refusal> {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    Head::parse(head.as_bytes()).map(|head| head.framing)
}

#[test]
fn cargos_offer_is_taken_out() {
    let out = rewritten(CARGO);
    assert_eq!(
        out,
        "GET /index/config.json HTTP/1.1\r\nHost: 127.0.0.1:18311\r\n\
         User-Agent: cargo/1.95.0\r\naccept: text/plain\r\n\r\n"
    );
}

#[test]
fn other_connection_options_stay() {
    let head = b"GET / HTTP/1.1\r\nconnection: close , UPGRADE,x\r\nConnection:  keep-alive\r\n\r\n";
    assert_eq!(
        rewritten(head),
        "GET / HTTP/1.1\r\nConnection: close, x\r\nConnection:  keep-alive\r\n\r\n"
    );
}

#[test]
fn a_head_ends_where_it_ends_at_any_split() {
    for split in 0..CARGO.len() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.feed(&CARGO[..split]), Scan::More);
        assert_eq!(scanner.feed(&CARGO[split..]), Scan::End(CARGO.len() - split));
    }
}

#[test]
fn unclear_lines_are_refused_at_once() {
    for head in [
        &b"GET / HTTP/1.1\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n folded",
        b"GET / HTTP/1.1\r\nHost: a\rb",
        b"GET / HTTP/1.1\r\nHost: a\0",
        b" GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
    ] {
        let scan = Scanner::default().feed(head);
        assert_eq!(scan, Scan::Refused(Refusal::Malformed), "{head:?}");
    }
}

#[test]
fn long_heads_are_refused() {
    let long = vec![b'a'; HEAD_LIMIT + 1];
    assert_eq!(Scanner::default().feed(&long), Scan::Refused(Refusal::TooLarge));
    let many = "a: b\r\n".repeat(FIELD_LIMIT + 2);
    assert_eq!(
        Scanner::default().feed(many.as_bytes()),
        Scan::Refused(Refusal::TooLarge)
    );
}

#[test]
fn bodies_are_framed_by_one_rule() {
    assert_eq!(framing_of(""), Ok(Framing::None));
    assert_eq!(framing_of("content-length: 12\r\n"), Ok(Framing::Length(12)));
    assert_eq!(framing_of("Content-Length: 0\r\n"), Ok(Framing::None));
    assert_eq!(framing_of("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
}

#[test]
fn doubtful_bodies_are_refused() {
    for fields in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 1\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "no colon\r\n",
        ": no name\r\n",
    ] {
        assert_eq!(framing_of(fields), Err(Refusal::Malformed), "{fields:?}");
    }
}

#[test]
fn odd_request_lines_are_refused() {
    for line in [
        "GET /",
        "GET / HTTP/1.1 x",
        "GET  / HTTP/1.1",
        "GET / HTTP/2.0",
        "PRI * HTTP/2.0",
        "GET / http/1.1",
        "CONNECT a:1 HTTP/1.1",
        "G(T / HTTP/1.1",
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        let refused = Head::parse(head.as_bytes()).err();
        assert_eq!(refused, Some(Refusal::Malformed), "{line}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(Head::parse(old).err(), Some(Refusal::Malformed));
}
