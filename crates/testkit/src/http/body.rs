use std::io::{self, BufRead, Read};
use std::time::{Duration, Instant};

use super::{Head, PATIENCE};

const PIECE_BYTES: u64 = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Length(u64),
    /// Bytes left in the present chunk.
    Chunk(u64),
    UntilClose,
    Ended {
        complete: bool,
    },
}

/// A body as it comes in.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) first_byte_after: Option<Duration>,
    rest: Rest,
}

impl Body {
    pub(super) fn after(head: &Head, head_only: bool) -> Self {
        let chunked = head
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let rest = if head_only || matches!(head.status(), 101 | 204 | 304) {
            Rest::Ended { complete: true }
        } else if chunked {
            Rest::Chunk(0)
        } else if let Some(length) = head.header("content-length") {
            length.parse().map_or(Rest::Ended { complete: false }, Rest::Length)
        } else {
            Rest::UntilClose
        };
        Self {
            bytes: Vec::new(),
            first_byte_after: None,
            rest,
        }
    }

    pub(super) fn complete(&self) -> bool {
        self.rest == Rest::Ended { complete: true }
    }

    /// Reads a little more; `false` once there is no more to come.
    pub(super) fn read_piece(&mut self, reader: &mut impl BufRead, started: Instant) -> bool {
        if started.elapsed() > PATIENCE {
            self.rest = Rest::Ended { complete: false };
        }
        let next = match self.rest {
            Rest::Ended { .. } => return false,
            Rest::Length(0) => Ok(Rest::Ended { complete: true }),
            Rest::Length(left) => self.take(reader, left).map(|read| Rest::Length(left - read)),
            Rest::UntilClose => match self.take(reader, PIECE_BYTES) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Rest::Ended { complete: true }),
                other => other.map(|_| Rest::UntilClose),
            },
            Rest::Chunk(0) => next_chunk(reader),
            Rest::Chunk(left) => self.rest_of_chunk(reader, left),
        };
        self.rest = next.unwrap_or(Rest::Ended { complete: false });
        if !self.bytes.is_empty() && self.first_byte_after.is_none() {
            self.first_byte_after = Some(started.elapsed());
        }
        true
    }

    fn rest_of_chunk(&mut self, reader: &mut impl BufRead, left: u64) -> io::Result<Rest> {
        let left = left - self.take(reader, left)?;
        if left == 0 {
            line(reader)?;
        }
        Ok(Rest::Chunk(left))
    }

    /// Moves what is there, at most `limit` bytes; an end is an error.
    fn take(&mut self, reader: &mut impl BufRead, limit: u64) -> io::Result<u64> {
        let mut piece = vec![0; usize::try_from(limit.min(PIECE_BYTES)).expect("a piece is small")];
        let read = reader.read(&mut piece)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes.extend_from_slice(&piece[..read]);
        Ok(read as u64)
    }
}

fn next_chunk(reader: &mut impl BufRead) -> io::Result<Rest> {
    let size = line(reader)?;
    let size = size.split(';').next().unwrap_or_default().trim();
    let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
    if size > 0 {
        return Ok(Rest::Chunk(size));
    }
    while !line(reader)?.is_empty() {}
    Ok(Rest::Ended { complete: true })
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(PIECE_BYTES).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::read_head;
    use super::*;

    fn read(mut bytes: &[u8]) -> (String, bool) {
        let head = read_head(&mut bytes).unwrap().unwrap();
        let mut body = Body::after(&head, false);
        while body.read_piece(&mut bytes, Instant::now()) {}
        (String::from_utf8(body.bytes.clone()).unwrap(), body.complete())
    }

    #[test]
    fn each_framing_knows_its_end() {
        let cases: [(&[u8], &str, bool); 9] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", "abc", true),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd", "abcd", false),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabcd", "", false),
            (b"HTTP/1.1 200 OK\r\n\r\nabcd", "abcd", true),
            (b"HTTP/1.1 304 OK\r\nContent-Length: 3\r\n\r\n", "", true),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
                "abcd",
                true,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n",
                "abcd",
                false,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
                "ab",
                false,
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "", false),
        ];
        for (bytes, body, complete) in cases {
            assert_eq!(
                read(bytes),
                (body.to_owned(), complete),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}
