//! Names of jobs: on a network that is named they find each other by these. A resolver sees no file, so it asks the
//! launcher, which has the network's leases.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// How long an answer may take: the launcher does nothing that takes longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest name that DNS has, in bytes (RFC 1035, section 2.3.4).
const NAME: usize = 255;

/// More than the answer for a name that every job of a network has: 253 times two addresses of 48 letters.
const ANSWER: usize = 32 << 10;

/// Who is asked.
#[derive(Debug)]
pub(crate) struct Directory(UnixDatagram);

/// Who asks.
pub(super) struct Inquirer(UnixDatagram);

/// A directory and who asks it.
///
/// # Errors
/// EMFILE at the limit of open files.
pub(super) fn pair() -> io::Result<(Directory, Inquirer)> {
    let (ours, theirs) = UnixDatagram::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_read_timeout(Some(PATIENCE))?;
    theirs.set_write_timeout(Some(PATIENCE))?;
    Ok((Directory(ours), Inquirer(theirs)))
}

impl Directory {
    /// Answers one question by `find`, if there is one. Who asks reads what a job writes: it may ask anything, and gets no
    /// more than addresses.
    pub(crate) fn answer(&self, find: impl Fn(&str) -> Vec<IpAddr>) {
        let mut bytes = [0; NAME];
        let Ok(length) = self.0.recv(&mut bytes) else {
            return;
        };
        let Ok(name) = std::str::from_utf8(&bytes[..length]) else {
            return;
        };
        if let Ok(answer) = serde_json::to_vec(&(name, find(name))) {
            // Who does not read its answers has none.
            self.0.send(&answer).ok();
        }
    }
}

impl AsFd for Directory {
    /// Readable when there is a question.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Inquirer {
    /// The addresses of the jobs of this name; none too when nobody answers.
    pub(super) fn ask(&self, name: &str) -> Vec<IpAddr> {
        let ask = || -> io::Result<Vec<IpAddr>> {
            self.0.send(name.as_bytes())?;
            let mut bytes = vec![0; ANSWER];
            loop {
                let length = self.0.recv(&mut bytes)?;
                let (asked, found): (String, Vec<IpAddr>) = serde_json::from_slice(&bytes[..length])?;
                // An answer that was waited for no longer may come now.
                if asked == name {
                    return Ok(found);
                }
            }
        };
        ask().unwrap_or_default()
    }
}

impl From<Inquirer> for OwnedFd {
    fn from(inquirer: Inquirer) -> OwnedFd {
        inquirer.0.into()
    }
}

impl From<OwnedFd> for Inquirer {
    fn from(socket: OwnedFd) -> Inquirer {
        Inquirer(socket.into())
    }
}
