//! An OCI layout in a folder, new or with other images in it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Origins, Target, Whole};
use crate::image::local::cause;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Files of a folder. Each is written beside its name first.
struct Folder(PathBuf);

impl Target for Folder {
    fn put(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let path = self.0.join(name);
        let beside = path.with_extension(format!("{}.part", std::process::id()));
        let written = File::create(&beside).and_then(|mut file| match io::copy(content, &mut file)? {
            copied if copied == size => file.sync_all(),
            copied => Err(io::Error::other(format!(
                "{copied} bytes came where {size} were to come"
            ))),
        });
        let placed = written.and_then(|()| fs::rename(&beside, &path));
        if placed.is_err() {
            // A part of it is of no use; the error is what counts.
            fs::remove_file(&beside).ok();
        }
        placed
    }
}

/// Adds an image to the layout at `path`, in the place of one with the same name.
pub(super) fn write(
    path: &Path,
    tag: Option<&str>,
    whole: &Whole,
    origins: &Origins<'_>,
) -> Result<(), String> {
    let in_path = |error: io::Error| format!("{}: {}", path.display(), cause(&error));
    let was_there = path.exists();
    fs::create_dir_all(path).map_err(in_path)?;
    let is_new = fs::read_dir(path).map_err(in_path)?.next().is_none();
    if !is_new && !path.join("oci-layout").is_file() {
        return Err(format!("{}: it is no OCI layout, and not empty", path.display()));
    }
    let added = add(path, is_new, tag, whole, origins);
    if added.is_err() && is_new && !was_there {
        // A part of it is of no use; the error is what counts.
        fs::remove_dir_all(path).ok();
    }
    added
}

fn add(
    path: &Path,
    is_new: bool,
    tag: Option<&str>,
    whole: &Whole,
    origins: &Origins<'_>,
) -> Result<(), String> {
    let in_path = |error: io::Error| format!("{}: {}", path.display(), cause(&error));
    fs::create_dir_all(path.join("blobs/sha256")).map_err(in_path)?;
    let mut folder = Folder(path.to_owned());
    let mut put = |name: &str, text: String| {
        let size = text.len() as u64;
        folder.put(name, size, &mut text.as_bytes()).map_err(in_path)
    };
    if is_new {
        put(
            "index.json",
            json!({"schemaVersion": 2, "manifests": []}).to_string(),
        )?;
        put("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    }
    let text = fs::read(path.join("index.json")).map_err(in_path)?;
    let index =
        serde_json::from_slice(&text).map_err(|error| format!("{}: index.json: {error}", path.display()))?;
    let index =
        with(index, tag, whole).ok_or_else(|| format!("{}: index.json: it is no index", path.display()))?;
    let filled = whole.put(&mut Folder(path.to_owned()), origins);
    filled.map_err(|reason| format!("{}: {reason}", path.display()))?;
    // The index last: until it names the image, the layout is what it was.
    put("index.json", index.to_string())
}

/// The index with the image under its name, all else as it was.
pub(super) fn with(mut index: Value, tag: Option<&str>, whole: &Whole) -> Option<Value> {
    let entries = index.get_mut("manifests")?.as_array_mut()?;
    entries.retain(|entry| entry["annotations"][REF_NAME].as_str() != tag);
    let mut entry = json!({
        "mediaType": whole.media_type(),
        "digest": whole.image.digest,
        "size": whole.manifest.len(),
    });
    if let Some(tag) = tag {
        entry["annotations"] = json!({ REF_NAME: tag });
    }
    entries.push(entry);
    Some(index)
}
