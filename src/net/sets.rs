//! The sets of a job's rules ([`crate::egress::rules`]): filled with what its resolver answers, and read for what it tried.
//!
//! Over a socket of the job's network namespace, by nfnetlink(7): nft(8) would take a hundred times as long for each answer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NlasIterator,
};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use super::nfnetlink::{DONE, ERROR, HEADER, INET, NETFILTER, SUBSYSTEM, answers, attribute, failure, value};
use crate::egress::Protocol;
use crate::egress::Way;
use crate::egress::rules::{ANSWERED, Family, Outcome, TABLE};

// Numbers of <linux/netfilter/nfnetlink.h> and <linux/netfilter/nf_tables.h>.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const GET_ELEMENT: u16 = SUBSYSTEM << 8 | 13;
const DELETE_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPRESSION: u16 = 7;
const DATA_VALUE: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const COUNTER_PACKETS: u16 = 2;

/// What is put in by one transaction: when it fails, an answer to each of its messages has room in what a socket receives
/// (212,992 bytes, net.core.rmem_default; an answer takes about 800 with the kernel's own).
const AT_ONCE: usize = 64;

/// Longer than any job runs: ten years.
const FOR_GOOD: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How often a transaction is tried whose elements expire under it.
const TRIES: usize = 3;

/// How many answers can have come too late: more than there is room for.
const MOST_LATE: usize = 1024;

/// The sets of one job's rules.
pub(crate) struct Sets {
    socket: OwnedFd,
    sequence: u32,
    /// What is in them, and until when.
    filled: HashMap<(&'static str, Vec<u8>), Instant>,
}

/// Connections that a job has tried, to one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tried {
    /// Where to.
    pub(crate) address: IpAddr,
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The port.
    pub(crate) port: u16,
    /// What became of them.
    pub(crate) outcome: Outcome,
    /// How many.
    pub(crate) count: u64,
}

impl Sets {
    /// The sets behind a socket of [`super::nfnetlink::open`].
    pub(crate) fn new(socket: OwnedFd) -> Sets {
        Sets {
            socket,
            sequence: 0,
            filled: HashMap::new(),
        }
    }

    /// Opens `ways` to addresses for so long, each at least.
    ///
    /// # Errors
    /// ENFILE when the sets are full; EPERM without CAP_NET_ADMIN in the namespace's user namespace; EAGAIN when the kernel does
    /// not answer.
    pub(crate) fn fill(
        &mut self,
        addresses: &[IpAddr],
        ways: &[Way],
        lifetime: Duration,
    ) -> Result<(), Errno> {
        let now = Instant::now();
        self.filled.retain(|_, until| *until > now);
        let until = now + lifetime;
        let mut elements = Vec::new();
        for address in addresses {
            for way in ways {
                let element = element(*address, *way);
                if self.filled.get(&element).is_none_or(|there| *there < until) {
                    elements.push(element);
                }
            }
        }
        if elements.is_empty() {
            return Ok(());
        }
        if self.filled.len() + elements.len() > ANSWERED {
            return Err(Errno::ENFILE);
        }
        for elements in elements.chunks(AT_ONCE) {
            let mut tries = 1..TRIES;
            loop {
                match self.put(elements, lifetime) {
                    Err(Errno::ENOENT) if tries.next().is_some() => {}
                    done => break done?,
                }
            }
            self.filled
                .extend(elements.iter().map(|element| (element.clone(), until)));
        }
        Ok(())
    }

    /// Closes addresses that the host has gained.
    ///
    /// # Errors
    /// As [`Self::fill`].
    pub(crate) fn close(&mut self, addresses: &[IpAddr]) -> Result<(), Errno> {
        let element = |address: &IpAddr| match address {
            IpAddr::V4(four) => (Family::V4.gained(), four.octets().to_vec()),
            IpAddr::V6(six) => (Family::V6.gained(), six.octets().to_vec()),
        };
        let elements: Vec<_> = addresses.iter().map(element).collect();
        let mut pieces = elements.chunks(AT_ONCE);
        pieces.try_for_each(|elements| self.put(elements, FOR_GOOD))
    }

    /// Puts elements in for so long, whether they are there or not, in one transaction.
    ///
    /// What is there would keep its old time, so it is taken out; what is not there could not be, so it is put in before.
    /// ENOENT remains where one expires between the two.
    fn put(&mut self, elements: &[(&'static str, Vec<u8>)], lifetime: Duration) -> Result<(), Errno> {
        let timeout = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let timeout = DefaultNla::new(ELEMENT_TIMEOUT, timeout.to_be_bytes().to_vec());
        let mut batch = Vec::new();
        let first = self.message(&mut batch, BATCH_BEGIN, 0, 0, SUBSYSTEM, &[]);
        for (index, (set, key)) in elements.iter().enumerate() {
            let new = list(set, vec![key_of(key), timeout.clone()]);
            self.message(&mut batch, NEW_ELEMENT, NLM_F_CREATE, INET, 0, &new);
            let old = list(set, vec![key_of(key)]);
            self.message(&mut batch, DELETE_ELEMENT, 0, INET, 0, &old);
            // One answer says that all is done; a failure is answered without being asked for.
            let answer = if index + 1 == elements.len() { NLM_F_ACK } else { 0 };
            self.message(&mut batch, NEW_ELEMENT, answer | NLM_F_CREATE, INET, 0, &new);
        }
        let last = self.sequence;
        self.message(&mut batch, BATCH_END, 0, 0, SUBSYSTEM, &[]);
        self.send(&batch)?;

        let mut failed = None;
        answers(&self.socket, |kind, sequence, payload| {
            if kind != ERROR || sequence < first {
                return false;
            }
            failed = failed.or(failure(payload));
            // A transaction that the kernel does not even begin is answered at its first message.
            sequence == last || sequence == first
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// What the job has tried, in no order.
    ///
    /// # Errors
    /// As [`Self::fill`]; ENOENT where there are no rules.
    pub(crate) fn tried(&mut self) -> Result<Vec<Tried>, Errno> {
        let mut tried = Vec::new();
        for family in Family::ALL {
            for outcome in Outcome::ALL {
                let mut request = Vec::new();
                let attributes = [text(LIST_TABLE, TABLE), text(LIST_SET, family.tried(outcome))];
                let asked = self.message(&mut request, GET_ELEMENT, NLM_F_DUMP, INET, 0, &attributes);
                self.send(&request)?;
                let mut failed = None;
                answers(&self.socket, |kind, sequence, payload| {
                    if sequence != asked {
                        return false;
                    }
                    if kind == ERROR {
                        failed = failure(payload);
                    } else if kind != DONE {
                        tried.extend(elements(
                            payload.get(NETFILTER..).unwrap_or_default(),
                            family,
                            outcome,
                        ));
                    }
                    kind == ERROR || kind == DONE
                })?;
                if let Some(errno) = failed {
                    return Err(errno);
                }
            }
        }
        Ok(tried)
    }

    /// Appends a message; its number.
    fn message(
        &mut self,
        to: &mut Vec<u8>,
        kind: u16,
        flags: u16,
        family: u8,
        subsystem: u16,
        attributes: &[DefaultNla],
    ) -> u32 {
        self.sequence += 1;
        let length = HEADER + attributes.buffer_len();
        to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        to.extend(kind.to_ne_bytes());
        to.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        to.extend(self.sequence.to_ne_bytes());
        // The kernel's answers come to whoever opened the socket.
        to.extend([0; 4]);
        to.extend([family, 0]);
        to.extend(subsystem.to_be_bytes());
        to.extend(bytes(attributes));
        self.sequence
    }

    /// Sends a request, after the answers to an earlier one that came too late for it: what nobody reads would take the room
    /// of the next.
    fn send(&self, request: &[u8]) -> Result<(), Errno> {
        let socket = self.socket.as_raw_fd();
        let late = |_: &usize| match recv(socket, &mut [0; HEADER], MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => true,
            Err(_) => false,
        };
        (0..MOST_LATE).take_while(late).for_each(drop);
        send(socket, request, MsgFlags::empty()).map(drop)
    }
}

/// The set and key of a way to an address. Each part of a key begins at a multiple of four.
fn element(address: IpAddr, way: Way) -> (&'static str, Vec<u8>) {
    let mut key = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    key.extend([way.protocol.number(), 0, 0, 0]);
    let family = Family::of(address);
    match way.port {
        None => (family.hosts(), key),
        Some(port) => {
            key.extend(port.to_be_bytes());
            key.extend([0, 0]);
            (family.ports(), key)
        }
    }
}

/// The elements of a message, as far as they can be read.
fn elements(attributes: &[u8], family: Family, outcome: Outcome) -> Vec<Tried> {
    let list = attribute(attributes, LIST_ELEMENTS).unwrap_or_default();
    let elements = NlasIterator::new(list).flatten();
    let read = |element: &[u8]| {
        let key = attribute(attribute(element, ELEMENT_KEY)?, DATA_VALUE)?;
        let (address, rest): (IpAddr, _) = match family {
            Family::V4 => {
                let (octets, rest) = key.split_first_chunk::<4>()?;
                (Ipv4Addr::from(*octets).into(), rest)
            }
            Family::V6 => {
                let (octets, rest) = key.split_first_chunk::<16>()?;
                (Ipv6Addr::from(*octets).into(), rest)
            }
        };
        let [protocol, _, _, _, high, low, ..] = *rest else {
            return None;
        };
        let counter = attribute(attribute(element, ELEMENT_EXPRESSION)?, EXPRESSION_DATA)?;
        let count = attribute(counter, COUNTER_PACKETS)?;
        Some(Tried {
            address,
            protocol: [Protocol::Tcp, Protocol::Udp]
                .into_iter()
                .find(|known| known.number() == protocol)?,
            port: u16::from_be_bytes([high, low]),
            outcome,
            count: u64::from_be_bytes(count.try_into().ok()?),
        })
    };
    elements.filter_map(|element| read(value(element))).collect()
}

/// The attributes of a message about one element.
fn list(set: &str, element: Vec<DefaultNla>) -> [DefaultNla; 3] {
    let element = DefaultNla::new(LIST_ELEMENT | NLA_F_NESTED, bytes(&element));
    let elements = DefaultNla::new(LIST_ELEMENTS | NLA_F_NESTED, bytes(&[element]));
    [text(LIST_TABLE, TABLE), text(LIST_SET, set), elements]
}

fn key_of(key: &[u8]) -> DefaultNla {
    let value = DefaultNla::new(DATA_VALUE, key.to_vec());
    DefaultNla::new(ELEMENT_KEY | NLA_F_NESTED, bytes(&[value]))
}

fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), b"\0"].concat())
}

fn bytes(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::rules;
    use crate::egress::{Around, Egress};

    /// The sets of a job that lists something, in a network namespace of this thread's own; none for who may not make one.
    fn sets() -> Option<Sets> {
        if !nix::unistd::geteuid().is_root() || crate::net::nft::program().is_none() {
            let required = std::env::var("RINGFENCE_TESTS").as_deref() == Ok("require");
            assert!(!required, "only root makes network namespaces, and nft is needed");
            eprintln!("skipped: only root makes network namespaces, and nft is needed");
            return None;
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let rules = rules::text(&Egress::Listed(Vec::new()), &Around::default());
        crate::net::nft::load(&rules).unwrap();
        Some(Sets::new(super::super::nfnetlink::open().unwrap()))
    }

    fn way(port: u16) -> Way {
        Way {
            protocol: Protocol::Tcp,
            port: Some(port),
        }
    }

    /// What nobody has said to be open is not taken for open, so that the next answer opens it.
    #[test]
    fn a_kernel_that_does_not_answer_opens_nothing() {
        let (socket, silent) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let patience = Some(Duration::from_millis(10));
        socket.set_read_timeout(patience).unwrap();
        silent.set_read_timeout(patience).unwrap();
        let mut sets = Sets::new(socket.into());
        let address = "203.0.113.5".parse().unwrap();
        for _ in 0..2 {
            let filled = sets.fill(&[address], &[way(443)], Duration::from_secs(60));
            assert_eq!(filled, Err(Errno::EAGAIN));
            assert!(silent.recv(&mut [0; 4096]).is_ok(), "it is asked for again");
        }
        assert_eq!(sets.tried(), Err(Errno::EAGAIN));
        assert_eq!(sets.close(&[address]), Err(Errno::EAGAIN));
    }

    #[test]
    fn what_is_put_in_again_has_all_of_its_time() {
        let Some(mut sets) = sets() else { return };
        let lifetime = Duration::from_millis(400);
        let address = IpAddr::from([203, 0, 113, 9]);
        // From a moment before it expires, by our clock and by the kernel's, to a moment after.
        for late in -6..6i32 {
            let began = Instant::now();
            sets.fill(&[address], &[way(80)], lifetime).unwrap();
            let expired = began + lifetime;
            let moment = match late {
                ..0 => expired - Duration::from_millis(late.unsigned_abs().into()),
                _ => expired + Duration::from_millis(late.unsigned_abs().into()),
            };
            std::thread::sleep(moment.saturating_duration_since(Instant::now()));
            sets.fill(&[address], &[way(80)], lifetime).unwrap();
            std::thread::sleep(lifetime / 4);
            let element = "ringfence ports4 { 203.0.113.9 . tcp . 80 }";
            let asked = std::process::Command::new("nft")
                .args(["get", "element", "inet"])
                .args(element.split(' '))
                .output()
                .unwrap();
            assert!(
                asked.status.success(),
                "{late} ms: {}",
                String::from_utf8_lossy(&asked.stderr)
            );
        }
    }

    #[test]
    fn as_much_as_an_answer_opens_is_put_in_again_and_again() {
        let Some(mut sets) = sets() else { return };
        let addresses: Vec<IpAddr> = (0..40).map(|last| IpAddr::from([203, 0, 113, last])).collect();
        let ways: Vec<Way> = (1000..1100).map(way).collect();
        for seconds in 1..4 {
            sets.fill(&addresses, &ways, Duration::from_secs(100 * seconds))
                .unwrap();
        }
        // One that the sets have no room for is refused before it is begun.
        let many: Vec<Way> = (1..=u16::MAX).map(way).collect();
        assert_eq!(
            sets.fill(&addresses, &many, Duration::from_secs(1)),
            Err(Errno::ENFILE)
        );
    }
}
