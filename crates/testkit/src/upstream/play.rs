//! Sends answers, right and wrong.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Fault;
use super::content::Answer;
use super::instead::instead;
use super::state::Shared;
use crate::http::Head;

/// What chunked bodies are cut into.
const CHUNK_BYTES: usize = 10_000;

/// Answers one request. Each method says whether the connection goes on; an error ends it.
pub(super) struct Player<'a> {
    pub(super) shared: &'a Shared,
    pub(super) id: u64,
    pub(super) stream: &'a TcpStream,
    pub(super) path: &'a str,
    pub(super) head_only: bool,
}

/// How a head announces its body.
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

impl Player<'_> {
    pub(super) fn answer(&self, request: &Head) -> io::Result<bool> {
        let gates = self.shared.lock().gates.on_the_way(self.path);
        for &(gate, _) in gates.iter().filter(|(_, after)| after.is_none()) {
            self.wait_at(gate)?;
        }
        // Only now: what a test did while the request was held counts.
        let (answer, fault, epoch) = self.shared.change(|state| {
            let fault = state.faults.take(self.path);
            let conditional = matches!(fault, None | Some(Fault::Delay(_)));
            let answer = state.content.answer(request, self.path, conditional);
            (answer, fault, state.faults.epoch)
        });
        match fault {
            None => self.send(&answer),
            Some(fault) => match instead(&fault, &answer, self.path) {
                Some(other) => self.send(&other),
                None => self.play(&fault, &answer, epoch),
            },
        }
    }

    fn wait_at(&self, gate: u64) -> io::Result<()> {
        self.shared.change(|state| state.gates.reach(gate));
        self.shared.hold(self.id, |state| state.gates.is_closed(gate))
    }

    /// In one write, or in as many as there are gates in the body.
    fn send(&self, answer: &Answer) -> io::Result<bool> {
        let mut bytes = head(answer, &Framing::Length(answer.body.len() as u64));
        if self.head_only {
            return self.write(&bytes).map(|()| true);
        }
        let mut sent = 0;
        let gates = self.shared.lock().gates.on_the_way(self.path);
        for (gate, after) in gates {
            if let Some(after) = after {
                let after = after.clamp(sent, answer.body.len());
                bytes.extend_from_slice(&answer.body[sent..after]);
                self.write(&bytes)?;
                self.wait_at(gate)?;
                bytes.clear();
                sent = after;
            }
        }
        bytes.extend_from_slice(&answer.body[sent..]);
        self.write(&bytes).map(|()| true)
    }

    fn play(&self, fault: &Fault, answer: &Answer, epoch: u64) -> io::Result<bool> {
        let body = &answer.body[..if self.head_only { 0 } else { answer.body.len() }];
        let first = |size_bytes: usize| &body[..size_bytes.min(body.len())];
        let right = Framing::Length(answer.body.len() as u64);
        match fault {
            Fault::Raw(bytes) => self.write(bytes)?,
            Fault::CutAfter(size_bytes) => self.write_both(&head(answer, &right), first(*size_bytes))?,
            Fault::CutWithoutLength(size_bytes) => {
                self.write_both(&head(answer, &Framing::Close), first(*size_bytes))?;
            }
            Fault::CloseDelimited => self.write_both(&head(answer, &Framing::Close), body)?,
            Fault::Chunked => {
                self.write_both(&head(answer, &Framing::Chunked), &chunked(body))?;
                return Ok(true);
            }
            Fault::ChunkedCut => {
                let chunks = chunked(body);
                self.write_both(&head(answer, &Framing::Chunked), &chunks[..chunks.len() / 2])?;
            }
            Fault::BadChunk => {
                let half = [chunk(&body[..body.len() / 2]), b"not a number\r\n".to_vec()].concat();
                self.write_both(&head(answer, &Framing::Chunked), &half)?;
            }
            Fault::ContentLengthTooLarge => {
                self.write_both(&head(answer, &Framing::Length(answer.body.len() as u64 + 1000)), body)?;
            }
            Fault::ContentLengthTooSmall => {
                self.write_both(&head(answer, &Framing::Length(answer.body.len() as u64 / 2)), body)?;
            }
            Fault::LengthAndChunks | Fault::TwoLengths | Fault::Interim(_) | Fault::SecondAnswer => {
                return self.play_ambiguously(fault, answer, body);
            }
            _ => return self.play_slowly(fault, answer, epoch),
        }
        Ok(false)
    }

    /// More heads, lengths or answers than one.
    fn play_ambiguously(&self, fault: &Fault, answer: &Answer, body: &[u8]) -> io::Result<bool> {
        let length = answer.body.len() as u64;
        let right = head(answer, &Framing::Length(length));
        match fault {
            Fault::LengthAndChunks => {
                let short = answer.clone().with("Content-Length", (length / 2).to_string());
                self.write_both(&head(&short, &Framing::Chunked), &chunked(body))?;
            }
            Fault::TwoLengths => {
                let short = answer.clone().with("Content-Length", (length / 2).to_string());
                self.write_both(&head(&short, &Framing::Length(length)), body)?;
            }
            Fault::Interim(times) => {
                let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(*times);
                self.write_both(&interim, &[&right[..], body].concat())?;
                return Ok(true);
            }
            Fault::SecondAnswer => {
                let wrong: Vec<u8> = body.iter().map(|byte| !byte).collect();
                self.write(&[&right[..], body, &right[..], &wrong[..]].concat())?;
                return Ok(true);
            }
            other => unreachable!("{other:?} is played elsewhere"),
        }
        Ok(false)
    }

    fn play_slowly(&self, fault: &Fault, answer: &Answer, epoch: u64) -> io::Result<bool> {
        let right = head(answer, &Framing::Length(answer.body.len() as u64));
        let first = |size_bytes: usize| &answer.body[..size_bytes.min(answer.body.len())];
        match fault {
            Fault::Delay(time) => {
                self.pause(*time, epoch)?;
                return self.send(answer);
            }
            Fault::Trickle { bytes, every } => return self.write_paced(answer, *bytes, *every, epoch),
            Fault::Slow { bytes_per_second } => {
                return self.write_paced(answer, bytes_per_second / 20, Duration::from_millis(50), epoch);
            }
            Fault::Endless => self.write_for_ever(answer, epoch)?,
            Fault::EndlessHead => return self.write_head_for_ever(epoch),
            Fault::SlowHead(every) => {
                for byte in &right {
                    self.write(&[*byte])?;
                    self.pause(*every, epoch)?;
                }
                let body: &[u8] = if self.head_only { &[] } else { &answer.body };
                return self.write(body).map(|()| true);
            }
            Fault::StallAfterHead => self.write(&right)?,
            Fault::StallAfter(size_bytes) => self.write_both(&right, first(*size_bytes))?,
            Fault::ContentLengthHuge => {
                self.write_both(&head(answer, &Framing::Length(1 << 63)), &answer.body)?;
            }
            Fault::ResetAfter(size_bytes) => {
                self.write_both(&right, first(*size_bytes))?;
                return self.reset();
            }
            Fault::Reset => return self.reset(),
            Fault::StallBeforeHead => {}
            other => unreachable!("{other:?} is played elsewhere"),
        }
        self.shared.hold(self.id, |state| state.faults.epoch == epoch)?;
        Ok(false)
    }

    /// The reset goes out when the connection is closed, which follows.
    fn reset(&self) -> io::Result<bool> {
        socket2::SockRef::from(self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(false)
    }

    fn write_paced(&self, answer: &Answer, size_bytes: usize, every: Duration, epoch: u64) -> io::Result<bool> {
        self.write(&head(answer, &Framing::Length(answer.body.len() as u64)))?;
        if !self.head_only {
            for piece in answer.body.chunks(size_bytes.max(1)) {
                self.write(piece)?;
                self.pause(every, epoch)?;
            }
        }
        Ok(true)
    }

    fn write_for_ever(&self, answer: &Answer, epoch: u64) -> io::Result<()> {
        self.write(&head(answer, &Framing::Chunked))?;
        for piece in answer.body.chunks(CHUNK_BYTES) {
            self.write(&chunk(piece))?;
        }
        let zeros = chunk(&[0; CHUNK_BYTES]);
        while self.shared.lock().faults.epoch == epoch {
            self.write(&zeros)?;
        }
        Ok(())
    }

    fn write_head_for_ever(&self, epoch: u64) -> io::Result<bool> {
        self.write(b"HTTP/1.1 200 OK\r\n")?;
        let lines = b"X-Flood: and so on\r\n".repeat(500);
        while self.shared.lock().faults.epoch == epoch {
            self.write(&lines)?;
        }
        Ok(false)
    }

    /// Lets time pass; fails if the connection or the fault was ended meanwhile.
    fn pause(&self, time: Duration, epoch: u64) -> io::Result<()> {
        let ended = self
            .shared
            .wait(time, |state| !state.is_open(self.id) || state.faults.epoch != epoch);
        if ended {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(bytes)
    }

    fn write_both(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        self.write(&[head, body].concat())
    }
}

fn head(answer: &Answer, framing: &Framing) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match framing {
        // These two have no body, and a 304 must not say that its length is 0.
        Framing::Length(_) if matches!(answer.status, 204 | 304) => {}
        Framing::Length(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
        Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => head.push_str("Connection: close\r\n"),
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        300..400 => "Elsewhere",
        404 => "Not Found",
        400..500 => "Refused",
        _ => "Trouble",
    }
}

fn chunk(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut chunks: Vec<u8> = body.chunks(CHUNK_BYTES).flat_map(chunk).collect();
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}
