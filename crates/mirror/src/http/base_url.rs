//! By what address the client at hand reaches the mirror.

use actix_web::HttpRequest;
use actix_web::http::header;

use crate::settings::{PublicUrl, TrustedProxies, authority};

/// The base address for links, with no slash at its end, and whether it depends on the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Such as `https://mirror.example/rust`.
    pub url: String,
    /// Made from the request's Host: must not be stored by caches.
    pub from_request: bool,
}

/// The public address if it is known; else `Host`, if that is a valid authority, with the scheme that a trusted proxy names.
///
/// `None` when neither gives one.
pub fn base_url(request: &HttpRequest, public: Option<&PublicUrl>, trusted: &TrustedProxies) -> Option<BaseUrl> {
    if let Some(public) = public {
        return Some(BaseUrl {
            url: public.as_str().to_owned(),
            from_request: false,
        });
    }
    // in HTTP/2 the authority is part of the address
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    let in_header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = in_uri.or_else(in_header).filter(|host| authority(host).is_ok())?;
    Some(BaseUrl {
        url: format!("{}://{host}", scheme(request, trusted)),
        from_request: true,
    })
}

fn scheme(request: &HttpRequest, trusted: &TrustedProxies) -> &'static str {
    let believed = request.peer_addr().is_some_and(|peer| trusted.trusts(peer.ip()));
    let named = request
        .headers()
        .get("x-forwarded-proto")
        .and_then(|proto| proto.to_str().ok());
    match named.map(|proto| proto.split(',').next().unwrap_or_default().trim()) {
        Some(proto) if believed && proto.eq_ignore_ascii_case("https") => "https",
        _ => "http",
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn of(host: &str, proto: &str, public: Option<&str>, trusted: &str) -> Option<BaseUrl> {
        let request = TestRequest::default()
            .insert_header((header::HOST, host))
            .insert_header(("x-forwarded-proto", proto))
            .insert_header(("x-forwarded-host", "evil.example"))
            .peer_addr("10.0.0.1:5".parse().unwrap())
            .to_http_request();
        let public = public.map(|url| url.parse().unwrap());
        base_url(&request, public.as_ref(), &trusted.parse().unwrap())
    }

    #[test]
    fn the_public_address_wins() {
        let base = of("other:1", "https", Some("http://mirror.example/rust"), "10.0.0.1").unwrap();
        assert_eq!(
            (base.url.as_str(), base.from_request),
            ("http://mirror.example/rust", false)
        );
    }

    #[test]
    fn a_proxy_names_the_scheme_only_if_it_is_trusted() {
        assert_eq!(of("h:1", "https", None, "10.0.0.1").unwrap().url, "https://h:1");
        assert_eq!(of("h:1", "https", None, "").unwrap().url, "http://h:1");
        assert_eq!(of("h:1", "javascript", None, "10.0.0.1").unwrap().url, "http://h:1");
        assert!(of("h:1", "http", None, "").unwrap().from_request);
    }

    #[test]
    fn a_host_that_is_none_gives_nothing() {
        for host in ["", "a b", "a/b", "a\"b", "a@b", "h:99999"] {
            assert_eq!(of(host, "http", None, ""), None, "{host:?}");
        }
    }
}
