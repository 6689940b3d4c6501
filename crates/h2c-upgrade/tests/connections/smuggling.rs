//! Everything that HTTP parsers are known to read differently gets one 400 and the end.

use crate::support::{config, start};

const SECOND: &str = "GET /head HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn doubtful_requests_are_the_last() {
    let server = start(config());
    for head in [
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na",
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /body HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /head HTTP/1.1\nHost: a\n\n",
        "GET /head HTTP/1.1\r\nHost: a\r\nX: a\n\r\n\r\n",
        "GET /head HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET /head HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        "GET /head HTTP/1.1\r\nHost: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
        "GET /head HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET /head HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET /head HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /head HTTP/1.1\r\n\r\n",
        "GET  /head HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /head\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00",
    ] {
        // As the first request of a connection, and after another.
        for before in ["", SECOND] {
            let mut client = server.connect();
            client.send([before, head, SECOND].concat());
            if !before.is_empty() {
                assert_eq!(client.answer().status, 200, "{head:?}");
            }
            assert_eq!(client.answer().status, 400, "{head:?}");
            assert_eq!(client.rest(), b"", "{head:?}");
        }
    }
    assert_eq!(server.connections.upgraded(), 0);
}

#[test]
fn nothing_follows_a_broken_body() {
    let server = start(config());
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "-1\r\n\r\n0\r\n\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\nab\r\n0\r\n\r\n",
        "2;a\nb\r\nab\r\n0\r\n\r\n",
        "0\r\nA: b\nC: d\r\n\r\n",
        "0\n\n",
    ] {
        let mut client = server.connect();
        let head = "POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send([head, body, SECOND].concat());
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(!rest.contains(" 200 "), "{body:?}: {rest}");
        assert!(rest.matches("HTTP/1.1 ").count() <= 2, "{body:?}: {rest}");
    }
}

#[test]
fn large_heads_get_431() {
    let server = start(config());
    let long = format!("GET /head HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(300_000));
    let many = format!("GET /head HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: a\r\n".repeat(200));
    for head in [long, many] {
        let mut client = server.connect();
        assert_eq!(client.ask(head).status, 431);
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn absolute_form_is_understood() {
    let server = start(config());
    let mut client = server.connect();
    let answer = client.ask("GET http://b/head HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(client.ask(SECOND).status, 200);
}
