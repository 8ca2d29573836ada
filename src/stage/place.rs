//! Places inside the new root, resolved by descriptor so that no link of the image can lead out (openat2(2)).

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
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
    /// A directory as the root.
    pub(super) fn of(root: OwnedFd) -> Places {
        Places { root }
    }

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

    /// Opens `path` as [`Places::open_strictly`] does, and enters no other file system on the way.
    ///
    /// # Errors
    /// ENOENT when there is nothing; ELOOP at a link; EXDEV at a mount.
    pub(super) fn open_here(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.resolve(
            path,
            ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
        )
    }

    fn resolve(&self, path: impl AsRef<Path>, more: ResolveFlag) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | more);
        // EAGAIN: a rename elsewhere on the system raced with `..`; the call may be repeated (openat2(2)).
        for _ in 0..16 {
            match openat2(&self.root, path.as_ref(), how) {
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

    /// Makes what is missing of `path`. A link that leads to nothing is followed, inside the root: an image's
    /// `/etc/resolv.conf` may name a file that only a running system has.
    fn make(&self, path: &str, kind: Kind, more: ResolveFlag) -> Result<OwnedFd, Errno> {
        /// As many as the kernel follows (path_resolution(7)).
        const MOST_LINKS: u32 = 40;
        let mut links = 0;
        let mut left: Vec<OsString> = names_backwards(path.as_ref());
        let mut reached = PathBuf::from("/");
        let mut parent = self.resolve("/", more)?;
        while let Some(name) = left.pop() {
            let path = reached.join(&name);
            parent = match self.resolve(&path, more) {
                Err(Errno::ENOENT) => match readlinkat(&parent, name.as_os_str()) {
                    Ok(target) => {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(Errno::ELOOP);
                        }
                        if target.as_bytes().starts_with(b"/") {
                            reached = PathBuf::from("/");
                        }
                        left.extend(names_backwards(target.as_ref()));
                        self.resolve(&reached, more)?
                    }
                    Err(_) => {
                        reached = path;
                        make_at(
                            &parent,
                            &name,
                            if left.is_empty() { kind } else { Kind::Directory },
                        )?
                    }
                },
                found => {
                    reached = path;
                    found?
                }
            };
        }
        Ok(parent)
    }
}

/// The names of a path, the last one first.
fn names_backwards(path: &Path) -> Vec<OsString> {
    let names = path
        .components()
        .filter(|part| !matches!(part, Component::RootDir));
    names.map(|part| part.as_os_str().to_owned()).rev().collect()
}

/// Makes a directory or an empty file, open to be mounted on.
fn make_at(parent: &OwnedFd, name: &OsStr, kind: Kind) -> Result<OwnedFd, Errno> {
    match kind {
        Kind::File => {
            // O_EXCL: what has appeared meanwhile is an error, never opened.
            let make = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            openat(parent, name, make, Mode::from_bits_truncate(0o644))
        }
        Kind::Directory => {
            mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(parent, name, flags, Mode::empty())
        }
    }
}
