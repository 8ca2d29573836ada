//! What a receipt claims of the mounts, looked at again when all of them are made: what the kernel shows at a place, not
//! that a call succeeded.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::FsFlags;

use super::dev;
use super::place::Places;
use crate::plan::{InitStep, Mounted};

/// Whether what a step was to do is to be seen; `left_out` are the places of optional binds without a source.
///
/// # Errors
/// ENOTRECOVERABLE when it is not.
pub(super) fn holds(step: &InitStep, places: &Places, left_out: &[String]) -> Result<(), Errno> {
    match step {
        InitStep::NotDumpable => seen(!prctl::get_dumpable()?),
        InitStep::Mask(paths) => paths.iter().try_for_each(|path| match open(places, path)? {
            Some(place) => is_masked(&place),
            None => Ok(()),
        }),
        InitStep::ReadOnly(paths) => paths.iter().try_for_each(|path| match open(places, path)? {
            Some(place) => is_read_only(&place),
            None => Ok(()),
        }),
        InitStep::RootReadOnly => is_read_only(&places.open("/")?),
        InitStep::Mount {
            at,
            what: Mounted::Bind { read_only: true, .. },
        } if !left_out.contains(at) => is_read_only(&places.open(at)?),
        _ => Ok(()),
    }
}

/// The place at `path`, as the steps resolve it; none where there is nothing.
fn open(places: &Places, path: &str) -> Result<Option<OwnedFd>, Errno> {
    let found = if path.starts_with("/proc/") {
        places.open_strictly(path)
    } else {
        places.open(path)
    };
    match found {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        found => found.map(Some),
    }
}

/// Our `/dev/null`, or the empty file system that nobody writes.
fn is_masked(place: &OwnedFd) -> Result<(), Errno> {
    let about = fstat(place)?;
    if about.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFDIR.bits() {
        return seen(dev::is_device(place, 1, 3).is_ok());
    }
    seen(about.st_mode & 0o7777 == 0o555 && fstatfs(place)?.filesystem_type() == TMPFS_MAGIC)?;
    is_read_only(place)
}

fn is_read_only(place: &OwnedFd) -> Result<(), Errno> {
    seen(fstatfs(place)?.flags().contains(FsFlags::ST_RDONLY))
}

fn seen(holds: bool) -> Result<(), Errno> {
    if holds {
        Ok(())
    } else {
        Err(Errno::ENOTRECOVERABLE)
    }
}
