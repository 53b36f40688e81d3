//! Lists of ports and of user ids, as flags and files write them, and networks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    #[error("`{0}` is not a port or a range such as 8000-8100")]
    Ports(String),
    #[error("`{0}` is not a user id or a range such as 100-200")]
    Uids(String),
    #[error("`{0}` is not an IP address or a network such as 10.0.0.0/8")]
    Network(String),
    #[error("`{0}` is not [[tcp|udp]:[ports]:]uids, such as tcp:80,443:106-108")]
    Exclusion(String),
    #[error("`{0}` is not an interface and a network, such as docker0:172.17.0.0/16")]
    Interface(String),
}

/// An inclusive range of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span<T> {
    pub(crate) first: T,
    pub(crate) last: T,
}

impl<T: FromStr + Ord + Copy> Span<T> {
    /// Reads `7`, `7-9` and `7:9`.
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once(['-', ':']).unwrap_or((text, text));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some(Self { first, last })
    }

    pub(crate) fn is_single(&self) -> bool {
        self.first == self.last
    }
}

/// Ports such as `22,8000-8100`; a number, a text or a list of them in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ports(pub(crate) Vec<Span<u16>>);

impl Ports {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|span| (span.first..=span.last).contains(&port))
    }
}

impl FromStr for Ports {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let spans = parts.map(|part| Span::parse(part).ok_or_else(|| ListError::Ports(part.to_owned())));
        Ok(Self(spans.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, span) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match span.is_single() {
                true => write!(f, "{comma}{}", span.first)?,
                false => write!(f, "{comma}{}-{}", span.first, span.last)?,
            }
        }
        Ok(())
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Item {
            Number(u16),
            Text(String),
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(Item),
            Many(Vec<Item>),
        }
        let items = match Form::deserialize(deserializer)? {
            Form::One(item) => vec![item],
            Form::Many(items) => items,
        };
        let texts = items.into_iter().map(|item| match item {
            Item::Number(port) => port.to_string(),
            Item::Text(text) => text,
        });
        texts.collect::<Vec<_>>().join(",").parse().map_err(D::Error::custom)
    }
}

/// An address with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of one address.
    pub(crate) fn host(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    pub(crate) fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl FromStr for Network {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let error = || ListError::Network(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let whole = Self::host(address.trim().parse().map_err(|_| error())?);
        let Some(prefix) = prefix else { return Ok(whole) };
        let prefix: u8 = prefix.trim().parse().map_err(|_| error())?;
        if prefix > whole.prefix {
            return Err(error());
        }
        Ok(Self { prefix, ..whole })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Outbound ports that are left alone when some users connect to them: `tcp:80,443:106-108`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserExclusion {
    /// None for both.
    pub(crate) protocol: Option<Protocol>,
    /// Empty for all.
    pub(crate) ports: Ports,
    pub(crate) uids: Span<u32>,
}

impl FromStr for UserExclusion {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let parts: Vec<&str> = text.split(':').map(str::trim).collect();
        let (protocol, ports, uids) = match parts.as_slice() {
            [uids] => ("", "", *uids),
            [ports, uids] => ("", *ports, *uids),
            [protocol, ports, uids] => (*protocol, *ports, *uids),
            _ => return Err(ListError::Exclusion(text.to_owned())),
        };
        let protocol = match protocol {
            "" | "*" => None,
            "tcp" => Some(Protocol::Tcp),
            "udp" => Some(Protocol::Udp),
            _ => return Err(ListError::Exclusion(text.to_owned())),
        };
        let ports = if ports == "*" { Ports::default() } else { ports.parse()? };
        let uids = Span::parse(uids).ok_or_else(|| ListError::Uids(uids.to_owned()))?;
        Ok(Self { protocol, ports, uids })
    }
}

/// An interface to virtual machines or containers, and the network behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VirtualNetwork {
    pub(crate) interface: String,
    pub(crate) network: Network,
}

impl FromStr for VirtualNetwork {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let error = || ListError::Interface(text.to_owned());
        let (interface, network) = text.split_once(':').ok_or_else(error)?;
        // Linux allows fewer than 16 bytes; quotes or blanks would break out of a rule's text.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
        if interface.is_empty() || interface.len() > 15 || !interface.chars().all(plain) {
            return Err(error());
        }
        Ok(Self { interface: interface.to_owned(), network: network.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_texts_and_lists() {
        let ports: Ports = "22, 8000-8100,9:10".parse().unwrap();
        assert_eq!(ports.to_string(), "22,8000-8100,9-10");
        assert!(ports.contains(8050) && !ports.contains(23));
        for (yaml, shown) in [("22", "22"), ("\"22,23\"", "22,23"), ("[22, 80-90]", "22,80-90"), ("[]", "")] {
            assert_eq!(serde_saphyr::from_str::<Ports>(yaml).unwrap().to_string(), shown);
        }
        for bad in ["x", "70000", "9-8", "1-2-3"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_checked() {
        assert_eq!("10.0.0.1".parse::<Network>().unwrap().to_string(), "10.0.0.1/32");
        assert_eq!("fd00::/8".parse::<Network>().unwrap().to_string(), "fd00::/8");
        assert!("10.0.0.0/33".parse::<Network>().is_err());
    }

    #[test]
    fn exclusions_leave_out_what_is_meant_by_all() {
        let all: UserExclusion = "106".parse().unwrap();
        assert_eq!((all.protocol, all.ports.is_empty()), (None, true));
        let some: UserExclusion = "tcp:80,443:106-108".parse().unwrap();
        assert_eq!(some.uids, Span { first: 106, last: 108 });
        assert_eq!(some.protocol, Some(Protocol::Tcp));
        assert_eq!("udp:*:5".parse::<UserExclusion>().unwrap().ports, Ports::default());
        assert!("sctp:1:1".parse::<UserExclusion>().is_err());
        assert!("80:".parse::<UserExclusion>().is_err());
    }

    #[test]
    fn interfaces_cannot_break_out_of_a_rule() {
        assert!("docker0:172.17.0.0/16".parse::<VirtualNetwork>().is_ok());
        assert!("br0:fd00::/64".parse::<VirtualNetwork>().is_ok());
        assert!("a b:172.17.0.0/16".parse::<VirtualNetwork>().is_err());
    }
}
