//! Layers laid over each other into one folder, for engines that take a folder. Copies; nothing in the store changes.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use super::unpack::is_opaque;

/// Fills `into`, an empty folder of ours that nobody else can write to, with `layers`, lowest first. With `shift` every
/// owner's number is so much higher.
///
/// Returns how many entries were left out: devices, pipes and sockets, which belong to no image.
///
/// # Errors
/// The path and the system's answer.
pub(crate) fn flatten(
    layers: &[PathBuf],
    into: &Path,
    shift: Option<u32>,
) -> Result<u64, (PathBuf, io::Error)> {
    let mut left_out = 0;
    for layer in layers {
        lay(layer, into, shift, &mut left_out)?;
    }
    Ok(left_out)
}

/// Lays the folder `from` over `to`, which is there.
fn lay(from: &Path, to: &Path, shift: Option<u32>, left_out: &mut u64) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let mut entries: Vec<_> = fs::read_dir(from)
        .and_then(Iterator::collect::<io::Result<_>>)
        .map_err(at(from))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let seen = fs::symlink_metadata(&source).map_err(at(&source))?;
        let kind = seen.file_type();
        if kind.is_char_device() && seen.rdev() == 0 {
            // A whiteout: what lower layers have here is gone.
            remove(&target).map_err(at(&target))?;
        } else if kind.is_dir() {
            folder(&source, &target).map_err(at(&target))?;
            lay(&source, &target, shift, left_out)?;
            finish(&target, &seen, shift).map_err(at(&target))?;
        } else if kind.is_symlink() {
            remove(&target).map_err(at(&target))?;
            let leads = fs::read_link(&source).map_err(at(&source))?;
            symlink(leads, &target).map_err(at(&target))?;
            give(&target, &seen, shift).map_err(at(&target))?;
        } else if kind.is_file() {
            remove(&target).map_err(at(&target))?;
            fs::copy(&source, &target).map_err(at(&source))?;
            finish(&target, &seen, shift).map_err(at(&target))?;
        } else {
            *left_out += 1;
        }
    }
    let seen = fs::symlink_metadata(from).map_err(at(from))?;
    finish(to, &seen, shift).map_err(at(to))
}

/// A folder at the target: the one that is there, unless this layer hides it, or a new one.
fn folder(source: &Path, target: &Path) -> io::Result<()> {
    let there = fs::symlink_metadata(target).is_ok_and(|seen| seen.is_dir());
    if there && !is_opaque(File::open(source)?.as_fd())? {
        return Ok(());
    }
    remove(target)?;
    DirBuilder::new().mode(0o700).create(target)
}

fn remove(target: &Path) -> io::Result<()> {
    match fs::symlink_metadata(target) {
        Ok(seen) if seen.is_dir() => fs::remove_dir_all(target),
        Ok(_) => fs::remove_file(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Owner first: its change takes away the bits that the mode then gives.
fn finish(target: &Path, seen: &Metadata, shift: Option<u32>) -> io::Result<()> {
    give(target, seen, shift)?;
    // Another user's program that runs with its owner's rights would be one on this host too: without a range of ids
    // whoever copies becomes the owner.
    let kept = if shift.is_some() { 0o7777 } else { 0o1777 };
    fs::set_permissions(target, Permissions::from_mode(seen.mode() & kept))
}

fn give(target: &Path, seen: &Metadata, shift: Option<u32>) -> io::Result<()> {
    match shift {
        Some(shift) => lchown(
            target,
            Some(seen.uid().saturating_add(shift)),
            Some(seen.gid().saturating_add(shift)),
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::xattr;

    #[test]
    fn upper_layers_add_replace_and_hide() {
        let base = std::env::temp_dir().join(format!("ringfence-flatten-{}", std::process::id()));
        let layer = |name: &str, files: &[(&str, &str)]| {
            for (path, text) in files {
                let path = base.join(name).join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            base.join(name)
        };
        let lower = layer(
            "1",
            &[("a/x", "1"), ("a/y", "1"), ("hidden/z", "1"), ("file", "1")],
        );
        symlink("/etc", lower.join("link")).unwrap();
        let upper = layer(
            "2",
            &[
                ("a/y", "2"),
                ("hidden/new", "2"),
                ("file/now-a-folder", "2"),
                ("link/in", "2"),
            ],
        );
        fs::set_permissions(upper.join("a/y"), Permissions::from_mode(0o4750)).unwrap();
        let marked = xattr::set(
            File::open(upper.join("hidden")).unwrap().as_fd(),
            c"user.overlay.opaque",
            b"y",
        );
        let into = base.join("into");
        fs::create_dir(&into).unwrap();
        let left_out = flatten(&[lower, upper], &into, None);
        let read = |path: &str| fs::read_to_string(into.join(path)).unwrap_or_default();
        let found = (
            read("a/x"),
            read("a/y"),
            read("file/now-a-folder"),
            read("link/in"),
        );
        let mode = fs::metadata(into.join("a/y")).map(|seen| seen.mode() & 0o7777);
        let hidden = into.join("hidden/z").exists();
        let untouched = !Path::new("/etc/in").exists();
        fs::remove_dir_all(&base).unwrap();
        assert_eq!(left_out.unwrap(), 0);
        assert_eq!(found, ("1".into(), "2".into(), "2".into(), "2".into()));
        assert_eq!(mode.unwrap(), 0o750, "no set-user-ID program of the caller's");
        assert!(untouched);
        // A file system without `user` attributes cannot hold a layer either.
        assert_eq!(hidden, marked.is_err());
    }
}
