use crate::support::{OFFER, cargo, config, start, wait_until};

const PLAIN: &str = "GET /head HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn cargos_connection_stays_open() {
    let server = start(config());
    let mut client = server.connect();
    assert_eq!(client.ask(PLAIN).status, 200);
    for _ in 0..4 {
        let answer = client.ask(cargo("/head"));
        assert_eq!(answer.status, 200);
        assert!(!answer.head.contains("connection:"), "{}", answer.head);
        assert!(answer.text().starts_with("GET HTTP/1.1\n"), "{}", answer.text());
        assert!(answer.text().contains("cargo-protocol: version=1\n"));
        assert!(!answer.text().contains("h2c"), "{}", answer.text());
        assert!(!answer.text().contains("http2-settings"), "{}", answer.text());
    }
    assert_eq!((server.connections.http1(), server.connections.open()), (1, 1));
    drop(client);
    wait_until("the connection is counted out", || server.connections.open() == 0);
}

#[test]
fn heads_may_be_split_at_any_byte() {
    let server = start(config());
    let mut client = server.connect();
    assert_eq!(client.ask(PLAIN).status, 200);
    let request = cargo("/head");
    for split in 1..request.len() {
        client.send(&request[..split]);
        let answer = client.ask(&request[split..]);
        assert_eq!(answer.status, 200, "split at {split}");
    }
    for byte in request.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.answer().status, 200);
    assert_eq!(server.connections.http1(), 1);
}

#[test]
fn close_is_respected() {
    let server = start(config());
    let mut client = server.connect();
    let head = "GET /head HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let answer = client.ask(head);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(client.rest(), b"");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start(config());
    let mut client = server.connect();
    let post = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    client.send([&cargo("/head"), post, &cargo("/none"), PLAIN].concat());
    assert!(client.answer().text().starts_with("GET HTTP/1.1"));
    assert_eq!(client.answer().text(), "hi");
    assert_eq!(client.answer().status, 404);
    assert_eq!(client.answer().status, 200);
    assert_eq!(server.connections.upgraded(), 0);
}

#[test]
fn bodies_arrive_untouched() {
    let server = start(config());
    let mut client = server.connect();
    let body = format!("connection: upgrade\r\n{OFFER}\r\n\r\n{PLAIN}\0\r\n0\r\n\r\n");
    let length = body.len();
    for _ in 0..2 {
        let head = format!("POST /body HTTP/1.1\r\nHost: a\r\n{OFFER}");
        let answer = client.ask(format!("{head}Content-Length: {length}\r\n\r\n{body}"));
        assert_eq!(answer.text(), body);
        let mut chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        for piece in body.as_bytes().chunks(10) {
            let piece = std::str::from_utf8(piece).unwrap();
            chunks += &format!("{:X};x=y\r\n{piece}\r\n", piece.len());
        }
        let answer = client.ask(chunks + "0\r\nUpgrade: trailer\r\n\r\n");
        assert_eq!(answer.text(), body);
        assert_eq!(client.ask(cargo("/head")).status, 200);
    }
    assert_eq!(server.connections.http1(), 1);
}

#[test]
fn large_bodies_arrive_whole() {
    let server = start(config());
    let mut client = server.connect();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let head = format!(
        "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(head);
    let mut writer = client.tcp.try_clone().unwrap();
    let sent = body.clone();
    let thread = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &sent));
    assert!(client.answer().body == body);
    thread.join().unwrap().unwrap();
}

#[test]
fn a_closed_writing_half_still_gets_its_answer() {
    let server = start(config());
    let mut client = server.connect();
    client.send("GET /gate HTTP/1.1\r\nHost: a\r\n\r\n");
    client.tcp.shutdown(std::net::Shutdown::Write).unwrap();
    wait_until("the request arrives", || {
        server.gate.arrived.load(std::sync::atomic::Ordering::SeqCst) == 1
    });
    server.gate.open();
    assert_eq!(client.answer().text(), "through");
}

#[test]
fn unfit_offers_stay_on_http1() {
    let server = start(config());
    let requests = [
        "GET /head HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: ???\r\n\r\n".to_owned(),
        "GET /head HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n".to_owned(),
        "GET /head HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n".to_owned(),
        "GET /head HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        format!("POST /head HTTP/1.1\r\nHost: a\r\n{OFFER}Content-Length: 0\r\n\r\n"),
        format!("GET /head HTTP/1.1\r\nHost: a\r\n{OFFER}Content-Length: 2\r\n\r\nab"),
    ];
    for request in &requests {
        let mut client = server.connect();
        let answer = client.ask(request);
        assert!(answer.text().contains(" HTTP/1.1\n"), "{request}");
        assert_eq!(client.ask(PLAIN).status, 200, "{request}");
    }
    assert_eq!(server.connections.http1(), requests.len() as u64);
    assert_eq!(server.connections.upgraded(), 0);
}

#[test]
fn the_app_sees_the_peer() {
    let server = start(config());
    let mut client = server.connect();
    let peer = client.tcp.local_addr().unwrap();
    assert!(client.ask(PLAIN).text().contains(&format!("peer {peer}\n")));
}
