//! Taking images out of the store, and then whatever no image needs: beside other processes that pull and run.
//!
//! Who runs an image holds its lock with others, who pulls one those of its layers. Here each is tried to be held alone:
//! what is in use stays, and no one waits for anyone.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::super::digest::Digest;
use super::super::manifest::Document;
use super::inventory::{Inventory, image_path};
use super::{Store, StoreError, TagRecord, blob_path, remove};

/// Which images go.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Those that no run has used for so long.
    pub unused_for: Option<Duration>,
    /// Those used the longest ago, until the store is not larger than so many bytes.
    pub down_to: Option<u64>,
    /// Never these.
    pub keep: BTreeSet<Digest>,
    /// All but those to keep.
    pub all_others: bool,
}

/// What was taken out of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Swept {
    /// Unpacked layers.
    pub layers: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// Bytes of manifests, configurations and compressed layers.
    pub other_bytes: u64,
}

impl Policy {
    /// The images that go, those used the longest ago first.
    pub fn choose(&self, inventory: &Inventory, now: SystemTime) -> Vec<Digest> {
        let mut left: Vec<_> = inventory
            .images
            .iter()
            .filter(|(digest, _)| !self.keep.contains(digest))
            .collect();
        left.sort_by_key(|(digest, held)| (held.used, **digest));
        let mut chosen = BTreeSet::new();
        let mut order = Vec::new();
        for (digest, held) in left {
            // A clock that was set back makes nothing old.
            let age = now.duration_since(held.used).unwrap_or_default();
            let is_old = self.unused_for.is_some_and(|most| age >= most);
            let is_beyond = self
                .down_to
                .is_some_and(|most| size_without(inventory, &chosen) > most);
            if self.all_others || is_old || is_beyond {
                chosen.insert(*digest);
                order.push(*digest);
            }
        }
        order
    }
}

/// Bytes of a store without some of its images.
fn size_without(inventory: &Inventory, gone: &BTreeSet<Digest>) -> u64 {
    inventory.size_of(|digest| !gone.contains(&digest))
}

impl Store {
    /// Takes an image out, with its names. Its layers stay until [`Store::sweep`]. Says whether: an image in use stays.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_image(&self, image: Digest) -> Result<bool, StoreError> {
        let locks = self.locks()?;
        let name = format!("image {image}");
        if !locks
            .try_alone(&name)
            .map_err(|source| self.io(format!("lock {name}"), source))?
        {
            return Ok(false);
        }
        for (name, tag) in self.tags()? {
            self.forget(name, tag, image)?;
        }
        self.unlink(&image_path(image))?;
        Ok(true)
    }

    /// Takes one name from an image that has others.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_name(&self, name: &str, image: Digest) -> Result<(), StoreError> {
        for (record, tag) in self.tags()? {
            if tag.reference == name {
                self.forget(record, tag, image)?;
            }
        }
        Ok(())
    }

    /// A name that meant other platforms' images as well keeps those.
    fn forget(&self, name: Digest, mut tag: TagRecord, image: Digest) -> Result<(), StoreError> {
        let before = tag.images.len();
        tag.images.retain(|(_, of)| *of != image);
        let path = format!("tags/{}.json", name.hex());
        match tag.images.len() {
            0 => self.unlink(&path),
            left if left < before => self.write(&path, &super::record::json(&tag)),
            _ => Ok(()),
        }
    }

    /// Takes out the layers and contents that no image needs and no one is bringing.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn sweep(&self) -> Result<Swept, StoreError> {
        self.clean_staging()?;
        let mut swept = Swept::default();
        let locks = self.locks()?;
        let mut alone = BTreeSet::new();
        for layer in self.digests("layers", "")? {
            let name = format!("layer {layer}");
            if locks
                .try_alone(&name)
                .map_err(|source| self.io(format!("lock {name}"), source))?
            {
                alone.insert(layer);
            }
        }
        // Only now: whoever held one of these locks before has written its image.
        let needed = self.needed_layers()?;
        for layer in alone.difference(&needed) {
            swept.bytes += self.layer(*layer)?.unwrap_or_default().bytes;
            swept.layers += 1;
            self.remove_layer(*layer)?;
        }
        let name = super::DOCUMENTS;
        if locks
            .try_alone(name)
            .map_err(|source| self.io(format!("lock {name}"), source))?
        {
            let needed = self.needed_blobs()?;
            for blob in self.digests("blobs", "")?.difference(&needed) {
                swept.other_bytes += self.blob_size(*blob)?.unwrap_or(0);
                self.unlink(&blob_path(*blob))?;
            }
        }
        Ok(swept)
    }

    fn needed_layers(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut needed = BTreeSet::new();
        for image in self.digests("images", ".json")? {
            // One of which a layer is missing still needs the others: a pull of the missing one makes it whole.
            if let Some(image) = self.image_record(image)? {
                needed.extend(image.layers.iter().map(|layer| layer.diff_id));
            }
        }
        Ok(needed)
    }

    fn needed_blobs(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut needed = BTreeSet::new();
        for digest in self.digests("images", ".json")? {
            let Some(image) = self.image_record(digest)? else {
                continue;
            };
            needed.insert(digest);
            needed.extend(image.layers.iter().map(|layer| layer.digest));
            let manifest = self.read_blob(digest)?.unwrap_or_default();
            if let Ok(Document::Image(manifest)) = Document::parse(&manifest, None) {
                needed.insert(manifest.config.digest);
            }
        }
        needed.extend(self.tags()?.into_values().map(|tag| tag.top));
        Ok(needed)
    }

    /// Removes an unpacked layer, whose lock the caller holds. Moved away first: at no time is a part of it there.
    fn remove_layer(&self, layer: Digest) -> Result<(), StoreError> {
        let failed = |source| self.io(format!("remove layers/{}", layer.hex()), source);
        let staging = self.stage()?;
        let folder = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let layers = openat(self.root(), "layers", folder, Mode::empty()).map_err(failed)?;
        let (name, grave) = (CString::new(layer.hex()).unwrap_or_default(), c"gone");
        let graves = staging.open()?;
        nix::fcntl::renameat(&layers, name.as_c_str(), &graves, grave).map_err(failed)?;
        remove(graves.as_fd(), grave, graves.as_fd(), c"removed").map_err(failed)
    }

    pub(super) fn unlink(&self, path: &str) -> Result<(), StoreError> {
        match unlinkat(self.root(), path, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(source) => Err(self.io(format!("remove {path}"), source)),
        }
    }
}
