//! Through proxies, and around them.

use super::{
    config, fetch, run,
    server::{Reply, Server, ok, redirect_to},
    url,
};
use crate::{EnvProxies, Error, ProxyChoice, ProxyConfig, UpstreamHttp};

fn environment(pairs: &[(&str, &str)]) -> EnvProxies {
    EnvProxies::from_pairs(
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    )
}

fn client(setting: Option<&str>, pairs: &[(&str, &str)]) -> Result<UpstreamHttp, Error> {
    let mut config = config();
    config.proxy = ProxyConfig {
        setting: setting.map(str::to_owned),
        environment: environment(pairs),
    };
    UpstreamHttp::start(config)
}

/// A client with this proxy for everything.
fn through(proxy: &Server, credentials: &str) -> UpstreamHttp {
    client(Some(&format!("http://{credentials}127.0.0.1:{}", proxy.port())), &[]).unwrap()
}

#[test]
fn plain_http_is_asked_for_in_absolute_form() {
    let proxy = Server::saying(|| Reply::Keep(ok("hello")));
    let client = through(&proxy, "us%40er:pa%3Ass@");
    let got = run(fetch(&client, url("http://registry.example:81/a?b=c"))).unwrap();
    assert_eq!(got, (200, b"hello".to_vec()));
    let seen = proxy.seen().remove(0);
    assert_eq!(seen.target(), "http://registry.example:81/a?b=c");
    assert_eq!(seen.header("Host"), Some("registry.example:81"));
    // us@er:pa:ss
    assert_eq!(seen.header("Proxy-Authorization"), Some("Basic dXNAZXI6cGE6c3M="));
}

#[test]
fn a_407_is_the_proxys_and_not_upstreams() {
    for scheme in ["http", "https"] {
        let proxy = Server::saying(|| {
            Reply::Close(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n".to_vec())
        });
        let asked = url(&format!("{scheme}://registry.example/"));
        let error = run(fetch(&through(&proxy, "user:secret@"), asked)).unwrap_err();
        assert!(matches!(error, Error::ProxyRefused { status: 407, .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(&format!("127.0.0.1:{}", proxy.port())), "{text}");
        assert!(!text.contains("secret") && !error.is_transient(), "{text}");
    }
}

#[test]
fn a_refusal_with_a_page_behind_it_is_not_waited_for() {
    let proxy = Server::saying(|| Reply::Hold(b"HTTP/1.1 407 No\r\nContent-Length: 900\r\n\r\n<html>".to_vec()));
    let error = run(fetch(&through(&proxy, ""), url("https://registry.example/"))).unwrap_err();
    assert!(matches!(error, Error::ProxyRefused { status: 407, .. }), "{error}");
}

#[test]
fn a_407_of_upstream_itself_is_handed_on() {
    let server = Server::saying(|| Reply::Keep(b"HTTP/1.1 407 Odd\r\nContent-Length: 0\r\n\r\n".to_vec()));
    assert_eq!(run(fetch(&super::client_for(&server), server.url("/"))).unwrap().0, 407);
}

#[test]
fn https_asks_for_a_tunnel() {
    let table: [(&[u8], u16, bool); 5] = [
        (b"HTTP/1.1 403 Forbidden by policy\r\n\r\n", 403, false),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", 502, true),
        (b"HTTP/1.0 503 Busy\r\n\r\n", 503, true),
        (b"HTTP/1.1 200 OK\r\n", 200, false),
        (b"nonsense\r\n\r\n", 0, false),
    ];
    for (reply, expected, transient) in table {
        let proxy = Server::saying(move || Reply::Close(reply.to_vec()));
        let client = through(&proxy, "user:pass@");
        let error = run(fetch(&client, url("https://registry.example/a"))).unwrap_err();
        match &error {
            Error::ProxyRefused {
                status,
                target,
                status_line,
                ..
            } => {
                assert_eq!((*status, target.as_str()), (expected, "registry.example:443"));
                assert!(reply.starts_with(status_line.as_bytes()), "{status_line}");
                assert_eq!(error.is_transient(), transient, "{error}");
            }
            other => panic!("{other:?}"),
        }
        let seen = proxy.seen().remove(0);
        assert!(
            seen.head.starts_with("CONNECT registry.example:443 HTTP/1.1\r\n"),
            "{}",
            seen.head
        );
        assert_eq!(seen.header("Host"), Some("registry.example:443"));
        assert_eq!(seen.header("Proxy-Authorization"), Some("Basic dXNlcjpwYXNz"));
    }
}

#[test]
fn a_proxy_is_not_asked_for_private_addresses() {
    let proxy = Server::saying(|| Reply::Keep(redirect_to(302, "http://169.254.169.254/")));
    let client = through(&proxy, "");
    for private in [
        "http://127.0.0.1/",
        "https://10.0.0.1/",
        "http://localhost/",
        "http://a.localhost./",
        "http://[::1]/",
    ] {
        let error = run(fetch(&client, url(private))).unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{private}: {error}");
    }
    assert_eq!(proxy.connections(), 0);
    let error = run(fetch(&client, url("http://registry.example/"))).unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error}");
    assert_eq!(proxy.seen().len(), 1);
    client.trust("127.0.0.1:80".parse().unwrap(), None);
    let error = run(fetch(&client, url("http://127.0.0.1/"))).unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error}");
    assert_eq!(proxy.seen().len(), 2);
}

#[test]
fn no_proxy_goes_around() {
    let server = Server::saying(|| Reply::Keep(ok("direct")));
    let proxy = Server::saying(|| Reply::Keep(ok("proxied")));
    let at = format!("http://127.0.0.1:{}", proxy.port());
    let pairs = [("http_proxy", at.as_str()), ("NO_PROXY", "127.0.0.0/8")];
    let client = client(None, &pairs).unwrap();
    client.trust(server.authority(), None);
    assert_eq!(run(fetch(&client, server.url("/"))).unwrap().1, b"direct");
    assert_eq!(
        run(fetch(&client, url("http://registry.example/"))).unwrap().1,
        b"proxied"
    );
}

#[test]
fn the_right_proxy_is_chosen() {
    /// Setting, variables, address, and the proxy's host with where it came from.
    type Row<'a> = (
        Option<&'a str>,
        &'a [(&'a str, &'a str)],
        &'a str,
        Option<(&'a str, &'a str)>,
    );
    const HTTPS: &str = "https://r.example/";
    const HTTP: &str = "http://r.example/";
    let table: [Row; 19] = [
        (None, &[], HTTPS, None),
        (
            None,
            &[("HTTPS_PROXY", "http://p:1")],
            HTTPS,
            Some(("p:1", "HTTPS_PROXY")),
        ),
        (None, &[("https_proxy", "p:1")], HTTPS, Some(("p:1", "HTTPS_PROXY"))),
        (
            None,
            &[("https_proxy", "low:1"), ("HTTPS_PROXY", "up:1")],
            HTTPS,
            Some(("low:1", "HTTPS_PROXY")),
        ),
        (
            None,
            &[("https_proxy", ""), ("HTTPS_PROXY", "up:1")],
            HTTPS,
            Some(("up:1", "HTTPS_PROXY")),
        ),
        (None, &[("HTTPS_PROXY", "p:1")], HTTP, None),
        (None, &[("http_proxy", "p:1")], HTTP, Some(("p:1", "HTTP_PROXY"))),
        (None, &[("http_proxy", "p:1")], HTTPS, None),
        (None, &[("HTTP_PROXY", "p:1")], HTTP, Some(("p:1", "HTTP_PROXY"))),
        (None, &[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")], HTTP, None),
        (
            None,
            &[("http_proxy", "p:1"), ("REQUEST_METHOD", "GET")],
            HTTP,
            Some(("p:1", "HTTP_PROXY")),
        ),
        (None, &[("ALL_PROXY", "p:1")], HTTPS, Some(("p:1", "ALL_PROXY"))),
        (None, &[("all_proxy", "p:1")], HTTP, Some(("p:1", "ALL_PROXY"))),
        (
            None,
            &[
                ("ALL_PROXY", "socks5://s:1"),
                ("HTTPS_PROXY", "p:1"),
                ("http_proxy", "p:1"),
            ],
            HTTPS,
            Some(("p:1", "HTTPS_PROXY")),
        ),
        (
            Some("set:2"),
            &[("HTTPS_PROXY", "p:1")],
            HTTPS,
            Some(("set:2", "upstream.proxy")),
        ),
        (
            Some("set:2"),
            &[("NO_PROXY", "other")],
            HTTP,
            Some(("set:2", "upstream.proxy")),
        ),
        (Some("set:2"), &[("NO_PROXY", ".example")], HTTP, None),
        (Some(""), &[("HTTPS_PROXY", "p:1")], HTTPS, Some(("p:1", "HTTPS_PROXY"))),
        (Some("http://set/"), &[], HTTPS, Some(("set:1080", "upstream.proxy"))),
    ];
    for (setting, pairs, asked, expected) in table {
        let choice = client(setting, pairs).unwrap().choose(&url(asked));
        match (&choice, expected) {
            (ProxyChoice::Direct { .. }, None) => {}
            (ProxyChoice::Via { proxy, reason }, Some((at, source))) => {
                assert_eq!(proxy.authority().to_string(), at, "{pairs:?}");
                assert!(reason.contains(source), "{reason}");
            }
            _ => panic!("{setting:?} {pairs:?} {asked}: {choice}"),
        }
    }
}

#[test]
fn unusable_proxies_are_refused_at_the_start() {
    let table = [
        (Some("socks5://user:secret@p:1"), "upstream.proxy"),
        (Some("https://user:secret@p:1"), "upstream.proxy"),
        (Some("http://user:secret@p:99999"), "upstream.proxy"),
        (Some("http://user:secret@/"), "upstream.proxy"),
        (None, "HTTPS_PROXY"),
    ];
    for (setting, expected) in table {
        let error = client(setting, &[("HTTPS_PROXY", "ftp://user:secret@p")]).unwrap_err();
        assert!(
            matches!(error, Error::ProxySetting { setting, .. } if setting == expected),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

#[test]
fn passwords_are_not_shown() {
    let client = client(Some("http://user:secret@p:1"), &[("HTTPS_PROXY", "http://u:secret@q")]).unwrap();
    let choice = client.choose(&url("https://r.example/"));
    let config = ProxyConfig {
        setting: Some("http://user:secret@p:1".to_owned()),
        environment: environment(&[("ALL_PROXY", "u:secret@q")]),
    };
    assert!(!format!("{choice} {choice:?} {client:?} {config:?}").contains("secret"));
}
