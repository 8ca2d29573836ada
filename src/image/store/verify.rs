//! Reading everything again that a store holds. What is damaged is taken out, so that it counts as absent and the next
//! pull brings it anew; only what a run is using stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use super::super::config::ConfigFile;
use super::super::digest::{Digest, Hashed};
use super::super::local::{cause, words};
use super::super::manifest::Document;
use super::super::{merged, printable};
use super::inventory::image_path;
use super::listing::compare;
use super::{DOCUMENTS, LISTING, Store, StoreError, TagRecord, blob_path, layer_record_path};

/// A file of a store that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Damage {
    /// Where in the store.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
    /// The names, or digests, of the images that have it.
    pub images: BTreeSet<String>,
    /// Whether a run uses one of them, so that it is still there.
    pub in_use: bool,
}

/// What is damaged as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// A manifest, an index, a configuration or a layer as it came.
    Content(Digest),
    /// An unpacked layer.
    Layer(Digest),
    /// The record of an image.
    Image(Digest),
    /// The record of a name.
    Name(Digest),
}

impl Part {
    /// The file without which it counts as absent.
    fn path(self) -> String {
        match self {
            Part::Content(digest) => blob_path(digest),
            Part::Layer(diff_id) => layer_record_path(diff_id),
            Part::Image(digest) => image_path(digest),
            Part::Name(name) => format!("tags/{}.json", name.hex()),
        }
    }

    /// The lock of whoever brings it.
    fn brought_under(self) -> Option<String> {
        match self {
            Part::Content(digest) | Part::Layer(digest) => Some(format!("pull {digest}")),
            Part::Image(_) | Part::Name(_) => None,
        }
    }
}

/// Damaged parts: what is wrong, and with which of its files where that is not [`Part::path`].
type Wrong = BTreeMap<Part, (Option<String>, String)>;

/// What was seen when all was looked at.
#[derive(Default)]
struct Seen {
    wrong: Wrong,
    /// The images that have a part.
    users: BTreeMap<Part, BTreeSet<Digest>>,
    /// The names of images.
    names: BTreeMap<Digest, BTreeSet<String>>,
    /// The images whose records went with another of their parts.
    gone: BTreeSet<Digest>,
}

const MISSING: &str = "it is missing";
const NO_RECORD: &str = "it cannot be read";

impl Store {
    /// Reads all of it again.
    ///
    /// # Errors
    /// When the store as such cannot be read or written. Damage is no error but the answer.
    pub(crate) fn verify(&self) -> Result<Vec<Damage>, StoreError> {
        // No content goes because its image is not recorded yet.
        let locks = self.locks()?;
        let locked = locks.shared(DOCUMENTS);
        locked.map_err(|source| self.io("lock documents", source))?;
        let mut seen = Seen::default();
        let wrong = &mut seen.wrong;
        for digest in self.digests("blobs", "")? {
            if let Some(reason) = self.wrong_content(digest)? {
                wrong.insert(Part::Content(digest), (None, reason));
            }
        }
        for diff_id in self.digests("layers", "")? {
            if let Some((path, reason)) = self.wrong_layer(diff_id)? {
                wrong.insert(Part::Layer(diff_id), (Some(path), reason));
            }
        }
        for digest in self.digests("images", ".json")? {
            for part in self.parts(digest, wrong)? {
                seen.users.entry(part).or_default().insert(digest);
            }
        }
        let tags = self.tags()?;
        for name in self.digests("tags", ".json")? {
            let part = Part::Name(name);
            if !tags.contains_key(&name) && self.read(&part.path())?.is_some() {
                wrong.insert(part, (None, NO_RECORD.to_owned()));
            }
        }
        seen.names = self.names()?;
        let parts: Vec<Part> = seen.wrong.keys().copied().collect();
        let mut damage = Vec::new();
        for part in parts {
            damage.extend(self.settle(part, &mut seen)?);
        }
        Ok(damage)
    }

    /// Takes a damaged part out, with the records of the images that have it; what a run uses stays. None where it is whole
    /// by now: since it was looked at others may have taken it out and brought it anew.
    fn settle(&self, part: Part, seen: &mut Seen) -> Result<Option<Damage>, StoreError> {
        let locks = self.locks()?;
        let failed = |name: &str| {
            let what = format!("lock {name}");
            move |source| self.io(what, source)
        };
        // Whoever brings it holds this lock: what is seen below is what is taken out.
        if let Some(name) = part.brought_under() {
            locks.alone(&name).map_err(failed(&name))?;
        }
        let Some((path, reason)) = self.look_again(part, &seen.wrong)? else {
            return Ok(None);
        };
        let mut in_use = false;
        if let Part::Layer(diff_id) = part {
            // Who is bringing an image that has it holds this one until the image is recorded.
            let name = format!("layer {diff_id}");
            in_use |= !locks.try_alone(&name).map_err(failed(&name))?;
        }
        let users = self.users(part, &seen.wrong)?;
        let before = seen.users.get(&part).into_iter().flatten();
        let had: BTreeSet<Digest> = before
            .filter(|image| seen.gone.contains(image))
            .copied()
            .collect();
        let had = &had | &users;
        if had.is_empty() && reason == MISSING {
            return Ok(None);
        }
        for image in &users {
            let name = format!("image {image}");
            in_use |= !locks.try_alone(&name).map_err(failed(&name))?;
        }
        if !in_use {
            for image in &users {
                self.unlink(&image_path(*image))?;
            }
            self.unlink(&part.path())?;
            seen.gone.extend(&users);
        }
        let named = |image: &Digest| match seen.names.get(image).and_then(BTreeSet::first) {
            Some(name) => name.clone(),
            None => image.to_string(),
        };
        Ok(Some(Damage {
            path: path.unwrap_or_else(|| part.path()),
            reason,
            images: had.iter().map(named).collect(),
            in_use,
        }))
    }

    /// What is wrong with a part that was found to be damaged: the caller holds the lock of those who bring it.
    fn look_again(&self, part: Part, wrong: &Wrong) -> Result<Option<(Option<String>, String)>, StoreError> {
        let missing = || Some((None, MISSING.to_owned()));
        Ok(match part {
            Part::Content(digest) => match self.blob_size(digest)? {
                None => missing(),
                Some(_) => self.wrong_content(digest)?.map(|reason| (None, reason)),
            },
            Part::Layer(diff_id) => match self.has_layer(diff_id)? {
                false => missing(),
                true => self
                    .look_at_layer(diff_id)?
                    .map(|(path, reason)| (Some(path), reason)),
            },
            Part::Image(digest) => {
                let mut found = wrong.clone();
                found.remove(&part);
                self.parts(digest, &mut found)?;
                found.remove(&part)
            }
            Part::Name(_) => {
                let is_record = self.record::<TagRecord>(&part.path())?.is_some();
                let is_there = self.read(&part.path())?.is_some();
                (is_there && !is_record).then(|| (None, NO_RECORD.to_owned()))
            }
        })
    }

    /// The images that have a part.
    fn users(&self, part: Part, wrong: &Wrong) -> Result<BTreeSet<Digest>, StoreError> {
        let mut users = BTreeSet::new();
        for image in self.digests("images", ".json")? {
            if self.parts(image, &mut wrong.clone())?.contains(&part) {
                users.insert(image);
            }
        }
        Ok(users)
    }

    /// What is wrong with a content that is kept as it came.
    fn wrong_content(&self, digest: Digest) -> Result<Option<String>, StoreError> {
        let Some(file) = self.kept(digest)? else {
            return Ok(None);
        };
        let mut hashed = Hashed::new(file);
        if let Err(error) = io::copy(&mut hashed, &mut io::sink()) {
            return Ok(Some(cause(&error)));
        }
        let (found, _) = hashed.finish();
        Ok((found != digest).then(|| format!("its content has the digest {found}")))
    }

    /// What is wrong with an unpacked layer, and with which of its files. One without a record is not there.
    fn wrong_layer(&self, diff_id: Digest) -> Result<Option<(String, String)>, StoreError> {
        let locks = self.locks()?;
        let lock = |name: String, locked: Result<(), Errno>| {
            locked.map_err(|source| self.io(format!("lock {name} {diff_id}"), source))
        };
        // No one puts another one in its place, and no one prunes it.
        lock("pull".to_owned(), locks.alone(&format!("pull {diff_id}")))?;
        lock("layer".to_owned(), locks.shared(&format!("layer {diff_id}")))?;
        match self.has_layer(diff_id)? {
            true => self.look_at_layer(diff_id),
            false => Ok(None),
        }
    }

    /// The same for a layer that has a record, and that no one replaces or removes meanwhile.
    fn look_at_layer(&self, diff_id: Digest) -> Result<Option<(String, String)>, StoreError> {
        let open = |name: &str, kind: OFlag| {
            let path = format!("layers/{}/{name}", diff_id.hex());
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | kind;
            let opened = openat(self.root(), path.as_str(), flags, Mode::empty());
            opened.map_err(|errno| match errno {
                Errno::ENOENT => (path, MISSING.to_owned()),
                errno => (path, words(errno)),
            })
        };
        let opened =
            open(LISTING, OFlag::empty()).and_then(|listing| Ok((listing, open("fs", OFlag::O_DIRECTORY)?)));
        let (listing, root) = match opened {
            Ok(opened) => opened,
            Err(wrong) => return Ok(Some(wrong)),
        };
        let at = |path: &[u8]| {
            let path = String::from_utf8_lossy(path);
            format!(
                "layers/{}/fs/{}",
                diff_id.hex(),
                printable(path.trim_start_matches('/'), 200)
            )
        };
        Ok(match compare(root.as_fd(), BufReader::new(File::from(listing))) {
            Ok(None) => None,
            Ok(Some(first)) => Some(match first.others {
                0 => (at(&first.path), first.reason),
                others => (at(&first.path), format!("{}; {others} more differ", first.reason)),
            }),
            Err(error) => Some((at(b""), cause(&error))),
        })
    }

    /// The parts of an image; adds to those that are wrong its record, and what is missing.
    fn parts(&self, digest: Digest, wrong: &mut Wrong) -> Result<Vec<Part>, StoreError> {
        let record = Part::Image(digest);
        let Some(image) = self.image_record(digest)? else {
            // One that was removed just now is not damaged.
            if self.read(&record.path())?.is_some() {
                wrong.insert(record, (None, NO_RECORD.to_owned()));
            }
            return Ok(vec![record]);
        };
        let mut parts = vec![record, Part::Content(digest)];
        for layer in &image.layers {
            parts.extend([Part::Layer(layer.diff_id), Part::Content(layer.digest)]);
            if !self.has_layer(layer.diff_id)? {
                wrong.insert(Part::Layer(layer.diff_id), (None, MISSING.to_owned()));
            }
        }
        let mut intact = |content: Digest| {
            let part = Part::Content(content);
            let bytes = self.read(&part.path())?;
            if bytes.is_none() {
                wrong.insert(part, (None, MISSING.to_owned()));
            }
            Ok::<_, StoreError>(bytes.filter(|_| !wrong.contains_key(&part)))
        };
        let Some(manifest) = intact(digest)? else {
            return Ok(parts);
        };
        let manifest = match Document::parse(&manifest, None) {
            Ok(Document::Image(manifest)) => manifest,
            _ => {
                wrong.insert(record, (None, "its digest is no image's".to_owned()));
                return Ok(parts);
            }
        };
        parts.push(Part::Content(manifest.config.digest));
        let Some(config) = intact(manifest.config.digest)? else {
            return Ok(parts);
        };
        let layers = manifest.layers.iter().map(|(blob, _)| (blob.digest, blob.size));
        let is_same = ConfigFile::parse(&config).is_ok_and(|config| {
            let diff_ids = image.layers.iter().map(|layer| layer.diff_id);
            config.settings == image.config
                && config.platform == image.platform
                && diff_ids.eq(config.diff_ids)
                && layers.eq(image.layers.iter().map(|layer| (layer.digest, layer.size)))
        });
        let is_whole = !parts.iter().any(|part| wrong.contains_key(part));
        if !is_same || (is_whole && merged::accounts(self, &image.layers)? != image.accounts) {
            wrong.insert(record, (None, "it is not what the image says".to_owned()));
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LayerRecord, Ownership, Sums};
    use super::*;

    /// A layer that was damaged when it was looked at is judged by what it is when it would be taken out.
    #[test]
    fn what_was_brought_anew_meanwhile_stays() {
        let path = std::env::temp_dir().join(format!("ringfence-verify-{}", std::process::id()));
        let store = Store::create(&path, Ownership::Single).unwrap();
        let diff_id = Digest::of(b"layer");
        let staging = store.stage().unwrap();
        drop(staging.make_fs().unwrap());
        staging.seal(&Sums::new(), &LayerRecord::default()).unwrap();
        staging.commit(diff_id).unwrap();
        let file = path.join("layers").join(diff_id.hex()).join("fs/file");
        let part = Part::Layer(diff_id);
        let mut seen = Seen::default();
        seen.wrong.insert(part, (None, "it was damaged".to_owned()));
        let mut settle = || store.settle(part, &mut seen).unwrap();

        assert_eq!(settle(), None);
        std::fs::write(&file, "x").unwrap();
        // Somebody is bringing an image that has it.
        let pin = store.locks().unwrap();
        pin.shared(&format!("layer {diff_id}")).unwrap();
        let damage = settle().unwrap();
        assert_eq!(
            (damage.reason.as_str(), damage.in_use),
            ("it does not belong there", true)
        );
        assert!(store.has_layer(diff_id).unwrap());
        drop(pin);
        assert!(!settle().unwrap().in_use);
        assert!(!store.has_layer(diff_id).unwrap());
        // It is missing, and no image needs it.
        assert_eq!(settle(), None);
        std::fs::remove_dir_all(path).unwrap();
    }
}
