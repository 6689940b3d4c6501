use testkit::{CrateBuilder, FakeUpstream, Fault, Times};

use super::{SOON, assert_whole, builder, crate_requests, detail, download, is_kept, publish, start};

#[test]
fn three_redirects_are_followed_and_a_fourth_is_not() {
    let upstream = FakeUpstream::start();
    let krate = CrateBuilder::new("moved", "1.0.0").build();
    upstream.add(&krate);
    upstream.serve_at("/real", &krate.bytes);
    let start_at = FakeUpstream::download_path("moved", "1.0.0");
    let hop =
        |from: &str, status, to: &str| upstream.fault(from, Fault::Redirect(status, to.to_owned()), Times::Always);
    hop(&start_at, 301, "/hop1");
    hop("/hop1", 302, &format!("{}/hop2?signed=1", upstream.base_url()));
    hop("/hop2", 307, "../real");
    let mirror = start(&upstream);
    assert_whole(&mirror.get(&download("moved", "1.0.0")), &krate);
    assert_eq!(upstream.count("/real"), 1);

    let far = CrateBuilder::new("far", "1.0.0").build();
    upstream.add(&far);
    upstream.serve_at("/far-away", &far.bytes);
    hop(&FakeUpstream::download_path("far", "1.0.0"), 308, "/a");
    hop("/a", 303, "/b");
    hop("/b", 302, "/c");
    hop("/c", 302, "/far-away");
    let reply = mirror.get(&download("far", "1.0.0"));
    assert_eq!(reply.status, 502);
    assert!(detail(&reply).contains("redirect"), "{}", reply.text());
    assert_eq!(upstream.count("/far-away"), 0);
    assert!(!is_kept(&mirror, &far));
}

#[test]
fn redirects_lead_nowhere_that_is_not_meant() {
    let upstream = FakeUpstream::start();
    let secret = FakeUpstream::start();
    secret.serve_at("/secret", b"secret");
    let port = secret.authority().rsplit_once(':').unwrap().1.to_owned();
    let targets = [
        secret.base_url() + "/secret",
        format!("http://localhost:{port}/secret"),
        format!("http://[::ffff:127.0.0.1]:{port}/secret"),
        format!("http://2130706433:{port}/secret"),
        format!("http://0.0.0.0:{port}/secret"),
        format!("http://0x7f.1:{port}/secret"),
        format!("http://user:password@127.0.0.1:{port}/secret"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::ffff:a9fe:a9fe]/latest/meta-data/".to_owned(),
        "http://[64:ff9b::a9fe:a9fe]/".to_owned(),
        "http://[2002:7f00:1::]/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "http://192.168.0.1/".to_owned(),
        "http://[::1]:9/".to_owned(),
        "http://[fe80::1]/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "ftp://127.0.0.1/x".to_owned(),
        "gopher://127.0.0.1/x".to_owned(),
        "javascript:alert(1)".to_owned(),
        "//".to_owned(),
        String::new(),
    ];
    let mirror = start(&upstream);
    let asked: Vec<_> = targets
        .iter()
        .enumerate()
        .map(|(number, target)| {
            let name = format!("trap{number}");
            publish(&upstream, &name, "1.0.0", 100);
            let path = FakeUpstream::download_path(&name, "1.0.0");
            upstream.fault(&path, Fault::Redirect(302, target.clone()), Times::Always);
            (
                target,
                path,
                mirror.exchange("GET", &download(&name, "1.0.0"), &[], b""),
            )
        })
        .collect();
    for (target, path, exchange) in asked {
        let (reply, timing) = exchange.finish().unwrap();
        assert_eq!(reply.status, 502, "{target}: {}", reply.text());
        assert!(!detail(&reply).contains("password"), "{}", reply.text());
        assert!(timing.total < SOON, "refused and not tried: {target}");
        assert_eq!(upstream.count(&path), 1, "{target}");
    }
    assert!(secret.requests().is_empty() && secret.connections() == 0);
    assert!(mirror.kept_files().is_empty());
}

#[test]
fn a_loop_ends() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "round", "1.0.0", 100);
    let path = FakeUpstream::download_path("round", "1.0.0");
    upstream.fault(&path, Fault::RedirectLoop, Times::Always);
    let mirror = start(&upstream);
    assert_eq!(mirror.get(&download("round", "1.0.0")).status, 502);
    assert_eq!(upstream.count(&path), 4, "the request and three redirects");
}

#[test]
fn the_host_that_upstream_names_for_downloads_may_be_any() {
    let (upstream, files) = (FakeUpstream::start(), FakeUpstream::start());
    let krate = publish(&upstream, "elsewhere", "1.0.0", 100);
    files.serve_at("/store/elsewhere-1.0.0.crate", &krate.bytes);
    upstream.set_dl(&format!("{}/store/{{crate}}-{{version}}.crate", files.base_url()));
    let mirror = start(&upstream);
    assert_whole(&mirror.get(&download("elsewhere", "1.0.0")), &krate);
    assert_eq!((files.requests().len(), crate_requests(&upstream)), (1, 0));

    let other = publish(&upstream, "set", "1.0.0", 100);
    files.serve_at("/set/set/1.0.0/download", &other.bytes);
    let set = format!("{}/set", files.base_url());
    let mirror = builder(&upstream).env("MIRROR_UPSTREAM__DOWNLOAD", &set).start();
    assert_whole(&mirror.get(&download("set", "1.0.0")), &other);
}

#[test]
fn a_download_address_that_is_none_is_a_502_and_no_way_in() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "odd", "1.0.0", 100);
    for dl in [
        "file:///etc/",
        "ftp://127.0.0.1/{crate}",
        "http://",
        "not an address",
        "http://127.0.0.1:99999/x",
    ] {
        upstream.set_config_json(serde_json::json!({ "dl": dl }).to_string().as_bytes());
        let mirror = start(&upstream);
        let reply = mirror.get(&download("odd", "1.0.0"));
        assert!(
            matches!(reply.status, 502 | 503),
            "{dl}: {} {}",
            reply.status,
            reply.text()
        );
        assert!(!detail(&reply).is_empty());
    }
}
