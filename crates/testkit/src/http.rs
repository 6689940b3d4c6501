//! A raw HTTP/1.1 client: one connection for each request, and nothing hidden.

mod body;
mod head;

use std::io::{self, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use body::Body;
pub(crate) use head::{Head, header, read_head};

/// How long one read may take, and a whole exchange at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers in their order, names as they were written.
    pub headers: Vec<(String, String)>,
    /// The body without its framing; what has come of it, if it was cut.
    pub body: Vec<u8>,
    /// Whether the body came to the end that its framing promised. A body that ends with its connection counts as complete.
    pub complete: bool,
}

impl Reply {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as text, with marks where it is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// When the parts of an answer came, counted from before the connection was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The end of the head.
    pub head: Duration,
    /// The first byte of the body, if it had one.
    pub first_body_byte: Option<Duration>,
    /// The end.
    pub total: Duration,
}

/// One request and its answer, step by step. Dropping it closes the connection, as a client does that leaves.
#[derive(Debug)]
pub struct Exchange {
    stream: BufReader<TcpStream>,
    head_only: bool,
    started: Instant,
    answer: Option<(Head, Body)>,
    head_after: Duration,
}

impl Exchange {
    /// Connects to `authority` (`ADDRESS:PORT`) and sends a request, its path as it is given. `Host`, `Connection: close` and
    /// `Content-Length` are added unless they are among `headers`. Does not wait for the answer.
    pub fn start(authority: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Self> {
        let started = Instant::now();
        let stream = TcpStream::connect(authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        let length = body.len().to_string();
        let own = [
            ("Host", authority),
            ("Connection", "close"),
            ("Content-Length", length.as_str()),
        ];
        let own = own.iter().filter(|(name, _)| {
            let given = headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
            !given && (*name != "Content-Length" || !body.is_empty())
        });
        for (name, value) in own.chain(headers) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        (&stream).write_all(&bytes)?;
        Ok(Self {
            stream: BufReader::new(stream),
            head_only: method == "HEAD",
            started,
            answer: None,
            head_after: Duration::ZERO,
        })
    }

    /// Waits for the head and tells its status. Fails if the connection ends before.
    pub fn status(&mut self) -> io::Result<u16> {
        self.answer().map(|(head, _)| head.status())
    }

    fn answer(&mut self) -> io::Result<(&Head, &mut Body)> {
        if self.answer.is_none() {
            let head = loop {
                let head = read_head(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                if !(100..200).contains(&head.status()) || head.status() == 101 {
                    break head;
                }
            };
            self.head_after = self.started.elapsed();
            let body = Body::after(&head, self.head_only);
            self.answer = Some((head, body));
        }
        let (head, body) = self.answer.as_mut().expect("it was just put there");
        Ok((head, body))
    }

    /// Waits until `size_bytes` of the body have come, or its end, and gives all that has come.
    pub fn read_at_least(&mut self, size_bytes: usize) -> io::Result<&[u8]> {
        self.answer()?;
        let (_, body) = self.answer.as_mut().expect("the head was just read");
        while body.bytes.len() < size_bytes && body.read_piece(&mut self.stream, self.started) {}
        Ok(&body.bytes)
    }

    /// Waits for the end.
    pub fn finish(mut self) -> io::Result<(Reply, Timing)> {
        self.read_at_least(usize::MAX)?;
        let (head, body) = self.answer.expect("the head was just read");
        let timing = Timing {
            head: self.head_after,
            first_body_byte: body.first_byte_after,
            total: self.started.elapsed(),
        };
        let reply = Reply {
            status: head.status(),
            headers: head.headers,
            complete: body.complete(),
            body: body.bytes,
        };
        Ok((reply, timing))
    }
}

/// Sends one request and waits for the whole answer.
pub fn request(authority: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
    let (reply, _) = Exchange::start(authority, method, path, headers, body)?.finish()?;
    Ok(reply)
}

/// Gets `path` and waits for the whole answer.
pub fn get(authority: &str, path: &str) -> io::Result<Reply> {
    request(authority, "GET", path, &[], b"")
}
