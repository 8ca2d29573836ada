//! The other end of a connection, as an expectation writes it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::Protocol;
use crate::egress::Hosts;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `192.0.2.7:443`, `192.0.2.7:53/udp`.
    Address {
        /// Address and port.
        at: SocketAddr,
        /// How it is spoken to.
        protocol: Protocol,
    },
    /// `index.example.org:443`: looked up as the job would, in its `/etc/hosts` and by its resolver.
    Name {
        /// The host.
        name: String,
        /// Its port.
        port: u16,
        /// How it is spoken to.
        protocol: Protocol,
    },
    /// A stream socket in the file system.
    Unix(String),
}

/// It is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPeer;

impl FromStr for Peer {
    type Err = NoPeer;

    fn from_str(text: &str) -> Result<Peer, NoPeer> {
        if text.starts_with('/') {
            return Ok(Peer::Unix(text.to_owned()));
        }
        let (text, protocol) = match text.strip_suffix("/udp") {
            Some(text) => (text, Protocol::Udp),
            None => (text, Protocol::Tcp),
        };
        if let Ok(at) = text.parse::<SocketAddr>() {
            return (at.port() != 0)
                .then_some(Peer::Address { at, protocol })
                .ok_or(NoPeer);
        }
        let (name, port) = text.rsplit_once(':').ok_or(NoPeer)?;
        match (name.parse(), port.parse()) {
            (Ok(Hosts::Name(name)), Ok(port)) if port != 0 => Ok(Peer::Name { name, port, protocol }),
            _ => Err(NoPeer),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self {
            Peer::Address { at, protocol } => write!(f, "{at}").map(|()| protocol)?,
            Peer::Name { name, port, protocol } => write!(f, "{name}:{port}").map(|()| protocol)?,
            Peer::Unix(path) => return f.write_str(path),
        };
        match protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_shown_as_it_is_written() {
        for text in [
            "192.0.2.7:443",
            "[2001:db8::7]:53/udp",
            "index.example.org:443",
            "localhost:53/udp",
            "/run/app.sock",
        ] {
            let peer: Peer = text.parse().expect(text);
            assert_eq!(peer.to_string(), text);
        }
        for text in [
            "192.0.2.7",
            "192.0.2.7:0",
            "192.0.2.7:443/tcp",
            "example.org",
            "*.example.org:80",
            "10.0.0.0/8:80",
            "example.org:70000",
            ":80",
            "",
        ] {
            assert_eq!(text.parse::<Peer>(), Err(NoPeer), "{text}");
        }
    }
}
