//! Bodies: from memory or disk in pieces, or as they arrive. A client that does not read costs a piece of a file, and a
//! share of the pages' budget for a page. What is not in the page cache is read where that stops nobody else.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use actix_web::http::Version;
use bytes::Bytes;
use download_cache::{KeptFile, Waiter};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

/// How much of a file is in memory for one client and leaves in one write: the more, the fewer turns for large files. With its
/// head it has to stay below 128 KiB, beyond which actix-http makes a new buffer for each write.
const PIECE_BYTES: u64 = 120 << 10;
/// With many connections their pieces become smaller, so that all of them together have this.
const PIECES_BYTES: u64 = 16 << 20;
const LEAST_PIECE_BYTES: u64 = 32 << 10;
/// In HTTP/2 each stream has a piece, and a connection has hundreds of streams.
const HTTP2_PIECE_BYTES: u64 = 16 << 10;

/// How an answer is cut into pieces: by its protocol, and by how many connections are open.
#[derive(Debug, Clone, Copy)]
pub struct PieceBytes(u64);

impl PieceBytes {
    /// For one answer, begun while so many connections are open.
    pub fn new(version: Version, connections: u64) -> Self {
        Self(if version == Version::HTTP_2 {
            HTTP2_PIECE_BYTES
        } else {
            (PIECES_BYTES / connections.max(1)).clamp(LEAST_PIECE_BYTES, PIECE_BYTES)
        })
    }
}

/// A part of a kept file.
pub fn kept(file: KeptFile, first: u64, end: u64, piece: PieceBytes) -> BoxBody {
    let source = match file.whole() {
        Some(bytes) => Source::Memory(bytes, None),
        None => Source::File(Arc::new(file), None),
    };
    pieces(source, first, end, piece)
}

/// Bytes that others hold as well, such as an index file: no copy of them is made for this client.
pub fn shared(bytes: Bytes, piece: PieceBytes) -> BoxBody {
    let end = bytes.len() as u64;
    pieces(Source::Memory(bytes, None), 0, end, piece)
}

/// Bytes that are there for this client alone; `budget` is held until they are sent.
pub fn page(bytes: Bytes, budget: OwnedSemaphorePermit, piece: PieceBytes) -> BoxBody {
    let end = bytes.len() as u64;
    pieces(Source::Memory(bytes, Some(budget)), 0, end, piece)
}

fn pieces(source: Source, position: u64, end: u64, PieceBytes(piece): PieceBytes) -> BoxBody {
    match source {
        Source::Memory(bytes, None) if end - position <= piece => {
            BoxBody::new(bytes.slice(position as usize..end as usize))
        }
        source => BoxBody::new(Pieces {
            source,
            position,
            end,
            piece,
        }),
    }
}

enum Source {
    /// With a piece that is being read from the disk.
    File(Arc<KeptFile>, Option<JoinHandle<io::Result<Bytes>>>),
    /// With its share of a budget, which is held as long.
    Memory(Bytes, Option<OwnedSemaphorePermit>),
}

struct Pieces {
    source: Source,
    position: u64,
    end: u64,
    piece: u64,
}

impl Source {
    fn poll_read(&mut self, cx: &mut Context<'_>, position: u64, len: usize) -> Poll<io::Result<Bytes>> {
        let (file, reading) = match self {
            Self::Memory(bytes, _) => {
                let position = position as usize;
                return Poll::Ready(Ok(bytes.slice(position..position + len)));
            }
            Self::File(file, reading) => (file, reading),
        };
        if reading.is_none() {
            if let Some(piece) = file.read_now(position, len)? {
                return Poll::Ready(Ok(piece));
            }
            let file = Arc::clone(file);
            *reading = Some(tokio::task::spawn_blocking(move || file.read_at(position, len)));
        }
        let Some(read) = reading else {
            return Poll::Pending;
        };
        let read = ready!(Pin::new(read).poll(cx));
        *reading = None;
        Poll::Ready(read.map_err(io::Error::other).flatten())
    }
}

impl MessageBody for Pieces {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.end - self.position)
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let (position, len) = (self.position, (self.end - self.position).min(self.piece) as usize);
        if len == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(self.source.poll_read(cx, position, len))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_large_for_few_and_small_for_many() {
        let piece = |connections| PieceBytes::new(Version::HTTP_11, connections).0;
        assert_eq!((piece(0), piece(32)), (PIECE_BYTES, PIECE_BYTES));
        assert_eq!((piece(256), piece(100_000)), (64 << 10, LEAST_PIECE_BYTES));
        assert_eq!(PieceBytes::new(Version::HTTP_2, 1).0, HTTP2_PIECE_BYTES);
    }
}
