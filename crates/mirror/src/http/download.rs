//! Crate files: `GET /api/v1/crates/{crate}/{version}/download`, and Meuse's `/api/v1/mirror/…`.

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::{StatusCode, Version, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use download_cache::{CrateFile, KeptFile, Waiter};
use registry::{Checksum, CrateName, CrateVersion};

use super::conditional::{Wanted, names_any, wanted};
use super::error::{Failure, refusal};
use super::{Shared, api, body};
use crate::clock::unix_now;
use crate::error::ServeError;

/// After this long without a first byte from upstream the client is told to come again: platforms give up at 30 s.
const FIRST_BYTE: Duration = Duration::from_secs(20);
/// The address is a name and a version, and versions can be removed: not for ever.
const CACHE_CONTROL: &str = "public, max-age=300";

pub fn routes(config: &mut ServiceConfig) {
    for path in [
        "/api/v1/crates/{crate}/{version}/download",
        "/api/v1/mirror/{crate}/{version}/download",
    ] {
        let download = web::resource(path)
            .route(web::get().to(download_crate))
            .route(web::head().to(download_crate))
            .default_service(web::to(api::other));
        config.service(download);
    }
}

async fn download_crate(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    appliance: Shared,
) -> Result<HttpResponse, Failure> {
    let (Ok(name), Ok(version)) = (path.0.parse::<CrateName>(), path.1.parse::<CrateVersion>()) else {
        return Ok(refusal(StatusCode::NOT_FOUND, "this is no crate name with a version"));
    };
    let asked = format!("{name} {version}");
    let opened = appliance
        .open_crate_file(&name, &version)
        .await
        .map_err(|error| Failure::json(&asked, error))?;
    let hit = matches!(opened.file, CrateFile::Kept(_));
    let answer = match opened.file {
        CrateFile::Kept(file) => from_disk(&request, &opened.checksum, file),
        CrateFile::Filling(waiter) => as_it_arrives(&request, &opened.checksum, waiter).await,
    };
    let response = answer.map_err(|error| Failure::json(&asked, error))?;
    if request.method() == actix_web::http::Method::GET {
        appliance.statistics.served(opened.checksum, hit, unix_now());
    }
    log::debug!(
        "{asked}: {} from {}",
        response.status(),
        if hit { "disk" } else { "upstream" }
    );
    Ok(response)
}

fn head(mut response: HttpResponseBuilder, checksum: &Checksum) -> HttpResponseBuilder {
    response
        .insert_header((header::ETAG, format!("\"{checksum}\"")))
        .insert_header((header::CACHE_CONTROL, CACHE_CONTROL))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .content_type("application/gzip");
    response
}

fn from_disk(request: &HttpRequest, checksum: &Checksum, file: KeptFile) -> Result<HttpResponse, ServeError> {
    let text = |name: header::HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let tag = format!("\"{checksum}\"");
    if text(header::IF_NONE_MATCH).is_some_and(|tags| names_any(tags, &[&tag])) {
        return Ok(head(HttpResponse::NotModified(), checksum).finish());
    }
    // a range of another version of the file would be worthless
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|given| given == tag));
    let size = file.size_bytes;
    let (mut response, first, end) = match wanted(range, size) {
        Wanted::All => (HttpResponse::Ok(), 0, size),
        Wanted::Part { first, end } => {
            let mut response = HttpResponse::PartialContent();
            response.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", end - 1)));
            (response, first, end)
        }
        Wanted::Unsatisfiable => {
            return Ok(HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, format!("bytes */{size}")))
                .finish());
        }
    };
    let unreadable = |source: std::io::Error| download_cache::Error::Disk {
        doing: "read",
        path: checksum.to_hex().into(),
        source: source.into(),
    };
    response = head(response, checksum);
    Ok(response.body(body::kept(file, first, end, request.version()).map_err(unreadable)?))
}

async fn as_it_arrives(
    request: &HttpRequest,
    checksum: &Checksum,
    mut waiter: Waiter,
) -> Result<HttpResponse<BoxBody>, ServeError> {
    let size = match tokio::time::timeout(FIRST_BYTE, waiter.head()).await {
        Ok(size) => size?,
        Err(_) => return Err(ServeError::NotYet),
    };
    // HTTP/1.0 has no chunks, and without a length a cut would look like the end
    if size.is_none() && request.version() < Version::HTTP_11 {
        return Err(ServeError::NotYet);
    }
    Ok(head(HttpResponse::Ok(), checksum).body(body::arriving(waiter, size)))
}
