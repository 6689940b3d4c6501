//! Addresses that upstream may have, and the `host:port` that trust is given to.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use awc::http::Uri;

use crate::Error;

/// No registry needs more, and a longer one is an attack on somebody's log.
const MAX_URL_BYTES: usize = 4096;

/// An absolute `http://` or `https://` address with a host and without user, password and fragment.
///
/// Its host is lower case. A host that ends in a number is an IPv4 address in its usual form:
/// `2130706433` and `0x7f.1` are refused, since resolvers and proxies read them as addresses too.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UpstreamUrl {
    https: bool,
    authority: Authority,
    /// Starts with `/`; with the query.
    path: String,
}

impl UpstreamUrl {
    /// Whether this is an `https://` address.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The `host:port` that is asked, with the scheme's port if none was written.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The path and the query; starts with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What a reference means that was found at this address: absolute, or relative in any of the ways of RFC 3986.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`] if the outcome is not an address that upstream may have.
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        let reference = reference.split('#').next().unwrap_or_default();
        if has_scheme(reference) {
            return reference.parse();
        }
        let scheme = self.scheme();
        if let Some(rest) = reference.strip_prefix("//") {
            return format!("{scheme}://{rest}").parse();
        }
        let base = self.path.split('?').next().unwrap_or_default();
        let path = match reference.chars().next() {
            None => self.path.clone(),
            Some('?') => format!("{base}{reference}"),
            Some('/') => without_dots(reference),
            Some(_) => {
                let folder = base.rfind('/').map_or("/", |end| &base[..=end]);
                without_dots(&format!("{folder}{reference}"))
            }
        };
        format!("{scheme}://{}{path}", self.authority.short(self.https)).parse()
    }

    /// The address without its query, for logs and errors: the query may be a signature.
    pub(crate) fn shown(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{}://{}{path}", self.scheme(), self.authority.short(self.https))
    }

    /// What goes into the `Host` header.
    pub(crate) fn host_header(&self) -> String {
        self.authority.short(self.https)
    }

    /// `http://host:port/path` whatever the scheme, for a client whose connector lays TLS itself.
    pub(crate) fn as_plain(&self) -> String {
        format!("http://{}{}", self.authority, self.path)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl FromStr for UpstreamUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidUrl {
            url: shorten(text),
            reason,
        };
        if text.len() > MAX_URL_BYTES {
            return Err(invalid("it is too long"));
        }
        if text.contains('#') {
            return Err(invalid("it has a fragment"));
        }
        let uri: Uri = text.parse().map_err(|_| invalid("it is no URL"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid("only http:// and https:// are possible")),
        };
        let written = uri.authority().ok_or_else(|| invalid("it has no host"))?;
        if written.as_str().contains('@') {
            return Err(invalid("it has a user name"));
        }
        let port = if https { 443 } else { 80 };
        let authority = Authority::parse(written.as_str(), Some(port)).map_err(invalid)?;
        let path = match uri.path_and_query().map(|path| path.as_str()) {
            None | Some("") => "/".to_owned(),
            Some(query) if query.starts_with('?') => format!("/{query}"),
            Some(path) => path.to_owned(),
        };
        Ok(Self { https, authority, path })
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority.short(self.https);
        write!(f, "{}://{authority}{}", self.scheme(), self.path)
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

/// `host:port`: what trust and tokens are given to. The host is lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    host: String,
    port: u16,
}

impl Authority {
    /// The host; an IPv6 address has its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host's address, if it is written as one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.bare_host().parse().ok()
    }

    /// The host without the brackets of an IPv6 address: what resolvers and certificates want.
    pub(crate) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, &'static str> {
        let (host, port) = split_port(text)?;
        let port = match (port, default_port) {
            (Some(port), _) | (None, Some(port)) => port,
            (None, None) => return Err("it has no port"),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        check_host(&host)?;
        Ok(Self { host, port })
    }

    /// Without the port if it is the scheme's own.
    fn short(&self, https: bool) -> String {
        if self.port == if https { 443 } else { 80 } {
            self.host.clone()
        } else {
            self.to_string()
        }
    }
}

impl FromStr for Authority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text, None).map_err(|reason| Error::InvalidUrl {
            url: shorten(text),
            reason,
        })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let end_of_host = text.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = text[end_of_host..].find(':') else {
        return Ok((text, None));
    };
    let (host, port) = text.split_at(end_of_host + colon);
    let digits = &port[1..];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("its port is no number");
    }
    match digits.parse() {
        Ok(0) | Err(_) => Err("its port is out of range"),
        Ok(port) => Ok((host, Some(port))),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("its host is malformed")?;
        return match inner.parse::<Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("its host is no IPv6 address"),
        };
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
        return Err("its host is malformed");
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("its host is a number but no IPv4 address");
    }
    Ok(())
}

/// `scheme:` as RFC 3986 has it, before any `/`, `?`.
fn has_scheme(reference: &str) -> bool {
    reference
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.is_empty() && !scheme.contains(['/', '?']))
}

/// RFC 3986, section 5.2.4.
fn without_dots(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => {
                kept.push(other);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    let path = format!("/{}", kept.join("/"));
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// At most 200 characters, without a query or a user's name and password: for evidence, which clients read too.
pub(crate) fn shorten(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    let host = text.find("//").map_or(0, |slashes| slashes + 2);
    let path = text[host..]
        .find(['/', '\\', '#'])
        .map_or(text.len(), |slash| host + slash);
    let shown = match text[host..path].rfind('@') {
        Some(at) => [&text[..host], "…", &text[host + at..]].concat(),
        None => text.to_owned(),
    };
    shown.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(text: &str) -> UpstreamUrl {
        text.parse().unwrap()
    }

    #[test]
    fn evidence_has_no_secrets() {
        for (text, shown) in [
            ("https://user:secret@host/a@b?key=secret", "https://…@host/a@b"),
            ("//user:se@cret@host", "//…@host"),
            ("user:secret@host/x", "…@host/x"),
            ("http://host/a@b", "http://host/a@b"),
            ("", ""),
        ] {
            assert_eq!(shorten(text), shown);
        }
        assert_eq!(shorten(&"é".repeat(300)).chars().count(), 200);
    }

    #[test]
    fn addresses_are_shown_in_one_way() {
        let table = [
            (
                "https://Registry.Example",
                "https://registry.example/",
                "registry.example:443",
            ),
            (
                "https://registry.example.:443/a",
                "https://registry.example/a",
                "registry.example:443",
            ),
            (
                "http://registry.example:443/a?b",
                "http://registry.example:443/a?b",
                "registry.example:443",
            ),
            ("HTTP://127.0.0.1:80/", "http://127.0.0.1/", "127.0.0.1:80"),
            ("http://[::1]:8080", "http://[::1]:8080/", "[::1]:8080"),
            ("http://a?b=c", "http://a/?b=c", "a:80"),
            ("http://1.example/", "http://1.example/", "1.example:80"),
        ];
        for (text, shown, authority) in table {
            let parsed = url(text);
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parsed.authority().to_string(), authority);
            assert_eq!(url(shown), parsed);
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        let long = format!("http://a/{}", "b".repeat(MAX_URL_BYTES));
        let table = [
            "",
            "/",
            "a",
            "a/b",
            "http://",
            "http:///a",
            "http://:80/",
            "ftp://a/",
            "file:///a",
            "http://u@a/",
            "http://u:p@a/",
            "http://a/#b",
            "http://a:0/",
            "http://a:65536/",
            "http://a:/",
            "http://a:b/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://1.2.3.4.5/",
            "http://a.0x1/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://[1.2.3.4]/",
            "http://a b/",
            "http://a\r\nb/",
            "http://ä/",
            "http://a/\u{0}",
            &long,
        ];
        for text in table {
            assert!(
                matches!(text.parse::<UpstreamUrl>(), Err(Error::InvalidUrl { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn references_are_joined_as_rfc_3986_has_it() {
        let base = url("https://a/b/c/d;p?q");
        let table = [
            ("g", "https://a/b/c/g"),
            ("./g", "https://a/b/c/g"),
            ("g/", "https://a/b/c/g/"),
            ("/g", "https://a/g"),
            ("//g", "https://g/"),
            ("?y", "https://a/b/c/d;p?y"),
            ("g?y", "https://a/b/c/g?y"),
            ("#s", "https://a/b/c/d;p?q"),
            ("g#s", "https://a/b/c/g"),
            ("g?y/./x", "https://a/b/c/g?y/./x"),
            (";x", "https://a/b/c/;x"),
            ("", "https://a/b/c/d;p?q"),
            (".", "https://a/b/c/"),
            ("..", "https://a/b/"),
            ("../g", "https://a/b/g"),
            ("../..", "https://a/"),
            ("../../../g", "https://a/g"),
            ("/./g", "https://a/g"),
            ("/../g", "https://a/g"),
            ("g;x=1/../y", "https://a/b/c/y"),
            ("http://g:81/x", "http://g:81/x"),
            ("g?u=http://x/", "https://a/b/c/g?u=http://x/"),
        ];
        for (reference, expected) in table {
            assert_eq!(base.join(reference).unwrap().to_string(), expected, "{reference}");
        }
        assert!(base.join("mailto:a@b").is_err());
    }

    #[test]
    fn the_query_is_not_shown() {
        let signed = url("https://a/b?signature=secret");
        assert!(!format!("{} {signed:?}", signed.shown()).contains("secret"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_what_is_taken_stays_the_same(base in "\\PC{0,20}", reference in "\\PC{0,20}") {
            let _ = base.parse::<UpstreamUrl>();
            if let Ok(joined) = url("http://a/b/c").join(&reference) {
                prop_assert_eq!(joined.to_string().parse::<UpstreamUrl>().unwrap(), joined);
            }
        }
    }
}
