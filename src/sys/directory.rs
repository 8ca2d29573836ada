//! Names of a directory without memory to ask for (getdents64(2)).

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

use super::check;

/// Where a record's length and name begin: after two numbers of 64 bits; the name after the type's byte.
const LENGTH_AT: usize = 16;
const NAME_AT: usize = 19;

/// Fills `room` with the next entries of a directory and returns how many bytes they take; none at its end.
///
/// # Errors
/// ENOTDIR for anything else; EINVAL when `room` is too small for one entry.
pub(crate) fn read_entries(directory: BorrowedFd<'_>, room: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `room.len()` bytes to `room`, which is borrowed mutably across the call.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            room.as_mut_ptr(),
            room.len(),
        )
    })?;
    usize::try_from(length).map_err(|_| Errno::EOVERFLOW)
}

/// The names in what [`read_entries`] has written.
pub(crate) fn names(mut entries: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length: [u8; 2] = entries.get(LENGTH_AT..LENGTH_AT + 2)?.try_into().ok()?;
        let (entry, rest) = entries.split_at_checked(usize::from(u16::from_ne_bytes(length)))?;
        entries = rest;
        entry.get(NAME_AT..)?.split(|byte| *byte == 0).next()
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn every_name_of_a_directory_is_read() {
        let directory = File::open("/proc/self/task").expect("a directory");
        let mut room = [0; 1024];
        let length = read_entries(directory.as_fd(), &mut room).expect("entries");
        let own = std::process::id().to_string();
        let found: Vec<&[u8]> = names(&room[..length]).collect();
        assert!(found.contains(&own.as_bytes()), "{found:?}");
        assert!(
            found.contains(&&b"."[..]) && found.contains(&&b".."[..]),
            "{found:?}"
        );
        assert_eq!(names(&[0; 7]).count(), 0);
        let file = File::open("/proc/self/status").expect("a file");
        assert_eq!(read_entries(file.as_fd(), &mut room), Err(Errno::ENOTDIR));
    }
}
