//! Where a bind comes from: a place of the machine, and never one that an earlier job has chosen.
//!
//! A job that may write a folder can replace what is in it by a link to anywhere. When a later run binds that
//! place, a launcher that follows the link hands out what the link says (CVE-2024-42472, CVE-2026-34078). So below
//! the manifest's folder, where jobs write, no link is followed. Elsewhere links are the machine's own, as
//! `/etc/localtime` is; magic links of `/proc` are followed nowhere.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// Opens the source `text` of a bind for reference only; a relative one counts from `folder`, the manifest's.
///
/// # Errors
/// ELOOP at a link that is not followed, ENOENT when there is nothing.
pub(super) fn open_source(folder: &Path, text: &str) -> Result<OwnedFd, Errno> {
    match within(folder, Path::new(text)) {
        Some((base, rest)) => {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let base = open(&base, flags, Mode::empty())?;
            let strictly = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
            resolve(base.as_fd(), &rest, strictly)
        }
        None => resolve(AT_FDCWD, Path::new(text), ResolveFlag::empty()),
    }
}

fn resolve(base: impl AsFd, path: &Path, more: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS | more);
    // EAGAIN: a rename elsewhere on the system raced with `..`; the call may be repeated (openat2(2)).
    for _ in 0..16 {
        match openat2(&base, path, how) {
            Err(Errno::EAGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// The folder that holds a source and the way from there; none for an absolute path to elsewhere.
///
/// `..` at the beginning is the manifest's own word for another folder.
fn within(folder: &Path, text: &Path) -> Option<(PathBuf, PathBuf)> {
    let relative = match text.is_absolute() {
        true => text.strip_prefix(folder).ok()?,
        false => text,
    };
    let mut base = folder.to_owned();
    let mut rest = PathBuf::new();
    for component in relative.components() {
        match component {
            Component::ParentDir if rest.as_os_str().is_empty() => base.push(".."),
            Component::CurDir => {}
            other => rest.push(other),
        }
    }
    if rest.as_os_str().is_empty() {
        rest.push(".");
    }
    Some((base, rest))
}

/// What an error of [`open_source`] means.
pub(super) fn words(errno: Errno) -> String {
    match errno {
        Errno::ELOOP => "a link is on the way, which a job may have put there; \
            if it is yours, write the place that it leads to"
            .to_owned(),
        errno => super::error::words(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_text_says_which_folder_bounds_it() {
        let within = |text: &str| {
            let (base, rest) = within(Path::new("/a/b"), Path::new(text))?;
            Some(format!("{} {}", base.display(), rest.display()))
        };
        assert_eq!(within("."), Some("/a/b .".to_owned()));
        assert_eq!(within("./c/../d"), Some("/a/b c/../d".to_owned()));
        assert_eq!(within("../../c"), Some("/a/b/../.. c".to_owned()));
        assert_eq!(within("/a/b/c"), Some("/a/b c".to_owned()));
        assert_eq!(within("/a/bc"), None);
    }

    #[test]
    fn no_link_is_followed_below_the_folder() {
        let folder = std::env::temp_dir().join(format!("ringfence-source-{}", std::process::id()));
        fs::create_dir_all(folder.join("in/real")).unwrap();
        for (name, target) in [("near", "real"), ("out", "../../.."), ("absolute", "/etc")] {
            symlink(target, folder.join("in").join(name)).unwrap();
        }
        let open = |text: &str| open_source(&folder, text).map(drop);
        assert_eq!(open("in/real"), Ok(()));
        assert_eq!(open("in/near"), Err(Errno::ELOOP));
        assert_eq!(open("in/out"), Err(Errno::ELOOP));
        assert_eq!(open("in/absolute/ssl"), Err(Errno::ELOOP));
        assert_eq!(
            open(folder.join("in/absolute").to_str().unwrap()),
            Err(Errno::ELOOP)
        );
        assert_eq!(open("in/none"), Err(Errno::ENOENT));
        assert_eq!(open("../.."), Ok(()));
        // The machine's own are followed, but for magic ones.
        assert_eq!(open("/proc/self"), Ok(()));
        assert_eq!(open("/proc/self/root/etc"), Err(Errno::ELOOP));
        fs::remove_dir_all(folder).unwrap();
    }
}
