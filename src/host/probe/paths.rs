//! What stands at the paths of a job, and which parts of the host's own root there are.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::stat::{major, minor};

use super::Context;
use super::process::Process;
use crate::host::facts::{PathFacts, PathKind, RootFacts};
use crate::profile::Questions;

/// The parts of `/etc` that the image source `host` shows: `ld.so.*` by its names in ld.so(8), and four more.
const ETC: [&str; 8] = [
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld.so.preload",
    "localtime",
    "ssl",
];

/// A path that was looked at.
#[derive(Debug)]
pub(super) struct Seen {
    /// What was found, with idmapped mounts still to be tried.
    pub(super) facts: PathFacts,
    /// The real path, links followed.
    pub(super) real: PathBuf,
    /// The file systems at and below the path: `0:21 proc, 254:0 ext4`. Paths with the same list take
    /// the same idmapped mounts. None when nothing stands there.
    pub(super) below: Option<String>,
}

/// The job's paths by the manifest's text. A path whose variable is unset is left out: that the variable is
/// unset is a fact as well.
pub(super) fn look_at_all(
    questions: &Questions,
    context: &Context<'_>,
    process: &Process,
) -> Vec<(String, Seen)> {
    let mounts = Mounts::default();
    let manifest_dir = context.manifest_dir.to_string_lossy();
    let variable = |name: &str| context.variables.get(name).cloned().flatten();
    let mut all = Vec::with_capacity(questions.paths.len());
    for path in &questions.paths {
        let Ok(text) = path.expand(&manifest_dir, variable) else {
            continue;
        };
        let seen = if is_device_number(&text) {
            device(&text)
        } else {
            look(&context.manifest_dir.join(text), process.uid, &mounts)
        };
        all.push((path.to_string(), seen));
    }
    all
}

/// The mounts of this process as mountinfo has them, read once and only when needed.
#[derive(Default)]
struct Mounts(OnceCell<String>);

fn look(path: &Path, uid: u32, mounts: &Mounts) -> Seen {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .and_then(|file| file.metadata().map(|about| (file, about)));
    let (file, about) = match opened {
        Ok(both) => both,
        Err(error) => {
            return nothing(match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => PathKind::Missing,
                _ => PathKind::Denied,
            });
        }
    };
    let kind = match about.file_type() {
        kind if kind.is_dir() => PathKind::Directory,
        kind if kind.is_file() => PathKind::File,
        kind if kind.is_block_device() => PathKind::BlockDevice,
        _ => PathKind::Other,
    };
    let device = kind == PathKind::BlockDevice;
    let device = device.then(|| format!("{}:{}", major(about.rdev()), minor(about.rdev())));
    let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    let mount = mount_id(&super::text(&format!("/proc/self/fdinfo/{}", file.as_raw_fd())));
    let mountinfo = mounts
        .0
        .get_or_init(|| std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let (file_system, below) = mount.map_or_else(Default::default, |id| below(mountinfo, &real, id));
    Seen {
        facts: PathFacts {
            kind,
            idmapped_mounts: false,
            file_system,
            owned: about.uid() == uid,
            device,
        },
        real,
        below: (!below.is_empty()).then_some(below),
    }
}

fn nothing(kind: PathKind) -> Seen {
    Seen {
        facts: PathFacts {
            kind,
            idmapped_mounts: false,
            file_system: String::new(),
            owned: false,
            device: None,
        },
        real: PathBuf::new(),
        below: None,
    }
}

/// Whether the manifest means a device by its number, `8:0`.
fn is_device_number(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once(':')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}

fn device(number: &str) -> Seen {
    if !Path::new("/sys/dev/block").join(number).exists() {
        return nothing(PathKind::Missing);
    }
    let mut seen = nothing(PathKind::BlockDevice);
    seen.facts.device = Some(number.to_owned());
    seen
}

/// The number of the mount in what `/proc/self/fdinfo/N` says (see proc_pid_fdinfo(5)).
fn mount_id(fdinfo: &str) -> Option<u64> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    value.trim().parse().ok()
}

/// The file system of mount `id`, and the list of it and of all that are mounted below `path`
/// (see proc_pid_mountinfo(5)).
fn below(mountinfo: &str, path: &Path, id: u64) -> (String, String) {
    let mut own = String::new();
    let mut all = BTreeSet::new();
    for line in mountinfo.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        // Optional fields end with a lone hyphen; the type follows.
        let hyphen = fields.iter().position(|field| *field == "-");
        let (Some(hyphen), [mount, _, device, _, point, ..]) = (hyphen, fields.as_slice()) else {
            continue;
        };
        let Some(kind) = fields.get(hyphen + 1) else {
            continue;
        };
        let is_own = mount.parse() == Ok(id);
        let point = unescape(point);
        if is_own {
            own = (*kind).to_owned();
        }
        if is_own || (point.starts_with(path) && point != path) {
            all.insert(format!("{device} {kind}"));
        }
    }
    (own, all.into_iter().collect::<Vec<_>>().join(", "))
}

/// A path as mountinfo writes it: space, tab, newline and backslash are octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut out = text.to_owned();
    if text.contains('\\') {
        for (code, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
            out = out.replace(code, character);
        }
    }
    PathBuf::from(out)
}

/// The parts of the root file system at `root` that the image source `host` shows besides `/usr`.
pub(super) fn root(root: &Path) -> RootFacts {
    let mut links = BTreeMap::new();
    let mut directories = BTreeSet::new();
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else {
            continue;
        };
        if !(name == "bin" || name == "sbin" || name.starts_with("lib")) {
            continue;
        }
        if kind.is_dir() {
            directories.insert(format!("/{name}"));
        } else if let Ok(target) = std::fs::read_link(entry.path()) {
            links.insert(format!("/{name}"), target.to_string_lossy().into_owned());
        }
    }
    let there = |name: &&&str| root.join("etc").join(name).symlink_metadata().is_ok();
    RootFacts {
        links,
        directories: directories.into_iter().collect(),
        etc: ETC
            .iter()
            .filter(there)
            .map(|name| format!("/etc/{name}"))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 27 0:21 / /proc rw,relatime shared:5 master:2 - proc proc rw
40 27 0:30 / /srv/with\\040space rw - tmpfs tmpfs rw
41 40 0:31 / /srv/with\\040space/below rw - fuse.sshfs x rw
broken line
";

    #[test]
    fn names_the_file_systems_at_and_below_a_path() {
        let of = |path, id| below(MOUNTINFO, Path::new(path), id);
        assert_eq!(of("/usr", 27), ("ext4".into(), "254:0 ext4".into()));
        assert_eq!(
            of("/srv/with space", 40),
            ("tmpfs".into(), "0:30 tmpfs, 0:31 fuse.sshfs".into())
        );
        assert_eq!(of("/usr", 99), (String::new(), String::new()));
    }

    #[test]
    fn takes_device_numbers_as_the_manifest_writes_them() {
        assert!(is_device_number("8:0"));
        assert!(
            ["/dev/sda", "8:x", "8", ":", "8:", "+8:0"]
                .iter()
                .all(|text| !is_device_number(text))
        );
    }

    #[test]
    fn tells_what_stands_at_a_path() {
        let folder = std::env::temp_dir().join(format!("ringfence-paths-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let mounts = Mounts::default();
        let kind = |path: &Path| look(path, uid, &mounts).facts.kind;
        let seen = look(&folder, uid, &mounts);
        assert_eq!(seen.facts.kind, PathKind::Directory);
        assert!(seen.facts.owned && !seen.facts.file_system.is_empty());
        assert!(seen.below.unwrap().contains(&seen.facts.file_system));
        assert_eq!(kind(&folder.join("file")), PathKind::File);
        assert_eq!(kind(&folder.join("none")), PathKind::Missing);
        assert_eq!(kind(&folder.join("file/none")), PathKind::Missing);
        assert_eq!(kind(Path::new("/dev/null")), PathKind::Other);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn shows_a_root_with_links_and_directories() {
        let folder = std::env::temp_dir().join(format!("ringfence-root-{}", std::process::id()));
        for name in ["etc/ssl", "etc/shadow", "libexec", "opt", "usr/lib"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("usr/lib", folder.join("lib")).unwrap();
        std::os::unix::fs::symlink("/usr/share/zoneinfo/UTC", folder.join("etc/localtime")).unwrap();
        assert_eq!(
            root(&folder),
            RootFacts {
                links: BTreeMap::from([("/lib".into(), "usr/lib".into())]),
                directories: vec!["/libexec".into()],
                etc: vec!["/etc/localtime".into(), "/etc/ssl".into()],
            }
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
