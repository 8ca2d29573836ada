//! The root file system: built where no path of the image is followed, then entered by pivot_root(2).

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, chdir, fchdir, fchown, pivot_root};

use super::dev;
use super::init::from_io;
use super::place::{Kind, Places};
use super::scaffold::{self, Made};
use crate::plan::{InitStep, Mounted, Plan, RootMount, Tree, Upper};
use crate::sys::mount::{Attributes, MOST_LOWER, move_mount, new_mount};
use crate::units::Bytes;

/// Where the scaffold is mounted, in this mount namespace only: a directory that every host has.
pub(crate) const ANCHOR: &str = "/tmp";

/// Nothing of a sandbox gains privilege or opens devices through its files.
pub(crate) const PLAIN: Attributes = Attributes::NO_SUID.and(Attributes::NO_DEV);

/// File systems and devices that must be taken while the host's are still in sight.
///
/// The kernel gives a user namespace a fresh proc or sysfs only while a fully visible one is mounted
/// (mount_namespaces(7)), and the devices are those of the host.
#[derive(Debug, Default)]
pub(super) struct Detached {
    /// A fresh proc.
    pub(super) proc: Option<OwnedFd>,
    /// A fresh sysfs.
    pub(super) sysfs: Option<OwnedFd>,
    /// The device nodes of `/dev`, by name.
    pub(super) devices: Vec<(&'static str, OwnedFd)>,
    /// The root's overlay, when the launcher mounted it.
    pub(super) overlay: Option<OwnedFd>,
    /// What PID 1 has made itself.
    pub(super) made: Made,
}

/// The root file system, entered.
pub(super) struct Entered {
    /// Its places.
    pub(super) places: Places,
    /// The file system of its writable layer, when the job may fill it.
    pub(super) layer: Option<OwnedFd>,
}

/// Keeps this namespace's mounts from spreading to the host's and the other way round.
pub(crate) fn make_private() -> Result<(), Errno> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
}

/// Builds the root file system and makes it this process's root; the host's is gone afterwards.
pub(super) fn enter(
    kind: &RootMount,
    plan: &Plan,
    trees: &mut BTreeMap<Tree, Vec<OwnedFd>>,
    layer_file: Option<OwnedFd>,
    files: &BTreeMap<String, String>,
    detached: &mut Detached,
) -> Result<Entered, Errno> {
    take_from_host(plan, detached)?;
    let scaffold = memory(Some(Bytes(1 << 20)), 0o700, PLAIN)?;
    let anchor = open(
        ANCHOR,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    move_mount(scaffold.as_fd(), anchor.as_fd())?;
    // Relative names keep the overlay's options below one page with 500 layers (mount(2)).
    fchdir(&scaffold)?;
    detached.made = scaffold::make(plan, files)?;
    let mut layer = None;
    match kind {
        RootMount::Tmpfs => attach_at(&scaffold, "root", &memory(Some(Bytes(1 << 20)), 0o755, PLAIN)?)?,
        RootMount::WritableTmpfs { size } => {
            let memory = memory(*size, 0o755, PLAIN)?;
            attach_at(&scaffold, "root", &memory)?;
            layer = Some(memory);
        }
        RootMount::OverlayFromLauncher => {
            attach_at(&scaffold, "root", &detached.overlay.take().ok_or(Errno::EBADF)?)?;
        }
        RootMount::Overlay(upper) => {
            let layers = trees.remove(&Tree::Layers).ok_or(Errno::EBADF)?;
            let writable = match upper {
                Upper::MountPoints => None,
                Upper::Tmpfs(size) => Some(memory(*size, 0o755, PLAIN)?),
                Upper::LayerFile => Some(layer_file.ok_or(Errno::EBADF)?),
                Upper::Scratch => {
                    let taken = trees.remove(&Tree::Scratch).and_then(|mut taken| taken.pop());
                    Some(taken.ok_or(Errno::EBADF)?)
                }
            };
            let points = scaffold::mount_points(plan, trees)?;
            let mut lower = Lower::attach(&scaffold, layers)?;
            lower.put_below(scaffold::below(&points).map_err(from_io)?);
            directory(&scaffold, "root")?;
            match &writable {
                Some(mount) => {
                    attach_at(&scaffold, "layer", mount)?;
                    overlay(&scaffold, &lower, Some("layer/"), "root", Xattrs::User)?;
                }
                None => read_only(&scaffold, &lower, &points)?,
            }
            layer = writable;
        }
    }
    let root = openat(
        &scaffold,
        "root",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    fchdir(&root)?;
    // The old root is stacked on the new one at the same place, then the top one is taken away (pivot_root(2)).
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    Ok(Entered {
        places: Places::of_this_root()?,
        layer,
    })
}

fn take_from_host(plan: &Plan, detached: &mut Detached) -> Result<(), Errno> {
    for step in &plan.init {
        let InitStep::Mount { what, .. } = step else {
            continue;
        };
        match what {
            Mounted::Proc => detached.proc = Some(new_mount(c"proc", &[], PLAIN.and(Attributes::NO_EXEC))?),
            Mounted::Sysfs => {
                let attributes = PLAIN.and(Attributes::NO_EXEC).and(Attributes::READ_ONLY);
                detached.sysfs = Some(new_mount(c"sysfs", &[], attributes)?);
            }
            Mounted::Dev => detached.devices = dev::take()?,
            _ => {}
        }
    }
    Ok(())
}

/// A new file system in memory; without a size the kernel's default holds, half of the memory (tmpfs(5)).
pub(crate) fn memory(size: Option<Bytes>, mode: u32, attributes: Attributes) -> Result<OwnedFd, Errno> {
    let mode = text(format!("{mode:o}"))?;
    let mut options = vec![(c"mode", Some(mode.as_c_str()))];
    let bounds = match size {
        // One inode per four KiB and a floor of 1,024: an empty file takes kernel memory as well.
        Some(size) => Some((
            text(size.0.to_string())?,
            text((size.0 / 4096).max(1024).to_string())?,
        )),
        None => None,
    };
    if let Some((size, inodes)) = &bounds {
        options.push((c"size", Some(size)));
        options.push((c"nr_inodes", Some(inodes)));
    }
    new_mount(c"tmpfs", &options, attributes)
}

fn text(text: String) -> Result<CString, Errno> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}

/// Makes the directory `name` below `parent`.
pub(crate) fn directory(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    mkdirat(parent, name, Mode::from_bits_truncate(0o755))
}

/// Makes the directory `name` below `parent` and mounts `tree` there.
pub(crate) fn attach_at(parent: &OwnedFd, name: &str, tree: &OwnedFd) -> Result<(), Errno> {
    directory(parent, name)?;
    let target = openat(parent, name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    move_mount(tree.as_fd(), target.as_fd())
}

/// Which extended attributes an overlay keeps its notes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Xattrs {
    /// `user.overlay.*`: mounted inside a user namespace.
    User,
    /// `trusted.overlay.*`: mounted by root outside.
    Trusted,
}

/// Layers, attached where an overlay finds them.
///
/// Of a detached tree the kernel says EPERM or EINVAL.
pub(crate) struct Lower {
    /// Names relative to the scaffold, the uppermost first.
    names: Vec<String>,
    /// The root of the uppermost.
    top: FileStat,
}

impl Lower {
    /// Attaches `layers`, the lowest first, at directories of `scaffold`.
    pub(crate) fn attach(scaffold: &OwnedFd, layers: Vec<OwnedFd>) -> Result<Lower, Errno> {
        let top = fstat(layers.last().ok_or(Errno::ENOENT)?)?;
        let mut names = Vec::with_capacity(layers.len() + 1);
        for (number, tree) in layers.into_iter().enumerate() {
            let name = number.to_string();
            attach_at(scaffold, &name, &tree)?;
            names.push(name);
        }
        names.reverse();
        Ok(Lower { names, top })
    }

    /// Adds a directory of the scaffold as the lowest layer; not below an image that has as many as an overlay takes.
    fn put_below(&mut self, name: &str) {
        if self.names.len() < MOST_LOWER {
            self.names.push(name.to_owned());
        }
    }
}

/// Mounts the root's overlay for a job that writes nothing there.
///
/// All that is mounted on has its place in the layers, as a rule; then nothing is written at all, and a layer to write in,
/// which the kernel tries at every mount, is dear. With it the places are made that another layer hides or a link leads to.
fn read_only(scaffold: &OwnedFd, lower: &Lower, points: &[(&str, Kind)]) -> Result<(), Errno> {
    if lower.names.len() > 1 {
        overlay(scaffold, lower, None, "root", Xattrs::User)?;
        let path = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let places = Places::of(openat(scaffold, "root", path, Mode::empty())?);
        if points.iter().all(|(at, _)| places.open(at).is_ok()) {
            return Ok(());
        }
        drop(places);
        umount2("root", MntFlags::MNT_DETACH)?;
    }
    overlay(scaffold, lower, Some(""), "root", Xattrs::User)
}

/// Mounts an overlay of `lower` at `target`, with directories made in `upper_parent` to write in, or read-only; all names
/// are relative to `scaffold`, the current directory.
pub(crate) fn overlay(
    scaffold: &OwnedFd,
    lower: &Lower,
    upper_parent: Option<&str>,
    target: &str,
    xattrs: Xattrs,
) -> Result<(), Errno> {
    // Nothing in a layer may redirect a lookup: security note in Documentation/filesystems/overlayfs.rst, "Redirects".
    let userxattr = match xattrs {
        Xattrs::User => "userxattr,",
        Xattrs::Trusted => "",
    };
    let mut options = format!(
        "{userxattr}redirect_dir=nofollow,metacopy=off,index=off,lowerdir={}",
        lower.names.join(":"),
    );
    if let Some(parent) = upper_parent {
        let (upper, work) = (format!("{parent}up"), format!("{parent}work"));
        directory(scaffold, &upper)?;
        directory(scaffold, &work)?;
        like_lower(scaffold, &upper, lower.top)?;
        options += &format!(",upperdir={upper},workdir={work}");
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("overlay"),
        target,
        Some("overlay"),
        flags,
        Some(options.as_str()),
    )
}

/// The root directory of an overlay has the owner and mode of its upper layer's, so that one takes those of the top
/// layer below it.
fn like_lower(scaffold: &OwnedFd, upper: &str, lower: FileStat) -> Result<(), Errno> {
    let folder = openat(
        scaffold,
        upper,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    match fchown(
        &folder,
        Some(Uid::from_raw(lower.st_uid)),
        Some(Gid::from_raw(lower.st_gid)),
    ) {
        // An owner that this user namespace does not have: the directory stays this process's own.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(errno),
    }
    fchmod(&folder, Mode::from_bits_truncate(lower.st_mode & 0o7777))
}
