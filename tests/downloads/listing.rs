use testkit::{FakeUpstream, Fault, Times};

use super::{assert_whole, builder, crate_requests, detail, download, publish, start, wait_until};

#[test]
fn what_the_index_does_not_list_is_never_asked_for() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "serde", "1.0.0", 100);
    let mirror = start(&upstream);
    for (name, version) in [
        ("serde", "99.99.99"),
        ("serde", "1.0.0-alpha"),
        ("serde", "98.0.0"),
        ("no-such", "1.0.0"),
        ("no-such", "2.0.0"),
    ] {
        let reply = mirror.get(&download(name, version));
        assert_eq!(reply.status, 404);
        let detail = detail(&reply);
        assert!(detail.contains(name) && detail.contains(version), "{detail}");
    }
    assert_eq!(crate_requests(&upstream), 0, "a mirror is no open proxy");
    for name in ["serde", "no-such"] {
        assert_eq!(
            upstream.count(&FakeUpstream::index_path(name)),
            1,
            "{name} was looked up lately"
        );
    }
    assert_whole(&mirror.get(&download("serde", "1.0.0")), &krate);
    assert_eq!(upstream.count(&FakeUpstream::index_path("serde")), 1);
}

#[test]
fn an_old_index_file_is_asked_again_before_a_version_counts_as_unknown() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "serde", "1.0.0", 100);
    let mirror = builder(&upstream).env("MIRROR_INDEX__SPARSE_MAX_AGE", "1s").start();
    assert_eq!(mirror.get("/index/se/rd/serde").status, 200);
    let newer = publish(&upstream, "serde", "1.0.1", 100);
    wait_until("the new version is found by its download", || {
        let reply = mirror.get(&download("serde", "1.0.1"));
        if reply.status == 200 {
            assert_whole(&reply, &newer);
        }
        reply.status == 200
    });
    let (asked, downloads) = (
        upstream.count(&FakeUpstream::index_path("serde")),
        crate_requests(&upstream),
    );
    assert_eq!((asked, downloads), (2, 1));
}

#[test]
fn an_upstream_that_cannot_be_asked_makes_no_404() {
    let upstream = FakeUpstream::start();
    let kept = publish(&upstream, "kept", "1.0.0", 100);
    let cold = publish(&upstream, "cold", "1.0.0", 100);
    publish(&upstream, "unseen", "1.0.0", 100);
    let mirror = builder(&upstream).env("MIRROR_INDEX__SPARSE_MAX_AGE", "0s").start();
    assert_whole(&mirror.get(&download("kept", "1.0.0")), &kept);
    assert_eq!(mirror.get("/index/co/ld/cold").status, 200);

    upstream.go_down();
    assert_whole(&mirror.get(&download("kept", "1.0.0")), &kept);
    for name in ["unseen", "never-was"] {
        let reply = mirror.get(&download(name, "1.0.0"));
        assert_eq!(reply.status, 503, "{name}: {}", reply.text());
        assert!(reply.header("retry-after").is_some());
        assert!(!detail(&reply).is_empty());
    }
    let reply = mirror.get(&download("cold", "1.0.0"));
    assert_eq!(reply.status, 502, "listed, but not to be had: {}", reply.text());
    assert!(detail(&reply).contains("cold 1.0.0"), "{}", reply.text());

    upstream.come_back();
    wait_until("all is well again", || {
        mirror.get(&download("cold", "1.0.0")).body == cold.bytes
    });
    wait_until("what was unseen is found", || {
        mirror.get(&download("unseen", "1.0.0")).status == 200
    });

    let index = FakeUpstream::index_path("troubled");
    upstream.fault(&index, Fault::Status(500), Times::Always);
    let reply = mirror.get(&download("troubled", "1.0.0"));
    assert_eq!(reply.status, 503, "{}", reply.text());
}

#[test]
fn offline_a_miss_is_final_and_says_why() {
    let upstream = FakeUpstream::start();
    let kept = publish(&upstream, "kept", "1.0.0", 100);
    publish(&upstream, "cold", "1.0.0", 100);
    let mirror = start(&upstream);
    assert_whole(&mirror.get(&download("kept", "1.0.0")), &kept);
    assert_eq!(mirror.get("/index/co/ld/cold").status, 200);
    assert!(mirror.run(&["mode", "offline"]).status.success());
    upstream.clear_log();
    assert_whole(&mirror.get(&download("kept", "1.0.0")), &kept);
    for name in ["cold", "unseen"] {
        let reply = mirror.get(&download(name, "1.0.0"));
        assert_eq!((reply.status, reply.header("mirror-offline")), (404, Some("1")));
        let why = format!("{name} 1.0.0 is not kept here, and this mirror is offline");
        assert!(detail(&reply).starts_with(&why), "{}", detail(&reply));
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_download_may_be_the_first_thing_asked_on_an_empty_disk() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "first", "1.0.0", 100);
    upstream.set_dl("/files/{prefix}/{lowerprefix}/{crate}/{version}/{sha256-checksum}.crate");
    let mirror = start(&upstream);
    assert_whole(&mirror.get(&download("first", "1.0.0")), &krate);
    let paths: Vec<String> = upstream.requests().into_iter().map(|asked| asked.path).collect();
    let file = format!("/files/fi/rs/fi/rs/first/1.0.0/{}.crate", krate.checksum);
    assert!(paths.contains(&file), "{paths:?}");
    assert_eq!(paths.len(), 3, "index file, config.json and crate file: {paths:?}");
}
