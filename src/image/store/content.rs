//! Contents that are kept as they came: compressed layers of images that no registry has.

use std::fs::File;
use std::io::{self, Read};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;

use super::super::digest::{Digest, Hashed};
use super::{Store, StoreError, blob_path, errno};

/// Why a content is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was read is another content.
    #[error("the content has the digest {found}, not {wanted}")]
    Digest { wanted: Digest, found: Digest },
    #[error("{0}")]
    Read(io::Error),
}

impl Store {
    /// Keeps a content, verified; one that is kept already is left alone.
    pub(crate) fn keep(&self, digest: Digest, content: impl Read) -> Result<(), KeepError> {
        if self.blob_size(digest)?.is_some() {
            return Ok(());
        }
        let staging = self.stage()?;
        let folder = staging.open()?;
        let failed = |source| self.io(format!("write {}", blob_path(digest)), source);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&folder, "content", flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
        let mut file = File::from(file);
        let mut hashed = Hashed::new(content);
        io::copy(&mut hashed, &mut file).map_err(KeepError::Read)?;
        let (found, _) = hashed.finish();
        if found != digest {
            return Err(KeepError::Digest {
                wanted: digest,
                found,
            });
        }
        file.sync_all().map_err(|error| failed(errno(&error)))?;
        let to = blob_path(digest);
        renameat(&folder, "content", self.root(), to.as_str()).map_err(failed)?;
        Ok(self.sync_folder("blobs")?)
    }

    /// A manifest or configuration that is kept, not verified; none when it is not.
    pub(crate) fn read_blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(&blob_path(digest))
    }

    /// Opens a content that is kept; none when it is not.
    pub(crate) fn kept(&self, digest: Digest) -> Result<Option<File>, StoreError> {
        let path = blob_path(digest);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(self.root(), path.as_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => Ok(None),
            opened => Ok(Some(File::from(
                opened.map_err(|source| self.io(format!("open {path}"), source))?,
            ))),
        }
    }
}
