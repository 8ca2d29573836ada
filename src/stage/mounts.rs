//! What appears at places inside the root: mounts, small files, masks, kernel settings.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, fchdir, symlinkat};

use super::init::from_io;
use super::place::{Kind, Places};
use super::root::{self, Detached, Lower, PLAIN, Xattrs, memory};
use super::{Bound, dev};
use crate::plan::{Mounted, Tree};
use crate::sys::mount::{Attributes, move_mount, open_tree, set_attributes};
use crate::units::Bytes;

/// Makes one thing appear at `at`; the layer it can be written in, if it has one of its own.
pub(super) fn mount(
    places: &Places,
    at: &str,
    what: &Mounted,
    trees: &mut BTreeMap<Tree, Vec<OwnedFd>>,
    detached: &mut Detached,
    bound: &Bound,
) -> Result<Option<OwnedFd>, Errno> {
    match what {
        Mounted::Proc => system(places, at, detached.proc.take())?,
        Mounted::Sysfs => system(places, at, detached.sysfs.take())?,
        Mounted::Dev => {
            let empty = detached.made.dev.take().ok_or(Errno::EBADF)?;
            let devices = std::mem::take(&mut detached.devices);
            dev::mount(places, at, empty, devices, bound.setgroups)?;
        }
        Mounted::Tmpfs { size, mode, exec } => {
            let attributes = if *exec {
                PLAIN
            } else {
                PLAIN.and(Attributes::NO_EXEC)
            };
            let target = places.mount_point(at, Kind::Directory, false)?;
            move_mount(memory(Some(*size), *mode, attributes)?.as_fd(), target.as_fd())?;
        }
        Mounted::Bind { tree, read_only } => {
            let attributes = if *read_only {
                PLAIN.and(Attributes::READ_ONLY)
            } else {
                PLAIN
            };
            // An optional source that is missing is an empty list; without a list nobody has looked.
            for taken in trees.remove(tree).ok_or(Errno::EBADF)? {
                // On the detached tree: at no moment can anybody write through it.
                set_attributes(taken.as_fd(), attributes)?;
                let target = places.mount_point(at, kind_of(&taken)?, false)?;
                move_mount(taken.as_fd(), target.as_fd())?;
            }
        }
        Mounted::Copy { tree, size } => {
            let taken = trees.remove(tree).ok_or(Errno::EBADF)?;
            if !taken.is_empty() {
                return copy(places, at, taken, *size).map(Some);
            }
        }
        Mounted::File { .. } => {
            let file = detached.made.files.remove(at).ok_or(Errno::EBADF)?;
            let target = places.mount_point(at, Kind::File, false)?;
            move_mount(file.as_fd(), target.as_fd())?;
        }
        Mounted::Link { target } => {
            let (parent, name) = at.rsplit_once('/').ok_or(Errno::EINVAL)?;
            let parent = places.mount_point(
                if parent.is_empty() { "/" } else { parent },
                Kind::Directory,
                false,
            )?;
            symlinkat(target.as_str(), &parent, name)?;
        }
    }
    Ok(None)
}

/// proc and sysfs: at a place that no link of the image leads to.
fn system(places: &Places, at: &str, fresh: Option<OwnedFd>) -> Result<(), Errno> {
    let fresh = fresh.ok_or(Errno::EBADF)?;
    let target = places.mount_point(at, Kind::Directory, true)?;
    move_mount(fresh.as_fd(), target.as_fd())
}

/// What a tree or a place is.
pub(super) fn kind_of(tree: &OwnedFd) -> Result<Kind, Errno> {
    let mode = fstat(tree)?.st_mode & SFlag::S_IFMT.bits();
    Ok(if mode == SFlag::S_IFDIR.bits() {
        Kind::Directory
    } else {
        Kind::File
    })
}

/// An overlay of the source and a layer in memory.
fn copy(places: &Places, at: &str, source: Vec<OwnedFd>, size: Option<Bytes>) -> Result<OwnedFd, Errno> {
    let target = places.mount_point(at, Kind::Directory, false)?;
    let layer = memory(size, 0o755, PLAIN)?;
    // The scaffold stands on the place itself for the moment in which the overlay is built, and is then taken away.
    move_mount(layer.as_fd(), target.as_fd())?;
    fchdir(&layer)?;
    root::directory(&layer, "merged")?;
    let lower = Lower::attach(&layer, source)?;
    root::overlay(&layer, &lower, Some(""), "merged", Xattrs::User)?;
    let merged = openat(
        &layer,
        "merged",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let tree = open_tree(merged.as_fd(), c"")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    move_mount(tree.as_fd(), target.as_fd())?;
    chdir("/")?;
    Ok(layer)
}

/// Writes a kernel setting through our own proc.
pub(super) fn sysctl(places: &Places, name: &str, value: &str) -> Result<(), Errno> {
    let path = format!("sys/{}", name.replace('.', "/"));
    let file = openat(
        our_proc(places)?.root(),
        path.as_str(),
        OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    File::from(file).write_all(value.as_bytes()).map_err(from_io)
}

/// Our proc as a root of its own; ESTALE when something else stands in its place.
fn our_proc(places: &Places) -> Result<Places, Errno> {
    let proc = places.open_strictly("/proc")?;
    let kind: FsType = fstatfs(&proc)?.filesystem_type();
    if kind == PROC_SUPER_MAGIC {
        Ok(Places::of(proc))
    } else {
        Err(Errno::ESTALE)
    }
}

/// Hides what stands at `paths`: files behind our `/dev/null`, folders behind the empty one.
pub(super) fn mask(places: &Places, paths: &[String], detached: &mut Detached) -> Result<(), Errno> {
    let null = places.open_strictly("/dev/null")?;
    dev::is_device(&null, 1, 3)?;
    let empty = detached.made.empty.take().ok_or(Errno::EBADF)?;
    let mut is_used = false;
    let proc = our_proc(places)?;
    for path in paths {
        let Some(place) = existing(places, &proc, path)? else {
            continue;
        };
        match (kind_of(&place)?, is_used) {
            (Kind::File, _) => move_mount(open_tree(null.as_fd(), c"")?.as_fd(), place.as_fd())?,
            (Kind::Directory, true) => {
                move_mount(open_tree(empty.as_fd(), c"")?.as_fd(), place.as_fd())?;
            }
            // Only what is mounted can be cloned (open_tree(2)).
            (Kind::Directory, false) => {
                move_mount(empty.as_fd(), place.as_fd())?;
                is_used = true;
            }
        }
    }
    Ok(())
}

/// Makes what stands at `paths` read-only, with all that is mounted below.
pub(super) fn read_only(places: &Places, paths: &[String]) -> Result<(), Errno> {
    let proc = our_proc(places)?;
    for path in paths {
        let Some(place) = existing(places, &proc, path)? else {
            continue;
        };
        let tree = open_tree(place.as_fd(), c"")?;
        set_attributes(tree.as_fd(), Attributes::READ_ONLY)?;
        move_mount(tree.as_fd(), place.as_fd())?;
    }
    Ok(())
}

/// The place at `path`; none when there is nothing. Below `/proc` it is a place of our `proc`: no link is followed there,
/// and no other file system is entered.
fn existing(places: &Places, proc: &Places, path: &str) -> Result<Option<OwnedFd>, Errno> {
    let found = match path.strip_prefix("/proc/") {
        Some(below) => proc.open_here(below),
        None => places.open(path),
    };
    match found {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        found => found.map(Some),
    }
}
