//! The lock: which bytes each image of a manifest is, for every platform. Pure data; whoever has a file or a registry
//! brings and takes it.

mod text;

use std::collections::{BTreeMap, BTreeSet};

pub use self::text::LockError;
use crate::image::{Accounts, Digest, Image, ImageConfig, Layer, Platform, Resolved};

/// The version of the format. A file of another one is neither read nor overwritten.
pub const VERSION: i64 = 1;

/// All images of a manifest, by what it asks for, in full: `docker.io/library/python:3.12-slim`, `oci:./image:latest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// What each request meant when it was locked.
    pub images: BTreeMap<String, Locked>,
}

/// What a request meant when it was locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The digest of the index or, where there is none, of the one manifest.
    pub index: Digest,
    /// Its image for each platform.
    pub platforms: BTreeMap<Platform, LockedImage>,
}

/// The image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedImage {
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The digest of its configuration.
    pub config: Digest,
    /// Its six settings.
    pub settings: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Its users and groups, which stand in its layers; none for a platform that no plan can be made for.
    pub accounts: Option<Accounts>,
}

/// What `ringfence lock` would change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A job runs an image that is not locked.
    Missing(String),
    /// An image is locked that no job runs.
    Unused(String),
    /// What a request means has changed since it was locked.
    Moved {
        /// What the manifest asks for.
        request: String,
        /// The index that is locked.
        from: Digest,
        /// The index that it means now.
        to: Digest,
    },
}

impl Lock {
    /// What must change for the lock to hold the images of `wanted` and no others; empty when nothing must.
    pub fn stale(&self, wanted: &BTreeSet<String>) -> Vec<Change> {
        let missing = wanted
            .iter()
            .filter(|request| !self.images.contains_key(*request))
            .map(|request| Change::Missing(request.clone()));
        let unused = self
            .images
            .keys()
            .filter(|request| !wanted.contains(*request))
            .map(|request| Change::Unused(request.clone()));
        missing.chain(unused).collect()
    }
}

impl Locked {
    /// Locks what a request means now. Accounts that `before` knows of an image that is still the same are kept.
    pub fn new(resolved: Resolved, before: Option<&Locked>) -> Locked {
        let platforms = resolved.images.into_iter().map(|found| {
            let known = before
                .and_then(|before| before.platforms.get(&found.platform))
                .filter(|known| known.manifest == found.manifest);
            let image = LockedImage {
                accounts: known.and_then(|known| known.accounts.clone()),
                manifest: found.manifest,
                config: found.config,
                settings: ImageConfig {
                    env_refused: Vec::new(),
                    ..found.settings
                },
                layers: found.layers,
            };
            (found.platform, image)
        });
        Locked {
            index: resolved.index,
            platforms: platforms.collect(),
        }
    }

    /// The image that suits a machine best.
    pub fn image(&self, machine: &Platform) -> Option<(&Platform, &LockedImage)> {
        let suiting = self
            .platforms
            .iter()
            .filter_map(|entry| Some((machine.suits(entry.0)?, entry)));
        suiting.max_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }

    /// The platforms, for messages.
    pub fn offered(&self) -> String {
        let names: Vec<_> = self.platforms.keys().map(Platform::to_string).collect();
        names.join(", ")
    }
}

impl LockedImage {
    /// The first thing in which an image of the store is not the one that is locked; none when it is that one.
    pub fn differs(&self, stored: &Image) -> Option<&'static str> {
        let (ours, theirs) = (&self.settings, &stored.config);
        let same = [
            ("manifest", self.manifest == stored.digest),
            ("layers", self.layers == stored.layers),
            ("entrypoint", ours.entrypoint == theirs.entrypoint),
            ("cmd", ours.cmd == theirs.cmd),
            ("env", ours.env == theirs.env),
            ("working-dir", ours.working_dir == theirs.working_dir),
            ("user", ours.user == theirs.user),
            ("stop-signal", ours.stop_signal == theirs.stop_signal),
            (
                "passwd",
                self.accounts
                    .as_ref()
                    .is_none_or(|known| known.users == stored.accounts.users),
            ),
            (
                "group",
                self.accounts
                    .as_ref()
                    .is_none_or(|known| known.groups == stored.accounts.groups),
            ),
        ];
        same.into_iter().find(|(_, same)| !same).map(|(name, _)| name)
    }

    /// The image as a plan takes it; none while its accounts are not known.
    pub fn image(&self, request: &str, platform: &Platform) -> Option<Image> {
        Some(Image {
            reference: request.to_owned(),
            digest: self.manifest,
            platform: platform.clone(),
            config: self.settings.clone(),
            layers: self.layers.clone(),
            accounts: self.accounts.clone()?,
        })
    }
}

#[cfg(test)]
mod tests;
