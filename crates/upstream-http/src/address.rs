//! Which addresses are public.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Why an address is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names of RFC 6890 and its successors")]
pub enum Blocked {
    Unspecified,
    Loopback,
    Private,
    LinkLocal,
    CarrierNat,
    Documentation,
    Benchmarking,
    Multicast,
    Broadcast,
    Reserved,
    UniqueLocal,
    SiteLocal,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::CarrierNat => "carrier-grade NAT",
            Self::Documentation => "for documentation",
            Self::Benchmarking => "for benchmarks",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Reserved => "reserved",
            Self::UniqueLocal => "unique local",
            Self::SiteLocal => "site-local",
        })
    }
}

/// Why an untrusted host may not have this address; `None` if the address is public.
///
/// IPv6 addresses that carry an IPv4 address (mapped, compatible, NAT64, 6to4) are as public as that is. Teredo, which hides its
/// address, is refused, as is everything outside 2000::/3.
pub fn blocked(address: IpAddr) -> Option<Blocked> {
    match address {
        IpAddr::V4(address) => blocked_v4(address),
        IpAddr::V6(address) => blocked_v6(address),
    }
}

fn blocked_v4(address: Ipv4Addr) -> Option<Blocked> {
    match address.octets() {
        [0, ..] => Some(Blocked::Unspecified),
        [127, ..] => Some(Blocked::Loopback),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some(Blocked::Private),
        [169, 254, ..] => Some(Blocked::LinkLocal),
        [100, 64..=127, ..] => Some(Blocked::CarrierNat),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some(Blocked::Documentation),
        [198, 18..=19, ..] => Some(Blocked::Benchmarking),
        [192, 0, 0, _] | [192, 88, 99, _] => Some(Blocked::Reserved),
        [224..=239, ..] => Some(Blocked::Multicast),
        [255, 255, 255, 255] => Some(Blocked::Broadcast),
        [240..=255, ..] => Some(Blocked::Reserved),
        _ => None,
    }
}

fn blocked_v6(address: Ipv6Addr) -> Option<Blocked> {
    if address.is_unspecified() {
        return Some(Blocked::Unspecified);
    }
    if address.is_loopback() {
        return Some(Blocked::Loopback);
    }
    if let Some(carried) = carried_v4(address) {
        return blocked_v4(carried);
    }
    match address.segments() {
        [0xfc00..=0xfdff, ..] => Some(Blocked::UniqueLocal),
        [0xfe80..=0xfebf, ..] => Some(Blocked::LinkLocal),
        [0xfec0..=0xfeff, ..] => Some(Blocked::SiteLocal),
        [0xff00..=0xffff, ..] => Some(Blocked::Multicast),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some(Blocked::Documentation),
        [0x2001, 2, 0, ..] => Some(Blocked::Benchmarking),
        // Protocol assignments: Teredo, ORCHID and the like.
        [0x2001, 0..=0x1ff, ..] => Some(Blocked::Reserved),
        [0x2000..=0x3fff, ..] => None,
        _ => Some(Blocked::Reserved),
    }
}

/// The IPv4 address that a gateway or the kernel would take the packets to.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => from(high, low),
        // IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0, high, low] => from(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => from(high, low),
        [0x2002, high, low, ..] => from(high, low),
        _ => None,
    }
}
