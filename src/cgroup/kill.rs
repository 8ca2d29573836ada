//! Ends everything in a group.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use super::{Error, Version, file};
use crate::sys;

/// How long killing, and removing after it, may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Kills every process of a group, those that are being forked included.
///
/// # Errors
/// When processes are left after a second: they wait in the kernel, or fork faster than they are found (v1).
pub(super) fn kill_all(version: Version, dir: &Path) -> Result<(), Error> {
    if version == Version::V2 {
        // One write kills the group whole, forks under way included (since Linux 5.14, admin-guide/cgroup-v2.rst).
        match file::write(&dir.join("cgroup.kill"), "1") {
            Err(Error::File {
                errno: Errno::ENOENT, ..
            }) => {}
            done => return done,
        }
    }
    kill_each(dir)
}

/// v1 has nothing better: read who is there, kill them, until nobody is. A job's own pid namespace is the better tool.
fn kill_each(dir: &Path) -> Result<(), Error> {
    let mut backoff = Backoff::new();
    loop {
        let mut found = Vec::new();
        for pid in members(dir)? {
            match sys::process::open(pid) {
                Ok(process) => found.push((pid, process)),
                // No more descriptors: kill these first.
                Err(Errno::EMFILE | Errno::ENFILE) => break,
                Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(Error::Kill {
                        pid: pid.as_raw(),
                        path: file::shown(dir),
                        errno,
                    });
                }
            }
        }
        // A number may have gone to another process before it was opened. One that is still listed had not, or is
        // another member.
        let left = members(dir)?;
        for (pid, process) in found.iter().filter(|(pid, _)| left.contains(pid)) {
            match sys::process::signal(process.as_fd(), libc::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(Error::Kill {
                        pid: pid.as_raw(),
                        path: file::shown(dir),
                        errno,
                    });
                }
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        if !backoff.wait() {
            return Err(Error::Alive {
                path: file::shown(dir),
                left: left.len(),
            });
        }
    }
}

/// The processes of a group that our pid namespace shows; the others read 0.
fn members(dir: &Path) -> Result<Vec<Pid>, Error> {
    let text = file::read(&dir.join("cgroup.procs"))?;
    Ok(text
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
        .map(Pid::from_raw)
        .collect())
}

/// Waits that grow from 0.1 ms to 10 ms and end after [`PATIENCE`].
pub(super) struct Backoff {
    end: Instant,
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff {
            end: Instant::now() + PATIENCE,
            next: Duration::from_micros(100),
        }
    }

    /// Sleeps; false, at once, when the time is over.
    pub(super) fn wait(&mut self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(Duration::from_millis(10));
        true
    }
}
