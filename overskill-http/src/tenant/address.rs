//! Which addresses a tenant's URL may lead to.

use overskill_core::ParseError;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Which addresses may be connected to: public ones, and what [`allow`](AddressPolicy::allow) adds.
///
/// Refused is all that the IANA special-purpose registries (RFC 6890 and its successors) do not call globally
/// reachable, all that carries another address inside it (mapped, NAT64, 6to4, Teredo), everything of IPv6 outside
/// `2000::/3`, which is all that is given out, and the metadata services of the clouds.
///
/// ```
/// use overskill_http::{AddressPolicy, Refused};
///
/// let policy = AddressPolicy::public();
/// assert_eq!(policy.check("93.184.215.14".parse()?), Ok(()));
/// assert_eq!(policy.check("10.0.0.1".parse()?), Err(Refused::Private));
/// assert_eq!(policy.check("::ffff:10.0.0.1".parse()?), Err(Refused::Embeds));
/// assert_eq!(policy.check("169.254.169.254".parse()?), Err(Refused::Metadata));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    allowed: Vec<Network>,
}

impl AddressPolicy {
    /// Public addresses only.
    pub fn public() -> Self {
        Self::default()
    }

    /// Also a network, such as `"10.20.0.0/16"` or `"127.0.0.1"`: services of one's own that tenants may reach, servers
    /// of tests. Metadata services stay refused, even inside it.
    pub fn allow(mut self, network: &str) -> Result<Self, ParseError> {
        self.allowed.push(Network::parse(network)?);
        Ok(self)
    }

    /// Whether the address may be connected to.
    pub fn check(&self, ip: IpAddr) -> Result<(), Refused> {
        let refused = |(_, why): &(Network, Refused)| *why;
        if METADATA.iter().any(|(network, _)| network.contains(ip)) {
            return Err(Refused::Metadata);
        }
        if self.allowed.iter().any(|network| network.contains(ip)) {
            return Ok(());
        }
        if let Some(why) = SPECIAL.iter().find(|(n, _)| n.contains(ip)).map(refused) {
            return Err(why);
        }
        match ip {
            IpAddr::V6(_) if !GLOBAL_UNICAST.contains(ip) => Err(Refused::Reserved),
            // An ISATAP address ends in an IPv4 address (RFC 5214 § 6.1).
            IpAddr::V6(v6) if matches!(v6.segments()[4..6], [0 | 0x0200, 0x5efe]) => Err(Refused::Embeds),
            IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
        }
    }
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// "This host" or "this network".
    Unspecified,
    /// This machine.
    Loopback,
    /// A private network, ULA and IPv6's former site-local addresses included.
    Private,
    /// This link only.
    LinkLocal,
    /// Between a provider and its customers (CGNAT).
    Shared,
    /// Kept for protocols, such as 192.0.0.0/24 and ORCHID.
    Protocol,
    /// Kept for measurements.
    Benchmarking,
    /// Kept for examples.
    Documentation,
    /// To many at once.
    Multicast,
    /// Reserved or not given out.
    Reserved,
    /// Carries another address inside it, which the check would not see.
    Embeds,
    /// The metadata service of a cloud: it hands out credentials.
    Metadata,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Shared => "shared (CGNAT)",
            Self::Protocol => "kept for protocols",
            Self::Benchmarking => "kept for benchmarking",
            Self::Documentation => "kept for documentation",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Embeds => "an address inside another",
            Self::Metadata => "a metadata service",
        })
    }
}

/// A network: an address, as the 128 bits of its IPv6 form, and how many of its bits count.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Network {
    bits: u128,
    mask: u128,
    v4: bool,
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u32) -> Self {
        let bits = Ipv4Addr::new(a, b, c, d).to_bits() as u128;
        Self::new(bits, 96 + prefix, true)
    }

    const fn v6(a: u16, b: u16, c: u16, prefix: u32) -> Self {
        Self::new(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_bits(), prefix, false)
    }

    const fn host6(a: u16, b: u16, h: u16) -> Self {
        Self::new(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, h).to_bits(), 128, false)
    }

    const fn new(bits: u128, prefix: u32, v4: bool) -> Self {
        let mask = match u128::MAX.checked_shl(128 - prefix) {
            Some(mask) => mask,
            None => 0,
        };
        Self { bits: bits & mask, mask, v4 }
    }

    fn contains(self, ip: IpAddr) -> bool {
        let bits = match ip {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        ip.is_ipv4() == self.v4 && bits & self.mask == self.bits
    }

    fn parse(text: &str) -> Result<Self, ParseError> {
        let refuse = || {
            let rule = "must be an address with an optional prefix length, such as 10.20.0.0/16";
            ParseError::new("allowed network", rule, text)
        };
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix.parse::<u32>().map_err(|_| refuse())?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| refuse())?;
        let (bits, width) = match ip {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        match prefix.unwrap_or(width) {
            prefix if prefix <= width => Ok(Self::new(bits, 128 - width + prefix, ip.is_ipv4())),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.mask.count_ones();
        let v6 = Ipv6Addr::from_bits(self.bits);
        match (self.v4, u32::try_from(self.bits)) {
            (true, Ok(bits)) => write!(f, "{}/{}", Ipv4Addr::from_bits(bits), prefix - 96),
            _ => write!(f, "{v6}/{prefix}"),
        }
    }
}

/// All of IPv6 that is given out as global unicast (IANA IPv6 address space registry).
const GLOBAL_UNICAST: Network = Network::v6(0x2000, 0, 0, 3);

/// IANA's special-purpose address registries, IPv4 and IPv6, with what they call not globally reachable, and what
/// embeds another address.
const SPECIAL: [(Network, Refused); 35] = [
    (Network::v4(0, 0, 0, 0, 8), Refused::Unspecified),
    (Network::v4(10, 0, 0, 0, 8), Refused::Private),
    (Network::v4(100, 64, 0, 0, 10), Refused::Shared),
    (Network::v4(127, 0, 0, 0, 8), Refused::Loopback),
    (Network::v4(169, 254, 0, 0, 16), Refused::LinkLocal),
    (Network::v4(172, 16, 0, 0, 12), Refused::Private),
    (Network::v4(192, 0, 0, 0, 24), Refused::Protocol),
    (Network::v4(192, 0, 2, 0, 24), Refused::Documentation),
    (Network::v4(192, 88, 99, 0, 24), Refused::Embeds), // 6to4 relays
    (Network::v4(192, 168, 0, 0, 16), Refused::Private),
    (Network::v4(198, 18, 0, 0, 15), Refused::Benchmarking),
    (Network::v4(198, 51, 100, 0, 24), Refused::Documentation),
    (Network::v4(203, 0, 113, 0, 24), Refused::Documentation),
    (Network::v4(224, 0, 0, 0, 4), Refused::Multicast),
    (Network::v4(240, 0, 0, 0, 4), Refused::Reserved), // broadcast too
    (Network::host6(0, 0, 0), Refused::Unspecified),
    (Network::host6(0, 0, 1), Refused::Loopback),
    (Network::new(0, 96, false), Refused::Embeds), // IPv4-compatible
    (Network::new(0xffff_0000_0000, 96, false), Refused::Embeds), // IPv4-mapped
    (Network::new(0xffff_0000_0000_0000, 96, false), Refused::Embeds), // IPv4-translated
    (Network::v6(0x64, 0xff9b, 0, 96), Refused::Embeds), // NAT64
    (Network::v6(0x64, 0xff9b, 1, 48), Refused::Embeds), // local NAT64
    (Network::v6(0x100, 0, 0, 64), Refused::Reserved), // discard-only
    (Network::v6(0x2001, 0, 0, 32), Refused::Embeds), // Teredo
    (Network::v6(0x2001, 2, 0, 48), Refused::Benchmarking),
    (Network::v6(0x2001, 0, 0, 23), Refused::Protocol), // ORCHID and other protocols
    (Network::v6(0x2001, 0xdb8, 0, 32), Refused::Documentation),
    (Network::v6(0x2002, 0, 0, 16), Refused::Embeds), // 6to4
    (Network::v6(0x3fff, 0, 0, 20), Refused::Documentation),
    (Network::v6(0x3ffe, 0, 0, 16), Refused::Reserved), // the 6bone, given back
    (Network::v6(0x5f00, 0, 0, 16), Refused::Protocol), // SRv6 segments
    (Network::v6(0xfc00, 0, 0, 7), Refused::Private),
    (Network::v6(0xfe80, 0, 0, 10), Refused::LinkLocal),
    (Network::v6(0xfec0, 0, 0, 10), Refused::Private), // site-local
    (Network::v6(0xff00, 0, 0, 8), Refused::Multicast),
];

/// Metadata services, whatever network they are in.
const METADATA: [(Network, &str); 9] = [
    (Network::v4(169, 254, 169, 254, 32), "AWS, Azure, Google and most others"),
    (Network::v4(169, 254, 170, 2, 32), "AWS container credentials"),
    (Network::v4(169, 254, 170, 23, 32), "AWS pod identity"),
    (Network::v4(168, 63, 129, 16, 32), "Azure's host, in public space"),
    (Network::v4(100, 100, 100, 200, 32), "Alibaba"),
    (Network::v4(192, 0, 0, 192, 32), "Oracle"),
    (Network::host6(0xfd00, 0xec2, 0x254), "AWS"),
    (Network::host6(0xfd00, 0xec2, 0x23), "AWS pod identity"),
    (Network::host6(0xfd20, 0xce, 0x254), "Google"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(ip: &str) -> Result<(), Refused> {
        AddressPolicy::public().check(ip.parse().unwrap())
    }

    #[test]
    fn each_network_is_refused_from_its_first_to_its_last_address() {
        for (network, _) in SPECIAL {
            for bits in [network.bits, network.bits | !network.mask] {
                let ip = if network.v4 {
                    IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap()))
                } else {
                    IpAddr::V6(Ipv6Addr::from_bits(bits))
                };
                assert!(AddressPolicy::public().check(ip).is_err(), "{ip} of {network:?}");
            }
        }
    }

    #[test]
    fn neighbours_of_refused_networks_are_let_through() {
        for ip in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "8.8.8.8",
            "168.63.129.15",
            "2000::",
            "2001:200::",
            "2001:db7:ffff::1",
            "2001:db9::",
            "2003::",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "3ffd::1",
        ] {
            assert_eq!(check(ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn reasons_are_told() {
        for (ip, why) in [
            ("0.0.0.0", Refused::Unspecified),
            ("127.1.2.3", Refused::Loopback),
            ("100.64.0.1", Refused::Shared),
            ("255.255.255.255", Refused::Reserved),
            ("169.254.169.254", Refused::Metadata),
            ("168.63.129.16", Refused::Metadata),
            ("fd00:ec2::254", Refused::Metadata),
            ("::", Refused::Unspecified),
            ("::1", Refused::Loopback),
            ("::127.0.0.1", Refused::Embeds),
            ("::ffff:8.8.8.8", Refused::Embeds),
            ("64:ff9b::8.8.8.8", Refused::Embeds),
            ("64:ff9b:1::1", Refused::Embeds),
            ("2002:7f00:1::", Refused::Embeds),
            ("2001::1", Refused::Embeds),
            ("2001:10::1", Refused::Protocol),
            ("2001:20::1", Refused::Protocol),
            ("2606:4700::5efe:127.0.0.1", Refused::Embeds),
            ("fec0::1", Refused::Private),
            ("4000::1", Refused::Reserved),
        ] {
            assert_eq!(check(ip), Err(why), "{ip}");
        }
    }

    #[test]
    fn exceptions_reach_no_further_than_they_say_and_never_to_metadata() {
        let policy = AddressPolicy::public()
            .allow("10.1.0.0/16")
            .and_then(|p| p.allow("fd00::/8"))
            .and_then(|p| p.allow("169.254.0.0/16"))
            .and_then(|p| p.allow("127.0.0.1"))
            .unwrap();
        for (ip, ok) in [
            ("10.1.2.3", true),
            ("10.2.0.0", false),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("fd12::1", true),
            ("fd00:ec2::254", false),
            ("169.254.1.1", true),
            ("169.254.169.254", false),
            ("::ffff:10.1.2.3", false),
        ] {
            assert_eq!(policy.check(ip.parse().unwrap()).is_ok(), ok, "{ip}");
        }
        assert!(format!("{policy:?}").contains("10.1.0.0/16"));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/x", "localhost"] {
            assert!(AddressPolicy::public().allow(bad).is_err(), "{bad}");
        }
    }

    /// An independent list: what the registries and RFCs say, as text, matched bit by bit.
    const ORACLE: &str = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 \
        192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 \
        240.0.0.0/4 168.63.129.16/32 ::/3 2001::/23 2001:db8::/32 2002::/16 3ffe::/16 3fff::/20 4000::/2 8000::/1";

    fn oracle_refuses(ip: IpAddr) -> bool {
        ORACLE.split_whitespace().any(|network| {
            let (base, prefix) = network.split_once('/').unwrap();
            let prefix: usize = prefix.parse().unwrap();
            let bits = |ip: IpAddr| -> String {
                match ip {
                    IpAddr::V4(v4) => format!("{:032b}", v4.to_bits()),
                    IpAddr::V6(v6) => format!("{:0128b}", v6.to_bits()),
                }
            };
            let (base, ip) = (bits(base.parse().unwrap()), bits(ip));
            base.len() == ip.len() && base[..prefix] == ip[..prefix]
        })
    }

    fn std_refuses(ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => {
                v4.is_unspecified()
                    || v4.is_loopback()
                    || v4.is_private()
                    || v4.is_link_local()
                    || v4.is_broadcast()
                    || v4.is_documentation()
                    || v4.is_multicast()
            }
            IpAddr::V6(v6) => {
                v6.is_unspecified()
                    || v6.is_loopback()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local()
                    || v6.is_multicast()
                    || v6.to_ipv4().is_some()
            }
        }
    }

    fn v6() -> impl Strategy<Value = u128> {
        // Mostly near what is special: a random address hardly ever is.
        let heads = prop::sample::select(SPECIAL.map(|(n, _)| (n.bits, n.mask)).to_vec());
        prop_oneof![
            any::<u128>(),
            any::<u128>().prop_map(|bits| bits >> 3 | 0x2000 << 112),
            (heads, any::<u128>()).prop_map(|((bits, mask), low)| bits | low & !mask),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn ipv4_agrees_with_the_registry_and_std(bits: u32) {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(bits));
            let refused = AddressPolicy::public().check(ip).is_err();
            prop_assert_eq!(refused, oracle_refuses(ip), "{}", ip);
            prop_assert!(refused || !std_refuses(ip), "{}", ip);
        }

        #[test]
        fn ipv6_agrees_with_the_registry_and_std(bits in v6()) {
            let v6 = Ipv6Addr::from_bits(bits);
            prop_assume!(!matches!(v6.segments()[4..6], [0 | 0x0200, 0x5efe]));
            let ip = IpAddr::V6(v6);
            let refused = AddressPolicy::public().check(ip).is_err();
            prop_assert_eq!(refused, oracle_refuses(ip), "{}", ip);
            prop_assert!(refused || !std_refuses(ip), "{}", ip);
        }

        #[test]
        fn nothing_that_carries_an_ipv4_address_is_let_through(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = v4.octets();
            let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
            for form in [
                format!("::ffff:{v4}"),
                format!("::{v4}"),
                format!("::ffff:0:{v4}"),
                format!("64:ff9b::{v4}"),
                format!("64:ff9b:1::{v4}"),
                format!("2002:{hex}::1"),
                format!("2001:0:{hex}::1"),
                format!("2606:4700::5efe:{v4}"),
            ] {
                prop_assert!(check(&form).is_err(), "{}", form);
            }
        }
    }
}
