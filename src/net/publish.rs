//! Ports of the host that lead to a job: sockets of the host's network, held by a child that lives in the job's.
//!
//! A socket belongs to the network namespace that it was made in, wherever its holder goes. So what arrives at the host's
//! sockets is passed on from inside: by no rule of a firewall, the same for root and everybody else, from the host's
//! loopback as from elsewhere, and nothing is left when the child is gone. Inside, the caller of a published port is the
//! job's own address.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::unistd::{Pid, pipe2, read, write};

use super::agent::Namespaces;
use crate::sys::{capability, fork, process};

/// The most connections, and callers by UDP, at a time. More wait, or are not heard.
const MOST: usize = 1024;

/// How much is passed on at a time, in bytes: the most that a datagram has.
const PIECE: usize = 64 << 10;

/// How long a job may take to accept a connection.
const ACCEPT: Duration = Duration::from_secs(10);

/// How long a caller by UDP may be silent before its answers find it no more.
const SILENCE: Duration = Duration::from_secs(60);

/// How long what the job has written before its end may take to be delivered.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A socket of the host, and the port inside that it leads to.
pub(crate) struct Door {
    socket: Socket,
    /// Where it stands: the port is the one that was chosen where 0 was asked for.
    pub(crate) at: SocketAddr,
    /// The port inside.
    pub(crate) to: u16,
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Door {
    /// Opens a TCP socket of this process's network; it keeps callers waiting until the doors are opened.
    ///
    /// # Errors
    /// The kernel's: the address is taken, is not this host's, or needs more rights.
    pub(crate) fn tcp(at: SocketAddr, to: u16) -> io::Result<Door> {
        let socket = TcpListener::bind(at)?;
        let at = socket.local_addr()?;
        Ok(Door {
            socket: Socket::Tcp(socket),
            at,
            to,
        })
    }

    /// Opens a UDP socket.
    ///
    /// # Errors
    /// As [`Door::tcp`].
    pub(crate) fn udp(at: SocketAddr, to: u16) -> io::Result<Door> {
        let socket = UdpSocket::bind(at)?;
        let at = socket.local_addr()?;
        Ok(Door {
            socket: Socket::Udp(socket),
            at,
            to,
        })
    }
}

/// The child that passes on what arrives.
pub(crate) struct Porter {
    pid: Pid,
    /// A byte here ends the child.
    bell: OwnedFd,
}

impl Porter {
    /// Starts it: it enters the job's namespaces, keeps no capability there, and leads all `doors` to the job's `addresses`.
    ///
    /// # Errors
    /// EBUSY when this process has threads; EMFILE; EAGAIN at a limit of processes.
    pub(crate) fn start(
        namespaces: &Namespaces,
        doors: Vec<Door>,
        addresses: &[IpAddr],
    ) -> Result<Porter, Errno> {
        let (end, bell) = pipe2(OFlag::O_CLOEXEC)?;
        let pid = fork::run(|| match namespaces.enter().and_then(|()| give_up_rights()) {
            Ok(()) => serve(doors, addresses, &end),
            Err(_) => 1,
        })?;
        Ok(Porter { pid, bell })
    }

    /// Lets what is under way be delivered, for half a second at the most, and ends it.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn end(self) -> Result<(), Errno> {
        write(&self.bell, b"x")?;
        process::wait(self.pid).map(drop)
    }
}

fn give_up_rights() -> Result<(), Errno> {
    capability::ambient(0)?;
    capability::set(0, 0)?;
    prctl::set_no_new_privs()
}

/// What all threads know.
struct Inside {
    addresses: Vec<IpAddr>,
    /// Connections and callers at the moment.
    busy: AtomicUsize,
}

impl Inside {
    fn sockets(&self, port: u16) -> Vec<SocketAddr> {
        self.addresses
            .iter()
            .map(|address| SocketAddr::new(*address, port))
            .collect()
    }
}

/// Runs until the launcher rings; the status is the child's.
fn serve(doors: Vec<Door>, addresses: &[IpAddr], end: &OwnedFd) -> u8 {
    let inside = Arc::new(Inside {
        addresses: addresses.to_vec(),
        busy: AtomicUsize::new(0),
    });
    for door in doors {
        let inside = Arc::clone(&inside);
        start(move || match door.socket {
            Socket::Tcp(socket) => serve_tcp(&socket, door.to, &inside),
            Socket::Udp(socket) => serve_udp(&Arc::new(socket), door.to, &inside),
        });
    }
    while let Err(Errno::EINTR) = read(end, &mut [0]) {}
    let over = Instant::now();
    while inside.busy.load(Ordering::Relaxed) > 0 && over.elapsed() < LAST_WORDS {
        thread::sleep(Duration::from_millis(1));
    }
    0
}

/// Starts a thread; without one, at a limit of processes, its caller is not heard.
fn start(work: impl FnOnce() + Send + 'static) -> bool {
    thread::Builder::new().stack_size(PIECE).spawn(work).is_ok()
}

fn serve_tcp(socket: &TcpListener, to: u16, inside: &Arc<Inside>) {
    loop {
        if inside.busy.load(Ordering::Relaxed) >= MOST {
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        let Ok((caller, _)) = socket.accept() else {
            // ECONNABORTED and a limit of files pass.
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let own = Arc::clone(inside);
        own.busy.fetch_add(1, Ordering::Relaxed);
        let started = start(move || {
            pass_connection(caller, &own.sockets(to));
            own.busy.fetch_sub(1, Ordering::Relaxed);
        });
        if !started {
            inside.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Connects inside, and passes on both ways until both are at their end. A job that does not listen is an end at once.
fn pass_connection(caller: TcpStream, job: &[SocketAddr]) {
    let connect = |address: &SocketAddr| TcpStream::connect_timeout(address, ACCEPT).ok();
    let Some(job) = job.iter().find_map(connect) else {
        return;
    };
    caller.set_nodelay(true).and_then(|()| job.set_nodelay(true)).ok();
    let (Ok(from), Ok(to)) = (caller.try_clone(), job.try_clone()) else {
        return;
    };
    let inwards = thread::Builder::new()
        .stack_size(PIECE)
        .spawn(move || pass(from, to));
    pass(job, caller);
    if let Ok(inwards) = inwards {
        inwards.join().ok();
    }
}

/// Passes on one way; its end is passed on as well.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if to.write_all(&piece[..length]).is_err() {
                    // Nobody reads it any more, so nobody need write it.
                    from.shutdown(Shutdown::Read).ok();
                    break;
                }
            }
        }
    }
    to.shutdown(Shutdown::Write).ok();
}

/// Gives each caller a socket of its own inside, so that the answers find their way back.
fn serve_udp(socket: &Arc<UdpSocket>, to: u16, inside: &Arc<Inside>) {
    type Callers = HashMap<SocketAddr, Arc<UdpSocket>>;
    let callers: Arc<Mutex<Callers>> = Arc::default();
    let mut piece = vec![0; PIECE];
    loop {
        let Ok((length, caller)) = socket.recv_from(&mut piece) else {
            continue;
        };
        let mut known = callers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !known.contains_key(&caller) {
            let Some(job) = open_udp(&inside.sockets(to)).filter(|_| known.len() < MOST) else {
                continue;
            };
            let job = Arc::new(job);
            known.insert(caller, Arc::clone(&job));
            let (socket, callers) = (Arc::clone(socket), Arc::clone(&callers));
            start(move || {
                answer(&job, &socket, caller);
                let mut known = callers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                known.remove(&caller);
            });
        }
        if let Some(job) = known.get(&caller) {
            // Lost, as datagrams may be.
            job.send(&piece[..length]).ok();
        }
    }
}

fn open_udp(job: &[SocketAddr]) -> Option<UdpSocket> {
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
fn answer(job: &UdpSocket, socket: &UdpSocket, caller: SocketAddr) {
    let mut piece = vec![0; PIECE];
    loop {
        match job.recv(&mut piece) {
            Ok(length) => {
                socket.send_to(&piece[..length], caller).ok();
            }
            // Nobody listens inside yet, or no more: the caller may try again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}
