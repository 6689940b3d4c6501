//! HTTP/2 within TLS, frame by frame.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::{ServerConnection, StreamOwned};

use super::{
    LIMIT, fetch, run,
    server::{PATIENCE, Reply, Script, Server, State},
    tls::{Issued, https, trusted},
};
use crate::{Error, Request};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Of HPACK's static table: `:status: 200` and `:status: 304`.
const OK: u8 = 0x88;
const NOT_MODIFIED: u8 = 0x8b;

/// A frame of the stream that is being answered: type, flags, payload.
type Frame = (u8, u8, Vec<u8>);

/// What follows a request's frames.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Stay,
    Close,
}

/// A header block with a status and maybe a length, of one digit.
fn head(status: u8, length: Option<u8>) -> Vec<u8> {
    let mut block = vec![status];
    if let Some(length) = length {
        // A literal without indexing, named by the static table's 28th entry.
        block.extend([0x0f, 28 - 15, 1, b'0' + length]);
    }
    block
}

fn hello(length: Option<u8>) -> Vec<Frame> {
    vec![
        (HEADERS, END_HEADERS, head(OK, length)),
        (DATA, 0, b"hel".to_vec()),
        (DATA, END_STREAM, b"lo".to_vec()),
    ]
}

/// Answers the nth request (from 1) of the nth connection (from 1).
fn server(issued: &Issued, script: impl Fn(usize, usize) -> (Vec<Frame>, Then) + Send + Sync + 'static) -> Server {
    let mut config = (*issued.server).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let unused = |_: &_| Reply::Close(Vec::new());
    Server::listen(unused, move |io: TcpStream, state: &State, _: &Script| {
        io.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut io = StreamOwned::new(connection, io);
        let number = state.count();
        // The end of the connection is the end of the conversation.
        let _ = converse(&mut io, |request| script(number, request));
        io.conn.send_close_notify();
        let _ = io.flush();
    })
}

fn converse(io: &mut (impl Read + Write), script: impl Fn(usize) -> (Vec<Frame>, Then)) -> io::Result<()> {
    io.read_exact(&mut [0; 24])?;
    write_frame(io, SETTINGS, 0, 0, &[])?;
    let mut request = 0;
    loop {
        let mut start = [0; 9];
        io.read_exact(&mut start)?;
        let [a, b, c, kind, flags, id @ ..] = start;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        io.read_exact(&mut payload)?;
        match (kind, flags) {
            (SETTINGS, 0) => write_frame(io, SETTINGS, 1, 0, &[])?,
            (HEADERS, _) => {
                request += 1;
                let (frames, then) = script(request);
                for (kind, flags, payload) in frames {
                    let stream = if kind == GOAWAY { 0 } else { u32::from_be_bytes(id) };
                    write_frame(io, kind, flags, stream, &payload)?;
                }
                if then == Then::Close {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}

fn write_frame(io: &mut impl Write, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    io.write_all(&frame)?;
    io.flush()
}

#[test]
fn one_connection_carries_all_requests() {
    let Some(issued) = Issued::localhost() else { return };
    let server = server(&issued, |_, request| {
        (hello((request % 2 == 0).then_some(5)), Then::Stay)
    });
    let client = trusted(issued.client(), &server);
    for _ in 0..4 {
        assert_eq!(
            run(fetch(&client, https(&server, "/"))).unwrap(),
            (200, b"hello".to_vec())
        );
    }
    assert_eq!(server.connections(), 1);
    let mut request = Request::get(https(&server, "/"), LIMIT);
    request.fresh_connection = true;
    assert_eq!(run(client.get(request)).unwrap().status, 200);
    assert_eq!(server.connections(), 2);
    let probe = run(client.probe(https(&server, "/"))).unwrap();
    assert_eq!((probe.protocol.as_deref(), probe.outcome.unwrap()), (Some("h2"), 200));
    drop(client);
    server.wait_closed(server.connections());
}

#[test]
fn a_304_with_a_length_has_no_body() {
    let Some(issued) = Issued::localhost() else { return };
    let frames = || vec![(HEADERS, END_HEADERS | END_STREAM, head(NOT_MODIFIED, Some(9)))];
    let server = server(&issued, move |_, _| (frames(), Then::Stay));
    let client = trusted(issued.client(), &server);
    assert_eq!(run(fetch(&client, https(&server, "/"))).unwrap(), (304, Vec::new()));
}

#[test]
fn bodies_that_are_cut_are_errors() {
    let Some(issued) = Issued::localhost() else { return };
    let reset = |code: u8| (RST_STREAM, 0, vec![0, 0, 0, code]);
    let begun = |length| vec![(HEADERS, END_HEADERS, head(OK, length)), (DATA, 0, b"hel".to_vec())];
    let ends: [(Vec<Frame>, Then); 6] = [
        ([begun(None), vec![reset(2)]].concat(), Then::Stay),
        // NO_ERROR, CANCEL
        ([begun(None), vec![reset(0)]].concat(), Then::Stay),
        ([begun(None), vec![reset(8)]].concat(), Then::Stay),
        (begun(None), Then::Close),
        (
            [begun(Some(5)), vec![(DATA, END_STREAM, Vec::new())]].concat(),
            Then::Stay,
        ),
        (
            [begun(Some(5)), vec![(DATA, END_STREAM, b"lo and more".to_vec())]].concat(),
            Then::Stay,
        ),
    ];
    for (frames, then) in ends {
        let shown = format!("{frames:?}");
        let server = server(&issued, move |_, _| (frames.clone(), then));
        let client = trusted(issued.client(), &server);
        let error = run(fetch(&client, https(&server, "/"))).expect_err(&shown);
        assert!(
            matches!(error, Error::Truncated { .. } | Error::Disconnected { .. }),
            "{shown}: {error:?}"
        );
        assert!(error.is_transient());
    }
}

#[test]
fn a_pooled_connection_that_dies_costs_one_more_try() {
    let Some(issued) = Issued::localhost() else { return };
    let ends: [(Vec<Frame>, Then); 3] = [
        (Vec::new(), Then::Close),
        // The last stream that was taken care of is the first one; NO_ERROR.
        (vec![(GOAWAY, 0, vec![0, 0, 0, 1, 0, 0, 0, 0])], Then::Close),
        (vec![(RST_STREAM, 0, vec![0, 0, 0, 7])], Then::Stay),
    ];
    for (frames, then) in ends {
        let shown = format!("{frames:?}");
        let server = server(&issued, move |connection, request| match (connection, request) {
            (1, 2) => (frames.clone(), then),
            _ => (hello(Some(5)), Then::Stay),
        });
        let client = trusted(issued.client(), &server);
        for _ in 0..2 {
            let got = run(fetch(&client, https(&server, "/")));
            assert_eq!(got.expect(&shown), (200, b"hello".to_vec()), "{shown}");
        }
        assert_eq!(server.connections(), 2, "{shown}");
    }
}
