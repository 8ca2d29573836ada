//! The store: images and unpacked layers by digest, shared by any number of processes.
//!
//! ```text
//! ROOT/                    0700, the caller's
//!   store.json             version of this layout, and whose files the layers' files are
//!   locks                  byte ranges are locks, see `lock`
//!   blobs/HEX              manifests, indexes and configurations, as they came
//!   layers/HEX/fs/         an unpacked layer in overlayfs form; HEX is its diff id
//!   layers/HEX/listing     what is in it, see `listing`
//!   layers/HEX/layer.json  what was unpacked
//!   images/HEX.json        an image; HEX is the digest of its manifest
//!   tags/HEX.json          what a reference meant when it was pulled; HEX is the digest of its text
//!   staging/…              what is being made; without a lock on its name it is waste
//!   scratch/…              writable layers of runs that are under way; not ours
//! ```
//!
//! Everything but `locks` is made in `staging`, synced, and renamed into place: the rename is the mark of completeness.

mod content;
mod inventory;
mod lease;
mod listing;
mod lock;
mod prune;
mod record;
mod remove;
mod staging;
mod verify;

use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use serde::{Deserialize, Serialize};

pub(crate) use self::content::KeepError;
pub use self::inventory::{Held, Inventory};
pub use self::lease::Lease;
pub(crate) use self::listing::Sums;
pub(crate) use self::lock::Locks;
pub use self::prune::{Policy, Swept};
pub(crate) use self::record::{LayerRecord, TagRecord};
pub use self::record::{Lost, Ownership};
pub(crate) use self::remove::remove;
pub(crate) use self::staging::Staging;
pub use self::verify::Damage;
use super::digest::Digest;
use super::local::words;
use super::platform::Platform;
use super::reference::Reference;
use super::{Image, Layer};
use crate::sys::inode::mark_top_of_hierarchies;

/// The version of the layout; another one is refused.
const VERSION: u32 = 1;
/// The largest record that is read, in bytes: an image of 500 layers with two files of accounts.
const LARGEST_RECORD: u64 = 16 << 20;
/// What most records fit into, in bytes: without room made for it a file is read in pieces, of 32 bytes at first.
const MOST_RECORDS: usize = 4096;

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    root: OwnedFd,
    ownership: Ownership,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call on one of its files.
    #[error("store {path}: {what}: {}", words(*.source))]
    Io {
        /// The store's folder.
        path: PathBuf,
        /// What was done to what.
        what: String,
        /// The cause.
        source: Errno,
    },
    /// Its folder could be changed by someone else.
    #[error("store {path}: {reason}")]
    Unsafe {
        /// The store's folder.
        path: PathBuf,
        /// What is wrong with it, and the mend.
        reason: String,
    },
    /// Its folder is not a store, or one of another version.
    #[error("store {path}: {reason}")]
    Format {
        /// The store's folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Its layers' files belong to other ids than this caller would give them.
    #[error(
        "store {path}: its files are {found}, this run needs them {wanted}; set RINGFENCE_STORE to another folder"
    )]
    Ownership {
        /// The store's folder.
        path: PathBuf,
        /// How it was made.
        found: Ownership,
        /// What was asked for.
        wanted: Ownership,
    },
    /// An image that is being used was taken out of the store.
    #[error("store {path}: the image {reference} is no longer there")]
    Gone {
        /// The store's folder.
        path: PathBuf,
        /// The image.
        reference: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    ownership: Option<Ownership>,
}

const HEADER: &str = "store.json";
/// What the names of folders begin with in which a process tries what the file system can do.
const TRIAL: &str = ".ringfence-probe-";
/// What a layer's folder holds beside its tree.
const LISTING: &str = "listing";
/// Where runs keep their writable layers, beside the images.
const SCRATCH: &str = "scratch";
/// The lock of those who write documents of an image that is not recorded yet.
pub(crate) const DOCUMENTS: &str = "documents";
const FOLDERS: [&str; 5] = ["blobs", "layers", "images", "tags", "staging"];

impl Store {
    /// Opens a store that is there; none when it is not. Changes nothing.
    ///
    /// # Errors
    /// When the folder is not a store of this version, or not the caller's alone.
    pub fn open(path: &Path) -> Result<Option<Store>, StoreError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let failed = |source| StoreError::Io {
            path: path.to_owned(),
            what: "open".to_owned(),
            source,
        };
        let root = match nix::fcntl::open(path, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                let reason =
                    "it is not a folder, or a symbolic link to one; name the folder itself".to_owned();
                return Err(StoreError::Unsafe {
                    path: path.to_owned(),
                    reason,
                });
            }
            opened => opened.map_err(failed)?,
        };
        check_owner(path, root.as_fd())?;
        let mut store = Store {
            path: path.to_owned(),
            root,
            ownership: Ownership::Single,
        };
        let Some(header) = store.read(HEADER)? else {
            return Ok(None);
        };
        store.ownership = store.header(&header)?;
        Ok(Some(store))
    }

    /// Opens a store, and makes it first where there is none.
    ///
    /// # Errors
    /// As [`Store::open`]; when the folder holds something else; when the store was made for another ownership.
    pub fn create(path: &Path, ownership: Ownership) -> Result<Store, StoreError> {
        let failed = |what: &str, error: io::Error| StoreError::Io {
            path: path.to_owned(),
            what: what.to_owned(),
            source: errno(&error),
        };
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .create(parent)
                .map_err(|error| failed("make its parent", error))?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", error)),
            _ => {}
        }
        let store = match Store::open(path)? {
            Some(store) => store,
            None => Store::begin(path, ownership)?,
        };
        if store.ownership != ownership {
            return Err(StoreError::Ownership {
                path: path.to_owned(),
                found: store.ownership,
                wanted: ownership,
            });
        }
        // Anyone else on the machine could run what was unpacked here (CVE-2021-41091).
        let stat = fstat(&store.root).map_err(|source| store.io("stat", source))?;
        if stat.st_mode & 0o7777 != 0o700 {
            fchmod(&store.root, Mode::S_IRWXU).map_err(|source| store.io("set the mode", source))?;
        }
        for folder in FOLDERS {
            match mkdirat(&store.root, folder, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(source) => return Err(store.io(format!("make {folder}"), source)),
            }
        }
        // Layers are unpacked side by side, and removed as a whole: in one part of the disk they would search the same
        // tables for room. Where the file system knows no such hint, nothing is lost.
        if let Ok(staging) = openat(
            &store.root,
            "staging",
            OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        ) {
            mark_top_of_hierarchies(staging.as_fd()).ok();
        }
        Ok(store)
    }

    /// Makes a store of an empty folder.
    fn begin(path: &Path, ownership: Ownership) -> Result<Store, StoreError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let failed = |source| StoreError::Io {
            path: path.to_owned(),
            what: "open".to_owned(),
            source,
        };
        let root = nix::fcntl::open(path, flags, Mode::empty()).map_err(failed)?;
        let store = Store {
            path: path.to_owned(),
            root,
            ownership,
        };
        let foreign = std::fs::read_dir(path)
            .map_err(|error| store.io("list", errno(&error)))?
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            // What another process that is making the same store right now may have made already, or tries out there.
            .find(|name| {
                name != "locks"
                    && name != SCRATCH
                    && !name.starts_with(HEADER)
                    && !name.starts_with(TRIAL)
                    && !FOLDERS.contains(&name.as_str())
            });
        if let Some(name) = foreign {
            return Err(StoreError::Format {
                path: path.to_owned(),
                reason: format!(
                    "it is not a store and not empty (it holds `{}`)",
                    super::printable(&name, 60)
                ),
            });
        }
        match mkdirat(&store.root, "staging", Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(source) => return Err(store.io("make staging", source)),
        }
        let header = Header {
            version: VERSION,
            ownership: Some(ownership),
        };
        store.write(HEADER, &record::json(&header))?;
        // Of two processes that begin the same store both wrote; what is there now counts.
        Ok(Store::open(path)?.unwrap_or(store))
    }

    fn header(&self, bytes: &[u8]) -> Result<Ownership, StoreError> {
        let wrong = |reason: String| StoreError::Format {
            path: self.path.clone(),
            reason,
        };
        let header: Header = serde_json::from_slice(bytes)
            .map_err(|error| wrong(format!("{HEADER} is not valid: {error}")))?;
        match header {
            Header {
                version: VERSION,
                ownership: Some(ownership),
            } => Ok(ownership),
            Header { version, .. } => Err(wrong(format!(
                "it has version {version} of the layout, this program knows version {VERSION}"
            ))),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose files the layers' files are.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// The image that a reference meant when it was pulled, for this platform. Opens no socket.
    ///
    /// # Errors
    /// When the store cannot be read. An image that is not there in full counts as absent.
    pub fn find(&self, reference: &Reference, platform: &Platform) -> Result<Option<Image>, StoreError> {
        let manifest = match self.tag(reference)? {
            Some(tag) => tag
                .images
                .iter()
                .find(|(have, _)| have == platform)
                .map(|(_, digest)| *digest),
            None => reference.digest(),
        };
        let Some(image) = manifest
            .map(|manifest| self.image(manifest))
            .transpose()?
            .flatten()
        else {
            return Ok(None);
        };
        if platform.suits(&image.platform).is_none() {
            return Ok(None);
        }
        Ok(Some(Image {
            reference: reference.to_string(),
            ..image
        }))
    }

    /// The image with this manifest, when all of it is there.
    pub(crate) fn image(&self, manifest: Digest) -> Result<Option<Image>, StoreError> {
        let Some(image) = self.image_record(manifest)? else {
            return Ok(None);
        };
        for layer in &image.layers {
            if !self.has_layer(layer.diff_id)? {
                return Ok(None);
            }
        }
        Ok(Some(image))
    }

    /// The image with this manifest, whatever is there of it.
    fn image_record(&self, manifest: Digest) -> Result<Option<Image>, StoreError> {
        self.record(&inventory::image_path(manifest))
    }

    /// What a reference meant when it was pulled.
    pub(crate) fn tag(&self, reference: &Reference) -> Result<Option<TagRecord>, StoreError> {
        self.tag_of(&tag_name(reference))
    }

    /// What any other name meant, such as that of an archive.
    pub(crate) fn tag_of(&self, name: &str) -> Result<Option<TagRecord>, StoreError> {
        self.record(&tag_path(name))
    }

    /// Whether a layer is there in full.
    pub(crate) fn has_layer(&self, diff_id: Digest) -> Result<bool, StoreError> {
        Ok(self.record::<LayerRecord>(&layer_record_path(diff_id))?.is_some())
    }

    /// What was unpacked of a layer.
    pub(crate) fn layer(&self, diff_id: Digest) -> Result<Option<LayerRecord>, StoreError> {
        self.record(&layer_record_path(diff_id))
    }

    /// What of an image's layers could not be represented.
    pub(crate) fn lost(&self, image: &Image) -> Result<Lost, StoreError> {
        image.layers.iter().try_fold(Lost::default(), |lost, layer| {
            Ok(lost.plus(self.layer(layer.diff_id)?.unwrap_or_default().lost))
        })
    }

    /// The root folder of a layer that is there.
    pub(crate) fn open_layer(&self, layer: &Layer) -> Result<OwnedFd, StoreError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let path = layer_path(layer);
        openat(&self.root, path.as_str(), flags, Mode::empty())
            .map_err(|source| self.io(format!("open {path}"), source))
    }

    /// A new holder of locks.
    pub(crate) fn locks(&self) -> Result<Locks, StoreError> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.root, "locks", flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|source| self.io("open locks", source))?;
        Ok(Locks::new(File::from(file)))
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A whole file, bounded; none when it is not there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(&self.root, name, flags, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            opened => opened.map_err(|source| self.io(format!("open {name}"), source))?,
        };
        let mut bytes = Vec::with_capacity(MOST_RECORDS);
        File::from(file)
            .take(LARGEST_RECORD)
            .read_to_end(&mut bytes)
            .map_err(|error| self.io(format!("read {name}"), errno(&error)))?;
        Ok(Some(bytes))
    }

    /// A record; one that cannot be read as such counts as absent, and is written anew by the next pull.
    fn record<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        Ok(self
            .read(name)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub(crate) fn io(&self, what: impl Into<String>, source: Errno) -> StoreError {
        StoreError::Io {
            path: self.path.clone(),
            what: what.into(),
            source,
        }
    }
}

pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

fn check_owner(path: &Path, root: BorrowedFd<'_>) -> Result<(), StoreError> {
    let stat = fstat(root).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        what: "stat".to_owned(),
        source,
    })?;
    let own = nix::unistd::geteuid().as_raw();
    let reason = if stat.st_uid != own {
        format!("it belongs to user {}, not to {own}, who calls", stat.st_uid)
    } else if stat.st_mode & 0o022 != 0 {
        format!(
            "others may write it (mode {:o}); run `chmod 700 {}`",
            stat.st_mode & 0o7777,
            path.display()
        )
    } else {
        return Ok(());
    };
    Err(StoreError::Unsafe {
        path: path.to_owned(),
        reason,
    })
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/{}", digest.hex())
}

fn layer_path(layer: &Layer) -> String {
    format!("layers/{}/fs", layer.diff_id.hex())
}

fn layer_record_path(diff_id: Digest) -> String {
    format!("layers/{}/layer.json", diff_id.hex())
}

/// A digest means the same in every repository; a tag does not.
fn tag_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.to_string(),
    }
}

fn tag_path(name: &str) -> String {
    format!("tags/{}.json", Digest::of(name.as_bytes()).hex())
}

#[cfg(test)]
mod tests;
