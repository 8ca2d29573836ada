//! The address of a name as a program of the job would find it: in `/etc/hosts`, then by the resolver that
//! `/etc/resolv.conf` names. The C library's own way asks for memory and loads programs of the image.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use domain::base::iana::Rtype;
use domain::base::{Message, MessageBuilder, Name as DnsName};
use domain::rdata::{A, Aaaa};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::read;

use super::opened;
use super::peer::{PATIENCE_MS, datagrams, ready};

/// The number of every question. Answers are taken from the resolver's address alone, on a socket of its own.
const NUMBER: u16 = 0x7266;

/// A name, and what is asked about it.
#[derive(Debug)]
pub(crate) struct Name {
    text: String,
    /// For an IPv4 address, then for an IPv6 one, as they go over the wire.
    questions: [Vec<u8>; 2],
}

impl Name {
    /// Prepares the questions about a host name; none where DNS has no such name.
    pub(crate) fn new(text: &str) -> Option<Name> {
        Some(Name {
            text: text.to_owned(),
            questions: [question(text, Rtype::A)?, question(text, Rtype::AAAA)?],
        })
    }

    /// Its first address; none when it has none.
    ///
    /// # Errors
    /// Why the resolver cannot be asked, or does not answer.
    pub(super) fn address(&self) -> Result<Option<IpAddr>, Errno> {
        let mut room = [0; 4096];
        if let Some(address) = in_hosts(contents(c"/etc/hosts", &mut room), &self.text) {
            return Ok(Some(address));
        }
        let resolver = resolver(contents(c"/etc/resolv.conf", &mut room));
        for question in &self.questions {
            if let Some(address) = asked(question, SocketAddr::new(resolver, 53))? {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }
}

/// The beginning of a file; nothing where it cannot be read, as the C library has it.
fn contents<'a>(path: &std::ffi::CStr, room: &'a mut [u8]) -> &'a str {
    let length = opened(path, OFlag::O_RDONLY).and_then(|file| read(&file, room));
    let bytes = &room[..length.unwrap_or(0)];
    let whole = |error: std::str::Utf8Error| std::str::from_utf8(&bytes[..error.valid_up_to()]);
    std::str::from_utf8(bytes).or_else(whole).unwrap_or_default()
}

/// The address of a name in the text of hosts(5).
fn in_hosts(text: &str, name: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(address)
    })
}

/// The first resolver in the text of resolv.conf(5); without one, this machine's.
fn resolver(text: &str) -> IpAddr {
    let named = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    });
    named.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn question(name: &str, kind: Rtype) -> Option<Vec<u8>> {
    let name: DnsName<Vec<u8>> = name.parse().ok()?;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(NUMBER);
    message.header_mut().set_rd(true);
    let mut question = message.question();
    question.push((name, kind)).ok()?;
    Some(question.finish())
}

/// What a resolver answers.
fn asked(question: &[u8], resolver: SocketAddr) -> Result<Option<IpAddr>, Errno> {
    let socket = datagrams(resolver)?;
    send(socket.as_raw_fd(), question, MsgFlags::empty())?;
    ready(&socket, PollFlags::POLLIN, PATIENCE_MS)?;
    let mut room = [0; 1232];
    let length = recv(socket.as_raw_fd(), &mut room, MsgFlags::empty())?;
    Ok(address(&room[..length]))
}

/// The first address in an answer, be it of another name that this one stands for; none in a refusal, and in what is no
/// answer to us.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let message = Message::from_octets(bytes).ok()?;
    if message.header().id() != NUMBER {
        return None;
    }
    let answers = message.answer().ok()?;
    let four = answers.limit_to_in::<A>().flatten().next();
    let six = answers.limit_to_in::<Aaaa>().flatten().next();
    four.map(|record| record.data().addr().into())
        .or(six.map(|record| record.data().addr().into()))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, UdpSocket};

    use super::*;

    #[test]
    fn files_are_read_as_the_c_library_does() {
        let hosts =
            "# ours\n127.0.0.1 localhost # and\n::1\tlocalhost ip6-localhost\nx y\n10.0.0.7 db Db.example\n";
        assert_eq!(in_hosts(hosts, "localhost"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(
            in_hosts(hosts, "db.EXAMPLE"),
            Some(Ipv4Addr::new(10, 0, 0, 7).into())
        );
        assert_eq!(in_hosts(hosts, "and"), None);
        let conf = "# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.53\nnameserver ::1\n";
        assert_eq!(resolver(conf), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)));
        assert_eq!(resolver(""), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    /// A resolver that answers one question with `records` below a repeated question.
    fn answered(name: &Name, number: usize, records: &[u8], count: u8) -> Option<IpAddr> {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = server.local_addr().expect("an address");
        let records = records.to_owned();
        let serving = std::thread::spawn(move || {
            let mut room = [0; 512];
            let (length, from) = server.recv_from(&mut room).expect("a question");
            let mut answer = room[..length].to_owned();
            (answer[2], answer[7]) = (0x81, count);
            answer.extend(records);
            server.send_to(&answer, from).expect("an answer");
        });
        let found = asked(&name.questions[number], address).expect("an answer");
        serving.join().expect("it served");
        found
    }

    #[test]
    fn an_address_is_found_behind_another_name() {
        let name = Name::new("www.example.org").expect("a name");
        assert!(name.questions[0].ends_with(b"\x03www\x07example\x03org\0\0\x01\0\x01"));
        // A canonical name (type 5) first, then an address of that.
        let alias = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10";
        let four = b"\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07";
        let found = answered(&name, 0, &[alias.as_slice(), four].concat(), 2);
        assert_eq!(found, Some(Ipv4Addr::new(192, 0, 2, 7).into()));
        let mut six = b"\xc0\x0c\0\x1c\0\x01\0\0\0\x3c\0\x10".to_vec();
        six.extend(Ipv6Addr::LOCALHOST.octets());
        assert_eq!(answered(&name, 1, &six, 1), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(answered(&name, 0, b"", 0), None);
        // Cut off, a length that leads out of it, somebody else's.
        for broken in [
            &four[..13],
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\xff\xff\x01",
            b"\x3f",
        ] {
            assert_eq!(answered(&name, 0, broken, 1), None);
        }
        assert_eq!(address(b"xx\x81\x80\0\0\0\0\0\0\0\0"), None);
        assert!(Name::new("a..b").is_none());
    }

    #[test]
    fn a_resolver_that_is_not_there_is_an_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("an address");
        drop(socket);
        let name = Name::new("example.org").expect("a name");
        assert_eq!(asked(&name.questions[0], address), Err(Errno::ECONNREFUSED));
    }
}
