//! Locks between processes: byte ranges of one file, by open file description (fcntl(2), "Open file description locks").
//!
//! A lock is one byte whose place comes from the digest of its name. The kernel frees it when its holder dies, so no
//! lock file is left behind and none has to be removed.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::super::digest::Digest;

/// One holder of locks. Dropping it frees all that it holds.
pub(crate) struct Locks {
    file: File,
}

impl Locks {
    /// A new holder; `file` must be an open file description of its own.
    pub(super) fn new(file: File) -> Locks {
        Locks { file }
    }

    /// Waits until no one else holds the lock alone, then holds it with others.
    pub(crate) fn shared(&self, name: &str) -> Result<(), Errno> {
        self.set(name, libc::F_RDLCK, true)
    }

    /// Waits until no one else holds the lock, then holds it alone.
    pub(crate) fn alone(&self, name: &str) -> Result<(), Errno> {
        self.set(name, libc::F_WRLCK, true)
    }

    /// Holds the lock alone when no one else holds it; says whether.
    pub(crate) fn try_alone(&self, name: &str) -> Result<bool, Errno> {
        match self.set(name, libc::F_WRLCK, false) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Gives one lock back.
    pub(crate) fn free(&self, name: &str) -> Result<(), Errno> {
        self.set(name, libc::F_UNLCK, false)
    }

    fn set(&self, name: &str, kind: libc::c_int, wait: bool) -> Result<(), Errno> {
        let range = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: place(name),
            l_len: 1,
            // Must be 0 for open file description locks.
            l_pid: 0,
        };
        loop {
            let argument = match wait {
                true => FcntlArg::F_OFD_SETLKW(&range),
                false => FcntlArg::F_OFD_SETLK(&range),
            };
            match fcntl(&self.file, argument) {
                Err(Errno::EINTR) => {}
                done => return done.map(drop),
            }
        }
    }
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Locks({})", self.file.as_raw_fd())
    }
}

/// 62 bits of the name's digest: two names of one store do not meet.
fn place(name: &str) -> libc::off_t {
    let hex = Digest::of(name.as_bytes()).hex();
    libc::off_t::from_str_radix(&hex[..15], 16).unwrap_or_default()
}
