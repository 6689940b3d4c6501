//! Addresses: what may become a link, and how a string becomes a part of one.

/// The address if it is one a page may link to: http or https, with a host, and nothing that would be read in two ways.
pub(crate) fn web_address(address: &str) -> Option<&str> {
    let address = address.trim();
    let (scheme, rest) = address.split_once("://")?;
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let host_starts = rest.starts_with(|c: char| c.is_alphanumeric() || c == '[');
    let is_clean = !address.contains(|c: char| c.is_whitespace() || crate::escape::is_hidden(c) || c == '\\');
    (is_web && host_starts && is_clean && address.len() <= 2048).then_some(address)
}

/// The address without what goes without saying.
pub(crate) fn short(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.strip_prefix("www.").unwrap_or(rest).trim_end_matches('/')
}

/// A string as one segment of a path or one value of a query: all but RFC 3986's unreserved characters percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The path of a crate's page, below the mirror's own path.
pub(crate) fn crate_path(name: &str) -> String {
    format!("/crates/{}", encoded(name))
}

/// The path of a version's page, below the mirror's own path.
pub(crate) fn version_path(name: &str, version: &str) -> String {
    format!("/crates/{}/{}", encoded(name), encoded(version))
}

/// The path of a crate file, below the mirror's own path.
pub(crate) fn download_path(name: &str, version: &str) -> String {
    format!("/api/v1/crates/{}/{}/download", encoded(name), encoded(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_web_is_linked() {
        for good in [
            "https://serde.rs",
            "HTTP://127.0.0.1:8080/x?y=1&z#a",
            " https://[::1]/ ",
        ] {
            assert_eq!(web_address(good), Some(good.trim()), "{good}");
        }
        for bad in [
            "javascript:alert(1)",
            "javascript://x/%0aalert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "ftp://host/",
            "//host/",
            "/path",
            "https:///x",
            "https://",
            "https://a b",
            "https:\\\\x",
            "https://x\\y",
            "https://ex\u{202E}ample/",
            "",
        ] {
            assert_eq!(web_address(bad), None, "{bad}");
        }
        assert_eq!(web_address(&format!("https://{}", "a".repeat(3000))), None);
    }

    #[test]
    fn encoding_leaves_nothing_with_a_meaning() {
        assert_eq!(encoded("1.0.0+build"), "1.0.0%2Bbuild");
        assert_eq!(encoded("a b&page=2#x/é%"), "a%20b%26page%3D2%23x%2F%C3%A9%25");
        assert_eq!(version_path("serde", "1.0.0+x"), "/crates/serde/1.0.0%2Bx");
        assert_eq!(download_path("a/b", "1"), "/api/v1/crates/a%2Fb/1/download");
    }
}
