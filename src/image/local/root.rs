//! A folder that is a root file system, as an image of one layer: always the same for the same files, so that it can be
//! named by its digest.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{getegid, geteuid};
use serde_json::json;
use tar::{EntryType, Header};

use super::super::beneath;
use super::super::digest::{Digest, Hashed};
use super::super::manifest::Blob;
use super::super::origin::{Fetched, Origin, OriginError};
use super::super::platform::Platform;
use super::files::Part;
use super::tarball::without_name;
use super::{LocalError, cause, wrong};
use crate::sys::xattr;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image made of a folder.
pub(super) struct RootFolder {
    config: Vec<u8>,
    manifest: Vec<u8>,
    layer: Arc<File>,
    size: u64,
}

impl RootFolder {
    /// Packs the folder into a file without a name below `spool`.
    pub(super) fn open(
        path: &Path,
        spool: &Path,
        platform: &Platform,
    ) -> Result<(RootFolder, Fetched), LocalError> {
        let in_path = |error: io::Error| wrong(path.display().to_string(), cause(&error));
        let file = without_name(spool).map_err(in_path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty()).map_err(|errno| in_path(errno.into()))?;
        let mut packing = Packing {
            archive: tar::Builder::new(BufWriter::new(file)),
            root,
            shown: path,
            names: HashMap::new(),
        };
        packing.all()?;
        let written = packing.archive.into_inner();
        let file = written.and_then(|buffer| buffer.into_inner().map_err(io::Error::from));
        let file = Arc::new(file.map_err(in_path)?);
        let size = file.metadata().map_err(in_path)?.len();
        let mut hashed = Hashed::new(Part::new(Arc::clone(&file), 0, size));
        io::copy(&mut hashed, &mut io::sink()).map_err(in_path)?;
        let (layer, _) = hashed.finish();
        let mut config = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [layer] },
        });
        if !platform.variant.is_empty() {
            config["variant"] = json!(platform.variant);
        }
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": Digest::of(&config), "size": config.len() },
            "layers": [{ "mediaType": LAYER, "digest": layer, "size": size }],
        });
        let image = RootFolder {
            config,
            manifest: manifest.to_string().into_bytes(),
            layer: file,
            size,
        };
        let top = image.top();
        Ok((image, top))
    }

    fn top(&self) -> Fetched {
        Fetched {
            digest: Digest::of(&self.manifest),
            bytes: self.manifest.clone(),
            media_type: Some(MANIFEST.to_owned()),
        }
    }
}

impl Origin for RootFolder {
    fn document(&self, digest: Digest) -> Result<Fetched, OriginError> {
        match self.top() {
            top if top.digest == digest => Ok(top),
            top => Err(LocalError::Which(format!("its image is {}, not {digest}", top.digest)).into()),
        }
    }

    fn config(&self, _: Blob) -> Result<Vec<u8>, OriginError> {
        Ok(self.config.clone())
    }

    fn layer(&self, _: Blob) -> Result<Box<dyn Read + Send + '_>, OriginError> {
        Ok(Box::new(Part::new(Arc::clone(&self.layer), 0, self.size)))
    }
}

/// A folder on its way into an archive.
struct Packing<'a, W: Write> {
    archive: tar::Builder<W>,
    root: OwnedFd,
    /// The path of the root, for messages.
    shown: &'a Path,
    /// The first name of each file that has several, by device and inode.
    names: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packing<'_, W> {
    /// Packs all of it: each folder, then what is in it in the order of names, then the folders in it.
    fn all(&mut self) -> Result<(), LocalError> {
        // The next one last.
        let mut left = vec![Vec::new()];
        while let Some(path) = left.pop() {
            let mut below = self.folder(&path)?;
            below.reverse();
            left.append(&mut below);
        }
        Ok(())
    }

    /// Packs a folder and what is in it but for its folders, whose paths it gives.
    fn folder(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, LocalError> {
        let shown = self.shown;
        let at = move |path: &[u8]| {
            let shown = shown.join(OsStr::from_bytes(path)).display().to_string();
            move |error: io::Error| wrong(shown.clone(), cause(&error))
        };
        let system = |path: &[u8]| {
            let at = at(path);
            move |errno: Errno| at(errno.into())
        };
        let folder = beneath::folder(&self.root, path).map_err(system(path))?;
        let stat = fstat(&folder).map_err(system(path))?;
        self.put(path, &stat, Some(folder.as_fd()), io::empty())
            .map_err(at(path))?;
        let mut below = Vec::new();
        for name in beneath::names(&folder).map_err(system(path))? {
            let path = beneath::join(path, name.as_bytes());
            if name.as_bytes().starts_with(b".wh.") {
                let reason = "its name begins with `.wh.`, which hides a file in an image";
                return Err(at(&path)(io::Error::other(reason)));
            }
            let stat = fstatat(&folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
            match stat.map_err(system(&path))?.st_mode & libc::S_IFMT {
                libc::S_IFDIR => below.push(path),
                _ => self.entry(&folder, &name, &path).map_err(at(&path))?,
            }
        }
        Ok(below)
    }

    /// Packs what is no folder.
    fn entry(&mut self, folder: &OwnedFd, name: &CStr, path: &[u8]) -> io::Result<()> {
        let stat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => {}
            // It leads to a process, and would to none in an image.
            libc::S_IFSOCK => return Ok(()),
            libc::S_IFLNK => {
                let target = readlinkat(folder, name)?;
                return self.link(path, EntryType::Symlink, &stat, target.as_bytes());
            }
            _ => return self.put(path, &stat, None, io::empty()),
        }
        if stat.st_nlink > 1 {
            let first = self.names.entry((stat.st_dev, stat.st_ino));
            let first = first.or_insert_with(|| path.to_vec());
            if first != path {
                let first = first.clone();
                return self.link(path, EntryType::Link, &stat, &first);
            }
        }
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = File::from(openat(folder, name, flags, Mode::empty())?);
        let opened = fstat(&file)?;
        if opened.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(io::Error::other("it became something else while it was read"));
        }
        let size = opened.st_size.unsigned_abs();
        let mut content = (&file).take(size);
        self.put(path, &opened, Some(file.as_fd()), &mut content)?;
        match content.limit() {
            0 => Ok(()),
            _ => Err(io::Error::other("it became shorter while it was read")),
        }
    }

    /// One entry with its attributes. The root's name is `./`.
    fn put(
        &mut self,
        path: &[u8],
        stat: &libc::stat,
        attributes: Option<BorrowedFd<'_>>,
        content: impl Read,
    ) -> io::Result<()> {
        let mut header = header(stat);
        if let Some(file) = attributes {
            self.attributes(file)?;
        }
        if path.is_empty() {
            header.as_old_mut().name[..2].copy_from_slice(b"./");
            header.set_cksum();
            return self.archive.append(&header, content);
        }
        self.archive
            .append_data(&mut header, OsStr::from_bytes(path), content)
    }

    fn link(&mut self, path: &[u8], kind: EntryType, stat: &libc::stat, target: &[u8]) -> io::Result<()> {
        let mut header = header(stat);
        header.set_entry_type(kind);
        header.set_size(0);
        let (path, target) = (OsStr::from_bytes(path), OsStr::from_bytes(target));
        self.archive.append_link(&mut header, path, target)
    }

    /// The attributes of the next entry: users' own, and capabilities, which a store counts as lost but a registry keeps.
    /// All others say something of this machine.
    fn attributes(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        let names = match xattr::list(file) {
            Err(Errno::ENOTSUP) => return Ok(()),
            names => names?,
        };
        let mut records = Vec::new();
        for name in names {
            let Ok(text) = name.to_str() else { continue };
            let is_users = text.starts_with("user.") && !text.starts_with("user.overlay.");
            if is_users || text == "security.capability" {
                records.push((format!("SCHILY.xattr.{text}"), xattr::get(file, &name)?));
            }
        }
        records.sort();
        let records = records
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.archive.append_pax_extensions(records)
    }
}

/// What is the caller's is root's in the image, as it is for a job that runs on the folder.
fn header(stat: &libc::stat) -> Header {
    let kind = stat.st_mode & libc::S_IFMT;
    let own = |id: u32, own: u32| u64::from(if id == own { 0 } else { id });
    let mut header = Header::new_gnu();
    header.set_entry_type(match kind {
        libc::S_IFDIR => EntryType::Directory,
        libc::S_IFLNK => EntryType::Symlink,
        libc::S_IFIFO => EntryType::Fifo,
        libc::S_IFCHR => EntryType::Char,
        libc::S_IFBLK => EntryType::Block,
        _ => EntryType::Regular,
    });
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(own(stat.st_uid, geteuid().as_raw()));
    header.set_gid(own(stat.st_gid, getegid().as_raw()));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(match kind {
        libc::S_IFREG => stat.st_size.unsigned_abs(),
        _ => 0,
    });
    header
}
