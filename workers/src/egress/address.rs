//! Which hosts, addresses and ports may be called.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

use super::Refusal;

/// What kind of place an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Public,
    Loopback,
    /// RFC 1918, carrier-grade NAT, unique local IPv6.
    Private,
    /// 169.254.0.0/16, fe80::/10: also where most clouds answer for credentials.
    LinkLocal,
    /// A cloud's own service at an address that looks public.
    Metadata,
    Multicast,
    Broadcast,
    Documentation,
    Benchmarking,
    Unspecified,
    /// Not in use for hosts: old, future or translated ranges.
    Reserved,
}

/// An entry of the allow-list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Allowed {
    Name(String),
    /// Every name below this one.
    Below(String),
    Network(IpNet),
}

/// What is neither a host name nor an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a host name, nor `*.` and a host name, nor an address, nor a network such as 10.1.0.0/16")]
pub struct NotAnEntry(String);

/// The rules for hosts, the same for a URL, a send and a connection.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) allow: Vec<Allowed>,
}

impl Policy {
    /// Whether a host may be asked for by this name; true if it is on the allow-list.
    pub(super) fn check_name(&self, name: &str) -> Result<bool, Refusal> {
        if name.ends_with('.') {
            return Err(Refusal::TrailingDot);
        }
        if name.len() > 253 || name.split('.').any(|label| !(1..=63).contains(&label.len())) {
            return Err(Refusal::NoName);
        }
        if self.allows_name(name) {
            return Ok(true);
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        if LOCAL_NAMES.iter().any(|local| last == *local || name.strip_suffix(local).is_some_and(|front| front.is_empty() || front.ends_with('.'))) {
            return Err(Refusal::LocalName);
        }
        if !name.contains('.') {
            return Err(Refusal::SingleLabel);
        }
        Ok(false)
    }

    /// Whether this address, to which `name` leads if there is one, may be connected to; true if the allow-list permits it.
    pub(super) fn check(&self, name: Option<&str>, address: IpAddr) -> Result<bool, Refusal> {
        let address = embedded(address);
        let listed = |entry: &Allowed| matches!(entry, Allowed::Network(network) if network.contains(&address));
        let place = Place::of(address);
        if self.allow.iter().any(listed) {
            return Ok(true);
        }
        match place {
            Place::Public => Ok(false),
            Place::Private | Place::Loopback if name.is_some_and(|name| self.allows_name(name)) => Ok(true),
            _ => Err(Refusal::Address(place)),
        }
    }

    fn allows_name(&self, name: &str) -> bool {
        self.allow.iter().any(|entry| match entry {
            Allowed::Name(allowed) => name == allowed,
            Allowed::Below(allowed) => name.strip_suffix(allowed.as_str()).is_some_and(|front| front.ends_with('.') && front.len() > 1),
            Allowed::Network(_) => false,
        })
    }
}

/// Names that never lead to the public internet, with everything below them.
const LOCAL_NAMES: [&str; 13] = [
    "localhost",
    "localdomain",
    "local",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
    "onion",
    // The second name of a cloud's metadata service; the others are `.internal` or have one label.
    "metadata.goog",
    "instance-data",
];

/// Ports from 1024 up at which something answers that is not HTTP, or HTTP that nobody means: databases, queues, container engines.
const OTHER_SERVICES: [u16; 22] =
    [1433, 1521, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5672, 5900, 6379, 6443, 9042, 9092, 9200, 10250, 11211, 27017];

pub(super) fn is_http_port(port: u16) -> bool {
    matches!(port, 80 | 443) || (port >= 1024 && !OTHER_SERVICES.contains(&port))
}

// === impl Place ===

impl Place {
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match embedded(address) {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // Azure's.
            [168, 63, 129, 16] => Self::Metadata,
            [0, 0, 0, 0] => Self::Unspecified,
            [0, ..] => Self::Reserved,
            [127, ..] => Self::Loopback,
            [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => Self::Private,
            [169, 254, ..] => Self::LinkLocal,
            [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Self::Documentation,
            [198, 18..=19, ..] => Self::Benchmarking,
            [192, 0, 0, _] | [192, 88, 99, _] => Self::Reserved,
            [224..=239, ..] => Self::Multicast,
            [255, 255, 255, 255] => Self::Broadcast,
            [240..=255, ..] => Self::Reserved,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Self::Private,
            [0xff00..=0xffff, ..] => Self::Multicast,
            [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Documentation,
            [0x2001, 2, 0, ..] => Self::Benchmarking,
            // Protocol assignments (Teredo among them) and 6to4.
            [0x2001, 0..=0x1ff, ..] | [0x2002, ..] => Self::Reserved,
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Reserved,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "an address of the machine itself",
            Self::Private => "an address of a private network",
            Self::LinkLocal => "an address of the local link",
            Self::Metadata => "an address of a cloud's own services",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "an address that is reserved for documentation",
            Self::Benchmarking => "an address that is reserved for benchmarks",
            Self::Unspecified => "the unspecified address",
            Self::Reserved => "an address that is reserved",
        })
    }
}

/// The IPv4 address inside a mapped, translated (NAT64) or 6to4 one, where the packets end up; any other address as it is.
/// What 6to4 holds is looked at only to name it: the prefix itself is reserved, so a public one inside stays what it is.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low).into(),
        [0x2002, high, low, ..] if Place::of_v4(inner(high, low)) != Place::Public => inner(high, low).into(),
        _ => address,
    }
}

// === impl Allowed ===

impl FromStr for Allowed {
    type Err = NotAnEntry;

    fn from_str(text: &str) -> Result<Self, NotAnEntry> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        let name = text.to_ascii_lowercase();
        let (below, name) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest.to_owned()),
            None => (false, name),
        };
        let plain = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        let is_name = name.split('.').all(plain) && !name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match (is_name, below) {
            (false, _) => Err(NotAnEntry(text.to_owned())),
            (true, true) => Ok(Self::Below(name)),
            (true, false) => Ok(Self::Name(name)),
        }
    }
}

impl TryFrom<String> for Allowed {
    type Error = NotAnEntry;

    fn try_from(text: String) -> Result<Self, NotAnEntry> {
        text.parse()
    }
}
