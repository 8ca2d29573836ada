//! `/dev`: the six standard devices of the host, a devpts of its own, and the links that programs expect.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use nix::unistd::symlinkat;

use super::place::{Kind, Places};
use super::root::directory;
use crate::sys::mount::{Attributes, move_mount, new_mount, open_tree};

/// Name, major and minor number (Documentation/admin-guide/devices.txt).
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links inside `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Takes the devices from the host, each checked to be what its name says.
pub(super) fn take() -> Result<Vec<(&'static str, OwnedFd)>, Errno> {
    DEVICES
        .into_iter()
        .map(|(name, major, minor)| {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let node = open(format!("/dev/{name}").as_str(), flags, Mode::empty())?;
            is_device(&node, major, minor)?;
            Ok((name, open_tree(node.as_fd(), c"")?))
        })
        .collect()
}

/// Checks that a descriptor is the character device of these numbers.
pub(super) fn is_device(node: &OwnedFd, major: u64, minor: u64) -> Result<(), Errno> {
    let seen = fstat(node)?;
    let character = SFlag::from_bits_truncate(seen.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
    if character && seen.st_rdev == makedev(major, minor) {
        Ok(())
    } else {
        Err(Errno::ENODEV)
    }
}

/// Builds `/dev` at its place, in the folder `dev`.
pub(super) fn mount(
    places: &Places,
    at: &str,
    dev: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
    tty_group: bool,
) -> Result<(), Errno> {
    let target = places.mount_point(at, Kind::Directory, true)?;
    move_mount(dev.as_fd(), target.as_fd())?;
    for (name, node) in devices {
        let make = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let place = openat(&dev, name, make, Mode::from_bits_truncate(0o666))?;
        move_mount(node.as_fd(), place.as_fd())?;
    }
    directory(&dev, "pts")?;
    // Group 5 is `tty` on every distribution (devpts(5)); a user namespace of one id does not have it.
    let mut options = vec![
        (c"newinstance", None),
        (c"ptmxmode", Some(c"0666")),
        (c"mode", Some(c"0620")),
        (c"max", Some(c"64")),
    ];
    if tty_group {
        options.push((c"gid", Some(c"5")));
    }
    let pts = new_mount(c"devpts", &options, Attributes::NO_SUID.and(Attributes::NO_EXEC))?;
    let place = openat(
        &dev,
        "pts",
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    move_mount(pts.as_fd(), place.as_fd())?;
    for (target, name) in LINKS {
        symlinkat(target, &dev, name)?;
    }
    Ok(())
}
