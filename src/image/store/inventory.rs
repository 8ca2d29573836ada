//! What a store holds: its images, their names, their sizes, and when they were last used.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, UtimensatFlags, fstatat, utimensat};
use nix::sys::time::TimeSpec;

use super::super::Image;
use super::super::digest::Digest;
use super::{Store, StoreError, TagRecord, blob_path};

/// An image of a store.
#[derive(Clone, Debug)]
pub struct Held {
    /// The image, under the name by which it came.
    pub image: Image,
    /// All its names, sorted: references, layouts, archives.
    pub names: Vec<String>,
    /// When a run last began to use it, or when it came.
    pub used: SystemTime,
    /// Bytes of its layers, unpacked, and of what else is kept of it.
    pub size: u64,
    /// Those of them that no other image of the store has.
    pub own: u64,
}

/// Everything that a store holds.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The images, by the digests of their manifests.
    pub images: BTreeMap<Digest, Held>,
    /// Sizes of layers and other contents, each with the images that have it.
    parts: Vec<(u64, BTreeSet<Digest>)>,
}

impl Inventory {
    /// Bytes of some of the images together; what several share counts once.
    pub fn size_of(&self, counts: impl Fn(Digest) -> bool) -> u64 {
        let counted = self
            .parts
            .iter()
            .filter(|(_, of)| of.iter().any(|image| counts(*image)));
        counted.map(|(size, _)| size).sum()
    }
}

impl Store {
    /// Looks at everything that the store holds.
    ///
    /// # Errors
    /// When it cannot be read. What is damaged is left out, as every other command does.
    pub fn inventory(&self) -> Result<Inventory, StoreError> {
        let mut images = BTreeMap::new();
        for digest in self.digests("images", ".json")? {
            if let Some(image) = self.image(digest)? {
                images.insert(digest, image);
            }
        }
        let mut names = self.names()?;
        // Parts by what they are: unpacked layers by diff id, kept contents by digest. With the images that have them.
        let mut parts: BTreeMap<(bool, Digest), (u64, BTreeSet<Digest>)> = BTreeMap::new();
        for (digest, image) in &images {
            for layer in &image.layers {
                let unpacked = self.layer(layer.diff_id)?.unwrap_or_default().bytes;
                let kept = self.blob_size(layer.digest)?.unwrap_or(0);
                for (part, size) in [((false, layer.diff_id), unpacked), ((true, layer.digest), kept)] {
                    parts
                        .entry(part)
                        .or_insert((size, BTreeSet::new()))
                        .1
                        .insert(*digest);
                }
            }
        }
        let mut inventory = Inventory {
            parts: parts.into_values().collect(),
            images: BTreeMap::new(),
        };
        for (digest, image) in images {
            let of_image = inventory.parts.iter().filter(|(_, of)| of.contains(&digest));
            let own = of_image.clone().filter(|(_, of)| of.len() == 1);
            let held = Held {
                names: names.remove(&digest).unwrap_or_default().into_iter().collect(),
                used: self.used(digest)?,
                size: of_image.map(|(size, _)| size).sum(),
                own: own.map(|(size, _)| size).sum(),
                image,
            };
            inventory.images.insert(digest, held);
        }
        Ok(inventory)
    }

    /// The names of images.
    pub(super) fn names(&self) -> Result<BTreeMap<Digest, BTreeSet<String>>, StoreError> {
        let mut names: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
        for tag in self.tags()?.into_values() {
            for (_, image) in tag.images {
                names.entry(image).or_default().insert(tag.reference.clone());
            }
        }
        Ok(names)
    }

    /// All that references and other names meant, by the names of their records.
    pub(super) fn tags(&self) -> Result<BTreeMap<Digest, TagRecord>, StoreError> {
        let mut tags = BTreeMap::new();
        for name in self.digests("tags", ".json")? {
            if let Some(tag) = self.record::<TagRecord>(&format!("tags/{}.json", name.hex()))? {
                tags.insert(name, tag);
            }
        }
        Ok(tags)
    }

    /// The digests whose digits, with this ending, are the names in a folder. Other names are no one's.
    pub(super) fn digests(&self, folder: &str, ending: &str) -> Result<BTreeSet<Digest>, StoreError> {
        let failed = |source| self.io(format!("list {folder}"), source);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = match openat(self.root(), folder, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(BTreeSet::new()),
            opened => opened.map_err(failed)?,
        };
        let mut found = BTreeSet::new();
        for entry in Dir::from_fd(opened).map_err(failed)?.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy();
            let hex = name.strip_suffix(ending);
            found.extend(hex.and_then(|hex| Digest::from_str(&format!("sha256:{hex}")).ok()));
        }
        Ok(found)
    }

    /// Bytes of a content that is kept as it came; none when it is not.
    pub(crate) fn blob_size(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        let path = blob_path(digest);
        match fstatat(self.root(), path.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(None),
            stat => {
                let stat = stat.map_err(|source| self.io(format!("stat {path}"), source))?;
                Ok(Some(u64::try_from(stat.st_size).unwrap_or(0)))
            }
        }
    }

    fn used(&self, image: Digest) -> Result<SystemTime, StoreError> {
        let path = image_path(image);
        let stat = match fstatat(self.root(), path.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(SystemTime::UNIX_EPOCH),
            stat => stat.map_err(|source| self.io(format!("stat {path}"), source))?,
        };
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0)))
    }

    /// Marks an image as used now; false when it is not there. Nothing but the order of `prune` depends on the mark, so a
    /// store that cannot be written is no obstacle to a run.
    pub(super) fn touch(&self, image: Digest) -> bool {
        let touched = utimensat(
            self.root(),
            image_path(image).as_str(),
            &TimeSpec::UTIME_OMIT,
            &TimeSpec::UTIME_NOW,
            UtimensatFlags::NoFollowSymlink,
        );
        touched != Err(Errno::ENOENT)
    }
}

pub(super) fn image_path(image: Digest) -> String {
    format!("images/{}.json", image.hex())
}
