//! Files by their names, wherever they stand.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::super::digest::Digest;
use super::{LocalError, cause, wrong};

/// Files that are found by name: `index.json`, `blobs/sha256/…`.
pub(super) trait Files: Sync {
    /// Opens a regular file; none when there is no such name.
    fn open(&self, name: &str) -> Result<Option<Part>, LocalError>;
}

/// A part of an open file. Parts of one file are read at the same time without disturbing each other.
pub(super) struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Part {
    /// The bytes from `at` on, `size` of them.
    pub(super) fn new(file: Arc<File>, at: u64, size: u64) -> Part {
        Part {
            file,
            at,
            end: at.saturating_add(size),
        }
    }

    /// Bytes that are left.
    pub(super) fn size(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.size()).map_or(buffer.len(), |left| left.min(buffer.len()));
        match self.file.read_at(&mut buffer[..most], self.at)? {
            0 if most > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.at += read as u64;
                Ok(read)
            }
        }
    }
}

/// A file that must be there.
pub(super) fn need(files: &dyn Files, name: &str) -> Result<Part, LocalError> {
    files
        .open(name)?
        .ok_or_else(|| wrong(name, "there is no such file"))
}

/// The whole of a small file.
pub(super) fn small(files: &dyn Files, name: &str, most: u64) -> Result<Vec<u8>, LocalError> {
    let part = need(files, name)?;
    if part.size() > most {
        return Err(wrong(name, format!("it is larger than {most} bytes")));
    }
    let mut bytes = Vec::new();
    { part }
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(name, cause(&error)))?;
    Ok(bytes)
}

/// The whole of a small file whose digest is known.
pub(super) fn verified(
    files: &dyn Files,
    name: &str,
    digest: Digest,
    most: u64,
) -> Result<Vec<u8>, LocalError> {
    let bytes = small(files, name, most)?;
    match Digest::of(&bytes) {
        found if found == digest => Ok(bytes),
        found => Err(wrong(
            name,
            format!("the content has the digest {found}, not {digest}"),
        )),
    }
}
