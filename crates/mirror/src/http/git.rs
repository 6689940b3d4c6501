//! The index over git: `/git/index/info/refs` and `/git/index/git-upload-pack`, read-only.

mod packs;
mod request_body;

use std::sync::atomic::Ordering::Relaxed;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::{Bytes, BytesMut};
use git_smart_http::pkt_line;
use git_smart_http::{Protocol, Request};

use super::Shared;
use crate::git_index::Refusal;

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const REQUEST: &str = "application/x-git-upload-pack-request";
const RESULT: &str = "application/x-git-upload-pack-result";
const SMART_ONLY: &str = "this is a read-only git index for cargo, by git's smart protocol: \
                          fetch it with git-upload-pack (no dumb HTTP)\n";
const READ_ONLY: &str = "this is a read-only mirror of a crate index: nothing can be pushed to it\n";

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
    let limit = appliance.settings.git.max_request_bytes;
    let body = match request_body::whole(&request, payload, limit, &appliance.git_requests_kib).await {
        Ok(body) => body,
        Err((status, why)) => return plain(status, why),
    };
    let (host, protocol) = (host(&request).map(str::to_owned), protocol(&request));
    match git_smart_http::parse(protocol, &body.bytes, &appliance.git_limits()) {
        Err(error) => {
            log::info!("a git client's request was refused: {error}");
            uncached(StatusCode::OK, RESULT).body(error.pkt_line())
        }
        Ok(Request::Probe) => uncached(StatusCode::OK, RESULT).body(Bytes::new()),
        Ok(Request::Fetch(fetch)) if packs::can_hear(&fetch) && appliance.git_client(host.as_deref()).is_ok() => {
            packs::aloud(appliance, body, fetch)
        }
        Ok(_) => match appliance.git_view(host.as_deref()).await {
            Ok(serving) => packs::answered(&appliance, &serving, protocol, &body).await,
            Err(refusal) => refused(&appliance, &refusal, RESULT, BytesMut::new()),
        },
    }
}

fn plain(status: StatusCode, why: &'static str) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, "5"));
    }
    response.content_type("text/plain; charset=utf-8").body(why)
}
