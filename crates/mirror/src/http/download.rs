//! Crate files: `GET /api/v1/crates/{crate}/{version}/download`, and Meuse's `/api/v1/mirror/…`.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::RequestHead;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode, Version};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use download_cache::{CrateFile, KeptFile, Waiter};
use metadata_db::{Fetch, MAX_AGENT_CHARS};
use registry::{Checksum, CrateName, CrateVersion};

use super::body::PieceBytes;
use super::client_address::client_address;
use super::conditional::{Wanted, names_any, wanted};
use super::error::{Failure, refusal};
use super::{Shared, api, body};
use crate::appliance::Appliance;
use crate::clock::unix_now;
use crate::error::ServeError;
use crate::settings::TrustedProxies;

/// After this long without a first byte from upstream the client is told to come again: platforms give up at 30 s.
const FIRST_BYTE: Duration = Duration::from_secs(20);
/// The address is a name and a version, and versions can be removed: not for ever.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");
const GZIP_FILE: HeaderValue = HeaderValue::from_static("application/gzip");

pub fn routes(config: &mut ServiceConfig) {
    for path in [
        "/api/v1/crates/{crate}/{version}/download",
        "/api/v1/mirror/{crate}/{version}/download",
    ] {
        let download = web::resource(path)
            .route(web::get().to(any_names))
            .route(web::head().to(any_names))
            .default_service(web::to(api::other));
        config.service(download);
    }
}

async fn any_names(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    appliance: Shared,
) -> Result<HttpResponse, Failure> {
    match (path.0.parse(), path.1.parse()) {
        (Ok(name), Ok(version)) => download_crate(request.head(), &name, &version, &appliance).await,
        _ => Ok(refusal(StatusCode::NOT_FOUND, "this is no crate name with a version")),
    }
}

/// Answers a GET or HEAD for one crate file.
pub async fn download_crate(
    request: &RequestHead,
    name: &CrateName,
    version: &CrateVersion,
    appliance: &Appliance,
) -> Result<HttpResponse, Failure> {
    let failure = |error: ServeError| {
        if matches!(error, ServeError::NotKept { .. } | ServeError::Damaged { .. }) {
            appliance.wanted.note(name, Some(version));
        }
        Failure::json(format!("{name} {version}"), error)
    };
    let client = counted_client(request, &appliance.settings.trusted_proxies);
    let opened = appliance.open_crate_file_for(client, name, version).await;
    let opened = opened.map_err(failure)?;
    let hit = matches!(opened.file, CrateFile::Kept(_));
    let response = match opened.file {
        CrateFile::Kept(file) => {
            let piece = PieceBytes::new(request.version, appliance.connections.open());
            as_it_is(request, &opened.checksum, file, piece)
        }
        CrateFile::Filling(waiter) => as_it_arrives(request, &opened.checksum, waiter)
            .await
            .map_err(failure)?,
    };
    if request.method == Method::GET {
        appliance.statistics.served(opened.checksum, hit, unix_now());
        if response.status().is_success() {
            note_fetch(request, (name, version), &opened.checksum, hit, appliance);
        }
    }
    log::debug!(
        "{name} {version}: {} from {}",
        response.status(),
        if hit { "here" } else { "upstream" }
    );
    Ok(response)
}

/// Whom fills are counted for; a trusted proxy that names nobody speaks for many.
fn counted_client(request: &RequestHead, trusted: &TrustedProxies) -> Option<IpAddr> {
    let peer = request.peer_addr?.ip();
    let client = client_address(request, trusted)?;
    let speaks_for_many = client == peer.to_canonical() && trusted.trusts(peer);
    (!speaks_for_many).then(|| h2c_upgrade::client(client))
}

/// Into the log of fetches, if there is one.
fn note_fetch(
    request: &RequestHead,
    (name, version): (&CrateName, &CrateVersion),
    checksum: &Checksum,
    hit: bool,
    appliance: &Appliance,
) {
    let Some(book) = &appliance.fetches else {
        return;
    };
    let client = client_address(request, &appliance.settings.trusted_proxies);
    let agent = request.headers().get(header::USER_AGENT).map(HeaderValue::as_bytes);
    let agent = String::from_utf8_lossy(agent.unwrap_or_default());
    book.note(Fetch {
        unix: unix_now(),
        client: client.map_or_else(|| "unknown".to_owned(), |address| address.to_string()),
        agent: agent.chars().take(MAX_AGENT_CHARS).collect(),
        name: name.clone(),
        version: version.clone(),
        checksum: *checksum,
        hit,
    });
}

fn head(mut response: HttpResponseBuilder, tag: &str) -> HttpResponseBuilder {
    response
        .insert_header((header::ETAG, tag))
        .insert_header((header::CACHE_CONTROL, CACHE_CONTROL))
        .insert_header((header::ACCEPT_RANGES, BYTES))
        .insert_header((header::CONTENT_TYPE, GZIP_FILE));
    response
}

fn tag(checksum: &Checksum) -> String {
    ["\"", &checksum.to_hex(), "\""].concat()
}

fn as_it_is(request: &RequestHead, checksum: &Checksum, file: KeptFile, piece: PieceBytes) -> HttpResponse {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let tag = tag(checksum);
    if text(header::IF_NONE_MATCH).is_some_and(|tags| names_any(tags, &[&tag])) {
        return head(HttpResponse::NotModified(), &tag).finish();
    }
    // a range of another version of the file would be worthless
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|given| given == tag));
    let size = file.size_bytes;
    let (response, first, end) = match wanted(range, size) {
        Wanted::All => (HttpResponse::Ok(), 0, size),
        Wanted::Part { first, end } => {
            let mut response = HttpResponse::PartialContent();
            response.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", end - 1)));
            (response, first, end)
        }
        Wanted::Unsatisfiable => {
            return HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, format!("bytes */{size}")))
                .finish();
        }
    };
    head(response, &tag).body(body::kept(file, first, end, piece))
}

async fn as_it_arrives(
    request: &RequestHead,
    checksum: &Checksum,
    mut waiter: Waiter,
) -> Result<HttpResponse<BoxBody>, ServeError> {
    let size = match tokio::time::timeout(FIRST_BYTE, waiter.head()).await {
        Ok(size) => size?,
        Err(_) => return Err(ServeError::NotYet),
    };
    // HTTP/1.0 has no chunks, and without a length a cut would look like the end
    if size.is_none() && request.version < Version::HTTP_11 {
        return Err(ServeError::NotYet);
    }
    Ok(head(HttpResponse::Ok(), &tag(checksum)).body(body::arriving(waiter, size)))
}
