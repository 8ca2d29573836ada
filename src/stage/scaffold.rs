//! What PID 1 makes itself before the root is entered: in the scaffold, a small file system in memory that nobody reaches
//! afterwards. One file system holds all of it, since every start makes it and the end of every job takes it down.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, create_dir, create_dir_all};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::init::from_io;
use super::mounts::kind_of;
use super::place::Kind;
use super::root::PLAIN;
use crate::plan::{InitStep, Mounted, Plan, Tree};
use crate::sys::mount::{Attributes, open_tree, set_attributes};

/// What is mounted later, detached.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// An empty `/dev`.
    pub(super) dev: Option<OwnedFd>,
    /// A folder that hides others; nothing can be made in it.
    pub(super) empty: Option<OwnedFd>,
    /// Our own small files, by their place inside; nobody can write them.
    pub(super) files: BTreeMap<String, OwnedFd>,
}

/// Makes what `plan` mounts, in the current directory; `files` are the contents of the small files.
///
/// The scaffold is mounted, since before Linux 6.15 nothing of a detached mount could be cloned.
pub(super) fn make(plan: &Plan, files: &BTreeMap<String, String>) -> Result<Made, Errno> {
    let fixed = PLAIN.and(Attributes::NO_EXEC).and(Attributes::READ_ONLY);
    let mut made = Made::default();
    for step in &plan.init {
        match step {
            InitStep::Mount {
                what: Mounted::Dev, ..
            } => made.dev = Some(folder("dev", 0o755, Attributes::NO_EXEC)?),
            InitStep::Mount {
                at,
                what: Mounted::File { .. },
            } => {
                let text = files.get(at).map_or("", String::as_str);
                let file = file(&format!("file{}", made.files.len()), text).map_err(from_io)?;
                let tree = open_tree(file.as_fd(), c"")?;
                set_attributes(tree.as_fd(), fixed)?;
                made.files.insert(at.clone(), tree);
            }
            InitStep::Mask(_) => made.empty = Some(folder("empty", 0o555, fixed)?),
            _ => {}
        }
    }
    Ok(made)
}

fn folder(name: &str, mode: u32, attributes: Attributes) -> Result<OwnedFd, Errno> {
    DirBuilder::new().mode(mode).create(name).map_err(from_io)?;
    let path = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let tree = open_tree(open(name, path, Mode::empty())?.as_fd(), c"")?;
    set_attributes(tree.as_fd(), attributes)?;
    Ok(tree)
}

fn file(name: &str, text: &str) -> io::Result<File> {
    let mut file = File::create_new(name)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

/// The places of the root itself that `plan` mounts on, each with what must stand there; `trees` tell of binds whether they
/// are files. Below another mount the root is not seen, and a link is no mount.
pub(super) fn mount_points<'plan>(
    plan: &'plan Plan,
    trees: &BTreeMap<Tree, Vec<OwnedFd>>,
) -> Result<Vec<(&'plan str, Kind)>, Errno> {
    let mut points: Vec<(&str, Kind)> = Vec::new();
    for step in &plan.init {
        let InitStep::Mount { at, what } = step else {
            continue;
        };
        if points.iter().any(|(above, _)| Path::new(at).starts_with(above)) {
            continue;
        }
        let kind = match what {
            Mounted::Link { .. } => continue,
            Mounted::File { .. } => Kind::File,
            Mounted::Bind { tree, .. } => match trees.get(tree).and_then(|taken| taken.first()) {
                Some(taken) => kind_of(taken)?,
                // An optional source that is missing.
                None => continue,
            },
            _ => Kind::Directory,
        };
        points.push((at, kind));
    }
    Ok(points)
}

/// Makes `points` as a layer of their own, for below the image's, and says its name in the current directory.
///
/// An image lacks some, `/etc/hosts` most often. To make one through the overlay costs a tenth of a millisecond, since the
/// folder is copied up first; it is done still for what this layer cannot give, such as a place behind a link of the image.
pub(super) fn below(points: &[(&str, Kind)]) -> io::Result<&'static str> {
    const NAME: &str = "below";
    create_dir(NAME)?;
    for (at, kind) in points {
        let place = Path::new(NAME).join(at.trim_start_matches('/'));
        match kind {
            Kind::File => {
                create_dir_all(place.parent().unwrap_or(&place))?;
                File::create(place)?;
            }
            Kind::Directory => create_dir_all(place)?,
        }
    }
    Ok(NAME)
}
