//! Style, script and icon of the pages, under names that change with their content.

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};

pub fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/assets/{name}")
            .route(web::get().to(asset))
            .route(web::head().to(asset)),
    );
}

async fn asset(name: web::Path<String>) -> HttpResponse {
    let path = format!("/assets/{name}");
    let Some(asset) = site::assets().iter().find(|asset| asset.path == path) else {
        return HttpResponse::NotFound().finish();
    };
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type(asset.content_type)
        .body(asset.bytes)
}
