//! Files whose locks say who is at work on a network (flock(2)): they end with their holder, however that ends.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file that is there for its lock, and makes it where it is missing.
///
/// # Errors
/// That of the file.
pub(super) fn lock_file(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

/// Whether somebody holds a lock of the network of this folder; a folder that somebody has removed counts as well.
pub(super) fn is_held(folder: &Path, name: &str) -> io::Result<bool> {
    let file = match lock_file(&folder.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
