//! What the acceptor adds to an HTTP/2 connection: limits on streams and on what is buffered, an end to idle and
//! stalled connections, and GOAWAY when the server stops.

use std::io::{Error, ErrorKind, IoSlice};

use bytes::BytesMut;
use tokio::time::Instant;

use crate::{
    config::Config,
    credit::{Credit, Grants},
    frames::{self, Cursor, DATA, Frame, GOAWAY, HEADERS, PREFACE, Streams},
};

/// Streams at once that a client is told it may open; twice as many end the connection.
const STREAM_LIMIT: u32 = 256;

/// So much of an answer goes out before the client's preface. libcurl 7 has room for 32 KiB of what comes with the `101`,
/// and gives up on more; small answers should not wait for a preface that is on its way.
const EARLY_BYTES: usize = 16 << 10;

/// Why a connection is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    No,
    /// A GOAWAY from the client still has to be shown to the h2 crate.
    Due,
    /// The h2 crate has seen one, and closes once no stream is left.
    UnderWay,
}

#[derive(Debug)]
pub(crate) struct Http2Side {
    /// The client's own preface, as far as it still has to come, when ours has replaced it.
    preface: &'static [u8],
    /// What may be written before it has come.
    early: usize,
    grants: Grants,
    credit: Credit,
    /// In what the h2 crate reads, which is without the client's grants.
    received: Cursor,
    sent: Cursor,
    streams: Streams,
    settings_seen: bool,
    drain: Drain,
    notice_due: bool,
    /// When the last HEADERS or DATA went either way.
    progress: Instant,
}

impl Http2Side {
    /// A connection whose first bytes, `begun`, start with the client's preface; and what the h2 crate is to read of them.
    pub(crate) fn prior_knowledge(begun: &[u8]) -> Result<(Self, BytesMut), Error> {
        let mut side = Self::new(&[]);
        let mut inbox = BytesMut::from(PREFACE);
        side.received(&begun[PREFACE.len()..], &mut inbox)?;
        Ok((side, inbox))
    }

    /// A connection on which we made stream 1 out of an HTTP/1 request.
    pub(crate) fn upgraded() -> Self {
        let mut side = Self::new(PREFACE);
        side.streams.received(Frame {
            length: 0,
            kind: HEADERS,
            flags: frames::END_STREAM,
            stream: 1,
        });
        side
    }

    fn new(preface: &'static [u8]) -> Self {
        Self {
            preface,
            early: EARLY_BYTES,
            grants: Grants::default(),
            credit: Credit::default(),
            received: Cursor::default(),
            sent: Cursor::default(),
            streams: Streams::default(),
            settings_seen: false,
            drain: Drain::No,
            notice_due: false,
            progress: Instant::now(),
        }
    }

    /// What the client sent without its own preface, where ours has taken its place.
    pub(crate) fn without_preface<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
        let here = self.preface.len().min(bytes.len());
        let (due, later) = self.preface.split_at(here);
        self.preface = later;
        bytes.strip_prefix(due).ok_or_else(|| {
            let what = "no HTTP/2 preface after the upgrade";
            Error::new(ErrorKind::InvalidData, what)
        })
    }

    /// How much may be written now.
    pub(crate) fn writable(&self) -> usize {
        if self.preface.is_empty() {
            usize::MAX
        } else {
            self.early
        }
    }

    /// Takes in what the client sent, and writes to `inbox` what the h2 crate is to read of it.
    pub(crate) fn received(&mut self, bytes: &[u8], inbox: &mut BytesMut) -> Result<(), Error> {
        let before = inbox.len();
        self.grants.feed(bytes, inbox, &mut self.credit);
        let (streams, progress, drain) = (&mut self.streams, &mut self.progress, &mut self.drain);
        let mut highest = 0;
        self.received.feed(&inbox[before..], |frame| {
            streams.received(frame);
            highest = highest.max(streams.open());
            if frame.kind == GOAWAY {
                // Ours would name more streams than the client's, which is an error.
                *drain = Drain::UnderWay;
            }
            if matches!(frame.kind, HEADERS | DATA) {
                *progress = Instant::now();
            }
        });
        if highest > 2 * STREAM_LIMIT as usize {
            let what = format!("{highest} HTTP/2 streams at once");
            return Err(Error::new(ErrorKind::InvalidData, what));
        }
        Ok(())
    }

    pub(crate) fn sent(&mut self, bufs: &[IoSlice<'_>], mut count: usize) {
        self.early = self.early.saturating_sub(count);
        let (streams, progress, credit) = (&mut self.streams, &mut self.progress, &mut self.credit);
        for buf in bufs {
            let here = count.min(buf.len());
            count -= here;
            self.sent.feed(&buf[..here], |frame| {
                streams.sent(frame);
                if frame.kind == DATA {
                    credit.used(frame.length);
                }
                if matches!(frame.kind, HEADERS | DATA) {
                    *progress = Instant::now();
                }
            });
        }
    }

    /// Whether the h2 crate may write more, and should be woken to hear so.
    pub(crate) fn credit_due(&self) -> bool {
        self.credit.is_due() && self.received.at_boundary()
    }

    /// What tells the h2 crate that it may write more, if this is the moment.
    pub(crate) fn take_credit(&mut self, inbox: &mut BytesMut) {
        if self.received.at_boundary() {
            self.credit.take(inbox);
        }
    }

    /// If the h2 crate is about to write its SETTINGS, the longer ones to write instead; returns
    /// how many of its bytes they stand for.
    pub(crate) fn settings(&mut self, first: &[u8], out: &mut BytesMut) -> Option<usize> {
        if self.settings_seen {
            return None;
        }
        self.settings_seen = true;
        frames::put_settings_with_limit(first, STREAM_LIMIT, out)
    }

    /// Ends the connection as soon as no stream is left.
    pub(crate) fn start_drain(&mut self) {
        if self.drain == Drain::No {
            self.drain = Drain::Due;
            self.notice_due = true;
        }
    }

    /// What tells the h2 crate to finish: a GOAWAY as if the client had sent it. With no stream
    /// left it then answers with one of its own, which names the last stream, and closes.
    pub(crate) fn take_drain(&mut self, out: &mut BytesMut) {
        if self.drain == Drain::Due && self.received.at_boundary() {
            self.drain = Drain::UnderWay;
            frames::put_goaway(out);
        }
    }

    /// What tells the client that new requests should go elsewhere, if this is the moment.
    pub(crate) fn take_notice(&mut self, out: &mut BytesMut) {
        if self.notice_due && self.settings_seen && self.sent.at_boundary() {
            self.notice_due = false;
            frames::put_goaway(out);
        }
    }

    /// When the connection has been without requests, or a request without movement, for too long.
    pub(crate) fn deadline(&self, config: &Config) -> Instant {
        match self.drain {
            Drain::No => self.progress + config.keep_alive,
            _ => self.progress + config.keep_alive + config.write_stall,
        }
    }

    pub(crate) fn draining(&self) -> bool {
        self.drain != Drain::No
    }
}
