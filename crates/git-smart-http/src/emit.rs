//! A plan as the bytes of a pack, piece by piece.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use sha1::{Digest, Sha1};

use crate::{
    Error, ObjectId, Plan, SideBand,
    pack_log::{EntryRecord, Place, Segment, Window},
    pkt_line::{self, Band},
};

const TRAILER_BYTES: usize = 20;
/// An entry's header: four bits of its size, then seven a byte.
const MOST_HEADER_BYTES: usize = 10;

/// The pack, framed as the client asked for it. Each call of `next` may block on the disk.
///
/// Bytes that are not the ones that were written end the stream before its trailer: with a message on band 3,
/// or with an error where there is no side-band. No client takes such a pack for a whole one.
#[derive(Debug)]
pub struct PackStream {
    plan: Plan,
    places: std::vec::IntoIter<Place>,
    range: Option<Range>,
    index: Window,
    payloads: Window,
    /// What of the pack waits to be sent.
    out: BytesMut,
    sha1: Sha1,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pack,
    Flush,
    End,
}

/// The range that is being sent.
#[derive(Debug)]
struct Range {
    commit: ObjectId,
    segment: Segment,
    entry: u64,
    /// The payload that is being sent or skipped.
    at: u64,
    left: u64,
    skip: bool,
    payload_crc: crc32fast::Hasher,
    index_crc: crc32fast::Hasher,
}

impl PackStream {
    pub(crate) fn new(plan: Plan) -> PackStream {
        let places: Vec<Place> = plan.places().collect();
        let mut stream = PackStream {
            places: places.into_iter(),
            range: None,
            index: Window::default(),
            payloads: Window::default(),
            out: BytesMut::new(),
            sha1: Sha1::new(),
            state: State::Pack,
            plan,
        };
        stream.start_piece();
        stream.out.put_slice(b"PACK\0\0\0\x02");
        stream.out.put_u32(stream.plan.objects());
        stream
    }

    /// What stands in front of a piece of the pack, and how much of the pack fits in.
    fn frame(&self) -> (usize, usize) {
        match self.plan.side_band {
            SideBand::None => (0, 64 << 10),
            SideBand::Small => (5, pkt_line::MAX_SMALL_BAND),
            SideBand::Large => (5, pkt_line::MAX_BAND),
        }
    }

    fn start_piece(&mut self) {
        let (prefix, most) = self.frame();
        self.out.reserve(prefix + most);
        self.out.put_bytes(0, prefix);
    }

    fn room(&self) -> usize {
        let (prefix, most) = self.frame();
        prefix + most - self.out.len()
    }

    /// Fills the piece. False: the pack is complete, without its trailer.
    fn fill(&mut self) -> Result<bool, Error> {
        while self.room() > MOST_HEADER_BYTES {
            let Some(range) = &mut self.range else {
                match self.next_range() {
                    true => continue,
                    false => return Ok(false),
                }
            };
            if range.left > 0 {
                self.payload()?;
            } else if range.entry < range.segment.end {
                self.entry()?;
            } else {
                range.check()?;
                self.range = None;
            }
        }
        Ok(true)
    }

    fn next_range(&mut self) -> bool {
        let history = self.plan.view.history();
        let Some(place) = self.places.next() else { return false };
        let segment = *history.segment(place);
        let commit = history.commit(history.owner(place)).id;
        self.range = Some(Range::new(commit, segment));
        true
    }

    fn entry(&mut self) -> Result<(), Error> {
        let range = self.range.as_mut().expect("fill has found a range");
        let bytes = self.plan.view.files().record(&mut self.index, range.entry)?;
        range.index_crc.update(&bytes);
        let record = EntryRecord::decode(&bytes).filter(|record| range.fits(record));
        let record = record.ok_or(Error::Damaged {
            commit: range.commit,
            what: "an index record",
        })?;
        range.left = u64::from(record.deflated);
        range.skip = self.plan.skips(range.entry);
        range.entry += 1;
        if !range.skip {
            entry_header(&mut self.out, record.kind.number(), record.inflated);
        }
        Ok(())
    }

    /// Passes on as much of the payload as is at hand and fits. What is skipped is read too, for the checksum.
    fn payload(&mut self) -> Result<(), Error> {
        let room = self.room() as u64;
        let range = self.range.as_mut().expect("fill has found a range");
        let most = range.left.min(if range.skip { u64::MAX } else { room });
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let bytes = self.plan.view.files().payload(&mut self.payloads, range.at, most)?;
        range.payload_crc.update(bytes);
        range.at += bytes.len() as u64;
        range.left -= bytes.len() as u64;
        if !range.skip {
            self.out.put_slice(bytes);
        }
        Ok(())
    }

    /// The next piece of the pack, framed.
    fn piece(&mut self) -> Result<Bytes, Error> {
        let more = self.fill()?;
        let (prefix, _) = self.frame();
        self.sha1.update(&self.out[prefix..]);
        // Small pieces are left for the next round when the trailer does not fit.
        if !more && self.room() >= TRAILER_BYTES {
            let trailer = self.sha1.finalize_reset();
            self.out.put_slice(&trailer);
            self.state = State::Flush;
        }
        Ok(self.cut())
    }

    fn cut(&mut self) -> Bytes {
        if self.plan.side_band != SideBand::None {
            let length = self.out.len();
            self.out[..4].copy_from_slice(&pkt_line::digits(length));
            self.out[4] = Band::Pack.number();
        }
        let piece = self.out.split().freeze();
        self.start_piece();
        piece
    }

    fn flush(&mut self) -> Option<io::Result<Bytes>> {
        self.state = State::End;
        let framed = self.plan.side_band != SideBand::None;
        framed.then(|| Ok(Bytes::from_static(b"0000")))
    }

    /// The last words: the log shows why, the client only hears that it is not its fault.
    fn give_up(&mut self, error: Error) -> io::Result<Bytes> {
        self.state = State::End;
        self.plan.view.note(&error);
        log::error!("stopped sending a pack: {error}");
        match self.plan.side_band {
            SideBand::None => Err(error.into()),
            _ => Ok(pkt_line::band_text(
                Band::Error,
                "the server cannot read its repository; try again later\n",
            )),
        }
    }
}

impl Iterator for PackStream {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self.state {
            State::Pack => Some(self.piece().or_else(|error| self.give_up(error))),
            State::Flush => self.flush(),
            State::End => None,
        }
    }
}

impl Range {
    fn new(commit: ObjectId, segment: Segment) -> Range {
        Range {
            commit,
            segment,
            entry: segment.start,
            at: segment.payload_start,
            left: 0,
            skip: false,
            payload_crc: crc32fast::Hasher::new(),
            index_crc: crc32fast::Hasher::new(),
        }
    }

    /// Whether a record's payload is where the one before it ends.
    fn fits(&self, record: &EntryRecord) -> bool {
        record.offset == self.at && self.at + u64::from(record.deflated) <= self.segment.payload_end
    }

    fn check(&self) -> Result<(), Error> {
        let damaged = |what| {
            Err(Error::Damaged {
                commit: self.commit,
                what,
            })
        };
        if self.index_crc.clone().finalize() != self.segment.index_crc {
            return damaged("the checksum of its index records");
        }
        if self.at != self.segment.payload_end || self.payload_crc.clone().finalize() != self.segment.payload_crc {
            return damaged("the checksum of its payloads");
        }
        Ok(())
    }
}

/// Kind and inflated size, as pack entries begin.
fn entry_header(out: &mut BytesMut, kind: u8, size: u64) {
    let mut byte = kind << 4 | (size & 15) as u8;
    let mut left = size >> 4;
    while left > 0 {
        out.put_u8(byte | 0x80);
        byte = (left & 0x7f) as u8;
        left >>= 7;
    }
    out.put_u8(byte);
}
