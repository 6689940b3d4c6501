//! Answers with a pack: whose turn it is, what a client hears while it waits, and how the pack leaves.

use std::io;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::body::BodyStream;
use actix_web::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use git_smart_http::pkt_line::{self, Band};
use git_smart_http::{Answer, End, Fetch, Protocol, SideBand};
use tokio::sync::mpsc;

use super::super::Shared;
use super::request_body::RequestBody;
use super::{RESULT, refused, uncached};
use crate::git_clones::Turn;
use crate::git_index::{Refusal, Serving};

/// Pieces of a pack that are read ahead for one client; each has at most 64 KiB.
const PIECES_AHEAD: usize = 3;
/// A pack that fits into them holds nobody up, and needs no turn.
const SMALL_BYTES: u64 = (PIECES_AHEAD as u64 - 1) * (64 << 10);
/// Who waits hears of it so often: clients give up after 30 s of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// How often it is looked whether the index is ready.
const LOOK: Duration = Duration::from_millis(100);
/// A client that hears of progress waits so long, for the first whole index and for its turn.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// One that hears nothing waits so long for its turn.
const SILENT_WAIT: Duration = Duration::from_secs(20);
/// While others wait, who takes fewer bytes a second than this over that time has to make room.
const SLOWEST: u64 = 32 << 10;
const SLOW_FOR: Duration = Duration::from_secs(30);

/// A clone: what is said before its pack is known at once, so that it can be told of progress while it waits.
pub fn can_hear(fetch: &Fetch) -> bool {
    let new = fetch.haves.is_empty() && fetch.shallows.is_empty() && fetch.depth.is_none();
    new && fetch.end == End::Done && fetch.caps.side_band != SideBand::None && !fetch.wants.is_empty()
}

/// The answer for a client that waited in silence, if at all.
pub async fn answered(appliance: &Shared, serving: &Serving, protocol: Protocol, body: &RequestBody) -> HttpResponse {
    let answer = match git_smart_http::respond(&serving.view, protocol, &body.bytes, &appliance.git_limits()) {
        Ok(answer) => answer,
        Err(error) => return uncached(StatusCode::OK, RESULT).body(error.pkt_line()),
    };
    let Some(plan) = &answer.plan else {
        return uncached(StatusCode::OK, RESULT).body(answer.head);
    };
    let turn = if plan.payload_bytes() <= SMALL_BYTES {
        None
    } else {
        match tokio::time::timeout(SILENT_WAIT, appliance.git_clones.take()).await {
            Ok(Some(turn)) => Some(turn),
            _ => return refused(appliance, &Refusal::Busy, RESULT, BytesMut::new()),
        }
    };
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    let appliance = appliance.clone();
    tokio::task::spawn_blocking(move || send(&appliance, answer, None, &pieces, turn));
    streamed(receiver)
}

/// Tells the client what it waits for until its pack can follow.
pub fn aloud(appliance: Shared, body: RequestBody, fetch: Fetch) -> HttpResponse {
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    tokio::spawn(async move {
        let mut voice = Voice::new(pieces, fetch.protocol);
        match ready(&appliance, &mut voice).await {
            Ok((serving, turn)) => {
                let pack = move || pack(&appliance, &serving, voice, fetch.protocol, &body, turn);
                tokio::task::spawn_blocking(pack);
            }
            Err(None) => {}
            Err(Some(refusal)) => {
                log::info!("a git client was refused: {refusal}");
                appliance
                    .statistics
                    .git_refused
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                voice.tell(Band::Error, &refusal.to_string()).await;
            }
        }
    });
    streamed(receiver)
}

/// Waits until there is something to send, and then for the client's turn.
async fn ready(appliance: &Shared, voice: &mut Voice) -> Result<(Serving, Turn), Option<Refusal>> {
    let serving = index(appliance, voice).await?;
    let turn = turn(appliance, voice).await?;
    // waiting may have taken long: what is sent is as new as it can be
    Ok((appliance.git_view_now().unwrap_or(serving), turn))
}

/// Waits for an index that is on its way. `Err(None)`: the client has gone.
async fn index(appliance: &Shared, voice: &mut Voice) -> Result<Serving, Option<Refusal>> {
    let limit = Instant::now() + LONGEST_WAIT;
    loop {
        let refusal = match appliance.git_view_now() {
            Ok(serving) => return Ok(serving),
            Err(refusal) => refusal,
        };
        let waits = matches!(refusal, Refusal::NotYet { .. }) && Instant::now() < limit && !appliance.stopping();
        if !waits {
            return Err(Some(refusal));
        }
        if !voice.remind(&refusal.to_string()).await {
            return Err(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until fewer others are being served.
async fn turn(appliance: &Shared, voice: &mut Voice) -> Result<Turn, Option<Refusal>> {
    let limit = Instant::now() + LONGEST_WAIT;
    let taking = appliance.git_clones.take();
    tokio::pin!(taking);
    loop {
        tokio::select! {
            biased;
            turn = &mut taking => return turn.ok_or(Some(Refusal::Busy)),
            () = tokio::time::sleep(LOOK) => {}
        }
        if Instant::now() >= limit || appliance.stopping() {
            return Err(Some(Refusal::Busy));
        }
        if !voice
            .remind("waiting: this mirror is sending its index to as many clients as it may")
            .await
        {
            return Err(None);
        }
    }
}

/// Blocks for as long as the client takes.
fn pack(appliance: &Shared, serving: &Serving, voice: Voice, protocol: Protocol, body: &RequestBody, turn: Turn) {
    match git_smart_http::respond(&serving.view, protocol, &body.bytes, &appliance.git_limits()) {
        Ok(answer) => send(appliance, answer, voice.said(), &voice.pieces, Some(turn)),
        Err(error) => drop(voice.pieces.blocking_send(Ok(error.pkt_line()))),
    }
}

/// What is said to a client before its pack.
struct Voice {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    /// `NAK`, or the opening of the pack's section, which stands before all else.
    opening: Bytes,
    told: Option<Instant>,
}

impl Voice {
    fn new(pieces: mpsc::Sender<io::Result<Bytes>>, protocol: Protocol) -> Self {
        let mut opening = BytesMut::new();
        let line: &[u8] = if protocol == Protocol::V2 {
            b"packfile\n"
        } else {
            b"NAK\n"
        };
        pkt_line::data(&mut opening, line);
        Self {
            pieces,
            opening: opening.freeze(),
            told: None,
        }
    }

    /// What of the answer's head was said.
    fn said(&self) -> Option<Bytes> {
        self.told.map(|_| self.opening.clone())
    }

    /// Tells of progress, unless the client heard something a moment ago. False: it has gone.
    async fn remind(&mut self, text: &str) -> bool {
        match self.told {
            Some(told) if told.elapsed() < KEEP_ALIVE => !self.pieces.is_closed(),
            _ => self.tell(Band::Progress, text).await,
        }
    }

    async fn tell(&mut self, band: Band, text: &str) -> bool {
        let opening = self.told.is_none().then(|| self.opening.clone());
        self.told = Some(Instant::now());
        let line = pkt_line::band_text(band, &format!("{text}\n"));
        for piece in opening.into_iter().chain([line]) {
            if self.pieces.send(Ok(piece)).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Reads on as far as the client takes it. What was `said` already is not said again.
fn send(
    appliance: &Shared,
    mut answer: Answer,
    said: Option<Bytes>,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
    turn: Option<Turn>,
) {
    appliance
        .statistics
        .git_packs
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    if let Some(said) = said {
        match answer.head.strip_prefix(&said[..]) {
            Some(rest) => answer.head = Bytes::copy_from_slice(rest),
            // `not our ref`: on the error band now
            None => {
                let text = String::from_utf8_lossy(answer.head.get(8..).unwrap_or_default()).into_owned();
                drop(pieces.blocking_send(Ok(pkt_line::band_text(Band::Error, &text))));
                return;
            }
        }
    }
    let (mut pace, mut is_gone) = (Pace::new(Instant::now()), false);
    for piece in answer.pieces() {
        if let Err(error) = &piece {
            log::error!("a git client's pack was cut off: {error}");
        }
        let bytes = piece.as_ref().map_or(0, Bytes::len) as u64;
        // Clients hang up at a damaged object. Reading on to the checksum behind it finds the damage, and has it mended.
        is_gone = is_gone || pieces.blocking_send(piece).is_err();
        if turn.is_some() && pace.is_too_slow(bytes, Instant::now()) && appliance.git_clones.waiting() > 0 && !is_gone {
            log::info!("a git client that takes less than {SLOWEST} bytes a second made room for others");
            drop(pieces.blocking_send(Err(io::ErrorKind::TimedOut.into())));
            return;
        }
    }
    drop(turn);
}

/// How fast a client takes its pack.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// Counts what went; looks back each time [`SLOW_FOR`] has passed.
    fn is_too_slow(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes += bytes;
        let time = now.saturating_duration_since(self.since);
        if time < SLOW_FOR {
            return false;
        }
        let is_slow = self.bytes < SLOWEST * time.as_secs();
        *self = Self::new(now);
        is_slow
    }
}

fn streamed(receiver: mpsc::Receiver<io::Result<Bytes>>) -> HttpResponse {
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    uncached(StatusCode::OK, RESULT).body(BodyStream::new(Box::pin(pieces)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_slow_for_long_is_too_slow() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(!pace.is_too_slow(1, start + SLOW_FOR / 2));
        assert!(pace.is_too_slow(1, start + SLOW_FOR));
        assert!(!pace.is_too_slow(SLOWEST * 40, start + SLOW_FOR * 2));
        assert!(
            !pace.is_too_slow(0, start + SLOW_FOR * 2 + SLOW_FOR / 2),
            "it begins anew"
        );
        assert!(pace.is_too_slow(SLOWEST, start + SLOW_FOR * 3));
    }
}
