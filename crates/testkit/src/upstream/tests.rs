use super::*;
use crate::http::{self, Exchange, Reply};
use crate::{BuiltCrate, CrateBuilder};

mod faults;

const SOON: Duration = Duration::from_secs(20);

fn krate(version: &str) -> BuiltCrate {
    CrateBuilder::new("serde", version).padding(30_000).build()
}

fn with_serde() -> FakeUpstream {
    let upstream = FakeUpstream::start();
    upstream.add(&krate("1.0.0"));
    upstream
}

fn get(upstream: &FakeUpstream, path: &str) -> Reply {
    http::get(&upstream.authority(), path).unwrap()
}

fn get_with(upstream: &FakeUpstream, path: &str, headers: &[(&str, &str)]) -> Reply {
    http::request(&upstream.authority(), "GET", path, headers, b"").unwrap()
}

const INDEX: &str = "/index/se/rd/serde";
const FILE: &str = "/dl/serde/1.0.0/download";

#[test]
fn serves_index_config_and_crate_files() {
    let upstream = with_serde();
    assert_eq!(
        get(&upstream, "/index/config.json").text(),
        format!("{{\"api\":\"{0}\",\"dl\":\"{0}/dl\"}}", upstream.base_url())
    );
    assert_eq!(get(&upstream, INDEX).text(), format!("{}\n", krate("1.0.0").index_line));
    assert_eq!(get(&upstream, FILE).body, krate("1.0.0").bytes);
    assert_eq!(get(&upstream, "/dl/serde/1.0.1/download").status, 404);
    assert_eq!(FakeUpstream::index_path("serde"), INDEX);
    assert_eq!(FakeUpstream::download_path("serde", "1.0.0"), FILE);
    let head = http::request(&upstream.authority(), "HEAD", FILE, &[], b"").unwrap();
    let length = krate("1.0.0").bytes.len().to_string();
    assert_eq!(
        (head.header("content-length"), head.body.len()),
        (Some(length.as_str()), 0)
    );
}

#[test]
fn the_index_changes_line_by_line() {
    let upstream = with_serde();
    upstream.add(&krate("1.0.1"));
    let [first, second] = ["1.0.0", "1.0.1"].map(|version| krate(version).index_line);
    upstream.yank("serde", "1.0.0", true);
    let yanked = first.replace("\"yanked\":false", "\"yanked\":true");
    assert_eq!(get(&upstream, INDEX).text(), format!("{yanked}\n{second}\n"));
    upstream.yank("serde", "1.0.0", false);
    let other = CrateBuilder::new("serde", "1.0.0").lib("// another").build();
    upstream.republish(&other);
    assert_eq!(
        get(&upstream, INDEX).text(),
        format!("{}\n{second}\n", other.index_line)
    );
    assert_eq!(get(&upstream, FILE).body, other.bytes);
    upstream.replace_crate_bytes("serde", "1.0.0", b"wrong");
    assert_eq!(
        get(&upstream, INDEX).text(),
        format!("{}\n{second}\n", other.index_line)
    );
    assert_eq!(get(&upstream, FILE).body, b"wrong");
    upstream.remove_version("serde", "1.0.0");
    assert_eq!(
        (get(&upstream, INDEX).text(), get(&upstream, FILE).status),
        (format!("{second}\n"), 404)
    );
    upstream.remove_crate("serde");
    assert_eq!(get(&upstream, INDEX).status, 404);
    upstream.set_index_file("se/rd/serde", b"junk");
    assert_eq!(upstream.index_file("se/rd/serde").unwrap(), b"junk");
    assert_eq!(get(&upstream, INDEX).text(), "junk");
}

#[test]
fn crate_files_are_where_dl_says() {
    let upstream = with_serde();
    upstream.add(&krate("1.0.0+a"));
    upstream.set_dl("/f/{prefix}/{crate}/{crate}-{version}.crate");
    assert_eq!(
        get(&upstream, "/f/se/rd/serde/serde-1.0.0%2Ba.crate").body,
        krate("1.0.0+a").bytes
    );
    assert_eq!(get(&upstream, "/f/se/rd/serde/serde-1.0.0+a.crate").status, 200);
    assert_eq!(get(&upstream, FILE).status, 404);
    upstream.set_config_json(format!("{{\"dl\":\"{}/again\",\"x\":1}}", upstream.base_url()).as_bytes());
    assert!(get(&upstream, "/index/config.json").text().ends_with("\"x\":1}"));
    assert_eq!(get(&upstream, "/again/serde/1.0.0/download").status, 200);
    upstream.serve_at("/any?x=y", b"any");
    assert_eq!(
        (get(&upstream, "/any?x=y").text(), get(&upstream, "/any").status),
        ("any".to_owned(), 404)
    );
}

#[test]
fn validators_are_sent_and_honoured() {
    let upstream = with_serde();
    for (validators, sent) in [
        (Validators::None, [false, false]),
        (Validators::Etag, [true, false]),
        (Validators::LastModified, [false, true]),
        (Validators::Both, [true, true]),
    ] {
        upstream.set_validators(validators);
        let reply = get(&upstream, INDEX);
        let got = ["ETag", "Last-Modified"].map(|name| reply.header(name).map(str::to_owned));
        assert_eq!(got.each_ref().map(Option::is_some), sent, "{validators:?}");
        for (name, value) in ["If-None-Match", "If-Modified-Since"].iter().zip(&got) {
            if let Some(value) = value {
                let reply = get_with(&upstream, INDEX, &[(name, value)]);
                assert_eq!((reply.status, reply.body.len()), (304, 0));
            }
        }
    }
    let before = get(&upstream, INDEX);
    upstream.add(&krate("1.0.1"));
    let after = get(&upstream, INDEX);
    for (name, condition) in [("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")] {
        assert_ne!(before.header(name), after.header(name));
        let old = before.header(name).unwrap();
        assert_eq!(get_with(&upstream, INDEX, &[(condition, old)]).status, 200);
    }
}

#[test]
fn a_token_is_asked_for() {
    let upstream = with_serde();
    upstream.require_token(Some("secret"));
    assert_eq!(get(&upstream, INDEX).status, 401);
    assert_eq!(get_with(&upstream, INDEX, &[("authorization", "Secret")]).status, 401);
    let config = get_with(&upstream, "/index/config.json", &[("authorization", "secret")]);
    assert!(config.text().contains("\"auth-required\":true"));
    upstream.require_token(None);
    assert_eq!(get(&upstream, INDEX).status, 200);
}

#[test]
fn requests_are_logged_with_their_connection() {
    let upstream = with_serde();
    let stream = TcpStream::connect(upstream.authority()).unwrap();
    let ask = format!("GET {INDEX} HTTP/1.1\r\nX-A: b\r\n\r\n");
    std::io::Write::write_all(&mut &stream, ask.repeat(2).as_bytes()).unwrap();
    assert!(upstream.wait_for(|log| log.len() == 2, SOON));
    get(&upstream, FILE);
    let log = upstream.requests();
    assert_eq!(
        (log[0].method.as_str(), log[0].path.as_str(), log[0].header("x-a")),
        ("GET", INDEX, Some("b"))
    );
    assert_eq!([log[0].connection, log[1].connection, log[2].connection], [0, 0, 1]);
    assert_eq!(
        (upstream.count(INDEX), upstream.count(FILE), upstream.connections()),
        (2, 1, 2)
    );
    upstream.clear_log();
    assert_eq!((upstream.requests().len(), upstream.connections()), (0, 0));
    assert!(!upstream.wait_for(|log| !log.is_empty(), Duration::from_millis(10)));
}

#[test]
fn a_gate_holds_until_it_is_opened() {
    let upstream = with_serde();
    let gate = upstream.hold("/index/");
    let mut held = Exchange::start(&upstream.authority(), "GET", INDEX, &[], b"").unwrap();
    assert!(gate.wait_reached(1, SOON));
    assert!(!gate.wait_reached(2, Duration::from_millis(10)));
    assert_eq!(get(&upstream, FILE).status, 200);
    upstream.set_index_file("se/rd/serde", b"later");
    gate.open();
    assert_eq!(held.status().unwrap(), 200);
    assert_eq!(held.finish().unwrap().0.text(), "later");

    let gate = upstream.hold_after(FILE, 1000);
    let mut held = Exchange::start(&upstream.authority(), "GET", FILE, &[], b"").unwrap();
    assert_eq!(held.read_at_least(1000).unwrap().len(), 1000);
    assert!(gate.wait_reached(1, SOON));
    drop(gate);
    let (reply, timing) = held.finish().unwrap();
    assert!(reply.complete && reply.body == krate("1.0.0").bytes);
    assert!(timing.head <= timing.first_body_byte.unwrap() && timing.head <= timing.total);
}

#[test]
fn goes_down_and_comes_back_on_its_port() {
    let upstream = with_serde();
    let gate = upstream.hold(INDEX);
    let held = Exchange::start(&upstream.authority(), "GET", INDEX, &[], b"").unwrap();
    assert!(gate.wait_reached(1, SOON));
    upstream.go_down();
    assert!(held.finish().is_err());
    let refused = http::get(&upstream.authority(), FILE).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    upstream.go_down();
    upstream.come_back();
    upstream.come_back();
    assert_eq!(get(&upstream, FILE).status, 200);
    gate.open();
}

#[test]
fn a_drop_ends_what_is_held() {
    let upstream = with_serde();
    upstream.fault("/", Fault::StallBeforeHead, Times::Always);
    let held = Exchange::start(&upstream.authority(), "GET", INDEX, &[], b"").unwrap();
    assert!(upstream.wait_for(|log| log.len() == 1, SOON));
    let authority = upstream.authority();
    drop(upstream);
    assert!(held.finish().is_err());
    assert!(http::get(&authority, INDEX).is_err());
}
