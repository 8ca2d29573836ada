//! What a process of the job sees when it tries: asked after all protections are applied, where the job's program
//! would be executed, so that an image needs no tool for it.
//!
//! Filters may forbid to ask for memory here, so everything is prepared, and an answer is one number.

mod name;
mod peer;

use std::ffi::{CStr, CString};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::UnixAddr;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{getgid, getuid, read, unlink, write};

pub(crate) use self::name::Name;
use crate::report::channel::Channel;
use crate::report::record::Record;
use crate::sys;

/// The answer to [`Probe::Read`] where a file was opened and nothing is in it, as in a masked one.
pub(crate) const EMPTY: i32 = 1;

/// The answer to [`Probe::Name`] where the name has no address.
pub(crate) const NO_ADDRESS: i32 = 2;

/// One question to the kernel.
#[derive(Debug)]
pub(crate) enum Probe {
    /// Read a file's first byte or a directory's first name: 0, or [`EMPTY`].
    Read(CString),
    /// Write to a place: 0. In a directory a file of this name is made, written and removed.
    Write {
        /// The place.
        path: CString,
        /// The file.
        inside: CString,
    },
    /// Connect by TCP: 0.
    Tcp(SocketAddr),
    /// Send a datagram that is not refused: 0.
    Udp(SocketAddr),
    /// Look a name up, then one of both: 0, or [`NO_ADDRESS`].
    Name {
        /// The name.
        name: Name,
        /// The port.
        port: u16,
        /// Whether by a datagram, and not by a connection.
        datagram: bool,
    },
    /// Connect to a socket of the file system: 0.
    Unix(UnixAddr),
    /// The user id.
    Uid,
    /// The group id.
    Gid,
    /// Whether a capability is in any set: 0 or 1.
    Capability(u8),
    /// How many processes `/proc` shows.
    Processes,
}

/// Answers all questions and ends.
pub(super) fn run(probes: &[Probe], report: &Channel) -> ! {
    for (index, probe) in (0..).zip(probes) {
        let answer = probe.ask().unwrap_or_else(|errno| -(errno as i32));
        if report.send(Record::Answer(index, answer), &[]).is_err() {
            // Nobody is left to ask.
            sys::process::exit_now(1);
        }
    }
    sys::process::exit_now(0)
}

impl Probe {
    fn ask(&self) -> Result<i32, Errno> {
        match self {
            Probe::Read(path) => reads(path),
            Probe::Write { path, inside } => writes(path, inside),
            Probe::Tcp(address) => peer::tcp(*address).map(|()| 0),
            Probe::Udp(address) => peer::udp(*address).map(|()| 0),
            Probe::Name { name, port, datagram } => match name.address()? {
                None => Ok(NO_ADDRESS),
                Some(address) if *datagram => peer::udp(SocketAddr::new(address, *port)).map(|()| 0),
                Some(address) => peer::tcp(SocketAddr::new(address, *port)).map(|()| 0),
            },
            Probe::Unix(address) => peer::unix(address).map(|()| 0),
            Probe::Uid => Ok(getuid().as_raw().cast_signed()),
            Probe::Gid => Ok(getgid().as_raw().cast_signed()),
            Probe::Capability(number) => sys::capability::has(*number).map(i32::from),
            Probe::Processes => processes(),
        }
    }
}

fn reads(path: &CString) -> Result<i32, Errno> {
    let file = opened(path, OFlag::O_RDONLY)?;
    let mut room = [0; 4096];
    let is_directory = is_directory(&file)?;
    let something = if is_directory {
        let length = sys::directory::read_entries(file.as_fd(), &mut room)?;
        sys::directory::names(&room[..length]).any(|name| name != b"." && name != b"..")
    } else {
        match read(&file, &mut room[..1]) {
            // A pipe or terminal that nobody writes to.
            Err(Errno::EAGAIN) => false,
            length => length? > 0,
        }
    };
    Ok(if something { 0 } else { EMPTY })
}

fn writes(path: &CString, inside: &CString) -> Result<i32, Errno> {
    match opened(path, OFlag::O_WRONLY) {
        Ok(_) => Ok(0),
        Err(Errno::EISDIR) => makes(inside),
        Err(Errno::ENOENT) => makes(path),
        Err(errno) => Err(errno),
    }
}

/// Makes a file, writes to it and removes it again.
fn makes(path: &CString) -> Result<i32, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = open(path.as_c_str(), flags, Mode::from_bits_truncate(0o600))?;
    let written = write(&file, b"x");
    // Where a file can be made and not removed it stays: that it could be made is the answer all the same.
    unlink(path.as_c_str()).ok();
    written.map(|_| 0)
}

/// Never waits, as a pipe without another end would make it.
fn opened(path: &CStr, access: OFlag) -> Result<OwnedFd, Errno> {
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
}

fn is_directory(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(fstat(file)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}

/// The directories of `/proc` whose names are numbers.
fn processes() -> Result<i32, Errno> {
    let proc = open(
        c"/proc",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let (mut count, mut room) = (0, [0; 4096]);
    loop {
        let length = sys::directory::read_entries(proc.as_fd(), &mut room)?;
        if length == 0 {
            return Ok(count);
        }
        for name in sys::directory::names(&room[..length]) {
            count += i32::from(name.first().is_some_and(u8::is_ascii_digit));
        }
    }
}
