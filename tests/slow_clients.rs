//! Clients that read slowly or not at all cost a bounded amount of memory, kernel buffers included (issue 2, "Crate files"; threats C6).
//! That they end after 180 s without a byte is tested in h2c-upgrade, where that time can be made short.

#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use testkit::{BuiltCrate, CrateBuilder, FakeUpstream, MirrorProcess, eventually};

const SOON: Duration = Duration::from_secs(60);
const FILE_BYTES: usize = 20 << 20;
const CLIENTS: usize = 64;
/// What the process may grow by for one client or stream: a piece or two of 64 KiB, whatever the client's windows allow.
const MEMORY_PER_CLIENT: u64 = 160 << 10;
/// What the kernel may hold for one client that takes nothing.
const KERNEL_PER_CLIENT: u64 = 512 << 10;
/// What the process may grow by whoever comes: threads, pools, tables.
const MEMORY_IN_ALL: u64 = 24 << 20;

fn start(upstream: &FakeUpstream) -> MirrorProcess {
    let binary = Path::new(env!("CARGO_BIN_EXE_mirror"));
    MirrorProcess::builder(binary).upstream(upstream).start()
}

fn publish(upstream: &FakeUpstream, name: &str, size_bytes: usize) -> BuiltCrate {
    let krate = CrateBuilder::new(name, "1.0.0").padding(size_bytes).build();
    upstream.add(&krate);
    krate
}

fn request(name: &str) -> String {
    format!("GET /api/v1/crates/{name}/1.0.0/download HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
}

/// A connection that takes only a few thousand bytes before its owner reads.
fn narrow(mirror: &MirrorProcess) -> TcpStream {
    narrow_from(mirror, "127.0.0.1")
}

/// The same, of a client at this address of the machine.
fn narrow_from(mirror: &MirrorProcess, source: &str) -> TcpStream {
    let address: SocketAddr = mirror.authority().parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let source = SocketAddr::new(source.parse().unwrap(), 0);
    socket.bind(&source.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn ask_and_read_a_little(mirror: &MirrorProcess, name: &str) -> TcpStream {
    send_and_read_a_little(mirror, &request(name))
}

fn send_and_read_a_little(mirror: &MirrorProcess, request: &str) -> TcpStream {
    let mut stream = narrow(mirror);
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    stream
}

/// The longest send queue of the mirror's own connections, in bytes.
fn longest_send_queue(mirror: &MirrorProcess) -> u64 {
    let port = mirror.authority().parse::<SocketAddr>().unwrap().port();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let queues = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = u16::from_str_radix(fields[1].rsplit_once(':')?.1, 16).ok()?;
        let established = "01";
        let queue = u64::from_str_radix(fields[4].split_once(':')?.0, 16).ok()?;
        (local == port && fields[3] == established).then_some(queue)
    });
    queues.max().unwrap()
}

/// Looks until memory has stopped growing, and gives what it grew by.
fn growth(mirror: &MirrorProcess, before: u64) -> u64 {
    let (mut last, mut same) = (0, 0);
    let settled = eventually(SOON, || {
        let now = mirror.rss_bytes();
        same = if now <= last { same + 1 } else { 0 };
        last = last.max(now);
        (same > 10).then_some(())
    });
    assert!(settled.is_some(), "memory grows on and on: {last} bytes");
    mirror.peak_rss_bytes().saturating_sub(before)
}

fn assert_bounded(mirror: &MirrorProcess, before: u64, clients: usize, what: &str) {
    let grown = growth(mirror, before);
    let allowed = MEMORY_IN_ALL + clients as u64 * MEMORY_PER_CLIENT;
    let queue = longest_send_queue(mirror);
    println!("{what}: {grown} bytes more in the process, at most {queue} in the kernel for one client");
    assert!(grown < allowed, "{what}: {grown} bytes for {clients} clients");
    assert!(
        queue < KERNEL_PER_CLIENT,
        "{what}: {queue} bytes in the kernel for one client"
    );
    assert_eq!(mirror.get("/healthz").status, 200, "{what}: others are served");
}

#[test]
fn clients_that_read_nothing_cost_little() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "large", FILE_BYTES);
    let mirror = start(&upstream);
    assert!(mirror.get("/api/v1/crates/large/1.0.0/download").body == krate.bytes);
    let before = mirror.rss_bytes();
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| ask_and_read_a_little(&mirror, "large")).collect();
    assert_bounded(&mirror, before, CLIENTS, "a kept file");
    drop(clients);
    let gone = eventually(SOON, || (mirror.metric("connections_open") == 1).then_some(()));
    assert!(gone.is_some());
}

#[test]
fn a_file_that_arrives_waits_for_no_slow_client() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "large", FILE_BYTES);
    let mirror = start(&upstream);
    let before = mirror.rss_bytes();
    let gate = upstream.hold_after(&FakeUpstream::download_path("large", "1.0.0"), 200_000);
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| ask_and_read_a_little(&mirror, "large")).collect();
    gate.open();
    let kept = eventually(SOON, || (mirror.kept_files().len() == 1).then_some(()));
    assert!(kept.is_some(), "the fill waits for its readers\n{}", mirror.log());
    assert_bounded(&mirror, before, CLIENTS, "a file that arrives");
    // who begins to read at last gets all of it
    let mut late = clients.into_iter().next().unwrap();
    let mut rest = Vec::new();
    late.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&krate.bytes), "{} bytes", rest.len());
}

#[test]
fn a_client_that_reads_in_drops_gets_everything() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "slow", 1 << 20);
    let mirror = start(&upstream);
    for what in ["as it arrives", "from disk"] {
        let mut stream = narrow(&mirror);
        stream.write_all(request("slow").as_bytes()).unwrap();
        let (mut bytes, mut drop) = (Vec::new(), [0; 700]);
        loop {
            match stream.read(&mut drop).unwrap() {
                0 => break,
                read => bytes.extend_from_slice(&drop[..read]),
            }
        }
        assert!(bytes.ends_with(&krate.bytes), "{what}: {} bytes", bytes.len());
    }
}

/// HEADERS for a GET of `path` on a stream, with no Huffman coding and nothing remembered.
fn http2_get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x01\x01h");
    let mut frame = vec![0, 0, block.len() as u8, 1, 0x5];
    frame.extend_from_slice(&stream.to_be_bytes());
    [frame, block].concat()
}

#[test]
fn one_connection_with_many_streams_that_takes_nothing_costs_little() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "large", FILE_BYTES);
    let mirror = start(&upstream);
    let path = "/api/v1/crates/large/1.0.0/download";
    assert!(mirror.get(path).body == krate.bytes);
    let before = mirror.rss_bytes();
    let streams = 100;
    let connections: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = narrow(&mirror);
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
            // windows of 2^31 - 1 bytes, for each stream and for all: only TCP holds the server back
            stream
                .write_all(b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff")
                .unwrap();
            stream.write_all(b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0").unwrap();
            for number in 0..streams {
                stream.write_all(&http2_get(2 * number + 1, path)).unwrap();
            }
            stream.read_exact(&mut [0; 100]).unwrap();
            stream
        })
        .collect();
    assert_bounded(&mirror, before, 4 * streams as usize, "400 streams on 4 connections");
    drop(connections);
}

/// A crate with so many versions that its index file has several megabytes, and so would a page that listed them all.
fn publish_thousands_of_versions(upstream: &FakeUpstream) {
    let line = |n: u32| CrateBuilder::new("many", &format!("0.{n}.0")).build().index_line;
    let model = line(0);
    let lines: String = (0..20_000)
        .map(|n| model.replace("\"0.0.0\"", &format!("\"0.{n}.0\"")) + "\n")
        .collect();
    upstream.set_index_file("ma/ny/many", lines.as_bytes());
}

#[test]
fn index_files_and_pages_that_nobody_reads_cost_little() {
    let upstream = FakeUpstream::start();
    publish_thousands_of_versions(&upstream);
    let mirror = start(&upstream);
    let size = mirror.get("/index/ma/ny/many").body.len();
    assert!(size > 2 << 20, "{size}");
    let page = || Some(mirror.get("/crates/many")).filter(|reply| reply.status == 200);
    let page = eventually(SOON, page).expect("the page is there with the next batch");
    assert!(page.complete && page.body.len() < 1 << 20, "{}", page.body.len());
    assert!(page.text().contains("19500 still older ones"), "{}", page.text());
    for path in ["/index/ma/ny/many", "/crates/many"] {
        let before = mirror.rss_bytes();
        let ask = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| send_and_read_a_little(&mirror, &ask)).collect();
        let grown = growth(&mirror, before);
        println!("{path}: {grown} bytes more in the process");
        // pages have a budget of 32 MiB in all, and rendering needs room too
        let allowed = MEMORY_IN_ALL + (64 << 20) + CLIENTS as u64 * MEMORY_PER_CLIENT;
        assert!(grown < allowed, "{path}: {grown} bytes for {CLIENTS} clients");
        drop(clients);
    }
    let heals = eventually(SOON, || (mirror.get("/crates/many").status == 200).then_some(()));
    assert!(heals.is_some(), "the budget is given back");
}

/// One request on a connection of its own, and the whole answer.
fn answer_to(mirror: &MirrorProcess, source: &str, path: &str) -> Vec<u8> {
    let mut stream = narrow_from(mirror, source);
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Connections that were asked something and stay open.
fn crowd(mirror: &MirrorProcess, source: &str, count: usize) -> Vec<TcpStream> {
    let enter = |_| {
        let mut stream = narrow_from(mirror, source);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
        stream
    };
    (0..count).map(enter).collect()
}

fn assert_told_to_come_again(answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("\r\nRetry-After: "), "{text}");
}

#[test]
fn one_client_cannot_take_the_connections_of_others() {
    let upstream = FakeUpstream::start();
    let krate = publish(&upstream, "kept", 100_000);
    let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
        .upstream(&upstream)
        .env("MIRROR_LIMITS__CONNECTIONS_PER_CLIENT", "40")
        .start();
    let path = "/api/v1/crates/kept/1.0.0/download";
    assert!(answer_to(&mirror, "127.0.0.3", path).ends_with(&krate.bytes));
    let greedy = crowd(&mirror, "127.0.0.2", 40);
    assert_told_to_come_again(&answer_to(&mirror, "127.0.0.2", path));
    assert!(
        answer_to(&mirror, "127.0.0.3", path).ends_with(&krate.bytes),
        "others are served"
    );
    assert!(mirror.metric("connections_refused") >= 1);
    drop(greedy);
    let forgiven = eventually(SOON, || {
        answer_to(&mirror, "127.0.0.2", path)
            .ends_with(&krate.bytes)
            .then_some(())
    });
    assert!(forgiven.is_some());
}

#[test]
fn all_clients_together_have_a_limit_and_trusted_proxies_no_other() {
    let upstream = FakeUpstream::start();
    let mirror = MirrorProcess::builder(Path::new(env!("CARGO_BIN_EXE_mirror")))
        .upstream(&upstream)
        .env("MIRROR_LIMITS__CONNECTIONS", "40")
        .env("MIRROR_LIMITS__CONNECTIONS_PER_CLIENT", "2")
        .env("MIRROR_TRUSTED_PROXIES", "127.0.0.2")
        .start();
    let gone = eventually(SOON, || (mirror.metric("connections_open") == 1).then_some(()));
    assert!(gone.is_some());
    let proxied = crowd(&mirror, "127.0.0.2", 40);
    assert_told_to_come_again(&answer_to(&mirror, "127.0.0.3", "/healthz"));
    drop(proxied);
    let healed = eventually(SOON, || {
        answer_to(&mirror, "127.0.0.3", "/healthz")
            .ends_with(b"alive\n")
            .then_some(())
    });
    assert!(healed.is_some());
}

#[test]
fn a_good_client_is_served_among_hundreds_that_read_nothing() {
    let upstream = FakeUpstream::start();
    let large = publish(&upstream, "large", 1 << 20);
    let small = publish(&upstream, "small", 20_000);
    let mirror = start(&upstream);
    let path = |name: &str| format!("/api/v1/crates/{name}/1.0.0/download");
    assert!(mirror.get(&path("large")).body == large.bytes);
    let slow: Vec<TcpStream> = (0..400)
        .map(|n| {
            let mut stream = narrow_from(&mirror, &format!("127.0.1.{}", n % 4 + 1));
            let asked = match n % 3 {
                0 => request("large"),
                1 => "GET /index/config.json HTTP/1.1\r\nHos".to_owned(),
                _ => String::new(),
            };
            stream.write_all(asked.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert!(mirror.get(&path("small")).body == small.bytes);
    }
    drop(slow);
}
