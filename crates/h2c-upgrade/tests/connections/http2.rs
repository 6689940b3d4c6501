//! HTTP/2 by hand: frames as they are on the wire.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read},
    time::Duration,
};

use crate::support::{BIG, Client, OFFER, PATIENCE, Running, cargo, config, start, wait_until};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u8,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// `GET path` that ends its stream.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend(path.as_bytes());
    block.extend(b"\x01\x01a");
    frame(HEADERS, 5, stream, &block)
}

impl Client {
    pub fn frame(&mut self) -> Frame {
        let head = self.bytes(9);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = self.bytes(length as usize);
        Frame {
            kind: head[3],
            flags: head[4],
            stream: head[8],
            payload,
        }
    }

    /// Reads on to the next frame of a kind, answering pings.
    pub fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame();
            if frame.kind == PING && frame.flags == 0 {
                self.send(self::frame(PING, 1, 0, &frame.payload));
            }
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The whole body of the next answer.
    pub fn data(&mut self, stream: u8) -> String {
        let mut body = vec![];
        loop {
            let data = self.frame_of(DATA);
            assert_eq!(data.stream, stream);
            body.extend(data.payload);
            if data.flags & 1 == 1 {
                return String::from_utf8(body).unwrap();
            }
        }
    }
}

impl Running {
    pub fn connect_http2(&self) -> Client {
        let mut client = self.connect();
        client.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
        assert_eq!(client.frame_of(SETTINGS).flags, 0);
        client.send(frame(SETTINGS, 1, 0, &[]));
        client
    }
}

#[test]
fn prior_knowledge_works() {
    let server = start(config());
    let mut client = server.connect_http2();
    for stream in [1, 3, 5] {
        client.send(get(stream, "/head"));
        assert!(client.data(stream as u8).starts_with("GET HTTP/2.0\n"));
    }
    assert_eq!(server.connections.http2(), 1);
}

#[test]
fn the_preface_may_be_split_at_any_byte() {
    let server = start(config());
    for split in 1..PREFACE.len() {
        let mut client = server.connect();
        client.send(&PREFACE[..split]);
        client.send([&PREFACE[split..], &frame(SETTINGS, 0, 0, &[])].concat());
        client.send(get(1, "/head"));
        assert!(client.data(1).starts_with("GET HTTP/2.0\n"), "{split}");
    }
    assert_eq!(server.connections.http2(), PREFACE.len() as u64 - 1);
}

#[test]
fn cargo_is_upgraded() {
    let server = start(config());
    let request = cargo("/head");
    for split in 1..request.len() {
        let mut client = server.connect();
        let peer = client.tcp.local_addr().unwrap();
        client.send(&request[..split]);
        client.send(&request[split..]);
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{split}: {head}");
        client.send(&PREFACE[..split.min(24)]);
        client.send([&PREFACE[split.min(24)..], &frame(SETTINGS, 0, 0, &[])].concat());
        let text = client.data(1);
        assert!(text.starts_with("GET HTTP/2.0\n"), "{text}");
        assert!(text.contains(&format!("peer {peer}\nhost 127.0.0.1:18311\n")), "{text}");
        assert!(text.contains("user-agent: cargo/1.95.0 (f2d3ce0bd 2026-03-21)\n"));
        assert!(text.contains("cargo-protocol: version=1\n"));
        assert!(!text.contains("upgrade") && !text.contains("http2-settings"), "{text}");
        client.send(get(3, "/head"));
        assert!(client.data(3).starts_with("GET HTTP/2.0\n"));
    }
    assert_eq!(server.connections.upgraded(), request.len() as u64 - 1);
    assert_eq!(server.connections.http1(), 0);
}

#[test]
fn a_head_request_is_upgraded() {
    let server = start(config());
    let mut client = server.connect();
    client.send(format!("HEAD /head HTTP/1.1\r\nHost: a\r\n{OFFER}\r\n"));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    let headers = client.frame_of(HEADERS);
    assert_eq!((headers.stream, headers.flags & 1), (1, 1));
}

#[test]
fn an_upgrade_without_preface_is_closed() {
    let server = start(config());
    let mut client = server.connect();
    client.send(cargo("/head"));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.send("GET /head HTTP/1.1\r\nHost: a\r\n\r\n");
    client.rest();
    wait_until("the connection is closed", || server.connections.open() == 0);
}

#[test]
fn streams_are_limited() {
    let server = start(config());
    let mut client = server.connect();
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    let settings = client.frame_of(SETTINGS).payload;
    let limits: Vec<_> = settings.chunks(6).filter(|s| s[..2] == [0, 3]).collect();
    assert_eq!(limits, [[0, 3, 0, 0, 1, 0]]);
    let requests: Vec<_> = (0..600).flat_map(|n| get(2 * n + 1, "/gate")).collect();
    client.send(requests);
    client.rest();
    wait_until("the connection is cut", || server.connections.open() == 0);
}

/// Windows as large as can be, for every stream and for all.
fn greedy() -> Vec<u8> {
    let settings = frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    [settings, frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0])].concat()
}

impl Client {
    /// The bytes of DATA on each stream, until as many streams have ended.
    fn bodies(&mut self, streams: usize) -> HashMap<u8, usize> {
        let (mut bodies, mut ended) = (HashMap::new(), 0);
        while ended < streams {
            let data = self.frame_of(DATA);
            *bodies.entry(data.stream).or_default() += data.payload.len();
            ended += usize::from(data.flags & 1);
        }
        bodies
    }
}

#[test]
fn streams_share_what_a_client_grants_at_once() {
    let server = start(config());
    let mut client = server.connect();
    let (greedy, requests) = (greedy(), [get(1, "/big"), get(3, "/big"), get(5, "/head")].concat());
    let begin = [PREFACE, &greedy, &requests].concat();
    // the grant may be split anywhere
    client.send(&begin[..PREFACE.len() + greedy.len() - 3]);
    client.send(&begin[PREFACE.len() + greedy.len() - 3..]);
    let bodies = client.bodies(3);
    assert_eq!((bodies[&1], bodies[&3]), (BIG, BIG));
    assert!(bodies[&5] > 0);
}

#[test]
fn a_client_that_grants_little_at_a_time_gets_everything() {
    let server = start(config());
    let mut client = server.connect_http2();
    client.send(get(1, "/big"));
    let mut body = 0;
    while body < BIG {
        let data = client.frame_of(DATA);
        body += data.payload.len();
        let grant = (data.payload.len() as u32).to_be_bytes();
        if data.flags & 1 == 0 {
            client.send([frame(WINDOW_UPDATE, 0, 0, &grant), frame(WINDOW_UPDATE, 0, 1, &grant)].concat());
        }
    }
    assert_eq!(body, BIG);
}

#[test]
fn the_answer_to_an_upgrade_waits_for_the_preface_but_for_its_beginning() {
    let server = start(config());
    let mut client = server.connect();
    client.send(cargo("/big"));
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    client.tcp.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut early = vec![];
    let nothing_more = client.tcp.read_to_end(&mut early).unwrap_err();
    assert_eq!(nothing_more.kind(), ErrorKind::WouldBlock);
    assert!((9..=17 << 10).contains(&early.len()), "{} bytes", early.len());
    client.tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(&PREFACE[..10]);
    client.send([&PREFACE[10..], &greedy()].concat());
    // frames cannot be told apart from the middle of one, so all bytes count: the body, and not much more
    let mut piece = vec![0; 64 << 10];
    let mut total = early.len();
    while total < BIG {
        total += client.tcp.read(&mut piece).unwrap();
    }
}
