use std::time::Duration;

use testkit::{FakeUpstream, Fault, Gate, Times};

use super::{LARGE_BYTES, assert_whole, builder, crate_requests, detail, download, is_kept, publish, start};

#[test]
fn files_beyond_the_limit_are_refused() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "huge", "1.0.0", LARGE_BYTES);
    publish(&upstream, "quiet", "1.0.0", LARGE_BYTES);
    let fits = publish(&upstream, "fits", "1.0.0", 50_000);
    upstream.fault(
        &FakeUpstream::download_path("quiet", "1.0.0"),
        Fault::Chunked,
        Times::Always,
    );
    let mirror = builder(&upstream).env("MIRROR_CACHE__MAX_FILE_SIZE", "200000").start();
    assert_whole(&mirror.get(&download("fits", "1.0.0")), &fits);
    let reply = mirror.get(&download("huge", "1.0.0"));
    assert_eq!(reply.status, 502);
    assert!(detail(&reply).contains("limit of 200000 bytes"), "{}", reply.text());
    assert_eq!(
        upstream.count(&FakeUpstream::download_path("huge", "1.0.0")),
        1,
        "it will not shrink"
    );
    if let Ok(reply) = mirror.try_request("GET", &download("quiet", "1.0.0"), &[], b"") {
        assert!(reply.status == 502 || !reply.complete, "{}", reply.status);
    }
    assert_eq!(mirror.kept_files().len(), 1);
}

#[test]
fn without_room_on_the_disk_files_are_passed_on_but_not_kept() {
    let upstream = FakeUpstream::start();
    let krates = [
        publish(&upstream, "small", "1.0.0", 100),
        publish(&upstream, "large", "1.0.0", LARGE_BYTES),
    ];
    let mirror = builder(&upstream).env("MIRROR_CACHE__MIN_FREE", "1000000TiB").start();
    for krate in &krates {
        for _ in 0..2 {
            assert_whole(&mirror.get(&download(&krate.name, "1.0.0")), krate);
            assert!(!is_kept(&mirror, krate));
        }
    }
    assert_eq!(crate_requests(&upstream), 4);
    assert_eq!(mirror.metric("fills_not_kept"), 4);
    assert!(mirror.log().contains("without keeping it"), "{}", mirror.log());
}

#[test]
fn an_upstream_that_asks_for_time_is_given_it() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "busy", "1.0.0", LARGE_BYTES);
    let path = FakeUpstream::download_path("busy", "1.0.0");
    let short = Fault::StatusWithRetryAfter(503, Duration::from_secs(1));
    upstream.fault(&path, short, Times::Once);
    upstream.fault(&path, Fault::Status(429), Times::Once);
    let mirror = start(&upstream);
    assert_whole(&mirror.get(&download("busy", "1.0.0")), &krate);
    let times: Vec<_> = upstream
        .requests()
        .iter()
        .filter(|asked| asked.path == path)
        .map(|asked| asked.at)
        .collect();
    assert_eq!(times.len(), 3);
    assert!(
        times[1] - times[0] >= Duration::from_secs(1),
        "{:?}",
        times[1] - times[0]
    );

    for (name, status) in [("busier", 503), ("busiest", 429)] {
        publish(&upstream, name, "1.0.0", LARGE_BYTES);
        let path = FakeUpstream::download_path(name, "1.0.0");
        upstream.fault(
            &path,
            Fault::StatusWithRetryAfter(status, Duration::from_secs(40)),
            Times::Always,
        );
        for _ in ["asked", "remembered"] {
            let reply = mirror.get(&download(name, "1.0.0"));
            assert_eq!(reply.status, 503, "old cargo takes 429 as final");
            assert_eq!(reply.header("retry-after"), Some("40"));
            assert!(detail(&reply).contains(&status.to_string()), "{}", reply.text());
        }
        assert_eq!(upstream.count(&path), 1, "it asked to be left alone");
    }
    let missing = publish(&upstream, "plain", "1.0.0", 100);
    assert_whole(&mirror.get(&download("plain", "1.0.0")), &missing);
}

#[test]
fn a_client_has_its_share_of_fills_and_others_have_theirs() {
    let upstream = FakeUpstream::start();
    let mirror = builder(&upstream)
        .env("MIRROR_LIMITS__FILLS_PER_CLIENT", "2")
        .env("MIRROR_TRUSTED_PROXIES", "127.0.0.1")
        .start();
    let names = ["one", "two", "three"];
    let held: Vec<_> = names
        .iter()
        .map(|name| {
            publish(&upstream, name, "1.0.0", LARGE_BYTES);
            upstream.hold(&FakeUpstream::download_path(name, "1.0.0"))
        })
        .collect();
    let client = |address: &'static str| [("X-Forwarded-For", address)];
    let ask = |name: &str| mirror.exchange("GET", &download(name, "1.0.0"), &client("10.0.0.1"), b"");
    let waiting: Vec<_> = names[..2].iter().map(|name| ask(name)).collect();
    let reached = |gate: &Gate| assert!(gate.wait_reached(1, Duration::from_secs(20)));
    held[..2].iter().for_each(reached);
    let refused = mirror.request("GET", &download("three", "1.0.0"), &client("10.0.0.1"), b"");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some() && detail(&refused).contains("10.0.0.1"));
    // what is being fetched already costs nothing more, and another client has its own share
    let joined = ask("one");
    let other = mirror.exchange("GET", &download("three", "1.0.0"), &client("10.0.0.2"), b"");
    reached(&held[2]);
    held.into_iter().for_each(Gate::open);
    for exchange in waiting.into_iter().chain([joined, other]) {
        assert_eq!(exchange.finish().unwrap().0.status, 200);
    }
    publish(&upstream, "four", "1.0.0", LARGE_BYTES);
    let later = mirror.request("GET", &download("four", "1.0.0"), &client("10.0.0.1"), b"");
    assert_eq!(later.status, 200, "its share came back");
}
