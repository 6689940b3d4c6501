//! For machines that watch: `/healthz`, `/readyz`, `/metrics`.

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use serde_json::json;

use super::{Shared, metrics};

pub fn routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/healthz")
                .route(web::get().to(healthz))
                .route(web::head().to(healthz)),
        )
        .service(
            web::resource("/readyz")
                .route(web::get().to(readyz))
                .route(web::head().to(readyz)),
        )
        .service(web::resource("/metrics").route(web::get().to(open_metrics)));
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .content_type("text/plain")
        .body("alive\n")
}

async fn readyz(appliance: Shared) -> HttpResponse {
    let checking = tokio::task::spawn_blocking(move || appliance.trouble()).await;
    let trouble = checking.unwrap_or_else(|_| vec!["the check itself failed".to_owned()]);
    let mut response = if trouble.is_empty() {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response
        .insert_header(("cache-control", "no-store"))
        .json(json!({ "ready": trouble.is_empty(), "reasons": trouble }))
}

async fn open_metrics(appliance: Shared) -> HttpResponse {
    let shared = appliance.into_inner();
    match tokio::task::spawn_blocking(move || metrics::encode(shared)).await {
        Ok(Ok(text)) => HttpResponse::Ok()
            .insert_header(("cache-control", "no-store"))
            .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
            .body(text),
        _ => HttpResponse::InternalServerError().finish(),
    }
}
