//! Which redirects are followed, and what goes along.

use super::{
    LIMIT, Token, client_for, config, fetch, run,
    server::{Reply, Server, ok, redirect_to},
    start,
};
use crate::{Error, Request, UpstreamHttp};

fn fetched(server: &Server, client: &UpstreamHttp, path: &str) -> Result<(u16, Vec<u8>), Error> {
    run(fetch(client, server.url(path)))
}

#[test]
fn all_kinds_of_redirects_are_followed() {
    for status in [301, 302, 303, 307, 308] {
        for location in [
            "/there",
            "there",
            "./x/../there",
            "there?a=b#c",
            "//{host}/there",
            "http://{host}/there",
        ] {
            let server = Server::start(move |seen| {
                let host = seen.header("Host").unwrap_or_default();
                match seen.target() {
                    "/here" => Reply::Keep(redirect_to(status, &location.replace("{host}", host))),
                    "/there" | "/there?a=b" => Reply::Keep(ok("hello")),
                    other => panic!("{other}"),
                }
            });
            let client = client_for(&server);
            let request = Request::get(server.url("/here"), LIMIT).with_header("If-None-Match", "\"e\"");
            let response = run(client.get(request)).unwrap();
            assert_eq!(response.status, 200, "{status} {location}");
            assert!(response.url.path().starts_with("/there"));
            assert_eq!(server.seen()[1].header("If-None-Match"), Some("\"e\""));
        }
    }
}

#[test]
fn other_statuses_are_no_redirects() {
    let server = Server::saying(|| Reply::Keep(redirect_to(300, "/there")));
    assert_eq!(fetched(&server, &client_for(&server), "/").unwrap().0, 300);
}

#[test]
fn three_hops_are_allowed_and_four_are_not() {
    let server = Server::start(|seen| match seen.target() {
        "/0" => Reply::Keep(ok("hello")),
        "/loop" => Reply::Keep(redirect_to(302, "/loop")),
        path => {
            let left: u32 = path[1..].parse().unwrap();
            Reply::Keep(redirect_to(302, &format!("/{}", left - 1)))
        }
    });
    let client = client_for(&server);
    assert_eq!(fetched(&server, &client, "/3").unwrap().1, b"hello");
    for path in ["/4", "/loop"] {
        let before = server.seen().len();
        let error = fetched(&server, &client, path).unwrap_err();
        assert!(matches!(error, Error::Redirect { .. }), "{error}");
        assert!(error.to_string().contains("more than 3 redirects"), "{error}");
        assert_eq!(server.seen().len(), before + 4);
    }
}

#[test]
fn private_addresses_are_not_gone_to() {
    let inner = Server::saying(|| Reply::Keep(ok("secret")));
    let port = inner.port();
    let targets = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://LOCALHOST.:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[::ffff:a9fe:a9fe]:{port}/"),
        format!("http://[64:ff9b::7f00:1]:{port}/"),
        format!("http://[2002:7f00:1::]:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "https://192.168.0.1/".to_owned(),
        "http://100.64.0.1/".to_owned(),
    ];
    for target in targets {
        let reply = redirect_to(302, &target);
        let server = Server::saying(move || Reply::Keep(reply.clone()));
        let error = fetched(&server, &client_for(&server), "/").unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{target}: {error}");
        assert!(!error.is_transient());
    }
    assert_eq!(inner.connections(), 0);
}

#[test]
fn private_addresses_are_not_asked_for_either() {
    let server = Server::saying(|| Reply::Keep(ok("secret")));
    let error = fetched(&server, &start(config()), "/").unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error}");
    assert_eq!(server.connections(), 0);
}

#[test]
fn trust_is_given_to_host_and_port() {
    let outer = Server::saying(|| Reply::Keep(ok("hello")));
    let reply = redirect_to(302, &outer.url("/").to_string());
    let server = Server::saying(move || Reply::Keep(reply.clone()));
    let client = client_for(&server);
    assert!(matches!(fetched(&server, &client, "/"), Err(Error::Address { .. })));
    client.trust(outer.authority(), None);
    assert_eq!(fetched(&server, &client, "/").unwrap().1, b"hello");
}

#[test]
fn odd_targets_are_refused() {
    let targets = [
        "",
        "file:///etc/passwd",
        "ftp://example.org/",
        "gopher://127.0.0.1/",
        "javascript:alert(1)",
        "http://user@example.org/",
        "http://user:password@127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://127.1/",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http:///x",
        "//",
    ];
    for target in targets {
        let reply = redirect_to(302, target);
        let server = Server::saying(move || Reply::Keep(reply.clone()));
        let error = fetched(&server, &client_for(&server), "/").unwrap_err();
        assert!(matches!(error, Error::Redirect { .. }), "{target}: {error}");
    }
}

#[test]
fn a_redirect_without_a_target_is_an_error() {
    let server = Server::saying(|| Reply::Keep(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let error = fetched(&server, &client_for(&server), "/").unwrap_err();
    assert!(matches!(error, Error::Redirect { .. }), "{error}");
}

#[test]
fn the_signature_in_a_target_is_not_shown() {
    let server = Server::saying(|| Reply::Keep(redirect_to(302, "ftp://example.org/x?sig=secret")));
    let error = fetched(&server, &client_for(&server), "/").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
}

#[test]
fn the_token_goes_to_its_hosts_only() {
    let other = Server::saying(|| Reply::Keep(ok("hello")));
    let away = redirect_to(302, &other.url("/").to_string());
    let server = Server::start(move |seen| match seen.target() {
        "/away" => Reply::Keep(away.clone()),
        "/here" => Reply::Keep(redirect_to(302, "/kept")),
        _ => Reply::Keep(ok("hello")),
    });
    let client = start(config());
    client.trust(server.authority(), Some(Token::new(" secret\n").unwrap()));
    client.trust(server.authority(), None);
    client.trust(other.authority(), None);
    fetched(&server, &client, "/here").unwrap();
    fetched(&server, &client, "/away").unwrap();
    assert_eq!(server.seen().len(), 3);
    for seen in server.seen() {
        assert_eq!(seen.header("Authorization"), Some("secret"));
    }
    assert_eq!(other.seen().len(), 1);
    assert_eq!(other.seen()[0].header("Authorization"), None);
}

#[test]
fn no_redirect_lures_a_token_into_plain_http() {
    let registry = Server::saying(|| Reply::Keep(ok("hello")));
    let lure = redirect_to(302, &registry.url("/").to_string());
    let server = Server::saying(move || Reply::Keep(lure.clone()));
    let client = start(config());
    client.trust(registry.authority(), Some(Token::new("secret").unwrap()));
    client.trust(server.authority(), None);
    fetched(&server, &client, "/").unwrap();
    assert_eq!(registry.seen()[0].header("Authorization"), None);
}

#[test]
fn a_token_is_never_shown_and_must_fit_a_header() {
    let token = Token::new("secret").unwrap();
    assert!(!format!("{token:?}").contains("secret"));
    for bad in ["", " \n", "a\nb", "a\u{e9}"] {
        assert!(matches!(Token::new(bad), Err(Error::InvalidToken)), "{bad:?}");
    }
}
