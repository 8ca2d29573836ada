//! Flags of files and folders (ioctl_iflags(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc::{self, c_int};

use super::check;

/// `FS_TOPDIR_FL` of linux/fs.h, which libc lacks.
const TOP_OF_HIERARCHIES: c_int = 0x0002_0000;

/// Says that the folders in this one have nothing to do with each other (chattr(1), `T`): ext4 then makes each of them, and
/// what is below it, in a part of the disk of its own.
///
/// # Errors
/// ENOTTY, EOPNOTSUPP or EINVAL where the file system knows no such word.
pub(crate) fn mark_top_of_hierarchies(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut flags: c_int = 0;
    // SAFETY: the kernel writes one int through the pointer, whatever the request's number says of its size, and keeps none.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut flags) }.into())?;
    if flags & TOP_OF_HIERARCHIES != 0 {
        return Ok(());
    }
    flags |= TOP_OF_HIERARCHIES;
    // SAFETY: the kernel reads one int through the pointer and keeps none.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_SETFLAGS, &flags) }.into())?;
    Ok(())
}
