//! A folder that is a root file system, as an image of one layer: always the same for the same files, so that it can be
//! named by its digest.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;
use nix::unistd::{getegid, geteuid};
use serde_json::json;
use tar::{EntryType, Header, HeaderMode};

use super::super::digest::{Digest, Hashed};
use super::super::manifest::Blob;
use super::super::origin::{Fetched, Origin, OriginError};
use super::super::platform::Platform;
use super::files::Part;
use super::tarball::without_name;
use super::{LocalError, cause, wrong};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image made of a folder.
pub(super) struct RootFolder {
    config: Vec<u8>,
    manifest: Vec<u8>,
    layer: Arc<File>,
    size: u64,
}

impl RootFolder {
    /// Packs the folder into a file without a name below `spool`.
    pub(super) fn open(
        path: &Path,
        spool: &Path,
        platform: &Platform,
    ) -> Result<(RootFolder, Fetched), LocalError> {
        let in_path = |error: io::Error| wrong(path.display().to_string(), cause(&error));
        let file = without_name(spool).map_err(in_path)?;
        let mut packing = Packing {
            archive: tar::Builder::new(BufWriter::new(file)),
            root: path,
            names: HashMap::new(),
        };
        packing.folder(Path::new(""))?;
        let written = packing.archive.into_inner();
        let file = written.and_then(|buffer| buffer.into_inner().map_err(io::Error::from));
        let file = Arc::new(file.map_err(in_path)?);
        let size = file.metadata().map_err(in_path)?.len();
        let mut hashed = Hashed::new(Part::new(Arc::clone(&file), 0, size));
        io::copy(&mut hashed, &mut io::sink()).map_err(in_path)?;
        let (layer, _) = hashed.finish();
        let mut config = json!({
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": [layer] },
        });
        if !platform.variant.is_empty() {
            config["variant"] = json!(platform.variant);
        }
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": Digest::of(&config), "size": config.len() },
            "layers": [{ "mediaType": LAYER, "digest": layer, "size": size }],
        });
        let image = RootFolder {
            config,
            manifest: manifest.to_string().into_bytes(),
            layer: file,
            size,
        };
        let top = image.top();
        Ok((image, top))
    }

    fn top(&self) -> Fetched {
        Fetched {
            digest: Digest::of(&self.manifest),
            bytes: self.manifest.clone(),
            media_type: Some(MANIFEST.to_owned()),
        }
    }
}

impl Origin for RootFolder {
    fn document(&self, digest: Digest) -> Result<Fetched, OriginError> {
        match self.top() {
            top if top.digest == digest => Ok(top),
            top => Err(LocalError::Which(format!("its image is {}, not {digest}", top.digest)).into()),
        }
    }

    fn config(&self, _: Blob) -> Result<Vec<u8>, OriginError> {
        Ok(self.config.clone())
    }

    fn layer(&self, _: Blob) -> Result<Box<dyn Read + Send + '_>, OriginError> {
        Ok(Box::new(Part::new(Arc::clone(&self.layer), 0, self.size)))
    }
}

/// A folder on its way into an archive.
struct Packing<'a, W: Write> {
    archive: tar::Builder<W>,
    root: &'a Path,
    /// The first name of each file that has several, by device and inode.
    names: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packing<'_, W> {
    /// Packs what is in a folder, in the order of names.
    fn folder(&mut self, folder: &Path) -> Result<(), LocalError> {
        let in_folder = |error: io::Error| wrong(self.root.join(folder).display().to_string(), cause(&error));
        let entries = fs::read_dir(self.root.join(folder)).map_err(in_folder)?;
        let mut names = entries
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(in_folder)?;
        names.sort();
        for name in names {
            let path = folder.join(&name);
            let at = self.root.join(&path);
            if name.as_encoded_bytes().starts_with(b".wh.") {
                let reason = "its name begins with `.wh.`, which hides a file in an image";
                return Err(wrong(at.display().to_string(), reason));
            }
            let seen =
                fs::symlink_metadata(&at).and_then(|seen| self.entry(&path, &at, &seen).map(|()| seen));
            if seen
                .map_err(|error| wrong(at.display().to_string(), cause(&error)))?
                .is_dir()
            {
                self.folder(&path)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, at: &Path, seen: &Metadata) -> io::Result<()> {
        let mut header = header(seen);
        let kind = seen.file_type();
        if seen.is_file() && seen.nlink() > 1 {
            let first = self
                .names
                .entry((seen.dev(), seen.ino()))
                .or_insert_with(|| path.to_owned());
            if first != path {
                header.set_entry_type(EntryType::Link);
                header.set_size(0);
                return self.archive.append_link(&mut header, path, &*first);
            }
        }
        if seen.is_symlink() {
            self.archive.append_link(&mut header, path, fs::read_link(at)?)
        } else if seen.is_file() {
            // Opened as what was seen: what has become a link or a pipe meanwhile is neither followed nor waited for.
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(at)?;
            let mut content = file.take(seen.len());
            self.archive.append_data(&mut header, path, &mut content)?;
            match content.limit() {
                0 => Ok(()),
                _ => Err(io::Error::other("it became shorter while it was read")),
            }
        } else if kind.is_socket() {
            // It leads to a process, and would to none in an image.
            Ok(())
        } else {
            self.archive.append_data(&mut header, path, io::empty())
        }
    }
}

/// What is the caller's is root's in the image, as it is for a job that runs on the folder.
fn header(seen: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(seen, HeaderMode::Complete);
    let own = |id: u32, own: u32| u64::from(if id == own { 0 } else { id });
    header.set_uid(own(seen.uid(), geteuid().as_raw()));
    header.set_gid(own(seen.gid(), getegid().as_raw()));
    if !seen.is_file() {
        header.set_size(0);
    }
    header
}
