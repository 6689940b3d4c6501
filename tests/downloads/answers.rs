use testkit::{CrateBuilder, FakeUpstream, Reply};

use super::{LARGE_BYTES, assert_whole, crate_requests, detail, download, publish, start};

fn describes(reply: &Reply, tag: &str) {
    assert_eq!(reply.header("etag"), Some(tag));
    assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(reply.header("content-encoding"), None);
}

#[test]
fn a_miss_and_a_hit_answer_the_same() {
    let upstream = FakeUpstream::start();
    let krates = [
        publish(&upstream, "small", "1.0.0", 100),
        publish(&upstream, "large", "1.0.0", LARGE_BYTES),
    ];
    let mirror = start(&upstream);
    for krate in &krates {
        let (path, tag) = (download(&krate.name, "1.0.0"), format!("\"{}\"", krate.checksum));
        let length = krate.bytes.len().to_string();
        for _ in ["a miss", "a hit"] {
            let reply = mirror.request("GET", &path, &[("Accept-Encoding", "gzip, deflate")], b"");
            assert_whole(&reply, krate);
            describes(&reply, &tag);
            assert_eq!(reply.header("content-length"), Some(length.as_str()));
        }
        upstream.go_down();
        let head = mirror.request("HEAD", &path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
        describes(&head, &tag);
        assert_eq!(head.header("content-length"), Some(length.as_str()));
        assert_whole(
            &mirror.get(&format!("/api/v1/mirror/{}/1.0.0/download", krate.name)),
            krate,
        );
        upstream.come_back();
    }
    assert_eq!(crate_requests(&upstream), 2);
    assert_eq!(mirror.metric("crate_misses"), 2);
    assert_eq!(mirror.metric("crate_hits"), 4, "a HEAD serves nothing");

    let asked = upstream.requests();
    let asked = asked.iter().find(|request| request.path.starts_with("/dl/")).unwrap();
    assert_eq!(asked.method, "GET");
    assert_eq!(asked.header("accept-encoding"), Some("identity"));
    assert!(asked.header("user-agent").unwrap().starts_with("mirror/"));
    for header in ["range", "if-none-match", "authorization", "cookie", "x-forwarded-for"] {
        assert_eq!(asked.header(header), None, "{header}");
    }
}

#[test]
fn a_head_for_what_is_not_kept_tells_the_same_and_brings_it() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "cold", "1.0.0", LARGE_BYTES);
    let mirror = start(&upstream);
    let head = mirror.request("HEAD", &download("cold", "1.0.0"), &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    describes(&head, &format!("\"{}\"", krate.checksum));
    assert_eq!(
        head.header("content-length"),
        Some(krate.bytes.len().to_string().as_str())
    );
    assert_whole(&mirror.get(&download("cold", "1.0.0")), &krate);
    assert_eq!(crate_requests(&upstream), 1);
}

#[test]
fn single_ranges_are_parts_and_all_else_is_the_whole() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "ranged", "1.0.0", LARGE_BYTES);
    let mirror = start(&upstream);
    let path = download("ranged", "1.0.0");
    assert_whole(&mirror.request("GET", &path, &[("Range", "bytes=0-9")], b""), &krate);
    let size = krate.bytes.len();
    let last = size - 1;
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=0-99".to_owned(), 0, 100),
        ("bytes=100-".to_owned(), 100, size),
        (format!("bytes={last}-"), last, size),
        ("bytes=-7".to_owned(), size - 7, size),
        (format!("bytes=-{}", size * 2), 0, size),
        (format!("bytes=5-{}", size * 2), 5, size),
        ("bytes=70000-290000".to_owned(), 70_000, 290_001),
    ] {
        let reply = mirror.request("GET", &path, &[("Range", &range)], b"");
        assert_eq!((reply.status, reply.complete), (206, true), "{range}");
        assert!(reply.body == krate.bytes[first..end], "{range}");
        let shown = format!("bytes {first}-{}/{size}", end - 1);
        assert_eq!(reply.header("content-range"), Some(shown.as_str()), "{range}");
        describes(&reply, &format!("\"{}\"", krate.checksum));
    }
    for range in [
        format!("bytes={size}-"),
        "bytes=-0".to_owned(),
        "bytes=999999999999-".to_owned(),
    ] {
        let reply = mirror.request("GET", &path, &[("Range", &range)], b"");
        assert_eq!((reply.status, reply.body.len()), (416, 0), "{range}");
        let shown = format!("bytes */{size}");
        assert_eq!(reply.header("content-range"), Some(shown.as_str()), "{range}");
    }
    let thousand = format!("bytes={}", vec!["0-1"; 1000].join(","));
    for range in [
        "bytes=0-1,5-6",
        thousand.as_str(),
        "bytes=9-3",
        "lines=0-1",
        "bytes=",
        "bytes=a-b",
        "bytes=1-2-3",
    ] {
        assert_whole(&mirror.request("GET", &path, &[("Range", range)], b""), &krate);
    }
}

#[test]
fn conditions_are_honoured() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "known", "1.0.0", LARGE_BYTES);
    let mirror = start(&upstream);
    let (path, tag) = (download("known", "1.0.0"), format!("\"{}\"", krate.checksum));
    assert_whole(&mirror.get(&path), &krate);
    for yes in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"other\", {tag}"),
        "*".to_owned(),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = mirror.request(method, &path, &[("If-None-Match", &yes)], b"");
            assert_eq!((reply.status, reply.body.len()), (304, 0), "{method} {yes}");
            describes(&reply, &tag);
        }
    }
    let long = "\"other\",".repeat(6_000);
    for no in ["\"other\"", "nonsense", long.as_str()] {
        assert_whole(&mirror.request("GET", &path, &[("If-None-Match", no)], b""), &krate);
    }
    let ranged = |given: &str| mirror.request("GET", &path, &[("Range", "bytes=0-9"), ("If-Range", given)], b"");
    assert_eq!(ranged(&tag).status, 206);
    for other in ["\"other\"", &format!("W/{tag}"), "Mon, 01 Jan 2024 00:00:00 GMT"] {
        assert_whole(&ranged(other), &krate);
    }
    let reply = mirror.request("GET", &path, &[("Range", "bytes=0-9"), ("If-None-Match", &tag)], b"");
    assert_eq!(reply.status, 304, "If-None-Match comes first");
}

#[test]
fn a_plus_may_be_written_in_two_ways_and_a_space_is_none() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "built", "1.0.0+meta.1", 1_000);
    let mirror = start(&upstream);
    for version in ["1.0.0+meta.1", "1.0.0%2Bmeta.1", "1.0.0%2bmeta.1"] {
        assert_whole(&mirror.get(&download("built", version)), &krate);
    }
    assert_eq!(crate_requests(&upstream), 1);
    assert_eq!(mirror.get(&download("built", "1.0.0%20meta.1")).status, 404);
    assert_eq!(mirror.get(&download("built", "1.0.0")).status, 404, "another version");
    assert_eq!(crate_requests(&upstream), 1);
}

#[test]
fn case_does_not_matter_and_separators_do() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "Some-Name_x", "1.0.0", 1_000);
    let mirror = start(&upstream);
    for name in ["some-name_x", "Some-Name_x", "SOME-NAME_X"] {
        assert_whole(&mirror.get(&download(name, "1.0.0")), &krate);
    }
    assert_eq!(upstream.count(&FakeUpstream::download_path("Some-Name_x", "1.0.0")), 1);
    assert_eq!((crate_requests(&upstream), mirror.kept_files().len()), (1, 1));
    for name in ["some_name_x", "some-name-x"] {
        let reply = mirror.get(&download(name, "1.0.0"));
        assert_eq!(reply.status, 404, "{name}");
        assert!(detail(&reply).contains(name), "{name}");
    }
}

#[test]
fn yanked_versions_and_names_that_windows_fears_are_served() {
    let upstream = FakeUpstream::start();
    let yanked = CrateBuilder::new("old", "1.0.0").yanked().build();
    upstream.add(&yanked);
    let mirror = start(&upstream);
    assert_whole(&mirror.get(&download("old", "1.0.0")), &yanked);
    for name in ["con", "nul", "aux", "com1"] {
        let krate = publish(&upstream, name, "1.0.0", 100);
        assert_whole(&mirror.get(&download(name, "1.0.0")), &krate);
        let file = mirror
            .kept_files()
            .into_iter()
            .find(|file| file.ends_with(krate.checksum.to_hex()));
        assert!(file.is_some(), "{name} is kept by its checksum alone");
    }
}

#[test]
fn a_mirror_is_read_only_and_says_so() {
    let upstream = FakeUpstream::start();
    publish(&upstream, "serde", "1.0.0", 100);
    let mirror = start(&upstream);
    for (method, path) in [
        ("PUT", "/api/v1/crates/new"),
        ("DELETE", "/api/v1/crates/serde/1.0.0/yank"),
        ("PUT", "/api/v1/crates/serde/1.0.0/unyank"),
        ("PUT", "/api/v1/crates/serde/owners"),
        ("DELETE", "/api/v1/crates/serde/owners"),
        ("PUT", "/api/v1/crates/serde/1.0.0/download"),
        ("POST", "/api/v1/crates/serde/1.0.0/download"),
        ("DELETE", "/api/v1/mirror/serde/1.0.0/download"),
        ("PUT", "/api/v1/me/tokens"),
        ("POST", "/api/v1/crates"),
    ] {
        let reply = mirror.request(method, path, &[("Authorization", "secret")], b"x");
        assert_eq!(reply.status, 403, "{method} {path}: {}", reply.text());
        assert!(detail(&reply).contains("read-only"), "{method} {path}");
    }
    assert!(upstream.requests().is_empty(), "nothing of this goes upstream");
}
