//! How much the h2 crate may write on a connection, all streams together.
//!
//! It takes from the app and buffers whatever the client's windows allow, up to 400 KB for each stream, long before TCP takes it:
//! a client that grants much and reads nothing would cost a hundred megabytes. So the client's window updates for the connection
//! are taken out of what the h2 crate reads, and it gets them in portions, as its DATA leaves.

use bytes::{BufMut, BytesMut};

use crate::frames::{self, HEADER_LEN, WINDOW_UPDATE};

/// The h2 crate may have so much in its buffers for one connection, give or take a frame.
const LIMIT: u32 = 512 << 10;
/// What every connection begins with, and what no setting changes.
const INITIAL: u32 = 65_535;
const LARGEST: u32 = 0x7fff_ffff;
const PAYLOAD_LEN: usize = 4;

/// The client's grants for the connection, in bytes.
#[derive(Debug)]
pub(crate) struct Credit {
    /// The h2 crate has these, and no DATA for them has left.
    open: u32,
    /// The client has granted these as well.
    banked: u32,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            open: INITIAL,
            banked: 0,
        }
    }
}

impl Credit {
    pub(crate) fn granted(&mut self, bytes: u32) {
        self.banked = self.banked.saturating_add(bytes).min(LARGEST);
    }

    /// DATA with a payload of this length has left.
    pub(crate) fn used(&mut self, bytes: usize) {
        self.open = self.open.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// Whether the h2 crate should get some: not for every frame, and always before it has none.
    pub(crate) fn is_due(&self) -> bool {
        self.banked > 0 && self.open <= LIMIT / 2
    }

    /// Writes the window update that is due, if one is.
    pub(crate) fn take(&mut self, out: &mut BytesMut) {
        if self.is_due() {
            let bytes = self.banked.min(LIMIT - self.open);
            self.banked -= bytes;
            self.open += bytes;
            frames::put_header(out, PAYLOAD_LEN, WINDOW_UPDATE, 0, 0);
            out.put_u32(bytes);
        }
    }
}

/// Takes the window updates for the connection out of what a client sends, at any split.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    /// The beginning of a frame, held back until it is clear what it is.
    held: Vec<u8>,
    /// Payload of another frame that still has to pass.
    passing: usize,
}

impl Grants {
    /// Writes everything else to `out`. What is no valid update passes too: the h2 crate knows what to say to it.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], out: &mut BytesMut, credit: &mut Credit) {
        while !bytes.is_empty() {
            if self.passing > 0 {
                let here = self.passing.min(bytes.len());
                out.put_slice(&bytes[..here]);
                self.passing -= here;
                bytes = &bytes[here..];
                continue;
            }
            self.held.push(bytes[0]);
            bytes = &bytes[1..];
            let Some(header) = self.held.first_chunk::<HEADER_LEN>() else {
                continue;
            };
            let frame = frames::Frame::parse(header);
            let ours = (frame.kind, frame.stream, frame.length) == (WINDOW_UPDATE, 0, PAYLOAD_LEN);
            match self.held[HEADER_LEN..].first_chunk::<PAYLOAD_LEN>() {
                None if ours => continue,
                Some(payload) if u32::from_be_bytes(*payload) & LARGEST > 0 => {
                    credit.granted(u32::from_be_bytes(*payload) & LARGEST);
                }
                Some(_) => out.put_slice(&self.held),
                None => {
                    out.put_slice(&self.held);
                    self.passing = frame.length;
                }
            }
            self.held.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(stream: u32, bytes: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        frames::put_header(&mut out, PAYLOAD_LEN, WINDOW_UPDATE, 0, stream);
        out.put_u32(bytes);
        out.to_vec()
    }

    fn other(kind: u8, length: usize) -> Vec<u8> {
        let mut out = BytesMut::new();
        frames::put_header(&mut out, length, kind, 0, 0);
        // looks like an update, and is a payload
        out.put_slice(&update(0, 5).repeat(length)[..length]);
        out.to_vec()
    }

    #[test]
    fn grants_are_taken_out_at_any_split() {
        let mut short = BytesMut::new();
        frames::put_header(&mut short, 3, WINDOW_UPDATE, 0, 0);
        short.put_slice(&[0, 0, 1]);
        let passes = [
            other(frames::DATA, 40),
            update(1, 7),
            update(0, 0),
            short.to_vec(),
            other(frames::SETTINGS, 0),
        ];
        let bytes = [
            &passes[0][..],
            &update(0, 1000),
            &passes[1],
            &update(0, 1 << 31 | 1),
            &passes[2],
            &passes[3],
            &passes[4],
            &update(0, 10),
        ]
        .concat();
        for split in 0..=bytes.len() {
            let (mut grants, mut credit, mut out) = (Grants::default(), Credit::default(), BytesMut::new());
            grants.feed(&bytes[..split], &mut out, &mut credit);
            grants.feed(&bytes[split..], &mut out, &mut credit);
            assert_eq!(out[..], passes.concat(), "{split}");
            assert_eq!(credit.banked, 1011, "{split}");
        }
    }

    fn taken(credit: &mut Credit) -> u32 {
        let mut out = BytesMut::new();
        credit.take(&mut out);
        out.last_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    #[test]
    fn the_h2_crate_never_has_more_than_the_limit_or_than_the_client_gave() {
        let mut credit = Credit::default();
        assert_eq!(taken(&mut credit), 0, "nothing was granted");
        credit.granted(LARGEST);
        credit.granted(LARGEST);
        assert_eq!(taken(&mut credit), LIMIT - INITIAL);
        assert_eq!(taken(&mut credit), 0);
        credit.used(LIMIT as usize / 2 - 1);
        assert!(!credit.is_due());
        credit.used(1);
        assert_eq!(taken(&mut credit), LIMIT / 2);

        let mut small = Credit::default();
        small.used(INITIAL as usize);
        small.granted(1);
        assert_eq!(taken(&mut small), 1, "a client that gives little gets little, at once");
        assert_eq!(taken(&mut small), 0);
    }
}
