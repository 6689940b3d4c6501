//! Statuses: the only place that gives them, by the table in `docs/PROTOCOLS.md`.

use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::error::{ServeError, chain};

/// What a client that gets a 503 is told to wait, in seconds. cargo waits at most 10.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Tells a mirror behind this one that what is not kept here may well exist.
const OFFLINE: (&str, &str) = ("mirror-offline", "1");

/// A failure on its way to a client: what was asked, why it failed, and in which form to say it.
#[derive(Debug)]
pub struct Failure {
    asked: String,
    error: ServeError,
    json: bool,
}

impl Failure {
    /// As one sentence of plain text, for the sparse index.
    pub fn text(asked: impl Into<String>, error: impl Into<ServeError>) -> Self {
        Self {
            asked: asked.into(),
            error: error.into(),
            json: false,
        }
        .logged()
    }

    /// As `{"errors":[{"detail":…}]}`, for everything below `/api`.
    pub fn json(asked: impl Into<String>, error: impl Into<ServeError>) -> Self {
        Self {
            asked: asked.into(),
            error: error.into(),
            json: true,
        }
        .logged()
    }

    /// What upstream did is an event that was logged where it happened, once for all who waited; only what nobody else says
    /// is said here.
    fn logged(self) -> Self {
        let (status, line) = (status(&self.error), chain(&self.error));
        match self.error {
            _ if status == StatusCode::INTERNAL_SERVER_ERROR => log::error!("failed to serve {}: {line}", self.asked),
            ServeError::NotYet | ServeError::DownloadAddress { .. } => {
                log::warn!("failed to serve {} ({status}): {line}", self.asked);
            }
            _ => log::debug!("refused {} ({status}): {line}", self.asked),
        }
        self
    }

    /// What the client is told. Nothing of the mirror's own machine is in it.
    fn sentence(&self) -> String {
        match status(&self.error) {
            StatusCode::INTERNAL_SERVER_ERROR => {
                format!(
                    "failed to serve {}: this mirror has an internal problem, its log says which",
                    self.asked
                )
            }
            status if status.is_server_error() => format!("failed to serve {}: {}", self.asked, chain(&self.error)),
            _ => chain(&self.error),
        }
    }
}

/// The status for an error, by the contract: 404 for what does not exist, 502 for upstream's faults, 503 for slowness and load.
fn status(error: &ServeError) -> StatusCode {
    match error {
        ServeError::NotListed { .. } | ServeError::NoSuchCrate { .. } | ServeError::NotKept { .. } => {
            StatusCode::NOT_FOUND
        }
        ServeError::BadRequest(_) => StatusCode::BAD_REQUEST,
        ServeError::NotYet | ServeError::Damaged { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ServeError::DownloadAddress { .. } => StatusCode::BAD_GATEWAY,
        ServeError::Index(index_sync::Error::Unavailable { .. } | index_sync::Error::Stopped) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ServeError::CrateFile(error) if error.is_temporary() => StatusCode::SERVICE_UNAVAILABLE,
        ServeError::CrateFile(error) if !error.is_local() => StatusCode::BAD_GATEWAY,
        ServeError::CrateFile(_) | ServeError::Index(_) | ServeError::Metadata(_) | ServeError::Abandoned => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn retry_after(error: &ServeError) -> u64 {
    let asked = match error {
        ServeError::CrateFile(error) => error.retry_after().map(|wait| wait.as_secs()),
        _ => None,
    };
    asked.unwrap_or(RETRY_AFTER_SECONDS).clamp(1, 60)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        status(&self.error)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, retry_after(&self.error)));
        }
        if matches!(self.error, ServeError::NotKept { .. }) {
            response.insert_header(OFFLINE);
        }
        if self.json {
            json_error(&mut response, &self.sentence())
        } else {
            response
                .content_type("text/plain; charset=utf-8")
                .body(format!("{}\n", self.sentence()))
        }
    }
}

/// A refusal that needs no cause: one sentence, in crates.io's shape, which cargo shows to its user.
pub fn refusal(status: StatusCode, detail: &str) -> HttpResponse {
    json_error(
        HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")),
        detail,
    )
}

/// The same as plain text.
pub fn text_refusal(status: StatusCode, line: &str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("text/plain; charset=utf-8")
        .body(format!("{line}\n"))
}

fn json_error(response: &mut actix_web::HttpResponseBuilder, detail: &str) -> HttpResponse {
    response.json(json!({ "errors": [{ "detail": detail }] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_the_statuses_of_the_contract() {
        let (name, version) = ("a".parse().unwrap(), "1.0.0".parse().unwrap());
        let url = "http://127.0.0.1/x".to_owned();
        let io = |kind: std::io::ErrorKind| std::sync::Arc::new(std::io::Error::from(kind));
        let cases = [
            (ServeError::NotListed { name, version }, 404),
            (ServeError::NotYet, 503),
            (
                download_cache::Error::Refused {
                    url: url.clone(),
                    status: 403,
                }
                .into(),
                502,
            ),
            (
                download_cache::Error::Status {
                    url: url.clone(),
                    status: 503,
                    retry_after: None,
                }
                .into(),
                503,
            ),
            (download_cache::Error::Empty { url }.into(), 502),
            (download_cache::Error::NoSpace { needed_bytes: None }.into(), 503),
            (
                download_cache::Error::Disk {
                    doing: "open",
                    path: "/secret/place".into(),
                    source: io(std::io::ErrorKind::PermissionDenied),
                }
                .into(),
                500,
            ),
        ];
        for (error, expected) in cases {
            let failure = Failure::json("a 1.0.0", error);
            let response = failure.error_response();
            assert_eq!(response.status().as_u16(), expected, "{failure}");
            assert_eq!(response.headers().contains_key("retry-after"), expected == 503);
            assert!(!failure.to_string().contains("secret"));
        }
    }
}
