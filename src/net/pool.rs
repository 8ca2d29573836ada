//! The addresses that networks are made of (config.toml, `[network] pool`).

use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;

use super::subnet::{LENGTH, Subnet};

/// Private addresses, of which each network gets 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pool {
    first: Ipv4Addr,
    length: u8,
}

impl Default for Pool {
    /// Far from what routers, Docker and virtual machines use.
    fn default() -> Pool {
        Pool {
            first: Ipv4Addr::new(10, 213, 0, 0),
            length: 16,
        }
    }
}

impl Pool {
    /// Its networks, in an order that begins at a place of `spread`'s.
    pub(super) fn subnets(self, spread: u32) -> impl Iterator<Item = Subnet> {
        let count = 1u32 << (LENGTH - self.length);
        let first = u32::from(self.first);
        (0..count).map(move |step| {
            let index = spread.wrapping_add(step) % count;
            Subnet::of(Ipv4Addr::from(first + (index << (32 - LENGTH))))
        })
    }
}

impl Pool {
    /// All of its addresses.
    pub(super) fn network(self) -> IpNet {
        IpNet::new_assert(self.first.into(), self.length)
    }
}

impl FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Pool, String> {
        let wrong =
            || format!("`pool = \"{text}\"` is not a network of private addresses, such as `10.213.0.0/16`");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let first: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length.parse().map_err(|_| wrong())?;
        if !(8..=LENGTH).contains(&length) {
            return Err(format!(
                "`pool = \"{text}\"` needs a length of 8 to {LENGTH}: a network has 256 addresses"
            ));
        }
        if !first.is_private() {
            return Err(wrong());
        }
        let mask = u32::MAX << (32 - u32::from(length));
        if u32::from(first) & !mask != 0 {
            let network = Ipv4Addr::from(u32::from(first) & mask);
            return Err(format!(
                "`pool = \"{text}\"` has an address inside its network; write `{network}/{length}`"
            ));
        }
        Ok(Pool { first, length })
    }
}

impl TryFrom<String> for Pool {
    type Error = String;

    fn try_from(text: String) -> Result<Pool, String> {
        text.parse()
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_comes_once() {
        let pool: Pool = "192.168.8.0/22".parse().unwrap();
        let subnets: Vec<String> = pool.subnets(3).map(|subnet| subnet.to_string()).collect();
        assert_eq!(
            subnets,
            [
                "192.168.11.0/24",
                "192.168.8.0/24",
                "192.168.9.0/24",
                "192.168.10.0/24"
            ]
        );
        assert_eq!(Pool::default().subnets(0).count(), 256);
        assert_eq!(Pool::default().to_string(), "10.213.0.0/16");
    }

    #[test]
    fn a_pool_that_is_none_is_told_what_it_should_be() {
        let wrong = |text: &str| text.parse::<Pool>().unwrap_err();
        assert_eq!(
            wrong("10.213.0.0"),
            "`pool = \"10.213.0.0\"` is not a network of private addresses, such as `10.213.0.0/16`"
        );
        assert_eq!(
            wrong("8.8.0.0/16"),
            "`pool = \"8.8.0.0/16\"` is not a network of private addresses, such as `10.213.0.0/16`"
        );
        assert_eq!(
            wrong("10.0.0.0/28"),
            "`pool = \"10.0.0.0/28\"` needs a length of 8 to 24: a network has 256 addresses"
        );
        assert_eq!(
            wrong("10.213.4.0/16"),
            "`pool = \"10.213.4.0/16\"` has an address inside its network; write `10.213.0.0/16`"
        );
    }
}
