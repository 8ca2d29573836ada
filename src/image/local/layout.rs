//! An OCI image layout (image specification, "OCI Image Layout Specification").

use std::io::Read;

use serde::Deserialize;

use super::super::digest::Digest;
use super::super::manifest::{Blob, LARGEST_MANIFEST};
use super::super::origin::{Fetched, Origin, OriginError};
use super::files::{Files, need, small, verified};
use super::{LocalError, wrong};

/// The name of an image in a layout (image specification, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout, in a folder or in an archive.
pub(super) struct Layout {
    files: Box<dyn Files>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Layout {
    pub(super) fn new(files: Box<dyn Files>) -> Layout {
        Layout { files }
    }

    /// The document of the image with this name, or of the only image.
    pub(super) fn top(&self, tag: Option<&str>) -> Result<Fetched, LocalError> {
        need(&*self.files, "oci-layout")?;
        let bytes = small(&*self.files, "index.json", LARGEST_MANIFEST)?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| {
            wrong(
                "index.json",
                format!("not valid: {}", super::super::printable(&error.to_string(), 200)),
            )
        })?;
        let named = |entry: &&Entry| tag.is_none_or(|tag| entry.name() == Some(tag));
        let mut found: Vec<&Entry> = index.manifests.iter().filter(named).collect();
        // An image may stand there under several names.
        found.sort_by_key(|entry| entry.digest);
        found.dedup_by_key(|entry| entry.digest);
        match found.as_slice() {
            [entry] => self.fetch(entry.digest, Some(&entry.media_type)),
            [] => Err(LocalError::Which(match tag {
                Some(tag) => format!("it holds no image `{tag}`; it holds {}", index.listed()),
                None => "it holds no image".to_owned(),
            })),
            _ => Err(LocalError::Which(format!(
                "it holds several images; name one of {} after a colon",
                index.listed()
            ))),
        }
    }

    fn fetch(&self, digest: Digest, media_type: Option<&str>) -> Result<Fetched, LocalError> {
        Ok(Fetched {
            bytes: verified(&*self.files, &path(digest), digest, LARGEST_MANIFEST)?,
            digest,
            media_type: media_type.map(str::to_owned),
        })
    }
}

impl Entry {
    fn name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }
}

impl Index {
    /// The names of the images, for messages.
    fn listed(&self) -> String {
        let name = |entry: &Entry| super::super::printable(entry.name().unwrap_or("one without a name"), 100);
        let mut names: Vec<String> = self.manifests.iter().map(name).collect();
        names.sort();
        names.dedup();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    }
}

fn path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Origin for Layout {
    fn document(&self, digest: Digest) -> Result<Fetched, OriginError> {
        Ok(self.fetch(digest, None)?)
    }

    fn config(&self, blob: Blob) -> Result<Vec<u8>, OriginError> {
        Ok(verified(
            &*self.files,
            &path(blob.digest),
            blob.digest,
            blob.size,
        )?)
    }

    fn layer(&self, blob: Blob) -> Result<Box<dyn Read + Send + '_>, OriginError> {
        let path = path(blob.digest);
        let part = need(&*self.files, &path)?;
        match part.size() {
            size if size == blob.size => Ok(Box::new(part)),
            size => Err(wrong(
                path,
                format!("it has {size} bytes where its manifest says {}", blob.size),
            )
            .into()),
        }
    }
}
