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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_refused_to_their_edges() {
        use Blocked::*;
        let table = [
            ("0.0.0.0", Some(Unspecified)),
            ("0.255.255.255", Some(Unspecified)),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.0", Some(Private)),
            ("10.255.255.255", Some(Private)),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some(CarrierNat)),
            ("100.127.255.255", Some(CarrierNat)),
            ("100.128.0.0", None),
            ("126.255.255.255", None),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.255", Some(Loopback)),
            ("169.253.255.255", None),
            ("169.254.169.254", Some(LinkLocal)),
            ("172.15.255.255", None),
            ("172.16.0.0", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("172.32.0.0", None),
            ("192.0.0.8", Some(Reserved)),
            ("192.0.2.1", Some(Documentation)),
            ("192.88.99.1", Some(Reserved)),
            ("192.168.0.0", Some(Private)),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.18.0.0", Some(Benchmarking)),
            ("198.19.255.255", Some(Benchmarking)),
            ("198.20.0.0", None),
            ("198.51.100.7", Some(Documentation)),
            ("203.0.113.7", Some(Documentation)),
            ("223.255.255.255", None),
            ("224.0.0.1", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("240.0.0.0", Some(Reserved)),
            ("255.255.255.255", Some(Broadcast)),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("::2", Some(Unspecified)),
            ("::127.0.0.1", Some(Loopback)),
            ("::ffff:10.0.0.1", Some(Private)),
            ("::ffff:a9fe:a9fe", Some(LinkLocal)),
            ("::ffff:8.8.8.8", None),
            ("::ffff:0:10.0.0.1", Some(Private)),
            ("64:ff9b::10.0.0.1", Some(Private)),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::1", Some(Reserved)),
            ("100::1", Some(Reserved)),
            ("2001::1", Some(Reserved)),
            ("2001:2::1", Some(Benchmarking)),
            ("2001:db8::1", Some(Documentation)),
            ("2001:4860:4860::8888", None),
            ("2002:7f00:1::", Some(Loopback)),
            ("2002:0808:0808::1", None),
            ("2600:9000::1", None),
            ("3fff::1", Some(Documentation)),
            ("4000::1", Some(Reserved)),
            ("5f00::1", Some(Reserved)),
            ("fc00::1", Some(UniqueLocal)),
            ("fdff::1", Some(UniqueLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("fec0::1", Some(SiteLocal)),
            ("ff02::1", Some(Multicast)),
        ];
        for (address, expected) in table {
            assert_eq!(blocked(address.parse().unwrap()), expected, "{address}");
        }
    }

    proptest! {
        #[test]
        fn what_std_calls_special_is_refused(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_broadcast()
                || address.is_documentation() || address.is_multicast() || address.is_unspecified();
            prop_assert!(!special || blocked(address.into()).is_some());
        }

        #[test]
        fn a_carried_address_is_as_public_as_by_itself(bits: u32) {
            let (high, low) = ((bits >> 16) as u16, bits as u16);
            let alone = blocked(IpAddr::V4(bits.into()));
            for carrier in [
                [0, 0, 0, 0, 0, 0xffff, high, low],
                [0x64, 0xff9b, 0, 0, 0, 0, high, low],
                [0x2002, high, low, 0, 0, 0, 0, 1],
            ] {
                prop_assert_eq!(blocked(IpAddr::V6(carrier.into())), alone);
            }
        }

        #[test]
        fn only_global_unicast_and_carriers_are_public(bits: u128) {
            let address = Ipv6Addr::from(bits);
            let global = address.segments()[0] & 0xe000 == 0x2000;
            prop_assert!(global || carried_v4(address).is_some() || blocked(address.into()).is_some());
        }
    }
}
