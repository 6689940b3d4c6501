//! Pkt-lines: four hex digits that count themselves and what follows, and the side-band inside of them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Error, error::evidence};

/// The most that one pkt-line carries, without its length.
pub const MAX_DATA: usize = 65_516;
/// The most that one pkt-line of `side-band-64k` carries, without its length and band.
pub const MAX_BAND: usize = 65_515;
/// The same for the old `side-band`.
pub const MAX_SMALL_BAND: usize = 995;

/// One pkt-line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `0000`: the end of a list or a message.
    Flush,
    /// `0001`: between the sections of a v2 message.
    Delim,
    /// `0002`: the end of a v2 answer.
    ResponseEnd,
    /// Anything else, as it came.
    Data(&'a [u8]),
}

impl<'a> Line<'a> {
    /// The data without one newline at its end, which git sends or leaves out as it likes.
    pub fn text(self) -> Option<&'a [u8]> {
        match self {
            Line::Data(data) => Some(data.strip_suffix(b"\n").unwrap_or(data)),
            _ => None,
        }
    }
}

/// Reads pkt-lines off a complete body, up to a number of lines.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    body: &'a [u8],
    at: usize,
    read: usize,
    limit: usize,
}

impl<'a> Lines<'a> {
    /// Reads `body`; more than `limit` lines are refused.
    pub fn new(body: &'a [u8], limit: usize) -> Lines<'a> {
        Lines {
            body,
            at: 0,
            read: 0,
            limit,
        }
    }

    /// The next line, or none at the end of the body.
    pub fn next_line(&mut self) -> Result<Option<Line<'a>>, Error> {
        let rest = &self.body[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        if self.read == self.limit {
            return Err(Error::TooMany {
                what: "lines",
                limit: self.limit,
            });
        }
        self.read += 1;
        let bad = || Error::BadLength {
            at: self.at,
            length: evidence(&rest[..rest.len().min(4)]),
        };
        let length = rest.get(..4).and_then(length).ok_or_else(bad)?;
        let line = match length {
            0 => Line::Flush,
            1 => Line::Delim,
            2 => Line::ResponseEnd,
            4.. if length <= MAX_DATA + 4 => {
                let short = Error::CutShort {
                    at: self.at,
                    expected: length,
                    left: rest.len(),
                };
                Line::Data(rest.get(4..length).ok_or(short)?)
            }
            _ => return Err(bad()),
        };
        self.at += length.max(4);
        Ok(Some(line))
    }
}

fn length(digits: &[u8]) -> Option<usize> {
    // Not `from_str_radix`: it takes a sign.
    digits.iter().try_fold(0, |sum, digit| {
        Some(sum << 4 | char::from(*digit).to_digit(16)? as usize)
    })
}

/// Appends one line of at most [`MAX_DATA`] bytes.
///
/// # Panics
/// When `data` is longer: what this crate says is short, and packs go through the side-band.
pub fn data(out: &mut BytesMut, data: &[u8]) {
    assert!(data.len() <= MAX_DATA, "a pkt-line of {} bytes", data.len());
    out.put_slice(&digits(data.len() + 4));
    out.put_slice(data);
}

/// Appends `0000`.
pub fn flush(out: &mut BytesMut) {
    out.put_slice(b"0000");
}

/// Appends `0001`.
pub fn delim(out: &mut BytesMut) {
    out.put_slice(b"0001");
}

/// Appends `0002`.
pub fn response_end(out: &mut BytesMut) {
    out.put_slice(b"0002");
}

/// What a pkt-line of the side-band carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// The pack.
    Pack,
    /// Text for the user, also sent to show that the server lives.
    Progress,
    /// The last words: the client gives up.
    Error,
}

impl Band {
    pub(crate) fn number(self) -> u8 {
        match self {
            Band::Pack => 1,
            Band::Progress => 2,
            Band::Error => 3,
        }
    }
}

/// One pkt-line on a side-band; what is behind the first [`MAX_SMALL_BAND`] bytes of a text is left out, so that it suits both widths.
pub fn band_text(band: Band, text: &str) -> Bytes {
    let text = &text.as_bytes()[..text.len().min(MAX_SMALL_BAND)];
    let mut out = BytesMut::with_capacity(text.len() + 5);
    out.put_slice(&digits(text.len() + 5));
    out.put_u8(band.number());
    out.put_slice(text);
    out.freeze()
}

/// An `ERR` line: how an error is said outside of the side-band.
pub fn error(text: &str) -> Bytes {
    let mut out = BytesMut::new();
    let text = &text.as_bytes()[..text.len().min(MAX_SMALL_BAND)];
    data(&mut out, &[b"ERR ", text].concat());
    out.freeze()
}

/// The four digits for a line of so many bytes, itself included.
pub(crate) fn digits(length: usize) -> [u8; 4] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    [12, 8, 4, 0].map(|shift| HEX[length >> shift & 15])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(body: &[u8]) -> Result<Vec<Line<'_>>, Error> {
        let mut lines = Lines::new(body, 1_000);
        std::iter::from_fn(|| lines.next_line().transpose()).collect()
    }

    #[test]
    fn odd_lengths_are_refused_with_the_evidence() {
        for bad in ["0003", "fff1", "ffff", "zzzz", "+004", "00", "-001", " 004"] {
            let body = format!("0000{bad}");
            let error = all(body.as_bytes()).unwrap_err();
            assert!(
                matches!(&error, Error::BadLength { at: 4, length } if length == bad),
                "{bad}: {error}"
            );
        }
        let error = all(b"0009done").unwrap_err();
        assert!(
            matches!(
                error,
                Error::CutShort {
                    at: 0,
                    expected: 9,
                    left: 8
                }
            ),
            "{error}"
        );
        assert!(
            matches!(all(b"fff0"), Err(Error::CutShort { expected: 65_520, .. })),
            "the longest that git takes"
        );
    }

    #[test]
    fn control_lines_and_data_come_as_they_are() {
        use Line::*;
        let lines = all(b"00000001000200040007a\r\n0005\n").unwrap();
        assert_eq!(
            lines,
            [Flush, Delim, ResponseEnd, Data(b""), Data(b"a\r\n"), Data(b"\n")]
        );
        assert_eq!(lines[4].text(), Some(&b"a\r"[..]));
        assert_eq!(Flush.text(), None);
    }

    #[test]
    fn a_body_of_flushes_ends_at_the_limit() {
        let error = all(&b"0000".repeat(1_001)).unwrap_err();
        assert!(matches!(error, Error::TooMany { limit: 1_000, .. }), "{error}");
    }

    #[test]
    fn texts_fit_into_the_narrow_band() {
        assert_eq!(band_text(Band::Error, "no\n"), "0008\x03no\n");
        assert_eq!(band_text(Band::Progress, &"x".repeat(2_000)).len(), 1_000);
        assert_eq!(error("no"), "000aERR no");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let mut out = BytesMut::new();
            for line in &data {
                super::data(&mut out, line);
            }
            flush(&mut out);
            let mut expected: Vec<Line<'_>> = data.iter().map(|line| Line::Data(line)).collect();
            expected.push(Line::Flush);
            prop_assert_eq!(all(&out).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&body);
        }
    }
}
