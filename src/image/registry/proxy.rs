//! Proxies from the environment, by the rules of curl and of Docker: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`,
//! or the same in lower case.

use std::net::IpAddr;

use ureq::{Proxy, ProxyProtocol};

use super::url::{address_of, host_and_port};

/// The proxies of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    /// Hosts that are reached without one.
    direct: Vec<Direct>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    All,
    /// A host and all below it, and perhaps one port alone.
    Name(String, Option<String>),
    /// Addresses whose first so many bits are the same.
    Network(IpAddr, u32),
}

impl Proxies {
    /// What the environment says.
    ///
    /// # Errors
    /// The name of a variable that is not the address of a proxy, and what to write. Never its value, which may hold a
    /// password.
    pub(super) fn from_environment() -> Result<Proxies, (String, String)> {
        Proxies::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Proxies, (String, String)> {
        let set = |name: &str| {
            let names = [name.to_owned(), name.to_lowercase()];
            names.into_iter().find_map(|name| {
                let value = variable(&name)?.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let proxy = |name: &str| {
            let Some((name, value)) = set(name).or_else(|| set("ALL_PROXY")) else {
                return Ok(None);
            };
            match Proxy::new(&value) {
                Ok(proxy) if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) => {
                    Ok(Some(proxy))
                }
                _ => Err((
                    name,
                    "not the address of a proxy; write `http://host:port`".to_owned(),
                )),
            }
        };
        let direct = set("NO_PROXY").map(|(_, value)| value).unwrap_or_default();
        Ok(Proxies {
            https: proxy("HTTPS_PROXY")?,
            http: proxy("HTTP_PROXY")?,
            direct: direct.split([',', ' ']).filter_map(Direct::parse).collect(),
        })
    }

    /// The proxy on the way to a host and port; none for this machine itself, as with Docker.
    pub(super) fn on_the_way(&self, https: bool, authority: &str) -> Option<&Proxy> {
        let proxy = if https { &self.https } else { &self.http }.as_ref()?;
        let address = address_of(authority);
        let inside = address.is_some_and(|address| address.is_loopback());
        let (host, port) = host_and_port(authority);
        let direct = |entry: &Direct| match entry {
            Direct::All => true,
            Direct::Name(name, only) => {
                only.as_deref().is_none_or(|only| Some(only) == port) && is_below(host, name)
            }
            Direct::Network(network, bits) => address.is_some_and(|address| is_in(address, *network, *bits)),
        };
        (!inside && !self.direct.iter().any(direct)).then_some(proxy)
    }
}

impl Direct {
    fn parse(text: &str) -> Option<Direct> {
        if text == "*" {
            return Some(Direct::All);
        }
        let (network, bits) = text.split_once('/').unwrap_or((text, ""));
        if let Ok(address) = network.trim_matches(['[', ']']).parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            return match bits {
                "" => Some(Direct::Network(address, all)),
                bits => Some(Direct::Network(
                    address,
                    bits.parse().ok().filter(|bits| *bits <= all)?,
                )),
            };
        }
        let (host, port) = host_and_port(text);
        let host = host.trim_start_matches("*.").trim_start_matches('.');
        (!host.is_empty()).then(|| Direct::Name(host.to_lowercase(), port.map(str::to_owned)))
    }
}

fn is_below(host: &str, name: &str) -> bool {
    let host = host.to_lowercase();
    let rest = host.strip_suffix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_in(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let differ = u32::from(address) ^ u32::from(network);
            differ.leading_zeros() >= bits
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let differ = u128::from(address) ^ u128::from(network);
            differ.leading_zeros() >= bits
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, (String, String)> {
        Proxies::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_scheme_has_its_own() {
        let found = proxies(&[
            ("HTTPS_PROXY", "http://u:p@one.example:3128"),
            ("all_proxy", "two.example:80"),
        ]);
        let found = found.unwrap();
        let host = |https| found.on_the_way(https, "r.example").unwrap().host().to_owned();
        assert_eq!(
            (host(true), host(false)),
            ("one.example".to_owned(), "two.example".to_owned())
        );
        assert!(proxies(&[]).unwrap().on_the_way(true, "r.example").is_none());
    }

    #[test]
    fn some_hosts_need_none() {
        let found = proxies(&[
            ("HTTPS_PROXY", "http://one.example:3128"),
            (
                "NO_PROXY",
                "a.example, .b.example,*.c.example,d.example:444,10.0.0.0/8,2001:db8::/32,192.0.2.1",
            ),
        ]);
        let found = found.unwrap();
        for direct in [
            "a.example",
            "A.Example:5000",
            "x.a.example",
            "y.b.example",
            "z.c.example",
            "d.example:444",
            "10.200.0.1:5000",
            "[2001:db8::5]:443",
            "192.0.2.1",
            "127.0.0.1:5000",
            "localhost:5000",
            "[::1]",
        ] {
            assert!(found.on_the_way(true, direct).is_none(), "{direct}");
        }
        for far in [
            "xa.example",
            "d.example",
            "11.0.0.1",
            "192.0.2.2",
            "a.example.org",
            "[2001:db9::5]",
        ] {
            assert!(found.on_the_way(true, far).is_some(), "{far}");
        }
        let none = proxies(&[("https_proxy", "http://one.example"), ("no_proxy", "*")]).unwrap();
        assert!(none.on_the_way(true, "r.example").is_none());
    }

    #[test]
    fn a_wrong_one_is_named_without_its_value() {
        for value in ["socks5://u:secret@h:1", "http://", "://", "ftp://u:secret@h"] {
            let (name, reason) = proxies(&[("ALL_PROXY", value)]).unwrap_err();
            assert_eq!(
                format!("{name}: {reason}"),
                "ALL_PROXY: not the address of a proxy; write `http://host:port`"
            );
        }
    }
}
