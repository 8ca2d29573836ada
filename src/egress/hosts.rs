//! The hosts that an entry of `network.allow` stands for: a name, all names below one, an address or a network.
//!
//! One spelling each, so that a child profile's entry replaces or removes exactly its parent's: another spelling of the
//! same hosts is an error that names this one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The hosts that an entry stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Hosts {
    /// The host of this name, in lower case, without a last dot.
    Name(String),
    /// Every host whose name ends with a dot and this one; not the host of this name itself.
    Below(String),
    /// These addresses; one address is a network of full length.
    Network(IpNet),
}

/// Why a text stands for no hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsError {
    /// What is wrong with the text; follows it in a message.
    pub wrong: &'static str,
    /// What would be right.
    pub right: String,
}

impl FromStr for Hosts {
    type Err = HostsError;

    fn from_str(text: &str) -> Result<Hosts, HostsError> {
        // Most entries are: then nothing else that it could be is looked for.
        if is_name(text) && !has_capitals(text) {
            return Ok(Hosts::Name(text.to_owned()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return spelled(text, IpNet::from(address));
        }
        if text.contains("://") {
            return wrong(
                "is the address of a page",
                "write the host's name alone, such as `index.example.org`",
            );
        }
        if let Some((address, length)) = text.split_once('/') {
            let network = match (address.parse(), length.parse()) {
                (Ok(address), Ok(length)) => IpNet::new(address, length).ok(),
                _ => None,
            };
            return match network {
                Some(network) => spelled(text, network),
                None => wrong(
                    "is not a network",
                    "write an address and a length, such as `10.0.0.0/8`",
                ),
            };
        }
        if text.contains(':') {
            return wrong(
                "is not an address",
                "write ports in the entry: `{ ports = [443] }`",
            );
        }
        if text == "*" {
            return wrong("is every name", "write `egress = \"open\"` in place of the table");
        }
        match text.strip_prefix("*.") {
            Some(parent) => name(text, parent).map(Hosts::Below),
            None => name(text, text).map(Hosts::Name),
        }
    }
}

/// The network, when `text` is how it is written.
fn spelled(text: &str, network: IpNet) -> Result<Hosts, HostsError> {
    if let IpNet::V6(six) = network
        && let Some(four) = six.addr().to_ipv4_mapped()
    {
        return wrong("is an IPv4 address in disguise", format!("write `{four}`"));
    }
    let hosts = Hosts::Network(network.trunc());
    if network != network.trunc() {
        let address = network.addr();
        return wrong(
            "is an address of a network and not the network",
            format!("write `{hosts}`, or `{address}` for the address alone"),
        );
    }
    if hosts.to_string() != text {
        return wrong("is not the shortest way to write it", format!("write `{hosts}`"));
    }
    Ok(hosts)
}

/// `name` as a host name; it is `text`, or the part of it below which names are meant.
fn name(text: &str, name: &str) -> Result<String, HostsError> {
    if let Some(name) = text.strip_suffix('.').filter(|name| !name.is_empty()) {
        return wrong("ends with a dot", format!("write `{name}`"));
    }
    if name.contains('*') {
        return wrong(
            "has a `*` that is not its first label",
            "write `*.example.org` for every name below `example.org`",
        );
    }
    if !name.is_ascii() {
        return wrong(
            "has letters that DNS does not",
            "write the name as DNS has it, its labels as `xn--…`",
        );
    }
    if !is_name(name) {
        return wrong(
            "is neither a host name nor an address nor a network",
            "such as `index.example.org`, `*.example.org`, `192.0.2.7` or `10.0.0.0/8`",
        );
    }
    match has_capitals(text) {
        false => Ok(name.to_owned()),
        true => wrong(
            "has capital letters",
            format!("write `{}`", text.to_ascii_lowercase()),
        ),
    }
}

/// Whether it is the name of a host, in any case of its letters.
fn is_name(text: &str) -> bool {
    let labels = || text.as_bytes().split(|byte| *byte == b'.');
    let label = |label: &[u8]| {
        let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label[0] != b'-'
            && !label.ends_with(b"-")
            && label.iter().all(letter)
    };
    // A last label of digits alone would be a mistyped address, never a name (RFC 3696, section 2).
    let last_is_number = || {
        let last = labels().next_back().unwrap_or_default();
        last.iter().all(u8::is_ascii_digit)
    };
    // 253 is what fits into the 255 octets of RFC 1035, section 2.3.4.
    text.len() <= 253 && labels().all(label) && !last_is_number()
}

fn has_capitals(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn wrong<T>(wrong: &'static str, right: impl Into<String>) -> Result<T, HostsError> {
    Err(HostsError {
        wrong,
        right: right.into(),
    })
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hosts::Name(name) => f.write_str(name),
            Hosts::Below(name) => write!(f, "*.{name}"),
            Hosts::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            Hosts::Network(network) => write!(f, "{network}"),
        }
    }
}

impl From<Hosts> for String {
    fn from(hosts: Hosts) -> String {
        hosts.to_string()
    }
}

impl TryFrom<String> for Hosts {
    type Error = String;

    fn try_from(text: String) -> Result<Hosts, String> {
        text.parse()
            .map_err(|HostsError { wrong, right }| format!("`{text}` {wrong}; {right}"))
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Hosts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hosts".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A host name, `*.` and a name, an address, or a network with its length.",
            "type": "string"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            "index.example.org",
            "localhost",
            "_sip.example.org",
            "xn--bcher-kva.example",
            "*.example.org",
            "192.0.2.7",
            "::1",
            "0.0.0.0/0",
            "10.0.0.0/8",
            "2001:db8::/32",
        ] {
            let hosts: Hosts = text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"));
            assert_eq!(hosts.to_string(), text);
            assert_eq!(matches!(hosts, Hosts::Below(_)), text.starts_with('*'));
        }
    }

    #[test]
    fn another_spelling_is_told_the_right_one() {
        let told: Vec<String> = [
            "Example.org",
            "*.Example.org",
            "example.org.",
            "*",
            "a.*.org",
            "*example.org",
            "bücher.example",
            "https://example.org/",
            "example.org:443",
            "10.1.2.3/8",
            "10.1.2.3/32",
            "10.0.0.0/33",
            "2001:DB8::1",
            "::ffff:10.0.0.1",
            "010.0.0.1",
            "1.2.3",
            "-x.org",
            "",
        ]
        .into_iter()
        .map(|text| {
            let error = text.parse::<Hosts>().expect_err(text);
            format!("`{text}` {}: {}", error.wrong, error.right)
        })
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        `Example.org` has capital letters: write `example.org`
        `*.Example.org` has capital letters: write `*.example.org`
        `example.org.` ends with a dot: write `example.org`
        `*` is every name: write `egress = "open"` in place of the table
        `a.*.org` has a `*` that is not its first label: write `*.example.org` for every name below `example.org`
        `*example.org` has a `*` that is not its first label: write `*.example.org` for every name below `example.org`
        `bücher.example` has letters that DNS does not: write the name as DNS has it, its labels as `xn--…`
        `https://example.org/` is the address of a page: write the host's name alone, such as `index.example.org`
        `example.org:443` is not an address: write ports in the entry: `{ ports = [443] }`
        `10.1.2.3/8` is an address of a network and not the network: write `10.0.0.0/8`, or `10.1.2.3` for the address alone
        `10.1.2.3/32` is not the shortest way to write it: write `10.1.2.3`
        `10.0.0.0/33` is not a network: write an address and a length, such as `10.0.0.0/8`
        `2001:DB8::1` is not the shortest way to write it: write `2001:db8::1`
        `::ffff:10.0.0.1` is an IPv4 address in disguise: write `10.0.0.1`
        `010.0.0.1` is neither a host name nor an address nor a network: such as `index.example.org`, `*.example.org`, `192.0.2.7` or `10.0.0.0/8`
        `1.2.3` is neither a host name nor an address nor a network: such as `index.example.org`, `*.example.org`, `192.0.2.7` or `10.0.0.0/8`
        `-x.org` is neither a host name nor an address nor a network: such as `index.example.org`, `*.example.org`, `192.0.2.7` or `10.0.0.0/8`
        `` is neither a host name nor an address nor a network: such as `index.example.org`, `*.example.org`, `192.0.2.7` or `10.0.0.0/8`
        "#);
    }
}
