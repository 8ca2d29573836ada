//! Landlock's version, asked from the kernel: the `landlock` crate keeps its own answer private.

use nix::libc;

/// `LANDLOCK_CREATE_RULESET_VERSION` of <linux/landlock.h>.
const CREATE_RULESET_VERSION: libc::c_uint = 1;

/// The newest Landlock ABI of this kernel; 0 where it is not built in or not enabled (see landlock_create_ruleset(2)).
pub(crate) fn abi() -> u32 {
    // SAFETY: with this flag the attributes must be null with size 0, as they are; the kernel touches no memory
    // of ours and returns a number, not a descriptor.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    // Below zero: ENOSYS (not built in) or EOPNOTSUPP (not in the list of security modules at boot).
    u32::try_from(answer).unwrap_or(0)
}
