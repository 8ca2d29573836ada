//! What is made inside a job's network namespace, by a short-lived child that enters it with the job's user namespace.
//!
//! The same for root and for everybody else: who enters a user namespace that it owns has every capability there
//! (user_namespaces(7)), and none outside. The job itself never has these.

use std::io::{IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use nix::unistd::Pid;

use super::netlink::Netlink;
use super::subnet::{GATEWAY, Number, Subnet};
use super::words;
use super::{link, neighbour, nft, route, sysctl};
use crate::sys::capability;
use crate::sys::fork::{self, Child};
use crate::sys::process::received_descriptor;

/// The job's interface, whatever it leads to.
pub(crate) const INTERFACE: &str = "eth0";

/// CAP_NET_BIND_SERVICE and CAP_NET_ADMIN of <linux/capability.h>.
const BIND_SERVICE: u64 = 1 << 10;
pub(super) const ADMIN: u64 = 1 << 12;

/// The most descriptors that come back.
const MOST: usize = 8;

/// The longest words of a failure, in bytes.
const WORDS: usize = 1024;

/// In the place of a failed act's number: it cannot be inside; it is; and all acts are done.
const OUTSIDE: u8 = u8::MAX - 2;
const INSIDE: u8 = u8::MAX - 1;
const DONE: u8 = u8::MAX;

/// Without an answer: something has killed it.
const EARLY: &str = "it ended early";

/// One thing to do inside; the order is the plan's.
pub(crate) enum Act {
    /// Bring the loopback interface up.
    Loopback,
    /// Give the job's interface its addresses, bring it up, and lead everything to the network's gateway.
    Interface(Interface),
    /// Load a text of nftables with this program.
    Rules(&'static Path, String),
    /// Open sockets of this namespace, for the launcher; what cannot be opened is said in words.
    Open(fn() -> Result<Vec<OwnedFd>, String>),
}

/// The job's interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interface {
    /// The network's addresses.
    pub(crate) subnet: Subnet,
    /// The job's number among them.
    pub(crate) number: Number,
    /// It is a tap device that another process makes, a little later, and the most that it takes at once, in bytes.
    pub(crate) tap: Option<u32>,
    /// What it has of IPv6.
    pub(crate) ipv6: Ipv6,
}

/// What a job has of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    /// Nothing, as the host.
    Off,
    /// An address that leads nowhere: what is sent is refused at once, where a gateway could not say so.
    Apart,
    /// An address, and a way to everywhere.
    On,
}

impl Interface {
    /// The addresses of a number that there are, with the lengths of their prefixes.
    pub(crate) fn addresses(&self, number: Number) -> impl Iterator<Item = (IpAddr, u8)> + use<> {
        let ipv6 = self.ipv6 != Ipv6::Off;
        let all = self.subnet.addresses(number).into_iter();
        all.filter(move |(address, _)| ipv6 || address.is_ipv4())
    }
}

/// The namespaces of a job that matter here. They are taken before PID 1 closes itself to others.
pub(crate) struct Namespaces {
    user: OwnedFd,
    net: OwnedFd,
}

impl Namespaces {
    /// Those of a process.
    ///
    /// # Errors
    /// ENOENT when it is gone; EACCES when it is another's, or not dumpable any more (ptrace(2)).
    pub(crate) fn of(pid: Pid) -> Result<Namespaces, Errno> {
        let open = |name: &str| {
            let path = format!("/proc/{pid}/ns/{name}");
            nix::fcntl::open(
                path.as_str(),
                nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC,
                nix::sys::stat::Mode::empty(),
            )
        };
        Ok(Namespaces {
            user: open("user")?,
            net: open("net")?,
        })
    }

    /// The user namespace.
    pub(crate) fn user(&self) -> BorrowedFd<'_> {
        self.user.as_fd()
    }

    /// The network namespace.
    pub(crate) fn net(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }

    /// Moves this process into both, and keeps of its capabilities there what the acts need; programs that it executes get
    /// one of them.
    pub(super) fn enter(&self) -> Result<(), Errno> {
        setns(self.user.as_fd(), CloneFlags::CLONE_NEWUSER)?;
        setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET)?;
        capability::set(ADMIN | BIND_SERVICE, ADMIN)?;
        capability::ambient(ADMIN)
    }
}

/// A child at work inside.
pub(crate) struct Agent {
    child: Child,
    answer: OwnedFd,
}

/// Why the inside is not made.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The number of the act that failed; none when it is the agent itself.
    pub(crate) act: Option<usize>,
    /// The cause.
    pub(crate) cause: String,
}

impl Agent {
    /// Starts to do `acts` inside, and returns when it is there; the child dies with this process.
    ///
    /// # Errors
    /// Why it cannot: this process has threads, a limit of processes, namespaces of another owner.
    pub(crate) fn start(namespaces: &Namespaces, acts: &[Act]) -> Result<Agent, String> {
        let (answer, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(words)?;
        let child = fork::run(|| {
            let entered = namespaces
                .enter()
                .and_then(|()| Netlink::open())
                .and_then(|netlink| say(theirs.as_fd(), INSIDE, "", &[]).map(|()| netlink));
            let mut netlink = match entered {
                Ok(netlink) => netlink,
                Err(errno) => return u8::from(say(theirs.as_fd(), OUTSIDE, &words(errno), &[]).is_err()),
            };
            let (number, words, opened) = match work(&mut netlink, acts) {
                Ok(opened) => (DONE, String::new(), opened),
                Err((number, words)) => (number, words, Vec::new()),
            };
            u8::from(say(theirs.as_fd(), number, &words, &opened).is_err())
        })
        .map_err(words)?;
        drop(theirs);
        match hear(answer.as_fd()).map_err(words)? {
            Some((INSIDE, ..)) => Ok(Agent { child, answer }),
            Some((_, cause, _)) => Err(cause),
            None => Err(EARLY.to_owned()),
        }
    }

    /// Its number: who may look at it finds the job's namespaces by that.
    pub(super) fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Waits until everything is done; the sockets that were opened, in their order.
    pub(crate) fn finish(self) -> Result<Vec<OwnedFd>, Failure> {
        let own = |errno: Errno| Failure {
            act: None,
            cause: words(errno),
        };
        let heard = hear(self.answer.as_fd());
        self.child.wait().map_err(own)?;
        match heard.map_err(own)? {
            None => Err(Failure {
                act: None,
                cause: EARLY.to_owned(),
            }),
            Some((DONE, _, opened)) => Ok(opened),
            Some((number, cause, _)) => Err(Failure {
                act: Some(number.into()),
                cause,
            }),
        }
    }
}

impl AsFd for Agent {
    /// Readable when it is done.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }
}

/// Does everything, inside; the number of what failed and why.
fn work(netlink: &mut Netlink, acts: &[Act]) -> Result<Vec<OwnedFd>, (u8, String)> {
    let mut opened = Vec::new();
    for (number, act) in acts.iter().enumerate() {
        let done = match act {
            Act::Loopback => link::up(netlink, "lo").map_err(words),
            Act::Interface(wanted) => interface(netlink, wanted),
            Act::Rules(program, text) => nft::run(program, text),
            Act::Open(open) => open().map(|sockets| opened.extend(sockets)),
        };
        done.map_err(|cause| (u8::try_from(number).unwrap_or(OUTSIDE - 1), cause))?;
    }
    Ok(opened)
}

/// How often the interface is looked for that another process makes, each a millisecond after the other.
const LOOKS: u32 = 10_000;

fn interface(netlink: &mut Netlink, wanted: &Interface) -> Result<(), String> {
    let mut looks = if wanted.tap.is_some() { LOOKS } else { 1 };
    let link = loop {
        looks -= 1;
        match link::find(netlink, INTERFACE).map_err(words)? {
            Some(link) => break link,
            None if looks == 0 => return Err("it is not there".to_owned()),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    if route::has_ipv6() {
        sysctl::only_given_ipv6(INTERFACE).map_err(|error| error.to_string())?;
    }
    for (address, length) in wanted.addresses(wanted.number) {
        route::add_address(netlink, link.index, address, length).map_err(words)?;
    }
    if let Some(mtu) = wanted.tap {
        link::set_mtu(netlink, INTERFACE, mtu).map_err(words)?;
    }
    link::up(netlink, INTERFACE).map_err(words)?;
    for (gateway, _) in wanted.addresses(GATEWAY) {
        if wanted.tap.is_none() {
            // No other job on the bridge can say that it is the gateway.
            let mac = wanted.subnet.mac(GATEWAY);
            neighbour::add(netlink, link.index, gateway, mac).map_err(words)?;
        }
        if wanted.ipv6 == Ipv6::On || gateway.is_ipv4() {
            route::add_default(netlink, gateway).map_err(words)?;
        }
    }
    Ok(())
}

/// Sends one answer.
fn say(to: BorrowedFd<'_>, number: u8, words: &str, opened: &[OwnedFd]) -> Result<(), Errno> {
    let words = &words.as_bytes()[..words.len().min(WORDS)];
    let raw: Vec<RawFd> = opened.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let slices = [IoSlice::new(std::slice::from_ref(&number)), IoSlice::new(words)];
    sendmsg::<()>(to.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

type Answer = (u8, String, Vec<OwnedFd>);

/// Waits for the answer; none when the agent has ended without one.
fn hear(from: BorrowedFd<'_>) -> Result<Option<Answer>, Errno> {
    let mut bytes = [0; 1 + WORDS];
    let mut control = cmsg_space!([RawFd; MOST]);
    loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(message) => {
                let mut opened = Vec::new();
                for item in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(fds) = item {
                        opened.extend(fds.into_iter().map(received_descriptor));
                    }
                }
                let length = message.bytes;
                let words = bytes.get(1..length).map(String::from_utf8_lossy);
                return Ok(words.map(|words| (bytes[0], words.into_owned(), opened)));
            }
        }
    }
}
