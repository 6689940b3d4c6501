//! What builds ask for all day, index files and crate files in their plain spelling, goes to its handler without the app's
//! table of routes. Whatever is odd about a request, it goes the long way, and ends at the same handlers.

use std::sync::Arc;

use actix_http::{Request, Response};
use actix_service::{Service, ServiceFactory, apply_fn_factory};
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, header};
use actix_web::{HttpResponse, ResponseError};
use futures_util::future::Either;
use registry::{CrateName, CrateVersion, IndexPath};

use super::error::Failure;
use super::{download, sparse};
use crate::appliance::Appliance;
use crate::settings::Mode;

/// In every answer: whether upstream is asked.
const MODE: header::HeaderName = header::HeaderName::from_static("mirror-mode");

/// What may stand in front of the app.
#[derive(Debug, PartialEq, Eq)]
enum Plain {
    IndexFile(IndexPath),
    CrateFile(CrateName, CrateVersion),
}

/// Puts the short way in front of `app`, and the mode into every answer.
pub fn in_front<A>(
    app: A,
    appliance: &Arc<Appliance>,
) -> impl ServiceFactory<
    Request,
    Config = A::Config,
    Response = Response<BoxBody>,
    Error = HttpResponse,
    InitError = A::InitError,
    Service = impl Service<Request, Response = Response<BoxBody>, Error = HttpResponse, Future: 'static> + use<A>,
    Future: 'static,
> + use<A>
where
    A: ServiceFactory<Request, Response = ServiceResponse<BoxBody>, Error = HttpResponse>,
    A: 'static,
    A::Future: 'static,
    A::Service: 'static,
    <A::Service as Service<Request>>::Future: 'static,
{
    let below = super::path_of_public_url(appliance);
    let appliance = Arc::clone(appliance);
    apply_fn_factory(app, move |request: Request, app: &A::Service| {
        let appliance = Arc::clone(&appliance);
        let served = match plain(request.method(), request.path(), &below) {
            Some(asked) => Either::Left(serve(request, asked, Arc::clone(&appliance))),
            None => Either::Right(app.call(request)),
        };
        async move {
            let mut response: Response<BoxBody> = match served {
                Either::Left(short) => short.await.unwrap_or_else(|failure| failure.error_response()).into(),
                Either::Right(long) => long.await.map_or_else(Into::into, Into::into),
            };
            response.headers_mut().insert(MODE, mode(appliance.mode()));
            Ok(response)
        }
    })
}

async fn serve(request: Request, asked: Plain, appliance: Arc<Appliance>) -> Result<HttpResponse, Failure> {
    match asked {
        Plain::IndexFile(path) => sparse::index_file(request.head(), &path, &appliance).await,
        Plain::CrateFile(name, version) => download::download_crate(request.head(), &name, &version, &appliance).await,
    }
}

fn mode(mode: Mode) -> header::HeaderValue {
    header::HeaderValue::from_static(mode.as_str())
}

/// What a request asks for, if there is nothing odd about it. `below` is the path of `public_url`, which a proxy may pass on or not.
fn plain(method: &Method, path: &str, below: &str) -> Option<Plain> {
    if *method != Method::GET && *method != Method::HEAD {
        return None;
    }
    let path = path.strip_prefix(below).unwrap_or(path);
    if let Some(path) = path.strip_prefix("/index/") {
        return Some(Plain::IndexFile(path.parse().ok()?));
    }
    let crates = path.strip_prefix("/api/v1/crates/");
    let crates = crates.or_else(|| path.strip_prefix("/api/v1/mirror/"))?;
    let (name, version) = crates.strip_suffix("/download")?.split_once('/')?;
    Some(Plain::CrateFile(name.parse().ok()?, version.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_spellings_are_known() {
        let index = |path: &str| Some(Plain::IndexFile(path.parse().unwrap()));
        let file = |name: &str, version: &str| Some(Plain::CrateFile(name.parse().unwrap(), version.parse().unwrap()));
        for (path, expected) in [
            ("/index/se/rd/serde", index("se/rd/serde")),
            ("/rust/index/1/a", index("1/a")),
            ("/api/v1/crates/serde/1.0.0/download", file("serde", "1.0.0")),
            ("/rust/api/v1/mirror/a/1.0.0+b/download", file("a", "1.0.0+b")),
        ] {
            assert_eq!(plain(&Method::GET, path, "/rust"), expected, "{path}");
            assert_eq!(plain(&Method::HEAD, path, "/rust"), expected, "{path}");
            assert_eq!(plain(&Method::POST, path, "/rust"), None, "{path}");
        }
    }

    #[test]
    fn everything_else_goes_the_long_way() {
        for path in [
            "",
            "/",
            "/index/config.json",
            "/index/se/rd/Serde",
            "/index/se/rd/serd%65",
            "/index//1/a",
            "/api/v1/crates/serde/1.0.0/download/",
            "/api/v1/crates/serde/1.0.0/x/download",
            "/api/v1/crates/serde%2f/1.0.0/download",
            "/api/v1/crates/serde/download",
            "/api/v1/crates/serde/1.0/download",
            "/rusty/index/1/a",
        ] {
            assert_eq!(plain(&Method::GET, path, "/rust"), None, "{path}");
        }
        assert!(plain(&Method::GET, "/index/1/a", "").is_some());
    }
}
