//! Archives as images bring them: what the tree holds afterwards, and that nothing beside it changed.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::archive::{Archive, Header};
use super::*;

mod hostile;

/// A file system that can hold a store: the one of the store that is set, else the one for temporary files.
fn store_parent() -> PathBuf {
    let store = std::env::var_os("RINGFENCE_STORE").map(PathBuf::from);
    store
        .and_then(|store| store.parent().map(Path::to_owned))
        .unwrap_or_else(std::env::temp_dir)
}

/// A tree to unpack into, and beside it what must not change.
struct Place {
    base: PathBuf,
}

impl Place {
    fn new() -> Place {
        let unique = format!("{:?}", std::thread::current().id());
        let unique: String = unique.chars().filter(char::is_ascii_digit).collect();
        let base = store_parent().join(format!("ringfence-unpack-{}-{unique}", std::process::id()));
        fs::create_dir_all(base.join("fs")).unwrap();
        fs::create_dir_all(base.join("outside")).unwrap();
        fs::write(base.join("outside/canary"), "canary").unwrap();
        Place { base }
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked, String> {
        self.unpack_within(archive, &LIMITS)
    }

    fn unpack_within(&self, archive: &[u8], limits: &Limits) -> Result<Unpacked, String> {
        let open = |name: &str| OwnedFd::from(fs::File::open(self.base.join(name)).unwrap());
        let owners = Owners {
            ownership: Ownership::Single,
            count: 65536,
        };
        let done = unpack(archive, open("fs").as_fd(), open("").as_fd(), owners, limits);
        let outside: Vec<_> = fs::read_dir(self.base.join("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1, "something was made outside");
        assert_eq!(
            fs::read_to_string(self.base.join("outside/canary")).unwrap(),
            "canary"
        );
        assert_eq!(
            fs::metadata(self.base.join("outside")).unwrap().mode() & 0o7777,
            0o755 & !umask()
        );
        let beside: Vec<_> = fs::read_dir(&self.base).unwrap().collect();
        assert_eq!(beside.len(), 2, "something was left beside the tree");
        done.map_err(|error| error.to_string())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.base.join("fs").join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn meta(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.at(path)).unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let meta = self.meta(path);
        meta.file_type().is_char_device() && meta.rdev() == 0
    }

    fn is_opaque(&self, path: &str) -> bool {
        is_opaque(fs::File::open(self.at(path)).unwrap().as_fd()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let parent = fs::File::open(self.base.parent().unwrap()).unwrap();
        let name = std::ffi::CString::new(self.base.file_name().unwrap().to_str().unwrap()).unwrap();
        let grave = std::ffi::CString::new(format!("{}-grave", name.to_str().unwrap())).unwrap();
        crate::image::store::remove(parent.as_fd(), &name, parent.as_fd(), &grave).unwrap();
    }
}

fn umask() -> u32 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

/// A folder with the set-group-id bit hands its group down; the caller's is the only one that a job of one id has.
#[test]
fn a_layer_of_one_id_has_the_callers_group() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root has a group to hand down that is not its own");
        return;
    }
    let place = Place::new();
    std::os::unix::fs::chown(place.base.join("fs"), None, Some(1)).unwrap();
    fs::set_permissions(place.base.join("fs"), fs::Permissions::from_mode(0o2755)).unwrap();
    let archive = Archive::new()
        .dir("made")
        .file("made/file", "x")
        .file("missing/file", "x");
    let archive = archive.symlink("link", "made").end();
    place.unpack(&archive).unwrap();
    for path in ["", "made", "made/file", "missing", "missing/file", "link"] {
        let meta = place.meta(path);
        assert_eq!((meta.gid(), meta.mode() & 0o2000), (0, 0), "{path}");
    }
}

fn refusal(archive: Vec<u8>) -> String {
    Place::new().unpack(&archive).unwrap_err()
}

#[test]
fn an_ordinary_layer_becomes_its_tree() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    let archive = Archive::new()
        .entry(
            Header {
                name: b"./",
                kind: b'5',
                mode: 0o711,
                ..Header::default()
            },
            b"",
        )
        .entry(
            Header {
                name: b"./etc/",
                kind: b'5',
                mode: 0o555,
                ..Header::default()
            },
            b"",
        )
        .entry(
            Header {
                name: b"etc/passwd",
                mode: 0o640,
                uid: 5,
                ..Header::default()
            },
            b"root",
        )
        .symlink("bin", "usr/bin")
        .hard_link("etc/copy", "etc/passwd")
        .entry(
            Header {
                name: b"pipe",
                kind: b'6',
                mode: 0o600,
                ..Header::default()
            },
            b"",
        )
        .entry(
            Header {
                name: b"su",
                mode: 0o6755,
                ..Header::default()
            },
            b"x",
        )
        .entry(
            Header {
                name: b"old/",
                kind: b'0',
                mode: 0o755,
                ..Header::default()
            },
            b"",
        )
        .entry(
            Header {
                name: b"null",
                kind: b'3',
                device: (1, 3),
                ..Header::default()
            },
            b"",
        )
        .entry(
            Header {
                name: b"hidden",
                kind: b'3',
                device: (0, 0),
                ..Header::default()
            },
            b"",
        )
        .long(b'L', long.as_bytes())
        .file("cut", "long")
        .pax(&[
            ("path", "usr/bin/tööl".as_bytes()),
            ("mtime", b"1600000000.5"),
            ("uid", b"7"),
        ])
        .file("cut", "pax")
        .end();
    let unpacked = place.unpack(&archive).unwrap();
    assert_eq!(
        unpacked.lost,
        Lost {
            devices: 2,
            owners: 2,
            xattrs: 0,
            setid: 1
        }
    );
    assert_eq!(unpacked.bytes, 4 + 1 + 4 + 3);
    assert_eq!(place.meta("").mode() & 0o7777, 0o711);
    assert_eq!(place.meta("etc").mode() & 0o7777, 0o555);
    assert_eq!(place.meta("etc").mtime(), 1_700_000_000);
    assert_eq!(place.meta("etc/passwd").mode() & 0o7777, 0o640);
    assert_eq!(place.meta("etc/passwd").ino(), place.meta("etc/copy").ino());
    assert_eq!(fs::read_link(place.at("bin")).unwrap(), Path::new("usr/bin"));
    assert_eq!(place.meta("bin").mtime(), 1_700_000_000);
    assert!(place.meta("pipe").file_type().is_fifo());
    assert_eq!(place.meta("su").mode() & 0o7777, 0o755);
    assert!(place.meta("old").is_dir());
    assert!(!place.at("null").exists() && !place.at("hidden").exists());
    assert_eq!(place.read(&long), "long");
    assert_eq!(place.read("usr/bin/tööl"), "pax");
    assert_eq!(
        (
            place.meta("usr/bin/tööl").mtime(),
            place.meta("usr/bin/tööl").mtime_nsec()
        ),
        (1_600_000_000, 500_000_000)
    );
    assert_eq!(place.meta("usr").mode() & 0o7777, 0o755);
}

#[test]
fn whiteouts_hide_lower_layers_and_nothing_of_their_own() {
    let place = Place::new();
    let archive = Archive::new()
        .file("a/.wh.gone", "")
        .file("a/first", "own")
        .file("a/.wh.first", "")
        .file("a/.wh.later", "")
        .file("a/later", "own")
        .file("b/kept", "own")
        .file("b/.wh..wh..opq", "")
        .file(".wh.c", "")
        .file("c/inside", "own")
        .dir("d")
        .file(".wh.d", "")
        .file(".wh..wh.plnk", "")
        .end();
    assert!(!place.unpack(&archive).unwrap().root_opaque);
    assert!(place.is_whiteout("a/gone"));
    assert_eq!(place.read("a/first"), "own");
    assert_eq!(place.read("a/later"), "own");
    assert!(place.is_opaque("b") && !place.is_opaque("a"));
    assert_eq!(place.read("b/kept"), "own");
    // Hidden below, and made anew: nothing of the lower directory may shine through.
    assert!(place.is_opaque("c") && place.is_opaque("d"));
    assert_eq!(place.read("c/inside"), "own");
    assert!(!place.at(".wh.plnk").exists());

    let root = Place::new();
    assert!(
        root.unpack(&Archive::new().file(".wh..wh..opq", "").file("x", "").end())
            .unwrap()
            .root_opaque
    );
}

#[test]
fn a_link_inside_is_followed_inside() {
    let place = Place::new();
    place
        .unpack(
            &Archive::new()
                .dir("usr/lib")
                .symlink("lib", "/usr/lib")
                .file("lib/x", "x")
                .end(),
        )
        .unwrap();
    assert_eq!(place.read("usr/lib/x"), "x");
}

#[test]
fn a_name_that_comes_again_replaces_what_was_there() {
    let place = Place::new();
    let archive = Archive::new()
        .file("d/deep/file", "x")
        .file("d", "file now")
        .symlink("l", "../outside")
        .entry(
            Header {
                name: b"l",
                kind: b'5',
                mode: 0o777,
                ..Header::default()
            },
            b"",
        )
        .file("l/x", "inside")
        .file("e/x", "one")
        .symlink("e", "l")
        .file("e/x", "two")
        .end();
    place.unpack(&archive).unwrap();
    assert_eq!(place.read("d"), "file now");
    assert!(place.meta("l").is_dir());
    assert_eq!(place.meta("l").mode() & 0o7777, 0o777);
    assert_eq!(place.read("l/x"), "two");
    assert!(place.meta("e").is_symlink());
}

#[test]
fn closed_directories_are_filled_and_then_closed() {
    let place = Place::new();
    let archive = Archive::new()
        .entry(
            Header {
                name: b"a",
                kind: b'5',
                mode: 0o000,
                ..Header::default()
            },
            b"",
        )
        .entry(
            Header {
                name: b"a/b",
                kind: b'5',
                mode: 0o500,
                ..Header::default()
            },
            b"",
        )
        .file("a/b/x", "x")
        .end();
    place.unpack(&archive).unwrap();
    assert_eq!(place.meta("a").mode() & 0o7777, 0);
    fs::set_permissions(place.at("a"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.meta("a/b").mode() & 0o7777, 0o500);
    assert_eq!(place.read("a/b/x"), "x");
}
