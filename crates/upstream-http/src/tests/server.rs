//! A server that does what it is told, byte for byte.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{Authority, UpstreamUrl};

/// What a server does with one request.
pub(super) enum Reply {
    /// Sends this and waits for the next request.
    Keep(Vec<u8>),
    /// Sends this and closes.
    Close(Vec<u8>),
    /// Sends this and then nothing, until the client closes.
    Hold(Vec<u8>),
    /// Says that there is a tunnel, and is one to this port.
    Tunnel(u16),
}

/// One request as it arrived: the number of its connection, counted from 1, and its head.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub connection: usize,
    pub head: String,
}

impl Seen {
    /// The second word of the first line.
    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &'_ str| line.split_once(": ").map(|(key, _)| key.eq_ignore_ascii_case(name));
        let found = self.head.lines().find(|l| line(l) == Some(true))?;
        found.split_once(": ").map(|(_, value)| value)
    }
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    connections: usize,
    closed: usize,
}

#[derive(Default)]
pub(super) struct State {
    log: Mutex<Log>,
    changed: Condvar,
}

impl State {
    /// The number of a new connection.
    pub fn count(&self) -> usize {
        let mut log = self.log.lock().unwrap();
        log.connections += 1;
        log.connections
    }
}

/// Listens until the process ends.
pub(super) struct Server {
    port: u16,
    state: Arc<State>,
}

pub(super) type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

impl Server {
    pub fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(script, serve)
    }

    /// With TLS, ending each connection the way TLS wants it.
    pub fn start_tls(config: Arc<ServerConfig>, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(script, move |io: TcpStream, state: &State, script: &Script| {
            io.set_read_timeout(Some(PATIENCE)).unwrap();
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut io = StreamOwned::new(connection, io);
            converse(&mut io, state, script);
            io.conn.send_close_notify();
            let _ = io.flush();
        })
    }

    /// With a protocol of its own, which may leave the script alone.
    pub fn listen(
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
        serve: impl Fn(TcpStream, &State, &Script) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let script: Arc<Script> = Arc::new(script);
        let theirs = Arc::clone(&state);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for io in listener.incoming() {
                let (state, script, serve) = (Arc::clone(&theirs), Arc::clone(&script), Arc::clone(&serve));
                thread::spawn(move || {
                    serve(io.unwrap(), &state, &*script);
                    state.log.lock().unwrap().closed += 1;
                    state.changed.notify_all();
                });
            }
        });
        Self { port, state }
    }

    /// The same for every request.
    pub fn saying(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        Self::start(move |_| reply())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn authority(&self) -> Authority {
        format!("127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub fn url(&self, path: &str) -> UpstreamUrl {
        format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.log.lock().unwrap().seen.clone()
    }

    pub fn connections(&self) -> usize {
        self.state.log.lock().unwrap().connections
    }

    /// Waits until so many connections have ended.
    pub fn wait_closed(&self, count: usize) {
        let log = self.state.log.lock().unwrap();
        let waited = self
            .state
            .changed
            .wait_timeout_while(log, Duration::from_secs(10), |log| log.closed < count);
        assert!(!waited.unwrap().1.timed_out(), "no {count} connections were closed");
    }
}

/// What no test takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

fn serve(mut io: TcpStream, state: &State, script: &Script) {
    io.set_read_timeout(Some(PATIENCE)).unwrap();
    if let Some(port) = converse(&mut io, state, script) {
        tunnel(io, port);
    }
}

/// Copies both ways until either side ends.
fn tunnel(mut io: TcpStream, port: u16) {
    io.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let mut there = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut from, mut to) = (io.try_clone().unwrap(), there.try_clone().unwrap());
    let back = thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut there, &mut io);
    let _ = io.shutdown(Shutdown::Both);
    back.join().unwrap();
}

/// Answers requests until the script or the client ends it; the port of a tunnel that is to follow.
fn converse(mut io: impl Read + Write, state: &State, script: &Script) -> Option<u16> {
    let connection = state.count();
    loop {
        let head = read_head(&mut io)?;
        let seen = Seen { connection, head };
        state.log.lock().unwrap().seen.push(seen.clone());
        let (bytes, keep, hold) = match script(&seen) {
            Reply::Keep(bytes) => (bytes, true, false),
            Reply::Close(bytes) => (bytes, false, false),
            Reply::Hold(bytes) => (bytes, false, true),
            Reply::Tunnel(port) => return Some(port),
        };
        // A client that has gone is part of some tests.
        let _ = io.write_all(&bytes).and_then(|()| io.flush());
        if hold {
            let _ = io.read(&mut [0]);
        }
        if !keep {
            return None;
        }
    }
}

/// Up to and with the empty line; `None` at the connection's end.
pub(super) fn read_head(io: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match io.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// `200` with this body and a length.
pub(super) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A redirect with an empty body.
pub(super) fn redirect_to(status: u16, location: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}
