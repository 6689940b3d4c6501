//! The sparse index: `GET /index/config.json` and `GET /index/<path>`.

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use index_sync::{Ask, IndexEntry};
use registry::{IndexPath, mirror_config};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::base_url::base_url;
use super::conditional::{names_any, takes_gzip};
use super::error::{Failure, text_refusal};
use super::{Shared, body};
use crate::error::ServeError;

/// Smaller files are not worth compressing.
const GZIP_FROM_BYTES: usize = 512;
/// Up to here compressing takes less time than finding another thread for it.
const COMPRESS_HERE_BYTES: usize = 32 << 10;
/// What a cache in between may do with an index file: a short time, since it changes.
const CACHE_CONTROL: &str = "public, max-age=30";

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/index/config.json")
                .route(web::get().to(config_json))
                .route(web::head().to(config_json)),
        )
        .service(
            web::resource("/index/{path:.*}")
                .route(web::get().to(index_file))
                .route(web::head().to(index_file)),
        );
}

async fn config_json(request: HttpRequest, appliance: Shared) -> Result<HttpResponse, Failure> {
    let settings = &appliance.settings;
    let base = base_url(&request, settings.public_url.as_ref(), &settings.trusted_proxies)
        .ok_or_else(|| Failure::text("config.json", ServeError::BadRequest("the request names no valid Host")))?;
    let cache = if base.from_request { "no-store" } else { CACHE_CONTROL };
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, cache))
        .content_type("application/json")
        .body(mirror_config(&base.url)))
}

async fn index_file(request: HttpRequest, path: web::Path<String>, appliance: Shared) -> Result<HttpResponse, Failure> {
    let Ok(path) = path.parse::<IndexPath>() else {
        return Ok(text_refusal(StatusCode::NOT_FOUND, "not an index path"));
    };
    let asked = || format!("the index file of {}", path.file_name());
    let entry = appliance
        .index
        .file(&path, Ask::IfOld)
        .await
        .map_err(|error| Failure::text(asked(), error))?;
    let Some(entry) = entry else {
        let name = path.crate_name();
        let error = if appliance.is_offline() {
            let what = format!("the index file of {name}");
            ServeError::NotKept { what }
        } else {
            ServeError::NoSuchCrate { name }
        };
        return Err(Failure::text(asked(), error));
    };
    appliance.statistics.index_answers.fetch_add(1, Relaxed);
    answer(&request, &appliance, entry)
        .await
        .map_err(|error| Failure::text(asked(), error))
}

async fn answer(request: &HttpRequest, appliance: &Shared, entry: Arc<IndexEntry>) -> Result<HttpResponse, ServeError> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let id = entry.id.to_string();
    let (plain, gzip) = (format!("\"{id}\""), format!("\"{id}-gzip\""));
    let unchanged = text(header::IF_NONE_MATCH).is_some_and(|tags| names_any(tags, &[&plain, &gzip]));
    let compress = entry.bytes.len() >= GZIP_FROM_BYTES && text(header::ACCEPT_ENCODING).is_some_and(takes_gzip);
    let mut response = if unchanged {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, if compress { gzip } else { plain }))
        .insert_header((header::CACHE_CONTROL, CACHE_CONTROL))
        .insert_header((header::VARY, "Accept-Encoding"));
    if unchanged {
        appliance.statistics.index_not_modified.fetch_add(1, Relaxed);
        return Ok(response.finish());
    }
    response.content_type("text/plain; charset=utf-8");
    if !compress {
        return Ok(response.body(body::shared(entry.bytes.clone(), request.version())));
    }
    let bytes = compressed(entry).await?;
    Ok(response
        .insert_header((header::CONTENT_ENCODING, "gzip"))
        .body(body::shared(bytes, request.version())))
}

/// A large file is compressed where that stops nobody else; once, since the entry remembers it.
async fn compressed(entry: Arc<IndexEntry>) -> Result<Bytes, ServeError> {
    if entry.bytes.len() <= COMPRESS_HERE_BYTES {
        return Ok(entry.gzip());
    }
    tokio::task::spawn_blocking(move || entry.gzip())
        .await
        .map_err(|_| ServeError::Abandoned)
}
