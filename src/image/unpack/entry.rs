//! The entries of a tar archive, with one strict reading: what two readers could read differently is refused.

use std::io::Read;

use nix::sys::time::TimeSpec;
use tar::{EntryType, Header};

use super::UnpackError;
use super::pax::Pax;

/// The most that is read of one extension record, in bytes.
const LARGEST_EXTENSION: u64 = 1 << 20;
/// The longest path that a system call takes (PATH_MAX less its NUL), and the longest name of one file (NAME_MAX).
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File { size: u64 },
    Directory,
    Symlink { target: Vec<u8> },
    HardLink { target: Path },
    Fifo,
    Device,
}

/// An entry with its extensions applied.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Path,
    pub(super) kind: Kind,
    /// Permission bits, set-id and sticky bits.
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: TimeSpec,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A path below the root, in its plain form: no empty part, no `.`, no `..`, no slash at either end. Empty is the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(Vec<u8>);

impl Path {
    /// Reads a path of an archive; an absolute one counts from the root too.
    pub(super) fn parse(bytes: &[u8]) -> Result<Path, String> {
        if bytes.is_empty() {
            return Err("it has no name".to_owned());
        }
        if bytes.contains(&0) {
            return Err("its name has a NUL byte".to_owned());
        }
        let mut path = Vec::with_capacity(bytes.len());
        for part in bytes.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err("its name leads up with `..`".to_owned()),
                _ if part.len() > LONGEST_NAME => {
                    return Err(format!("a part of its name is longer than {LONGEST_NAME} bytes"));
                }
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        match path.len() {
            length if length > LONGEST_PATH => Err(format!("its name is longer than {LONGEST_PATH} bytes")),
            _ => Ok(Path(path)),
        }
    }

    /// Folder and name; none for the root.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Some((&self.0[..slash], &self.0[slash + 1..])),
            None if self.0.is_empty() => None,
            None => Some((&[], &self.0)),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The extension records before an entry.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

/// Collects extension records until the entry that they belong to comes.
#[derive(Default)]
pub(super) struct Reader {
    pending: Extensions,
}

impl Reader {
    /// Takes one raw entry. None when it was an extension record of a later one.
    ///
    /// # Errors
    /// What is wrong with it, with its name as far as it is known.
    pub(super) fn take(&mut self, raw: &mut tar::Entry<'_, impl Read>) -> Result<Option<Entry>, UnpackError> {
        let kind = raw.header().entry_type();
        let shown = raw.header().path_bytes().into_owned();
        let refused = |reason: &str| UnpackError::entry(&shown, reason);
        let (slot, what) = match kind {
            EntryType::XHeader => {
                if self.pending.pax.is_some() {
                    return Err(refused("it has two PAX headers"));
                }
                let bytes = extension(raw)?;
                self.pending.pax =
                    Some(Pax::parse(&bytes).map_err(|reason| UnpackError::entry(b"", &reason))?);
                return Ok(None);
            }
            EntryType::XGlobalHeader => {
                // Git writes one with a comment. One that would change entries is read by some programs and not by others.
                let bytes = extension(raw)?;
                return match Pax::parse(&bytes) {
                    Ok(pax) if pax == Pax::default() => Ok(None),
                    Ok(_) => Err(UnpackError::entry(b"", "a global PAX header changes entries")),
                    Err(reason) => Err(UnpackError::entry(b"", &reason)),
                };
            }
            EntryType::GNULongName => (&mut self.pending.long_name, "names"),
            EntryType::GNULongLink => (&mut self.pending.long_link, "link names"),
            _ => {
                let extensions = std::mem::take(&mut self.pending);
                return entry(raw.header(), extensions).map(Some);
            }
        };
        if slot.is_some() {
            return Err(refused(&format!("it has two long {what}")));
        }
        let mut name = extension(raw)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        *slot = Some(name);
        Ok(None)
    }

    /// Whether records wait for an entry that has not come.
    pub(super) fn is_waiting(&self) -> bool {
        let Extensions {
            pax,
            long_name,
            long_link,
        } = &self.pending;
        pax.is_some() || long_name.is_some() || long_link.is_some()
    }
}

fn extension(raw: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    let size = raw.size();
    if size > LARGEST_EXTENSION {
        let reason = format!("an extension record of {size} bytes is larger than {LARGEST_EXTENSION}");
        return Err(UnpackError::entry(b"", &reason));
    }
    let mut bytes = Vec::new();
    raw.read_to_end(&mut bytes).map_err(UnpackError::Read)?;
    if bytes.len() as u64 != size {
        return Err(UnpackError::Truncated);
    }
    Ok(bytes)
}

fn entry(header: &Header, extensions: Extensions) -> Result<Entry, UnpackError> {
    let Extensions {
        pax,
        long_name,
        long_link,
    } = extensions;
    let pax = pax.unwrap_or_default();
    let short = header.path_bytes();
    let name = one(long_name.as_deref(), pax.path.as_deref()).map(|name| name.unwrap_or(&short));
    let shown = name.unwrap_or(&short).to_vec();
    let refused = |reason: String| UnpackError::entry(&shown, &reason);
    let number = |read: std::io::Result<u64>, what: &str| {
        read.map_err(|_| refused(format!("its {what} is malformed")))
    };
    let name = name.map_err(|()| refused("it has two names".to_owned()))?;
    let path = Path::parse(name).map_err(refused)?;
    let size = number(header.entry_size(), "size")?;
    // The size of the header is what every reader uses to find the next entry.
    if pax.size.is_some_and(|other| other != size) {
        return Err(refused("its size differs between its two headers".to_owned()));
    }
    let kind = match header.entry_type() {
        // Before POSIX a directory was a file whose name ends with a slash.
        EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File { size },
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char | EntryType::Block => Kind::Device,
        kind @ (EntryType::Symlink | EntryType::Link) => {
            let short = header.link_name_bytes().unwrap_or_default();
            let target = one(long_link.as_deref(), pax.link.as_deref())
                .map_err(|()| refused("it has two link names".to_owned()))?
                .unwrap_or(&short);
            match kind {
                EntryType::Symlink => {
                    if target.is_empty() || target.len() > LONGEST_PATH || target.contains(&0) {
                        return Err(refused("its target is not one of a symbolic link".to_owned()));
                    }
                    Kind::Symlink {
                        target: target.to_vec(),
                    }
                }
                _ => Kind::HardLink {
                    target: Path::parse(target)
                        .map_err(|reason| refused(format!("its link target: {reason}")))?,
                },
            }
        }
        EntryType::GNUSparse => {
            return Err(refused(
                "it is a sparse file, which layers may not hold".to_owned(),
            ));
        }
        other => {
            return Err(refused(format!(
                "it is of the unknown type {:?}",
                char::from(other.as_byte())
            )));
        }
    };
    if size != 0 && !matches!(kind, Kind::File { .. }) {
        return Err(refused("it has content though it is no file".to_owned()));
    }
    Ok(Entry {
        path,
        kind,
        mode: number(header.mode().map(u64::from), "mode")? as u32 & 0o7777,
        uid: pax.uid.map_or_else(|| number(header.uid(), "owner"), Ok)?,
        gid: pax.gid.map_or_else(|| number(header.gid(), "group"), Ok)?,
        mtime: pax.mtime.map_or_else(|| header_time(header, &refused), Ok)?,
        xattrs: pax.xattrs,
    })
}

fn header_time(header: &Header, refused: &impl Fn(String) -> UnpackError) -> Result<TimeSpec, UnpackError> {
    let mtime = header
        .mtime()
        .map_err(|_| refused("its time is malformed".to_owned()))?;
    // A negative base-256 number reads as one beyond any time.
    let mtime = if mtime > i64::MAX as u64 { 0 } else { mtime };
    Ok(TimeSpec::new(super::seconds(mtime), 0))
}

/// The one of two that is there; an error when both are and differ.
fn one<'a>(gnu: Option<&'a [u8]>, pax: Option<&'a [u8]>) -> Result<Option<&'a [u8]>, ()> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(()),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain_and_stay_below_the_root() {
        let plain = |text: &[u8]| Path::parse(text).map(|path| path.0);
        assert_eq!(plain(b"./a//b/./c/").unwrap(), b"a/b/c");
        assert_eq!(plain(b"/etc/passwd").unwrap(), b"etc/passwd");
        assert_eq!(plain(b"./").unwrap(), b"");
        assert_eq!(plain(b"a\xff/b").unwrap(), b"a\xff/b");
        assert_eq!(plain(b"..").unwrap_err(), "its name leads up with `..`");
        assert_eq!(plain(b"a/../b").unwrap_err(), "its name leads up with `..`");
        assert_eq!(plain(b"").unwrap_err(), "it has no name");
        assert_eq!(plain(b"a\0b").unwrap_err(), "its name has a NUL byte");
        assert_eq!(
            plain(&[b'a'; 256]).unwrap_err(),
            "a part of its name is longer than 255 bytes"
        );
        assert_eq!(
            plain(&b"a/".repeat(5000)).unwrap_err(),
            "its name is longer than 4095 bytes"
        );
    }

    #[test]
    fn a_path_is_cut_at_its_last_slash() {
        let split = |text: &[u8]| {
            Path::parse(text)
                .unwrap()
                .split()
                .map(|(a, b)| (a.to_vec(), b.to_vec()))
        };
        assert_eq!(split(b"a/b/c"), Some((b"a/b".to_vec(), b"c".to_vec())));
        assert_eq!(split(b"a"), Some((b"".to_vec(), b"a".to_vec())));
        assert_eq!(split(b"/"), None);
    }
}
