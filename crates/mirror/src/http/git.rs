//! The index over git: `/git/index/info/refs` and `/git/index/git-upload-pack`, read-only.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use actix_web::body::BodyStream;
use actix_web::http::{StatusCode, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;
use futures_util::{StreamExt, stream};
use git_smart_http::pkt_line::{self, Band};
use git_smart_http::{Answer, End, Fetch, Protocol, Request, SideBand};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Shared;
use crate::git_index::{Refusal, Serving};

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const REQUEST: &str = "application/x-git-upload-pack-request";
const RESULT: &str = "application/x-git-upload-pack-result";
/// More than this is not sent before gzip was undone; git's own requests stay far below.
const MAX_SENT_BYTES: usize = 1 << 20;
/// Pieces of a pack that are read ahead for one client; each has at most 64 KiB.
const PIECES_AHEAD: usize = 3;
/// Who waits hears of it so often: clients give up after 30 s of silence.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// How often it is looked whether the index is ready.
const LOOK: Duration = Duration::from_millis(100);
/// A client that hears of progress waits so long for the first whole index.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// A client that needs a pack waits so long for its turn.
const SLOT: Duration = Duration::from_secs(20);
const SMART_ONLY: &str = "this is a read-only git index for cargo, by git's smart protocol: \
                          fetch it with git-upload-pack (no dumb HTTP)\n";
const READ_ONLY: &str = "this is a read-only mirror of the crates.io index: nothing can be pushed to it\n";

pub fn routes(config: &mut ServiceConfig) {
    for root in ["/git/index", "/git/index.git"] {
        let path = |name: &str| format!("{root}/{name}");
        config
            .service(web::resource(path("info/refs")).route(web::get().to(advertise_refs)))
            .service(web::resource(path("git-upload-pack")).route(web::post().to(upload_pack)))
            .service(web::resource(path("git-receive-pack")).to(no_push));
    }
    config.service(web::resource("/git/{rest:.*}").to(not_here));
}

async fn no_push() -> HttpResponse {
    HttpResponse::Forbidden()
        .content_type("text/plain; charset=utf-8")
        .body(READ_ONLY)
}

async fn not_here() -> HttpResponse {
    HttpResponse::NotFound()
        .content_type("text/plain; charset=utf-8")
        .body(SMART_ONLY)
}

fn uncached(status: StatusCode, content_type: &str) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::CACHE_CONTROL, "no-cache, max-age=0, must-revalidate"))
        .insert_header((header::PRAGMA, "no-cache"))
        .insert_header((header::EXPIRES, "Fri, 01 Jan 1980 00:00:00 GMT"))
        .content_type(content_type.to_owned());
    response
}

fn protocol(request: &HttpRequest) -> Protocol {
    Protocol::from_header(
        request
            .headers()
            .get("git-protocol")
            .and_then(|value| value.to_str().ok()),
    )
}

fn host(request: &HttpRequest) -> Option<&str> {
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    in_uri.or_else(|| request.headers().get(header::HOST)?.to_str().ok())
}

async fn advertise_refs(request: HttpRequest, appliance: Shared) -> HttpResponse {
    match service(request.query_string()).as_deref() {
        Some("git-upload-pack") => {}
        Some("git-receive-pack") => return no_push().await,
        _ => {
            return HttpResponse::Forbidden()
                .content_type("text/plain; charset=utf-8")
                .body(SMART_ONLY);
        }
    }
    let protocol = protocol(&request);
    let agent = concat!("mirror/", env!("CARGO_PKG_VERSION"));
    // a client of version 2 asks for refs by itself, and waits there
    let head = match protocol {
        Protocol::V2 => appliance.git_client(host(&request)).map(|()| None),
        Protocol::V0 | Protocol::V1 => appliance.git_view(host(&request)).await.map(|serving| serving.head()),
    };
    match head {
        Ok(head) => uncached(StatusCode::OK, ADVERTISEMENT).body(git_smart_http::advertise(protocol, head, agent)),
        Err(refusal) => {
            let mut body = BytesMut::new();
            pkt_line::data(&mut body, b"# service=git-upload-pack\n");
            pkt_line::flush(&mut body);
            refused(&appliance, &refusal, ADVERTISEMENT, body)
        }
    }
}

fn service(query: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "service")
        .map(|(_, value)| value.into_owned())
}

/// After a 200, as git says it: its clients show an `ERR` line to their user, and only the number of a status.
fn refused(appliance: &Shared, refusal: &Refusal, content_type: &str, mut body: BytesMut) -> HttpResponse {
    appliance.statistics.git_refused.fetch_add(1, Relaxed);
    log::info!("a git client was refused: {refusal}");
    body.extend_from_slice(&pkt_line::error(&refusal.to_string()));
    uncached(StatusCode::OK, content_type).body(body.freeze())
}

async fn upload_pack(request: HttpRequest, payload: web::Payload, appliance: Shared) -> HttpResponse {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_none_or(|value| value.as_bytes() != REQUEST.as_bytes()) {
        return plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this wants a git-upload-pack request\n",
        );
    }
    let body = match whole_body(&request, payload, appliance.settings.git.max_request_bytes).await {
        Ok(body) => body,
        Err((status, why)) => return plain(status, why),
    };
    let (host, protocol) = (host(&request).map(str::to_owned), protocol(&request));
    match git_smart_http::parse(protocol, &body, &appliance.git_limits()) {
        Err(error) => {
            log::info!("a git client's request was refused: {error}");
            uncached(StatusCode::OK, RESULT).body(error.pkt_line())
        }
        Ok(Request::Probe) => uncached(StatusCode::OK, RESULT).body(Bytes::new()),
        Ok(Request::Fetch(fetch)) if can_hear(&fetch) && appliance.git_client(host.as_deref()).is_ok() => {
            let Ok(slot) = Arc::clone(&appliance.git_clones).try_acquire_owned() else {
                return refused(&appliance, &Refusal::Busy, RESULT, BytesMut::new());
            };
            streamed(aloud(appliance, body, fetch, slot))
        }
        Ok(_) => match appliance.git_view(host.as_deref()).await {
            Ok(serving) => answered(&appliance, &serving, protocol, &body).await,
            Err(refusal) => refused(&appliance, &refusal, RESULT, BytesMut::new()),
        },
    }
}

/// A clone: what is said before its pack is known at once, so that it can be told of progress while it waits.
fn can_hear(fetch: &Fetch) -> bool {
    let new = fetch.haves.is_empty() && fetch.shallows.is_empty() && fetch.depth.is_none();
    new && fetch.end == End::Done && fetch.caps.side_band != SideBand::None && !fetch.wants.is_empty()
}

/// The answer for a client that waited in silence, if at all.
async fn answered(appliance: &Shared, serving: &Serving, protocol: Protocol, body: &[u8]) -> HttpResponse {
    let answer = match git_smart_http::respond(&serving.view, protocol, body, &appliance.git_limits()) {
        Ok(answer) => answer,
        Err(error) => return uncached(StatusCode::OK, RESULT).body(error.pkt_line()),
    };
    if answer.plan.is_none() {
        return uncached(StatusCode::OK, RESULT).body(answer.head);
    }
    let Ok(Ok(slot)) = tokio::time::timeout(SLOT, Arc::clone(&appliance.git_clones).acquire_owned()).await else {
        return refused(appliance, &Refusal::Busy, RESULT, BytesMut::new());
    };
    appliance.statistics.git_packs.fetch_add(1, Relaxed);
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || send_pieces(answer, None, &pieces, slot));
    streamed(receiver)
}

/// Says `NAK` or opens the pack's section, then tells the client what it waits for until the pack can follow.
fn aloud(
    appliance: Shared,
    body: Bytes,
    fetch: Fetch,
    slot: OwnedSemaphorePermit,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    tokio::spawn(async move {
        let said = before_pack(fetch.protocol);
        let limit = Instant::now() + LONGEST_WAIT;
        let mut told = Instant::now();
        let mut first = Some(said.clone());
        let serving = loop {
            let refusal = match appliance.git_view_now() {
                Ok(serving) => break serving,
                Err(refusal) => refusal,
            };
            let waits = matches!(refusal, Refusal::NotYet { .. }) && Instant::now() < limit && !appliance.stopping();
            let line = match waits {
                true if first.is_none() && told.elapsed() < KEEP_ALIVE => Bytes::new(),
                true => pkt_line::band_text(Band::Progress, &format!("{refusal}\n")),
                false => pkt_line::band_text(Band::Error, &format!("{refusal}\n")),
            };
            for piece in first.take().into_iter().chain([line]).filter(|piece| !piece.is_empty()) {
                told = Instant::now();
                if pieces.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
            if !waits {
                log::info!("a git client was refused: {refusal}");
                appliance.statistics.git_refused.fetch_add(1, Relaxed);
                return;
            }
            tokio::time::sleep(LOOK).await;
        };
        let respond = move || {
            let said = first.is_none().then_some(said);
            match git_smart_http::respond(&serving.view, fetch.protocol, &body, &appliance.git_limits()) {
                Ok(answer) => {
                    appliance.statistics.git_packs.fetch_add(1, Relaxed);
                    send_pieces(answer, said, &pieces, slot);
                }
                Err(error) => drop(pieces.blocking_send(Ok(error.pkt_line()))),
            }
        };
        tokio::task::spawn_blocking(respond);
    });
    receiver
}

/// What a clone hears before its pack.
fn before_pack(protocol: Protocol) -> Bytes {
    let mut said = BytesMut::new();
    let line: &[u8] = if protocol == Protocol::V2 {
        b"packfile\n"
    } else {
        b"NAK\n"
    };
    pkt_line::data(&mut said, line);
    said.freeze()
}

/// Reads on as far as the client takes it; one that has gone ends it. What was `said` already is not said again.
fn send_pieces(
    mut answer: Answer,
    said: Option<Bytes>,
    pieces: &mpsc::Sender<io::Result<Bytes>>,
    slot: OwnedSemaphorePermit,
) {
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
    for piece in answer.pieces() {
        if let Err(error) = &piece {
            log::error!("a git client's pack was cut off: {error}");
        }
        if pieces.blocking_send(piece).is_err() {
            break;
        }
    }
    drop(slot);
}

fn streamed(receiver: mpsc::Receiver<io::Result<Bytes>>) -> HttpResponse {
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece, receiver))
    });
    uncached(StatusCode::OK, RESULT).body(BodyStream::new(Box::pin(pieces)))
}

/// The request's body with gzip undone, bounded before and after.
async fn whole_body(
    request: &HttpRequest,
    mut payload: web::Payload,
    limit: u64,
) -> Result<Bytes, (StatusCode, &'static str)> {
    const TOO_LARGE: (StatusCode, &str) = (StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n");
    let mut sent = BytesMut::new();
    while let Some(piece) = payload.next().await {
        let piece = piece.map_err(|_| (StatusCode::BAD_REQUEST, "the request was cut off\n"))?;
        if sent.len() + piece.len() > MAX_SENT_BYTES.max(limit as usize) {
            return Err(TOO_LARGE);
        }
        sent.extend_from_slice(&piece);
    }
    match request
        .headers()
        .get(header::CONTENT_ENCODING)
        .map(|value| value.as_bytes())
    {
        None | Some(b"identity") => Ok(sent.freeze()),
        Some(b"gzip" | b"x-gzip") if sent.len() <= MAX_SENT_BYTES => {
            let mut body = Vec::new();
            let read = GzDecoder::new(&sent[..]).take(limit + 1).read_to_end(&mut body);
            match read {
                Ok(_) if body.len() as u64 > limit => Err(TOO_LARGE),
                Ok(_) => Ok(body.into()),
                Err(_) => Err((StatusCode::BAD_REQUEST, "the request is not the gzip that it says\n")),
            }
        }
        Some(b"gzip" | b"x-gzip") => Err(TOO_LARGE),
        Some(_) => Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "only gzip is undone\n")),
    }
}

fn plain(status: StatusCode, why: &'static str) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(why)
}
