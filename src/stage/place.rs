//! Places inside the new root, resolved by descriptor so that no link of the image can lead out (openat2(2)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// What a place must be, so that something can be mounted on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// Anything that is not a directory.
    File,
}

/// The root file system of the sandbox, by descriptor.
#[derive(Debug)]
pub(super) struct Places {
    root: OwnedFd,
}

impl Places {
    /// The present root directory.
    pub(super) fn of_this_root() -> Result<Places, Errno> {
        Ok(Places {
            root: open(
                "/",
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            )?,
        })
    }

    /// The root itself.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens `path`, an absolute one, for reference only; links stay inside the root.
    ///
    /// # Errors
    /// ENOENT when there is nothing; ELOOP at a magic link.
    pub(super) fn open(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.resolve(path, ResolveFlag::empty())
    }

    /// Opens `path` and refuses every symbolic link on the way: for places that are ours, such as `/proc`.
    ///
    /// # Errors
    /// ENOENT when there is nothing; ELOOP at a link.
    pub(super) fn open_strictly(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.resolve(path, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn resolve(&self, path: &str, more: ResolveFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | more);
        // EAGAIN: a rename elsewhere on the system raced with `..`; the call may be repeated (openat2(2)).
        for _ in 0..16 {
            match openat2(&self.root, path, how) {
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::EAGAIN)
    }

    /// Opens `path` to mount on it; what is missing is made, component by component.
    ///
    /// # Errors
    /// ENOTDIR or EISDIR when something of the other kind stands there, ELOOP at a link when `strict`.
    pub(super) fn mount_point(&self, path: &str, kind: Kind, strict: bool) -> Result<OwnedFd, Errno> {
        let more = if strict {
            ResolveFlag::RESOLVE_NO_SYMLINKS
        } else {
            ResolveFlag::empty()
        };
        let place = match self.resolve(path, more) {
            Err(Errno::ENOENT) => self.make(path, kind, more)?,
            found => found?,
        };
        let is_directory =
            SFlag::from_bits_truncate(fstat(&place)?.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
        match (kind, is_directory) {
            (Kind::Directory, false) => Err(Errno::ENOTDIR),
            (Kind::File, true) => Err(Errno::EISDIR),
            _ => Ok(place),
        }
    }

    fn make(&self, path: &str, kind: Kind, more: ResolveFlag) -> Result<OwnedFd, Errno> {
        let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
        let mut reached = String::new();
        let mut parent = self.resolve("/", more)?;
        while let Some(name) = names.next() {
            reached.push('/');
            reached.push_str(name);
            parent = match self.resolve(&reached, more) {
                Err(Errno::ENOENT) => {
                    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    if names.peek().is_none() && kind == Kind::File {
                        // O_EXCL: a dangling link with this name is an error, never followed.
                        let make = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                        openat(&parent, name, make, Mode::from_bits_truncate(0o644))?;
                    } else {
                        mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?;
                    }
                    openat(&parent, name, flags, Mode::empty())?
                }
                found => found?,
            };
        }
        Ok(parent)
    }
}
