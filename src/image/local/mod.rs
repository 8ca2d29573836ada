//! Images that stand on this machine: OCI layouts in folders, archives of `docker save` and of OCI layouts, and root file
//! systems in folders.
//!
//! All of it is as hostile as a registry: sizes are bounded, digests are verified, links are not followed.

mod docker;
mod files;
mod folder;
mod layout;
mod root;
mod tarball;

use std::io;
use std::path::Path;

use nix::errno::Errno;

use self::docker::DockerSave;
use self::folder::Folder;
use self::layout::Layout;
use self::root::RootFolder;
use self::tarball::Tarball;
use super::origin::{Fetched, Origin};
use super::platform::Platform;
use super::source::Source;

/// Why a layout or an archive cannot be used. Follows its name.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// One of its files, or the whole.
    #[error("{file}: {reason}")]
    File {
        /// The path inside, or the path of the whole.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds several images or none, or not the one that is meant.
    #[error("{0}")]
    Which(String),
}

/// A source of this machine that was opened: where its contents are, and the document that its name leads to.
pub(crate) struct Local {
    pub(crate) origin: Box<dyn Origin>,
    pub(crate) top: Fetched,
}

impl Local {
    /// Opens `oci:`, `archive:` or `dir:`, relative to `base`; a folder as an image for `platform`. `spool` is a folder for the plain form of a compressed archive,
    /// which has no name there and is gone with this value. Of several images in an archive of `docker save` the one called `name` is meant.
    ///
    /// # Errors
    /// When it is neither, or does not hold the one image that is meant.
    pub(crate) fn open(
        source: &Source,
        base: &Path,
        spool: &Path,
        name: Option<&str>,
        platform: &Platform,
    ) -> Result<Local, LocalError> {
        match source {
            Source::Oci { dir, tag } => {
                let folder = Folder::open(&base.join(dir))?;
                of_layout(Layout::new(Box::new(folder)), tag.as_deref())
            }
            Source::Archive(file) => {
                let files = Tarball::open(&base.join(file), spool)?;
                if files.has("oci-layout") {
                    return of_layout(Layout::new(Box::new(files)), None);
                }
                let (origin, top) = DockerSave::open(Box::new(files), name)?;
                Ok(Local {
                    origin: Box::new(origin),
                    top,
                })
            }
            Source::Dir(dir) => {
                let (origin, top) = RootFolder::open(&base.join(dir), spool, platform)?;
                Ok(Local {
                    origin: Box::new(origin),
                    top,
                })
            }
            other => Err(LocalError::Which(format!(
                "{other} is neither a layout nor an archive nor a folder"
            ))),
        }
    }
}

fn of_layout(layout: Layout, tag: Option<&str>) -> Result<Local, LocalError> {
    let top = layout.top(tag)?;
    Ok(Local {
        origin: Box::new(layout),
        top,
    })
}

fn wrong(file: impl Into<String>, reason: impl Into<String>) -> LocalError {
    LocalError::File {
        file: file.into(),
        reason: reason.into(),
    }
}

/// The cause of a failed system call in words, as for a sentence.
pub(crate) fn cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => words(Errno::from_raw(number)),
        None => error.to_string(),
    }
}

/// The same of its number.
pub(crate) fn words(errno: Errno) -> String {
    let text = errno.desc();
    text[..1].to_lowercase() + &text[1..]
}
