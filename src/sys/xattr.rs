//! Extended attributes of files, open or by path (xattr(7)).

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

use super::check;

/// The most bytes that the names of a file's attributes take, and that one value takes (xattr(7), "Filesystem differences";
/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`).
const LARGEST: usize = 64 << 10;

/// Sets an attribute, new or not.
///
/// # Errors
/// ENOTSUP where the file system has none of this kind, ENOSPC and E2BIG when it is too large.
pub(crate) fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated and `value` is readable for its length; the kernel copies both and keeps no pointer.
    let returned = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    check(returned.into())?;
    Ok(())
}

/// Removes an attribute.
///
/// # Errors
/// ENODATA when there is none, ENOTSUP where the file system has none of this kind.
pub(crate) fn remove(file: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated; the kernel copies it and keeps no pointer.
    check(unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr()) }.into())?;
    Ok(())
}

/// The names of all attributes.
///
/// # Errors
/// ENOTSUP where the file system has none.
pub(crate) fn list(file: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    // SAFETY: with a length of 0 the kernel writes nothing, and says how much there is.
    let length =
        check(unsafe { libc::flistxattr(file.as_raw_fd(), std::ptr::null_mut(), 0) } as libc::c_long)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    // There may be more by now.
    let mut names = vec![0u8; LARGEST];
    // SAFETY: `names` is writable for the length that is passed with it.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(check(length as libc::c_long)? as usize);
    let each = names.split_inclusive(|byte| *byte == 0);
    Ok(each
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .map(CStr::to_owned)
        .collect())
}

/// The value of an attribute.
///
/// # Errors
/// ENODATA when there is none, ENOTSUP where the file system has none of this kind.
pub(crate) fn get(file: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0u8; LARGEST];
    // SAFETY: `value` is writable for the length that is passed with it, and `name` is NUL-terminated.
    let length = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    value.truncate(check(length as libc::c_long)? as usize);
    Ok(value)
}

/// Whether an attribute has this value, of at most 64 bytes.
///
/// # Errors
/// The kernel's; an attribute that is not there is no error.
pub(crate) fn is(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<bool, Errno> {
    let mut buffer = [0u8; 64];
    // SAFETY: `buffer` is writable for the length that is passed with it, and `name` is NUL-terminated.
    let returned = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    match check(returned as libc::c_long) {
        Ok(length) => Ok(buffer.get(..length as usize) == Some(value)),
        Err(Errno::ENODATA | Errno::ENOTSUP | Errno::ERANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Sets an attribute of what stands at `path`, links followed; for files that cannot be opened for it.
///
/// # Errors
/// ENOTSUP where the file system has none of this kind.
pub(crate) fn set_at(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: `path` and `name` are NUL-terminated and `value` is readable for its length; the kernel copies all three.
    let returned = unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    check(returned.into())?;
    Ok(())
}

/// Reads an attribute of what stands at `path` into `buffer`, and returns what was filled.
///
/// # Errors
/// ENODATA when there is none, ERANGE when it is larger than the buffer.
pub(crate) fn get_at<'a>(path: &CStr, name: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    // SAFETY: both names are NUL-terminated, and `buffer` is writable for the length that is passed with it.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    let length = check(length as libc::c_long)?;
    buffer.get(..length as usize).ok_or(Errno::ERANGE)
}
