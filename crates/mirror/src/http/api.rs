//! crates.io's web API, as far as a read-only mirror has one: search, and a plain refusal of every write.

use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::Shared;
use super::error::{Failure, refusal};
use crate::search::{SearchRequest, search};

/// What a publish, yank or owner change is told.
const READ_ONLY: &str = "this is a read-only mirror of crates.io: publish, yank and change owners at crates.io itself, \
                         with `--registry crates-io`";

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/api/v1/crates")
                .route(web::get().to(search_crates))
                .default_service(web::to(other)),
        )
        .service(web::resource("/api/{rest:.*}").to(other));
}

async fn search_crates(request: HttpRequest, appliance: Shared) -> Result<HttpResponse, Failure> {
    let wanted = SearchRequest::from_query(request.query_string());
    let found = search(appliance.into_inner(), wanted.clone())
        .await
        .map_err(|error| Failure::json("a search", error))?;
    let page = |number: Option<u32>| number.map(|number| format!("?{}", wanted.for_page(number)));
    let more = u64::from(found.page) * u64::from(found.per_page) < found.total;
    Ok(HttpResponse::Ok()
        .insert_header(("cache-control", "no-cache"))
        .json(json!({
            "crates": found.crates,
            "meta": {
                "total": found.total,
                "next_page": page(more.then(|| found.page + 1)),
                "prev_page": page((found.page > 1).then(|| found.page - 1)),
            }
        })))
}

/// What is not there to be read, or not to be written.
pub async fn other(request: HttpRequest) -> HttpResponse {
    if request.method().is_safe() {
        refusal(
            StatusCode::NOT_FOUND,
            "this mirror does not have this part of the crates.io API",
        )
    } else {
        refusal(StatusCode::FORBIDDEN, READ_ONLY)
    }
}
