//! A body as it arrives.

use std::{
    io,
    time::{Duration, Instant},
};

use awc::{ClientResponse, error::PayloadError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::{Error, connect::Attempt};

/// Chunks under way between the client's thread and the reader; one is some 8 to 64 KiB.
const CHUNKS_AHEAD: usize = 8;

/// Some bytes, or `None` at the verified end. A channel that closes without it was cut.
type Piece = Result<Option<Bytes>, Error>;

/// The bytes of a response. Dropping it before its end cancels the transfer.
#[derive(Debug)]
pub struct Body {
    pieces: mpsc::Receiver<Piece>,
    content_length: Option<u64>,
    deadline: Option<Instant>,
    url: String,
    finished: bool,
}

impl Body {
    /// The next bytes; `None` only after all have arrived. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.finished {
            return None;
        }
        match self.pieces.recv().await {
            Some(Ok(Some(bytes))) => Some(Ok(bytes)),
            Some(Ok(None)) => {
                self.finished = true;
                None
            }
            Some(Err(error)) => {
                self.finished = true;
                Some(Err(error))
            }
            None => {
                self.finished = true;
                Some(Err(self.cut()))
            }
        }
    }

    /// Why the channel has closed without an end.
    fn cut(&self) -> Error {
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            let url = self.url.clone();
            return Error::Deadline { url };
        }
        Error::Stopped
    }

    /// All of it in one piece, if it is at most `limit` bytes.
    ///
    /// # Errors
    /// Those of the transfer, and [`Error::TooLarge`].
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        let mut total_bytes = self.content_length.unwrap_or(0);
        while total_bytes <= limit {
            let Some(bytes) = self.next().await else {
                return Ok(all.freeze());
            };
            let bytes = bytes?;
            total_bytes = total_bytes.max((all.len() + bytes.len()) as u64);
            all.extend_from_slice(&bytes);
        }
        Err(Error::TooLarge {
            url: self.url,
            limit_bytes: limit,
        })
    }
}

/// Where a body ends, which is checked since awc ends a cut one without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none, whatever the headers say (204, 304).
    Empty,
    /// By Content-Length.
    Length(u64),
    /// By chunks: the connection's end must not come first.
    Chunked,
    /// By HTTP/2, which says so itself.
    Stream,
}

/// What a transfer is held to.
#[derive(Debug)]
pub(crate) struct Limits {
    pub url: String,
    pub framing: Framing,
    pub max_body: u64,
    pub stall_timeout: Duration,
    pub deadline: Option<Instant>,
}

impl Limits {
    pub(crate) fn channel(&self) -> (mpsc::Sender<Piece>, Body) {
        let (sender, pieces) = mpsc::channel(CHUNKS_AHEAD);
        let content_length = match self.framing {
            Framing::Empty => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::Stream => None,
        };
        let body = Body {
            pieces,
            content_length,
            deadline: self.deadline,
            url: self.url.clone(),
            finished: false,
        };
        (sender, body)
    }
}

/// Carries the body over, until its end, an error, the deadline, or a reader who is gone.
pub(crate) async fn pump(
    mut response: ClientResponse,
    attempt: &Attempt,
    limits: &Limits,
    sender: &mpsc::Sender<Piece>,
) {
    let carry = async {
        let end = carry(&mut response, attempt, limits, sender).await;
        // A reader who is gone wants no outcome.
        let _ = sender.send(end.map(|()| None)).await;
    };
    let deadline = async {
        match limits.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = carry => {}
        () = sender.closed() => {}
        // The reader finds the channel cut, and knows the deadline too.
        () = deadline => {}
    }
}

async fn carry(
    response: &mut ClientResponse,
    attempt: &Attempt,
    limits: &Limits,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), Error> {
    if limits.framing == Framing::Empty {
        return Ok(());
    }
    let mut received_bytes: u64 = 0;
    loop {
        let next = tokio::time::timeout(limits.stall_timeout, response.next()).await;
        let bytes = match next {
            Ok(Some(Ok(bytes))) => bytes,
            Ok(Some(Err(error))) => return Err(payload_error(error, limits, received_bytes)),
            Ok(None) => return check_end(attempt, limits, received_bytes),
            Err(_) => {
                return Err(Error::Stalled {
                    url: limits.url.clone(),
                    waited: limits.stall_timeout,
                    received_bytes,
                });
            }
        };
        received_bytes += bytes.len() as u64;
        if received_bytes > limits.max_body {
            return Err(Error::TooLarge {
                url: limits.url.clone(),
                limit_bytes: limits.max_body,
            });
        }
        if !bytes.is_empty() && sender.send(Ok(Some(bytes))).await.is_err() {
            return Ok(());
        }
    }
}

fn check_end(attempt: &Attempt, limits: &Limits, received_bytes: u64) -> Result<(), Error> {
    let (complete, expected_bytes) = match limits.framing {
        Framing::Empty | Framing::Stream => (true, None),
        Framing::Length(length) => (received_bytes == length, Some(length)),
        Framing::Chunked => (!attempt.saw_end(), None),
    };
    if complete {
        return Ok(());
    }
    Err(Error::Truncated {
        url: limits.url.clone(),
        received_bytes,
        expected_bytes,
    })
}

fn payload_error(error: PayloadError, limits: &Limits, received_bytes: u64) -> Error {
    let url = limits.url.clone();
    let source = match error {
        PayloadError::Incomplete(Some(source)) | PayloadError::Io(source) => source,
        other => io::Error::other(other.to_string()),
    };
    match source.kind() {
        // Chunks that are none.
        io::ErrorKind::InvalidInput => Error::Framing {
            url,
            status: None,
            reason: source.to_string(),
        },
        io::ErrorKind::UnexpectedEof => Error::Truncated {
            url,
            received_bytes,
            expected_bytes: match limits.framing {
                Framing::Length(length) => Some(length),
                _ => None,
            },
        },
        _ => Error::Disconnected {
            url,
            source: source.into(),
        },
    }
}
