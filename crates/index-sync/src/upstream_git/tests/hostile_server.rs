//! A server that speaks git's protocol 2 and says whatever a test wants it to, and packs of whatever bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::hash::Kind::Sha1;
use gix::objs::Kind;

/// What it says. It ends with the test's process.
pub(super) struct Hostile {
    /// Behind the first line of the answer to `ls-refs`, which names `master`; pkt-lines.
    pub(super) more_refs: Vec<u8>,
    /// What `master` is.
    pub(super) tip: ObjectId,
    pub(super) pack: Vec<u8>,
    /// The pause before each byte of a pack; none: all of it at once.
    pub(super) pause: Option<Duration>,
}

impl Hostile {
    /// Serves, and gives the address.
    pub(super) fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let said = Arc::new(self);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = Arc::clone(&said);
                // Who asked may have left in the middle.
                thread::spawn(move || drop(said.converse(&stream)));
            }
        });
        format!("http://{address}/index")
    }

    fn converse(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        while reader.read_line(&mut head)? > 2 {
            if let Some(line) = head.lines().last().map(str::to_ascii_lowercase)
                && let Some(value) = line.strip_prefix("content-length:")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = String::from_utf8_lossy(&body);
        let is_pack = body.contains("command=fetch");
        let (kind, answer) = match body {
            body if body.contains("command=ls-refs") => ("result", self.refs()),
            _ if is_pack => ("result", self.fetch()),
            _ => ("advertisement", advertisement()),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        stream.write_all(head.as_bytes())?;
        if let Some(pause) = self.pause.filter(|_| is_pack) {
            for byte in answer.chunks(1) {
                thread::sleep(pause);
                stream.write_all(byte)?;
            }
            return Ok(());
        }
        stream.write_all(&answer)
    }

    fn refs(&self) -> Vec<u8> {
        let master = pkt(format!("{} refs/heads/master\n", self.tip).as_bytes());
        [&master[..], &self.more_refs, b"0000"].concat()
    }

    fn fetch(&self) -> Vec<u8> {
        let mut answer = [
            &pkt(b"shallow-info\n")[..],
            &pkt(format!("shallow {}\n", self.tip).as_bytes()),
            b"0001",
            &pkt(b"packfile\n"),
        ]
        .concat();
        for piece in self.pack.chunks(60_000) {
            answer.extend(pkt(&[b"\x01", piece].concat()));
        }
        answer.extend_from_slice(b"0000");
        answer
    }
}

fn advertisement() -> Vec<u8> {
    let lines: [&[u8]; 4] = [b"version 2\n", b"agent=hostile/1\n", b"ls-refs\n", b"fetch=shallow\n"];
    let mut answer = [&pkt(b"# service=git-upload-pack\n")[..], b"0000"].concat();
    lines.iter().for_each(|line| answer.extend(pkt(line)));
    answer.extend(pkt(b"object-format=sha1\n"));
    answer.extend_from_slice(b"0000");
    answer
}

pub(super) fn pkt(line: &[u8]) -> Vec<u8> {
    [format!("{:04x}", line.len() + 4).as_bytes(), line].concat()
}

pub(super) fn name(kind: Kind, data: &[u8]) -> ObjectId {
    gix::objs::compute_hash(Sha1, kind, data).unwrap()
}

/// A tree with files and folders as git writes them, in the order that is given.
pub(super) fn tree(entries: &[(&str, &str, ObjectId)]) -> Vec<u8> {
    let entry =
        |(mode, name, id): &(&str, &str, ObjectId)| [format!("{mode} {name}\0").as_bytes(), id.as_slice()].concat();
    entries.iter().flat_map(entry).collect()
}

pub(super) fn commit_of(tree: ObjectId) -> Vec<u8> {
    let who = "nobody <nobody@localhost> 1700000000 +0000";
    format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nchange\n").into_bytes()
}

/// The head of a pack's entry: a type from 1 (commit) to 7 (delta by name), and a size that need not be true.
pub(super) fn head(kind: u8, size: u64) -> Vec<u8> {
    let mut bytes = vec![(kind << 4) | (size & 15) as u8];
    let mut rest = size >> 4;
    while rest > 0 {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push((rest & 127) as u8);
        rest >>= 7;
    }
    bytes
}

pub(super) fn deflated(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn whole(kind: u8, data: &[u8]) -> Vec<u8> {
    [head(kind, data.len() as u64), deflated(data)].concat()
}

/// A delta against what stands so many bytes before it.
pub(super) fn ofs_delta(distance: u64, delta: &[u8]) -> Vec<u8> {
    let mut bytes = vec![(distance & 127) as u8];
    let mut rest = distance >> 7;
    while rest > 0 {
        rest -= 1;
        bytes.insert(0, 0x80 | (rest & 127) as u8);
        rest >>= 7;
    }
    [head(6, delta.len() as u64), bytes, deflated(delta)].concat()
}

pub(super) fn ref_delta(base: ObjectId, delta: &[u8]) -> Vec<u8> {
    [head(7, delta.len() as u64), base.as_slice().to_vec(), deflated(delta)].concat()
}

/// What a delta says: the sizes of base and result, and then these instructions.
pub(super) fn delta(base: u64, result: u64, instructions: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut size in [base, result] {
        while size > 127 {
            bytes.push(0x80 | (size & 127) as u8);
            size >>= 7;
        }
        bytes.push(size as u8);
    }
    bytes.extend_from_slice(instructions);
    bytes
}

/// The instruction to copy so many bytes from the beginning of the base.
pub(super) fn copy(size: u32) -> Vec<u8> {
    let [low, middle, high, _] = size.to_le_bytes();
    vec![0b1111_0000, low, middle, high]
}

/// A pack of these entries, which says that it has `count`.
pub(super) fn pack_of(count: u32, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut pack = [&b"PACK\0\0\0\x02"[..], &count.to_be_bytes(), &entries.concat()].concat();
    let mut hasher = gix::hash::hasher(Sha1);
    hasher.update(&pack);
    pack.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    pack
}
