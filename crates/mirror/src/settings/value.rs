use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// Why a text is not a value of its kind: a phrase that reads well after "`KEY` is `TEXT`:".
pub type Wrong = String;

/// Reads `90s`, `15m`, `2h`, `1d` or `500ms`.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || "it should be a time such as 60s, 15m or 2h".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads a time that is waited for again and again: at least a second.
pub fn interval(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        interval if interval < Duration::from_secs(1) => Err("it should be at least 1s".to_owned()),
        interval => Ok(interval),
    }
}

/// Reads `512MiB`, `10GB`, or a plain number of bytes.
pub fn size_bytes(text: &str) -> Result<u64, Wrong> {
    let wrong = || "it should be a size such as 512MiB or 20GB".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Reads `true` or `false`.
pub fn truth(text: &str) -> Result<bool, Wrong> {
    text.parse().map_err(|_| "it should be true or false".to_owned())
}

/// Reads a number of at least one.
pub fn count(text: &str) -> Result<usize, Wrong> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("it should be a whole number from 1 to {}", usize::MAX)),
    }
}

/// Reads a number; 0 means none.
pub fn count_or_none(text: &str) -> Result<usize, Wrong> {
    text.parse()
        .map_err(|_| format!("it should be a whole number from 0 to {}", usize::MAX))
}

/// Reads one or more addresses to listen on, with commas between.
pub fn listen(text: &str) -> Result<Vec<SocketAddr>, Wrong> {
    let read = |part: &str| {
        let part = part.trim().replace("localhost:", "127.0.0.1:");
        part.parse()
            .map_err(|_| "it should be an address and a port such as 127.0.0.1:8080 or [::]:8080".to_owned())
    };
    text.split(',').map(read).collect()
}

/// What stands first in the mirror's own addresses; a `public_url` whose path began so would hide them.
const ROUTES: [&str; 11] = [
    "index",
    "git",
    "api",
    "assets",
    "crates",
    "search",
    "status",
    "help",
    "config.toml",
    "healthz",
    "readyz",
];

/// The address that clients reach the mirror by: http or https, a host, perhaps a port and a path; no slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path in it, empty or with a slash at its beginning.
    pub fn path(&self) -> &str {
        let authority = self.0.find("://").map_or(0, |at| at + 3);
        self.0[authority..].find('/').map_or("", |at| &self.0[authority + at..])
    }
}

impl FromStr for PublicUrl {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wrong = || "it should be an address such as https://mirror.example or http://host:8080/rust".to_owned();
        let url = text.trim_end_matches('/');
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"))
            .ok_or_else(wrong)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        let odd = |part: &str| matches!(part, "" | "." | "..");
        let first = path.split('/').next().unwrap_or_default();
        if ROUTES.contains(&first) {
            return Err(format!(
                "its path begins with `/{first}`, which is one of the mirror's own"
            ));
        }
        if authority(host).is_err() || !path.chars().all(plain) || (!path.is_empty() && path.split('/').any(odd)) {
            return Err(wrong());
        }
        Ok(Self(url.to_owned()))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks that `text` is a host and perhaps a port, at most 255 bytes, and nothing else: what a `Host` header may say.
pub fn authority(text: &str) -> Result<(), Wrong> {
    let wrong = || "it is not a host with an optional port".to_owned();
    if text.is_empty() || text.len() > 255 {
        return Err(wrong());
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']').ok_or_else(wrong)?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
            ("", after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let host_fits = text.starts_with('[')
        || (!host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)));
    if port_fits && host_fits { Ok(()) } else { Err(wrong()) }
}

/// Who may name the client's scheme: none, the peer that connects, or addresses and networks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    networks: Vec<(IpAddr, u8)>,
    peer: bool,
}

impl TrustedProxies {
    /// Any peer that connects: the platform's router, where the platform gave the port.
    pub fn whoever_connects() -> Self {
        Self {
            networks: Vec::new(),
            peer: true,
        }
    }

    /// Whether what `peer` says about its client is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.peer || self.lists(peer.to_canonical())
    }

    /// The client behind `peer`, by what `X-Forwarded-For` lists, nearest last: the nearest that is no trusted proxy itself.
    /// What stands before that one is hearsay.
    pub fn client(&self, peer: IpAddr, forwarded: &[&str]) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        for named in forwarded.iter().rev() {
            let Some(address) = forwarded_address(named) else {
                break;
            };
            client = address.to_canonical();
            if !self.lists(client) {
                break;
            }
        }
        client
    }

    fn lists(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|(network, bits)| within(address, *network, *bits))
    }
}

/// An address as proxies write it, some with a port.
fn forwarded_address(named: &str) -> Option<IpAddr> {
    let named = named.trim();
    let with_port = || named.parse::<SocketAddr>().ok().map(|address| address.ip());
    named.parse().ok().or_else(with_port)
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let shift = 32 - u32::from(bits.min(32));
            u32::from(a).checked_shr(shift) == u32::from(n).checked_shr(shift)
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let shift = 128 - u32::from(bits.min(128));
            u128::from(a).checked_shr(shift) == u128::from(n).checked_shr(shift)
        }
        _ => false,
    }
}

impl FromStr for TrustedProxies {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wrong = || "it should be addresses or networks such as 10.0.0.7 or 10.0.0.0/8".to_owned();
        let mut networks = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (address, bits) = part.split_once('/').map_or((part, None), |(a, b)| (a, Some(b)));
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
            if bits > most {
                return Err(wrong());
            }
            networks.push((address, bits));
        }
        Ok(Self { networks, peer: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_and_sizes() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(size_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(size_bytes("20 gb"), Ok(20_000_000_000));
        assert_eq!(size_bytes("7"), Ok(7));
        for bad in [
            "",
            "60",
            "s",
            "-1s",
            "1.5h",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(bad).is_err(), "{bad:?} was taken");
        }
        for bad in ["", "MiB", "-1", "1.5GB", "1XB", "99999999999999TiB"] {
            assert!(size_bytes(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn reads_words_and_numbers() {
        assert_eq!(
            (truth("true"), truth("false"), count("16")),
            (Ok(true), Ok(false), Ok(16))
        );
        assert!(truth("yes").is_err() && count("0").is_err() && count("-1").is_err() && count("").is_err());
    }

    #[test]
    fn reads_addresses() {
        assert_eq!(listen("127.0.0.1:0, [::1]:80").unwrap().len(), 2);
        for bad in ["", "8080", "host:80", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(listen(bad).is_err(), "{bad:?} was taken");
        }
        for good in ["a", "a.b:80", "127.0.0.1:8080", "[::1]:80", "[::1]", "x_y"] {
            assert!(authority(good).is_ok(), "{good:?} was refused");
        }
        let long = "a".repeat(256);
        for bad in [
            "", ":80", "a:b", "a b", "a/b", "a@b", "[::1", "[x]:1", "a:1:2", "é", "a\"b", "a:70000", &long,
        ] {
            assert!(authority(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn reads_public_urls() {
        let url: PublicUrl = "https://h.example:8443/rust/".parse().unwrap();
        assert_eq!((url.as_str(), url.path()), ("https://h.example:8443/rust", "/rust"));
        assert_eq!("http://h".parse::<PublicUrl>().unwrap().path(), "");
        for bad in [
            "",
            "h",
            "ftp://h",
            "http://",
            "http://u:p@h",
            "http://h/?q",
            "http://h/#f",
            "http://h/a b",
            "http://h/../x",
            "http://h//x",
            "http://h/./x",
            "http://h/index",
            "http://h/api/x",
        ] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn believes_only_whom_it_was_told_to() {
        let some: TrustedProxies = "10.0.0.0/8, 192.168.1.1, fd00::/8".parse().unwrap();
        let trusts = |ip: &str| some.trusts(ip.parse().unwrap());
        assert!(trusts("10.1.2.3") && trusts("192.168.1.1") && trusts("fd12::1") && trusts("::ffff:10.0.0.1"));
        assert!(!trusts("11.0.0.1") && !trusts("192.168.1.2") && !trusts("fe80::1"));
        assert!(
            "0.0.0.0/0"
                .parse::<TrustedProxies>()
                .unwrap()
                .trusts("1.2.3.4".parse().unwrap())
        );
        assert!(!TrustedProxies::default().trusts("127.0.0.1".parse().unwrap()));
        assert!(TrustedProxies::whoever_connects().trusts("1.2.3.4".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<TrustedProxies>().is_err() && "x".parse::<TrustedProxies>().is_err());
    }
}
