//! Many callers, one fill.

use crate::progress::HELD_BACK;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_callers_make_one_request() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1 << 20);
    let gate = fixture.upstream.hold(PATH);
    let mut readers = Vec::new();
    for _ in 0..500 {
        readers.push(tokio::spawn(read(fixture.waiter(&wanted).await)));
    }
    gate.open();
    for reader in readers {
        assert!(reader.await.unwrap().unwrap() == bytes, "other bytes came");
    }
    assert_eq!(fixture.requests(), 1);
    let CrateFile::Kept(kept) = fixture.fetch(&wanted).await.unwrap() else {
        panic!("it is not kept");
    };
    assert!(whole(&kept) == bytes);
    let stats = fixture.cache.stats();
    assert_eq!((stats.waiters_joined, stats.fills_ok), (499, 1));
    assert_eq!((stats.fills_running, stats.fills_waiting), (0, 0));
    assert_eq!(stats.bytes_fetched, 1 << 20);
    let events = fixture.events.lock().unwrap();
    assert!(
        matches!(&events[..], [Event::Kept { wanted: told, size_bytes: 0x10_0000 }] if *told == wanted),
        "{events:?}"
    );
    assert_eq!(fixture.unfinished(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_callers_departure_changes_nothing() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1 << 20);
    let gate = fixture.upstream.hold_after(PATH, 300_000);
    let mut leader = fixture.waiter(&wanted).await;
    soon(leader.next()).await.unwrap().unwrap();
    let other = fixture.waiter(&wanted).await;
    drop(leader);
    gate.open();
    assert!(read(other).await.unwrap() == bytes);
    assert_eq!(fixture.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_goes_on_when_nobody_is_left() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1 << 20);
    let gate = fixture.upstream.hold_after(PATH, 300_000);
    drop(fixture.waiter(&wanted).await);
    assert_eq!(fixture.cache.drain(Duration::ZERO).await, 1);
    gate.open();
    assert_eq!(fixture.cache.drain(SOON).await, 0);
    assert!(whole(&fixture.cache.kept(&wanted.checksum).unwrap().unwrap()) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_bytes_go_out_as_they_come_and_the_last_ones_are_held_back() {
    let fixture = Fixture::new();
    let size = 1 << 20;
    let (bytes, wanted) = fixture.file(size);
    let first = fixture.upstream.hold_after(PATH, 1);
    let last = fixture.upstream.hold_after(PATH, size - 1);
    let mut waiter = fixture.waiter(&wanted).await;
    assert_eq!(soon(waiter.head()).await.unwrap(), Some(size as u64));
    assert_eq!(soon(waiter.next()).await.unwrap().unwrap(), &bytes[..1]);
    assert!(now(waiter.next()).is_none(), "no more has come");
    first.open();
    let before_check = size as u64 - HELD_BACK;
    while waiter.position() < before_check {
        let piece = soon(waiter.next()).await.unwrap().unwrap();
        assert!(piece.len() as u64 <= HELD_BACK, "a piece of {} bytes", piece.len());
    }
    assert_eq!(waiter.position(), before_check);
    assert!(last.wait_reached(1, SOON));
    assert!(now(waiter.next()).is_none(), "bytes went out before the check");
    assert!(fixture.cache.kept(&wanted.checksum).unwrap().is_none());
    last.open();
    assert!(read(waiter).await.unwrap() == bytes[before_check as usize..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_a_stall_goes_out_during_it() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1 << 20);
    let gate = fixture.upstream.hold_after(PATH, 600_000);
    let mut waiter = fixture.waiter(&wanted).await;
    while waiter.position() < 600_000 {
        soon(waiter.next()).await.unwrap().unwrap();
    }
    assert!(now(waiter.next()).is_none(), "no more has come");
    gate.open();
    assert!(read(waiter).await.unwrap() == bytes[600_000..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_are_not_begun_before_they_are_whole() {
    let fixture = Fixture::new();
    let size = HELD_BACK as usize;
    let (bytes, wanted) = fixture.file(size);
    let gate = fixture.upstream.hold_after(PATH, size - 1);
    let mut waiter = fixture.waiter(&wanted).await;
    assert!(gate.wait_reached(1, SOON));
    assert!(now(waiter.head()).is_none());
    assert!(now(waiter.next()).is_none());
    gate.open();
    assert_eq!(soon(waiter.head()).await.unwrap(), Some(HELD_BACK));
    assert!(read(waiter).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_unknown_length_is_passed_on_too() {
    let fixture = Fixture::new();
    fixture.upstream.fault(PATH, Fault::Chunked, Times::Always);
    let (bytes, wanted_large) = fixture.file(500_000);
    assert!(fixture.fill(&wanted_large).await.unwrap() == bytes);
    // A small one is whole before it is begun, and so its length is known.
    let (bytes, wanted_small) = fixture.file(500);
    let mut waiter = fixture.waiter(&wanted_small).await;
    assert_eq!(soon(waiter.head()).await.unwrap(), Some(500));
    assert!(read(waiter).await.unwrap() == bytes);

    // One that has no end is begun without a length.
    fixture.upstream.clear_faults();
    fixture.upstream.fault(PATH, Fault::Endless, Times::Always);
    let mut waiter = fixture.waiter(&wanted(b"other")).await;
    assert_eq!(soon(waiter.head()).await.unwrap(), None);
    fixture.upstream.go_down();
    assert!(read(waiter).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_waiter_outlives_the_fill_and_the_file() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(700_000);
    let slow = fixture.waiter(&wanted).await;
    assert_eq!(fixture.cache.drain(SOON).await, 0);
    assert_eq!(fixture.cache.evict(&wanted.checksum).unwrap(), Some(700_000));
    assert!(read(slow).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_wait_for_their_turn() {
    let fixture = Fixture::with(|config, _| config.fills_at_once = 1);
    let (bytes, wanted_first) = fixture.file(1000);
    let other = noise(2000);
    fixture.upstream.serve_at("/files/other.crate", &other);
    let gate = fixture.upstream.hold(PATH);
    let first = fixture.waiter(&wanted_first).await;
    assert!(gate.wait_reached(1, SOON));
    let second = fixture
        .cache
        .fetch(wanted(&other), fixture.url("/files/other.crate"))
        .await;
    let CrateFile::Filling(second) = second.unwrap() else {
        panic!("it is kept already");
    };
    let waits = || (fixture.cache.stats().fills_waiting == 1).then_some(());
    testkit::eventually(SOON, waits).unwrap();
    assert_eq!(fixture.cache.stats().fills_running, 1);
    assert_eq!(fixture.upstream.count("/files/other.crate"), 0);
    gate.open();
    assert!(read(first).await.unwrap() == bytes);
    assert!(read(second).await.unwrap() == other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_turn_and_the_fill_have_a_deadline() {
    let fixture = Fixture::with(|config, _| {
        config.fills_per_host = 1;
        config.fill_deadline = Duration::from_millis(300);
    });
    let (_, wanted_first) = fixture.file(1000);
    let _gate = fixture.upstream.hold("/files/");
    let first = fixture.waiter(&wanted_first).await;
    let running = || (fixture.requests() == 1).then_some(());
    testkit::eventually(SOON, running).unwrap();
    let second = fixture.waiter(&wanted(b"other")).await;
    let slow = read(first).await.unwrap_err().error;
    assert!(slow.is_temporary(), "{slow:?}");
    // Its turn comes a moment before its own deadline, or never.
    let late = read(second).await.unwrap_err().error;
    assert!(late.is_temporary(), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_ends_while_others_ask_is_not_begun_again() {
    let fixture = Arc::new(Fixture::new());
    for number in 0..100 {
        let path = format!("/files/{number}.crate");
        let bytes = noise(number + 1);
        fixture.upstream.serve_at(&path, &bytes);
        let mut callers = Vec::new();
        for _ in 0..8 {
            let (fixture, path, wanted) = (fixture.clone(), path.clone(), wanted(&bytes));
            callers.push(tokio::spawn(async move {
                let url = fixture.url(&path);
                match fixture.cache.fetch(wanted, url).await.unwrap() {
                    CrateFile::Kept(kept) => whole(&kept),
                    CrateFile::Filling(waiter) => read(waiter).await.unwrap(),
                }
            }));
        }
        for caller in callers {
            assert_eq!(caller.await.unwrap(), bytes);
        }
        assert_eq!(fixture.upstream.count(&path), 1);
    }
}
