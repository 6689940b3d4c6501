//! `NO_PROXY`: who is asked directly.

use std::net::IpAddr;

use crate::Authority;

/// The entries of `NO_PROXY`; white space and commas separate them.
#[derive(Clone, Debug, Default)]
pub(crate) struct NoProxy(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    written: String,
    port: Option<u16>,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    All,
    /// The host itself and everything below it.
    Domain(String),
    Network(IpAddr, u8),
}

impl NoProxy {
    pub(crate) fn parse(text: &str) -> Self {
        let entries = text.split([',', ' ', '\t', '\n']);
        Self(entries.filter(|entry| !entry.is_empty()).map(Entry::parse).collect())
    }

    /// The entry, as it was written, that this authority falls under.
    pub(crate) fn matching(&self, authority: &Authority) -> Option<&str> {
        let found = self.0.iter().find(|entry| entry.covers(authority))?;
        Some(&found.written)
    }
}

impl Entry {
    fn parse(written: &str) -> Self {
        let (host, port) = split_port(written);
        Self {
            written: written.to_owned(),
            port,
            rule: Rule::parse(host),
        }
    }

    fn covers(&self, authority: &Authority) -> bool {
        if self.port.is_some_and(|port| port != authority.port()) {
            return false;
        }
        match &self.rule {
            Rule::All => true,
            Rule::Domain(domain) => match authority.host().strip_suffix(domain.as_str()) {
                Some(before) => before.is_empty() || before.ends_with('.'),
                None => false,
            },
            Rule::Network(network, bits) => authority.ip().is_some_and(|ip| within(ip, *network, *bits)),
        }
    }
}

impl Rule {
    fn parse(host: &str) -> Self {
        let host = host.trim_start_matches("*.");
        if host == "*" {
            return Self::All;
        }
        let (address, bits) = match host.split_once('/') {
            Some((address, bits)) => (address, bits.parse().ok()),
            None => (host, None),
        };
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        match bare.parse() {
            Ok(ip) => Self::Network(ip, bits.unwrap_or(128)),
            Err(_) => Self::Domain(host.trim_matches('.').to_ascii_lowercase()),
        }
    }
}

/// A bare IPv6 address has colons but no port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() || entry.contains('/') {
        return (entry, None);
    }
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    }
}

fn within(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let shift = 32 - u32::from(bits.min(32));
            let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
            (u32::from(ip) ^ u32::from(network)) & mask == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let shift = 128 - u32::from(bits.min(128));
            let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
            (u128::from(ip) ^ u128::from(network)) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_cover_what_curl_and_git_make_of_them() {
        let table = [
            ("*", "registry.example:443", true),
            ("registry.example", "registry.example:443", true),
            ("Registry.Example", "registry.example:443", true),
            ("example", "registry.example:443", true),
            (".example", "registry.example:443", true),
            ("*.example", "registry.example:443", true),
            (".registry.example", "registry.example:443", true),
            ("ample", "registry.example:443", false),
            ("registry.example.org", "registry.example:443", false),
            ("registry.example:443", "registry.example:443", true),
            ("registry.example:8443", "registry.example:443", false),
            ("other, registry.example", "registry.example:443", true),
            ("other registry.example", "registry.example:443", true),
            ("", "registry.example:443", false),
            (",,", "registry.example:443", false),
            ("127.0.0.1", "127.0.0.1:80", true),
            ("127.0.0.1:81", "127.0.0.1:80", false),
            ("127.0.0.0/8", "127.9.9.9:80", true),
            ("10.0.0.0/8", "127.9.9.9:80", false),
            ("0.0.0.0/0", "127.9.9.9:80", true),
            ("10.0.0.0/8", "ten.example:80", false),
            ("::1", "[::1]:80", true),
            ("[::1]", "[::1]:80", true),
            ("[::1]:80", "[::1]:80", true),
            ("[::1]:81", "[::1]:80", false),
            ("fd00::/8", "[fd12::1]:80", true),
            ("fd00::/8", "[fe80::1]:80", false),
            ("::/0", "127.0.0.1:80", false),
        ];
        for (entries, authority, expected) in table {
            let covered = NoProxy::parse(entries).matching(&authority.parse().unwrap()).is_some();
            assert_eq!(covered, expected, "{entries:?} for {authority}");
        }
    }
}
