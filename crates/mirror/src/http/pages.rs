//! Pages for people, and the cargo configuration to save.

use std::sync::Arc;

use actix_web::http::{StatusCode, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use registry::{CrateName, CrateVersion};

use super::base_url::{BaseUrl, base_url};
use super::body::PieceBytes;
use super::error::text_refusal;
use super::{Shared, body, views};
use crate::client_config::client_config;
use crate::commands::imports_text;
use crate::error::{ServeError, chain};
use crate::search::{SearchRequest, search};

pub fn routes(config: &mut ServiceConfig) {
    let page = |path: &str| web::resource(path.to_owned());
    config
        .service(page("/").route(web::get().to(home)).route(web::head().to(home)))
        .service(
            page("/search")
                .route(web::get().to(search_page))
                .route(web::head().to(search_page)),
        )
        .service(
            page("/status")
                .route(web::get().to(status))
                .route(web::head().to(status)),
        )
        .service(
            page("/wanted")
                .route(web::get().to(wanted))
                .route(web::head().to(wanted)),
        )
        .service(
            page("/wanted.txt")
                .route(web::get().to(wanted_txt))
                .route(web::head().to(wanted_txt)),
        )
        .service(
            page("/imports")
                .route(web::get().to(imports))
                .route(web::head().to(imports)),
        )
        .service(
            page("/imports.jsonl")
                .route(web::get().to(imports_jsonl))
                .route(web::head().to(imports_jsonl)),
        )
        .service(page("/help").route(web::get().to(help)).route(web::head().to(help)))
        .service(
            page("/config.toml")
                .route(web::get().to(config_toml))
                .route(web::head().to(config_toml)),
        )
        .service(
            page("/crates/{crate}")
                .route(web::get().to(newest))
                .route(web::head().to(newest)),
        )
        .service(
            page("/crates/{crate}/{version}")
                .route(web::get().to(version))
                .route(web::head().to(version)),
        );
}

fn base(request: &HttpRequest, appliance: &Shared) -> BaseUrl {
    let settings = &appliance.settings;
    base_url(request, settings.public_url.as_ref(), &settings.trusted_proxies).unwrap_or_else(|| BaseUrl {
        url: settings.local_url(),
        from_request: false,
    })
}

/// A page.
fn html(request: &HttpRequest, appliance: &Shared, status: StatusCode, page: String) -> HttpResponse {
    sent(request, appliance, status, "text/html; charset=utf-8", page)
}

/// A page or a file made for one client, if there is memory for one more; else the client is told to come again.
fn sent(
    request: &HttpRequest,
    appliance: &Shared,
    status: StatusCode,
    content_type: &'static str,
    page: String,
) -> HttpResponse {
    let share = u32::try_from(page.len() / 1024 + 1).unwrap_or(u32::MAX);
    let Ok(budget) = Arc::clone(&appliance.pages_kib).try_acquire_many_owned(share) else {
        log::warn!("a page was refused: too many are being sent to clients that do not read them");
        return HttpResponse::ServiceUnavailable()
            .insert_header((header::RETRY_AFTER, "5"))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .content_type("text/plain; charset=utf-8")
            .body("too many pages are being sent at once; come again in some seconds\n");
    };
    let piece = PieceBytes::new(request.version(), appliance.connections.open());
    HttpResponse::build(status)
        .insert_header((header::CONTENT_SECURITY_POLICY, site::CONTENT_SECURITY_POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type(content_type)
        .body(body::page(page.into(), budget, piece))
}

/// Makes a page on a thread where blocking is allowed, since it reads the database and renders text.
async fn rendered(
    request: &HttpRequest,
    appliance: &Shared,
    make: impl FnOnce(&Shared, site::Chrome) -> Result<(StatusCode, String), ServeError> + Send + 'static,
) -> HttpResponse {
    let chrome = views::chrome(appliance, &base(request, appliance).url);
    let own = appliance.clone();
    let made = tokio::task::spawn_blocking(move || make(&own, chrome)).await;
    match made {
        Ok(Ok((status, page))) => html(request, appliance, status, page),
        failed => {
            let why = failed.map_or_else(
                |panic| panic.to_string(),
                |error| error.err().map(|error| chain(&error)).unwrap_or_default(),
            );
            failed_page(request, appliance, &why)
        }
    }
}

fn failed_page(request: &HttpRequest, appliance: &Shared, why: &str) -> HttpResponse {
    log::error!("failed to make the page {}: {why}", request.path().escape_debug());
    let chrome = views::chrome(appliance, &base(request, appliance).url);
    let what = "The page could not be made. The mirror's log says why.";
    let page = site::failed(&chrome, 500, what);
    html(request, appliance, StatusCode::INTERNAL_SERVER_ERROR, page)
}

async fn home(request: HttpRequest, appliance: Shared) -> HttpResponse {
    rendered(&request, &appliance, |appliance, chrome| {
        Ok((StatusCode::OK, views::home(appliance, chrome)?))
    })
    .await
}

async fn status(request: HttpRequest, appliance: Shared) -> HttpResponse {
    rendered(&request, &appliance, |appliance, chrome| {
        Ok((StatusCode::OK, views::status(appliance, chrome)?))
    })
    .await
}

async fn help(request: HttpRequest, appliance: Shared) -> HttpResponse {
    rendered(&request, &appliance, |appliance, chrome| {
        Ok((StatusCode::OK, views::help(appliance, chrome)))
    })
    .await
}

async fn wanted(request: HttpRequest, appliance: Shared) -> HttpResponse {
    match crate::wanted::listed(&appliance.clone().into_inner()).await {
        Ok(wanted) => {
            rendered(&request, &appliance, move |_, chrome| {
                Ok((StatusCode::OK, views::wanted(chrome, &wanted)))
            })
            .await
        }
        Err(error) => failed_page(&request, &appliance, &chain(&*error)),
    }
}

async fn wanted_txt(request: HttpRequest, appliance: Shared) -> HttpResponse {
    match crate::wanted::listed(&appliance.clone().into_inner()).await {
        Ok(wanted) => {
            let text = crate::wanted::list_text(&wanted);
            sent(&request, &appliance, StatusCode::OK, "text/plain; charset=utf-8", text)
        }
        Err(error) => failed_page(&request, &appliance, &chain(&*error)),
    }
}

async fn imports(request: HttpRequest, appliance: Shared) -> HttpResponse {
    rendered(&request, &appliance, |appliance, chrome| {
        Ok((StatusCode::OK, views::imports(appliance, chrome)?))
    })
    .await
}

async fn imports_jsonl(request: HttpRequest, appliance: Shared) -> HttpResponse {
    let own = appliance.clone();
    let made = tokio::task::spawn_blocking(move || imports_text(&own.decisions, true)).await;
    match made {
        Ok(Ok(lines)) => sent(
            &request,
            &appliance,
            StatusCode::OK,
            "application/jsonl; charset=utf-8",
            lines,
        ),
        Ok(Err(error)) => failed_page(&request, &appliance, &chain(&error)),
        Err(panic) => failed_page(&request, &appliance, &panic.to_string()),
    }
}

async fn config_toml(request: HttpRequest, appliance: Shared) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type("application/toml; charset=utf-8")
        .body(client_config(&base(&request, &appliance).url))
}

async fn search_page(request: HttpRequest, appliance: Shared) -> HttpResponse {
    let wanted = SearchRequest::from_query(request.query_string());
    let found = search(appliance.clone().into_inner(), wanted.clone()).await;
    rendered(&request, &appliance, move |_, chrome| {
        Ok((StatusCode::OK, views::search(chrome, wanted, found?)))
    })
    .await
}

async fn newest(request: HttpRequest, name: web::Path<String>, appliance: Shared) -> HttpResponse {
    crate_page(&request, &appliance, name.into_inner(), None).await
}

async fn version(request: HttpRequest, path: web::Path<(String, String)>, appliance: Shared) -> HttpResponse {
    let (name, version) = path.into_inner();
    crate_page(&request, &appliance, name, Some(version)).await
}

async fn crate_page(request: &HttpRequest, appliance: &Shared, name: String, version: Option<String>) -> HttpResponse {
    rendered(request, appliance, move |appliance, chrome| {
        let parsed = name.parse::<CrateName>().ok();
        let version = version.map(|version| version.parse::<CrateVersion>());
        let page = match (parsed, version) {
            (Some(name), None) => views::krate(appliance, chrome.clone(), &name, None)?,
            (Some(name), Some(Ok(version))) => views::krate(appliance, chrome.clone(), &name, Some(&version))?,
            _ => None,
        };
        let what = "No file of this crate is kept here. It is fetched when a build first needs it.";
        Ok(page.map_or_else(
            || (StatusCode::NOT_FOUND, site::not_found(&chrome, what)),
            |page| (StatusCode::OK, page),
        ))
    })
    .await
}

/// Everything else: a page for browsers, a line for programs.
pub async fn no_such_page(request: HttpRequest, appliance: Shared) -> HttpResponse {
    let wants_html = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if request.method().is_safe() && wants_html {
        let chrome = views::chrome(&appliance, &base(&request, &appliance).url);
        return html(
            &request,
            &appliance,
            StatusCode::NOT_FOUND,
            site::not_found(&chrome, "There is no such page on this mirror."),
        );
    }
    let line = if request.path().split('/').any(|part| part == "git") {
        "there is nothing at this address; this mirror's index over git is at /git/index, the sparse one below /index/"
    } else {
        "this is a mirror of crates.io; there is nothing at this address"
    };
    text_refusal(StatusCode::NOT_FOUND, line)
}
