//! The sparse index: `GET /index/config.json` and `GET /index/<path>`.

use actix_web::dev::RequestHead;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use index_sync::{Ask, IndexEntry};
use registry::{IndexPath, mirror_config};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::base_url::base_url;
use super::body::PieceBytes;
use super::conditional::{names_any, takes_gzip};
use super::error::{Failure, text_refusal};
use super::{Shared, body};
use crate::appliance::Appliance;
use crate::error::ServeError;

/// Smaller files are not worth compressing.
const GZIP_FROM_BYTES: usize = 512;
/// Up to here compressing takes less time than finding another thread for it.
const COMPRESS_HERE_BYTES: usize = 32 << 10;
/// What a cache in between may do with an index file: a short time, since it changes.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=30");
const VARY: HeaderValue = HeaderValue::from_static("Accept-Encoding");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/index/config.json")
                .route(web::get().to(config_json))
                .route(web::head().to(config_json)),
        )
        .service(
            web::resource("/index/{path:.*}")
                .route(web::get().to(any_path))
                .route(web::head().to(any_path)),
        );
}

async fn config_json(request: HttpRequest, appliance: Shared) -> Result<HttpResponse, Failure> {
    let settings = &appliance.settings;
    let base = base_url(&request, settings.public_url.as_ref(), &settings.trusted_proxies)
        .ok_or_else(|| Failure::text("config.json", ServeError::BadRequest("the request names no valid Host")))?;
    let cache = if base.from_request { NO_STORE } else { CACHE_CONTROL };
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, cache))
        .content_type("application/json")
        .body(mirror_config(&base.url)))
}

async fn any_path(request: HttpRequest, path: web::Path<String>, appliance: Shared) -> Result<HttpResponse, Failure> {
    match path.parse() {
        Ok(path) => index_file(request.head(), &path, &appliance).await,
        Err(_) => Ok(text_refusal(StatusCode::NOT_FOUND, "not an index path")),
    }
}

/// Answers a GET or HEAD for one index file.
pub async fn index_file(
    request: &RequestHead,
    path: &IndexPath,
    appliance: &Appliance,
) -> Result<HttpResponse, Failure> {
    let asked = || format!("the index file of {}", path.file_name());
    let entry = appliance
        .index
        .file(path, Ask::IfOld)
        .await
        .map_err(|error| Failure::text(asked(), error))?;
    let Some(entry) = entry else {
        let name = path.crate_name();
        let error = if appliance.is_offline() {
            appliance.wanted.note(&name, None);
            let what = format!("the index file of {name}");
            ServeError::NotKept { what }
        } else {
            ServeError::NoSuchCrate { name }
        };
        return Err(Failure::text(asked(), error));
    };
    appliance.statistics.index_answers.fetch_add(1, Relaxed);
    answer(request, appliance, entry)
        .await
        .map_err(|error| Failure::text(asked(), error))
}

async fn answer(
    request: &RequestHead,
    appliance: &Appliance,
    entry: Arc<IndexEntry>,
) -> Result<HttpResponse, ServeError> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (plain, gzip) = (entry.etag(), entry.gzip_etag());
    let unchanged = text(header::IF_NONE_MATCH).is_some_and(|tags| names_any(tags, &[plain, gzip]));
    let compress = entry.bytes.len() >= GZIP_FROM_BYTES && text(header::ACCEPT_ENCODING).is_some_and(takes_gzip);
    let mut response = if unchanged {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, if compress { gzip } else { plain }))
        .insert_header((header::CACHE_CONTROL, CACHE_CONTROL))
        .insert_header((header::VARY, VARY));
    if unchanged {
        appliance.statistics.index_not_modified.fetch_add(1, Relaxed);
        return Ok(response.finish());
    }
    response.insert_header((header::CONTENT_TYPE, TEXT));
    let piece = PieceBytes::new(request.version, appliance.connections.open());
    if !compress {
        return Ok(response.body(body::shared(entry.bytes.clone(), piece)));
    }
    let bytes = compressed(entry).await?;
    Ok(response
        .insert_header((header::CONTENT_ENCODING, GZIP))
        .body(body::shared(bytes, piece)))
}

/// A large file is compressed where that stops nobody else; once, since the entry remembers it.
async fn compressed(entry: Arc<IndexEntry>) -> Result<Bytes, ServeError> {
    if let Some(ready) = entry.ready_gzip() {
        return Ok(ready);
    }
    if entry.bytes.len() <= COMPRESS_HERE_BYTES {
        return Ok(entry.gzip());
    }
    tokio::task::spawn_blocking(move || entry.gzip())
        .await
        .map_err(|_| ServeError::Abandoned)
}
