//! An archive that is an OCI layout and one of `docker save` at once, as Docker writes it since version 25.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::json;

use super::{Origins, Target, Whole, beside, blob};
use crate::image::Reference;
use crate::image::local::cause;

struct Tar(tar::Builder<BufWriter<File>>);

impl Tar {
    /// Folders that are not named in an archive belong to root when skopeo makes them: it fails for anyone else.
    fn folders(&mut self, names: &[&str]) -> io::Result<()> {
        for name in names {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_path(name)?;
            header.set_size(0);
            header.set_mode(0o755);
            header.set_mtime(0);
            header.set_cksum();
            self.0.append(&header, io::empty())?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        let mut counted = content.take(size);
        self.0.append(&header, &mut counted)?;
        match counted.limit() {
            0 => Ok(()),
            left => Err(io::Error::other(format!("{left} of {size} bytes did not come"))),
        }
    }
}

impl Target for Tar {
    fn put(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let start = self.0.get_mut().stream_position()?;
        let put = self.file(name, size, content);
        if put.is_err() {
            // Another place may have the content: of this one nothing stays.
            let archive = self.0.get_mut();
            archive.seek(SeekFrom::Start(start))?;
            archive.get_mut().set_len(start)?;
        }
        put
    }
}

/// Writes an archive beside its name first, then puts it in the place of whatever was there.
pub(super) fn write(
    path: &Path,
    names: &[String],
    whole: &Whole,
    origins: &Origins<'_>,
) -> Result<(), String> {
    let in_path = |error: io::Error| format!("{}: {}", path.display(), cause(&error));
    let beside = beside(path);
    let written = File::create(&beside).map_err(in_path).and_then(|file| {
        let mut tar = Tar(tar::Builder::new(BufWriter::new(file)));
        tar.folders(&["blobs/", "blobs/sha256/"]).map_err(in_path)?;
        fill(&mut tar, names, whole, origins).map_err(|reason| format!("{}: {reason}", path.display()))?;
        let file = tar
            .0
            .into_inner()
            .and_then(|buffer| buffer.into_inner().map_err(io::Error::from));
        file.and_then(|file| file.sync_all()).map_err(in_path)
    });
    let placed = written.and_then(|()| fs::rename(&beside, path).map_err(in_path));
    if placed.is_err() {
        // A part of it is of no use; the error is what counts.
        fs::remove_file(&beside).ok();
    }
    placed
}

fn fill(tar: &mut impl Target, names: &[String], whole: &Whole, origins: &Origins<'_>) -> Result<(), String> {
    let references: Vec<Reference> = names
        .iter()
        .filter_map(|name| Reference::parse(name).ok())
        .collect();
    let tags: Vec<String> = references
        .iter()
        .filter(|name| name.digest().is_none())
        .map(familiar)
        .collect();
    let layers: Vec<String> = whole
        .parsed
        .layers
        .iter()
        .map(|(layer, _)| blob(layer.digest))
        .collect();
    let index = super::layout::with(json!({"schemaVersion": 2, "manifests": []}), None, whole);
    let docker = json!([{"Config": blob(whole.parsed.config.digest), "RepoTags": tags, "Layers": layers}]);
    for (name, text) in [
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string()),
        ("index.json", index.unwrap_or_default().to_string()),
        ("manifest.json", docker.to_string()),
    ] {
        tar.put(name, text.len() as u64, &mut text.as_bytes())
            .map_err(|error| cause(&error))?;
    }
    whole.put(tar, origins)
}

/// `busybox:latest`, as Docker calls `docker.io/library/busybox:latest`.
fn familiar(name: &Reference) -> String {
    let text = name.to_string();
    let text = text.strip_prefix("docker.io/").unwrap_or(&text);
    text.strip_prefix("library/").unwrap_or(text).to_owned()
}
