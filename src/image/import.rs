//! Images of this machine, layouts and archives, on their way into the store.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::describe::{Resolved, resolve};
use super::local::{Local, LocalError};
use super::manifest::{Blob, Document, choose};
use super::origin::OriginError;
use super::pull::{Event, Pull, PullError, Report};
use super::store::{KeepError, Store, TagRecord};
use super::unpack::Owners;
use super::{Digest, Image, Platform, Reference, Source};

/// An image of this machine, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Import {
    /// A layout, an archive, or a folder.
    pub source: Source,
    /// The folder that its path is relative to.
    pub base: PathBuf,
    /// For which machine.
    pub platform: Platform,
    /// The manifest that it must be, whatever the source's name means now.
    pub manifest: Option<Digest>,
    /// The name under which the store is to have it, besides that of the source.
    pub name: Option<Reference>,
    /// Its compressed layers are kept as well: no registry has them, and the source may go.
    pub keep: bool,
}

/// What a file was when it was read: when any of it is another, the file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Cannot be set by anyone, which the time of modification can.
    changed: (i64, i64),
}

impl From<&Metadata> for FileState {
    fn from(seen: &Metadata) -> FileState {
        FileState {
            device: seen.dev(),
            inode: seen.ino(),
            size: seen.size(),
            modified: (seen.mtime(), seen.mtime_nsec()),
            changed: (seen.ctime(), seen.ctime_nsec()),
        }
    }
}

impl Import {
    /// The image, if the store has it already. Reads the little that says which image it is: of a layout its index; of an
    /// archive nothing, when it is the same file as it was before.
    ///
    /// # Errors
    /// When the source cannot be read, or the store.
    pub fn known(&self, store: &Store) -> Result<Option<Image>, PullError> {
        if let Some(manifest) = self.manifest {
            return Ok(store.image(manifest)?);
        }
        let manifest = match &self.source {
            Source::Archive(_) => self.remembered(store)?,
            _ => {
                let local = self.open(store)?;
                let document = Document::parse(&local.top.bytes, local.top.media_type.as_deref());
                match document.map_err(|error| self.wrong(error.to_string()))? {
                    Document::Image(_) => Some(local.top.digest),
                    Document::Index(offers) => {
                        let offer = choose(&offers, &self.platform);
                        Some(
                            offer
                                .map_err(|error| self.wrong(error.to_string()))?
                                .manifest
                                .digest,
                        )
                    }
                }
            }
        };
        Ok(match manifest {
            Some(manifest) => store.image(manifest)?,
            None => None,
        })
    }

    /// What an archive was found to be, while it is the same file.
    fn remembered(&self, store: &Store) -> Result<Option<Digest>, PullError> {
        let state = self.state()?;
        let known = store
            .tag_of(&self.place())?
            .filter(|known| known.file == Some(state));
        let images = known.map(|known| known.images).unwrap_or_default();
        let own = images
            .into_iter()
            .find(|(platform, _)| *platform == self.platform);
        Ok(own.map(|(_, manifest)| manifest))
    }

    fn open(&self, store: &Store) -> Result<Local, PullError> {
        let name = self.name.as_ref().map(Reference::to_string);
        Local::open(
            &self.source,
            &self.base,
            &store.path().join("staging"),
            name.as_deref(),
            &self.platform,
        )
        .map_err(|error| self.failed(error))
    }

    fn state(&self) -> Result<FileState, PullError> {
        let path = self.path();
        let seen = std::fs::metadata(&path).map_err(|error| {
            self.failed(LocalError::File {
                file: path.display().to_string(),
                reason: super::local::cause(&error),
            })
        })?;
        Ok(FileState::from(&seen))
    }

    fn path(&self) -> PathBuf {
        match &self.source {
            Source::Oci { dir: path, .. } | Source::Archive(path) | Source::Dir(path) => self.base.join(path),
            _ => self.base.clone(),
        }
    }

    /// The name of the source wherever one stands.
    fn place(&self) -> String {
        match &self.source {
            Source::Oci { tag: Some(tag), .. } => format!("oci:{}:{tag}", self.path().display()),
            Source::Oci { tag: None, .. } => format!("oci:{}", self.path().display()),
            Source::Dir(_) => format!("dir:{}", self.path().display()),
            _ => format!("archive:{}", self.path().display()),
        }
    }

    fn failed(&self, source: LocalError) -> PullError {
        PullError::Origin {
            reference: self.source.to_string(),
            source: OriginError::Local(source),
        }
    }

    fn wrong(&self, reason: String) -> PullError {
        PullError::Image {
            reference: self.source.to_string(),
            reason,
        }
    }
}

/// Brings an image into the store, in this process. `owners` must be what this process may set.
pub(crate) fn import(
    store: &Store,
    import: &Import,
    owners: Owners,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report, PullError> {
    store.clean_staging()?;
    let state = import.state()?;
    let local = import.open(store)?;
    let pull = Pull {
        store,
        name: import.source.to_string(),
        platform: &import.platform,
        owners,
        on_event,
    };
    let top = match import.manifest {
        Some(manifest) if manifest != local.top.digest => local
            .origin
            .document(manifest)
            .map_err(|error| pull.origin(error))?,
        _ => local.top,
    };
    let digest = top.digest;
    let brought = pull.bring(&*local.origin, top)?;
    for layer in brought.image.layers.iter().filter(|_| import.keep) {
        let blob = Blob {
            digest: layer.digest,
            size: layer.size,
        };
        let content = local.origin.layer(blob).map_err(|error| pull.origin(error))?;
        store.keep(layer.digest, content).map_err(|error| match error {
            KeepError::Store(error) => error.into(),
            error => import.wrong(format!("layer {}: {error}", layer.digest)),
        })?;
    }
    let record = TagRecord {
        reference: import.place(),
        top: digest,
        images: vec![(import.platform.clone(), brought.image.digest)],
        file: Some(state),
    };
    store.write_tag_of(&import.place(), &record)?;
    if let Some(name) = &import.name {
        pull.remember(name, digest, &brought.image)?;
    }
    pull.report(brought)
}

/// Says what a source means, for every platform, in this process. Nothing comes into the store.
pub(crate) fn look_into(store: &Store, import: &Import) -> Result<Resolved, PullError> {
    let local = import.open(store)?;
    resolve(&*local.origin, &local.top)
        .map_err(|error| super::pull::describing(&import.source.to_string(), error))
}
