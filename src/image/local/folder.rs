//! The files of a folder.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::files::{Files, Part};
use super::{LocalError, cause, wrong};

/// A folder that was opened once; no name is looked up outside of it.
pub(super) struct Folder {
    folder: OwnedFd,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Folder, LocalError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(path, flags, Mode::empty())
            .map_err(|errno| wrong(path.display().to_string(), cause(&errno.into())))?;
        Ok(Folder { folder })
    }
}

impl Files for Folder {
    /// Links are refused: one to a file of the host would bring that into an image (GHSA-r3h2-rgqf-9hv9).
    fn open(&self, name: &str) -> Result<Option<Part>, LocalError> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let file = match openat2(&self.folder, name, how) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(Errno::ELOOP) => {
                return Err(wrong(name, "it is a symbolic link, and those are not followed"));
            }
            opened => opened.map_err(|errno| wrong(name, cause(&errno.into())))?,
        };
        let file = File::from(file);
        let seen = file.metadata().map_err(|error| wrong(name, cause(&error)))?;
        match seen.is_file() {
            true => Ok(Some(Part::new(Arc::new(file), 0, seen.len()))),
            false => Err(wrong(name, "it is not a regular file")),
        }
    }
}
