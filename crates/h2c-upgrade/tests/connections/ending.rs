//! Connections that say nothing, take nothing, or stand in the way of the end.

use std::{
    io::Read,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use h2c_upgrade::{Config, Limits};

use crate::{
    http2::{DATA, GOAWAY, PREFACE, SETTINGS, frame, get},
    support::{BIG, cargo, config, start, start_limited, wait_until},
};

const SHORT: Duration = Duration::from_millis(300);
/// actix-http tells the time in steps of half a second.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
const PLAIN: &str = "GET /head HTTP/1.1\r\nHost: a\r\n\r\n";
/// Far below the shutdown timeout, far above what an end takes.
const PROMPT: Duration = Duration::from_secs(5);

fn impatient() -> Config {
    Config {
        head_timeout: SHORT,
        ..config()
    }
}

#[test]
fn silent_connections_are_closed() {
    let server = start(impatient());
    for begun in ["", "GET /head HTTP/1.1\r\nHost:", "\r\n", "P"] {
        let mut client = server.connect();
        let start = Instant::now();
        client.send(begun);
        let rest = client.rest();
        assert!(rest.starts_with(b"HTTP/1.1 408 ") || begun == "P", "{begun:?}");
        assert!(start.elapsed() >= SHORT / 2, "{begun:?}");
    }
    let mut client = server.connect();
    client.send(&PREFACE[..20]);
    assert_eq!(client.rest(), b"");
    wait_until("all are counted out", || server.connections.open() == 0);
}

#[test]
fn a_later_head_must_be_whole_in_time_too() {
    let server = start(impatient());
    let mut client = server.connect();
    assert_eq!(client.ask(PLAIN).status, 200);
    client.send("GET /he");
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_body_must_move() {
    let server = start(Config {
        write_stall: SHORT,
        ..config()
    });
    let mut client = server.connect();
    client.send("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    client.rest();
    wait_until("the connection is closed", || server.connections.open() == 0);
}

#[test]
fn idle_connections_are_closed() {
    let server = start(Config {
        keep_alive: KEEP_ALIVE,
        ..config()
    });
    let mut http1 = server.connect();
    assert_eq!(http1.ask(PLAIN).status, 200);
    assert_eq!(http1.rest(), b"");
    let mut http2 = server.connect_http2();
    http2.send(get(1, "/head"));
    http2.data(1);
    // The pings that keep the connection alive are answered; it ends all the same.
    http2.frame_of(GOAWAY);
    let last = http2.frame_of(GOAWAY).payload;
    assert_eq!(last, [0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(http2.rest(), b"");
    wait_until("both are counted out", || server.connections.open() == 0);
}

#[test]
fn slow_readers_are_cut() {
    let server = start(Config {
        write_stall: SHORT,
        ..config()
    });
    let mut http1 = server.connect();
    http1.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut http2 = server.connect_http2();
    // Wide windows, so that only the socket holds the answer back.
    http2.send(frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    http2.send(frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
    http2.send(get(1, "/big"));
    wait_until("both are taken in", || server.connections.http1() == 1);
    wait_until("both are cut", || server.connections.open() == 0);
}

#[test]
fn a_stream_that_takes_nothing_is_cut() {
    let server = start(Config {
        write_stall: SHORT,
        keep_alive: KEEP_ALIVE,
        ..config()
    });
    let mut client = server.connect_http2();
    client.send(get(1, "/big"));
    // The window is never opened again, while the connection itself is fine.
    let mut taken = 0;
    while taken < 65_535 {
        taken += client.frame_of(DATA).payload.len();
    }
    client.frame_of(GOAWAY);
    client.rest();
    wait_until("it is cut", || server.connections.open() == 0);
}

#[test]
fn connections_at_once_are_limited() {
    let server = start_limited(
        config(),
        Limits {
            connections: 1,
            ..Limits::default()
        },
    );
    let mut first = server.connect();
    assert_eq!(first.ask(PLAIN).status, 200);
    for request in [PLAIN.to_owned(), cargo("/head")] {
        let mut second = server.connect();
        second.send(request);
        let refused = String::from_utf8(second.rest()).unwrap();
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(refused.contains("\r\nRetry-After: 5\r\n"), "{refused}");
    }
    let mut third = server.connect();
    third.send(PREFACE);
    assert_eq!(third.rest(), b"", "HTTP/2 just ends");
    assert_eq!(first.ask(PLAIN).status, 200);
    let counts = &server.connections;
    assert_eq!((counts.open(), counts.http1(), counts.refused()), (1, 1, 3));
    drop(first);
    wait_until("it is counted out", || server.connections.open() == 0);
    assert_eq!(server.connect().ask(PLAIN).status, 200);
}

#[test]
fn one_client_may_have_so_many_unless_it_speaks_for_others() {
    let limits = |exempt: bool| Limits {
        per_client: 1,
        exempt: Box::new(move |_| exempt),
        ..Limits::default()
    };
    let server = start_limited(config(), limits(false));
    let mut first = server.connect();
    assert_eq!(first.ask(PLAIN).status, 200);
    let mut second = server.connect();
    second.send(PLAIN);
    assert!(second.rest().starts_with(b"HTTP/1.1 503 "));
    let server = start_limited(config(), limits(true));
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(PLAIN).status, 200);
    }
}

#[test]
fn a_client_that_takes_too_little_is_cut() {
    let server = start(Config {
        write_stall: SHORT,
        min_bytes_per_second: u64::MAX,
        ..config()
    });
    let mut client = server.connect();
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut taken, mut piece) = (0, vec![0; 32 << 10]);
    while server.connections.cut() == 0 && taken < BIG {
        // it takes what is there, with pauses that are shorter than any stall
        taken += client.tcp.read(&mut piece).unwrap();
        std::thread::park_timeout(SHORT / 30);
    }
    assert!(server.connections.cut() == 1 && taken < BIG, "{taken}");
}

#[test]
fn idle_connections_do_not_hold_the_end_up() {
    let server = start(config());
    let mut http1 = server.connect();
    assert_eq!(http1.ask(PLAIN).status, 200);
    let mut http2 = server.connect_http2();
    http2.send(get(1, "/head"));
    http2.data(1);
    let mut upgraded = server.connect();
    upgraded.send(cargo("/head"));
    upgraded.head();
    upgraded.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    upgraded.data(1);
    let mut half = server.connect();
    half.send("GET /");
    let mut silent = server.connect();
    wait_until("all are taken in", || server.connections.open() == 5);
    server.stop();
    assert!(server.wait_for_end() < PROMPT);
    for client in [&mut http2, &mut upgraded] {
        client.frame_of(GOAWAY);
        assert_eq!(client.frame_of(GOAWAY).payload, [0, 0, 0, 1, 0, 0, 0, 0]);
    }
    for client in [&mut http1, &mut half, &mut silent, &mut http2, &mut upgraded] {
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn running_requests_finish() {
    let server = start(config());
    let mut http1 = server.connect();
    http1.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut http2 = server.connect_http2();
    http2.send(get(1, "/gate"));
    wait_until("both arrive", || server.gate.arrived.load(SeqCst) == 2);
    server.shutdown.send_replace(true);
    server.stop();
    // Told at once, while its request is still running.
    assert_eq!(http2.frame_of(GOAWAY).payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    server.gate.open();
    assert_eq!(http2.data(1), "through");
    assert_eq!(http2.frame_of(GOAWAY).payload, [0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(http1.answer().text(), "through");
    assert!(server.wait_for_end() < PROMPT);
}

#[test]
fn a_client_that_says_goodbye_first_still_gets_its_answer() {
    let server = start(config());
    let mut client = server.connect_http2();
    client.send(get(1, "/gate"));
    client.send(frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
    wait_until("it arrives", || server.gate.arrived.load(SeqCst) == 1);
    server.stop();
    server.gate.open();
    assert_eq!(client.data(1), "through");
    client.frame_of(GOAWAY);
    assert_eq!(client.rest(), b"");
    assert!(server.wait_for_end() < PROMPT);
}

#[test]
fn the_signal_alone_ends_idle_connections() {
    let server = start(config());
    let mut http1 = server.connect();
    assert_eq!(http1.ask(PLAIN).status, 200);
    let mut http2 = server.connect_http2();
    server.shutdown.send_replace(true);
    assert_eq!(http1.rest(), b"");
    http2.frame_of(GOAWAY);
    http2.frame_of(GOAWAY);
    assert_eq!(http2.rest(), b"");
}
