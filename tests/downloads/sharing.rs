use testkit::{Exchange, FakeUpstream};

use super::{LARGE_BYTES, SOON, assert_whole, crate_requests, download, is_kept, publish, start, wait_until};

const CLIENTS: usize = 500;

#[test]
fn five_hundred_clients_make_one_request_and_all_get_the_right_bytes() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "wanted", "1.0.0", LARGE_BYTES);
    let mirror = start(&upstream);
    let path = FakeUpstream::download_path("wanted", "1.0.0");
    let gate = upstream.hold(&path);
    let get = |_| mirror.exchange("GET", &download("wanted", "1.0.0"), &[], b"");
    let clients: Vec<Exchange> = (0..CLIENTS).map(get).collect();
    wait_until("every client waits for the one fill", || {
        mirror.metric("fill_waiters_joined") == CLIENTS as u64 - 1
    });
    gate.open();
    for client in clients {
        assert_whole(&client.finish().unwrap().0, &krate);
    }
    assert_eq!(upstream.count(&path), 1);
    assert_eq!(upstream.count(&FakeUpstream::index_path("wanted")), 1);
    assert_eq!(mirror.metric("fills_ok"), 1);
    assert!(is_kept(&mirror, &krate));
}

#[test]
fn first_bytes_go_out_when_the_first_bytes_come_in() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "streamed", "1.0.0", LARGE_BYTES);
    let mirror = start(&upstream);
    let gate = upstream.hold_after(&FakeUpstream::download_path("streamed", "1.0.0"), 10_000);
    let get = || mirror.exchange("GET", &download("streamed", "1.0.0"), &[], b"");
    let mut clients = [get(), get()];
    for client in &mut clients {
        assert_eq!(client.status().unwrap(), 200);
        let first = client.read_at_least(10_000).unwrap();
        assert!(first == &krate.bytes[..10_000], "{} bytes", first.len());
    }
    assert!(!is_kept(&mirror, &krate));
    gate.open();
    for client in clients {
        assert_whole(&client.finish().unwrap().0, &krate);
    }
    assert_eq!(crate_requests(&upstream), 1);
}

#[test]
fn the_last_bytes_wait_for_the_comparison() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "checked", "1.0.0", LARGE_BYTES);
    let mirror = start(&upstream);
    let all_but_one = krate.bytes.len() - 1;
    let gate = upstream.hold_after(&FakeUpstream::download_path("checked", "1.0.0"), all_but_one);
    let mut client = mirror.exchange("GET", &download("checked", "1.0.0"), &[], b"");
    let given = client.read_at_least(krate.bytes.len() - (64 << 10)).unwrap().len();
    assert!(
        given <= krate.bytes.len() - (64 << 10),
        "{given} bytes are out before the hash is known"
    );
    gate.open();
    assert_whole(&client.finish().unwrap().0, &krate);
}

#[test]
fn a_client_that_leaves_changes_nothing() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "left", "1.0.0", LARGE_BYTES);
    let alone = publish(&upstream, "alone", "1.0.0", LARGE_BYTES);
    let mirror = start(&upstream);
    let gate = upstream.hold_after(&FakeUpstream::download_path("left", "1.0.0"), 10_000);
    let mut first = mirror.exchange("GET", &download("left", "1.0.0"), &[], b"");
    first.read_at_least(10_000).unwrap();
    let second = mirror.exchange("GET", &download("left", "1.0.0"), &[], b"");
    wait_until("the second has joined", || mirror.metric("fill_waiters_joined") == 1);
    drop(first);
    gate.open();
    assert_whole(&second.finish().unwrap().0, &krate);
    assert_eq!(upstream.count(&FakeUpstream::download_path("left", "1.0.0")), 1);

    let path = FakeUpstream::download_path("alone", "1.0.0");
    let gate = upstream.hold(&path);
    let only = mirror.exchange("GET", &download("alone", "1.0.0"), &[], b"");
    assert!(gate.wait_reached(1, SOON));
    drop(only);
    gate.open();
    wait_until("a fill that nobody waits for is kept", || is_kept(&mirror, &alone));
    upstream.go_down();
    assert_whole(&mirror.get(&download("alone", "1.0.0")), &alone);
    assert_eq!(upstream.count(&path), 1);
}

#[test]
fn fills_are_bounded_and_all_get_their_turn() {
    let upstream = FakeUpstream::start();
    let krates: Vec<_> = (0..60)
        .map(|number| publish(&upstream, &format!("many{number}"), "1.0.0", 10_000))
        .collect();
    let mirror = start(&upstream);
    let gate = upstream.hold("/dl/");
    let get = |name: &str| mirror.exchange("GET", &download(name, "1.0.0"), &[], b"");
    let clients: Vec<Exchange> = krates.iter().map(|krate| get(&krate.name)).collect();
    wait_until("all have come to the cache", || {
        mirror.metric("fills_running") + mirror.metric("fills_waiting") == 60
    });
    assert_eq!(
        mirror.metric("fills_running"),
        16,
        "so many may be under way at one host"
    );
    assert!(gate.wait_reached(16, SOON));
    assert_eq!(crate_requests(&upstream), 16);
    assert_eq!(mirror.get("/healthz").status, 200);
    gate.open();
    for (client, krate) in clients.into_iter().zip(&krates) {
        assert_whole(&client.finish().unwrap().0, krate);
    }
    assert_eq!((crate_requests(&upstream), mirror.kept_files().len()), (60, 60));
}

#[test]
fn a_file_that_is_evicted_is_read_to_its_end_and_fetched_again() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "evicted", "1.0.0", 20 << 20);
    let mirror = start(&upstream);
    assert_whole(&mirror.get(&download("evicted", "1.0.0")), &krate);
    let recorded = || mirror.metric("kept_files") == 1;
    wait_until("it is recorded", recorded);
    let mut reader = mirror.exchange("GET", &download("evicted", "1.0.0"), &[], b"");
    reader.read_at_least(1).unwrap();
    assert!(mirror.run(&["evict", "evicted@1.0.0"]).status.success());
    assert!(!is_kept(&mirror, &krate));
    assert_whole(&reader.finish().unwrap().0, &krate);
    assert_whole(&mirror.get(&download("evicted", "1.0.0")), &krate);
    assert_eq!(crate_requests(&upstream), 2);
}
