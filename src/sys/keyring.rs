//! The session keyring (session-keyring(7)).

use nix::errno::Errno;
use nix::libc;

use super::check;

/// KEYCTL_JOIN_SESSION_KEYRING of <linux/keyctl.h>.
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Leaves the inherited session keyring for a new, empty, anonymous one.
///
/// A kernel without keyrings (ENOSYS) holds nothing that could be read, which is as good.
///
/// # Errors
/// EDQUOT when the user's quota of keys is used up.
pub(crate) fn join_new_session() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring; no pointer is read.
    match check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0) }) {
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}
