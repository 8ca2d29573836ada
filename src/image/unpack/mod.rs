//! Unpacking: one layer's archive becomes a tree that overlayfs takes as a lower directory.
//!
//! Whiteouts become devices 0:0 and opaque directories get overlayfs's attribute. What an image may not bring is left
//! out: device nodes, set-id bits, capabilities and labels of files, and overlayfs's own attributes.

#[cfg(test)]
#[path = "../../../tests/support/archive.rs"]
mod archive;
mod entry;
mod pax;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use flate2::Crc;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, getegid};

use self::entry::{Entry, Kind, Path, Reader};
use self::tree::{Owner, Tree, TreeError, finish};
pub(crate) use self::tree::{is_opaque, is_whiteout};
use super::local::words;
use super::store::{Lost, Ownership, Sums, errno};
use super::stream::StreamError;
use crate::sys::process::umask;
use crate::sys::xattr;

/// Bounds of one layer: a bomb ends here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the archive, unpacked.
    pub(crate) bytes: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Bytes of the names of its directories, which are kept in memory until the end.
    pub(crate) names: usize,
    /// Beyond [`Limits::free`] the archive may be at most so many times as large as its compressed form.
    pub(crate) ratio: u64,
    /// Bytes, unpacked, before the ratio counts.
    pub(crate) free: u64,
}

/// deflate packs at most 1032:1; real layers stay below 20:1, and below 256:1 even when they hold a file of zeros.
pub(crate) const LIMITS: Limits = Limits {
    bytes: 128 << 30,
    entries: 4_000_000,
    names: 64 << 20,
    ratio: 256,
    free: 1 << 30,
};

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) entries: u64,
    /// Bytes of files.
    pub(crate) bytes: u64,
    pub(crate) root_opaque: bool,
    pub(crate) lost: Lost,
    /// Of the contents of its files, taken on their way: so no file is read again for them.
    pub(crate) sums: Sums,
}

/// How owners of a layer become owners in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners {
    pub(crate) ownership: Ownership,
    /// Ids from 0 on that can be represented.
    pub(crate) count: u32,
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("it is not a tar archive")]
    NotTar,
    #[error("its archive breaks off")]
    Truncated,
    #[error("its archive is damaged: {0}")]
    Damaged(String),
    #[error("entry `{path}`: {reason}")]
    Entry { path: String, reason: String },
    #[error("entry `{path}`: {step}: {}", words(*.source))]
    System {
        path: String,
        step: &'static str,
        source: Errno,
    },
    #[error("{0}")]
    TooMuch(String),
    #[error("{0}")]
    Read(io::Error),
}

/// The mode, time and attributes of a directory, set when nothing more is written into it.
struct Finish {
    mode: u32,
    mtime: TimeSpec,
    owner: Owner,
}

struct Unpacker<'a> {
    tree: Tree<'a>,
    owners: Owners,
    /// Whose the files are that this process makes, where that can be known beforehand.
    own: Owner,
    directories: BTreeMap<Path, Finish>,
    name_bytes: usize,
    unpacked: Unpacked,
    buffer: Vec<u8>,
}

/// Unpacks an archive into an empty folder. `graves` is another folder on the same file system, for our own use.
///
/// The reader is read to its end, so that its digests are those of the whole.
///
/// # Errors
/// What is wrong with the archive, or the system call that failed; the folder then holds a part, to be thrown away.
pub(crate) fn unpack(
    archive: impl Read,
    root: BorrowedFd<'_>,
    graves: BorrowedFd<'_>,
    owners: Owners,
    limits: &Limits,
) -> Result<Unpacked, UnpackError> {
    let _mask =
        NoMask::begin().map_err(|source| UnpackError::tree(b"", TreeError::System("begin", source)))?;
    let privileged = matches!(owners.ownership, Ownership::Kept | Ownership::Shifted { .. });
    let own = prepare(root).map_err(|source| UnpackError::tree(b"", TreeError::System("prepare", source)))?;
    let mut unpacker = Unpacker {
        tree: Tree::new(root, graves, privileged),
        owners,
        own,
        directories: BTreeMap::new(),
        name_bytes: 0,
        unpacked: Unpacked::default(),
        buffer: vec![0; 256 << 10],
    };
    // The root as distributions have it, until an entry says otherwise.
    let owner = unpacker.owner(0, 0);
    unpacker.directories.insert(
        Path::default(),
        Finish {
            mode: 0o755,
            mtime: TimeSpec::new(0, 0),
            owner,
        },
    );
    let mut archive = tar::Archive::new(archive);
    let mut reader = Reader::default();
    for raw in archive.entries().map_err(UnpackError::Read)?.raw(true) {
        let mut raw = raw.map_err(|error| read_error(error, unpacker.unpacked.entries == 0))?;
        unpacker.unpacked.entries += 1;
        if unpacker.unpacked.entries > limits.entries {
            return Err(UnpackError::TooMuch(format!(
                "it has more than {} entries",
                limits.entries
            )));
        }
        if let Some(entry) = reader.take(&mut raw)? {
            unpacker.entry(&entry, &mut raw)?;
            if unpacker.name_bytes > limits.names {
                let reason = format!(
                    "the names of its directories take more than {} bytes",
                    limits.names
                );
                return Err(UnpackError::TooMuch(reason));
            }
        }
    }
    if reader.is_waiting() {
        return Err(UnpackError::Truncated);
    }
    drain(archive.into_inner(), &mut unpacker.buffer)?;
    unpacker.end()
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), UnpackError> {
        let in_entry = |error| UnpackError::tree(entry.path.bytes(), error);
        if let Some((folder, name)) = entry.path.split()
            && let Some(hidden) = name.strip_prefix(b".wh.")
        {
            return self.hide(entry, folder, hidden);
        }
        let owner = self.owner(entry.uid, entry.gid);
        match &entry.kind {
            Kind::File { size } => {
                let mode = self.mode(entry);
                // Attributes may be set on what its owner may write (xattr(7)): then the mode comes after them.
                let (first, last) = match entry.xattrs.is_empty() {
                    true => (mode, None),
                    false => (0o600, Some(mode)),
                };
                let mut file = self.tree.file(&entry.path, first).map_err(in_entry)?;
                let sum = self.copy(entry, *size, content, &mut file)?;
                let stat = fstat(&file).map_err(|errno| in_entry(TreeError::System("stat", errno)))?;
                self.unpacked.sums.insert(stat.st_ino, sum);
                self.xattrs(entry, file.as_fd());
                finish(file.as_fd(), owner, last, entry.mtime).map_err(in_entry)?;
                self.unpacked.bytes += size;
            }
            Kind::Directory => {
                self.tree.directory(&entry.path).map_err(in_entry)?;
                if !entry.xattrs.is_empty()
                    && let Some(folder) = self.tree.made_directory(&entry.path).map_err(in_entry)?
                {
                    self.xattrs(entry, folder.as_fd());
                }
                self.name_bytes += entry.path.bytes().len() + 100;
                // The set-group-id bit of a directory hands its group down; it gives no one rights.
                let finish = Finish {
                    mode: entry.mode & 0o3777,
                    mtime: entry.mtime,
                    owner,
                };
                self.directories.insert(entry.path.clone(), finish);
            }
            Kind::Symlink { target } => {
                self.tree
                    .symlink(&entry.path, target, owner, entry.mtime)
                    .map_err(in_entry)?;
            }
            Kind::HardLink { target } => self.tree.hard_link(&entry.path, target).map_err(in_entry)?,
            Kind::Fifo => {
                self.tree
                    .fifo(&entry.path, entry.mode & 0o777, owner, entry.mtime)
                    .map_err(in_entry)?;
            }
            Kind::Device => self.unpacked.lost.devices += 1,
        }
        Ok(())
    }

    /// Whiteouts (OCI image layer specification, "Whiteouts"): they act on lower layers alone.
    fn hide(&mut self, entry: &Entry, folder: &[u8], hidden: &[u8]) -> Result<(), UnpackError> {
        let in_entry = |error| UnpackError::tree(entry.path.bytes(), error);
        if entry.kind != (Kind::File { size: 0 }) {
            return Err(UnpackError::entry(
                entry.path.bytes(),
                "it is a whiteout but not an empty file",
            ));
        }
        match hidden {
            b".wh..opq" => {
                self.unpacked.root_opaque |= folder.is_empty();
                self.tree.opaque(folder).map_err(in_entry)
            }
            // Notes of AUFS to itself.
            _ if hidden.starts_with(b".wh.") => Ok(()),
            b"" | b"." | b".." => Err(UnpackError::entry(
                entry.path.bytes(),
                "it is a whiteout of nothing",
            )),
            _ => self.tree.whiteout(folder, hidden).map_err(in_entry),
        }
    }

    /// Writes the content of a file; gives its sum.
    fn copy(
        &mut self,
        entry: &Entry,
        size: u64,
        from: &mut impl Read,
        to: &mut impl Write,
    ) -> Result<u32, UnpackError> {
        let (mut left, mut sum) = (size, Crc::new());
        while left > 0 {
            let most = usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            let read = match from.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(UnpackError::Truncated),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(UnpackError::Read)?,
            };
            to.write_all(&self.buffer[..read]).map_err(|error| {
                UnpackError::tree(entry.path.bytes(), TreeError::System("write", errno(&error)))
            })?;
            sum.update(&self.buffer[..read]);
            left -= read as u64;
        }
        Ok(sum.sum())
    }

    /// Keeps the image's own `user.` attributes. Everything else would be a claim that an image may not make: capabilities,
    /// labels, and overlayfs's marks, which could hide or redirect content (kernel, overlayfs.rst).
    fn xattrs(&mut self, entry: &Entry, file: BorrowedFd<'_>) {
        for (name, value) in &entry.xattrs {
            let kept = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            let name = std::ffi::CString::new(name.as_slice()).ok().filter(|_| kept);
            if name.is_none_or(|name| xattr::set(file, &name, value).is_err()) {
                self.unpacked.lost.xattrs += 1;
            }
        }
    }

    fn mode(&mut self, entry: &Entry) -> u32 {
        if entry.mode & 0o6000 != 0 {
            self.unpacked.lost.setid += 1;
        }
        entry.mode & 0o1777
    }

    /// Ids of the store for ids of the layer; none where files get them by being made. Ids beyond those that exist become 65534, nobody's, where that one exists.
    fn owner(&mut self, uid: u64, gid: u64) -> Owner {
        let shift = match self.owners.ownership {
            Ownership::Single => {
                self.unpacked.lost.owners += u64::from((uid, gid) != (0, 0));
                return None;
            }
            Ownership::Kept | Ownership::Subordinate => 0,
            Ownership::Shifted { base } => base,
        };
        let known = |id: u64| u32::try_from(id).ok().filter(|id| *id < self.owners.count);
        let nobody = known(65534).unwrap_or(0);
        let (user, group) = (known(uid), known(gid));
        if user.is_none() || group.is_none() {
            self.unpacked.lost.owners += 1;
        }
        let host = |id: Option<u32>| shift + id.unwrap_or(nobody);
        Some((Uid::from_raw(host(user)), Gid::from_raw(host(group)))).filter(|owner| self.own != Some(*owner))
    }

    /// Finishes the directories, the deepest first: a closed one keeps its owner out too.
    fn end(mut self) -> Result<Unpacked, UnpackError> {
        for (path, directory) in std::mem::take(&mut self.directories).into_iter().rev() {
            let in_entry = |error| UnpackError::tree(path.bytes(), error);
            if let Some(folder) = self.tree.made_directory(&path).map_err(in_entry)? {
                finish(
                    folder.as_fd(),
                    directory.owner,
                    Some(directory.mode),
                    directory.mtime,
                )
                .map_err(in_entry)?;
            }
        }
        Ok(self.unpacked)
    }
}

/// While it lives this thread masks no bits of the modes of new files (umask(2)): so they are made with the mode that
/// they are to have, and need no second call.
struct NoMask(u32);

impl NoMask {
    fn begin() -> nix::Result<NoMask> {
        // The mask is the whole process's until a thread takes its own (unshare(2), CLONE_FS).
        unshare(CloneFlags::CLONE_FS)?;
        Ok(NoMask(umask(0)))
    }
}

impl Drop for NoMask {
    fn drop(&mut self) {
        umask(self.0);
    }
}

/// Gives the root this process's group, and frees it of what would come between a mode that is asked for and the one that
/// a new file gets. Says whose the files will be that this process makes below it.
///
/// A store in a folder with the set-group-id bit has that folder's group (inode(7)), and so would every file whose owner is
/// not set: one that a user namespace of a single id does not have, so that overlay could copy nothing up.
fn prepare(root: BorrowedFd<'_>) -> nix::Result<Owner> {
    fchown(root, None, Some(getegid()))?;
    fchmod(root, Mode::S_IRWXU)?;
    match xattr::remove(root, c"system.posix_acl_default") {
        Ok(()) | Err(Errno::ENODATA | Errno::ENOTSUP) => {}
        Err(errno) => return Err(errno),
    }
    // Some mounts give a new file its folder's group (ext4(5), grpid), some servers another user (exports(5)).
    let (stat, own) = (fstat(root)?, (Uid::effective(), Gid::effective()));
    Ok(((stat.st_uid, stat.st_gid) == (own.0.as_raw(), own.1.as_raw())).then_some(own))
}

impl UnpackError {
    fn entry(path: &[u8], reason: &str) -> UnpackError {
        UnpackError::Entry {
            path: shown(path),
            reason: reason.to_owned(),
        }
    }

    fn tree(path: &[u8], error: TreeError) -> UnpackError {
        match error {
            TreeError::Refused(reason) => UnpackError::entry(path, reason),
            TreeError::System(step, source) => UnpackError::System {
                path: shown(path),
                step,
                source,
            },
        }
    }

    /// Whether the archive itself is to blame, not its transfer or this machine.
    pub(crate) fn is_archive(&self) -> bool {
        match self {
            UnpackError::System { .. } | UnpackError::TooMuch(_) => false,
            UnpackError::Read(error) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                matches!(inner, Some(StreamError::Compression(_)))
            }
            _ => true,
        }
    }
}

/// Seconds since 1970, at most those of the year 2446, ext4's last.
fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).min(15_000_000_000)
}

/// What the stream below reports is marked as such; every other error is the tar crate's word on a header.
fn read_error(error: io::Error, first: bool) -> UnpackError {
    let text = error.to_string();
    if error.kind() != io::ErrorKind::Other || error.get_ref().is_some_and(|inner| inner.is::<StreamError>())
    {
        UnpackError::Read(error)
    } else if first {
        UnpackError::NotTar
    } else if text.contains("unexpected EOF") || text.contains("entire block") {
        UnpackError::Truncated
    } else {
        UnpackError::Damaged("a header is malformed".to_owned())
    }
}

/// Reads what follows the archive: zeros alone, or another reader could find another archive there.
fn drain(mut rest: impl Read, buffer: &mut [u8]) -> Result<(), UnpackError> {
    loop {
        match rest.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(read) if buffer[..read].iter().all(|byte| *byte == 0) => {}
            Ok(_) => return Err(UnpackError::Damaged("something follows its end".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(UnpackError::Read(error)),
        }
    }
}

fn shown(path: &[u8]) -> String {
    super::printable(&String::from_utf8_lossy(path), 200)
}
