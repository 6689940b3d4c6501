/// One setting: its name in `mirror.toml`, what it is by default, and what it is for.
#[derive(Debug)]
pub struct Key {
    /// Section and name with a dot between, as in `upstream.sparse`.
    pub name: &'static str,
    /// The default as it would be written, or in words where it depends on the place.
    pub default: &'static str,
    /// Never shown.
    pub secret: bool,
}

impl Key {
    /// The environment variable that sets it: `MIRROR_` and the name, `__` between section and key.
    pub fn variable(&self) -> String {
        format!("MIRROR_{}", self.name.replace('.', "__").to_uppercase())
    }
}

const fn key(name: &'static str, default: &'static str) -> Key {
    Key {
        name,
        default,
        secret: false,
    }
}

/// Every setting there is, in the order in which they are shown. `docs/CONFIGURATION.md` says what each does.
pub const KEYS: &[Key] = &[
    key("data_dir", "mirror-data"),
    key("listen", "127.0.0.1:8080"),
    key("public_url", ""),
    key("trusted_proxies", ""),
    key("access", "public"),
    key("mode", "online"),
    key("log", "info"),
    key("upstream.sparse", "crates.io"),
    key("upstream.git", "crates.io"),
    key("upstream.download", ""),
    Key {
        name: "upstream.token",
        default: "",
        secret: true,
    },
    key("upstream.token_file", ""),
    key("upstream.ca_file", ""),
    key("upstream.proxy", ""),
    key("index.follow", "when-wanted"),
    key("index.sync_interval", "10m"),
    key("index.sparse_max_age", "60s"),
    key("index.look_ahead", "500"),
    key("index.removal_grace", "15m"),
    key("index.serve_partial", "false"),
    key("git.old_tips", "30d"),
    key("git.clones_at_once", "16"),
    key("git.max_request_bytes", "8MiB"),
    key("git.max_wants", "64"),
    key("git.max_haves", "65536"),
    key("limits.connections", ""),
    key("limits.connections_per_client", "1024"),
    key("limits.fills_per_client", "1024"),
    key("limits.min_bytes_per_second", "100"),
    key("cache.max_file_size", "512MiB"),
    key("cache.min_free", "512MiB"),
    key("cache.max_size", ""),
    key("cache.min_age", "10m"),
    key("cache.memory", "64MiB"),
    key("cache.scrub_interval", "7d"),
    key("cache.scrub_rate", "20MiB"),
    key("cache.fetch_log_days", "0"),
];

/// A value as it may be shown: secrets and passwords are left out.
pub fn shown(name: &str, text: &str) -> String {
    if find(name).is_some_and(|key| key.secret) {
        return if text.is_empty() {
            String::new()
        } else {
            "…".to_owned()
        };
    }
    // whatever stands before an @ may be a password
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.find("://").map_or("", |at| &before[..at + 3]);
            format!("{scheme}…@{host}")
        }
        None => text.to_owned(),
    }
}

/// The key of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known name that looks most like `name`.
pub fn nearest(name: &str) -> &'static str {
    let likeness = |key: &&Key| {
        let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
        strsim::jaro_winkler(key.name, name).max(strsim::jaro_winkler(&last(key.name), &last(name)))
    };
    KEYS.iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .map_or("data_dir", |key| key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_named_as_documented() {
        assert_eq!(find("public_url").unwrap().variable(), "MIRROR_PUBLIC_URL");
        assert_eq!(find("upstream.sparse").unwrap().variable(), "MIRROR_UPSTREAM__SPARSE");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("upstream.token", "sesame"), "…");
        assert_eq!(
            shown("upstream.proxy", "http://me:sesame@proxy:3128"),
            "http://…@proxy:3128"
        );
        assert_eq!(shown("upstream.proxy", "me:ses@me@proxy"), "…@proxy");
        assert_eq!(shown("listen", "127.0.0.1:1"), "127.0.0.1:1");
    }

    #[test]
    fn suggests_what_was_meant() {
        for (typo, meant) in [
            ("pubic_url", "public_url"),
            ("upstream.spase", "upstream.sparse"),
            ("cache.maxfilesize", "cache.max_file_size"),
            ("sparse_max_age", "index.sparse_max_age"),
            ("listen_addr", "listen"),
        ] {
            assert_eq!(nearest(typo), meant);
        }
    }
}
