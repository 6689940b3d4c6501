use serde::{Deserialize, Serialize};

use crate::index_path::prefix;
use crate::{Checksum, CrateName, CrateVersion, Error};

/// An upstream's `config.json`: where its crate files are. Unknown keys are ignored.
///
/// The format is that of the cargo book, "Registry Index Format".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Where crate files come from.
    pub download: DownloadTemplate,
    /// The base of its web API, if it has one.
    pub api: Option<String>,
    /// Whether every request needs a token.
    pub auth_required: bool,
}

#[derive(Deserialize)]
struct Known {
    dl: String,
    #[serde(default)]
    api: Option<String>,
    #[serde(default, rename = "auth-required")]
    auth_required: bool,
}

impl UpstreamConfig {
    /// Reads the file's bytes, at most 64 KiB of them.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |why: String| Error::ConfigJson { why };
        if bytes.len() > 64 << 10 {
            return Err(wrong(format!("it has {} bytes", bytes.len())));
        }
        let known: Known = serde_json::from_slice(bytes).map_err(|cause| wrong(cause.to_string()))?;
        Ok(Self {
            download: DownloadTemplate::parse(&known.dl)?,
            api: known.api,
            auth_required: known.auth_required,
        })
    }
}

/// The `dl` of a `config.json`: an absolute http or https address, with any of cargo's five markers `{crate}`,
/// `{version}`, `{prefix}`, `{lowerprefix}` and `{sha256-checksum}`, or with none, which stands for
/// `/{crate}/{version}/download` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadTemplate(String);

const MARKERS: [&str; 5] = ["{crate}", "{version}", "{prefix}", "{lowerprefix}", "{sha256-checksum}"];

impl DownloadTemplate {
    /// Reads a `dl`.
    pub fn parse(dl: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Err(Error::ConfigJson {
                why: format!("its `dl` {why}: `{}`", crate::error::shown(dl)),
            })
        };
        let Some(rest) = dl.strip_prefix("https://").or_else(|| dl.strip_prefix("http://")) else {
            return wrong("is not an http or https address");
        };
        if dl.len() > 2048 || dl.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return wrong("is too long or has characters that no address has");
        }
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if host.is_empty() || host.contains(['@', '{', '}']) {
            return wrong("has no plain host");
        }
        Ok(Self(dl.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of one crate file. Markers are replaced as cargo does, the version as it is, with its `+`.
    pub fn url(&self, name: &CrateName, version: &CrateVersion, checksum: &Checksum) -> String {
        if !MARKERS.iter().any(|marker| self.0.contains(marker)) {
            return format!("{}/{name}/{version}/download", self.0.trim_end_matches('/'));
        }
        let folder = |name: &str| prefix(name).trim_end_matches('/').to_owned();
        self.0
            .replace("{crate}", name.as_str())
            .replace("{version}", version.as_str())
            .replace("{prefix}", &folder(name.as_str()))
            .replace("{lowerprefix}", &folder(&name.lowercase()))
            .replace("{sha256-checksum}", &checksum.to_hex())
    }
}

#[derive(Serialize)]
struct Own<'a> {
    dl: String,
    api: &'a str,
}

/// The mirror's own `config.json` for clients that reach it by `base`, an address without a slash at its end.
///
/// `dl` has no markers: that is the one form that every cargo understands.
pub fn mirror_config(base: &str) -> Vec<u8> {
    let own = Own {
        dl: format!("{base}/api/v1/crates"),
        api: base,
    };
    let mut json = serde_json::to_vec(&own).expect("two strings are always JSON");
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(dl: &str) -> String {
        let template = DownloadTemplate::parse(dl).unwrap();
        template.url(
            &"Open-SSL".parse().unwrap(),
            &"1.0.0+a".parse().unwrap(),
            &Checksum::of(b""),
        )
    }

    #[test]
    fn no_marker_means_crate_version_download() {
        assert_eq!(
            url("http://127.0.0.1/crates"),
            "http://127.0.0.1/crates/Open-SSL/1.0.0+a/download"
        );
        assert_eq!(
            url("http://127.0.0.1/crates/"),
            "http://127.0.0.1/crates/Open-SSL/1.0.0+a/download"
        );
    }

    #[test]
    fn all_five_markers() {
        assert_eq!(
            url("https://h:1/{prefix}/{lowerprefix}/{crate}-{version}.crate?{sha256-checksum}"),
            format!("https://h:1/Op/en/op/en/Open-SSL-1.0.0+a.crate?{}", Checksum::of(b""))
        );
        let short = DownloadTemplate::parse("http://h/{prefix}/{crate}").unwrap();
        assert_eq!(
            short.url(&"abc".parse().unwrap(), &"1.0.0".parse().unwrap(), &Checksum::of(b"")),
            "http://h/3/a/abc"
        );
    }

    #[test]
    fn reads_upstreams_file_and_refuses_others() {
        let config =
            UpstreamConfig::parse(br#"{"dl":"https://h/dl","api":"https://h","auth-required":true,"new":[]}"#).unwrap();
        assert_eq!(
            (config.download.as_str(), config.api.as_deref(), config.auth_required),
            ("https://h/dl", Some("https://h"), true)
        );
        for bad in [
            &b""[..],
            b"<html>",
            b"{}",
            br#"{"dl":7}"#,
            br#"{"dl":"/x"}"#,
            br#"{"dl":"file:///x"}"#,
            br#"{"dl":"https://"}"#,
            br#"{"dl":"https://u:p@h/"}"#,
            br#"{"dl":"https://{crate}/"}"#,
            b"{\"dl\":\"http://h/\\r\\nx\"}",
        ] {
            assert!(
                UpstreamConfig::parse(bad).is_err(),
                "{:?} was taken",
                String::from_utf8_lossy(bad)
            );
        }
    }

    #[test]
    fn our_own_is_what_cargo_reads() {
        let own = mirror_config("http://127.0.0.1:8080/sub");
        assert_eq!(
            own,
            b"{\"dl\":\"http://127.0.0.1:8080/sub/api/v1/crates\",\"api\":\"http://127.0.0.1:8080/sub\"}\n"
        );
        assert!(UpstreamConfig::parse(&own).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = UpstreamConfig::parse(&bytes);
        }

        #[test]
        fn any_dl_that_is_taken_gives_an_address_at_its_host(dl in "https?://[a-z0-9.:/{}@?#-]{0,40}") {
            if let Ok(template) = DownloadTemplate::parse(&dl) {
                let url = template.url(&"serde".parse().unwrap(), &"1.0.0".parse().unwrap(), &Checksum::of(b""));
                let host = |url: &str| url.split("//").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next()).map(str::to_owned);
                prop_assert_eq!(host(&url), host(&dl));
            }
        }
    }
}
