//! Decides which addresses are public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public, each with its description: IANA's special-purpose registry (RFC 6890 and its successors),
/// multicast and class E.
const V4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "private (carrier-grade NAT)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    // Azure's metadata and agent service, at an address that looks public.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud's metadata service"),
    // With the metadata service of most clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "reserved"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::BROADCAST, 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// The same for IPv6. Addresses outside of 2000::/3 are never public; these have a description.
const V6: &[(Ipv6Addr, u8, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, "reserved (IPv4-compatible)"),
    // Teredo, benchmarks, ORCHID and others.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "reserved (6to4)"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "private (site-local)"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// The prefix of NAT64 (RFC 6052): the last 32 bits are an IPv4 address. Networks without IPv4 reach all public IPv4 hosts so.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// The same for gateways of a local network (RFC 8215), which usually use its first 96 bits.
const LOCAL_NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 96);

/// The prefix of IPv4-compatible addresses: the last 32 bits are an IPv4 address.
const COMPATIBLE: (Ipv6Addr, u8) = (Ipv6Addr::UNSPECIFIED, 96);

/// The prefix of 6to4: the next 32 bits are an IPv4 address.
const SIX_TO_FOUR: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// The prefix of Teredo: the last 32 bits are the client's IPv4 address, inverted.
const TEREDO: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32);

/// The prefix of global unicast addresses.
const GLOBAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Describes an address that is not public; `None` for a public one.
pub(super) fn not_public(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

/// The IPv4 address to which an IPv6 address leads through a translator or a tunnel, if any.
pub(super) fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let bits = address.to_bits();
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(mapped);
    }
    if [NAT64, LOCAL_NAT64, COMPATIBLE].into_iter().any(|network| is_in(address, network)) {
        return Some(Ipv4Addr::from_bits(bits as u32));
    }
    if is_in(address, SIX_TO_FOUR) {
        return Some(Ipv4Addr::from_bits((bits >> 80) as u32));
    }
    is_in(address, TEREDO).then(|| Ipv4Addr::from_bits(!(bits as u32)))
}

fn v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    V4.iter()
        .find(|(network, length, _)| (bits ^ network.to_bits()) >> (32 - u32::from(*length)) == 0)
        .map(|(_, _, word)| *word)
}

fn v6(address: Ipv6Addr) -> Option<&'static str> {
    if is_in(address, NAT64) {
        return v4(Ipv4Addr::from_bits(address.to_bits() as u32));
    }
    let special = V6.iter().find(|(network, length, _)| is_in(address, (*network, *length)));
    match special {
        Some((_, _, word)) => Some(word),
        None if is_in(address, GLOBAL) => None,
        None => Some("reserved"),
    }
}

fn is_in(address: Ipv6Addr, (network, length): (Ipv6Addr, u8)) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (128 - u32::from(length)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(address: &str) -> Option<&'static str> {
        not_public(address.parse().unwrap())
    }

    #[test]
    fn the_edges_of_each_range_of_ipv4() {
        for (address, expected) in [
            ("0.0.0.0", Some("unspecified")),
            ("0.255.255.255", Some("unspecified")),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.0", Some("private")),
            ("10.255.255.255", Some("private")),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some("private (carrier-grade NAT)")),
            ("100.100.100.200", Some("private (carrier-grade NAT)")),
            ("100.127.255.255", Some("private (carrier-grade NAT)")),
            ("100.128.0.0", None),
            ("126.255.255.255", None),
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.255", Some("loopback")),
            ("128.0.0.0", None),
            ("168.63.129.15", None),
            ("168.63.129.16", Some("a cloud's metadata service")),
            ("168.63.129.17", None),
            ("169.253.255.255", None),
            ("169.254.169.254", Some("link-local")),
            ("169.255.0.0", None),
            ("172.15.255.255", None),
            ("172.16.0.0", Some("private")),
            ("172.31.255.255", Some("private")),
            ("172.32.0.0", None),
            ("191.255.255.255", None),
            ("192.0.0.192", Some("reserved")),
            ("192.0.1.0", None),
            ("192.0.2.1", Some("for documentation")),
            ("192.0.3.0", None),
            ("192.88.99.1", Some("reserved")),
            ("192.167.255.255", None),
            ("192.168.0.0", Some("private")),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.18.0.0", Some("for benchmarks")),
            ("198.19.255.255", Some("for benchmarks")),
            ("198.20.0.0", None),
            ("198.51.100.7", Some("for documentation")),
            ("203.0.113.7", Some("for documentation")),
            ("223.255.255.255", None),
            ("224.0.0.1", Some("multicast")),
            ("239.255.255.255", Some("multicast")),
            ("240.0.0.1", Some("reserved")),
            ("255.255.255.255", Some("broadcast")),
            ("8.8.8.8", None),
        ] {
            assert_eq!(word(address), expected, "{address}");
        }
    }

    #[test]
    fn the_edges_of_each_range_of_ipv6() {
        for (address, expected) in [
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::2", Some("reserved (IPv4-compatible)")),
            ("::8.8.8.8", Some("reserved (IPv4-compatible)")),
            ("::7f00:1", Some("reserved (IPv4-compatible)")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::ffff:10.1.2.3", Some("private")),
            ("::ffff:8.8.8.8", None),
            ("64:ff9b::127.0.0.1", Some("loopback")),
            ("64:ff9b::a9fe:a9fe", Some("link-local")),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::8.8.8.8", Some("reserved")),
            ("64:ff9b::1:0:8.8.8.8", Some("reserved")),
            ("100::1", Some("reserved")),
            ("1fff:ffff::", Some("reserved")),
            ("2000::", None),
            ("2001::1", Some("reserved")),
            ("2001:0:7f00:1::", Some("reserved")),
            ("2001:1ff:ffff::", Some("reserved")),
            ("2001:200::1", None),
            ("2001:db8::1", Some("for documentation")),
            ("2001:db9::1", None),
            ("2001:4860:4860::8888", None),
            ("2002:7f00:1::", Some("reserved (6to4)")),
            ("2002:808:808::1", Some("reserved (6to4)")),
            ("2003::1", None),
            ("2606:4700::1111", None),
            ("3ffe:ffff::1", None),
            ("3fff::1", Some("for documentation")),
            ("3fff:fff:ffff::", Some("for documentation")),
            ("3fff:1000::", None),
            ("4000::", Some("reserved")),
            ("5f00::1", Some("reserved")),
            ("fc00::1", Some("private")),
            ("fd00:ec2::254", Some("private")),
            ("fe80::1", Some("link-local")),
            ("febf::1", Some("link-local")),
            ("fec0::1", Some("private (site-local)")),
            ("ff02::1", Some("multicast")),
        ] {
            assert_eq!(word(address), expected, "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_is_found_in_an_ipv6_address() {
        for (address, expected) in [
            ("::ffff:8.8.4.4", Some("8.8.4.4")),
            ("::8.8.4.4", Some("8.8.4.4")),
            ("64:ff9b::8.8.4.4", Some("8.8.4.4")),
            ("64:ff9b:1::8.8.4.4", Some("8.8.4.4")),
            ("2002:808:404::1", Some("8.8.4.4")),
            // Teredo's client, inverted.
            ("2001:0:4136:e378:8000:63bf:f7f7:fbfb", Some("8.8.4.4")),
            ("2001:4860:4860::8888", None),
            ("8.8.4.4", None),
        ] {
            let expected = expected.map(|text| text.parse::<Ipv4Addr>().unwrap());
            assert_eq!(embedded(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn nothing_that_the_standard_library_calls_special_is_public() {
        // Every 65,536th address and its neighbours.
        for high in 0..=u16::MAX {
            for low in [0, 1, 0xfffe, 0xffff] {
                let address = Ipv4Addr::from_bits(u32::from(high) << 16 | low);
                let special = address.is_private()
                    || address.is_loopback()
                    || address.is_link_local()
                    || address.is_broadcast()
                    || address.is_documentation()
                    || address.is_multicast()
                    || address.is_unspecified();
                assert!(!special || not_public(address.into()).is_some(), "{address}");
                assert_eq!(
                    not_public(address.to_ipv6_mapped().into()),
                    not_public(address.into()),
                    "{address}"
                );
            }
        }
    }
}
