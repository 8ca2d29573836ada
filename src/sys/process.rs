//! Processes and their descriptors: close_range(2), pidfds, the loopback flag, waiting with usage.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::check;

/// Closes every descriptor from `first` up.
///
/// # Errors
/// ENOSYS before Linux 5.9.
pub(crate) fn close_from(first: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: integers only. Values of this process that own such a descriptor are never used again:
    // the callers are about to call execve(2) or have listed what they keep below `first`.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    Ok(())
}

/// Closes every descriptor but `kept`; the standard streams lead nowhere. A child that serves for long would hold the
/// caller's pipes, terminal and locks open otherwise: no reader would see their end.
///
/// # Errors
/// EMFILE when not even `/dev/null` can be opened; ENOSYS before Linux 5.9.
pub(crate) fn keep_only(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let null = nix::fcntl::open(
        "/dev/null",
        nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    for standard in 0..3 {
        duplicate_to_standard(null.as_fd(), standard)?;
    }
    drop(null);
    let mut numbers: Vec<libc::c_int> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if first < number {
            // SAFETY: integers only. The callers are children right after fork(2), which end without running the
            // destructors of what their parent owned, so nobody closes or uses one of these numbers a second time.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) })?;
        }
        first = first.max(number + 1);
    }
    close_from(first.cast_unsigned())
}

/// Marks every descriptor from `first` up close-on-exec (CLOSE_RANGE_CLOEXEC, Linux 5.11).
///
/// # Errors
/// EINVAL on older kernels.
pub(crate) fn cloexec_from(first: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: integers only; no descriptor is closed by this flag.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Takes a descriptor that recvmsg(2) has just installed for this process (SCM_RIGHTS); `nix` hands it out as a number.
pub(crate) fn received_descriptor(raw: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: the callers pass each number of a received control message once, and nobody else has seen it.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// A copy of `fd` under the number `wanted`, close-on-exec; what had that number is closed (dup3(2)).
///
/// # Errors
/// EBADF when `wanted` is beyond the limit of open files; EINVAL when both are the same.
pub(crate) fn duplicate_to(fd: BorrowedFd<'_>, wanted: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only. The callers own every number below 5 in the processes that call this: they are
    // renumbering what they keep, right before closing all the rest.
    let copy = check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), wanted, libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor; whoever had the number lost it by the same call.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as libc::c_int) })
}

/// A copy of `fd` with the lowest free number from `least` up, close-on-exec.
///
/// # Errors
/// EMFILE when there is none.
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, least: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only; F_DUPFD_CLOEXEC never takes a number that is in use.
    let copy =
        check(unsafe { libc::syscall(libc::SYS_fcntl, fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the kernel has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as libc::c_int) })
}

/// Sets what a signal does (sigaction(2)).
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub(crate) fn set_action(
    signal: nix::sys::signal::Signal,
    action: &nix::sys::signal::SigAction,
) -> Result<(), Errno> {
    // SAFETY: the callers pass SIG_DFL or SIG_IGN only, so no function of ours can run inside another.
    unsafe { nix::sys::signal::sigaction(signal, action) }.map(drop)
}

/// Makes `fd` standard input, output or error (`wanted` 0, 1 or 2), open across execve(2).
///
/// # Errors
/// EBADF never for these numbers.
pub(crate) fn duplicate_to_standard(fd: BorrowedFd<'_>, wanted: libc::c_int) -> Result<(), Errno> {
    if fd.as_raw_fd() == wanted {
        // SAFETY: F_SETFD takes an integer; the flag close-on-exec is cleared on a descriptor that is open.
        check(unsafe { libc::syscall(libc::SYS_fcntl, wanted, libc::F_SETFD, 0) })?;
        return Ok(());
    }
    // SAFETY: integers only; numbers 0 to 2 are owned by no value of this program.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), wanted, 0) })?;
    Ok(())
}

/// Opens a process; the descriptor stays with it when its number goes to another one.
///
/// # Errors
/// ESRCH when there is none.
pub(crate) fn open(pid: nix::unistd::Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec, always), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Sends a signal to the process of a pidfd (pidfd_send_signal(2)).
///
/// # Errors
/// ESRCH when it has ended and was waited for.
pub(crate) fn signal(process: BorrowedFd<'_>, signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: a null siginfo asks for the one of kill(2); no pointer is read.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Sets the flags of the loopback interface to up (netdevice(7)). Any socket will do for that, so it is not one that could
/// reach a network: a run whose image is there opens none of those.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the network namespace.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    // SAFETY: integers only.
    let socket = check(unsafe {
        libc::syscall(
            libc::SYS_socket,
            libc::AF_UNIX,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        )
    })?;
    // SAFETY: a new descriptor that only this value owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as libc::c_int) };
    // SAFETY: an ifreq is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives across the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    }))?;
    Ok(())
}

/// Why a process ended, and what it and its waited-for descendants used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// The raw status of wait(2).
    pub(crate) status: i32,
    /// Processor time in user mode, in microseconds.
    pub(crate) user_us: u64,
    /// Processor time in the kernel, in microseconds.
    pub(crate) system_us: u64,
    /// The largest resident set of one process, in bytes.
    pub(crate) max_rss: u64,
}

/// Waits for one child (wait4(2)).
///
/// # Errors
/// ECHILD when there is no such child.
pub(crate) fn wait(child: nix::unistd::Pid) -> Result<Ended, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: a rusage is plain data, for which all zeroes is a value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live values of the right type.
        match check(unsafe {
            libc::syscall(
                libc::SYS_wait4,
                child.as_raw(),
                &raw mut status,
                0,
                &raw mut usage,
            )
        }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => {
                let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
                return Ok(Ended {
                    status,
                    user_us: micros(usage.ru_utime),
                    system_us: micros(usage.ru_stime),
                    max_rss: usage.ru_maxrss as u64 * 1024,
                });
            }
        }
    }
}

/// Ends this process at once, running nothing that was registered for its end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Whether this program runs with more privilege than its caller: setuid, setgid or file capabilities
/// (AT_SECURE, see getauxval(3)).
pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: reads a word of the auxiliary vector; no pointer is involved.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The mask for files that this process makes from now on (umask(2)); returns the old one.
pub(crate) fn umask(mask: u32) -> u32 {
    // SAFETY: takes and returns an integer and always succeeds.
    unsafe { libc::umask(mask) }
}
