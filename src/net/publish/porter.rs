//! The child that passes on what arrives. It lives in the job's network namespace, and has no rights and sees no files.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Door, Socket, datagrams, errno, streams};
use crate::net::agent::Namespaces;
use crate::net::confine::confine;
use crate::net::words;
use crate::sys::fork::{self, Child};

/// The most connections, and as many callers by UDP, at a time. More wait, or are not heard.
const MOST: u64 = 1024;

/// The descriptors that a connection and a caller by UDP take together: two sockets and one.
const OF_EACH: u64 = 3;

/// How much is passed on at a time, in bytes: the most that a datagram has.
pub(super) const PIECE: usize = 64 << 10;

/// How long what the job has written before its end may take to be delivered.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the child says when it is inside and at every door; anything else is an error's number.
const READY: u8 = 0;

/// The child, as the launcher has it.
pub(crate) struct Porter {
    child: Child,
    /// Its end on either side ends the other's work.
    channel: UnixStream,
}

impl Porter {
    /// Starts it, and returns when it leads all `doors` to the job's `addresses`.
    ///
    /// # Errors
    /// Why it cannot: this process has threads, a limit of processes or of open files, a job that is gone.
    pub(crate) fn start(
        namespaces: &Namespaces,
        doors: Vec<Door>,
        addresses: &[IpAddr],
    ) -> Result<Porter, String> {
        let (mut channel, mut theirs) = UnixStream::pair().map_err(|error| words(errno(error)))?;
        let child = fork::run(|| {
            let ready = inside(namespaces, doors, addresses, &theirs);
            let number = ready
                .as_ref()
                .err()
                .map_or(READY, |errno| u8::try_from(*errno as i32).unwrap_or(u8::MAX));
            match (theirs.write_all(&[number]), ready) {
                (Ok(()), Ok(inside)) => inside.until_the_end_of(theirs),
                _ => 1,
            }
        });
        let child = child.map_err(words)?;
        let mut said = [u8::MAX];
        // The child has the only copy of the other end now, so its death is an end of file.
        match channel.read_exact(&mut said).map(|()| said) {
            Ok([READY]) => Ok(Porter { child, channel }),
            Ok([number]) => Err(words(Errno::from_raw(number.into()))),
            Err(_) => Err("the process that passes on was killed".to_owned()),
        }
    }

    /// Lets what is under way be delivered, for half a second at the most, and ends it.
    ///
    /// # Errors
    /// That it had ended before.
    pub(crate) fn end(self) -> Result<(), String> {
        // One that is gone has a status that says so.
        self.channel.shutdown(Shutdown::Both).ok();
        match self.child.wait().map_err(words)?.status {
            0 => Ok(()),
            _ => Err("the process that passes on was killed".to_owned()),
        }
    }
}

/// What all threads know.
pub(super) struct Inside {
    addresses: Vec<IpAddr>,
    /// The most of each of the following.
    most: u64,
    /// Connections at the moment.
    connections: Arc<AtomicU64>,
    /// Callers by UDP at the moment.
    callers: Arc<AtomicU64>,
}

/// A place among those that are served, until it is dropped.
pub(super) struct Place(Arc<AtomicU64>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inside {
    /// Where a job listens.
    pub(super) fn sockets(&self, port: u16) -> Vec<SocketAddr> {
        self.addresses
            .iter()
            .map(|address| SocketAddr::new(*address, port))
            .collect()
    }

    /// A place for a connection; none while there are too many.
    pub(super) fn connection(&self) -> Option<Place> {
        self.place(&self.connections)
    }

    /// A place for a caller by UDP.
    pub(super) fn caller(&self) -> Option<Place> {
        self.place(&self.callers)
    }

    fn place(&self, taken: &Arc<AtomicU64>) -> Option<Place> {
        let others = taken.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(taken));
        (others < self.most).then_some(place)
    }

    /// Serves until the launcher has nothing more to say; the status is the child's.
    fn until_the_end_of(&self, mut channel: UnixStream) -> u8 {
        // It says nothing: its end, and an error, are the same.
        channel.read_exact(&mut [0]).ok();
        let over = Instant::now();
        while self.connections.load(Ordering::Relaxed) > 0 && over.elapsed() < LAST_WORDS {
            thread::sleep(Duration::from_millis(1));
        }
        0
    }
}

/// Enters the job's network, and opens the doors.
fn inside(
    namespaces: &Namespaces,
    doors: Vec<Door>,
    addresses: &[IpAddr],
    channel: &UnixStream,
) -> Result<Arc<Inside>, Errno> {
    let kept: Vec<BorrowedFd<'_>> = std::iter::once(channel.as_fd())
        .chain(doors.iter().map(AsFd::as_fd))
        .collect();
    confine(namespaces.user(), Some(namespaces.net()), &kept, 0)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    // Each door may have one more that waits for a place; besides them there are the standard streams and the channel.
    let free = hard.saturating_sub(2 * kept.len() as u64 + 8);
    let inside = Arc::new(Inside {
        addresses: addresses.to_vec(),
        most: (free / OF_EACH).clamp(1, MOST),
        connections: Arc::default(),
        callers: Arc::default(),
    });
    for door in doors {
        let inside = Arc::clone(&inside);
        start(move || match door.socket {
            Socket::Tcp(socket) => streams::serve(&socket, door.to, &inside),
            Socket::Udp(socket) => datagrams::serve(&Arc::new(socket), door.to, &inside),
        })?;
    }
    Ok(inside)
}

/// Starts a thread.
pub(super) fn start(work: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, Errno> {
    thread::Builder::new()
        .stack_size(PIECE)
        .spawn(work)
        .map_err(errno)
}
