//! As much HTTP as git needs, over the standard library: one request for each connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use git_smart_http::{Limits, PackLog, Protocol, advertise, respond};

/// What one post was answered with.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub bytes: usize,
    /// None: no pack followed.
    pub objects: Option<u32>,
}

pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Server {
    pub fn start(log: PackLog) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let server = Server {
            address,
            stop: Arc::clone(&stop),
            sent: Arc::clone(&sent),
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let (log, sent) = (log.clone(), Arc::clone(&sent));
                thread::spawn(move || serve(stream.unwrap(), &log, &sent));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}/git/index", self.address)
    }

    /// What was sent since this was asked last.
    pub fn take_sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

#[derive(Default)]
struct Head {
    line: String,
    protocol: Option<String>,
    length: usize,
    chunked: bool,
    gzip: bool,
}

fn serve(stream: TcpStream, log: &PackLog, sent: &Mutex<Vec<Sent>>) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut to = stream.try_clone().unwrap();
    let mut from = BufReader::new(stream);
    let head = read_head(&mut from);
    let protocol = Protocol::from_header(head.protocol.as_deref());
    let view = log.view();
    if head.line.starts_with("GET ") {
        let body = advertise(protocol, view.head().map(|head| head.id), "mirror/test");
        write_head(&mut to, "advertisement");
        to.write_all(&body).unwrap();
        return;
    }
    let body = read_body(&mut from, &head);
    write_head(&mut to, "result");
    match respond(&view, protocol, &body, &Limits::default()) {
        Ok(answer) => {
            let objects = answer.plan.as_ref().map(|plan| plan.objects());
            let mut bytes = 0;
            for piece in answer.pieces() {
                let piece = piece.unwrap();
                bytes += piece.len();
                if to.write_all(&piece).is_err() {
                    return;
                }
            }
            sent.lock().unwrap().push(Sent { bytes, objects });
        }
        Err(error) => to.write_all(&error.pkt_line()).unwrap(),
    }
}

fn read_head(from: &mut impl BufRead) -> Head {
    let mut head = Head::default();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                return head;
            }
            head.line = line;
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "git-protocol" => head.protocol = Some(value.to_owned()),
            "content-length" => head.length = value.parse().unwrap(),
            "transfer-encoding" => head.chunked = value == "chunked",
            "content-encoding" => head.gzip = value == "gzip",
            _ => {}
        }
    }
}

fn read_body(from: &mut impl BufRead, head: &Head) -> Vec<u8> {
    let mut body = Vec::new();
    if head.chunked {
        loop {
            let mut line = String::new();
            from.read_line(&mut line).unwrap();
            let length = u64::from_str_radix(line.trim_end(), 16).unwrap();
            from.take(length).read_to_end(&mut body).unwrap();
            from.read_line(&mut line).unwrap();
            if length == 0 {
                break;
            }
        }
    } else {
        from.take(head.length as u64).read_to_end(&mut body).unwrap();
    }
    if !head.gzip {
        return body;
    }
    let mut inflated = Vec::new();
    flate2::read::GzDecoder::new(&body[..])
        .read_to_end(&mut inflated)
        .unwrap();
    inflated
}

fn write_head(to: &mut TcpStream, what: &str) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{what}\r\n\
         Cache-Control: no-cache\r\nConnection: close\r\n\r\n"
    );
    to.write_all(head.as_bytes()).unwrap();
}
