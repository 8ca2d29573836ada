//! Staging: what is being made, until its rename into place.

use std::ffi::CString;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fsync, syncfs};

use super::super::Image;
use super::super::digest::Digest;
use super::super::reference::Reference;
use super::listing::{self, Sums};
use super::record::json;
use super::{
    LISTING, LayerRecord, Locks, Store, StoreError, TagRecord, blob_path, errno, remove, tag_name, tag_path,
};

/// Ends the name of a folder into which another one is moved to be removed.
const GRAVE: &str = ".removed";

/// A folder of `staging` that is ours while we live.
pub(crate) struct Staging<'a> {
    store: &'a Store,
    name: String,
    _locks: Locks,
}

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

impl Store {
    /// A new folder in `staging`. Dropped without being committed it is removed.
    pub(crate) fn stage(&self) -> Result<Staging<'_>, StoreError> {
        let name = random_name();
        let locks = self.locks()?;
        // The lock comes first: a folder without one is waste, and may be cleaned by anyone.
        locks
            .alone(&lock_name(&name))
            .map_err(|source| self.io("lock staging", source))?;
        let path = format!("staging/{name}");
        mkdirat(self.root(), path.as_str(), Mode::S_IRWXU)
            .map_err(|source| self.io(format!("make {path}"), source))?;
        Ok(Staging {
            store: self,
            name,
            _locks: locks,
        })
    }

    /// Removes what dead processes left in `staging`.
    pub(crate) fn clean_staging(&self) -> Result<(), StoreError> {
        let failed = |source| self.io("clean staging", source);
        let staging = openat(self.root(), "staging", FOLDER, Mode::empty()).map_err(failed)?;
        let mut folder = Dir::openat(&staging, ".", FOLDER, Mode::empty()).map_err(failed)?;
        let locks = self.locks()?;
        for entry in folder.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if matches!(name.to_bytes(), b"." | b"..")
                || !locks.try_alone(&lock_name(&text)).map_err(failed)?
            {
                continue;
            }
            remove(staging.as_fd(), name, staging.as_fd(), &grave(&text)).map_err(failed)?;
            locks.free(&lock_name(&text)).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes a file whole: its old content or its new one is there at any time, also after a loss of power.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let failed = |source| self.io(format!("write {name}"), source);
        let temporary = format!("staging/{}", random_name());
        let locks = self.locks()?;
        locks
            .alone(&lock_name(&temporary["staging/".len()..]))
            .map_err(failed)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(
            self.root(),
            temporary.as_str(),
            flags,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )
        .map_err(failed)?;
        let mut file = File::from(file);
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| failed(errno(&error)))?;
        renameat(self.root(), temporary.as_str(), self.root(), name).map_err(failed)?;
        self.sync_folder(name.rsplit_once('/').map_or(".", |(folder, _)| folder))
    }

    /// Keeps a manifest or configuration as it came.
    pub(crate) fn write_blob(&self, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(&blob_path(digest), bytes)
    }

    /// Records an image whose layers are all there.
    pub(crate) fn write_image(&self, image: &Image) -> Result<(), StoreError> {
        self.write(&format!("images/{}.json", image.digest.hex()), &json(image))
    }

    /// Records what a reference means now.
    pub(crate) fn write_tag(&self, reference: &Reference, tag: &TagRecord) -> Result<(), StoreError> {
        self.write_tag_of(&tag_name(reference), tag)
    }

    /// Records what any other name means now.
    pub(crate) fn write_tag_of(&self, name: &str, tag: &TagRecord) -> Result<(), StoreError> {
        self.write(&tag_path(name), &json(tag))
    }

    pub(super) fn sync_folder(&self, name: &str) -> Result<(), StoreError> {
        let failed = |source| self.io(format!("sync {name}"), source);
        let folder = openat(self.root(), name, FOLDER, Mode::empty()).map_err(failed)?;
        fsync(&folder).map_err(failed)
    }
}

impl Staging<'_> {
    /// The folder itself.
    pub(crate) fn open(&self) -> Result<OwnedFd, StoreError> {
        let path = format!("staging/{}", self.name);
        openat(self.store.root(), path.as_str(), FOLDER, Mode::empty())
            .map_err(|source| self.store.io(format!("open {path}"), source))
    }

    /// Makes the folder `fs` and opens it: the root of a layer that is being unpacked.
    pub(crate) fn make_fs(&self) -> Result<OwnedFd, StoreError> {
        let path = format!("staging/{}/fs", self.name);
        let failed = |source| self.store.io(format!("make {path}"), source);
        mkdirat(self.store.root(), path.as_str(), Mode::S_IRWXU).map_err(failed)?;
        openat(self.store.root(), path.as_str(), FOLDER, Mode::empty()).map_err(failed)
    }

    /// Completes an unpacked layer with its listing and its record, still beside the store.
    pub(crate) fn seal(&self, sums: &Sums, record: &LayerRecord) -> Result<(), StoreError> {
        let path = format!("staging/{}/fs", self.name);
        let root = openat(self.store.root(), path.as_str(), FOLDER, Mode::empty())
            .map_err(|source| self.store.io(format!("open {path}"), source))?;
        self.write(LISTING, |file| listing::write(root.as_fd(), sums, file))?;
        self.write("layer.json", |file| file.write_all(&json(record)))
    }

    fn write(
        &self,
        name: &str,
        content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let path = format!("staging/{}/{name}", self.name);
        let failed = |source| self.store.io(format!("write {path}"), source);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(self.store.root(), path.as_str(), flags, mode).map_err(failed)?;
        let mut file = BufWriter::new(File::from(file));
        content(&mut file)
            .and_then(|()| file.flush())
            .map_err(|error| failed(errno(&error)))
    }

    /// Moves a sealed layer into place, with all that it holds on the disk. A layer that is already there stays.
    pub(crate) fn commit(self, diff_id: Digest) -> Result<(), StoreError> {
        let from = format!("staging/{}", self.name);
        let to = format!("layers/{}", diff_id.hex());
        let root = self.store.root();
        let rename = |flags| renameat2(root, from.as_str(), root, to.as_str(), flags);
        // One sync for all files of the layer: without it a loss of power leaves empty files behind the rename
        // (podman#8005, moby#49784). Other layers go on being unpacked meanwhile.
        syncfs(root).map_err(|source| self.store.io(format!("sync {from}"), source))?;
        match rename(RenameFlags::RENAME_NOREPLACE) {
            // Without its record it is a damaged one: the two change places, and the old one goes with the staging.
            Err(Errno::EEXIST) if !self.store.has_layer(diff_id)? => rename(RenameFlags::RENAME_EXCHANGE),
            Err(Errno::EEXIST) => Ok(()),
            renamed => renamed,
        }
        .map_err(|source| self.store.io(format!("commit {to}"), source))?;
        self.store.sync_folder("layers")
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        let Ok(name) = CString::new(self.name.as_str()) else {
            return;
        };
        if let Ok(staging) = openat(self.store.root(), "staging", FOLDER, Mode::empty()) {
            // What cannot be removed now is waste for the next command; there is no one here to tell.
            remove(staging.as_fd(), &name, staging.as_fd(), &grave(&self.name)).ok();
        }
    }
}

/// A grave is locked by whoever holds what is buried in it.
fn lock_name(name: &str) -> String {
    format!("staging {}", name.trim_end_matches(GRAVE))
}

fn random_name() -> String {
    // Seeded by the kernel, different with every call.
    format!("{:016x}", std::hash::RandomState::new().build_hasher().finish())
}

fn grave(name: &str) -> CString {
    CString::new(format!("{name}{GRAVE}")).unwrap_or_default()
}
