//! The folder of run state: locks that name what is in use. Nothing in it is believed that a lock does not hold.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::error::{LaunchError, io_words};

/// The folder of run state, checked to be ours.
#[derive(Debug)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    /// Opens the folder, making it when it is missing; it must be a directory of this user that others cannot enter.
    ///
    /// # Errors
    /// When it is somebody else's, open to others or a link, or cannot be made.
    pub(crate) fn open(path: &Path) -> Result<RunDir, LaunchError> {
        let failed = |error| LaunchError::setup(format!("run state {}", path.display()), io_words(&error));
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(failed)?;
        RunDir::find(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    /// The folder if it is there; then it must be what [`RunDir::open`] asks for.
    ///
    /// # Errors
    /// When it is somebody else's, open to others or a link, or cannot be looked at.
    pub(crate) fn find(path: &Path) -> Result<Option<RunDir>, LaunchError> {
        let what = || format!("run state {}", path.display());
        // Not followed: whoever can plant a link in a shared folder must not choose where locks are kept.
        let seen = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            seen => seen.map_err(|error| LaunchError::setup(what(), io_words(&error)))?,
        };
        if !seen.is_dir() || seen.uid() != geteuid().as_raw() || seen.permissions().mode() & 0o077 != 0 {
            return Err(LaunchError::setup(
                what(),
                "not a directory of this user with mode 0700; remove it or set RINGFENCE_RUN",
            ));
        }
        Ok(Some(RunDir(path.to_owned())))
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the file `name` of the folder `kind`, making both; for locking.
    pub(super) fn lock_file(&self, kind: &str, name: &str) -> io::Result<File> {
        let folder = self.0.join(kind);
        let open = || {
            let path = folder.join(name);
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(path)
        };
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&folder)?;
                open()
            }
            opened => opened,
        }
    }
}
