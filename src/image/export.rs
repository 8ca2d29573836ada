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
use super::local::Local;
use super::manifest::{Blob, Document, ImageManifest};
use super::origin::Origin;
use super::pull::PullError;
use super::registry::{Client, Credentials};
use super::store::Lost;
use super::{Digest, Image, Platform, Reference, Registries, Source, Store};

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

/// Takes files, one after another.
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
                .map_err(|error| super::local::cause(&error))
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

impl Origins<'_> {
    /// Puts one layer, from the first place that has it.
    fn put(&self, layer: Blob, target: &mut dyn Target) -> Result<(), String> {
        if let Some(file) = self.store.kept(layer.digest).map_err(|error| error.to_string())? {
            return copy(layer, file, target);
        }
        let mut refused = Vec::new();
        for name in &self.export.names {
            match self.open(name, layer, target) {
                Ok(()) => return Ok(()),
                Err(reason) => refused.push(format!("{name}: {reason}")),
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

    fn open(&self, name: &str, layer: Blob, target: &mut dyn Target) -> Result<(), String> {
        let source = Source::parse(name).map_err(|error| error.to_string())?;
        match &source {
            Source::Registry(reference) => {
                let registries = self.export.registries.as_ref();
                let registries = registries.ok_or("no network may be used (--offline)")?;
                let client = client(reference, registries, &self.export.credentials)?;
                let content = Origin::layer(&client, layer).map_err(|error| error.to_string())?;
                copy(layer, content, target)
            }
            _ => {
                let spool = self.store.path().join("staging");
                let local = Local::open(&source, Path::new("/"), &spool, None, &self.platform);
                let local = local.map_err(|error| error.to_string())?;
                let content = local.origin.layer(layer).map_err(|error| error.to_string())?;
                copy(layer, content, target)
            }
        }
    }
}

fn client(
    reference: &Reference,
    registries: &Registries,
    credentials: &Credentials,
) -> Result<Arc<Client>, String> {
    let client = Client::new(reference, registries, credentials);
    Ok(Arc::new(client.map_err(|error| error.to_string())?))
}

/// Copies a layer, whose digest decides whether it is the right one.
fn copy(layer: Blob, content: impl Read, target: &mut dyn Target) -> Result<(), String> {
    let mut hashed = Hashed::new(content);
    target
        .put(&blob(layer.digest), layer.size, &mut hashed)
        .map_err(|error| super::local::cause(&error))?;
    match hashed.finish() {
        (found, _) if found == layer.digest => Ok(()),
        (found, _) => Err(format!(
            "the content has the digest {found}, not {}",
            layer.digest
        )),
    }
}
