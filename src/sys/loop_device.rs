//! Loop devices: a file as a block device (loop(4)).

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;

use super::check;

// From <linux/loop.h>.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
/// The device lets go of the file when its last user does.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64` of <linux/loop.h>.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of <linux/loop.h> (Linux 5.8).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// Binds `file` to a free loop device, which is freed with its last user; the device must be mounted before it is dropped.
///
/// # Errors
/// ENOENT where the kernel has no loop devices; EBUSY when others take every free one first, sixteen times in a row.
pub(crate) fn attach(file: BorrowedFd<'_>) -> Result<(File, PathBuf), Errno> {
    let io = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(io)?;
    for _ in 0..16 {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number.
        let number = check(libc::c_long::from(unsafe {
            libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _, 0)
        }))?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::options().read(true).write(true).open(&path).map_err(io)?;
        // SAFETY: a loop_config is plain data, for which all zeroes is a value.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = file.as_raw_fd().cast_unsigned();
        config.info.flags = LO_FLAGS_AUTOCLEAR;
        // SAFETY: LOOP_CONFIGURE reads one loop_config, which lives across the call.
        let configured = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
        match check(libc::c_long::from(configured)) {
            Ok(_) => return Ok((device, path)),
            // Another process was faster with this number.
            Err(Errno::EBUSY) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EBUSY)
}
