//! HTTP/2 frames as far as the acceptor cares: where they begin, and which streams they open.

use std::collections::HashSet;

use bytes::{BufMut, BytesMut};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const HEADER_LEN: usize = 9;
/// Largest payload of a frame unless both sides agree on more.
pub(crate) const DEFAULT_FRAME_LIMIT: usize = 16_384;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

const MAX_CONCURRENT_STREAMS: u16 = 3;
const LAST_STREAM: u32 = 0x7fff_ffff;

pub(crate) fn put_header(out: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    out.put_uint(length as u64, 3);
    out.put_slice(&[kind, flags]);
    out.put_u32(stream);
}

/// Says that no more streams should be opened, without naming a last one yet: whoever writes it
/// cannot know which are on their way.
pub(crate) fn put_goaway(out: &mut BytesMut) {
    put_header(out, 8, GOAWAY, 0, 0);
    out.put_u32(LAST_STREAM);
    out.put_u32(0);
}

/// If `bytes` begin with a whole SETTINGS frame, writes it to `out` with a limit on streams added
/// and returns the length of the original. (actix-http has no setting for it.)
pub(crate) fn put_settings_with_limit(bytes: &[u8], limit: u32, out: &mut BytesMut) -> Option<usize> {
    let header = Frame::parse(bytes.first_chunk()?);
    let end = HEADER_LEN + header.length;
    if header.kind != SETTINGS || header.flags & ACK != 0 || bytes.len() < end {
        return None;
    }
    put_header(out, header.length + 6, SETTINGS, 0, 0);
    out.put_slice(&bytes[HEADER_LEN..end]);
    out.put_u16(MAX_CONCURRENT_STREAMS);
    out.put_u32(limit);
    Some(end)
}

/// The nine bytes before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Frame {
    pub(crate) fn parse(bytes: &[u8; HEADER_LEN]) -> Self {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & LAST_STREAM,
        }
    }

    fn ends(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Follows one direction of a connection from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    header: [u8; HEADER_LEN],
    have: usize,
    left: usize,
    inside_headers: bool,
}

impl Cursor {
    /// Whether another frame may be put in here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.inside_headers
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut on_frame: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = self.left.min(bytes.len());
                self.left -= here;
                bytes = &bytes[here..];
                continue;
            }
            let here = (HEADER_LEN - self.have).min(bytes.len());
            self.header[self.have..self.have + here].copy_from_slice(&bytes[..here]);
            self.have += here;
            bytes = &bytes[here..];
            if self.have == HEADER_LEN {
                let frame = Frame::parse(&self.header);
                self.have = 0;
                self.left = frame.length;
                if matches!(frame.kind, HEADERS | CONTINUATION) {
                    self.inside_headers = !frame.ends(END_HEADERS);
                }
                on_frame(frame);
            }
        }
    }
}

/// The streams that a client opened and we have not yet finished.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: HashSet<u32>,
    highest: u32,
}

impl Streams {
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn received(&mut self, frame: Frame) {
        match frame.kind {
            HEADERS if frame.stream > self.highest => {
                self.highest = frame.stream;
                self.open.insert(frame.stream);
            }
            RST_STREAM => {
                self.open.remove(&frame.stream);
            }
            _ => {}
        }
    }

    pub(crate) fn sent(&mut self, frame: Frame) {
        let ended = match frame.kind {
            DATA | HEADERS => frame.ends(END_STREAM),
            kind => kind == RST_STREAM,
        };
        if ended {
            self.open.remove(&frame.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize, kind: u8, flags: u8, stream: u32) -> BytesMut {
        let mut out = BytesMut::new();
        put_header(&mut out, payload, kind, flags, stream);
        out.put_bytes(7, payload);
        out
    }

    #[test]
    fn frames_are_followed_at_any_split() {
        let parts = [
            frame(0, SETTINGS, ACK, 0),
            frame(300, HEADERS, 0, 1),
            frame(5, CONTINUATION, END_HEADERS, 1),
            frame(70_000, DATA, END_STREAM, 1),
        ];
        let bytes = parts.concat();
        let boundaries = [0, 9, bytes.len() - 70_009, bytes.len()];
        for split in (0..400).chain([bytes.len() - 1, bytes.len()]) {
            let (mut cursor, mut kinds) = (Cursor::default(), vec![]);
            cursor.feed(&bytes[..split], |frame| kinds.push(frame.kind));
            assert_eq!(cursor.at_boundary(), boundaries.contains(&split), "{split}");
            cursor.feed(&bytes[split..], |frame| kinds.push(frame.kind));
            assert_eq!(kinds, [SETTINGS, HEADERS, CONTINUATION, DATA]);
            assert!(cursor.at_boundary());
        }
    }

    #[test]
    fn streams_open_and_end() {
        let header = |kind, flags, stream| Frame {
            length: 0,
            kind,
            flags,
            stream,
        };
        let mut streams = Streams::default();
        streams.received(header(HEADERS, END_STREAM, 1));
        streams.received(header(HEADERS, 0, 3));
        streams.received(header(HEADERS, END_STREAM, 3));
        streams.received(header(HEADERS, 0, 5));
        assert_eq!(streams.open(), 3);
        streams.sent(header(HEADERS, END_HEADERS, 1));
        streams.sent(header(DATA, 0, 1));
        assert_eq!(streams.open(), 3);
        streams.sent(header(DATA, END_STREAM, 1));
        streams.sent(header(RST_STREAM, 0, 3));
        streams.received(header(RST_STREAM, 0, 5));
        assert_eq!(streams.open(), 0);
    }

    #[test]
    fn a_limit_is_added_to_settings() {
        let mut sent = BytesMut::new();
        put_header(&mut sent, 6, SETTINGS, 0, 0);
        sent.put_slice(&[0, 4, 0, 16, 0, 0]);
        sent.put_slice(b"next");
        let mut out = BytesMut::new();
        assert_eq!(put_settings_with_limit(&sent, 256, &mut out), Some(15));
        let due = [0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 4, 0, 16, 0, 0, 0, 3, 0, 0, 1, 0];
        assert_eq!(out[..], due);
        for other in [&sent[..14], &frame(0, SETTINGS, ACK, 0), &frame(8, 6, 0, 0)] {
            assert_eq!(put_settings_with_limit(other, 256, &mut out), None);
        }
    }
}
