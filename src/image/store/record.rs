//! The records of a store: small JSON files.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::digest::Digest;
use super::super::import::FileState;
use super::super::platform::Platform;

/// Whose files the files of a store's layers are. Fixed when the store is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// As root: owner 1000 of a layer is user 1000 of the host, in a folder that only root may enter. Runs see the layers
    /// through idmapped mounts.
    Kept,
    /// As root, where the file system takes no idmapped mounts: owner 1000 is user `base` + 1000, for all runs.
    Shifted {
        /// The host's id of user 0 inside.
        base: u32,
    },
    /// As an ordinary user with subordinate ids: owner 1000 is the 1000th of them.
    Subordinate,
    /// As an ordinary user without subordinate ids: all files are the caller's.
    Single,
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ownership::Kept => f.write_str("owned as in their images"),
            Ownership::Shifted { base } => write!(f, "shifted by {base}"),
            Ownership::Subordinate => f.write_str("owned by subordinate ids"),
            Ownership::Single => f.write_str("all the caller's"),
        }
    }
}

/// What of a layer could not be represented in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Device nodes; they are never made.
    pub devices: u64,
    /// Files whose owner or group has no id here.
    pub owners: u64,
    /// Extended attributes that are never kept (capabilities, labels, overlayfs's own), or that found no place.
    pub xattrs: u64,
    /// Files that had set-user-id or set-group-id bits.
    pub setid: u64,
}

impl Lost {
    /// Both together.
    pub fn plus(self, other: Lost) -> Lost {
        Lost {
            devices: self.devices + other.devices,
            owners: self.owners + other.owners,
            xattrs: self.xattrs + other.xattrs,
            setid: self.setid + other.setid,
        }
    }
}

/// What was unpacked of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Entries of its archive.
    pub(crate) entries: u64,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Its root hides everything below.
    pub(crate) root_opaque: bool,
    pub(crate) lost: Lost,
}

/// What a reference meant when it was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    /// The reference, in full.
    pub(crate) reference: String,
    /// The digest of the index or, where there is none, of the manifest.
    pub(crate) top: Digest,
    /// The manifests of the platforms that were asked for.
    pub(crate) images: Vec<(Platform, Digest)>,
    /// For an archive: the file that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<FileState>,
}

/// The text of a record.
pub(crate) fn json(record: &impl Serialize) -> Vec<u8> {
    // Plain structs with text keys: serde_json fails on neither.
    serde_json::to_vec_pretty(record).unwrap_or_default()
}
