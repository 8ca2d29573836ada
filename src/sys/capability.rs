//! The five capability sets and the securebits (capabilities(7)).

use nix::errno::Errno;
use nix::libc;

use super::check;

/// `_LINUX_CAPABILITY_VERSION_3` of <linux/capability.h>: sets of 64 bits in two words.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the permitted and effective sets of this thread to `permitted`, and the inheritable one to `inheritable`.
///
/// # Errors
/// EPERM when a bit would be gained.
pub(crate) fn set(permitted: u64, inheritable: u64) -> Result<(), Errno> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let word = |shift: u32| Data {
        effective: (permitted >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: version 3 takes a header and two data words; both live across the call, which only reads the data.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    Ok(())
}

/// Drops from the bounding set every capability that the kernel knows and `keep` lacks.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub(crate) fn bound(keep: u64) -> Result<(), Errno> {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) {
            // The kernel answers EINVAL to a number it does not know: there is nothing left to drop.
            Err(Errno::EINVAL) => break,
            dropped => dropped?,
        };
    }
    Ok(())
}

/// Clears the ambient set, then raises the capabilities of `keep` in it.
///
/// # Errors
/// EPERM for a capability that is not both permitted and inheritable.
pub(crate) fn ambient(keep: u64) -> Result<(), Errno> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL as u64,
        0,
        0,
        0,
    )?;
    for capability in (0..64).filter(|bit| keep & (1 << bit) != 0) {
        prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_RAISE as u64,
            capability,
            0,
            0,
        )?;
    }
    Ok(())
}

/// User id 0 and changes of user id no longer touch capabilities, for ever, and no ambient ones can be raised
/// (SECBIT_NOROOT, SECBIT_NO_SETUID_FIXUP, SECBIT_NO_CAP_AMBIENT_RAISE, each with its lock).
pub(crate) const LOCKED_SECUREBITS: u64 = 0x1 | 0x2 | 0x4 | 0x8 | 0x40 | 0x80;

/// Sets the securebits.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub(crate) fn securebits(bits: u64) -> Result<(), Errno> {
    prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0)
}

/// The securebits in force.
///
/// # Errors
/// None that prctl(2) documents.
pub(crate) fn read_securebits() -> Result<u64, Errno> {
    // SAFETY: this option takes no pointer.
    check(unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_SECUREBITS, 0, 0, 0, 0) })
        .map(|bits| bits as u64)
}

/// Whether this thread has a capability in any of its five sets.
///
/// # Errors
/// EINVAL for a number that the kernel does not know.
pub(crate) fn has(capability: u8) -> Result<bool, Errno> {
    let number = u64::from(capability);
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: version 3 takes a header and writes two data words; both live across the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let word = data.get(usize::from(capability / 32)).ok_or(Errno::EINVAL)?;
    let own = (word.effective | word.permitted | word.inheritable) & (1 << (capability % 32)) != 0;
    let asked = |option: libc::c_int, a: u64, b: u64| {
        // SAFETY: both options take integers only.
        check(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, 0, 0) })
    };
    let bounding = asked(libc::PR_CAPBSET_READ, number, 0)? == 1;
    let ambient = asked(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as u64, number)? == 1;
    Ok(own || bounding || ambient)
}

fn prctl(option: libc::c_int, a: u64, b: u64, c: u64, d: u64) -> Result<(), Errno> {
    // SAFETY: the options used in this file take integers only, no pointer.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, c, d) })?;
    Ok(())
}
