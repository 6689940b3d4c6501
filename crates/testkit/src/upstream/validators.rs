use registry::Checksum;

use crate::http::{Head, header};

/// Which validators an upstream sends with what it has; it honours those that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validators {
    /// Neither.
    None,
    /// `ETag`, a digest of the bytes.
    Etag,
    /// `Last-Modified`, another second for each change.
    LastModified,
    /// Both, which is the default.
    Both,
}

impl Validators {
    /// The headers for bytes that came with the upstream's `revision`th change.
    pub(super) fn of(self, checksum: Checksum, revision: u32) -> Vec<(String, String)> {
        let etag = ("ETag".to_owned(), format!("\"{}\"", &checksum.to_hex()[..32]));
        // One second for each change: what counts is that two contents never have the same time.
        let (hours, rest) = ((revision / 3600) % 24, revision % 3600);
        let time = format!("Mon, 01 Jan 2024 {hours:02}:{:02}:{:02} GMT", rest / 60, rest % 60);
        let time = ("Last-Modified".to_owned(), time);
        match self {
            Self::None => Vec::new(),
            Self::Etag => vec![etag],
            Self::LastModified => vec![time],
            Self::Both => vec![etag, time],
        }
    }
}

/// `If-None-Match` decides where it is given, as RFC 9110 wants; a time must be the very one that was sent.
pub(super) fn not_modified(request: &Head, validators: &[(String, String)]) -> bool {
    if let Some(given) = request.header("if-none-match") {
        let etag = header(validators, "etag");
        let is_it = |one: &str| Some(one.trim().trim_start_matches("W/")) == etag;
        return given.split(',').any(is_it);
    }
    let given = request.header("if-modified-since");
    given.is_some() && given == header(validators, "last-modified")
}
