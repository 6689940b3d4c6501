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
                asset.bytes.len() <= 12 * 1024,
                "{} has {} bytes",
                asset.path,
                asset.bytes.len()
            );
            let text = str::from_utf8(asset.bytes).unwrap();
            assert!(!text.contains("url("), "{}", asset.path);
            assert!(!text.contains("@import"), "{}", asset.path);
        }
    }

    /// The WCAG contrast of two colours written as `#rgb` or `#rrggbb`.
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |colour: &str| {
            let digits = colour.trim_start_matches('#');
            let wide: String = if digits.len() == 3 {
                digits.chars().flat_map(|c| [c, c]).collect()
            } else {
                digits.to_owned()
            };
            let channel = |at: usize| {
                let value = f64::from(u8::from_str_radix(&wide[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.040_45 {
                    value / 12.92
                } else {
                    ((value + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn all_text_can_be_read_in_both_themes() {
        let css = include_str!("../../../assets/mirror.css");
        let (light, dark) = css.split_once("prefers-color-scheme: dark").unwrap();
        for theme in [light, dark] {
            let colour = |name: &str| {
                let (_, rest) = theme.split_once(&format!("--{name}: ")).unwrap();
                rest.split_once(';').unwrap().0
            };
            for ground in ["paper", "card", "sunk"] {
                for text in ["ink", "quiet", "accent"] {
                    let ratio = contrast(colour(text), colour(ground));
                    assert!(ratio >= 4.5, "{text} on {ground}: {ratio:.2}");
                }
            }
            for (text, ground) in [
                ("warm", "paper"),
                ("warm", "card"),
                ("warm", "warm-soft"),
                ("accent", "warm-soft"),
                ("ink", "warm-soft"),
                ("accent", "accent-soft"),
                ("quiet", "accent-soft"),
                ("ink", "accent-soft"),
                ("on-accent", "accent"),
                ("paper", "ink"),
            ] {
                let ratio = contrast(colour(text), colour(ground));
                assert!(ratio >= 4.5, "{text} on {ground}: {ratio:.2}");
            }
        }
    }
}
