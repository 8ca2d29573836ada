//! The host's own DNS servers, asked as its C library would (resolv.conf(5)).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::Message;
use domain::base::iana::Rcode;

use super::message::{Heard, Query};

/// How long one server may take; a C library gives it 5 s, within which there is an answer from us.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often each server is asked.
const ROUNDS: usize = 2;

/// How many servers count (MAXNS of <resolv.h>).
const SERVERS: usize = 3;

/// The servers that are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    servers: Vec<SocketAddr>,
}

impl Upstream {
    /// The servers of a resolv.conf; without any, the one on the host itself.
    pub(crate) fn from_resolv_conf(text: &str) -> Upstream {
        let server = |line: &str| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then_some(())?;
            address(words.next()?)
        };
        let mut servers: Vec<SocketAddr> = text.lines().filter_map(server).take(SERVERS).collect();
        if servers.is_empty() {
            servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        Upstream { servers }
    }

    /// The servers' answer; none when nobody has one.
    pub(super) fn ask(&self, query: &Query) -> Option<Heard> {
        let mut last = None;
        for server in std::iter::repeat_n(&self.servers, ROUNDS).flatten() {
            match over_udp(query, *server) {
                Ok(heard) if matches!(heard.header().rcode(), Rcode::NOERROR | Rcode::NXDOMAIN) => {
                    return Some(heard);
                }
                // Another server may know more than one that failed or refused.
                Ok(heard) => last = Some(heard),
                Err(_) => {}
            }
        }
        last
    }
}

/// An address of resolv.conf; one that is local to a link names its interface.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    match (address.parse().ok()?, zone) {
        (IpAddr::V6(address), Some(zone)) => {
            let index = match zone.parse() {
                Ok(index) => index,
                Err(_) => nix::net::if_::if_nametoindex(zone).ok()?,
            };
            Some(SocketAddrV6::new(address, 53, 0, index).into())
        }
        (address, None) => Some((address, 53).into()),
        (IpAddr::V4(_), Some(_)) => None,
    }
}

fn over_udp(query: &Query, server: SocketAddr) -> io::Result<Heard> {
    let asked = question(query)?;
    let socket = UdpSocket::bind(match server {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    })?;
    // The kernel takes answers of this server alone, to a port that nobody can know.
    socket.connect(server)?;
    socket.send(asked.as_slice())?;
    let until = Instant::now() + PATIENCE;
    let mut bytes = vec![0; usize::from(u16::MAX)];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut bytes)?;
        match Message::from_octets(bytes[..length].to_vec()) {
            Ok(heard) if heard.is_answer(&asked) && heard.header().tc() => return over_tcp(query, server),
            Ok(heard) if heard.is_answer(&asked) => return Ok(heard),
            _ => {}
        }
    }
}

fn over_tcp(query: &Query, server: SocketAddr) -> io::Result<Heard> {
    let asked = question(query)?;
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write_framed(&mut stream, asked.as_slice())?;
    let heard = Message::from_octets(read_framed(&mut stream)?);
    match heard {
        Ok(heard) if heard.is_answer(&asked) => Ok(heard),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn question(query: &Query) -> io::Result<Heard> {
    query.forwarded(random()).map_err(io::Error::other)
}

/// A number that nobody can know: the standard library's keys are the kernel's random bytes.
fn random() -> u16 {
    let [low, high, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u16::from_ne_bytes([low, high])
}

/// Reads a message with its length before it (RFC 1035, section 4.2.2).
pub(super) fn read_framed(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Writes a message with its length before it.
pub(super) fn write_framed(stream: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_servers_count() {
        let servers = |text: &str| Upstream::from_resolv_conf(text).servers;
        let text = "# nameserver 9.9.9.9\nsearch example.org\nnameserver 127.0.0.53\nnameserver  ::1 # here\n\
                    nameserver fe80::1%1\nnameserver 192.0.2.1\noptions edns0\n";
        assert_eq!(
            servers(text).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["127.0.0.53:53", "[::1]:53", "[fe80::1%1]:53"]
        );
        let none = ["127.0.0.1:53".parse().unwrap()];
        assert_eq!(servers(""), none);
        assert_eq!(
            servers("nameserver\nnameserver example.org\nnameserver 1.2.3.4%1"),
            none
        );
    }
}
