//! What an image is made of, before any of its layers is fetched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::{ConfigFile, ImageConfig};
use super::layer::Wanted;
use super::manifest::{Document, ImageManifest, ManifestError};
use super::origin::{Fetched, Origin, OriginError};
use super::platform::Platform;
use super::{Digest, Layer};

/// What a reference means: an image for each platform. Nothing of it is unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The digest of the index or, where there is none, of the one manifest.
    pub index: Digest,
    /// The images for Linux, by platform.
    pub images: Vec<ResolvedImage>,
}

/// One image of [`Resolved`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// What it runs on.
    pub platform: Platform,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The digest of its configuration.
    pub config: Digest,
    /// Its six settings.
    pub settings: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// Why an image cannot be described.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DescribeError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{0}")]
    Image(String),
    #[error("{platform}: {source}")]
    Platform {
        platform: Platform,
        source: Box<DescribeError>,
    },
}

/// A manifest with the configuration that belongs to it.
pub(crate) struct Described {
    pub(crate) config: ConfigFile,
    /// Its layers, lowest first.
    pub(crate) layers: Vec<Wanted>,
}

/// Holds an image's configuration against its manifest.
pub(crate) fn describe(config: &[u8], manifest: &ImageManifest) -> Result<Described, DescribeError> {
    let config = ConfigFile::parse(config)
        .map_err(|reason| DescribeError::Image(format!("the configuration {reason}")))?;
    if config.diff_ids.len() != manifest.layers.len() {
        return Err(DescribeError::Image(format!(
            "the manifest has {} layers, the configuration {}",
            manifest.layers.len(),
            config.diff_ids.len()
        )));
    }
    let layers = manifest
        .layers
        .iter()
        .zip(&config.diff_ids)
        .map(|((blob, compression), diff_id)| Wanted {
            blob: *blob,
            compression: *compression,
            diff_id: *diff_id,
        });
    Ok(Described {
        layers: layers.collect(),
        config,
    })
}

/// Describes the image for every platform of an index, or the one image that there is.
pub(crate) fn resolve(origin: &dyn Origin, top: &Fetched) -> Result<Resolved, DescribeError> {
    let mut images = BTreeMap::new();
    match Document::parse(&top.bytes, top.media_type.as_deref())? {
        Document::Image(manifest) => {
            let image = resolve_image(origin, top.digest, &manifest)?;
            images.insert(image.platform.clone(), image);
        }
        Document::Index(offers) => {
            for offer in offers {
                // Of two images for one platform the first counts, as it does for a pull. Others than Linux never run here.
                if offer.platform.os != "linux" || images.contains_key(&offer.platform) {
                    continue;
                }
                let in_platform = |source| DescribeError::Platform {
                    platform: offer.platform.clone(),
                    source: Box::new(source),
                };
                let image = resolve_offer(origin, offer.manifest.digest).map_err(in_platform)?;
                let platform = offer.platform.clone();
                images.insert(offer.platform, ResolvedImage { platform, ..image });
            }
        }
    }
    Ok(Resolved {
        index: top.digest,
        images: images.into_values().collect(),
    })
}

fn resolve_offer(origin: &dyn Origin, digest: Digest) -> Result<ResolvedImage, DescribeError> {
    let fetched = origin.document(digest)?;
    match Document::parse(&fetched.bytes, fetched.media_type.as_deref())? {
        Document::Image(manifest) => resolve_image(origin, digest, &manifest),
        Document::Index(_) => Err(DescribeError::Image(NESTED.to_owned())),
    }
}

/// What is said of an index below an index.
pub(crate) const NESTED: &str = "its index leads to another index";

fn resolve_image(
    origin: &dyn Origin,
    digest: Digest,
    manifest: &ImageManifest,
) -> Result<ResolvedImage, DescribeError> {
    let described = describe(&origin.config(manifest.config)?, manifest)?;
    Ok(ResolvedImage {
        platform: described.config.platform,
        manifest: digest,
        config: manifest.config.digest,
        settings: described.config.settings,
        layers: described.layers.iter().map(Layer::from).collect(),
    })
}

impl From<&Wanted> for Layer {
    fn from(wanted: &Wanted) -> Layer {
        Layer {
            digest: wanted.blob.digest,
            diff_id: wanted.diff_id,
            size: wanted.blob.size,
        }
    }
}
