//! What clients of the sparse index get (issue 2, "The index"): strong ETags, 304, gzip, HEAD and cache headers, `config.json` with and
//! without `public_url`, no way upstream for wrong shards and impossible names, one upstream request for many simultaneous ones,
//! max-age, unknown names, the modes, tokens, download templates, and a mirror as the upstream of a mirror.
//! Rows N1, N3 and W6 of the threats.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use testkit::http::Exchange;
use testkit::{
    BuiltCrate, CargoProject, CrateBuilder, FakeUpstream, Fault, MirrorBuilder, MirrorProcess, Reply, Times,
    Validators, eventually, git_ok,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn mirror() -> MirrorBuilder {
    MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
}

/// A mirror that asks upstream for every request.
fn asking_mirror(upstream: &FakeUpstream) -> MirrorProcess {
    let mirror = mirror().upstream(upstream);
    mirror.env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s").start()
}

fn publish(upstream: &FakeUpstream, name: &str, version: &str) -> BuiltCrate {
    let krate = CrateBuilder::new(name, version).build();
    upstream.add(&krate);
    krate
}

/// What git calls these bytes.
fn blob_id(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), bytes).unwrap();
    git_ok(dir.path(), &["hash-object", "--no-filters", "file"])
}

fn with(mirror: &MirrorProcess, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    mirror.request(method, path, headers, b"")
}

#[test]
fn an_index_file_has_a_strong_etag_of_each_form_and_304_takes_either() {
    let upstream = FakeUpstream::start();
    for version in ["1.0.0", "1.0.1", "1.0.2", "1.0.3"] {
        publish(&upstream, "large", version);
    }
    publish(&upstream, "tiny", "1.0.0");
    let mirror = mirror().upstream(&upstream).start();
    let path = FakeUpstream::index_path("large");
    let body = upstream.index_file("la/rg/large").unwrap();
    let plain_tag = format!("\"{}\"", blob_id(&body));
    let gzip_tag = format!("\"{}-gzip\"", blob_id(&body));

    let plain = mirror.get(&path);
    assert_eq!((plain.status, &plain.body), (200, &body));
    assert_eq!(plain.header("etag"), Some(plain_tag.as_str()));
    assert_eq!(plain.header("content-encoding"), None);
    let gzip = with(&mirror, "GET", &path, &[("Accept-Encoding", "deflate, gzip")]);
    assert_eq!((gzip.status, gzip.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(gzip.header("etag"), Some(gzip_tag.as_str()));
    assert!(gzip.body.len() < body.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(gzip.body.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, body);
    for reply in [&plain, &gzip] {
        assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
        assert_eq!(reply.header("cache-control"), Some("public, max-age=30"));
        assert_eq!(
            reply.header("content-length"),
            Some(reply.body.len().to_string().as_str())
        );
    }
    let refused = with(&mirror, "GET", &path, &[("Accept-Encoding", "gzip;q=0")]);
    assert_eq!(refused.header("content-encoding"), None);

    for accept in ["identity", "gzip"] {
        for tag in [
            plain_tag.clone(),
            gzip_tag.clone(),
            format!("W/{plain_tag}"),
            format!("\"x\", {gzip_tag}"),
            "*".into(),
        ] {
            let headers = [("Accept-Encoding", accept), ("If-None-Match", tag.as_str())];
            let unchanged = with(&mirror, "GET", &path, &headers);
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{tag}");
            let own = if accept == "gzip" { &gzip_tag } else { &plain_tag };
            assert_eq!(unchanged.header("etag"), Some(own.as_str()));
            assert_eq!(unchanged.header("vary"), Some("Accept-Encoding"));
        }
        let headers = [("Accept-Encoding", accept), ("If-None-Match", "\"0000\"")];
        assert_eq!(with(&mirror, "GET", &path, &headers).status, 200);
    }

    for (accept, whole) in [("identity", &plain), ("gzip", &gzip)] {
        let head = with(&mirror, "HEAD", &path, &[("Accept-Encoding", accept)]);
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in [
            "etag",
            "content-length",
            "content-encoding",
            "content-type",
            "vary",
            "cache-control",
        ] {
            assert_eq!(head.header(name), whole.header(name), "{name}");
        }
    }
    let tiny = FakeUpstream::index_path("tiny");
    let tiny = with(&mirror, "GET", &tiny, &[("Accept-Encoding", "gzip")]);
    assert_eq!(
        (tiny.status, tiny.header("content-encoding")),
        (200, None),
        "not worth it"
    );
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(with(&mirror, method, &path, &[]).status, 405, "{method}");
    }
}

#[test]
fn config_json_names_the_public_url() {
    for (public, base) in [
        ("http://mirror.test/rust", "http://mirror.test/rust"),
        ("https://mirror.test:8443/", "https://mirror.test:8443"),
    ] {
        let mirror = mirror().env("MIRROR_PUBLIC_URL", public).start();
        let config = with(&mirror, "GET", "/index/config.json", &[("Host", "evil.test")]);
        let json: serde_json::Value = serde_json::from_slice(&config.body).unwrap();
        assert_eq!(json["dl"], format!("{base}/api/v1/crates"));
        assert_eq!(json["api"], base);
        assert_eq!(json.get("auth-required"), None);
        assert_eq!(config.header("cache-control"), Some("public, max-age=30"));
    }
}

#[test]
fn config_json_by_host_is_for_this_client_alone() {
    let trusting = mirror().env("MIRROR_TRUSTED_PROXIES", "127.0.0.0/8").start();
    let platform = mirror().env("PORT", "0").start();
    let plain = mirror().start();
    let api = |mirror: &MirrorProcess, headers: &[(&str, &str)]| {
        let config = with(mirror, "GET", "/index/config.json", headers);
        assert_eq!((config.status, config.header("cache-control")), (200, Some("no-store")));
        let json: serde_json::Value = serde_json::from_slice(&config.body).unwrap();
        json["api"].as_str().unwrap().to_owned()
    };
    let own = format!("http://{}", plain.authority());
    assert_eq!(api(&plain, &[]), own);
    for host in ["mirror.office:8080", "[::1]:3000", "under_score.test", "10.0.0.1"] {
        assert_eq!(api(&plain, &[("Host", host)]), format!("http://{host}"));
    }
    let forwarded = [
        ("Host", "h.test"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.test"),
        ("Forwarded", "host=evil.test;proto=https"),
    ];
    assert_eq!(api(&plain, &forwarded), "http://h.test", "nobody is trusted");
    assert_eq!(api(&trusting, &forwarded), "https://h.test");
    assert_eq!(api(&platform, &forwarded), "https://h.test", "the platform's router is");
    let odd = [("Host", "h.test"), ("X-Forwarded-Proto", "javascript")];
    assert_eq!(api(&trusting, &odd), "http://h.test");

    let long = format!("{}.test", "x".repeat(300));
    for host in [
        "",
        "a/b",
        "a b",
        "a\"b",
        "user@h.test",
        "h.test:99999",
        "h.test:",
        "[::1",
        "é.test",
        &long,
    ] {
        let reply = with(&plain, "GET", "/index/config.json", &[("Host", host)]);
        assert_eq!(reply.status, 400, "{host:?}: {}", reply.text());
        assert!(!reply.text().contains("dl"), "{host:?}");
    }
}

#[test]
fn wrong_shards_and_impossible_names_never_reach_upstream() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "serde", "1.0.0");
    let mirror = mirror().upstream(&upstream).start();
    let long = format!("aa/aa/{}", "a".repeat(65));
    let longer = format!("aa/aa/{}", "a".repeat(10_000));
    for path in [
        "",
        "/",
        "serde",
        "ab/cd/serde",
        "1/serde",
        "3/s/serde",
        "Se/rd/Serde",
        "se/rd/Serde",
        "se/rd/serde/",
        "/se/rd/serde",
        "se//rd/serde",
        "se/rd/serde.json",
        "se/rd/se%72de/..",
        "se/rd/../rd/serde",
        "../index/se/rd/serde",
        "%2e%2e/se/rd/serde",
        "..%2f..%2fetc%2fpasswd",
        "%252e%252e/%252e%252e/etc/passwd",
        "%2F%2F%2F..%2F..%2Fetc/passwd",
        "..%5c..%5cwindows",
        "C:/rd/serde",
        "se/rd/ser%00de",
        "se/rd/ser%0d%0ade",
        "se/rd/ser%ffde",
        "se/rd/ser%c0%afde",
        "se/rd/ser de",
        "se/rd/ser+de",
        "s%C3%A9/rd/s%C3%A9rde",
        "1/1",
        "1/-",
        "2/1a",
        "__/ab/__ab",
        "config.json/",
        "CONFIG.JSON",
        ".github/workflows",
        &long,
        &longer,
    ] {
        let reply = with(&mirror, "GET", &format!("/index/{path}"), &[]);
        assert!(matches!(reply.status, 400 | 404), "{path:.60}: {}", reply.status);
        assert!(reply.body.len() < 300, "{path:.60}: {}", reply.text());
    }
    let asked: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.is_empty(), "{asked:?}");
    assert_eq!(mirror.get("/index/se/rd/serde").status, 200);
    assert!(
        mirror
            .log()
            .lines()
            .all(|line| !line.contains("ERROR") && !line.contains("panicked"))
    );
}

#[test]
fn a_hundred_requests_at_once_are_one_upstream() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let mirror = mirror().upstream(&upstream).start();
    for (path, status) in [("/index/ab/cd/abcd", 200), ("/index/ab/se/absent", 404)] {
        let gate = upstream.hold(path);
        let requests: Vec<Exchange> = (0..100).map(|_| mirror.exchange("GET", path, &[], b"")).collect();
        assert!(gate.wait_reached(1, PATIENCE));
        gate.open();
        for request in requests {
            let (reply, _) = request.finish().unwrap();
            assert_eq!(reply.status, status);
            if status == 200 {
                assert_eq!(Some(reply.body), upstream.index_file("ab/cd/abcd"));
            }
        }
        assert_eq!(upstream.count(path), 1, "{path}");
    }
}

#[test]
fn who_leaves_does_not_take_the_answer_from_the_others() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let mirror = mirror().upstream(&upstream).start();
    let path = "/index/ab/cd/abcd";
    let gate = upstream.hold(path);
    let first = mirror.exchange("GET", path, &[], b"");
    assert!(gate.wait_reached(1, PATIENCE));
    let second = mirror.exchange("GET", path, &[], b"");
    drop(first);
    gate.open();
    assert_eq!(second.finish().unwrap().0.status, 200);
    assert_eq!(upstream.count(path), 1);
}

#[test]
fn upstream_is_asked_once_within_max_age_and_then_with_what_it_gave() {
    let path = FakeUpstream::index_path("abcd");
    for (validators, condition) in [
        (Validators::Both, Some("if-none-match")),
        (Validators::Etag, Some("if-none-match")),
        (Validators::LastModified, Some("if-modified-since")),
        (Validators::None, None),
    ] {
        let upstream = FakeUpstream::start();
        upstream.set_validators(validators);
        publish(&upstream, "abcd", "1.0.0");
        let young = mirror().upstream(&upstream).start();
        let first = young.get(&path);
        for _ in 0..5 {
            assert_eq!(young.get(&path).body, first.body);
        }
        assert_eq!(upstream.count(&path), 1, "{validators:?}");
        drop(young);

        upstream.clear_log();
        let asking = asking_mirror(&upstream);
        assert_eq!(asking.get(&path).body, first.body);
        assert_eq!(asking.get(&path).header("etag"), first.header("etag"));
        let requests: Vec<_> = upstream
            .requests()
            .into_iter()
            .filter(|request| request.path == path)
            .collect();
        assert_eq!(requests.len(), 2, "{validators:?}");
        assert_eq!(
            requests[0]
                .header("if-none-match")
                .or(requests[0].header("if-modified-since")),
            None
        );
        if let Some(condition) = condition {
            assert!(
                requests[1].header(condition).is_some(),
                "{validators:?}: {:?}",
                requests[1].headers
            );
            assert_eq!(asking.metric("upstream_index_not_modified"), 1);
        }
        publish(&upstream, "abcd", "1.1.0");
        assert!(
            asking.get(&path).text().contains("1.1.0"),
            "{validators:?}: a change comes at once"
        );
    }
}

#[test]
fn validators_outlive_a_restart() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let path = FakeUpstream::index_path("abcd");
    let mut mirror = asking_mirror(&upstream);
    let body = mirror.get(&path).body;
    mirror.restart();
    upstream.clear_log();
    assert_eq!(mirror.get(&path).body, body);
    let request = upstream.requests().pop().unwrap();
    assert!(request.header("if-none-match").is_some(), "{:?}", request.headers);
}

#[test]
fn unknown_names_are_remembered_until_they_are_known() {
    let upstream = FakeUpstream::start();
    let path = FakeUpstream::index_path("newcomer");
    let download = "/api/v1/crates/newcomer/1.0.0/download";
    let mirror = mirror()
        .upstream(&upstream)
        .env("MIRROR_INDEX__SPARSE_MAX_AGE", "1s")
        .start();
    let absent = mirror.get(&path);
    assert_eq!((absent.status, absent.header("etag")), (404, None));
    assert!(absent.text().contains("newcomer"), "{}", absent.text());
    let krate = publish(&upstream, "newcomer", "1.0.0");
    let found = eventually(PATIENCE, || Some(mirror.get(&path)).filter(|reply| reply.status == 200));
    assert!(found.expect("it is asked for again").text().contains("1.0.0"));
    assert_eq!(mirror.get(download).body, krate.bytes);

    let patient = self::mirror().upstream(&upstream).start();
    let (path, download) = (
        FakeUpstream::index_path("nobody"),
        "/api/v1/crates/nobody/1.0.0/download",
    );
    for _ in 0..5 {
        assert_eq!(patient.get(&path).status, 404);
        assert_eq!(patient.get(download).status, 404);
        assert_eq!(patient.get("/api/v1/crates/NoBody/1.0.0/download").status, 404);
    }
    assert_eq!(upstream.count(&path), 1);
    let files = upstream
        .requests()
        .into_iter()
        .filter(|request| request.path.contains("/nobody/"));
    assert_eq!(files.count(), 0, "what the index does not list is not asked for");
}

#[test]
fn names_that_upstream_calls_gone_are_not_found() {
    for status in [404, 410, 451] {
        let upstream = FakeUpstream::start();
        let path = FakeUpstream::index_path("abcd");
        upstream.fault(&path, Fault::Status(status), Times::Always);
        assert_eq!(mirror().upstream(&upstream).start().get(&path).status, 404);
    }
}

#[test]
fn a_version_that_is_not_listed_is_asked_for_once_and_never_fetched() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    let mirror = asking_mirror(&upstream);
    let path = FakeUpstream::index_path("abcd");
    assert_eq!(mirror.get(&path).status, 200);
    let missing = mirror.get("/api/v1/crates/abcd/9.9.9/download");
    assert_eq!(missing.status, 404);
    assert!(
        missing.text().contains("the index does not list abcd 9.9.9"),
        "{}",
        missing.text()
    );
    assert_eq!(upstream.count(&path), 2);
    assert_eq!(upstream.count(&FakeUpstream::download_path("abcd", "9.9.9")), 0);
    let krate = publish(&upstream, "abcd", "9.9.9");
    let (reply, _) = mirror.get_timed("/api/v1/crates/abcd/9.9.9/download");
    assert_eq!(reply.body, krate.bytes, "a new version is found by its download");
}

#[test]
fn fallback_asks_for_what_is_absent_and_offline_for_nothing() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "abcd", "1.0.0");
    publish(&upstream, "efgh", "1.0.0");
    let mirror = asking_mirror(&upstream);
    let (known, other) = (FakeUpstream::index_path("abcd"), FakeUpstream::index_path("efgh"));
    let body = mirror.get(&known).body;
    publish(&upstream, "abcd", "1.1.0");
    upstream.clear_log();
    for mode in ["offline", "fallback"] {
        assert!(mirror.run(&["mode", mode]).status.success());
        assert_eq!(mirror.get(&known).body, body);
        let status = mirror.get(&other).status;
        assert_eq!(status, if mode == "offline" { 404 } else { 200 });
        assert_eq!(upstream.count(&known), 0);
        assert_eq!(upstream.count(&other), usize::from(mode == "fallback"));
    }
    assert!(mirror.run(&["mode", "online"]).status.success());
    assert!(mirror.get(&known).text().contains("1.1.0"));
}

#[test]
fn a_token_goes_to_upstreams_own_host_and_nowhere_else() {
    let (own, other) = (FakeUpstream::start(), FakeUpstream::start());
    let krate = publish(&own, "abcd", "1.0.0");
    own.set_dl(&format!("{}/files/{{crate}}-{{version}}", other.base_url()));
    other.serve_at("/files/abcd-1.0.0", &krate.bytes);
    own.fault(
        &FakeUpstream::index_path("elsewhere"),
        Fault::Redirect(302, format!("{}/index/el/se/elsewhere", other.base_url())),
        Times::Always,
    );
    let mirror = mirror().upstream(&own).env("MIRROR_UPSTREAM__TOKEN", "secret").start();
    assert_eq!(mirror.get("/api/v1/crates/abcd/1.0.0/download").body, krate.bytes);
    mirror.get("/index/el/se/elsewhere");
    assert!(
        own.requests()
            .iter()
            .all(|request| request.header("authorization") == Some("secret"))
    );
    let elsewhere = other.requests();
    assert_eq!(other.count("/files/abcd-1.0.0"), 1);
    assert!(
        elsewhere
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[test]
fn requests_upstream_say_who_asks_and_nothing_of_the_client() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "abcd", "1.0.0");
    let mirror = mirror()
        .upstream(&upstream)
        .env("MIRROR_PUBLIC_URL", "http://mirror.test")
        .start();
    let headers = [
        ("User-Agent", "spy/1"),
        ("Cookie", "a=b"),
        ("Authorization", "mine"),
        ("X-Forwarded-For", "10.9.8.7"),
    ];
    let reply = with(&mirror, "GET", "/api/v1/crates/abcd/1.0.0/download", &headers);
    assert_eq!(reply.body, krate.bytes);
    for request in upstream.requests() {
        let agent = request.header("user-agent").unwrap();
        assert!(
            agent.starts_with("mirror/") && agent.contains("+http://mirror.test"),
            "{agent}"
        );
        for name in [
            "cookie",
            "authorization",
            "x-forwarded-for",
            "forwarded",
            "via",
            "referer",
        ] {
            assert_eq!(request.header(name), None, "{} {name}", request.path);
        }
    }
}

#[test]
fn every_download_template_works() {
    let markers = "/f/{crate}/{version}/{prefix}/{lowerprefix}/{sha256-checksum}";
    for template in [markers, "/plain", "/v/{version}/{crate}.crate"] {
        let upstream = FakeUpstream::start();
        upstream.set_dl(template);
        let crates = [
            ("Abcd", "1.0.0+meta"),
            ("a", "0.1.0"),
            ("xy", "1.0.0-a.1"),
            ("Xyz", "2.0.0"),
        ]
        .map(|(name, version)| publish(&upstream, name, version));
        let one = mirror().upstream(&upstream).start();
        for krate in &crates {
            let got = one.get(&format!("/api/v1/crates/{}/{}/download", krate.name, krate.version));
            assert_eq!(got.body, krate.bytes, "{template}: {} {}", krate.name, got.text());
        }
        if template == markers {
            let line = upstream
                .requests()
                .into_iter()
                .find(|request| request.path.starts_with("/f/Abcd"));
            let path = line.unwrap().path;
            assert_eq!(
                path.replace("%2B", "+"),
                format!("/f/Abcd/1.0.0+meta/Ab/cd/ab/cd/{}", crates[0].checksum)
            );
        }
    }
    let (index, files) = (FakeUpstream::start(), FakeUpstream::start());
    let krate = publish(&index, "abcd", "1.0.0");
    files.serve_at("/mine/abcd/1.0.0", &krate.bytes);
    let own = mirror()
        .upstream(&index)
        .env(
            "MIRROR_UPSTREAM__DOWNLOAD",
            &format!("{}/mine/{{crate}}/{{version}}", files.base_url()),
        )
        .start();
    assert_eq!(own.get("/api/v1/crates/abcd/1.0.0/download").body, krate.bytes);
    assert_eq!(index.count(&FakeUpstream::download_path("abcd", "1.0.0")), 0);
}

#[test]
fn a_mirror_is_an_upstream_as_good_as_any() {
    let upstream = FakeUpstream::start();
    upstream.add(&CrateBuilder::new("outer", "1.0.0").dep("inner", "1").build());
    publish(&upstream, "inner", "1.0.0+x");
    let near = mirror().upstream(&upstream).start();
    let far = mirror()
        .upstream_sparse(&format!("sparse+{}", near.url("/index/")))
        .start();
    let project = CargoProject::new().dependency("outer", "1").use_mirror(&far);
    project.cargo_ok(&["build"]);
    for name in ["outer", "inner"] {
        let path = FakeUpstream::index_path(name);
        assert_eq!(far.get(&path).body, near.get(&path).body);
        assert_eq!(far.get(&path).header("etag"), near.get(&path).header("etag"));
        assert_eq!(upstream.count(&path), 1);
    }
    assert_eq!(upstream.count(&FakeUpstream::download_path("outer", "1.0.0")), 1);
    assert_eq!(far.get("/index/no/bo/nobody").status, 404);
    drop(near);
    project.forget_registry();
    project.forget_target();
    project.cargo_ok(&["build", "--locked"]);
}
