//! Images on their way out of the store: into an OCI layout or an archive, byte for byte as they came, or as a root file
//! system into a folder.
//!
//! The store has a layer unpacked, and its compressed form only when it was imported: a pull writes nothing twice. No
//! unpacked tree gives back the bytes that a digest names. So what is not kept is asked of where the image came from once
//! more, and verified; nothing is made up.

mod archive;
mod folder;
mod layout;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::Hashed;
use super::local::{Local, cause};
use super::manifest::{Blob, Document, ImageManifest};
use super::pull::PullError;
use super::registry::{Client, Credentials};
use super::store::Lost;
use super::{Digest, Image, Platform, Registries, Source, Store};

/// Where an image goes.
#[derive(Clone, Debug)]
pub struct Export {
    /// The digest of its manifest.
    pub image: Digest,
    /// Its names: where it may be asked for again.
    pub names: Vec<String>,
    /// A layout, an archive or a folder.
    pub target: Source,
    /// The folder that the target's path is relative to.
    pub base: PathBuf,
    /// The host's configuration of registries; none when no network may be used.
    pub registries: Option<Registries>,
    /// Where credentials are found.
    pub credentials: Credentials,
}

/// What a folder that was written does not hold. A layout and an archive hold all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// What of the layers is not in the store.
    pub lost: Lost,
    /// Extended attributes that the folder's file system does not take.
    pub xattrs: u64,
}

/// Takes files, one after another: each whole, or not at all.
trait Target {
    fn put(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()>;
}

/// An image with all that its export needs but for its layers.
struct Whole {
    image: Image,
    manifest: Vec<u8>,
    parsed: ImageManifest,
    config: Vec<u8>,
}

/// Writes an image where it is to go, in this process, which may open sockets.
pub(crate) fn export(store: &Store, export: &Export) -> Result<Exported, PullError> {
    let failed = |reason: String| PullError::Export {
        reference: export.image.to_string(),
        reason,
    };
    let image = store
        .image(export.image)?
        .ok_or_else(|| failed("it is not in the store".to_owned()))?;
    let lease = store.lease(&image)?;
    if let Source::Dir(dir) = &export.target {
        let written = folder::write(&export.base.join(dir), lease.layer_dirs(), store.ownership());
        let left_out = written.map_err(failed)?;
        return Ok(Exported {
            lost: store.lost(&image)?,
            xattrs: left_out.xattrs,
        });
    }
    let whole = whole(store, image).map_err(failed)?;
    let origins = Origins {
        store,
        export,
        platform: whole.image.platform.clone(),
    };
    match &export.target {
        Source::Oci { dir, tag } => layout::write(&export.base.join(dir), tag.as_deref(), &whole, &origins),
        Source::Archive(file) => archive::write(&export.base.join(file), &export.names, &whole, &origins),
        other => Err(format!(
            "{other} is no target; write `oci:DIR[:TAG]`, `archive:FILE` or `dir:DIR`"
        )),
    }
    .map_err(failed)?;
    Ok(Exported::default())
}

/// The name under which what is to have `path` is written first.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn whole(store: &Store, image: Image) -> Result<Whole, String> {
    let small = |digest: Digest| -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let file = store.kept(digest).map_err(|error| error.to_string())?;
        let file = file.ok_or_else(|| format!("{digest} is missing in the store; pull it again"))?;
        { file }
            .read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        match Digest::of(&bytes) {
            found if found == digest => Ok(bytes),
            _ => Err(format!(
                "{digest} is damaged in the store; remove the image and pull it again"
            )),
        }
    };
    let manifest = small(image.digest)?;
    let parsed = match Document::parse(&manifest, None).map_err(|error| error.to_string())? {
        Document::Image(parsed) => parsed,
        Document::Index(_) => return Err("it is recorded as an index".to_owned()),
    };
    Ok(Whole {
        config: small(parsed.config.digest)?,
        image,
        manifest,
        parsed,
    })
}

impl Whole {
    /// Puts all contents under `blobs/sha256`.
    fn put(&self, target: &mut dyn Target, origins: &Origins<'_>) -> Result<(), String> {
        let mut small = |digest: Digest, bytes: &[u8]| {
            let size = bytes.len() as u64;
            target
                .put(&blob(digest), size, &mut &*bytes)
                .map_err(|error| cause(&error))
        };
        small(self.image.digest, &self.manifest)?;
        small(self.parsed.config.digest, &self.config)?;
        let mut seen = std::collections::BTreeSet::new();
        for (layer, _) in &self.parsed.layers {
            if seen.insert(layer.digest) {
                origins.put(*layer, target)?;
            }
        }
        Ok(())
    }

    /// The media type of the manifest, as it says it itself.
    fn media_type(&self) -> String {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Said {
            media_type: Option<String>,
        }
        let said = serde_json::from_slice::<Said>(&self.manifest).ok();
        said.and_then(|said| said.media_type)
            .unwrap_or_else(|| "application/vnd.oci.image.manifest.v1+json".to_owned())
    }
}

fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Where compressed layers may be.
struct Origins<'a> {
    store: &'a Store,
    export: &'a Export,
    platform: Platform,
}

/// Why a layer was not copied.
enum NotCopied {
    /// Where it was to be had; another place may do.
    Origin(String),
    /// Where it was to go.
    Target(io::Error),
}

impl Origins<'_> {
    /// Puts one layer, from the first place that has it.
    fn put(&self, layer: Blob, target: &mut dyn Target) -> Result<(), String> {
        if let Some(file) = self.store.kept(layer.digest).map_err(|error| error.to_string())? {
            return copy(layer, file, target).map_err(|not_copied| match not_copied {
                NotCopied::Origin(reason) => format!("layer {}: {reason}", layer.digest),
                NotCopied::Target(error) => cause(&error),
            });
        }
        let mut refused = Vec::new();
        for name in &self.export.names {
            match self.copy_from(name, layer, target) {
                Ok(()) => return Ok(()),
                Err(NotCopied::Origin(reason)) => refused.push(format!("{name}: {reason}")),
                Err(NotCopied::Target(error)) => return Err(cause(&error)),
            }
        }
        let reasons = match refused.is_empty() {
            true => "it came from nowhere that is known".to_owned(),
            false => refused.join("; "),
        };
        Err(format!(
            "layer {} is in the store unpacked only; {reasons}",
            layer.digest
        ))
    }

    fn copy_from(&self, name: &str, layer: Blob, target: &mut dyn Target) -> Result<(), NotCopied> {
        let source = Source::parse(name).map_err(NotCopied::origin)?;
        match &source {
            Source::Registry(reference) => {
                let registries = self.export.registries.as_ref();
                let registries =
                    registries.ok_or_else(|| NotCopied::origin("no network may be used (--offline)"))?;
                let client = Client::new(reference, registries, &self.export.credentials);
                let client = Arc::new(client.map_err(NotCopied::origin)?);
                copy(layer, client.blob(layer, 0).map_err(NotCopied::origin)?, target)
            }
            _ => {
                let spool = self.store.path().join("staging");
                let local = Local::open(&source, Path::new("/"), &spool, None, &self.platform);
                let local = local.map_err(NotCopied::origin)?;
                copy(
                    layer,
                    local.origin.layer(layer).map_err(NotCopied::origin)?,
                    target,
                )
            }
        }
    }
}

impl NotCopied {
    fn origin(reason: impl ToString) -> NotCopied {
        NotCopied::Origin(reason.to_string())
    }
}

/// Copies a layer. Its digest decides whether it is the right one, before it has its place at the target.
fn copy(layer: Blob, content: impl Read, target: &mut dyn Target) -> Result<(), NotCopied> {
    let mut content = Verified {
        inner: Some(Hashed::new(content)),
        left: layer.size,
        digest: layer.digest,
        wrong: None,
    };
    match target.put(&blob(layer.digest), layer.size, &mut content) {
        Ok(()) => Ok(()),
        Err(error) => Err(content.wrong.map_or(NotCopied::Target(error), NotCopied::Origin)),
    }
}

/// A content that ends with an error when it is another one, and remembers what was wrong with it: a failed copy does not
/// say on which side it failed.
struct Verified<R> {
    /// None once all has been read.
    inner: Option<Hashed<R>>,
    left: u64,
    digest: Digest,
    wrong: Option<String>,
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else {
            return Ok(0);
        };
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = match inner.read(&mut buffer[..most]) {
            Ok(0) if most > 0 => return Err(self.fail(format!("{} bytes of it did not come", self.left))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.fail(cause(&error))),
            Ok(read) => read,
        };
        self.left -= read as u64;
        if self.left == 0
            && let Some((found, _)) = self.inner.take().map(Hashed::finish)
            && found != self.digest
        {
            let reason = format!("the content has the digest {found}, not {}", self.digest);
            return Err(self.fail(reason));
        }
        Ok(read)
    }
}

impl<R> Verified<R> {
    fn fail(&mut self, reason: String) -> io::Error {
        self.wrong = Some(reason.clone());
        io::Error::other(reason)
    }
}
