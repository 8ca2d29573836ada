//! One image in all its forms.

use std::fs;
use std::io::Write;
use std::path::Path;

use ringfence::image::Platform;

use crate::archive::{Archive, Header};
use crate::registry::{
    DOCKER_CONFIG, DOCKER_MANIFEST, Layer, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, config, digest, manifest,
};

/// An image in memory.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) layers: Vec<Layer>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl Made {
    pub(crate) fn new(layers: &[Layer], settings: &str) -> Made {
        let config = config(&Platform::host().architecture, layers, settings);
        // Other tools take no layer of Docker's type in a manifest of OCI's.
        let of_oci = |layer: &Layer| Layer {
            media_type: match layer.blob[..2] {
                [0x1f, 0x8b] => format!("{OCI_LAYER}+gzip"),
                _ => layer.media_type.clone(),
            },
            ..layer.clone()
        };
        let layers: Vec<Layer> = layers.iter().map(of_oci).collect();
        Made {
            manifest: manifest(OCI_MANIFEST, OCI_CONFIG, &config, &layers),
            layers,
            config,
        }
    }

    /// The digest of its manifest.
    pub(crate) fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// The files of an OCI layout, in which the image is called `v1`.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let blob = |bytes: &[u8]| (format!("blobs/sha256/{}", &digest(bytes)[7..]), bytes.to_vec());
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"v1"}}}}]}}"#,
            self.digest(),
            self.manifest.len()
        );
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            ("index.json".to_owned(), index.into_bytes()),
            blob(&self.config),
            blob(&self.manifest),
        ];
        files.extend(self.layers.iter().map(|layer| blob(&layer.blob)));
        files
    }

    pub(crate) fn write_layout(&self, folder: &Path) {
        for (name, bytes) in self.files() {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// The layers without compression, as `docker save` has them.
    fn plain(&self) -> Vec<Layer> {
        let plain = |layer: &Layer| {
            let mut bytes = Vec::new();
            let mut from: Box<dyn std::io::Read> = match &layer.blob[..2] {
                [0x1f, 0x8b] => Box::new(flate2::read::MultiGzDecoder::new(&layer.blob[..])),
                [0x28, 0xb5] => Box::new(zstd::stream::read::Decoder::new(&layer.blob[..]).unwrap()),
                _ => Box::new(&layer.blob[..]),
            };
            from.read_to_end(&mut bytes).unwrap();
            Layer {
                media_type: "application/vnd.docker.image.rootfs.diff.tar".to_owned(),
                blob: bytes,
                diff_id: layer.diff_id.clone(),
            }
        };
        self.layers.iter().map(plain).collect()
    }

    /// The digest of the manifest that is made of `docker save`'s archive: what a push of its plain layers would have.
    pub(crate) fn saved_digest(&self) -> String {
        let text = manifest(DOCKER_MANIFEST, DOCKER_CONFIG, &self.config, &self.plain());
        let text = String::from_utf8(text).unwrap();
        // Descriptors as Docker orders their fields.
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let field = |value: &serde_json::Value| {
            format!(
                r#"{{"mediaType":{},"size":{},"digest":{}}}"#,
                value["mediaType"], value["size"], value["digest"]
            )
        };
        let layers: Vec<String> = value["layers"].as_array().unwrap().iter().map(field).collect();
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{},"layers":[{}]}}"#,
            field(&value["config"]),
            layers.join(",")
        );
        digest(text.as_bytes())
    }

    /// An archive as `docker save` wrote it for years: a layer that comes twice is a link the second time.
    pub(crate) fn saved(&self) -> Vec<u8> {
        let mut archive = Archive::new();
        let mut names = Vec::new();
        let mut seen: Vec<(String, String)> = Vec::new();
        for (number, layer) in self.plain().into_iter().enumerate() {
            let folder = format!("{number:064}");
            let name = format!("{folder}/layer.tar");
            archive = archive.dir(&folder);
            archive = match seen.iter().find(|(diff_id, _)| *diff_id == layer.diff_id) {
                Some((_, first)) => archive.symlink(&name, &format!("../{first}")),
                None => file(archive, &name, &layer.blob),
            };
            seen.push((layer.diff_id, name.clone()));
            names.push(format!("\"{name}\""));
        }
        let config = format!("{}.json", &digest(&self.config)[7..]);
        let text = format!(
            r#"[{{"Config":"{config}","RepoTags":["some/image:v1"],"Layers":[{}]}}]"#,
            names.join(",")
        );
        let archive = file(archive, &config, &self.config);
        file(archive, "manifest.json", text.as_bytes()).end()
    }

    /// An archive of the layout.
    pub(crate) fn archived(&self) -> Vec<u8> {
        let files = self.files().into_iter();
        files
            .fold(Archive::new(), |archive, (name, bytes)| {
                file(archive, &format!("./{name}"), &bytes)
            })
            .end()
    }

    /// Everything: `layout`, `layout.tar`, `layout.tar.gz`, `saved.tar`, `saved.tar.zst`.
    pub(crate) fn write_all(&self, folder: &Path) {
        self.write_layout(&folder.join("layout"));
        let (archived, saved) = (self.archived(), self.saved());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archived).unwrap();
        for (name, bytes) in [
            ("layout.tar.gz", gzip.finish().unwrap()),
            ("saved.tar.zst", zstd::encode_all(&saved[..], 1).unwrap()),
            ("layout.tar", archived),
            ("saved.tar", saved),
        ] {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
}

fn file(archive: Archive, name: &str, content: &[u8]) -> Archive {
    let header = Header {
        name: name.as_bytes(),
        ..Header::default()
    };
    archive.entry(header, content)
}
