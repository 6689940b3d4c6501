//! Connections: pooled, dead, fresh, refused; and what a request looks like.

use std::{net::TcpListener, thread};

use super::{
    LIMIT, client_for, fetch, get, run,
    server::{Reply, Server, ok},
    start, url,
};
use crate::{Config, Error, Request, UpstreamHttp};

#[test]
fn a_request_says_what_it_must_and_no_more() {
    let server = Server::saying(|| Reply::Keep(ok("")));
    let client = client_for(&server);
    let request = Request::get(server.url("/a/b?c=d"), LIMIT).with_header("If-None-Match", "\"e\"");
    run(client.get(request)).unwrap();
    let seen = server.seen().remove(0);
    assert!(seen.head.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("Host"), Some(server.authority().to_string().as_str()));
    assert_eq!(seen.header("User-Agent"), Some("mirror-test (nobody@localhost)"));
    assert_eq!(seen.header("Accept-Encoding"), Some("identity"));
    assert_eq!(seen.header("If-None-Match"), Some("\"e\""));
    for absent in ["Authorization", "Proxy-Authorization", "Cookie", "Range"] {
        assert_eq!(seen.header(absent), None);
    }
}

#[test]
fn callers_cannot_set_what_is_not_theirs() {
    let server = Server::saying(|| Reply::Keep(ok("")));
    let client = client_for(&server);
    let table = [
        ("Authorization", "x"),
        ("host", "x"),
        ("Transfer-Encoding", "chunked"),
        ("Accept-Encoding", "gzip"),
        ("a b", "x"),
        ("x", "a\r\nb: c"),
    ];
    for (name, value) in table {
        let request = Request::get(server.url("/"), LIMIT).with_header(name, value);
        let error = run(client.get(request)).unwrap_err();
        assert!(matches!(error, Error::InvalidHeader { .. }), "{name}: {error}");
    }
    assert_eq!(server.connections(), 0);
    let error = UpstreamHttp::start(Config::new("a\r\nb")).unwrap_err();
    assert!(matches!(error, Error::InvalidHeader { .. }), "{error}");
}

#[test]
fn connections_are_kept_unless_a_fresh_one_is_wanted() {
    let server = Server::saying(|| Reply::Keep(ok("hello")));
    let client = client_for(&server);
    run(async {
        for _ in 0..3 {
            fetch(&client, server.url("/")).await.unwrap();
        }
        assert_eq!(server.connections(), 1);
        for _ in 0..2 {
            let mut request = Request::get(server.url("/"), LIMIT);
            request.fresh_connection = true;
            let body = client.get(request).await.unwrap().body;
            body.collect(LIMIT).await.unwrap();
        }
        assert_eq!(server.connections(), 3);
        fetch(&client, server.url("/")).await.unwrap();
        assert_eq!(server.connections(), 3);
    });
}

#[test]
fn a_pooled_connection_that_dies_costs_one_more_try() {
    // Takes the second request on each connection and says nothing.
    let server = Server::start(|seen| match seen.target() {
        "/dead" => Reply::Close(Vec::new()),
        "/once" if seen.connection == 1 => Reply::Close(Vec::new()),
        _ => Reply::Keep(ok("hello")),
    });
    let client = client_for(&server);
    run(async {
        fetch(&client, server.url("/")).await.unwrap();
        assert_eq!(fetch(&client, server.url("/once")).await.unwrap().1, b"hello");
        assert_eq!(server.connections(), 2);
        // A connection that was not pooled is upstream's answer.
        let before = server.seen().len();
        let error = client.get(Request {
            fresh_connection: true,
            ..Request::get(server.url("/dead"), LIMIT)
        });
        let error = error.await.unwrap_err();
        assert!(matches!(error, Error::Disconnected { .. }), "{error}");
        assert!(error.is_transient());
        assert_eq!(server.seen().len(), before + 1);
        // And one more try is all there is.
        fetch(&client, server.url("/")).await.unwrap();
        let before = server.seen().len();
        let error = fetch(&client, server.url("/dead")).await.unwrap_err();
        assert!(matches!(error, Error::Disconnected { .. }), "{error}");
        assert_eq!(server.seen().len(), before + 2);
    });
}

#[test]
fn a_response_after_a_stale_connection_is_whole() {
    // The pool reads the end of the closed connection during the try that gets a chunked body from a new one.
    let server = Server::start(|_| {
        Reply::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec())
    });
    let client = client_for(&server);
    run(async {
        for round in 1..=3 {
            assert_eq!(fetch(&client, server.url("/")).await.unwrap().1, b"hello");
            server.wait_closed(round);
        }
    });
}

#[test]
fn many_requests_at_once_each_get_their_own_answer() {
    let server = Server::start(|seen| Reply::Keep(ok(seen.target())));
    let client = client_for(&server);
    thread::scope(|scope| {
        for number in 0..8 {
            let (client, server) = (&client, &server);
            scope.spawn(move || {
                for round in 0..20 {
                    let path = format!("/{number}/{round}");
                    let (_, body) = run(fetch(client, server.url(&path))).unwrap();
                    assert_eq!(body, path.as_bytes());
                }
            });
        }
    });
}

#[test]
fn nobody_listening_and_no_such_host_are_told_apart() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = start(super::config());
    client.trust(format!("127.0.0.1:{port}").parse().unwrap(), None);
    run(async {
        let error = get(&client, url(&format!("http://127.0.0.1:{port}/")))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert!(error.to_string().contains("refused"), "{error}");
        // A label is too long for any name server to be asked.
        let nowhere = format!("http://{}.invalid/", "a".repeat(64));
        let error = get(&client, url(&nowhere)).await.unwrap_err();
        assert!(matches!(error, Error::Resolve { .. }), "{error}");
        assert!(error.is_transient());
    });
}

#[test]
fn a_host_with_a_dead_address_is_reached_by_the_other() {
    // `localhost` is ::1 too on most systems, where nobody listens.
    let server = Server::saying(|| Reply::Keep(ok("hello")));
    let client = start(super::config());
    client.trust(format!("localhost:{}", server.port()).parse().unwrap(), None);
    let url = url(&format!("http://localhost:{}/", server.port()));
    assert_eq!(run(fetch(&client, url)).unwrap().1, b"hello");
}

#[test]
fn the_last_handle_takes_the_pool_along() {
    let server = Server::saying(|| Reply::Keep(ok("hello")));
    let client = client_for(&server);
    run(fetch(&client, server.url("/"))).unwrap();
    drop(client.clone());
    run(fetch(&client, server.url("/"))).unwrap();
    assert_eq!(server.connections(), 1);
    drop(client);
    server.wait_closed(1);
}

#[test]
fn everything_may_cross_threads() {
    fn crosses<T: Send>(_: T) {}
    let server = Server::saying(|| Reply::Keep(ok("hello")));
    let client = client_for(&server);
    crosses(client.get(Request::get(server.url("/"), LIMIT)));
    crosses(client.probe(server.url("/")));
    let mut body = run(get(&client, server.url("/"))).unwrap().body;
    crosses(body.next());
    crosses(body.collect(LIMIT));
    crosses(Error::Stopped);
}
