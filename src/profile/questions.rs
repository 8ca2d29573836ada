//! What a job must know of its host.

use std::collections::BTreeSet;

use super::{Job, Mount, Text};
use crate::image::Source;

/// What a job must know of its host: the input of the probe. Pure data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Bind sources and block devices, as the manifest writes them.
    pub paths: BTreeSet<Text>,
    /// Whether the root file system is made of the host's own.
    pub host_root: bool,
}

impl Job {
    /// The paths that the probe must look at for this job.
    pub fn questions(&self) -> Questions {
        let binds = self.hold.mounts.values().filter_map(|mount| match &mount.value {
            Mount::Bind { source, .. } => Some(source.value.clone()),
            Mount::Tmpfs { .. } => None,
        });
        let devices = self.hold.limits.io.keys().map(Text::literal);
        Questions {
            paths: binds.chain(devices).collect(),
            host_root: self.image.value == Source::Host,
        }
    }
}
