//! Paths inside a job and on the host.

use super::{Wrong, plain};
use crate::problem::codes;

/// PATH_MAX less the final NUL, NAME_MAX (see limits.h).
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// An absolute path in its only spelling: no `.`, no `..`, no empty part, no slash at the end.
pub(crate) fn path(text: &str) -> Result<(), Wrong> {
    plain(text)?;
    let Some(inside) = text.strip_prefix('/') else {
        return Err(Wrong::form("is not absolute", "a path inside begins with `/`"));
    };
    if text.len() > LONGEST_PATH {
        return Err(Wrong::form("is longer than a path may be (4095 bytes)", ""));
    }
    if inside.is_empty() {
        return Ok(());
    }
    for part in inside.split('/') {
        match part {
            "" | "." => {
                let parts: Vec<_> = inside
                    .split('/')
                    .filter(|part| !matches!(*part, "" | "."))
                    .collect();
                return Err(Wrong::form(
                    "is not a path in its shortest form",
                    format!("write `/{}`", parts.join("/")),
                ));
            }
            ".." => {
                return Err(Wrong::form("has a `..`", "write the path that it leads to"));
            }
            _ if part.len() > LONGEST_NAME => {
                return Err(Wrong::form(
                    "has a part that is longer than a name may be (255 bytes)",
                    "",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where a job starts.
pub(crate) fn workdir(text: &str) -> Result<(), Wrong> {
    path(text)?;
    if is_below(text, "/proc") {
        return Err(Wrong::form(
            "is in /proc, whose links lead to other places",
            "choose a directory of the image or of a mount",
        ));
    }
    Ok(())
}

/// Where something can be mounted: anywhere but on what ringfence itself builds.
pub(crate) fn mount_place(text: &str) -> Result<(), Wrong> {
    let refused = |wrong: String, right: &str| Err(Wrong::new(codes::MOUNT_PLACE, wrong, right));
    if let Err(error) = path(text) {
        return refused(error.wrong, &error.right);
    }
    if text == "/" {
        return refused(
            "is the root file system itself".into(),
            "the root comes from `image`; `root = \"tmpfs\"` makes it writable",
        );
    }
    // A tmpfs for shared memory is the one thing below /dev that a job may size itself.
    if text == "/dev/shm" {
        return Ok(());
    }
    match ["/proc", "/sys", "/dev"]
        .into_iter()
        .find(|top| is_below(text, top))
    {
        Some(top) => refused(
            format!("is in {top}, which ringfence makes itself: a mount there could undo its protections"),
            "choose another place",
        ),
        None => Ok(()),
    }
}

/// A file or directory of the host, before its variables are known.
pub(crate) fn bind_source(text: &str) -> Result<(), Wrong> {
    plain(text)?;
    if text.len() > LONGEST_PATH {
        return Err(Wrong::form("is longer than a path may be (4095 bytes)", ""));
    }
    match forbidden_source(text) {
        Some(reason) => Err(Wrong::new(
            codes::MOUNT_SOURCE,
            format!("is never given to a job: {reason}"),
            "bind the directory that the job needs, not the whole",
        )),
        None => Ok(()),
    }
}

/// Why a path of the host is never given to a job.
pub(crate) fn forbidden_source(text: &str) -> Option<&'static str> {
    let parts: Vec<_> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if !text.starts_with('/') {
        return None;
    }
    match parts.as_slice() {
        [] => Some("it is the host's whole file system"),
        ["proc" | "sys" | "dev", ..] => Some("it is the kernel's own, and a job gets one of its own"),
        ["run"] | ["var", "run"] => Some("it holds the sockets of the host's services"),
        [
            "run" | "var",
            ..,
            "docker.sock" | "containerd.sock" | "podman.sock" | "crio.sock",
        ] => Some("whoever can talk to it is root of the host"),
        _ => None,
    }
}

fn is_below(text: &str, top: &str) -> bool {
    text.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::super::assert_form;
    use super::*;

    #[test]
    fn nothing_is_mounted_over_what_protects() {
        let proc = "is in /proc, which ringfence makes itself: a mount there could undo its protections";
        let shortest = "is not a path in its shortest form";
        assert_form(
            mount_place,
            &["/src", "/tmp", "/dev/shm", "/process", "/a/..b", "/etc/hosts"],
            &[
                ("/", "is the root file system itself"),
                ("/proc", proc),
                ("/proc/self", proc),
                (
                    "/sys/fs/cgroup",
                    "is in /sys, which ringfence makes itself: a mount there could undo its protections",
                ),
                (
                    "/dev",
                    "is in /dev, which ringfence makes itself: a mount there could undo its protections",
                ),
                (
                    "/dev/shm/x",
                    "is in /dev, which ringfence makes itself: a mount there could undo its protections",
                ),
                ("//proc/.", shortest),
                ("/src/", shortest),
                ("/x/../proc", "has a `..`"),
                ("src", "is not absolute"),
                ("", "names nothing"),
                ("/a\nb", "has the control character \\n"),
                ("/a\0", "has the control character \\u{0}"),
                (&"/a".repeat(3000), "is longer than a path may be (4095 bytes)"),
                (
                    &format!("/{}", "a".repeat(256)),
                    "has a part that is longer than a name may be (255 bytes)",
                ),
            ],
        );
    }

    #[test]
    fn sources_that_give_the_host_away() {
        for source in [
            "/",
            "//",
            "/proc",
            "/sys/fs",
            "/dev/./sda",
            "/run",
            "/var/run/docker.sock",
            "/run/user/1000/podman/podman.sock",
        ] {
            assert!(forbidden_source(source).is_some(), "{source}");
        }
        for source in [
            ".",
            "..",
            "/srv",
            "/run/user/1000/wayland-0",
            "dev",
            "/home/x/docker.sock",
        ] {
            assert_eq!(forbidden_source(source), None, "{source}");
        }
    }

    #[test]
    fn a_job_does_not_start_in_proc() {
        assert_form(
            workdir,
            &["/", "/src", "/dev/shm"],
            &[
                ("/proc/self/fd/9", "is in /proc, whose links lead to other places"),
                ("x", "is not absolute"),
            ],
        );
    }
}
