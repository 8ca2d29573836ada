//! Pulling: a reference becomes an image of the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::accounts::Accounts;
use super::describe::{DescribeError, Described, NESTED, Resolved, describe, resolve};
use super::layer::LayerError;
use super::layers::Layers;
use super::manifest::{Blob, Document, ImageManifest, ManifestError, choose};
use super::merged;
use super::origin::{Fetched, Origin, OriginError};
use super::platform::Platform;
use super::reference::Reference;
use super::registries::Registries;
use super::registry::{Client, Credentials};
use super::store::{DOCUMENTS, Locks, Lost, Store, StoreError, TagRecord};
use super::unpack::Owners;
use super::{Digest, Image, Layer};

/// What is pulled, and how its registry is reached.
#[derive(Clone, Debug)]
pub struct Request {
    /// The image.
    pub reference: Reference,
    /// For which machine.
    pub platform: Platform,
    /// The host's configuration of registries.
    pub registries: Registries,
    /// Where credentials are found.
    pub credentials: Credentials,
}

/// What a pull did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The image, ready to be run.
    pub image: Image,
    /// Layers that were fetched; the others were there.
    pub fetched_layers: usize,
    /// Bytes of layers that were fetched, compressed.
    pub fetched_bytes: u64,
    /// What of all layers could not be represented.
    pub lost: Lost,
}

/// What a pull tells while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The image is known.
    Resolved {
        /// The digest of its manifest.
        digest: Digest,
        /// Its layers, lowest first.
        layers: Vec<Layer>,
    },
    /// Bytes of a layer have come.
    Progress {
        /// The layer's place, 0 is the lowest.
        layer: usize,
        /// Bytes so far, compressed.
        bytes: u64,
    },
    /// A layer is in the store.
    Done {
        /// The layer's place, 0 is the lowest.
        layer: usize,
        /// Whether it had to be fetched.
        fetched: bool,
    },
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Where the image comes from.
    #[error("pull {reference}: {source}")]
    Origin {
        /// The image.
        reference: String,
        /// What it gave instead of the content.
        source: OriginError,
    },
    /// What is there is not an image for this machine, or a damaged one.
    #[error("pull {reference}: {reason}")]
    Image {
        /// The image.
        reference: String,
        /// What is wrong.
        reason: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What an image is written to, or where its layers are to be had.
    #[error("export {reference}: {reason}")]
    Export {
        /// The digest of its manifest.
        reference: String,
        /// What is wrong.
        reason: String,
    },
    /// The process that pulls.
    #[error("pull {reference}: {step}: {reason}")]
    Process {
        /// The image.
        reference: String,
        /// What was done.
        step: &'static str,
        /// The cause.
        reason: String,
    },
    /// What the process that pulls reported: a whole message.
    #[error("{0}")]
    Reported(String),
}

/// Pulls in this process: starts threads, opens sockets, reads credentials. `owners` must be what this process may set.
pub(crate) fn pull(
    store: &Store,
    request: &Request,
    owners: Owners,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Report, PullError> {
    let Request {
        reference,
        platform,
        registries,
        credentials,
    } = request;
    let pull = Pull {
        store,
        name: reference.to_string(),
        platform,
        owners,
        on_event,
    };
    // A digest means the same for ever: what is here needs no registry.
    if reference.digest().is_some()
        && let Some(image) = store.find(reference, platform)?
    {
        return pull.report(Brought::known(image));
    }
    store.clean_staging()?;
    let client = Client::new(reference, registries, credentials);
    let client = Arc::new(client.map_err(|error| pull.origin(error.into()))?);
    let top = client
        .manifest(&reference.wanted(), reference.digest())
        .map_err(|error| pull.origin(error.into()))?;
    let known = store.tag(reference)?;
    if known.is_some_and(|known| known.top == top.digest)
        && let Some(image) = store.find(reference, platform)?
    {
        return pull.report(Brought::known(image));
    }
    let digest = top.digest;
    let brought = pull.bring(&client, top)?;
    pull.remember(reference, digest, &brought.image)?;
    pull.report(brought)
}

/// Asks in this process what a reference means, for every platform: as [`pull`], but nothing comes into a store.
pub(crate) fn look_up(request: &Request) -> Result<Resolved, PullError> {
    let reference = &request.reference;
    let failed = |error| describing(&reference.to_string(), error);
    let client = Client::new(reference, &request.registries, &request.credentials);
    let client = Arc::new(client.map_err(|error| failed(OriginError::from(error).into()))?);
    let top = client
        .manifest(&reference.wanted(), reference.digest())
        .map_err(|error| failed(OriginError::from(error).into()))?;
    resolve(&client, &top).map_err(failed)
}

/// A failure of the image that is called `name`.
pub(crate) fn describing(name: &str, error: DescribeError) -> PullError {
    let reference = name.to_owned();
    match error {
        DescribeError::Origin(source) => PullError::Origin { reference, source },
        other => PullError::Image {
            reference,
            reason: other.to_string(),
        },
    }
}

/// Manifests and configurations by their digests, as they came.
type Documents = Vec<(Digest, Vec<u8>)>;

/// What brings an image from any origin into the store.
pub(crate) struct Pull<'a> {
    pub(crate) store: &'a Store,
    /// What the image is called, for messages and for its record.
    pub(crate) name: String,
    pub(crate) platform: &'a Platform,
    pub(crate) owners: Owners,
    pub(crate) on_event: &'a (dyn Fn(Event) + Sync),
}

/// An image that is in the store now, and what of it had to be fetched.
pub(crate) struct Brought {
    pub(crate) image: Image,
    layers: usize,
    bytes: u64,
}

impl Brought {
    /// All of it was there.
    fn known(image: Image) -> Brought {
        Brought {
            image,
            layers: 0,
            bytes: 0,
        }
    }
}

impl Pull<'_> {
    /// Brings the image that `top` is, or the one for this platform of an index.
    pub(crate) fn bring(&self, origin: &dyn Origin, top: Fetched) -> Result<Brought, PullError> {
        let document = Document::parse(&top.bytes, top.media_type.as_deref());
        let document = document.map_err(|error| self.manifest(error))?;
        let top_digest = top.digest;
        let mut documents = vec![(top.digest, top.bytes)];
        let (digest, manifest) = match document {
            Document::Image(manifest) => (top_digest, manifest),
            Document::Index(offers) => {
                let offer = choose(&offers, self.platform).map_err(|error| self.manifest(error))?;
                self.of_index(origin, offer.manifest.digest, &mut documents)?
            }
        };
        self.image(origin, digest, &manifest, documents)
    }

    fn of_index(
        &self,
        origin: &dyn Origin,
        digest: Digest,
        documents: &mut Documents,
    ) -> Result<(Digest, ImageManifest), PullError> {
        let fetched = origin.document(digest).map_err(|error| self.origin(error))?;
        let document = Document::parse(&fetched.bytes, fetched.media_type.as_deref());
        match document.map_err(|error| self.manifest(error))? {
            Document::Image(manifest) => {
                documents.push((digest, fetched.bytes));
                Ok((digest, manifest))
            }
            Document::Index(_) => Err(self.wrong(NESTED)),
        }
    }

    /// Brings an image of which the manifest is known, or nothing of it.
    fn image(
        &self,
        origin: &dyn Origin,
        digest: Digest,
        manifest: &ImageManifest,
        documents: Documents,
    ) -> Result<Brought, PullError> {
        let writing = self.store.locks()?;
        writing
            .shared(DOCUMENTS)
            .map_err(|source| self.store.io("lock documents", source))?;
        let brought = self.parts(origin, digest, manifest, documents);
        drop(writing);
        if brought.is_err() {
            // Nothing stays of an image that is not there in full, but what others need or are bringing. The reason is the
            // error; what cannot be removed now no image names, so that the next prune removes it.
            self.store.sweep().ok();
        }
        brought
    }

    /// Brings the configuration and the layers, then records the image.
    fn parts(
        &self,
        origin: &dyn Origin,
        digest: Digest,
        manifest: &ImageManifest,
        documents: Documents,
    ) -> Result<Brought, PullError> {
        let config = self.config(origin, manifest.config)?;
        let Described { config, layers } =
            describe(&config, manifest).map_err(|error| describing(&self.name, error))?;
        let wanted = self.platform;
        if wanted.suits(&config.platform).is_none() {
            return Err(self.manifest(ManifestError::NoPlatform {
                wanted: wanted.clone(),
                offered: config.platform.to_string(),
            }));
        }
        let mut image = Image {
            reference: self.name.clone(),
            digest,
            platform: config.platform,
            config: config.settings,
            layers: layers.iter().map(Layer::from).collect(),
            accounts: Accounts::default(),
        };
        (self.on_event)(Event::Resolved {
            digest,
            layers: image.layers.clone(),
        });
        let _pins = self.pin(&image)?;
        let all = Layers {
            store: self.store,
            origin,
            owners: self.owners,
            on_event: self.on_event,
        };
        let (layers, bytes) = all.bring(&layers).map_err(|error| match error {
            LayerError::Origin(error) => self.origin(error),
            LayerError::Store(error) => error.into(),
            wrong => self.wrong(&wrong.to_string()),
        })?;
        for (digest, bytes) in &documents {
            let _lock = self.lock_content(*digest)?;
            self.store.write_blob(*digest, bytes)?;
        }
        image.accounts = merged::accounts(self.store, &image.layers)?;
        self.store.write_image(&image)?;
        Ok(Brought { image, layers, bytes })
    }

    /// The configuration: of the processes that need the same one, one fetches it.
    fn config(&self, origin: &dyn Origin, blob: Blob) -> Result<Vec<u8>, PullError> {
        let _lock = self.lock_content(blob.digest)?;
        let kept = self.store.read_blob(blob.digest)?;
        if let Some(bytes) = kept.filter(|bytes| Digest::of(bytes) == blob.digest) {
            return Ok(bytes);
        }
        let bytes = origin.config(blob).map_err(|error| self.origin(error))?;
        self.store.write_blob(blob.digest, &bytes)?;
        Ok(bytes)
    }

    /// Keeps others from bringing a content, and from taking it out as damaged.
    fn lock_content(&self, digest: Digest) -> Result<Locks, PullError> {
        let name = format!("pull {digest}");
        let locks = self.store.locks()?;
        let locked = locks.alone(&name);
        locked.map_err(|source| self.store.io(format!("lock {name}"), source))?;
        Ok(locks)
    }

    /// Keeps layers that no image names yet from being pruned.
    fn pin(&self, image: &Image) -> Result<Locks, PullError> {
        let locks = self.store.locks()?;
        for layer in &image.layers {
            let name = format!("layer {}", layer.diff_id);
            locks
                .shared(&name)
                .map_err(|source| self.store.io(format!("lock {name}"), source))?;
        }
        Ok(locks)
    }

    /// Records what the reference means, and what the digests on the way mean.
    pub(crate) fn remember(
        &self,
        reference: &Reference,
        top: Digest,
        image: &Image,
    ) -> Result<(), PullError> {
        let mut names = vec![reference.pinned(top)];
        if reference.digest().is_none() {
            names.push(reference.clone());
        }
        for name in names {
            let before = self.store.tag(&name)?.filter(|before| before.top == top);
            let mut images = before.map(|before| before.images).unwrap_or_default();
            images.retain(|(other, _)| other != self.platform);
            images.push((self.platform.clone(), image.digest));
            images.sort();
            let reference = name.to_string();
            self.store.write_tag(
                &name,
                &TagRecord {
                    reference,
                    top,
                    images,
                    file: None,
                },
            )?;
        }
        Ok(())
    }

    /// What is said of it at the end.
    pub(crate) fn report(&self, brought: Brought) -> Result<Report, PullError> {
        let lost = self.store.lost(&brought.image)?;
        Ok(Report {
            image: brought.image,
            fetched_layers: brought.layers,
            fetched_bytes: brought.bytes,
            lost,
        })
    }

    /// A failure of where the image comes from.
    pub(crate) fn origin(&self, source: OriginError) -> PullError {
        PullError::Origin {
            reference: self.name.clone(),
            source,
        }
    }

    fn manifest(&self, error: ManifestError) -> PullError {
        self.wrong(&error.to_string())
    }

    fn wrong(&self, reason: &str) -> PullError {
        PullError::Image {
            reference: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}
