//! The tree of a layer that is being unpacked. Every path is resolved below the root's descriptor, by the kernel
//! (openat2(2), RESOLVE_IN_ROOT): a link of the image leads nowhere else, whatever it says.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::libc;
use nix::sys::stat::{
    Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};

use super::entry::Path;
use crate::image::store::remove;
use crate::sys::xattr;

/// What overlayfs reads in a user namespace (`userxattr`), and what it reads elsewhere (overlayfs.rst, "User xattr").
const OPAQUE_USER: &CStr = c"user.overlay.opaque";
const OPAQUE_TRUSTED: &CStr = c"trusted.overlay.opaque";

/// tmpfs has them since Linux 6.6, NFS since 5.9; without them what a layer hides would show.
const NO_USER_ATTRIBUTES: &str =
    "the store's file system takes no `user` attributes; set RINGFENCE_STORE to a folder on a disk";

/// The tree of one layer.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// A folder on the same file system, for what has to be removed with its children.
    graves: BorrowedFd<'a>,
    /// Root outside of any user namespace, who may write `trusted` attributes.
    privileged: bool,
    /// Something was removed to make room: what is known of paths may be out of date.
    replaced: Cell<bool>,
    /// The folder of the last entry and folders above it: archives list a folder's entries together.
    open: Vec<(Vec<u8>, Rc<OwnedFd>)>,
}

/// The most folders that are kept open.
const MOST_OPEN: usize = 16;

/// Ids of the store, both or neither.
pub(super) type Owner = Option<(Uid, Gid)>;

/// Why an entry cannot be made.
#[derive(Debug)]
pub(super) enum TreeError {
    Refused(&'static str),
    System(&'static str, Errno),
}

type Result<T> = std::result::Result<T, TreeError>;

const FOLDER: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, graves: BorrowedFd<'a>, privileged: bool) -> Tree<'a> {
        Tree {
            root,
            graves,
            privileged,
            replaced: Cell::new(false),
            open: Vec::new(),
        }
    }

    /// A new file with a mode; what stood there is replaced.
    pub(super) fn file(&mut self, path: &Path, mode: u32) -> Result<File> {
        let (folder, name) = self.place(path)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = || openat(&folder, name.as_c_str(), flags, Mode::from_bits_truncate(mode));
        let file = self.replacing(&folder, &name, "make", open)?;
        Ok(File::from(file))
    }

    /// A directory; one that stands there stays, anything else is replaced.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        if path.split().is_none() {
            return Ok(());
        }
        let (folder, name) = self.place(path)?;
        self.make_directory(folder.as_fd(), &name)
    }

    /// A directory that was made before; none when something else stands there now.
    pub(super) fn made_directory(&mut self, path: &Path) -> Result<Option<OwnedFd>> {
        let opened = match path.split() {
            None => openat(self.root, ".", OFlag::O_RDONLY | FOLDER, Mode::empty()),
            Some((folder, name)) => {
                let Ok(folder) = self.known_folder(folder) else {
                    return Ok(None);
                };
                openat(
                    &folder,
                    c_string(name)?.as_c_str(),
                    OFlag::O_RDONLY | FOLDER,
                    Mode::empty(),
                )
            }
        };
        match opened {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(TreeError::System("open", errno)),
        }
    }

    /// A symbolic link, with its owner and time.
    pub(super) fn symlink(
        &mut self,
        path: &Path,
        target: &[u8],
        owner: Owner,
        mtime: TimeSpec,
    ) -> Result<()> {
        let (folder, name) = self.place(path)?;
        let target = c_string(target)?;
        let link = || symlinkat(target.as_c_str(), &folder, name.as_c_str());
        self.replacing(&folder, &name, "make", link)?;
        set_metadata(&folder, &name, owner, mtime)
    }

    /// A named pipe.
    pub(super) fn fifo(&mut self, path: &Path, mode: u32, owner: Owner, mtime: TimeSpec) -> Result<()> {
        let (folder, name) = self.place(path)?;
        let mode = Mode::from_bits_truncate(mode);
        let make = || mknodat(&folder, name.as_c_str(), SFlag::S_IFIFO, mode, 0);
        self.replacing(&folder, &name, "make", make)?;
        set_metadata(&folder, &name, owner, mtime)
    }

    /// A second name for a file of this layer.
    pub(super) fn hard_link(&mut self, path: &Path, target: &Path) -> Result<()> {
        if path == target {
            return Err(TreeError::Refused("it is a hard link to itself"));
        }
        let (target_folder, target_name) = target
            .split()
            .ok_or(TreeError::Refused("it is a hard link to the root"))?;
        let missing = TreeError::Refused("it is a hard link to a file that its layer does not hold");
        let target_folder = match self.known_folder(target_folder) {
            Err(TreeError::System(_, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) => return Err(missing),
            resolved => resolved?,
        };
        let target_name = c_string(target_name)?;
        let stat = match fstatat(
            &target_folder,
            target_name.as_c_str(),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(missing),
            stat => stat.map_err(system("look up its target"))?,
        };
        if is_whiteout(&stat) {
            return Err(missing);
        }
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Err(TreeError::Refused("it is a hard link to a directory"));
        }
        let (folder, name) = self.place(path)?;
        if let Ok(there) = fstatat(&folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            && (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        let link = || {
            linkat(
                &target_folder,
                target_name.as_c_str(),
                &folder,
                name.as_c_str(),
                AtFlags::empty(),
            )
        };
        self.replacing(&folder, &name, "link", link)
    }

    /// Hides what lower layers have at `folder/name`. What this layer itself has there stays, whether it came before or comes later.
    pub(super) fn whiteout(&mut self, folder: &[u8], name: &[u8]) -> Result<()> {
        let name = c_string(name)?;
        let folder = self.folder(folder)?;
        match mknodat(
            &folder,
            name.as_c_str(),
            SFlag::S_IFCHR,
            Mode::empty(),
            makedev(0, 0),
        ) {
            Err(Errno::EEXIST) => {}
            done => return done.map_err(system("make the whiteout")),
        }
        let stat =
            fstatat(&folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(system("look up"))?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            self.make_directory(folder.as_fd(), &name)?;
            let own = openat(&folder, name.as_c_str(), OFlag::O_RDONLY | FOLDER, Mode::empty())
                .map_err(system("open"))?;
            self.set_opaque(own.as_fd())?;
        }
        Ok(())
    }

    /// Hides all that lower layers have in a folder.
    pub(super) fn opaque(&mut self, folder: &[u8]) -> Result<()> {
        let folder = self.folder(folder)?;
        let folder = openat(&folder, ".", OFlag::O_RDONLY | FOLDER, Mode::empty()).map_err(system("open"))?;
        self.set_opaque(folder.as_fd())
    }

    /// The folder of a path, made if need be, and its name in it.
    fn place(&mut self, path: &Path) -> Result<(Rc<OwnedFd>, CString)> {
        let (folder, name) = path
            .split()
            .ok_or(TreeError::Refused("the root can only be a directory"))?;
        let name = c_string(name)?;
        Ok((self.folder(folder)?, name))
    }

    /// A folder, made with its parents where it is missing.
    fn folder(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        match self.known_folder(path) {
            Err(TreeError::System(_, Errno::ENOENT | Errno::ENOTDIR)) => {
                let made = self.make_folders(path)?;
                Ok(self.keep(path, made))
            }
            known => known,
        }
    }

    /// A folder that is there.
    fn known_folder(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>> {
        if self.replaced.take() {
            self.open.clear();
        }
        while self.open.pop_if(|(known, _)| !is_above(known, path)).is_some() {}
        match self.open.last() {
            Some((known, folder)) if known == path => Ok(Rc::clone(folder)),
            _ => {
                let folder = self.resolve(path)?;
                Ok(self.keep(path, folder))
            }
        }
    }

    fn keep(&mut self, path: &[u8], folder: OwnedFd) -> Rc<OwnedFd> {
        if self.open.len() == MOST_OPEN {
            self.open.remove(0);
        }
        let folder = Rc::new(folder);
        self.open.push((path.to_vec(), Rc::clone(&folder)));
        folder
    }

    fn make_folders(&self, path: &[u8]) -> Result<OwnedFd> {
        let mut above = self.resolve(b"")?;
        let mut end = 0;
        while end < path.len() {
            let start = if end == 0 { 0 } else { end + 1 };
            end = path[start..]
                .iter()
                .position(|byte| *byte == b'/')
                .map_or(path.len(), |slash| start + slash);
            above = match self.resolve(&path[..end]) {
                Err(TreeError::System(_, Errno::ENOENT | Errno::ENOTDIR)) => {
                    let name = c_string(&path[start..end])?;
                    if !may_become_directory(above.as_fd(), &name)? {
                        return Err(TreeError::Refused("its folder is a file or a dangling link"));
                    }
                    self.make_directory(above.as_fd(), &name)?;
                    let folder = openat(&above, name.as_c_str(), OFlag::O_RDONLY | FOLDER, Mode::empty());
                    let folder = folder.map_err(system("open"))?;
                    // No entry says otherwise yet: what distributions have.
                    fchmod(&folder, Mode::from_bits_truncate(0o755)).map_err(system("set the mode"))?;
                    folder
                }
                resolved => resolved?,
            };
        }
        Ok(above)
    }

    fn resolve(&self, path: &[u8]) -> Result<OwnedFd> {
        let path = if path.is_empty() {
            c".".to_owned()
        } else {
            c_string(path)?
        };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_IN_ROOT
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        let mut tries = 0;
        loop {
            match openat2(self.root, path.as_c_str(), how) {
                // A rename elsewhere on the machine during the walk over a `..` of a link (openat2(2)).
                Err(Errno::EAGAIN) if tries < 100 => tries += 1,
                opened => return opened.map_err(system("resolve its folder")),
            }
        }
    }

    /// Makes a directory where there is none. One that takes the place of a whiteout hides the lower layers' as that did.
    fn make_directory(&self, folder: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        match mkdirat(folder, name, Mode::S_IRWXU) {
            Err(Errno::EEXIST) => {}
            made => return made.map_err(system("make")),
        }
        let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(system("look up"))?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Ok(());
        }
        self.remove(folder, name)?;
        mkdirat(folder, name, Mode::S_IRWXU).map_err(system("make"))?;
        if is_whiteout(&stat) {
            let own =
                openat(folder, name, OFlag::O_RDONLY | FOLDER, Mode::empty()).map_err(system("open"))?;
            self.set_opaque(own.as_fd())?;
        }
        Ok(())
    }

    /// Makes something at a name, removing first what stands there.
    fn replacing<T>(
        &self,
        folder: &OwnedFd,
        name: &CStr,
        step: &'static str,
        make: impl Fn() -> nix::Result<T>,
    ) -> Result<T> {
        match make() {
            Err(Errno::EEXIST) => {}
            made => return made.map_err(system(step)),
        }
        self.remove(folder.as_fd(), name)?;
        make().map_err(system(step))
    }

    fn remove(&self, folder: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        self.replaced.set(true);
        remove(folder, name, self.graves, c"grave").map_err(system("replace"))
    }

    fn set_opaque(&self, folder: BorrowedFd<'_>) -> Result<()> {
        match xattr::set(folder, OPAQUE_USER, b"y") {
            Err(Errno::ENOTSUP) => return Err(TreeError::Refused(NO_USER_ATTRIBUTES)),
            set => set.map_err(system("mark as opaque"))?,
        }
        // Root may have to mount the same layer without `userxattr`, on kernels whose tmpfs has no user attributes.
        if self.privileged {
            xattr::set(folder, OPAQUE_TRUSTED, b"y").map_err(system("mark as opaque"))?;
        }
        Ok(())
    }
}

/// Sets the time of an open file or directory, and its owner and mode where they are not what they have to be already.
/// Owner first: changing it clears bits of the mode.
pub(super) fn finish(file: BorrowedFd<'_>, owner: Owner, mode: Option<u32>, mtime: TimeSpec) -> Result<()> {
    if let Some((uid, gid)) = owner {
        fchown(file, Some(uid), Some(gid)).map_err(system("set the owner"))?;
    }
    if let Some(mode) = mode {
        fchmod(file, Mode::from_bits_truncate(mode)).map_err(system("set the mode"))?;
    }
    futimens(file, &TimeSpec::UTIME_OMIT, &mtime).map_err(system("set the time"))
}

fn set_metadata(folder: &OwnedFd, name: &CStr, owner: Owner, mtime: TimeSpec) -> Result<()> {
    if let Some((uid, gid)) = owner {
        fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(system("set the owner"))?;
    }
    utimensat(
        folder,
        name,
        &TimeSpec::UTIME_OMIT,
        &mtime,
        UtimensatFlags::NoFollowSymlink,
    )
    .map_err(system("set the time"))
}

/// Whether a folder is `path` or above it.
fn is_above(folder: &[u8], path: &[u8]) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || folder.is_empty() || rest[0] == b'/')
}

fn may_become_directory(folder: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(is_whiteout(&stat)),
        Err(Errno::ENOENT) => Ok(true),
        Err(errno) => Err(TreeError::System("look up", errno)),
    }
}

/// Whether a folder of a layer hides the lower ones.
pub(crate) fn is_opaque(folder: BorrowedFd<'_>) -> nix::Result<bool> {
    xattr::is(folder, OPAQUE_USER, b"y")
}

/// Only a whiteout is a device in a layer's tree: an archive's own are not made.
pub(crate) fn is_whiteout(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

fn c_string(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| TreeError::Refused("its name has a NUL byte"))
}

fn system(step: &'static str) -> impl Fn(Errno) -> TreeError {
    move |errno| TreeError::System(step, errno)
}
