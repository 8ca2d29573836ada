//! An archive of `docker save`: a configuration and layers, without a manifest of a registry.
//!
//! One is made here, in the form in which `docker push` would make it of the layers as they are: always the same for the
//! same archive, so that it can be locked.

use std::collections::HashMap;
use std::io::{self, Read};

use serde::Deserialize;

use super::super::config::ConfigFile;
use super::super::digest::{Digest, Hashed};
use super::super::manifest::{Blob, Compression, LARGEST_CONFIG, LARGEST_MANIFEST, MOST_LAYERS};
use super::super::origin::{Fetched, Origin, OriginError};
use super::super::reference::Reference;
use super::files::{Files, Part, need, small};
use super::tarball::compression;
use super::{LocalError, cause, wrong};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// One image of an archive.
pub(super) struct DockerSave {
    files: Box<dyn Files>,
    config: Vec<u8>,
    /// The names of the layers' files, by their digests.
    layers: HashMap<Digest, String>,
    manifest: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl DockerSave {
    /// Reads what the archive says of itself, and the layers whose digests are not known without.
    pub(super) fn open(
        files: Box<dyn Files>,
        name: Option<&str>,
    ) -> Result<(DockerSave, Fetched), LocalError> {
        if files.open("manifest.json")?.is_none() {
            let reason = "it is neither an archive of `docker save` nor an OCI layout: it has no `manifest.json` and no `oci-layout`";
            return Err(LocalError::Which(reason.to_owned()));
        }
        let text = small(&*files, "manifest.json", LARGEST_MANIFEST)?;
        let invalid = |error: serde_json::Error| {
            let reason = super::super::printable(&error.to_string(), 200);
            wrong("manifest.json", format!("not valid: {reason}"))
        };
        let entries: Vec<Entry> = serde_json::from_slice(&text).map_err(invalid)?;
        let entry = choose(&entries, name)?;
        let config = small(&*files, &entry.config, LARGEST_CONFIG)?;
        let parsed = ConfigFile::parse(&config)
            .map_err(|reason| wrong(&entry.config, format!("the configuration {reason}")))?;
        let names = entry.layers.as_deref().unwrap_or_default();
        if names.len() != parsed.diff_ids.len() || names.len() > MOST_LAYERS {
            let (layers, wanted) = (names.len(), parsed.diff_ids.len());
            let reason = format!(
                "it names {layers} layers, the configuration {wanted}; at most {MOST_LAYERS} can be mounted"
            );
            return Err(wrong("manifest.json", reason));
        }
        let mut layers = HashMap::new();
        let mut descriptors = Vec::new();
        for (name, diff_id) in names.iter().zip(&parsed.diff_ids) {
            let part = need(&*files, name)?;
            let size = part.size();
            let (digest, suffix) = identify(&*files, name, part, *diff_id)?;
            descriptors.push(descriptor(&format!("{LAYER}{suffix}"), digest, size));
            layers.insert(digest, name.clone());
        }
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
            descriptor(CONFIG, Digest::of(&config), config.len() as u64),
            descriptors.join(",")
        )
        .into_bytes();
        let top = Fetched {
            digest: Digest::of(&manifest),
            bytes: manifest.clone(),
            media_type: Some(MANIFEST.to_owned()),
        };
        let found = DockerSave {
            files,
            config,
            layers,
            manifest,
        };
        Ok((found, top))
    }
}

fn choose<'a>(entries: &'a [Entry], name: Option<&str>) -> Result<&'a Entry, LocalError> {
    let tags = |entry: &Entry| entry.repo_tags.clone().unwrap_or_default();
    match (entries, name) {
        ([], _) => Err(LocalError::Which("it holds no image".to_owned())),
        ([only], _) => Ok(only),
        (several, name) => {
            let named =
                |entry: &&Entry| name.is_some_and(|name| tags(entry).iter().any(|tag| is_called(tag, name)));
            several.iter().find(named).ok_or_else(|| {
                let tags: Vec<String> = several.iter().flat_map(tags).collect();
                let listed = super::super::printable(&tags.join(", "), 300);
                LocalError::Which(format!(
                    "it holds several images ({listed}); save the one that is meant by itself"
                ))
            })
        }
    }
}

/// Whether Docker's name for an image is this one, in full.
fn is_called(tag: &str, name: &str) -> bool {
    Reference::parse(tag).is_ok_and(|tag| tag.to_string() == name)
}

/// The digest of a layer as it stands in the archive, and what that adds to its media type. The digest of a plain one is
/// its diff id, which its unpacking verifies.
fn identify(
    files: &dyn Files,
    name: &str,
    mut part: Part,
    diff_id: Digest,
) -> Result<(Digest, &'static str), LocalError> {
    let failed = |error: io::Error| wrong(name, cause(&error));
    let mut first = Vec::new();
    part.by_ref().take(4).read_to_end(&mut first).map_err(failed)?;
    let suffix = match compression(&first) {
        Compression::None => return Ok((diff_id, "")),
        Compression::Gzip => ".gzip",
        Compression::Zstd => ".zstd",
    };
    let mut hashed = Hashed::new(need(files, name)?);
    io::copy(&mut hashed, &mut io::sink()).map_err(failed)?;
    Ok((hashed.finish().0, suffix))
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}"}}"#)
}

impl Origin for DockerSave {
    fn document(&self, digest: Digest) -> Result<Fetched, OriginError> {
        match Digest::of(&self.manifest) {
            own if own == digest => Ok(Fetched {
                digest,
                bytes: self.manifest.clone(),
                media_type: Some(MANIFEST.to_owned()),
            }),
            own => Err(LocalError::Which(format!("its image is {own}, not {digest}")).into()),
        }
    }

    fn config(&self, blob: Blob) -> Result<Vec<u8>, OriginError> {
        debug_assert_eq!(blob.digest, Digest::of(&self.config));
        Ok(self.config.clone())
    }

    fn layer(&self, blob: Blob) -> Result<Box<dyn Read + Send + '_>, OriginError> {
        let name = self.layers.get(&blob.digest);
        let name = name.ok_or_else(|| LocalError::Which(format!("it has no layer {}", blob.digest)))?;
        Ok(Box::new(need(&*self.files, name)?))
    }
}
