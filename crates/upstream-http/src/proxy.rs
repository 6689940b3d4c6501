//! Which proxy a request goes through, if any.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{Authority, Error, UpstreamUrl, no_proxy::NoProxy};

/// What curl, and so cargo and git, take for a proxy without a port.
const DEFAULT_PORT: u16 = 1080;

/// Where proxies come from. The setting beats the environment; `NO_PROXY` holds for both.
#[derive(Clone, Default)]
pub struct ProxyConfig {
    /// `upstream.proxy`.
    pub setting: Option<String>,
    /// What the environment says.
    pub environment: EnvProxies,
}

impl ProxyConfig {
    /// Whether these can be used, before anything is started.
    ///
    /// # Errors
    /// [`Error::ProxySetting`].
    pub fn check(&self) -> Result<(), Error> {
        Proxies::new(self).map(drop)
    }
}

impl fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value may hold a password.
        f.debug_struct("ProxyConfig")
            .field("setting", &self.setting.is_some())
            .field("environment", &self.environment)
            .finish()
    }
}

/// The proxy variables of an environment. This crate never reads it by itself.
#[derive(Clone, Default)]
pub struct EnvProxies {
    /// `https_proxy` or `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `http_proxy` or `HTTP_PROXY`.
    pub http: Option<String>,
    /// `all_proxy` or `ALL_PROXY`.
    pub all: Option<String>,
    /// `no_proxy` or `NO_PROXY`.
    pub no_proxy: Option<String>,
}

impl EnvProxies {
    /// Picks the variables out of an environment. Lower case wins; empty ones count as unset. Where `REQUEST_METHOD` is set, `HTTP_PROXY` may
    /// be a client's `Proxy` header (httpoxy) and is ignored.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let exact = |name: &str| {
            let found = pairs.iter().find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let either = |name: &str| exact(name).or_else(|| exact(&name.to_ascii_uppercase()));
        let cgi = pairs.iter().any(|(key, _)| key == "REQUEST_METHOD");
        Self {
            https: either("https_proxy"),
            http: if cgi { exact("http_proxy") } else { either("http_proxy") },
            all: either("all_proxy"),
            no_proxy: either("no_proxy"),
        }
    }
}

impl fmt::Debug for EnvProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may hold passwords.
        f.debug_struct("EnvProxies")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .field("all", &self.all.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// An HTTP proxy. Shown without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    authority: Authority,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

impl Proxy {
    /// Where it listens.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// `[http://][user[:password]@]host[:port][/]`, user and password percent-encoded.
    fn parse(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => return Err(format!("only http:// proxies are possible, not {scheme}://")),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, rest),
        };
        let authorization = credentials.map(|credentials| {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            let mut plain = percent_decoded(user);
            plain.push(b':');
            plain.extend(percent_decoded(password));
            format!("Basic {}", BASE64_STANDARD.encode(plain))
        });
        Ok(Self {
            authority: Authority::parse(host, Some(DEFAULT_PORT))?,
            authorization,
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// How a request travels, and why so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyChoice {
    /// Straight to upstream.
    Direct {
        /// Why, as a fragment for `mirror doctor`.
        reason: String,
    },
    /// Through a proxy.
    Via {
        /// Which one.
        proxy: Proxy,
        /// Why, as a fragment for `mirror doctor`.
        reason: String,
    },
}

impl ProxyChoice {
    /// The proxy, if there is one.
    pub fn proxy(&self) -> Option<&Proxy> {
        match self {
            Self::Direct { .. } => None,
            Self::Via { proxy, .. } => Some(proxy),
        }
    }
}

impl fmt::Display for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct { reason } => write!(f, "direct ({reason})"),
            Self::Via { proxy, reason } => write!(f, "via {proxy} ({reason})"),
        }
    }
}

/// The settings, parsed.
#[derive(Debug)]
pub(crate) struct Proxies {
    https: Option<(Proxy, &'static str)>,
    http: Option<(Proxy, &'static str)>,
    no_proxy: NoProxy,
}

impl Proxies {
    pub(crate) fn new(config: &ProxyConfig) -> Result<Self, Error> {
        let environment = &config.environment;
        let setting = ("upstream.proxy", &config.setting);
        let all = ("ALL_PROXY", &environment.all);
        Ok(Self {
            https: first([setting, ("HTTPS_PROXY", &environment.https), all])?,
            http: first([setting, ("HTTP_PROXY", &environment.http), all])?,
            no_proxy: NoProxy::parse(environment.no_proxy.as_deref().unwrap_or_default()),
        })
    }

    pub(crate) fn choose(&self, url: &UpstreamUrl) -> ProxyChoice {
        let configured = if url.is_https() { &self.https } else { &self.http };
        let Some((proxy, source)) = configured else {
            let reason = "no proxy is configured".to_owned();
            return ProxyChoice::Direct { reason };
        };
        match self.no_proxy.matching(url.authority()) {
            Some(entry) => ProxyChoice::Direct {
                reason: format!("NO_PROXY has {entry}"),
            },
            None => ProxyChoice::Via {
                proxy: proxy.clone(),
                reason: format!("from {source}"),
            },
        }
    }
}

/// Only the one that counts is parsed: a SOCKS proxy in `ALL_PROXY` does no harm beside the others.
fn first(candidates: [(&'static str, &Option<String>); 3]) -> Result<Option<(Proxy, &'static str)>, Error> {
    let set = |(setting, value): (&'static str, &Option<String>)| {
        let value = value.as_deref().map(str::trim).filter(|value| !value.is_empty())?;
        Some((setting, value.to_owned()))
    };
    let Some((setting, value)) = candidates.into_iter().find_map(set) else {
        return Ok(None);
    };
    let proxy = Proxy::parse(&value).map_err(|reason| Error::ProxySetting { setting, reason })?;
    Ok(Some((proxy, setting)))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let pair = (ahead.next().and_then(hex), ahead.next().and_then(hex));
        match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                decoded.push(high * 16 + low);
                bytes = ahead;
            }
            _ => decoded.push(byte),
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
