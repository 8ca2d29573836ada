//! The resolver's process: it reads bytes that the job makes, so it has nothing that the job could want.
//!
//! It stays in the host's network namespace, to ask the host's servers, and has no right there. In the job's user namespace
//! it keeps CAP_NET_ADMIN, to fill the sets of the job's rules. It sees no file.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::message::Transport;
use super::upstream::{read_framed, write_framed};
use super::{Desk, Upstream};
use crate::egress::Policy;
use crate::egress::rules::LISTENER;
use crate::net::agent::ADMIN;
use crate::net::confine::confine;
use crate::net::directory::{self, Directory};
use crate::net::lookups::Lookups;
use crate::net::nfnetlink;
use crate::net::sets::{Sets, Tried};
use crate::sys::fork::{self, Child};

/// Questions over UDP that are answered at the same time; further ones are asked again by whoever asks.
const AT_ONCE: usize = 64;

/// Connections at the same time; for a further one the oldest is ended (RFC 7766, section 6.2.3).
const CONNECTIONS: usize = 32;

/// How long a job may think between two questions of one connection.
const IDLE: Duration = Duration::from_secs(5);

/// The stack of a thread that answers: a name has 20 aliases at the most, a message 64 KiB on the heap.
const STACK: usize = 256 << 10;

/// How long the resolver may take to say what it remembers.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The most that it may say, in bytes: twice what its memory holds of names that are as long as names can be.
const WORDS: u64 = 8 << 20;

/// Whether the names of other jobs are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jobs {
    /// The job sees no others.
    Alone,
    /// Its network has a name: those on it are found by theirs.
    Named,
}

/// What the launcher has of a resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    /// Dropped, it ends without a word.
    child: Child,
    channel: UnixStream,
    directory: Directory,
    sets: OwnedFd,
}

/// Opens what a resolver needs of a job's network namespace: its sockets, and two ways to the sets of the rules.
///
/// # Errors
/// Which of them could not be opened, and why.
pub(crate) fn open() -> Result<Vec<OwnedFd>, String> {
    let bound = |error: io::Error| format!("listen on {LISTENER}: {}", errno(&error).desc());
    let udp = UdpSocket::bind(LISTENER).map_err(bound)?;
    let tcp = TcpListener::bind(LISTENER).map_err(bound)?;
    let sets = || nfnetlink::open().map_err(|errno| format!("nfnetlink: {}", errno.desc()));
    Ok(vec![udp.into(), tcp.into(), sets()?, sets()?])
}

impl Resolver {
    /// Starts a resolver on the sockets of [`open`], with what it keeps of rights in the job's user namespace. It makes its
    /// policy by itself, while this process goes on; who asks before has to wait for it.
    ///
    /// # Errors
    /// EBADF when these are not its sockets; ECHILD when it could not give its rights up; fork's.
    pub(crate) fn start(
        sockets: Vec<OwnedFd>,
        user: BorrowedFd<'_>,
        policy: impl FnOnce() -> Policy,
        upstream: Upstream,
        jobs: Jobs,
    ) -> Result<Resolver, Errno> {
        let [udp, tcp, its_sets, our_sets] = <[OwnedFd; 4]>::try_from(sockets).map_err(|_| Errno::EBADF)?;
        let (directory, inquirer) = directory::pair().map_err(|error| errno(&error))?;
        let (mut channel, mut theirs) = UnixStream::pair().map_err(|error| errno(&error))?;
        let child = fork::run(|| {
            let inquirer = OwnedFd::from(inquirer);
            let kept = [
                theirs.as_fd(),
                udp.as_fd(),
                tcp.as_fd(),
                its_sets.as_fd(),
                inquirer.as_fd(),
            ];
            if confine(user, None, &kept, ADMIN).is_err() || theirs.write_all(&[0]).is_err() {
                return 1;
            }
            let desk = Desk {
                policy: policy(),
                upstream,
                jobs: match jobs {
                    Jobs::Alone => None,
                    Jobs::Named => Some(Mutex::new(inquirer.into())),
                },
                sets: Mutex::new(Sets::new(its_sets)),
                lookups: Mutex::new(Lookups::default()),
            };
            u8::from(serve(desk, theirs, udp.into(), tcp.into()).is_err())
        })?;
        let resolver = Resolver {
            child,
            directory,
            channel: channel.try_clone().map_err(|error| errno(&error))?,
            sets: our_sets,
        };
        // Its copy of the other end is the only one now, so its death is an end of file.
        match channel.read_exact(&mut [0]) {
            Ok(()) => Ok(resolver),
            Err(_) => Err(Errno::ECHILD),
        }
    }

    /// Who it asks for the names of jobs: the launcher, by this.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Closes addresses to the job, by its rules.
    ///
    /// # Errors
    /// EPERM when this process may not; the kernel's.
    pub(crate) fn close(&self, addresses: &[IpAddr]) -> Result<(), Errno> {
        let sets = self.sets.try_clone().map_err(|error| errno(&error))?;
        Sets::new(sets).close(addresses)
    }

    /// Ends it; what the job tried by the kernel's count, and which names it looked up.
    ///
    /// # Errors
    /// When the kernel does not say it. What the resolver does not say is left out, and said to be.
    pub(crate) fn finish(self) -> Result<(Vec<Tried>, Lookups), Errno> {
        let said = self.last_words();
        drop(self.child);
        let tried = Sets::new(self.sets).tried()?;
        Ok((tried, said.unwrap_or_else(Lookups::unknown)))
    }

    fn last_words(&self) -> Option<Lookups> {
        self.channel.shutdown(Shutdown::Write).ok()?;
        self.channel.set_read_timeout(Some(LAST_WORDS)).ok()?;
        let mut words = Vec::new();
        (&self.channel).take(WORDS).read_to_end(&mut words).ok()?;
        serde_json::from_slice(&words).ok()
    }
}

/// Answers until the launcher has nothing more to say, then says what is remembered.
fn serve(desk: Desk, mut channel: UnixStream, udp: UdpSocket, tcp: TcpListener) -> io::Result<()> {
    // What poll(2) has seen may be gone when it is read.
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let (desk, udp) = (Arc::new(desk), Arc::new(udp));
    let (busy, talking) = (Arc::new(()), Arc::new(()));
    let mut connections: VecDeque<Arc<TcpStream>> = VecDeque::new();
    let mut bytes = vec![0; usize::from(u16::MAX)];
    loop {
        let mut watched =
            [channel.as_fd(), udp.as_fd(), tcp.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut watched, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            polled => drop(polled?),
        }
        let [over, asked, called] = watched.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if over {
            let lookups = desk.lookups.lock().unwrap_or_else(PoisonError::into_inner);
            let words = serde_json::to_vec(&*lookups)?;
            return channel.write_all(&words);
        }
        if asked && let Ok((length, from)) = udp.recv_from(&mut bytes) {
            let (desk, udp, question) = (desk.clone(), udp.clone(), bytes[..length].to_vec());
            answer_apart(&busy, AT_ONCE, move || {
                if let Some(answer) = desk.answer(&question, Transport::Udp) {
                    // A job that does not read its answers asks again.
                    udp.send_to(&answer, from).ok();
                }
            });
        }
        if called && let Ok((stream, _)) = tcp.accept() {
            let (desk, stream) = (desk.clone(), Arc::new(stream));
            connections.retain(|one| Arc::strong_count(one) > 1);
            if connections.len() >= CONNECTIONS
                && let Some(oldest) = connections.pop_front()
            {
                // Whoever reads from it finds its end; one that has gone has no need of that.
                oldest.shutdown(Shutdown::Both).ok();
            }
            connections.push_back(stream.clone());
            // The end of a connection is the job's to notice. One that was ended may still wait for a server.
            answer_apart(&talking, 2 * CONNECTIONS, move || drop(converse(&desk, &stream)));
        }
    }
}

/// Answers in a thread of its own, unless there are so many or there can be none: then there is no answer.
fn answer_apart(busy: &Arc<()>, most: usize, work: impl FnOnce() + Send + 'static) {
    if Arc::strong_count(busy) > most {
        return;
    }
    let mine = busy.clone();
    let thread = std::thread::Builder::new().stack_size(STACK);
    let started = thread.spawn(move || {
        work();
        drop(mine);
    });
    drop(started);
}

/// Answers the questions of one connection.
fn converse(desk: &Desk, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    loop {
        let question = read_framed(&mut stream)?;
        let Some(answer) = desk.answer(&question, Transport::Tcp) else {
            return Ok(());
        };
        write_framed(&mut stream, &answer)?;
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}
