//! The job's streams: given ones pass through, terminals are replaced, counted ones are copied.
//!
//! Files, pipes and sockets of the caller become the job's own descriptors. A terminal never does: a job that
//! holds it can push input into the caller's shell (CVE-2017-5226), so bytes are copied through pipes, or, with
//! `-t`, through a terminal of the sandbox's own.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{pipe2, read, write};

use super::error::{LaunchError, words};
use crate::sys::process::duplicate_above;
use crate::sys::terminal::{set_window_size, window_size};

/// At most so much is written at once: a pipe that poll(2) calls writable takes this much without blocking (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;

/// Both sides of the job's streams.
pub(super) struct Streams {
    /// The job's side; none when it gets a terminal of its own.
    pub(super) job: Option<[OwnedFd; 3]>,
    /// What the launcher copies.
    pub(super) pumps: Vec<Pump>,
}

/// One direction of copying.
pub(super) struct Pump {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    buffer: Vec<u8>,
    /// Which of the job's streams: 0, 1 or 2.
    pub(super) stream: usize,
    /// Bytes that were taken so far.
    pub(super) carried: u64,
    limit: Option<u64>,
}

/// Connects the job's streams to `given` ones, else to the caller's. With `limit` both outputs are counted.
///
/// # Errors
/// At the limit of open files.
pub(super) fn connect(
    given: Option<[OwnedFd; 3]>,
    tty: bool,
    limit: Option<u64>,
) -> Result<Streams, LaunchError> {
    let failed = |errno| LaunchError::setup("streams of the job", words(errno));
    if tty {
        return Ok(Streams {
            job: None,
            pumps: Vec::new(),
        });
    }
    let mut pumps = Vec::new();
    let mut job = Vec::with_capacity(3);
    let own = match given {
        Some(given) => given,
        None => own_streams().map_err(failed)?,
    };
    for (stream, own) in own.into_iter().enumerate() {
        no_directory(&own, stream)?;
        let counted = stream > 0 && limit.is_some();
        if !counted && !own.is_terminal() {
            job.push(own);
            continue;
        }
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        if stream == 0 {
            never_block(&writer).map_err(failed)?;
            pumps.push(Pump::new(0, unblocked(own, OFlag::O_RDONLY), writer, None));
            job.push(reader);
        } else {
            never_block(&reader).map_err(failed)?;
            let own = unblocked(own, OFlag::O_WRONLY);
            pumps.push(Pump::new(stream, reader, own, limit.filter(|_| counted)));
            job.push(writer);
        }
    }
    let job = <[OwnedFd; 3]>::try_from(job).map_err(|_| failed(Errno::EBADF))?;
    Ok(Streams {
        job: Some(job),
        pumps,
    })
}

/// A directory is no stream, and leads from `/proc/self/fd/0` to all of its file system (CVE-2024-21626).
fn no_directory(stream: &OwnedFd, number: usize) -> Result<(), LaunchError> {
    let what = ["standard input", "standard output", "standard error"][number.min(2)];
    let seen = fstat(stream).map_err(|errno| LaunchError::setup(what, words(errno)))?;
    if SFlag::from_bits_truncate(seen.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
        return Err(LaunchError::setup(
            what,
            "a directory, which would lead the job out of its root",
        ));
    }
    Ok(())
}

/// Copies of the caller's three streams; a closed one is `/dev/null`, so that no other file takes its number.
fn own_streams() -> Result<[OwnedFd; 3], Errno> {
    let copy = |fd: BorrowedFd<'_>| match duplicate_above(fd, 3) {
        Err(Errno::EBADF) => {
            let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
            duplicate_above(null.as_fd(), 3)
        }
        copied => copied,
    };
    Ok([
        copy(io::stdin().as_fd())?,
        copy(io::stdout().as_fd())?,
        copy(io::stderr().as_fd())?,
    ])
}

/// Reading and writing our end of the job's stream never waits, whatever poll(2) has promised: a job of the caller's own id
/// can open the other end of its pipe through `/proc/self/fd` and take away what was there, and while the launcher
/// waits no limit of time holds.
fn never_block(end: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFL)?);
    fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// The caller's terminal, or pipe to write to, opened again as one that never blocks, since others may read and write
/// it as well; O_NONBLOCK on the caller's own open file would be theirs too. As it is where that is forbidden (a pipe
/// of another user's making). A pipe that is opened again for reading would not tell of writers that have gone before.
fn unblocked(own: OwnedFd, access: OFlag) -> OwnedFd {
    let kind = fstat(&own).map_or(0, |seen| seen.st_mode & SFlag::S_IFMT.bits());
    let outgoing = access == OFlag::O_WRONLY && kind == SFlag::S_IFIFO.bits();
    if !outgoing && !own.is_terminal() {
        return own;
    }
    let path = format!("/proc/self/fd/{}", own.as_raw_fd());
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).unwrap_or(own)
}

/// A file in memory without a name, for a job's output that its caller reads afterwards (memfd_create(2)).
///
/// # Errors
/// At the limit of open files.
pub(crate) fn anonymous_file() -> Result<File, LaunchError> {
    memfd_create(c"output", MFdFlags::MFD_CLOEXEC)
        .map(File::from)
        .map_err(|errno| LaunchError::setup("streams of the job", words(errno)))
}

/// Copies between the caller's streams and the job's own terminal `master`.
///
/// # Errors
/// At the limit of open files.
pub(super) fn connect_terminal(master: &OwnedFd, limit: Option<u64>) -> Result<Vec<Pump>, Errno> {
    let [input, output, _] = own_streams()?;
    resize(master);
    never_block(master)?;
    let (to, from) = (master.try_clone(), master.try_clone());
    let (Ok(to), Ok(from)) = (to, from) else {
        return Err(Errno::EMFILE);
    };
    Ok(vec![
        Pump::new(0, unblocked(input, OFlag::O_RDONLY), to, None),
        Pump::new(1, from, unblocked(output, OFlag::O_WRONLY), limit),
    ])
}

/// Gives the job's terminal the size of the caller's, if that is one.
pub(super) fn resize(master: &OwnedFd) {
    if let Ok(size) = window_size(io::stdout().as_fd()) {
        // A terminal that has just gone has no size to set.
        set_window_size(master.as_fd(), &size).ok();
    }
}

/// The caller's terminal in raw mode; its old state comes back when this is dropped.
pub(super) struct RawMode(Termios);

impl RawMode {
    /// Sets raw mode; none when standard input is no terminal.
    pub(super) fn set() -> Option<RawMode> {
        let old = tcgetattr(io::stdin()).ok()?;
        let mut raw = old.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(RawMode(old))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may have gone; there is nobody left to see its state.
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0).ok();
    }
}

impl Pump {
    fn new(stream: usize, from: OwnedFd, to: OwnedFd, limit: Option<u64>) -> Pump {
        Pump {
            from: Some(from),
            to: Some(to),
            buffer: Vec::new(),
            stream,
            carried: 0,
            limit,
        }
    }

    /// What to wait for next; none when nothing will ever pass again.
    pub(super) fn interest(&self) -> Option<PollFd<'_>> {
        if !self.buffer.is_empty() {
            return self
                .to
                .as_ref()
                .map(|to| PollFd::new(to.as_fd(), PollFlags::POLLOUT));
        }
        self.from
            .as_ref()
            .map(|from| PollFd::new(from.as_fd(), PollFlags::POLLIN))
    }

    /// Passes on one piece. `true` when the limit was reached: what is beyond it is dropped.
    pub(super) fn pass(&mut self) -> bool {
        if self.buffer.is_empty() {
            self.fill()
        } else {
            self.empty();
            false
        }
    }

    fn fill(&mut self) -> bool {
        let Some(from) = &self.from else { return false };
        let mut piece = [0; PIECE];
        let length = match read(from.as_fd(), &mut piece) {
            Err(Errno::EINTR | Errno::EAGAIN) => return false,
            // The last holder of the job's terminal has gone (EIO), or the caller's stream has.
            Err(_) | Ok(0) => {
                self.close();
                return false;
            }
            Ok(length) => length,
        };
        let room = self
            .limit
            .map_or(length as u64, |limit| (limit - self.carried).min(length as u64));
        self.carried += room;
        self.buffer
            .extend_from_slice(&piece[..usize::try_from(room).unwrap_or(length)]);
        room < length as u64
    }

    fn empty(&mut self) {
        let Some(to) = &self.to else {
            return self.buffer.clear();
        };
        match write(to.as_fd(), &self.buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // The reader has gone: as with a pipe of the job's own, it learns so from its next write.
            Err(_) => {
                self.buffer.clear();
                self.close();
            }
            Ok(length) => drop(self.buffer.drain(..length)),
        }
    }

    /// Whether it waits for something to read.
    pub(super) fn is_reading(&self) -> bool {
        self.from.is_some() && self.buffer.is_empty()
    }

    /// Reads no more; what was read is still passed on.
    pub(super) fn close(&mut self) {
        self.from = None;
        if self.buffer.is_empty() {
            self.to = None;
        }
    }

    /// Whether everything that will ever come has been passed on.
    pub(super) fn is_done(&self) -> bool {
        self.from.is_none() && self.buffer.is_empty()
    }
}
