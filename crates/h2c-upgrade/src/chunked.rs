//! Finds the end of a chunked body without changing it.

/// Longest line of a chunk's size with its extensions, and longest trailer, in bytes.
const LINE_LIMIT: usize = 8 * 1024;
/// Hexadecimal digits of the largest size that fits 64 bits.
const DIGITS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// Where in a chunked body we are.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    state: State,
    /// What the size line says, then what is left of the chunk.
    left: u64,
    digits: usize,
    /// Bytes spent on the present size line, or on the trailer.
    spent: usize,
}

/// What became of the bytes: how many belong to the body, and whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    End(usize),
    /// The last of these bytes cannot be part of a body.
    Broken(usize),
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            spent: 0,
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Data {
                let here = (bytes.len() - at) as u64;
                let taken = self.left.min(here);
                self.left -= taken;
                at += usize::try_from(taken).expect("no more than a slice's length");
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let Some(next) = self.step(bytes[at]) else {
                return Progress::Broken(at + 1);
            };
            self.state = next;
            at += 1;
            if next == State::End {
                return Progress::End(at);
            }
        }
        Progress::More
    }

    fn step(&mut self, byte: u8) -> Option<State> {
        self.spent += 1;
        if self.spent > LINE_LIMIT {
            return None;
        }
        Some(match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => self.digit(byte)?,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | 0x20..=0x7e | 0x80..) => State::Extension,
            (State::SizeLf, b'\n') => self.end_of_size(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                *self = Self::new();
                State::Size
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, b'\t' | 0x20..=0x7e | 0x80..) => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::End,
            _ => return None,
        })
    }

    fn digit(&mut self, byte: u8) -> Option<State> {
        let digit = char::from(byte).to_digit(16)?;
        self.digits += 1;
        if self.digits > DIGITS {
            return None;
        }
        self.left = self.left << 4 | u64::from(digit);
        Some(State::Size)
    }

    fn end_of_size(&mut self) -> State {
        self.spent = 0;
        match self.left {
            0 => State::TrailerStart,
            _ => State::Data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_at_its_last_line_at_any_split() {
        let body = b"5;a=\"b\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nx: y\r\n\r\nGET /";
        let end = body.len() - 5;
        for split in 0..end {
            let mut chunks = Chunks::new();
            assert_eq!(chunks.feed(&body[..split]), Progress::More, "{split}");
            assert_eq!(chunks.feed(&body[split..]), Progress::End(end - split));
        }
    }

    #[test]
    fn doubtful_bytes_break_it() {
        for (body, at) in [
            (&b"\r\n"[..], 1),
            (b"g\r\n", 1),
            (b"5\nhello", 2),
            (b"5 \r\nhello", 2),
            (b"1\r\nab", 5),
            (b"1\r\na\n", 5),
            (b"11111111111111111", 17),
            (b"5;\n", 3),
            (b"0\r\na: b\n\r\n", 8),
            (b"0\r\n\n", 4),
        ] {
            assert_eq!(Chunks::new().feed(body), Progress::Broken(at), "{body:?}");
        }
    }

    #[test]
    fn endless_extensions_and_trailers_break_it() {
        let mut chunks = Chunks::new();
        assert_eq!(chunks.feed(b"1;"), Progress::More);
        assert_eq!(chunks.feed(&[b'a'; LINE_LIMIT]), Progress::Broken(LINE_LIMIT - 1));
        let mut chunks = Chunks::new();
        assert_eq!(chunks.feed(b"0\r\n"), Progress::More);
        let trailers = b"a: b\r\n".repeat(LINE_LIMIT);
        assert!(matches!(chunks.feed(&trailers), Progress::Broken(_)));
    }
}
