//! The mount calls that work on descriptors: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2), fsmount(2).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::check;

// From <linux/mount.h>.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// The most lower directories of an overlay (OVL_MAX_STACK, fs/overlayfs/params.h).
pub(crate) const MOST_LOWER: usize = 500;

/// Attributes of a mount (MOUNT_ATTR_* of <linux/mount.h>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes(u64);

impl Attributes {
    pub(crate) const READ_ONLY: Attributes = Attributes(0x1);
    pub(crate) const NO_SUID: Attributes = Attributes(0x2);
    pub(crate) const NO_DEV: Attributes = Attributes(0x4);
    pub(crate) const NO_EXEC: Attributes = Attributes(0x8);

    /// Both sets together.
    pub(crate) const fn and(self, other: Attributes) -> Attributes {
        Attributes(self.0 | other.0)
    }
}

/// MOUNT_ATTR_IDMAP: the mount takes the ids of a user namespace.
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// `struct mount_attr` of <linux/mount.h>, version 0 (32 bytes).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A detached copy of the tree of mounts at `path` below `dir`, with all mounts below it.
///
/// # Errors
/// EINVAL when the tree is not part of this mount namespace; EPERM without CAP_SYS_ADMIN in it.
pub(crate) fn open_tree(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags =
        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
    // SAFETY: `path` is NUL-terminated and outlives the call; the kernel copies it.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })?;
    // SAFETY: a new descriptor that only this value owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Attaches the detached mount `tree` on top of `target`, both by descriptor.
///
/// # Errors
/// ENOTDIR when one is a directory and the other is not; EINVAL when `target` is not part of this mount namespace.
pub(crate) fn move_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"";
    // SAFETY: both paths are the same static empty string; the kernel only reads it.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            empty.as_ptr(),
            target.as_raw_fd(),
            empty.as_ptr(),
            flags,
        )
    })?;
    Ok(())
}

/// Sets attributes on the whole tree of mounts that `tree` is.
///
/// # Errors
/// EPERM when a locked attribute would be cleared.
pub(crate) fn set_attributes(tree: BorrowedFd<'_>, set: Attributes) -> Result<(), Errno> {
    setattr(
        tree,
        MountAttr {
            attr_set: set.0,
            ..MountAttr::default()
        },
        libc::AT_RECURSIVE,
    )
}

/// Sets attributes on the mount that `mount` is the root of, and on none below it.
///
/// # Errors
/// EPERM when a locked attribute would be cleared.
pub(crate) fn set_own_attributes(mount: BorrowedFd<'_>, set: Attributes) -> Result<(), Errno> {
    setattr(
        mount,
        MountAttr {
            attr_set: set.0,
            ..MountAttr::default()
        },
        0,
    )
}

/// Gives the detached tree `tree` the ids of the user namespace `owner`.
///
/// # Errors
/// EINVAL when a file system below takes no idmapped mounts; EPERM without CAP_SYS_ADMIN over that file system.
pub(crate) fn idmap(tree: BorrowedFd<'_>, owner: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        userns_fd: owner.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    setattr(tree, attr, libc::AT_RECURSIVE)
}

fn setattr(tree: BorrowedFd<'_>, attr: MountAttr, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the empty path is static, `attr` is a live mount_attr whose size is given; the kernel only reads both.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            (libc::AT_EMPTY_PATH | flags) as libc::c_uint,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// A new instance of the file system `kind`, mounted nowhere yet.
///
/// # Errors
/// The kernel's; EPERM for proc or sysfs where the namespace may not have a fresh one (mount_namespaces(7)).
pub(crate) fn new_mount(
    kind: &CStr,
    options: &[(&CStr, Option<&CStr>)],
    attributes: Attributes,
) -> Result<OwnedFd, Errno> {
    // SAFETY: `kind` is NUL-terminated and outlives the call.
    let context = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: a new descriptor that only this value owns.
    let context = unsafe { OwnedFd::from_raw_fd(context as libc::c_int) };
    for (key, value) in options {
        let (command, value) = match value {
            Some(value) => (FSCONFIG_SET_STRING, value.as_ptr()),
            None => (FSCONFIG_SET_FLAG, std::ptr::null()),
        };
        configure(&context, command, key.as_ptr(), value)?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: only integers are passed; the context is open.
    let mount = check(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes.0 as libc::c_uint,
        )
    })?;
    // SAFETY: a new descriptor that only this value owns.
    Ok(unsafe { OwnedFd::from_raw_fd(mount as libc::c_int) })
}

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    key: *const libc::c_char,
    value: *const libc::c_char,
) -> Result<(), Errno> {
    // SAFETY: `key` and `value` are null or point to NUL-terminated strings that the caller borrows
    // across this call; the kernel copies them (at most 256 bytes) and keeps no pointer.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) })?;
    Ok(())
}
