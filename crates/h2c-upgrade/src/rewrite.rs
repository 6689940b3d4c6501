//! What actix-http gets to see of an HTTP/1 connection.

use std::io::Write;

use bytes::{BufMut, BytesMut};

use crate::{
    chunked::{Chunks, Progress},
    head::{FIELD_LIMIT, Framing, Head, Refusal, Scan, Scanner},
};

/// Turns what an HTTP/1 client sends into what actix-http gets to see: every request head without
/// its offer to upgrade, everything else as it came.
///
/// A head is held back until it is whole. What is doubtful (see the README) is replaced by a head
/// that actix-http surely answers with 400 or 431, and nothing after it is ever let through.
#[derive(Debug)]
pub struct Rewriter {
    state: State,
    head: BytesMut,
    scanner: Scanner,
    heads: u64,
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunks),
    Refused,
}

/// What the client owes us next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    /// Nothing: we are between two requests, or done.
    Nothing,
    /// The rest of the head with this number.
    Head(u64),
    /// More of a body.
    Body,
}

impl Default for Rewriter {
    fn default() -> Self {
        Self::new()
    }
}

impl Rewriter {
    /// A rewriter at the start of a connection.
    pub fn new() -> Self {
        Self {
            state: State::Head,
            head: BytesMut::new(),
            scanner: Scanner::default(),
            heads: 0,
        }
    }

    /// Takes the client's next bytes and appends to `out` what may be passed on.
    pub fn feed(&mut self, mut input: &[u8], out: &mut BytesMut) {
        while !input.is_empty() {
            input = match &mut self.state {
                State::Head => self.feed_head(input, out),
                State::Length(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    out.put_slice(&input[..here]);
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    &input[here..]
                }
                State::Chunked(chunks) => {
                    let (here, next) = match chunks.feed(input) {
                        Progress::More => (input.len(), None),
                        Progress::End(here) => (here, Some(State::Head)),
                        Progress::Broken(here) => (here, Some(State::Refused)),
                    };
                    out.put_slice(&input[..here]);
                    if let Some(next) = next {
                        self.state = next;
                    }
                    &input[here..]
                }
                State::Refused => return,
            };
        }
    }

    /// Whether the rest of the connection is ignored.
    pub fn refused(&self) -> bool {
        matches!(self.state, State::Refused)
    }

    /// Heads passed on so far.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    pub(crate) fn owed(&self) -> Owed {
        match self.state {
            State::Head if self.scanner.started() => Owed::Head(self.heads),
            State::Head | State::Refused => Owed::Nothing,
            State::Length(_) | State::Chunked(_) => Owed::Body,
        }
    }

    fn feed_head<'a>(&mut self, input: &'a [u8], out: &mut BytesMut) -> &'a [u8] {
        match self.scanner.feed(input) {
            Scan::More => {
                self.head.put_slice(input);
                &[]
            }
            Scan::End(here) => {
                self.head.put_slice(&input[..here]);
                self.scanner = Scanner::default();
                match Head::parse(&self.head) {
                    Ok(head) => {
                        head.write_without_upgrade(out);
                        self.heads += 1;
                        self.state = match head.framing {
                            Framing::None => State::Head,
                            Framing::Length(length) => State::Length(length),
                            Framing::Chunked => State::Chunked(Chunks::new()),
                        };
                    }
                    Err(refusal) => self.refuse(refusal, out),
                }
                // An idle connection keeps no buffer.
                self.head = BytesMut::new();
                &input[here..]
            }
            Scan::Refused(refusal) => {
                self.refuse(refusal, out);
                self.head = BytesMut::new();
                &[]
            }
        }
    }

    /// Nothing of the refused head has been passed on, so we can have actix-http answer for it.
    fn refuse(&mut self, refusal: Refusal, out: &mut BytesMut) {
        self.state = State::Refused;
        self.scanner = Scanner::default();
        match refusal {
            Refusal::Malformed => out.put_slice(b"\0\r\n\r\n"),
            Refusal::TooLarge => {
                let fields = "a: b\r\n".repeat(FIELD_LIMIT + 1);
                write!(out.writer(), "GET / HTTP/1.1\r\n{fields}\r\n").expect("memory takes it");
            }
        }
    }
}

#[cfg(test)]
mod tests;
