//! The files of a tar archive, found by one reading of its headers; a compressed one is unpacked beside the store first.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::super::manifest::Compression;
use super::super::stream::{Bounded, decompress};
use super::super::unpack::LIMITS;
use super::files::{Files, Part};
use super::{LocalError, cause, wrong};

/// The most entries of an archive: an image of 500 layers has some thousand.
const MOST_ENTRIES: usize = 100_000;
/// Headers and contents begin at multiples of so many bytes (tar(5)).
const BLOCK: u64 = 512;
/// Links that are followed from one entry to the next.
const MOST_LINKS: usize = 8;

/// An archive and what it holds.
pub(super) struct Tarball {
    file: Arc<File>,
    entries: HashMap<String, Entry>,
}

enum Entry {
    /// Its first byte, and its size.
    File(u64, u64),
    /// Another entry, by its name. `docker save` has a layer once, and links where it comes again.
    Link(String),
}

impl Tarball {
    pub(super) fn open(path: &Path, spool: &Path) -> Result<Tarball, LocalError> {
        let failed = |error: io::Error| wrong(path.display().to_string(), cause(&error));
        let mut file = File::open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(wrong(path.display().to_string(), "it is not a regular file"));
        }
        let compression = sniff(&mut file).map_err(failed)?;
        if compression != Compression::None {
            file = plain(file, compression, spool).map_err(failed)?;
        }
        let entries = index(&file).map_err(|reason| wrong(path.display().to_string(), reason))?;
        Ok(Tarball {
            file: Arc::new(file),
            entries,
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }
}

impl Files for Tarball {
    fn open(&self, name: &str) -> Result<Option<Part>, LocalError> {
        let mut at = name;
        for _ in 0..MOST_LINKS {
            match self.entries.get(at) {
                None => return Ok(None),
                Some(Entry::File(start, size)) => {
                    return Ok(Some(Part::new(Arc::clone(&self.file), *start, *size)));
                }
                Some(Entry::Link(target)) => at = target,
            }
        }
        Err(wrong(name, "its links lead in a circle"))
    }
}

/// How a file is compressed, by its first bytes. The file is then at its beginning again.
pub(super) fn sniff(file: &mut (impl Read + Seek)) -> io::Result<Compression> {
    let mut first = Vec::new();
    file.by_ref().take(4).read_to_end(&mut first)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(compression(&first))
}

/// How a content that begins so is compressed (RFC 1952 2.3.1, RFC 8878 3.1.1).
pub(super) fn compression(first: &[u8]) -> Compression {
    match first {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Decompresses into a file without a name: what is asked for later may stand anywhere.
fn plain(file: File, compression: Compression, spool: &Path) -> io::Result<File> {
    let size = file.metadata()?.len();
    let mut plain = without_name(spool)?;
    let mut from = Bounded::new(decompress(BufReader::new(file), compression)?, size, &LIMITS);
    io::copy(&mut from, &mut plain)?;
    plain.seek(SeekFrom::Start(0))?;
    Ok(plain)
}

/// A file that is gone when it is closed.
pub(super) fn without_name(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_TMPFILE)
        .mode(0o600)
        .open(folder)
}

/// Reads all headers. Only short names are of interest, so those of extension headers are not looked at.
fn index(file: &File) -> Result<HashMap<String, Entry>, String> {
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let (mut found, mut end) = (HashMap::new(), 0);
    let damaged = |error: io::Error| match found_nothing(&error) {
        true => "it is not a tar archive".to_owned(),
        false => format!(
            "its archive is damaged: {}",
            super::super::printable(&error.to_string(), 200)
        ),
    };
    for (count, entry) in archive
        .entries_with_seek()
        .map_err(damaged)?
        .raw(true)
        .enumerate()
    {
        let entry = entry.map_err(damaged)?;
        if count >= MOST_ENTRIES {
            return Err(format!("it has more than {MOST_ENTRIES} entries"));
        }
        let content = entry.raw_file_position();
        let padded = entry.size().checked_next_multiple_of(BLOCK);
        end = padded
            .and_then(|padded| content.checked_add(padded))
            .unwrap_or(u64::MAX);
        let Ok(name) = std::str::from_utf8(&entry.path_bytes()).map(clean) else {
            continue;
        };
        let value = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => Entry::File(content, entry.size()),
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let is_symlink = entry.header().entry_type() == tar::EntryType::Symlink;
                let target = entry.link_name_bytes().unwrap_or_default();
                match std::str::from_utf8(&target)
                    .ok()
                    .and_then(|target| resolve(&name, target, is_symlink))
                {
                    Some(target) => Entry::Link(target),
                    None => continue,
                }
            }
            _ => continue,
        };
        // Of two entries with one name two readers could take two.
        if found.insert(name.clone(), value).is_some() {
            return Err(format!(
                "it has two entries `{}`",
                super::super::printable(&name, 100)
            ));
        }
    }
    // A whole archive ends with blocks of zeros; the tar crate takes the end of the file for them.
    match end.checked_add(BLOCK).is_some_and(|end| end <= size) {
        true => Ok(found),
        false => Err("its archive breaks off".to_owned()),
    }
}

/// What the tar crate says of a first block that is no header.
fn found_nothing(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("cksum") || text.contains("numeric field")
}

/// `./a` is `a`.
fn clean(name: &str) -> String {
    name.trim_start_matches("./").to_owned()
}

/// The entry that a link at `name` leads to; none outside of the archive.
fn resolve(name: &str, target: &str, is_symlink: bool) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let folder = match is_symlink {
        true => name.rsplit_once('/').map_or("", |(folder, _)| folder),
        false => "",
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
