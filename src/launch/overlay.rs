//! The root's overlay, mounted by root itself: for kernels whose tmpfs has no `user.*` attributes (before Linux 6.6).
//!
//! There an overlay of a user namespace cannot remember that a directory was removed and made again, so it is mounted
//! with `trusted.*` attributes, which only the initial user namespace has. The launcher does so in a mount
//! namespace of its own, in which nothing outlives it.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir};

use crate::stage::root::{ANCHOR, Lower, PLAIN, Xattrs, attach_at, directory, make_private, memory, overlay};
use crate::sys::mount::{move_mount, open_tree};
use crate::units::Bytes;

/// Leaves the caller's mount namespace; before any tree is taken, since a tree can be attached only in its own.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub(super) fn own_namespace() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    make_private()
}

/// Mounts the overlay of `layers` (lowest first) and hands it out detached.
///
/// # Errors
/// The kernel's.
pub(super) fn mount(layers: Vec<OwnedFd>, size: Option<Bytes>) -> Result<OwnedFd, Errno> {
    let scaffold = memory(Some(Bytes(1 << 20)), 0o700, PLAIN)?;
    let path = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let anchor = nix::fcntl::open(ANCHOR, path, Mode::empty())?;
    move_mount(scaffold.as_fd(), anchor.as_fd())?;
    let here = nix::fcntl::open(".", path, Mode::empty())?;
    fchdir(&scaffold)?;
    let layer = memory(size, 0o755, PLAIN)?;
    attach_at(&scaffold, "layer", &layer)?;
    directory(&scaffold, "root")?;
    let lower = Lower::attach(&scaffold, layers)?;
    overlay(&scaffold, &lower, Some("layer/"), "root", Xattrs::Trusted)?;
    let root = openat(
        &scaffold,
        "root",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let tree = open_tree(root.as_fd(), c"")?;
    drop(root);
    // What the overlay stands on lives on below it; only the names go.
    umount2(".", MntFlags::MNT_DETACH)?;
    fchdir(&here).or_else(|_| chdir("/"))?;
    Ok(tree)
}
