//! A root file system in a new folder: what a job of the image would see.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{geteuid, syncfs};

use super::beside;
use crate::image::flatten::{LeftOut, Renumber, flatten};
use crate::image::local::cause;
use crate::image::store::{Ownership, remove};

/// Writes layers, lowest first, into a folder beside `path`, then gives that its name.
pub(super) fn write(path: &Path, layers: &[PathBuf], ownership: Ownership) -> Result<LeftOut, String> {
    let wrong = |path: &Path, error: io::Error| format!("{}: {}", path.display(), cause(&error));
    if fs::symlink_metadata(path).is_ok() {
        return Err(format!(
            "{}: it is there already, and a root file system is written into a new folder",
            path.display()
        ));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = File::open(parent.unwrap_or(Path::new("."))).map_err(|error| wrong(path, error))?;
    let beside = beside(path);
    let made = DirBuilder::new().mode(0o700).create(&beside);
    made.map_err(|error| wrong(&beside, error))?;
    let own = geteuid().as_raw();
    let renumber = |id: u32| match ownership {
        Ownership::Kept | Ownership::Single => id,
        Ownership::Shifted { base } => id.saturating_sub(base),
        // Root's files are the caller's, as they are for a job that runs on the folder, and for an import of it.
        Ownership::Subordinate if id == 0 => own,
        Ownership::Subordinate => id,
    };
    let owners: Renumber<'_> = (ownership != Ownership::Single).then_some(&renumber);
    let written = flatten(layers, &beside, owners).map_err(|(path, error)| wrong(&path, error));
    let placed = written.and_then(|left_out| {
        // All on the disk before it has its name: a loss of power leaves no empty files under it.
        let placed = syncfs(&parent).and_then(|()| rename(&beside, path));
        placed.map_err(|errno| wrong(path, errno.into()))?;
        Ok(left_out)
    });
    if placed.is_err() {
        clear(parent.as_fd(), &beside);
    }
    placed
}

fn rename(from: &Path, to: &Path) -> nix::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // A server's file system knows no such rename (rename(2)). Nothing was there a moment ago.
        Err(Errno::EINVAL) => nix::fcntl::renameat(AT_FDCWD, from, AT_FDCWD, to),
        renamed => renamed,
    }
}

/// Removes a part, which is of no use; what went wrong before is what counts.
fn clear(parent: impl AsFd, part: &Path) {
    let name = part.file_name().unwrap_or_default().as_bytes();
    let names = (CString::new(name), CString::new([name, b".removed"].concat()));
    if let (Ok(name), Ok(grave)) = names {
        remove(parent.as_fd(), &name, parent.as_fd(), &grave).ok();
    }
}
