//! The settings in force, checked once at the start; nothing else reads the environment or the settings file.

mod environment;
mod key;
mod layers;
mod show;
mod value;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use environment::Environment;
pub use layers::{Layers, Source};
pub use show::show;
pub use value::{PublicUrl, TrustedProxies, authority, size_bytes as parse_size};

/// A hundred years.
const MOST_FETCH_LOG_DAYS: u32 = 36_525;

/// What is wrong with the settings: one sentence that names key, value and source.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A name that is no setting.
    #[error("`{name}` in {given_by} is not a setting; did you mean `{nearest}`?")]
    UnknownKey {
        /// As it was written.
        name: String,
        /// The known name that looks most like it.
        nearest: &'static str,
        /// Where it was written.
        given_by: Source,
    },
    /// A value that does not fit its key.
    #[error("`{key}` is `{value}` in {given_by}: {why}")]
    Value {
        /// The setting.
        key: &'static str,
        /// As it was written; secrets are left out.
        value: String,
        /// Where it was written.
        given_by: Source,
        /// What would fit.
        why: String,
    },
    /// A settings file that cannot be read.
    #[error("the settings file {} cannot be used: {why}", .path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// How the mirror treats upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Asks upstream as needed.
    Online,
    /// Asks upstream only for what is absent here.
    Fallback,
    /// Never asks upstream.
    Offline,
}

impl Mode {
    /// As it is written in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Fallback => "fallback",
            Self::Offline => "offline",
        }
    }
}

impl From<Mode> for index_sync::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Online => Self::Online,
            Mode::Fallback => Self::Fallback,
            Mode::Offline => Self::Offline,
        }
    }
}

/// When the whole index is followed from `upstream.git`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Once somebody wants it: a git client, `mirror sync`.
    WhenWanted,
    /// From the start.
    Always,
    /// Never.
    Never,
}

/// Bounds on what git clients may ask.
#[derive(Debug, Clone)]
pub struct GitLimits {
    /// How long commits that were published stay known to clients after the history was squashed.
    pub old_tips: Duration,
    /// Packs that are sent at once.
    pub clones_at_once: usize,
    /// Bytes of one request's body, after gzip.
    pub max_request_bytes: u64,
    /// Commits that one request may want.
    pub max_wants: usize,
    /// Commits that one request may say it has.
    pub max_haves: usize,
}

/// Bounds on what clients of any kind may hold.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// Connections at once; by what the system allows if it is not set.
    pub connections: Option<usize>,
    /// Of one address.
    pub connections_per_client: usize,
    /// Crate files that are fetched for one address at once.
    pub fills_per_client: usize,
    /// What a client must take while it is waited for, and send of a body.
    pub min_bytes_per_second: u64,
}

/// How the kept crate files are looked after.
#[derive(Debug, Clone)]
pub struct CacheCare {
    /// What may be kept, if that is bounded.
    pub max_bytes: Option<u64>,
    /// A file that is younger is not evicted to make room.
    pub min_age: Duration,
    /// Small files in memory.
    pub memory_bytes: u64,
    /// All files are hashed again within this time, if at all.
    pub scrub_interval: Option<Duration>,
    /// So many bytes of them a second.
    pub scrub_rate: u64,
}

/// The upstream registry, if there is one.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The base of its sparse index: http or https, with a slash at its end.
    pub sparse: Option<String>,
    /// The address of its git index: http or https.
    pub git: Option<String>,
    /// A `dl` that is used in place of the one in upstream's `config.json`.
    pub download: Option<registry::DownloadTemplate>,
    /// Sent as `Authorization` to upstream's own hosts.
    pub token: Option<String>,
    /// PEM certificates beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// A proxy in place of the environment's.
    pub proxy: Option<String>,
}

impl Upstream {
    /// Whether there is one, of either kind.
    pub fn is_there(&self) -> bool {
        self.sparse.is_some() || self.git.is_some()
    }
}

/// Every setting, in the form in which it is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// What clients reach the mirror by, if that is known.
    pub public_url: Option<PublicUrl>,
    /// Who may name the client's scheme.
    pub trusted_proxies: TrustedProxies,
    /// The mode at the start.
    pub mode: Mode,
    /// The registry behind this one.
    pub upstream: Upstream,
    /// When the whole index is followed.
    pub follow: Follow,
    /// How often it is.
    pub sync_interval: Duration,
    /// Whether git clients may have an index of only what was asked for.
    pub serve_partial: bool,
    /// What git clients may ask.
    pub git: GitLimits,
    /// What clients may hold.
    pub limits: ClientLimits,
    /// How long an index file is served without asking again.
    pub sparse_max_age: Duration,
    /// How many index files are asked for ahead of need for each that a client asks for.
    pub look_ahead: usize,
    /// How long a version must be missing before it counts as removed.
    pub removal_grace: Duration,
    /// The largest crate file that is fetched.
    pub max_file_bytes: u64,
    /// Free disk space below which nothing new is kept.
    pub min_free_bytes: u64,
    /// How the kept files are looked after.
    pub cache: CacheCare,
    /// For how many days it is remembered who fetched what; 0 is not at all.
    pub fetch_log_days: u32,
    /// env_logger's filter.
    pub log: String,
    /// The environment, for proxies.
    pub environment: Environment,
    /// The texts behind all this, with their sources.
    pub layers: Layers,
}

impl Settings {
    /// Reads and checks everything. `flags` are (key, flag, text).
    pub fn load(
        file: Option<&Path>,
        environment: Environment,
        flags: &[(&'static str, &'static str, String)],
    ) -> Result<Self, SettingsError> {
        let layers = Layers::collect(file, &environment, flags)?;
        if layers.get("access").text != "public" {
            return Err(wrong(&layers, "access", "only `public` exists so far".to_owned()));
        }
        let log = read(&layers, "log", |text| {
            match env_filter::Builder::new().try_parse(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(cause) => Err(cause.to_string()),
            }
        })?;
        Ok(Self {
            data_dir: read(&layers, "data_dir", |text| match text {
                "" => Err("it should name a directory".to_owned()),
                _ => Ok(PathBuf::from(text)),
            })?,
            listen: read(&layers, "listen", value::listen)?,
            public_url: optional(&layers, "public_url", str::parse)?,
            trusted_proxies: trusted_proxies(&layers)?,
            mode: read(&layers, "mode", |text| match text {
                "online" => Ok(Mode::Online),
                "fallback" => Ok(Mode::Fallback),
                "offline" => Ok(Mode::Offline),
                _ => Err("it should be online, fallback or offline".to_owned()),
            })?,
            upstream: upstream(&layers)?,
            follow: read(&layers, "index.follow", |text| match text {
                "when-wanted" => Ok(Follow::WhenWanted),
                "always" => Ok(Follow::Always),
                "never" => Ok(Follow::Never),
                _ => Err("it should be when-wanted, always or never".to_owned()),
            })?,
            sync_interval: read(&layers, "index.sync_interval", value::interval)?,
            serve_partial: read(&layers, "index.serve_partial", value::truth)?,
            git: GitLimits {
                old_tips: read(&layers, "git.old_tips", value::duration)?,
                clones_at_once: read(&layers, "git.clones_at_once", value::count)?,
                max_request_bytes: read(&layers, "git.max_request_bytes", |text| {
                    match value::size_bytes(text)? {
                        size if size < 4096 => Err("no fetch fits into that: it should be at least 4KiB".to_owned()),
                        size => Ok(size),
                    }
                })?,
                max_wants: read(&layers, "git.max_wants", value::count)?,
                max_haves: read(&layers, "git.max_haves", value::count)?,
            },
            limits: ClientLimits {
                connections: optional(&layers, "limits.connections", value::count)?,
                connections_per_client: read(&layers, "limits.connections_per_client", value::count)?,
                fills_per_client: read(&layers, "limits.fills_per_client", value::count)?,
                min_bytes_per_second: read(&layers, "limits.min_bytes_per_second", value::size_bytes)?,
            },
            sparse_max_age: read(&layers, "index.sparse_max_age", value::duration)?,
            look_ahead: read(&layers, "index.look_ahead", value::count_or_none)?,
            removal_grace: read(&layers, "index.removal_grace", value::duration)?,
            max_file_bytes: read(&layers, "cache.max_file_size", |text| match value::size_bytes(text)? {
                size if size < 1024 => Err("no crate file is that small: it should be at least 1KiB".to_owned()),
                size => Ok(size),
            })?,
            min_free_bytes: read(&layers, "cache.min_free", value::size_bytes)?,
            cache: cache_care(&layers)?,
            fetch_log_days: read(&layers, "cache.fetch_log_days", |text| match text.parse() {
                Ok(days) if days <= MOST_FETCH_LOG_DAYS => Ok(days),
                _ => Err(format!(
                    "it should be a whole number of days from 0 to {MOST_FETCH_LOG_DAYS}"
                )),
            })?,
            log,
            environment,
            layers,
        })
    }

    /// The base address that links and the published git index name when the public one is unknown: http, the listening
    /// address (127.0.0.1 for a wildcard) and its port (8080 for one that was not chosen).
    pub fn local_url(&self) -> String {
        let address = self
            .listen
            .first()
            .copied()
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        let port = if address.port() == 0 { 8080 } else { address.port() };
        let ip = if address.ip().is_unspecified() {
            [127, 0, 0, 1].into()
        } else {
            address.ip()
        };
        format!("http://{}", SocketAddr::new(ip, port))
    }
}

/// A value of `layers` that does not do, and why not.
pub fn wrong(layers: &Layers, key: &'static str, why: String) -> SettingsError {
    let given = layers.get(key);
    SettingsError::Value {
        key,
        value: key::shown(key, &given.text).escape_debug().to_string(),
        given_by: given.source.clone(),
        why,
    }
}

fn read<T>(
    layers: &Layers,
    key: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, SettingsError> {
    parse(layers.get(key).text.trim()).map_err(|why| wrong(layers, key, why))
}

fn optional<T>(
    layers: &Layers,
    key: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, SettingsError> {
    if layers.get(key).text.trim().is_empty() {
        Ok(None)
    } else {
        read(layers, key, parse).map(Some)
    }
}

fn trusted_proxies(layers: &Layers) -> Result<TrustedProxies, SettingsError> {
    let given = layers.get("trusted_proxies");
    let platform = layers.get("listen").source == Source::Variable("PORT".to_owned());
    if given.source == Source::Default && platform {
        return Ok(TrustedProxies::whoever_connects());
    }
    read(layers, "trusted_proxies", str::parse)
}

fn cache_care(layers: &Layers) -> Result<CacheCare, SettingsError> {
    let rate = |text: &str| match value::size_bytes(text)? {
        rate if rate < 1024 => Err("it should be at least 1KiB (a second)".to_owned()),
        rate => Ok(rate),
    };
    Ok(CacheCare {
        max_bytes: optional(layers, "cache.max_size", value::size_bytes)?,
        min_age: read(layers, "cache.min_age", value::duration)?,
        memory_bytes: read(layers, "cache.memory", value::size_bytes)?,
        scrub_interval: read(layers, "cache.scrub_interval", |text| match text {
            "0" => Ok(None),
            _ => value::interval(text).map(Some),
        })?,
        scrub_rate: read(layers, "cache.scrub_rate", rate)?,
    })
}

fn upstream(layers: &Layers) -> Result<Upstream, SettingsError> {
    let token_file = optional(layers, "upstream.token_file", |path| {
        std::fs::read_to_string(path)
            .map(|token| token.trim().to_owned())
            .map_err(|cause| cause.to_string())
    })?;
    let token = optional(layers, "upstream.token", |text| Ok(text.to_owned()))?.or(token_file);
    if token
        .as_ref()
        .is_some_and(|token| token.is_empty() || !token.bytes().all(|byte| (b' '..0x7f).contains(&byte)))
    {
        return Err(wrong(
            layers,
            "upstream.token",
            "a token is one line of visible ASCII".to_owned(),
        ));
    }
    Ok(Upstream {
        sparse: optional(layers, "upstream.sparse", sparse_base)?,
        git: optional(layers, "upstream.git", git_address)?,
        download: optional(layers, "upstream.download", |text| {
            registry::DownloadTemplate::parse(text).map_err(|cause| match cause {
                registry::Error::ConfigJson { why } => why.replacen("its `dl` ", "it ", 1),
                other => other.to_string(),
            })
        })?,
        token,
        ca_file: optional(layers, "upstream.ca_file", |path| match std::fs::metadata(path) {
            Ok(found) if found.is_file() => match upstream_http::check_ca_file(path.as_ref()) {
                Ok(()) => Ok(PathBuf::from(path)),
                Err(cause) => Err(cause.to_string()),
            },
            Ok(_) => Err("it is not a file".to_owned()),
            Err(cause) => Err(cause.to_string()),
        })?,
        proxy: optional(layers, "upstream.proxy", |text| {
            let proxy = upstream_http::ProxyConfig {
                setting: Some(text.to_owned()),
                ..Default::default()
            };
            proxy
                .check()
                .map(|()| text.to_owned())
                .map_err(|cause| cause.to_string())
        })?,
    })
}

/// The base address behind `crates.io` or `sparse+https://…/`.
fn sparse_base(text: &str) -> Result<String, String> {
    let url = if text == "crates.io" {
        tame_index::CRATES_IO_HTTP_INDEX
    } else {
        text
    };
    let fits = |base: &&str| {
        let rest = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
        authority(host).is_ok() && base.ends_with('/') && !base.contains(['?', '#', ' '])
    };
    url.strip_prefix("sparse+")
        .filter(fits)
        .map(str::to_owned)
        .ok_or_else(|| {
            "it should be crates.io, or an address such as sparse+https://host/index/ with a slash at its end"
                .to_owned()
        })
}

/// The address behind `crates.io` or an http(s) address of a git repository.
fn git_address(text: &str) -> Result<String, String> {
    let url = if text == "crates.io" {
        tame_index::CRATES_IO_INDEX
    } else {
        text
    };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    if authority(host).is_ok() && !url.contains(['?', '#', ' ']) {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    Err("it should be crates.io, or an http or https address of a git repository".to_owned())
}

#[cfg(test)]
mod tests;
