//! Bodies: from disk or memory in pieces, or as they arrive. A client that does not read costs a piece of a file, and a
//! share of the pages' budget for a page.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use actix_web::http::Version;
use bytes::Bytes;
use download_cache::{KeptFile, Waiter};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;

/// At most so much of a file is in memory for one client, and leaves in one write.
const PIECE_BYTES: u64 = 64 << 10;
/// In HTTP/2 each stream has a piece, and a connection has hundreds of streams.
const HTTP2_PIECE_BYTES: u64 = 16 << 10;

fn piece_bytes(version: Version) -> u64 {
    if version == Version::HTTP_2 {
        HTTP2_PIECE_BYTES
    } else {
        PIECE_BYTES
    }
}

/// A part of a kept file.
pub fn kept(file: KeptFile, first: u64, end: u64, version: Version) -> io::Result<BoxBody> {
    let piece = piece_bytes(version);
    if end - first <= piece {
        // one piece leaves in one write with its head
        return Ok(BoxBody::new(file.read_at(first, (end - first) as usize)?));
    }
    Ok(BoxBody::new(Pieces {
        source: Source::File(file),
        position: first,
        end,
        piece,
    }))
}

/// Bytes that others hold as well, such as an index file: no copy of them is made for this client.
pub fn shared(bytes: Bytes, version: Version) -> BoxBody {
    in_memory(bytes, None, version)
}

/// Bytes that are there for this client alone; `budget` is held until they are sent.
pub fn page(bytes: Bytes, budget: OwnedSemaphorePermit, version: Version) -> BoxBody {
    in_memory(bytes, Some(budget), version)
}

fn in_memory(bytes: Bytes, budget: Option<OwnedSemaphorePermit>, version: Version) -> BoxBody {
    let piece = piece_bytes(version);
    if bytes.len() as u64 <= piece && budget.is_none() {
        return BoxBody::new(bytes);
    }
    BoxBody::new(Pieces {
        position: 0,
        end: bytes.len() as u64,
        source: Source::Memory(bytes, budget),
        piece,
    })
}

enum Source {
    File(KeptFile),
    Memory(
        Bytes,
        #[expect(dead_code, reason = "it is held, not read")] Option<OwnedSemaphorePermit>,
    ),
}

struct Pieces {
    source: Source,
    position: u64,
    end: u64,
    piece: u64,
}

impl MessageBody for Pieces {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.end - self.position)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let (position, len) = (self.position, (self.end - self.position).min(self.piece) as usize);
        if len == 0 {
            return Poll::Ready(None);
        }
        let piece = match &self.source {
            Source::File(file) => file.read_at(position, len)?,
            Source::Memory(bytes, _) => bytes.slice(position as usize..position as usize + len),
        };
        if piece.is_empty() {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        self.position += piece.len() as u64;
        Poll::Ready(Some(Ok(piece)))
    }
}

/// A file that is arriving, of a size that is known or not. An error in it cuts the connection, which clients notice and
/// try again.
pub fn arriving(waiter: Waiter, size_bytes: Option<u64>) -> BoxBody {
    let pieces = stream::unfold(waiter, |mut waiter| async move {
        let piece = waiter.next().await?.map_err(io::Error::other);
        Some((piece, waiter))
    });
    let pieces = Box::pin(pieces);
    match size_bytes {
        Some(size) => BoxBody::new(SizedStream::new(size, pieces)),
        None => BoxBody::new(BodyStream::new(pieces)),
    }
}
