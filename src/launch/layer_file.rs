//! The writable layer on disk: a file with a size and no name, an ext4 file system in it, mounted detached.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::error::{io_words, words};
use crate::sys::loop_device;
use crate::sys::mount::{Attributes, new_mount};
use crate::units::Bytes;

/// Makes the layer below `folder`; its root belongs to the host's id `owner`.
///
/// The file has no name (O_TMPFILE, see open(2)) and the loop device frees itself, so nothing is left behind
/// whatever happens.
///
/// # Errors
/// What could not be done, and the cause.
pub(super) fn make(folder: &Path, size: Bytes, owner: u32) -> Result<OwnedFd, String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| format!("{}: {}", folder.display(), io_words(&error)))?;
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_TMPFILE)
        .mode(0o600)
        .open(folder)
        .map_err(|error| format!("file in {}: {}", folder.display(), io_words(&error)))?;
    file.set_len(size.0)
        .map_err(|error| format!("size of the file: {}", io_words(&error)))?;
    // By absolute path and with an empty environment (CVE-2026-84042). No journal: the layer is thrown away.
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let made = Command::new("/usr/sbin/mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-E"])
        .arg(format!("root_owner={owner}:{owner},lazy_itable_init=1,nodiscard"))
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("/usr/sbin/mkfs.ext4: {}", io_words(&error)))?;
    if !made.status.success() {
        return Err(format!(
            "/usr/sbin/mkfs.ext4: {}",
            String::from_utf8_lossy(&made.stderr).trim()
        ));
    }
    let (_device, device_path) =
        loop_device::attach(file.as_fd()).map_err(|errno| format!("loop device: {}", words(errno)))?;
    let source =
        CString::new(device_path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    let attributes = Attributes::NO_SUID.and(Attributes::NO_DEV);
    new_mount(c"ext4", &[(c"source", Some(&source))], attributes)
        .map_err(|errno| format!("mount: {}", words(errno)))
}
