//! `/proc/self/cgroup` and `/proc/self/mountinfo`, read into the caller's own group in every hierarchy.
//!
//! Pure: texts in, places out. What is odd in them is passed over, never guessed at (see cgroups(7), proc(5)).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::{Controller, Version};

/// The caller's own group in every hierarchy that the kernel names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// Controllers that the kernel has on hierarchies of their own.
    pub(super) v1: BTreeMap<Controller, Own>,
    /// The unified hierarchy, with or without controllers.
    pub(super) v2: Option<Own>,
}

/// Where the caller stands in a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// In this directory.
    At {
        /// The caller's own group.
        dir: PathBuf,
        /// The topmost group that can be seen: the mount's own directory.
        top: PathBuf,
    },
    /// The hierarchy is mounted nowhere.
    NotMounted,
    /// It is mounted, but the caller's group lies outside what is mounted.
    Outside,
    /// The caller's group was removed while it stood in it.
    Removed,
}

/// One mount of a hierarchy.
struct Mount {
    version: Version,
    controllers: Vec<Controller>,
    root: PathBuf,
    point: PathBuf,
}

/// Reads both texts.
pub(super) fn survey(proc_self_cgroup: &[u8], mountinfo: &[u8]) -> Survey {
    let mounts = mounts(mountinfo);
    let mut survey = Survey::default();
    for line in lines(proc_self_cgroup) {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (Some(id), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(names) = str::from_utf8(names) else {
            continue;
        };
        if id == b"0" && names.is_empty() {
            survey.v2 = Some(place(
                path,
                mounts.iter().filter(|mount| mount.version == Version::V2),
            ));
            continue;
        }
        for controller in names
            .split(',')
            .filter_map(|name| Controller::from_name(name, Version::V1))
        {
            let own = place(
                path,
                mounts
                    .iter()
                    .filter(|mount| mount.controllers.contains(&controller)),
            );
            survey.v1.insert(controller, own);
        }
    }
    survey
}

/// The directory of a group that the kernel calls `path`, through the first mount that shows it.
fn place<'a>(path: &[u8], mounts: impl Iterator<Item = &'a Mount>) -> Own {
    if path.ends_with(b" (deleted)") {
        return Own::Removed;
    }
    let path = Path::new(OsStr::from_bytes(path));
    let mut own = Own::NotMounted;
    for mount in mounts {
        match below(path, &mount.root) {
            Some(rest) => {
                return Own::At {
                    dir: join(&mount.point, rest),
                    top: mount.point.clone(),
                };
            }
            None => own = Own::Outside,
        }
    }
    own
}

/// `path` relative to `root`. A group outside the caller's cgroup namespace reads `/..` and is below nothing.
fn below<'a>(path: &'a Path, root: &Path) -> Option<&'a Path> {
    let plain = |path: &Path| {
        path.components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
    };
    match path.is_absolute() && plain(path) && plain(root) {
        true => path.strip_prefix(root).ok(),
        false => None,
    }
}

fn join(point: &Path, rest: &Path) -> PathBuf {
    match rest.as_os_str().is_empty() {
        true => point.to_owned(),
        false => point.join(rest),
    }
}

/// The mounts of cgroup hierarchies; of two on the same mount point the later one hides the earlier.
fn mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in lines(mountinfo).filter_map(mount) {
        mounts.retain(|earlier| earlier.point != mount.point);
        mounts.push(mount);
    }
    mounts
}

/// `36 35 98:0 ROOT POINT rw,noatime master:1 - TYPE SOURCE rw,memory` (see proc_pid_mountinfo(5)).
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = unescape(fields.nth(3)?);
    let point = unescape(fields.next()?);
    fields.find(|field| *field == b"-")?;
    let version = match fields.next()? {
        b"cgroup" => Version::V1,
        b"cgroup2" => Version::V2,
        _ => return None,
    };
    let options = fields.nth(1)?;
    let controllers = match version {
        Version::V1 => options
            .split(|byte| *byte == b',')
            .filter_map(|name| Controller::from_name(str::from_utf8(name).ok()?, Version::V1))
            .collect(),
        Version::V2 => Vec::new(),
    };
    Some(Mount {
        version,
        controllers,
        root,
        point,
    })
}

/// Undoes the kernel's `\040`: three octal digits for a space, tab, newline or backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .filter(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        let octal = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &str, top: &str) -> Own {
        Own::At {
            dir: dir.into(),
            top: top.into(),
        }
    }

    const V1_MOUNTS: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_with_an_empty_unified_hierarchy() {
        let cgroup = b"9:name=systemd:/\n7:blkio:/\n5:devices:/\n4:memory:/api/10c5\n2:cpu,cpuacct:/\n0::/\n";
        let survey = survey(cgroup, V1_MOUNTS);
        assert_eq!(
            survey.v1,
            BTreeMap::from([
                (
                    Controller::Memory,
                    at("/sys/fs/cgroup/memory/api/10c5", "/sys/fs/cgroup/memory")
                ),
                (
                    Controller::Cpu,
                    at("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct")
                ),
                (
                    Controller::CpuAcct,
                    at("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct")
                ),
                (Controller::Io, at("/sys/fs/cgroup/blkio", "/sys/fs/cgroup/blkio")),
                (Controller::Devices, Own::NotMounted),
            ])
        );
        assert_eq!(
            survey.v2,
            Some(at("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn unified_alone_as_systemd_has_it() {
        let cgroup = b"0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u7.scope\n";
        let mounts = b"29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        let dir = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run-u7.scope";
        assert_eq!(
            survey(cgroup, mounts),
            Survey {
                v1: BTreeMap::new(),
                v2: Some(at(dir, "/sys/fs/cgroup"))
            }
        );
    }

    #[test]
    fn inside_docker_the_mount_shows_a_part_of_the_tree() {
        let mounts = b"812 811 0:32 /docker/4f0e /sys/fs/cgroup/memory ro,nosuid master:15 - cgroup cgroup rw,memory\n";
        let own = |cgroup: &[u8]| survey(cgroup, mounts).v1.remove(&Controller::Memory);
        let top = "/sys/fs/cgroup/memory";
        assert_eq!(own(b"4:memory:/docker/4f0e\n"), Some(at(top, top)));
        assert_eq!(
            own(b"4:memory:/docker/4f0e/in\n"),
            Some(at("/sys/fs/cgroup/memory/in", top))
        );
        assert_eq!(own(b"4:memory:/docker/4f0e5\n"), Some(Own::Outside));
        assert_eq!(own(b"4:memory:/\n"), Some(Own::Outside));
    }

    #[test]
    fn a_group_outside_the_cgroup_namespace_is_not_found() {
        let mounts = b"29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(survey(b"0::/../..\n", mounts).v2, Some(Own::Outside));
        assert_eq!(survey(b"0::/a/../b\n", mounts).v2, Some(Own::Outside));
        let above = b"29 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(survey(b"0::/\n", above).v2, Some(Own::Outside));
    }

    #[test]
    fn a_removed_group_is_said_to_be_removed() {
        assert_eq!(survey(b"0::/gone (deleted)\n", b"").v2, Some(Own::Removed));
    }

    #[test]
    fn mount_points_with_spaces_and_bytes_that_are_not_utf8() {
        let mounts = b"29 23 0:26 / /mnt/my\\040groups\xff rw - cgroup2 cgroup2 rw\n";
        let Some(Own::At { dir, .. }) = survey(b"0::/\xfe\n", mounts).v2 else {
            panic!("not found")
        };
        assert_eq!(dir.as_os_str().as_bytes(), b"/mnt/my groups\xff/\xfe");
    }

    #[test]
    fn the_later_of_two_mounts_on_one_point_counts() {
        let mounts = b"29 23 0:26 /a /cg rw - cgroup2 cgroup2 rw\n30 29 0:26 / /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(survey(b"0::/b\n", mounts).v2, Some(at("/cg/b", "/cg")));
    }

    #[test]
    fn odd_lines_are_passed_over() {
        let odd: [&[u8]; 8] = [
            b"",
            b"\n\n",
            b":::",
            b"0:",
            b"4:memory",
            b"x:y:z",
            b"1 2 3 4",
            b"29 23 0:26 / /cg rw - cgroup2",
        ];
        for text in odd {
            assert_eq!(survey(text, text).v2, None, "{text:?}");
            assert_eq!(survey(text, V1_MOUNTS).v1, BTreeMap::new(), "{text:?}");
            assert_eq!(survey(b"0::/\n", text).v2, Some(Own::NotMounted), "{text:?}");
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        // Every prefix, and every byte replaced, of texts that hold all the forms.
        let cgroup = b"4:memory,cpu:/a\n0::/b (deleted)\n0::/..\n";
        let mounts =
            b"1 2 0:3 /a\\040b /c\\134d rw x:1 - cgroup c rw,memory,cpu\n1 2 0:3 / /c rw - cgroup2 c rw\n";
        for (text, other) in [(&cgroup[..], &mounts[..]), (&mounts[..], &cgroup[..])] {
            for end in 0..=text.len() {
                survey(&text[..end], other);
                survey(other, &text[..end]);
            }
            for place in 0..text.len() {
                for byte in [0, b' ', b'\\', b'/', b':', b'\n', b'9', 0xff] {
                    let mut bent = text.to_vec();
                    bent[place] = byte;
                    survey(&bent, other);
                    survey(other, &bent);
                }
            }
        }
    }
}
