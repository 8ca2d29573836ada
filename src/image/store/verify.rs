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
use super::super::manifest::Document;
use super::super::{merged, printable};
use super::inventory::image_path;
use super::listing::compare;
use super::{DOCUMENTS, LISTING, Store, StoreError, blob_path, layer_record_path};

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
}

/// Damaged parts: what is wrong, and with which of its files where that is not [`Part::path`].
type Wrong = BTreeMap<Part, (Option<String>, String)>;

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
        let mut wrong = Wrong::new();
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
        let mut users: BTreeMap<Part, BTreeSet<Digest>> = BTreeMap::new();
        for digest in self.digests("images", ".json")? {
            for part in self.parts(digest, &mut wrong)? {
                users.entry(part).or_default().insert(digest);
            }
        }
        let tags = self.tags()?;
        for name in self.digests("tags", ".json")? {
            let part = Part::Name(name);
            if !tags.contains_key(&name) && self.read(&part.path())?.is_some() {
                wrong.insert(part, (None, NO_RECORD.to_owned()));
            }
        }
        let names = self.names()?;
        let damage = wrong.into_iter().map(|(part, (path, reason))| {
            let users = users.remove(&part).unwrap_or_default();
            let named = |image: &Digest| match names.get(image).and_then(BTreeSet::first) {
                Some(name) => name.clone(),
                None => image.to_string(),
            };
            Ok(Damage {
                path: path.unwrap_or_else(|| part.path()),
                reason,
                images: users.iter().map(named).collect(),
                in_use: !self.take_out(part, &users)?,
            })
        });
        damage.collect()
    }

    /// Takes a damaged part out, and the records of the images that have it. Says whether: what a run uses stays.
    fn take_out(&self, part: Part, users: &BTreeSet<Digest>) -> Result<bool, StoreError> {
        let locks = self.locks()?;
        for image in users {
            let name = format!("image {image}");
            let alone = locks.try_alone(&name);
            if !alone.map_err(|source| self.io(format!("lock {name}"), source))? {
                return Ok(false);
            }
        }
        for image in users {
            self.unlink(&image_path(*image))?;
        }
        self.unlink(&part.path())?;
        Ok(true)
    }

    /// What is wrong with a content that is kept as it came.
    fn wrong_content(&self, digest: Digest) -> Result<Option<String>, StoreError> {
        let Some(file) = self.kept(digest)? else {
            return Ok(None);
        };
        let mut hashed = Hashed::new(file);
        if let Err(error) = io::copy(&mut hashed, &mut io::sink()) {
            return Ok(Some(error.to_string()));
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
        if !self.has_layer(diff_id)? {
            return Ok(None);
        }
        let open = |name: &str, kind: OFlag| {
            let path = format!("layers/{}/{name}", diff_id.hex());
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | kind;
            let opened = openat(self.root(), path.as_str(), flags, Mode::empty());
            opened.map_err(|errno| match errno {
                Errno::ENOENT => (path, MISSING.to_owned()),
                errno => (path, io::Error::from(errno).to_string()),
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
            Err(error) => Some((at(b""), error.to_string())),
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
