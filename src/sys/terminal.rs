//! Terminals: pseudo terminals, controlling terminals, window sizes (ioctl_tty(2)).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::check;

/// TIOCGPTPEER of <asm-generic/ioctls.h>: open the other end without any path (Linux 4.13).
const TIOCGPTPEER: libc::c_ulong = 0x5441;

/// Unlocks the pseudo terminal of the open `master` and opens its other end.
///
/// # Errors
/// EIO when `master` is not the multiplexer of a mounted devpts.
pub(crate) fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives across the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlocked)
    }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value.
    let peer = check(libc::c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), TIOCGPTPEER as _, flags)
    }))?;
    // SAFETY: a new descriptor that only this value owns.
    Ok(unsafe { OwnedFd::from_raw_fd(peer as libc::c_int) })
}

/// Makes `terminal` the controlling one of this session, whose leader the caller must be.
///
/// # Errors
/// EPERM when the session has one already or the caller does not lead it.
pub(crate) fn set_controlling(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes an integer by value.
    check(libc::c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0)
    }))?;
    Ok(())
}

/// The size of a terminal's window.
///
/// # Errors
/// ENOTTY when it is no terminal.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> Result<libc::winsize, Errno> {
    // SAFETY: a winsize is plain data, for which all zeroes is a value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: TIOCGWINSZ writes one winsize, which lives across the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size)
    }))?;
    Ok(size)
}

/// Sets the size of a terminal's window.
///
/// # Errors
/// ENOTTY when it is no terminal.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, size: &libc::winsize) -> Result<(), Errno> {
    // SAFETY: TIOCSWINSZ reads one winsize, which lives across the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const *size)
    }))?;
    Ok(())
}
