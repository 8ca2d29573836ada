//! Datagrams: each caller has a socket of its own inside, so that the answers find their way back.

use std::collections::HashMap;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};

use super::porter::{Inside, PIECE, start};

/// How long a caller may be silent before its answers find it no more.
const SILENCE: Duration = Duration::from_secs(60);

/// Who sends, and to which of the host's addresses: an answer from another one would be a stranger's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Caller {
    from: SocketAddr,
    at: Option<IpAddr>,
}

type Callers = Mutex<HashMap<Caller, Arc<UdpSocket>>>;

/// Leads all that arrives at `socket` to the port `to` inside.
pub(super) fn serve(socket: &Arc<UdpSocket>, to: u16, inside: &Inside) {
    let callers: Arc<Callers> = Arc::default();
    let mut piece = vec![0; PIECE];
    loop {
        // An error is another datagram's, which did not arrive.
        let Ok((length, caller)) = receive(socket, &mut piece) else {
            continue;
        };
        let known = locked(&callers).get(&caller).map(Arc::clone);
        let job = known.or_else(|| introduce(caller, socket, to, inside, &callers));
        if let Some(job) = job {
            // Lost, as datagrams may be.
            job.send(&piece[..length]).ok();
        }
    }
}

/// Opens a socket inside for a caller; none when there are too many, or there can be no more.
fn introduce(
    caller: Caller,
    socket: &Arc<UdpSocket>,
    to: u16,
    inside: &Inside,
    callers: &Arc<Callers>,
) -> Option<Arc<UdpSocket>> {
    let place = inside.caller()?;
    let job = Arc::new(open(&inside.sockets(to))?);
    let (own_job, own_socket, own_callers) = (Arc::clone(&job), Arc::clone(socket), Arc::clone(callers));
    locked(callers).insert(caller, Arc::clone(&job));
    let started = start(move || {
        answer(&own_job, &own_socket, caller);
        locked(&own_callers).remove(&caller);
        drop(place);
    });
    match started {
        Ok(_) => Some(job),
        Err(_) => {
            locked(callers).remove(&caller);
            None
        }
    }
}

fn locked(callers: &Callers) -> MutexGuard<'_, HashMap<Caller, Arc<UdpSocket>>> {
    callers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(job: &[SocketAddr]) -> Option<UdpSocket> {
    let job = job.first()?;
    let any = match job {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(job).ok()?;
    socket.set_read_timeout(Some(SILENCE)).ok()?;
    Some(socket)
}

/// Passes on a job's answers until it has been silent for long.
fn answer(job: &UdpSocket, socket: &UdpSocket, caller: Caller) {
    let mut piece = vec![0; PIECE];
    loop {
        match job.recv(&mut piece) {
            Ok(length) => {
                send(socket, &piece[..length], caller).ok();
            }
            // Nobody listens inside yet, or no more: the caller may try again.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

/// Waits for a datagram: its length and who sent it.
fn receive(socket: &UdpSocket, piece: &mut [u8]) -> Result<(usize, Caller), Errno> {
    let mut control = cmsg_space!(in_pktinfo, in6_pktinfo);
    let mut slices = [IoSliceMut::new(piece)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let from = message.address.ok_or(Errno::EDESTADDRREQ)?;
    let four = from
        .as_sockaddr_in()
        .map(|four| SocketAddr::from(SocketAddrV4::from(*four)));
    let six = from
        .as_sockaddr_in6()
        .map(|six| SocketAddr::from(SocketAddrV6::from(*six)));
    let at = message.cmsgs()?.find_map(|item| match item {
        // The host's own address: for a broadcast it is not the one that was sent to (ip(7), IP_PKTINFO).
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(IpAddr::from(Ipv4Addr::from(u32::from_be(
            info.ipi_spec_dst.s_addr,
        )))),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    });
    let from = four.or(six).ok_or(Errno::EAFNOSUPPORT)?;
    Ok((message.bytes, Caller { from, at }))
}

/// Sends a datagram to a caller, from where it was called.
fn send(socket: &UdpSocket, piece: &[u8], caller: Caller) -> Result<usize, Errno> {
    let slices = [IoSlice::new(piece)];
    let to = SockaddrStorage::from(caller.from);
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(
            socket.as_raw_fd(),
            &slices,
            control,
            MsgFlags::MSG_NOSIGNAL,
            Some(&to),
        )
    };
    match caller.at {
        Some(IpAddr::V4(at)) => send(&[ControlMessage::Ipv4PacketInfo(&in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr {
                s_addr: u32::from(at).to_be(),
            },
            ipi_addr: in_addr { s_addr: 0 },
        })]),
        Some(IpAddr::V6(at)) => send(&[ControlMessage::Ipv6PacketInfo(&in6_pktinfo {
            ipi6_addr: in6_addr { s6_addr: at.octets() },
            ipi6_ifindex: 0,
        })]),
        None => send(&[]),
    }
}
