//! Layers laid over each other in one folder, as overlayfs shows them (overlayfs.rst, "Merged directories"): for who takes a
//! folder. Nothing is written that an upper layer hides, and nothing in the store changes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{
    FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, mkfifoat, symlinkat};

use super::beneath;
use super::store::errno;
use super::unpack::{is_opaque, is_whiteout};
use crate::sys::xattr;

/// What becomes of an owner's number, user or group; none where every file is to be the caller's.
pub(crate) type Renumber<'a> = Option<&'a dyn Fn(u32) -> u32>;

/// What of the layers is not in the folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Devices and sockets, which belong to no image.
    pub(crate) files: u64,
    /// Extended attributes that the folder's file system does not take.
    pub(crate) xattrs: u64,
}

/// A path, and the system's answer.
type Wrong = (PathBuf, io::Error);

/// Fills `into`, an empty folder of ours that nobody else can write to, with `layers`, lowest first.
///
/// # Errors
/// The path and the system's answer.
pub(crate) fn flatten(layers: &[PathBuf], into: &Path, owners: Renumber<'_>) -> Result<LeftOut, Wrong> {
    let opened = |path: &Path| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        open(path, flags, Mode::empty()).map_err(|errno| (path.to_owned(), errno.into()))
    };
    let layers = layers.iter().map(|layer| Ok((layer.as_path(), opened(layer)?)));
    let mut flat = Flat {
        layers: layers.collect::<Result<_, Wrong>>()?,
        into: (into, opened(into)?),
        owners,
        links: HashMap::new(),
        made: Vec::new(),
        left_out: LeftOut::default(),
    };
    let mut left = vec![Shown {
        path: Vec::new(),
        layers: (0..flat.layers.len()).rev().collect(),
    }];
    while let Some(folder) = left.pop() {
        flat.fill(&folder, &mut left)?;
    }
    flat.finish()
}

/// A folder that is to be filled.
struct Shown {
    path: Vec<u8>,
    /// The layers that show in it, the topmost first.
    layers: Vec<usize>,
}

/// What a name of a folder is.
struct Found {
    /// The topmost layer that has it.
    layer: usize,
    stat: libc::stat,
    /// Of a folder: the layers that may show in it, the topmost first.
    layers: Vec<usize>,
    /// Something that is no folder hides what further layers have.
    closed: bool,
}

struct Flat<'a> {
    layers: Vec<(&'a Path, OwnedFd)>,
    into: (&'a Path, OwnedFd),
    owners: Renumber<'a>,
    /// The first path of each file that has several names, by its layer and inode.
    links: HashMap<(usize, u64), Vec<u8>>,
    /// The folders that were made, each after the one that it is in.
    made: Vec<(Vec<u8>, libc::stat)>,
    left_out: LeftOut,
}

impl Flat<'_> {
    /// Copies what shows in a folder; its own folders are made, and left for later.
    fn fill(&mut self, folder: &Shown, left: &mut Vec<Shown>) -> Result<(), Wrong> {
        let target = beneath::folder(&self.into.1, &folder.path).map_err(self.here(&folder.path))?;
        let mut opened = Vec::new();
        for &layer in &folder.layers {
            let at = self.in_layer(layer, &folder.path);
            let source = beneath::folder(&self.layers[layer].1, &folder.path).map_err(&at)?;
            let opaque = is_opaque(source.as_fd()).map_err(&at)?;
            opened.push((layer, source));
            if opaque {
                break;
            }
        }
        let Some((top, source)) = opened.first() else {
            return Ok(());
        };
        let stat = fstat(source).map_err(self.in_layer(*top, &folder.path))?;
        let copied = attributes(source.as_fd(), target.as_fd(), &mut self.left_out);
        copied.map_err(self.here(&folder.path))?;
        self.made.push((folder.path.clone(), stat));
        for (name, found) in self.names(&folder.path, &opened)? {
            let path = beneath::join(&folder.path, name.as_bytes());
            let Some((_, source)) = opened.iter().find(|(layer, _)| *layer == found.layer) else {
                continue;
            };
            match found.stat.st_mode & libc::S_IFMT {
                _ if is_whiteout(&found.stat) => {}
                libc::S_IFDIR => {
                    mkdirat(&target, name.as_c_str(), Mode::S_IRWXU).map_err(self.here(&path))?;
                    left.push(Shown {
                        path,
                        layers: found.layers,
                    });
                }
                libc::S_IFREG => self
                    .file(source, &target, &name, &found, &path)
                    .map_err(self.here(&path))?,
                libc::S_IFLNK => self
                    .link(source, &target, &name, &found.stat)
                    .map_err(self.here(&path))?,
                libc::S_IFIFO => self.pipe(&target, &name, &found.stat).map_err(self.here(&path))?,
                _ => self.left_out.files += 1,
            }
        }
        Ok(())
    }

    /// The names that layers have in a folder, and what each of them is.
    fn names(&self, folder: &[u8], opened: &[(usize, OwnedFd)]) -> Result<BTreeMap<CString, Found>, Wrong> {
        let mut all: BTreeMap<CString, Found> = BTreeMap::new();
        for (layer, source) in opened {
            for name in beneath::names(source).map_err(self.in_layer(*layer, folder))? {
                let stat = fstatat(source, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
                let stat = stat.map_err(self.in_layer(*layer, &beneath::join(folder, name.as_bytes())))?;
                let is_folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
                let found = all.entry(name).or_insert(Found {
                    layer: *layer,
                    stat,
                    layers: Vec::new(),
                    closed: false,
                });
                if is_folder && !found.closed {
                    found.layers.push(*layer);
                }
                found.closed |= !is_folder;
            }
        }
        Ok(all)
    }

    fn file(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &CStr,
        found: &Found,
        path: &[u8],
    ) -> nix::Result<()> {
        if found.stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(found.layer, found.stat.st_ino)) {
                let (folder, first) = split(first);
                let folder = beneath::folder(&self.into.1, folder)?;
                return linkat(&folder, OsStr::from_bytes(first), target, name, AtFlags::empty());
            }
            self.links.insert((found.layer, found.stat.st_ino), path.to_vec());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut from = File::from(openat(source, name, flags, Mode::empty())?);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut to = File::from(openat(target, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        io::copy(&mut from, &mut to).map_err(|error| errno(&error))?;
        attributes(from.as_fd(), to.as_fd(), &mut self.left_out)?;
        self.complete(to.as_fd(), &found.stat)
    }

    fn link(&self, source: &OwnedFd, target: &OwnedFd, name: &CStr, stat: &libc::stat) -> nix::Result<()> {
        let leads = readlinkat(source, name)?;
        symlinkat(leads.as_os_str(), target, name)?;
        self.complete_at(target, name, stat)
    }

    fn pipe(&self, target: &OwnedFd, name: &CStr, stat: &libc::stat) -> nix::Result<()> {
        mkfifoat(target, name, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o777);
        fchmodat(target, name, mode, FchmodatFlags::FollowSymlink)?;
        self.complete_at(target, name, stat)
    }

    /// The owner and the time of what cannot be opened.
    fn complete_at(&self, target: &OwnedFd, name: &CStr, stat: &libc::stat) -> nix::Result<()> {
        if let Some((user, group)) = self.owner(stat) {
            fchownat(
                target,
                name,
                Some(user),
                Some(group),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )?;
        }
        utimensat(
            target,
            name,
            &TimeSpec::UTIME_OMIT,
            &modified(stat),
            UtimensatFlags::NoFollowSymlink,
        )
    }

    /// Owner first: its change takes away the bits that the mode then gives.
    fn complete(&self, target: BorrowedFd<'_>, stat: &libc::stat) -> nix::Result<()> {
        let owner = self.owner(stat);
        if let Some((user, group)) = owner {
            fchown(target, Some(user), Some(group))?;
        }
        let is_folder = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        // Another user's program that runs with its owner's rights would be one on this host too: where whoever copies
        // becomes the owner it loses them. A folder's set-group-id bit hands its group down, and gives no one rights.
        let kept = match (owner, is_folder) {
            (Some(_), _) => 0o7777,
            (None, true) => 0o3777,
            (None, false) => 0o1777,
        };
        fchmod(target, Mode::from_bits_truncate(stat.st_mode & kept))?;
        futimens(target, &TimeSpec::UTIME_OMIT, &modified(stat))
    }

    fn owner(&self, stat: &libc::stat) -> Option<(Uid, Gid)> {
        let becomes = self.owners?;
        Some((
            Uid::from_raw(becomes(stat.st_uid)),
            Gid::from_raw(becomes(stat.st_gid)),
        ))
    }

    /// Gives folders their owners, modes and times, the deepest first: a closed one keeps its owner out too.
    fn finish(self) -> Result<LeftOut, Wrong> {
        for (path, stat) in self.made.iter().rev() {
            let finished = beneath::folder(&self.into.1, path).and_then(|it| self.complete(it.as_fd(), stat));
            finished.map_err(self.here(path))?;
        }
        Ok(self.left_out)
    }

    /// A failure at a path of the folder that is filled.
    fn here(&self, path: &[u8]) -> impl Fn(Errno) -> Wrong + use<> {
        at(self.into.0, path)
    }

    /// A failure at a path of a layer.
    fn in_layer(&self, layer: usize, path: &[u8]) -> impl Fn(Errno) -> Wrong + use<> {
        at(self.layers[layer].0, path)
    }
}

fn at(root: &Path, path: &[u8]) -> impl Fn(Errno) -> Wrong + use<> {
    let path = root.join(OsStr::from_bytes(path));
    move |errno| (path.clone(), errno.into())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn modified(stat: &libc::stat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

/// Copies the attributes that images may bring: users' own, but not overlayfs's marks.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, left_out: &mut LeftOut) -> nix::Result<()> {
    let names = match xattr::list(from) {
        Err(Errno::ENOTSUP) => return Ok(()),
        names => names?,
    };
    for name in names {
        let text = name.to_bytes();
        if !text.starts_with(b"user.") || text.starts_with(b"user.overlay.") {
            continue;
        }
        match xattr::set(to, &name, &xattr::get(from, &name)?) {
            Err(Errno::ENOTSUP | Errno::ENOSPC | Errno::E2BIG) => left_out.xattrs += 1,
            set => set?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn upper_layers_add_replace_and_hide() {
        let base = std::env::temp_dir().join(format!("ringfence-flatten-{}", std::process::id()));
        let layer = |name: &str, files: &[(&str, &str)]| {
            for (path, text) in files {
                let path = base.join(name).join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            base.join(name)
        };
        let lower = layer(
            "1",
            &[("a/x", "1"), ("a/y", "1"), ("hidden/z", "1"), ("file", "1")],
        );
        symlink("/etc", lower.join("link")).unwrap();
        let upper = layer(
            "2",
            &[
                ("a/y", "2"),
                ("hidden/new", "2"),
                ("file/now-a-folder", "2"),
                ("link/in", "2"),
            ],
        );
        fs::set_permissions(upper.join("a/y"), Permissions::from_mode(0o4750)).unwrap();
        let marked = xattr::set(
            File::open(upper.join("hidden")).unwrap().as_fd(),
            c"user.overlay.opaque",
            b"y",
        );
        let into = base.join("into");
        fs::create_dir(&into).unwrap();
        let left_out = flatten(&[lower, upper], &into, None);
        let read = |path: &str| fs::read_to_string(into.join(path)).unwrap_or_default();
        let found = (
            read("a/x"),
            read("a/y"),
            read("file/now-a-folder"),
            read("link/in"),
        );
        let mode = fs::metadata(into.join("a/y")).map(|seen| seen.mode() & 0o7777);
        let hidden = into.join("hidden/z").exists();
        let untouched = !Path::new("/etc/in").exists();
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(left_out.unwrap(), LeftOut::default());
        assert_eq!(found, ("1".into(), "2".into(), "2".into(), "2".into()));
        assert_eq!(mode.unwrap(), 0o750, "no set-user-ID program of the caller's");
        assert!(untouched);
        // A file system without `user` attributes cannot hold a layer either.
        assert_eq!(hidden, marked.is_err());
    }
}
