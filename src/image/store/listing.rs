//! What an unpacked layer holds, a record for each file: written beside it when it comes, so that damage is found without
//! a registry.
//!
//! A record is `TYPE SIZE SUM MODE OWNER TIME PATH` and a NUL byte. The sum is the CRC-32 of a file's content or of a link's
//! target: it finds what a disk or a crash has done; who may write a store may write its listings too. Records come folder
//! by folder, each sorted; the path of a folder ends with a slash.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use flate2::Crc;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{Mode, fstat, fstatat};

use super::super::beneath;
use super::super::unpack::{is_opaque, is_whiteout};

/// CRC-32 of the contents of files that were just written, by inode.
pub(crate) type Sums = BTreeMap<u64, u32>;

/// What a record says of a path, as users know it.
const FIELDS: [&str; 6] = ["type", "size", "content", "mode", "owner", "time"];
/// The sum of what has none, or of a file that this process may not read: it has one id, and the file is open to no one.
const NO_SUM: &str = "-";
/// The sum of a file that the disk does not give back.
const UNREADABLE: &str = "unreadable";

/// What is at one path.
struct Record {
    fields: String,
    path: Vec<u8>,
}

/// Where a tree is not what its listing says.
pub(super) struct Difference {
    /// The first such path.
    pub(super) path: Vec<u8>,
    pub(super) reason: String,
    /// How many more there are.
    pub(super) others: u64,
}

/// Writes the listing of a tree whose files were just written, with these sums.
pub(super) fn write(root: BorrowedFd<'_>, sums: &Sums, to: &mut impl Write) -> io::Result<()> {
    let known = |_: BorrowedFd<'_>, _: &CStr, stat: &libc::stat| match sums.get(&stat.st_ino) {
        Some(sum) => hex(*sum),
        None => NO_SUM.to_owned(),
    };
    walk(root, &known, &mut |Record { fields, path }| {
        to.write_all(fields.as_bytes())?;
        to.write_all(b" ")?;
        to.write_all(&path)?;
        to.write_all(b"\0")
    })
}

/// Reads a tree again and holds it against its listing.
pub(super) fn compare(root: BorrowedFd<'_>, listing: impl BufRead) -> io::Result<Option<Difference>> {
    let mut listed = listing.split(0).map(|record| Record::parse(record?));
    let mut next = move || listed.next().transpose();
    let mut first: Option<Difference> = None;
    let mut differs = |path, reason: &str| match &mut first {
        Some(first) => first.others += 1,
        None => {
            first = Some(Difference {
                path,
                reason: reason.to_owned(),
                others: 0,
            });
        }
    };
    let mut wanted = next()?;
    walk(root, &read_sum, &mut |found| {
        while let Some(gone) = wanted.take_if(|wanted| order(&wanted.path, &found.path).is_lt()) {
            differs(gone.path, "it is missing");
            wanted = next()?;
        }
        match wanted.take_if(|wanted| wanted.path == found.path) {
            None => differs(found.path, "it does not belong there"),
            Some(same) => {
                if let Some(reason) = difference(&same.fields, &found.fields) {
                    differs(found.path, &reason);
                }
                wanted = next()?;
            }
        }
        Ok(())
    })?;
    while let Some(gone) = wanted {
        differs(gone.path, "it is missing");
        wanted = next()?;
    }
    Ok(first)
}

impl Record {
    fn parse(bytes: Vec<u8>) -> io::Result<Record> {
        let mut spaces = (0..bytes.len()).filter(|at| bytes[*at] == b' ');
        let parsed = spaces.nth(FIELDS.len() - 1).and_then(|end| {
            let fields = std::str::from_utf8(&bytes[..end]).ok()?.to_owned();
            let path = bytes[end + 1..].to_vec();
            Some(Record { fields, path })
        });
        parsed.ok_or_else(|| io::Error::other("its listing is damaged"))
    }
}

/// Which of two paths a listing has first: by their folders, names of folders compared one by one, then by name.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    let parts = |path| split(path).0.split(|byte| *byte == b'/');
    parts(one)
        .cmp(parts(other))
        .then_with(|| split(one).1.cmp(split(other).1))
}

/// A path's folder, and its name there; of a folder's own path the name is empty.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn difference(wanted: &str, found: &str) -> Option<String> {
    let mut fields = wanted.split(' ').zip(found.split(' ')).zip(FIELDS);
    let ((wanted, found), field) = fields.find(|((wanted, found), _)| wanted != found && *found != NO_SUM)?;
    Some(match (field, found) {
        ("content", UNREADABLE) => "its content cannot be read".to_owned(),
        ("content", _) => "its content has changed".to_owned(),
        _ => format!("its {field} is {found}, not {wanted}"),
    })
}

/// What says the sum of a regular file.
type Sum<'a> = &'a dyn Fn(BorrowedFd<'_>, &CStr, &libc::stat) -> String;

/// Visits all of a tree in the order of a listing. What no path is short enough to name is passed over, and so is what is
/// in a folder that this process may not read.
fn walk(
    root: BorrowedFd<'_>,
    sum: Sum<'_>,
    each: &mut dyn FnMut(Record) -> io::Result<()>,
) -> io::Result<()> {
    // The next one last.
    let mut left = vec![(b"/".to_vec(), fstat(root)?)];
    while let Some((path, stat)) = left.pop() {
        let below = if path == b"/" { b"" } else { &path[..] };
        let folder = match beneath::folder(root, below) {
            Err(Errno::EACCES | Errno::ENAMETOOLONG) => {
                each(record(path, "folder", 0, NO_SUM, &stat))?;
                continue;
            }
            opened => opened?,
        };
        let kind = if is_opaque(folder.as_fd())? {
            "opaque-folder"
        } else {
            "folder"
        };
        each(record(path.clone(), kind, 0, NO_SUM, &stat))?;
        let mut below = Vec::new();
        for name in beneath::names(&folder)? {
            let mut path = if path == b"/" { Vec::new() } else { path.clone() };
            path.extend(name.as_bytes());
            let stat = match fstatat(&folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::EACCES) => continue,
                stat => stat?,
            };
            let kind = stat.st_mode & libc::S_IFMT;
            if kind == libc::S_IFDIR {
                path.push(b'/');
                below.push((path, stat));
                continue;
            }
            let size = stat.st_size;
            each(match kind {
                libc::S_IFREG => record(path, "file", size, &sum(folder.as_fd(), &name, &stat), &stat),
                libc::S_IFLNK => {
                    let mut crc = Crc::new();
                    crc.update(readlinkat(&folder, name.as_c_str())?.as_bytes());
                    record(path, "link", size, &hex(crc.sum()), &stat)
                }
                libc::S_IFIFO => record(path, "pipe", 0, NO_SUM, &stat),
                _ if is_whiteout(&stat) => record(path, "whiteout", 0, NO_SUM, &stat),
                _ => record(path, "other", 0, NO_SUM, &stat),
            })?;
        }
        left.extend(below.into_iter().rev());
    }
    Ok(())
}

fn record(path: Vec<u8>, kind: &str, size: i64, sum: &str, stat: &libc::stat) -> Record {
    let (mode, uid, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    // A folder's time is that of its entries, which are compared themselves.
    let time = if path.ends_with(b"/") { 0 } else { stat.st_mtime };
    let fields = format!("{kind} {size} {sum} {mode:o} {uid}:{gid} {time}");
    Record { fields, path }
}

/// The sum of what a file holds now.
fn read_sum(folder: BorrowedFd<'_>, name: &CStr, _: &libc::stat) -> String {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut file = match openat(folder, name, flags, Mode::empty()) {
        Err(Errno::EACCES) => return NO_SUM.to_owned(),
        Err(_) => return UNREADABLE.to_owned(),
        Ok(file) => File::from(file),
    };
    let (mut crc, mut buffer) = (Crc::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hex(crc.sum()),
            Ok(read) => crc.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return UNREADABLE.to_owned(),
        }
    }
}

fn hex(sum: u32) -> String {
    format!("{sum:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Below a folder whose names are chosen so that no two orders agree on them.
    #[test]
    fn a_tree_is_as_it_was_listed_until_something_changes() {
        let base = std::env::temp_dir().join(format!("ringfence-listing-{}", std::process::id()));
        fs::create_dir_all(base.join("a/b")).unwrap();
        fs::create_dir(base.join("a-b")).unwrap();
        for file in ["z", "a.c", "a/b.c", "a/b/z", "a/b-c", "a-b/c d"] {
            fs::write(base.join(file), file).unwrap();
        }
        let root = File::open(&base).unwrap();
        let mut listing = Vec::new();
        write(root.as_fd(), &Sums::new(), &mut listing).unwrap();
        let paths: Vec<_> = listing.split(|byte| *byte == 0).map(split_record).collect();
        let wanted = [
            "/", "a.c", "z", "a/", "a/b-c", "a/b.c", "a/b/", "a/b/z", "a-b/", "a-b/c d", "",
        ];
        assert_eq!(paths, wanted);
        // Without sums the contents are not compared.
        let differs = || {
            let listing = String::from_utf8_lossy(&listing).replace(" - ", " 00000000 ");
            let found = compare(root.as_fd(), listing.as_bytes()).unwrap();
            found.map(|first| (String::from_utf8(first.path).unwrap(), first.reason, first.others))
        };
        let changed =
            |path: &str, others| Some((path.to_owned(), "its content has changed".to_owned(), others));
        assert_eq!(differs(), changed("a.c", 5));
        fs::remove_dir_all(base.join("a")).unwrap();
        fs::write(base.join("b"), "").unwrap();
        assert_eq!(differs(), changed("a.c", 8));
        fs::remove_file(base.join("a.c")).unwrap();
        assert_eq!(differs(), Some(("a.c".to_owned(), "it is missing".to_owned(), 8)));
        let damaged = compare(root.as_fd(), &b"file 1 2"[..]).err().unwrap();
        assert_eq!(damaged.to_string(), "its listing is damaged");
        fs::remove_dir_all(base).unwrap();
    }

    fn split_record(record: &[u8]) -> String {
        let path = Record::parse(record.to_vec()).map(|record| record.path);
        String::from_utf8(path.unwrap_or_default()).unwrap()
    }
}
