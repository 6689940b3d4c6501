//! What a page links to: one style sheet, one script, one icon.

use std::sync::LazyLock;

use registry::Checksum;

/// What a page may load and do, for the `Content-Security-Policy` header of every page.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A file that pages link to, to be served as it is and cached for ever.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served, below the mirror's own path; eight hex digits in it change with the content.
    pub path: String,
    /// The `Content-Type` header.
    pub content_type: &'static str,
    /// The body.
    pub bytes: &'static [u8],
}

impl Asset {
    fn new(extension: &str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        let hex = Checksum::of(bytes).to_hex();
        Self {
            path: format!("/assets/mirror-{}.{extension}", &hex[..8]),
            content_type,
            bytes,
        }
    }
}

static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new(
            "css",
            "text/css; charset=utf-8",
            include_bytes!("../../../assets/mirror.css"),
        ),
        Asset::new(
            "js",
            "text/javascript; charset=utf-8",
            include_bytes!("../../../assets/mirror.js"),
        ),
        Asset::new("svg", "image/svg+xml", include_bytes!("../../../assets/mirror.svg")),
    ]
});

/// All files that pages link to.
pub fn assets() -> &'static [Asset] {
    &*ASSETS
}

pub(crate) fn style_path() -> &'static str {
    &ASSETS[0].path
}

pub(crate) fn script_path() -> &'static str {
    &ASSETS[1].path
}

pub(crate) fn icon_path() -> &'static str {
    &ASSETS[2].path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_content() {
        let one = Asset::new("css", "text/css", b"a{}");
        let two = Asset::new("css", "text/css", b"b{}");
        assert_ne!(one.path, two.path);
        assert_eq!(one.path, Asset::new("css", "text/css", b"a{}").path);
        assert_eq!(one.path.len(), "/assets/mirror-12345678.css".len());
    }

    #[test]
    fn style_and_script_stay_small_and_load_nothing() {
        for asset in assets() {
            assert!(
                asset.bytes.len() <= 14 * 1024,
                "{} has {} bytes",
                asset.path,
                asset.bytes.len()
            );
            let text = str::from_utf8(asset.bytes).unwrap();
            assert!(!text.contains("url("), "{}", asset.path);
            assert!(!text.contains("@import"), "{}", asset.path);
        }
    }
}
