//! Upstreams that lie, break off, or are gone.

use crate::progress::HELD_BACK;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_are_asked_for_once_more_and_remembered() {
    let fixture = Fixture::new();
    let (_, wanted) = fixture.file(1000);
    fixture.upstream.fault(PATH, Fault::WrongBytes, Times::Always);
    let error = fixture.failure(&wanted).await;
    assert!(matches!(error, Error::WrongBytes { size_bytes: 1000, expected, .. } if expected == wanted.checksum));
    let requests = fixture.upstream.requests();
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].connection, requests[1].connection, "not a fresh connection");

    let again = fixture.fetch(&wanted).await.unwrap_err();
    assert!(matches!(again, Error::WrongBytes { .. }));
    assert_eq!(fixture.requests(), 2, "it was asked for again");

    // Evicting is how an operator says: try now.
    fixture.upstream.clear_faults();
    assert_eq!(fixture.cache.evict(&wanted.checksum).unwrap(), None);
    assert_eq!(fixture.fill(&wanted).await.unwrap().len(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_may_be_forgotten_at_once() {
    let fixture = Fixture::with(|config, _| config.remember_failure = Duration::ZERO);
    let (bytes, wanted) = fixture.file(1000);
    fixture.upstream.fault(PATH, Fault::Status(404), Times::Once);
    fixture.failure(&wanted).await;
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_the_end_of_wrong_bytes() {
    let fixture = Fixture::new();
    let (_, wanted) = fixture.file(500_000);
    fixture.upstream.fault(PATH, Fault::WrongBytes, Times::Always);
    let waiters = [fixture.waiter(&wanted).await, fixture.waiter(&wanted).await];
    for waiter in waiters {
        let cut = read(waiter).await.unwrap_err();
        assert!(matches!(cut.error, Error::WrongBytes { .. }), "{cut:?}");
        assert!(cut.bytes.len() as u64 <= 500_000 - HELD_BACK);
    }
    assert!(fixture.cache.kept(&wanted.checksum).unwrap().is_none());
    assert_eq!(fixture.unfinished(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_edge_of_a_cdn_is_got_over() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1000);
    fixture.upstream.fault(PATH, Fault::WrongBytes, Times::Once);
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    assert_eq!(fixture.cache.stats().retries, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transient_trouble_is_tried_again() {
    let troubles = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::CutAfter(10),
        Fault::ChunkedCut,
        Fault::Reset,
    ];
    for trouble in troubles {
        let fixture = Fixture::with(|config, _| config.attempts = 4);
        let (bytes, wanted) = fixture.file(1000);
        let name = format!("{trouble:?}");
        fixture.upstream.fault(PATH, trouble, Times::N(2));
        let filled = fixture.fill(&wanted).await;
        assert!(filled.is_ok_and(|filled| filled == bytes), "{name}");
        assert!(fixture.cache.stats().retries >= 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lasting_trouble_fails() {
    type Expected = fn(&Error) -> bool;
    let troubles: [(Fault, Expected); 9] = [
        (Fault::Status(500), |error| {
            matches!(error, Error::Status { status: 500, .. })
        }),
        (Fault::Status(410), |error| {
            matches!(error, Error::Refused { status: 410, .. })
        }),
        (Fault::Json403, |error| {
            matches!(error, Error::Refused { status: 403, .. })
        }),
        (Fault::Html200, |error| matches!(error, Error::WrongBytes { .. })),
        (Fault::Empty200, |error| {
            matches!(error, Error::WrongBytes { size_bytes: 0, .. })
        }),
        (Fault::Partial206, |error| {
            matches!(error, Error::Status { status: 206, .. })
        }),
        (Fault::CutAfter(10), |error| matches!(error, Error::Upstream(_))),
        (Fault::CloseDelimited, |error| matches!(error, Error::Upstream(_))),
        (Fault::GzipLie, |error| matches!(error, Error::Upstream(_))),
    ];
    for (trouble, expected) in troubles {
        let fixture = Fixture::new();
        let (_, wanted) = fixture.file(1000);
        let name = format!("{trouble:?}");
        fixture.upstream.fault(PATH, trouble, Times::Always);
        let error = fixture.failure(&wanted).await;
        assert!(expected(&error), "{name}: {error:?}");
        let again = fixture.fetch(&wanted).await.unwrap_err();
        assert_eq!(again.in_one_line(), error.in_one_line(), "{name} is remembered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_final_answer_is_not_asked_for_again() {
    let fixture = Fixture::new();
    let wanted = wanted(b"nowhere");
    let error = fixture.failure(&wanted).await;
    assert!(matches!(error, Error::Refused { status: 404, .. }), "{error:?}");
    assert_eq!(fixture.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_wants_to_be_left_alone_is() {
    let fixture = Fixture::with(|config, _| config.remember_failure = Duration::ZERO);
    let (_, wanted) = fixture.file(1000);
    let busy = Fault::StatusWithRetryAfter(503, Duration::from_secs(3600));
    fixture.upstream.fault(PATH, busy, Times::Always);
    let error = fixture.failure(&wanted).await;
    assert!(error.is_temporary(), "{error:?}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert!(fixture.fetch(&wanted).await.is_err(), "it is asked again at once");
    assert_eq!(fixture.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_in_the_middle_is_mended_by_the_same_bytes() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1 << 20);
    fixture.upstream.fault(PATH, Fault::CutAfter(600_000), Times::Once);
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    assert_eq!(fixture.requests(), 2);
    assert!(whole(&fixture.cache.kept(&wanted.checksum).unwrap().unwrap()) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_in_the_middle_is_not_mended_by_other_bytes_or_lengths() {
    let mut other = noise(1 << 20);
    other[0] ^= 1;
    for other in [other, noise((1 << 20) + 1)] {
        let fixture = Fixture::new();
        let (bytes, wanted) = fixture.file(1 << 20);
        fixture.upstream.fault(PATH, Fault::StallAfter(600_000), Times::Once);
        let mut waiter = fixture.waiter(&wanted).await;
        let first = soon(waiter.next()).await.unwrap().unwrap();
        assert_eq!(first, &bytes[..first.len()]);
        fixture.upstream.serve_at(PATH, &other);
        // Ends the stalled connection.
        fixture.upstream.clear_faults();
        let error = loop {
            match soon(waiter.next()).await.expect("an error comes before the end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Changed { .. }), "{error:?}");
        assert!(fixture.cache.kept(&wanted.checksum).unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_that_lasts_cuts_the_waiters() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1 << 20);
    fixture.upstream.fault(PATH, Fault::CutAfter(600_000), Times::Always);
    let cut = fixture.fill(&wanted).await.unwrap_err();
    assert!(matches!(cut.error, Error::Upstream(_)), "{:?}", cut.error);
    assert!(bytes.starts_with(&cut.bytes) && cut.bytes.len() <= 600_000);
    assert_eq!(fixture.requests(), 3);
    assert_eq!(fixture.unfinished(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_large_and_endless_bodies_are_broken_off() {
    let fixture = Fixture::with(|config, _| config.max_file_bytes = 1 << 20);
    let (_, wanted) = fixture.file((1 << 20) + 1);
    let error = fixture.failure(&wanted).await;
    assert!(
        matches!(
            error,
            Error::TooLarge {
                limit_bytes: 0x10_0000,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(fixture.requests(), 1);

    let fixture = Fixture::with(|config, _| config.max_file_bytes = 1 << 20);
    let (_, wanted) = fixture.file(1000);
    fixture.upstream.fault(PATH, Fault::Endless, Times::Always);
    let error = fixture.failure(&wanted).await;
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_body_fails_in_time() {
    let fixture = Fixture::with(|config, http| {
        http.stall_timeout = Duration::from_millis(100);
        config.attempts = 2;
    });
    let (bytes, wanted) = fixture.file(1 << 20);
    fixture.upstream.fault(PATH, Fault::StallAfter(400_000), Times::Always);
    let cut = fixture.fill(&wanted).await.unwrap_err();
    assert!(cut.error.is_temporary(), "{:?}", cut.error);
    assert!(bytes.starts_with(&cut.bytes));
    assert_eq!(fixture.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_in_ends_the_fill() {
    let fixture = Fixture::with(|config, _| {
        config.min_bytes_per_second = 1 << 20;
        config.slow_for = Duration::from_millis(200);
    });
    let (_, wanted) = fixture.file(1 << 20);
    let trickle = Fault::Trickle {
        bytes: 100,
        every: Duration::from_millis(10),
    };
    fixture.upstream.fault(PATH, trickle, Times::Always);
    let error = fixture.failure(&wanted).await;
    assert!(matches!(error, Error::TooSlow { size_bytes: 1.., .. }), "{error:?}");
    assert!(error.is_temporary() && !error.is_local());
    assert!(error.to_string().ends_with("1048576 a second are the least"), "{error}");
    assert_eq!(fixture.requests(), 1, "asking again would only take longer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_gone_harms_no_kept_file() {
    let fixture = Fixture::with(|config, _| config.attempts = 2);
    let (bytes, wanted_kept) = fixture.file(1000);
    fixture.fill(&wanted_kept).await.unwrap();
    fixture.upstream.go_down();
    let error = fixture.fill(&wanted(b"other")).await.unwrap_err().error;
    assert!(matches!(error, Error::Upstream(_)), "{error:?}");
    let CrateFile::Kept(kept) = fixture.fetch(&wanted_kept).await.unwrap() else {
        panic!("it is not kept");
    };
    assert!(whole(&kept) == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_file_is_none_even_if_the_index_says_so() {
    let fixture = Fixture::new();
    let (_, wanted) = fixture.file(0);
    let error = fixture.failure(&wanted).await;
    assert!(matches!(error, Error::Empty { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wrong_body_of_any_size_is_ever_whole() {
    let held_back = HELD_BACK as usize;
    for size in [
        1,
        1000,
        held_back - 1,
        held_back,
        held_back + 1,
        held_back + 40_000,
        300_000,
    ] {
        for fault in [
            None,
            Some(Fault::Chunked),
            Some(Fault::ContentLengthTooSmall),
            Some(Fault::ChunkedCut),
        ] {
            let fixture = Fixture::new();
            let (right, wanted) = fixture.file(size);
            // Wrong in its very last byte.
            let mut wrong = right.clone();
            wrong[size - 1] ^= 1;
            fixture.upstream.serve_at(PATH, &wrong);
            let name = format!("{fault:?} of {size} bytes");
            if let Some(fault) = fault {
                fixture.upstream.fault(PATH, fault, Times::Always);
            }
            let cut = fixture.fill(&wanted).await.unwrap_err();
            assert!(right.starts_with(&cut.bytes), "{name}");
            assert!(
                cut.bytes.len() <= size.saturating_sub(held_back),
                "{name}: {}",
                cut.bytes.len()
            );
            assert!(fixture.cache.kept(&wanted.checksum).unwrap().is_none(), "{name}");
            assert_eq!(fixture.unfinished(), 0, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_bodies_of_all_sizes_are_kept() {
    let held_back = HELD_BACK as usize;
    for size in [1, held_back - 1, held_back, held_back + 1, 300_001] {
        let fixture = Fixture::new();
        let (bytes, wanted) = fixture.file(size);
        let mut waiter = fixture.waiter(&wanted).await;
        assert_eq!(soon(waiter.head()).await.unwrap(), Some(size as u64));
        assert!(read(waiter).await.unwrap() == bytes, "{size} bytes");
        let kept = fixture.cache.kept(&wanted.checksum).unwrap().unwrap();
        assert!(whole(&kept) == bytes, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_page_without_a_length_is_known_by_its_status() {
    let page = b"HTTP/1.1 503 Service Unavailable\r\n\r\nsorry".to_vec();
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1000);
    fixture.upstream.fault(PATH, Fault::Raw(page), Times::N(2));
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    assert_eq!(fixture.requests(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_longer_first_attempt_stays() {
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1000);
    fixture.upstream.fault(PATH, Fault::ExtraBytes, Times::Once);
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
    assert_eq!(fixture.requests(), 2);
    let kept = fixture.cache.kept(&wanted.checksum).unwrap().unwrap();
    assert!(whole(&kept) == bytes, "{} bytes were kept", kept.size_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_that_was_told_cannot_be_taken_back() {
    for second in [None, Some(Fault::Chunked)] {
        let fixture = Fixture::new();
        let (_, wanted) = fixture.file(300_000);
        fixture.upstream.fault(PATH, Fault::ContentLengthTooLarge, Times::Once);
        if let Some(fault) = second {
            fixture.upstream.fault(PATH, fault, Times::Once);
        }
        let mut waiter = fixture.waiter(&wanted).await;
        assert_eq!(soon(waiter.head()).await.unwrap(), Some(301_000));
        let cut = read(waiter).await.unwrap_err();
        assert!(matches!(cut.error, Error::Changed { .. }), "{:?}", cut.error);
        assert_eq!(fixture.requests(), 2);
    }
    // Of a small file nobody has been told.
    let fixture = Fixture::new();
    let (bytes, wanted) = fixture.file(1000);
    fixture.upstream.fault(PATH, Fault::ContentLengthTooLarge, Times::Once);
    assert!(fixture.fill(&wanted).await.unwrap() == bytes);
}
