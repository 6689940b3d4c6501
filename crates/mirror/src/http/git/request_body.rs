//! A git client's request, whole: gzip undone, bounded for one client and for all of them.

use std::io::Read;
use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More than this is not taken before gzip was undone; git's own requests stay far below.
const MAX_PACKED_BYTES: usize = 1 << 20;
/// What a request may have without being counted; almost all have less.
const FREE_BYTES: usize = 16 << 10;

/// A request's bytes; what they take of the memory for all requests is given back with them.
#[derive(Debug)]
pub struct RequestBody {
    /// After gzip was undone.
    pub bytes: Bytes,
    #[expect(dead_code, reason = "it is held, not read")]
    held: Option<OwnedSemaphorePermit>,
}

/// Why a request's body was not taken: a status and a sentence.
pub type Refused = (StatusCode, &'static str);

const TOO_LARGE: Refused = (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n");
const TOO_MANY: Refused = (
    StatusCode::SERVICE_UNAVAILABLE,
    "too many large requests at once, come again\n",
);

/// Reads all of a request that has at most `limit` bytes after gzip was undone. What it needs in memory beyond a little is
/// taken from `budget_kib`.
pub async fn whole(
    request: &HttpRequest,
    mut payload: web::Payload,
    limit: u64,
    budget_kib: &Arc<Semaphore>,
) -> Result<RequestBody, Refused> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let coding = request.headers().get(header::CONTENT_ENCODING);
    let (is_packed, most) = match coding.map(|value| value.as_bytes()) {
        None | Some(b"identity") => (false, limit),
        Some(b"gzip" | b"x-gzip") => (true, MAX_PACKED_BYTES),
        Some(_) => return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "only gzip is undone\n")),
    };
    let mut share = Share::of(budget_kib);
    let mut sent = BytesMut::new();
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|_| (StatusCode::BAD_REQUEST, "the request was cut off\n"))?;
        if sent.len() + piece.len() > most {
            return Err(TOO_LARGE);
        }
        share.grow_to(sent.len() + piece.len())?;
        sent.extend_from_slice(&piece);
    }
    if !is_packed {
        return Ok(share.with(sent.freeze()));
    }
    let mut bytes = Vec::new();
    let read = GzDecoder::new(&sent[..]).take(limit as u64 + 1).read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() > limit => Err(TOO_LARGE),
        Ok(_) => {
            share.grow_to(bytes.len())?;
            Ok(share.with(bytes.into()))
        }
        Err(_) => Err((StatusCode::BAD_REQUEST, "the request is not the gzip that it says\n")),
    }
}

/// What one request has taken of the memory for all.
struct Share<'a> {
    budget_kib: &'a Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl<'a> Share<'a> {
    fn of(budget_kib: &'a Arc<Semaphore>) -> Self {
        Self { budget_kib, held: None }
    }

    /// Waiting here, with a part in hand, could wait for each other: who finds nothing left is sent away.
    fn grow_to(&mut self, bytes: usize) -> Result<(), Refused> {
        let wanted = bytes.saturating_sub(FREE_BYTES).div_ceil(1 << 10);
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let got = Arc::clone(self.budget_kib).try_acquire_many_owned(more);
        let got = got.map_err(|_| TOO_MANY)?;
        match &mut self.held {
            Some(held) => held.merge(got),
            none => *none = Some(got),
        }
        Ok(())
    }

    fn with(self, bytes: Bytes) -> RequestBody {
        RequestBody { bytes, held: self.held }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_what_memory_there_is_and_give_it_back() {
        let budget = Arc::new(Semaphore::new(100));
        let mut one = Share::of(&budget);
        one.grow_to(FREE_BYTES).unwrap();
        assert_eq!(budget.available_permits(), 100, "small requests are not counted");
        one.grow_to(FREE_BYTES + 1).unwrap();
        one.grow_to(FREE_BYTES + (60 << 10)).unwrap();
        assert_eq!(budget.available_permits(), 40);
        let mut other = Share::of(&budget);
        assert_eq!(other.grow_to(FREE_BYTES + (41 << 10)), Err(TOO_MANY));
        let body = one.with(Bytes::from_static(b"x"));
        assert!(other.grow_to(FREE_BYTES + (41 << 10)).is_err());
        drop(body);
        other.grow_to(FREE_BYTES + (41 << 10)).unwrap();
    }
}
