//! Manifests and indexes: what a registry says an image consists of, checked before anything is fetched.

use serde::Deserialize;

use super::digest::Digest;
use super::platform::Platform;

/// The largest manifest or index, in bytes (distribution specification: registries must take 4 MiB).
pub(crate) const LARGEST_MANIFEST: u64 = 4 << 20;
/// The largest configuration file, in bytes.
pub(crate) const LARGEST_CONFIG: u64 = 8 << 20;
/// The most layers of an image: as many as can be mounted, 500.
pub(crate) const MOST_LAYERS: usize = crate::sys::mount::MOST_LOWER;
/// The largest compressed layer, in bytes.
const LARGEST_LAYER: u64 = 64 << 30;

/// What is asked for in `Accept`.
pub(crate) const ACCEPTED: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// A manifest or an index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// Images for several platforms.
    Index(Vec<Offer>),
    /// One image.
    Image(ImageManifest),
}

/// One image of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) platform: Platform,
    pub(crate) manifest: Blob,
}

/// One image: its configuration and its layers, lowest first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImageManifest {
    pub(crate) config: Blob,
    pub(crate) layers: Vec<(Blob, Compression)>,
}

/// A content by its digest and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
}

/// How a layer is compressed, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Why a document is not used; a fragment that follows the image's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the manifest is not valid: {0}")]
    Malformed(String),
    #[error("the manifest is {said} in itself and {sent} in its transfer")]
    TwoTypes { said: String, sent: String },
    #[error("the manifest can be read as an image and as an index")]
    Ambiguous,
    #[error("it is not a container image but {0}")]
    NotAnImage(String),
    #[error("the image has {0} layers, at most {MOST_LAYERS} can be mounted")]
    TooManyLayers(usize),
    #[error("the manifest gives {0} a size of {1} bytes")]
    Size(Digest, u64),
    #[error("there is no image for {wanted}; it offers {offered}")]
    NoPlatform { wanted: Platform, offered: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// A descriptor. Its `urls` and annotations are not read: content comes from the registry, by digest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Document {
    /// Reads a manifest or an index. `sent` is the type that came with it (`Content-Type`), where one did.
    ///
    /// # Errors
    /// When it is malformed, means two things, or is something else than an image.
    pub(crate) fn parse(bytes: &[u8], sent: Option<&str>) -> Result<Document, ManifestError> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Malformed(super::printable(&error.to_string(), 200)))?;
        if raw.schema_version != 2 || raw.fs_layers.is_some() {
            return Err(ManifestError::NotAnImage(
                "a manifest of Docker's old schema 1".to_owned(),
            ));
        }
        // A document that is one thing to us and another to whoever checked it (CVE-2021-41190).
        if raw.manifests.is_some() && (raw.layers.is_some() || raw.config.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        let sent = sent.map(|sent| sent.split(';').next().unwrap_or_default().trim());
        if let (Some(said), Some(sent)) = (raw.media_type.as_deref(), sent)
            && ACCEPTED.contains(&sent)
            && said != sent
        {
            return Err(ManifestError::TwoTypes {
                said: super::printable(said, 100),
                sent: super::printable(sent, 100),
            });
        }
        let is_index = raw.manifests.is_some();
        if let Some(kind) = raw
            .media_type
            .as_deref()
            .or(sent.filter(|sent| ACCEPTED.contains(sent)))
        {
            let known = match kind {
                OCI_INDEX | DOCKER_LIST => is_index,
                OCI_MANIFEST | DOCKER_MANIFEST => !is_index,
                other => return Err(ManifestError::NotAnImage(super::printable(other, 100))),
            };
            if !known {
                return Err(ManifestError::Ambiguous);
            }
        }
        match raw {
            Raw {
                manifests: Some(manifests),
                ..
            } => index(manifests),
            Raw {
                config: Some(config),
                layers: Some(layers),
                artifact_type,
                ..
            } => image(config, layers, artifact_type),
            _ => Err(ManifestError::Malformed(
                "it has neither layers nor manifests".to_owned(),
            )),
        }
    }
}

fn index(manifests: Vec<RawDescriptor>) -> Result<Document, ManifestError> {
    let mut offers = Vec::new();
    for entry in manifests {
        // What is neither a manifest nor made for a platform (attestations say `unknown`) is no offer.
        let Some(platform) = entry.platform.as_ref() else {
            continue;
        };
        if !matches!(entry.media_type.as_str(), OCI_MANIFEST | DOCKER_MANIFEST) || platform.os == "unknown" {
            continue;
        }
        let platform = Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
        };
        offers.push(Offer {
            platform,
            manifest: entry.blob(LARGEST_MANIFEST)?,
        });
    }
    Ok(Document::Index(offers))
}

fn image(
    config: RawDescriptor,
    layers: Vec<RawDescriptor>,
    artifact_type: Option<String>,
) -> Result<Document, ManifestError> {
    if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
        return Err(ManifestError::NotAnImage(artifact(
            artifact_type.as_deref().unwrap_or(&config.media_type),
        )));
    }
    if layers.len() > MOST_LAYERS {
        return Err(ManifestError::TooManyLayers(layers.len()));
    }
    let layers = layers
        .into_iter()
        .map(|layer| Ok((layer.blob(LARGEST_LAYER)?, compression(&layer.media_type)?)))
        .collect::<Result<_, ManifestError>>()?;
    Ok(Document::Image(ImageManifest {
        config: config.blob(LARGEST_CONFIG)?,
        layers,
    }))
}

fn artifact(kind: &str) -> String {
    let name = match kind {
        "application/vnd.cncf.helm.config.v1+json" => "a Helm chart",
        "application/vnd.oci.empty.v1+json" => "an artifact without a type",
        _ if kind.starts_with("application/vnd.docker.plugin") => "a Docker plugin",
        _ if kind.starts_with("application/vnd.wasm") => "a WebAssembly module",
        _ => return format!("an artifact ({})", super::printable(kind, 100)),
    };
    format!("{name} ({kind})")
}

fn compression(media_type: &str) -> Result<Compression, ManifestError> {
    let refused = |what: &str| {
        ManifestError::NotAnImage(format!("one with {what} ({})", super::printable(media_type, 100)))
    };
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        _ if media_type.ends_with("+encrypted") => Err(refused("encrypted layers")),
        _ if media_type.contains("foreign") => Err(refused("layers that its registry does not hold")),
        _ => Err(refused("a part that is not a layer")),
    }
}

impl RawDescriptor {
    fn blob(&self, largest: u64) -> Result<Blob, ManifestError> {
        let digest = self
            .digest
            .parse()
            .map_err(|error: super::DigestError| ManifestError::Malformed(error.to_string()))?;
        if self.size == 0 || self.size > largest {
            return Err(ManifestError::Size(digest, self.size));
        }
        Ok(Blob {
            digest,
            size: self.size,
        })
    }
}

/// The image of an index that suits a platform best; of two that suit it equally, the first.
///
/// # Errors
/// When none does: the text lists what there is.
pub(crate) fn choose<'a>(offers: &'a [Offer], wanted: &Platform) -> Result<&'a Offer, ManifestError> {
    let mut best: Option<(&Offer, u32)> = None;
    for offer in offers {
        if let Some(rank) = wanted.suits(&offer.platform)
            && best.is_none_or(|(_, other)| rank > other)
        {
            best = Some((offer, rank));
        }
    }
    best.map(|(offer, _)| offer)
        .ok_or_else(|| ManifestError::NoPlatform {
            wanted: wanted.clone(),
            offered: listed(offers),
        })
}

fn listed(offers: &[Offer]) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<String> = offers.iter().map(|offer| offer.platform.to_string()).collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 => "none".to_owned(),
        more if more > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), more - SHOWN),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, platform: &str) -> String {
        format!(
            r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":7{platform}}}"#,
            "ab".repeat(32)
        )
    }

    fn manifest(config: &str, layer: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            descriptor(config, ""),
            descriptor(layer, "")
        )
    }

    fn refusal(text: &str, sent: Option<&str>) -> String {
        Document::parse(text.as_bytes(), sent).unwrap_err().to_string()
    }

    #[test]
    fn both_families_of_media_types_are_images() {
        for (config, layer, want) in [
            (
                OCI_CONFIG,
                "application/vnd.oci.image.layer.v1.tar+zstd",
                Compression::Zstd,
            ),
            (
                OCI_CONFIG,
                "application/vnd.oci.image.layer.v1.tar",
                Compression::None,
            ),
            (
                DOCKER_CONFIG,
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                Compression::Gzip,
            ),
        ] {
            let Document::Image(image) = Document::parse(manifest(config, layer).as_bytes(), None).unwrap()
            else {
                panic!("an index")
            };
            assert_eq!(image.layers[0].1, want);
        }
    }

    #[test]
    fn the_best_platform_is_chosen_and_attestations_are_no_platform() {
        let entry = |os: &str, arch: &str, variant: &str| {
            let platform = format!(
                r#","platform":{{"os":"{os}","architecture":"{arch}","variant":"{variant}","os.version":"10"}}"#
            );
            descriptor(OCI_MANIFEST, &platform)
        };
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{},{},{},{}]}}"#,
            entry("linux", "arm", "v6"),
            entry("linux", "arm", "v7"),
            entry("linux", "s390x", ""),
            entry("unknown", "unknown", "")
        );
        let Document::Index(offers) = Document::parse(text.as_bytes(), Some(OCI_INDEX)).unwrap() else {
            panic!("an image")
        };
        let host = |architecture: &str, variant: &str| Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        };
        assert_eq!(
            choose(&offers, &host("arm", "v7")).unwrap().platform,
            host("arm", "v7")
        );
        assert_eq!(
            choose(&offers, &host("amd64", "")).unwrap_err().to_string(),
            "there is no image for linux/amd64; it offers linux/arm/v6, linux/arm/v7, linux/s390x"
        );
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        assert_eq!(
            refusal(&manifest("application/vnd.cncf.helm.config.v1+json", "x"), None),
            "it is not a container image but a Helm chart (application/vnd.cncf.helm.config.v1+json)"
        );
        assert_eq!(
            refusal(
                &manifest(
                    OCI_CONFIG,
                    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
                ),
                None
            ),
            "it is not a container image but one with encrypted layers (application/vnd.oci.image.layer.v1.tar+gzip+encrypted)"
        );
        assert_eq!(
            refusal(r#"{"schemaVersion":1,"fsLayers":[]}"#, None),
            "it is not a container image but a manifest of Docker's old schema 1"
        );
    }

    #[test]
    fn a_document_with_two_readings_is_refused() {
        let both = format!(
            r#"{{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}}"#,
            descriptor(OCI_CONFIG, "")
        );
        assert_eq!(
            refusal(&both, None),
            "the manifest can be read as an image and as an index"
        );
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert_eq!(
            refusal(index, Some(OCI_MANIFEST)),
            "the manifest can be read as an image and as an index"
        );
        let typed = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        assert_eq!(
            refusal(&typed, Some(OCI_MANIFEST)),
            format!("the manifest is {OCI_INDEX} in itself and {OCI_MANIFEST} in its transfer")
        );
        let twice = r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#;
        assert!(refusal(twice, None).starts_with("the manifest is not valid: duplicate field"));
    }

    #[test]
    fn hostile_descriptors_are_refused() {
        let good = manifest(OCI_CONFIG, "application/vnd.oci.image.layer.v1.tar");
        for (from, to) in [
            ("\"size\":7", "\"size\":0"),
            ("\"size\":7", "\"size\":-1"),
            ("\"size\":7", "\"size\":9223372036854775808"),
            ("\"size\":7", "\"size\":7.5"),
            ("sha256:ab", "sha512:ab"),
            ("sha256:ab", "sha256:../"),
        ] {
            assert!(
                Document::parse(good.replace(from, to).as_bytes(), None).is_err(),
                "{to} was taken"
            );
        }
        assert!(Document::parse("[".repeat(1_000_000).as_bytes(), None).is_err());
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar", "");
        let many = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
            descriptor(OCI_CONFIG, ""),
            vec![layer; 501].join(",")
        );
        assert_eq!(
            refusal(&many, None),
            "the image has 501 layers, at most 500 can be mounted"
        );
    }
}
