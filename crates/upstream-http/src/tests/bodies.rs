//! Where bodies end, and what is said when they do not.

use std::time::{Duration, Instant};

use super::{
    LIMIT, client_for, config, fetch, get, run,
    server::{Reply, Server, ok},
    start,
};
use crate::{Error, Request};

/// What comes of one scripted response that is followed by the end of the connection.
fn outcome(reply: &'static str) -> Result<(u16, Vec<u8>), Error> {
    let server = Server::saying(move || Reply::Close(reply.as_bytes().to_vec()));
    run(fetch(&client_for(&server), server.url("/")))
}

#[test]
fn complete_bodies_arrive() {
    let table: [(&str, u16, &str); 8] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", 404, "no"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            200,
            "hello",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            200,
            "hello",
        ),
        ("HTTP/1.1 204 None\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\nhi",
            200,
            "hi",
        ),
    ];
    for (reply, status, body) in table {
        let (got, bytes) = outcome(reply).unwrap_or_else(|error| panic!("{reply:?}: {error}"));
        assert_eq!((got, bytes.as_slice()), (status, body.as_bytes()), "{reply:?}");
    }
}

#[test]
fn a_304_has_no_body_whatever_its_length_says() {
    for head in ["Content-Length: 10000\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let reply = format!("HTTP/1.1 304 Same\r\nETag: \"a\"\r\n{head}\r\n");
        let server = Server::saying(move || Reply::Hold(reply.clone().into_bytes()));
        let client = client_for(&server);
        let (status, etag, body) = run(async {
            let response = get(&client, server.url("/")).await.unwrap();
            let body = response.body.collect(LIMIT).await.unwrap();
            (response.status, response.etag, body)
        });
        assert_eq!((status, etag.as_deref(), &body[..]), (304, Some("\"a\""), &b""[..]));
    }
}

#[test]
fn responses_without_a_clear_end_are_refused() {
    let table = [
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 404 No\r\n\r\nno",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 103 Hints\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
    ];
    for reply in table {
        match outcome(reply) {
            Err(error @ Error::Framing { .. }) => assert!(!error.is_transient()),
            other => panic!("{reply:?}: {other:?}"),
        }
    }
}

#[test]
fn bodies_that_are_cut_are_errors() {
    let table: [(&str, u64, Option<u64>); 7] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", 5, Some(9)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 0, Some(9)),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            5,
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
            5,
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
            5,
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            5,
            None,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, None),
    ];
    for (reply, received, expected) in table {
        match outcome(reply) {
            Err(
                error @ Error::Truncated {
                    received_bytes,
                    expected_bytes,
                    ..
                },
            ) => {
                assert_eq!((received_bytes, expected_bytes), (received, expected), "{reply:?}");
                assert!(error.is_transient());
            }
            other => panic!("{reply:?}: {other:?}"),
        }
    }
}

#[test]
fn encoded_bodies_are_refused() {
    for encoding in ["gzip", "br", "identity, gzip", "GZIP"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n");
        let server = Server::saying(move || Reply::Close(format!("{head}Content-Length: 2\r\n\r\nhi").into()));
        let outcome = run(fetch(&client_for(&server), server.url("/")));
        assert!(matches!(outcome, Err(Error::Encoded { .. })), "{encoding}: {outcome:?}");
    }
}

#[test]
fn bodies_over_the_limit_are_refused() {
    let server = Server::start(|seen| match seen.target() {
        "/length" => Reply::Keep(ok("0123456789")),
        _ => {
            Reply::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n".to_vec())
        }
    });
    let client = client_for(&server);
    run(async {
        let limited = |path, limit| client.get(Request::get(server.url(path), limit));
        assert!(matches!(
            limited("/length", 9).await,
            Err(Error::TooLarge { limit_bytes: 9, .. })
        ));
        let body = limited("/length", 10).await.unwrap().body;
        assert!(matches!(
            body.collect(9).await,
            Err(Error::TooLarge { limit_bytes: 9, .. })
        ));
        let body = limited("/chunked", 9).await.unwrap().body;
        assert!(matches!(
            body.collect(LIMIT).await,
            Err(Error::TooLarge { limit_bytes: 9, .. })
        ));
        let body = limited("/chunked", 10).await.unwrap().body;
        assert_eq!(&body.collect(10).await.unwrap()[..], b"0123456789");
    });
}

#[test]
fn a_body_that_stops_is_cut() {
    let server = Server::saying(|| Reply::Hold(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec()));
    let mut config = config();
    config.stall_timeout = Duration::from_millis(200);
    let client = start(config);
    client.trust(server.authority(), None);
    run(async {
        let mut body = get(&client, server.url("/")).await.unwrap().body;
        assert_eq!(&body.next().await.unwrap().unwrap()[..], b"hello");
        let error = body.next().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Stalled { received_bytes: 5, .. }), "{error}");
        assert!(error.is_transient() && error.is_timeout());
        assert!(body.next().await.is_none());
    });
    server.wait_closed(1);
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let server = Server::saying(|| Reply::Hold(b"HTTP/1.1 200".to_vec()));
    let mut config = config();
    config.head_timeout = Duration::from_millis(200);
    let client = start(config);
    client.trust(server.authority(), None);
    let error = run(get(&client, server.url("/"))).unwrap_err();
    assert!(matches!(error, Error::HeadTimeout { .. }), "{error}");
    server.wait_closed(1);
}

#[test]
fn a_deadline_holds_for_head_and_body() {
    let server = Server::start(|seen| match seen.target() {
        "/head" => Reply::Hold(Vec::new()),
        _ => Reply::Hold(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec()),
    });
    let client = client_for(&server);
    run(async {
        let within = |path, wait| {
            let mut request = Request::get(server.url(path), LIMIT);
            request.deadline = Some(Instant::now() + wait);
            client.get(request)
        };
        let error = within("/head", Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
        let error = within("/", Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
        let body = within("/body", Duration::from_millis(500)).await.unwrap().body;
        let error = body.collect(LIMIT).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    });
    server.wait_closed(2);
}

#[test]
fn dropping_a_body_or_a_request_ends_the_transfer() {
    let server = Server::start(|seen| match seen.target() {
        "/head" => Reply::Hold(Vec::new()),
        _ => Reply::Hold(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".to_vec()),
    });
    let client = client_for(&server);
    run(async {
        let mut body = get(&client, server.url("/body")).await.unwrap().body;
        assert_eq!(&body.next().await.unwrap().unwrap()[..], b"hello");
        drop(body);
        server.wait_closed(1);
        let asking = get(&client, server.url("/head"));
        let impatient = tokio::time::timeout(Duration::from_millis(200), asking).await;
        assert!(impatient.is_err());
    });
    server.wait_closed(2);
}

#[test]
fn a_body_outlives_the_last_handle() {
    let long = "x".repeat(300_000);
    let reply = ok(&long);
    let server = Server::saying(move || Reply::Close(reply.clone()));
    let client = client_for(&server);
    let body = run(async {
        let body = get(&client, server.url("/")).await.unwrap().body;
        drop(client);
        body.collect(LIMIT).await.unwrap()
    });
    assert_eq!(body.len(), long.len());
}

#[test]
fn only_harmless_headers_come_through() {
    let head = |extra: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{extra}\r\n").into_bytes();
    let long = format!("ETag: \"{}\"\r\n", "a".repeat(255));
    let server = Server::start(move |seen| {
        Reply::Keep(match seen.target() {
            "/fine" => head("ETag: W/\"a\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nRetry-After: 120\r\n"),
            "/date" => head("Retry-After: Thu, 01 Jan 2026 00:00:00 GMT\r\n"),
            "/long" => head(&long),
            _ => head("ETag: \"a\u{fc}\"\r\nRetry-After: 99999999999\r\n"),
        })
    });
    let client = client_for(&server);
    run(async {
        let fine = get(&client, server.url("/fine")).await.unwrap();
        assert_eq!(fine.etag.as_deref(), Some("W/\"a\""));
        assert_eq!(fine.last_modified.as_deref(), Some("Thu, 01 Jan 2026 00:00:00 GMT"));
        assert_eq!(fine.retry_after, Some(Duration::from_secs(120)));
        assert_eq!(fine.content_length, Some(0));
        let date = get(&client, server.url("/date")).await.unwrap();
        assert_eq!(date.retry_after, Some(Duration::ZERO));
        assert_eq!(get(&client, server.url("/long")).await.unwrap().etag, None);
        let odd = get(&client, server.url("/odd")).await.unwrap();
        assert_eq!((odd.etag, odd.retry_after), (None, Some(Duration::from_secs(86400))));
    });
}
