//! System calls that `nix` does not wrap: thin functions, one per call, and the crate's only unsafe code.
//!
//! Descriptors come in borrowed and go out owned and close-on-exec; the error is the bare [`Errno`],
//! step and object are added by whoever knows them.
#![expect(unsafe_code, reason = "this module is where unsafe lives")]

pub(crate) mod affinity;
pub(crate) mod capability;
pub(crate) mod clone;
pub(crate) mod directory;
pub(crate) mod fork;
pub(crate) mod inode;
pub(crate) mod keyring;
pub(crate) mod landlock;
pub(crate) mod loop_device;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod terminal;
pub(crate) mod userns;
pub(crate) mod xattr;

use nix::errno::Errno;

/// Turns the return value of a raw system call into a result (see syscall(2)).
fn check(returned: nix::libc::c_long) -> Result<nix::libc::c_long, Errno> {
    if returned < 0 {
        Err(Errno::last())
    } else {
        Ok(returned)
    }
}
