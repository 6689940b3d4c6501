//! Style, script and icon of the pages, under names that change with their content.

use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

pub fn routes(config: &mut ServiceConfig) {
    config.service(
        web::resource("/assets/{name}")
            .route(web::get().to(asset))
            .route(web::head().to(asset)),
    );
}

async fn asset(request: HttpRequest, name: web::Path<String>) -> HttpResponse {
    let path = format!("/assets/{name}");
    let Some(asset) = site::assets().iter().find(|asset| asset.path == path) else {
        return HttpResponse::NotFound().finish();
    };
    let unchanged = request.headers().contains_key(header::IF_NONE_MATCH);
    let mut response = if unchanged {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::CACHE_CONTROL, "public, max-age=31536000, immutable"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type(asset.content_type);
    if unchanged {
        response.finish()
    } else {
        response.body(asset.bytes)
    }
}
