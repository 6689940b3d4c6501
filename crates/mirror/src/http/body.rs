//! Bodies of crate files: from disk in pieces, or as they arrive.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody, SizedStream};
use bytes::Bytes;
use download_cache::{KeptFile, Waiter};
use futures_util::stream;

/// At most so much of a file is in memory for one client, and leaves in one write.
const PIECE_BYTES: u64 = 64 << 10;

/// A part of a kept file.
pub fn kept(file: KeptFile, first: u64, end: u64) -> io::Result<BoxBody> {
    if end - first <= PIECE_BYTES {
        // one piece leaves in one write with its head
        return Ok(BoxBody::new(file.read_at(first, (end - first) as usize)?));
    }
    Ok(BoxBody::new(Pieces {
        file,
        position: first,
        end,
    }))
}

struct Pieces {
    file: KeptFile,
    position: u64,
    end: u64,
}

impl MessageBody for Pieces {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.end - self.position)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let left = self.end - self.position;
        if left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.file.read_at(self.position, left.min(PIECE_BYTES) as usize)?;
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
