//! What a command brings: what a source means now, and the image that it meant when it was locked.

use super::failure::Failure;
use super::image::{fetch, request};
use super::settings::Settings;
use crate::host::facts::Facts;
use crate::image::{Digest, Image, Resolved, Source, Store, resolve_in_child};

/// How this caller brings images.
#[derive(Clone, Copy)]
pub(super) struct Puller<'a> {
    pub(super) settings: &'a Settings,
    pub(super) facts: &'a Facts,
    /// Nothing is said while bytes come.
    pub(super) quiet: bool,
}

impl Puller<'_> {
    /// What a source means now, for every platform.
    ///
    /// # Errors
    /// When it cannot be reached, or has something else than images.
    pub(super) fn resolve(&self, source: &Source) -> Result<Resolved, Failure> {
        match source {
            Source::Registry(reference) => resolve_in_child(&request(reference, self.settings))
                .map_err(|error| Failure::Image(error.to_string())),
            other => Err(super::image::cannot_run(other)),
        }
    }

    /// The image of a source that has this manifest, whatever the source means now.
    ///
    /// # Errors
    /// When it is neither in the store nor to be had.
    pub(super) fn bring(&self, source: &Source, manifest: Digest) -> Result<Image, Failure> {
        let failed = |error: crate::image::StoreError| Failure::Image(error.to_string());
        if let Some(store) = Store::open(&self.settings.store).map_err(failed)?
            && let Some(image) = store.image(manifest).map_err(failed)?
        {
            return Ok(image);
        }
        match source {
            Source::Registry(reference) => {
                let pinned = reference.pinned(manifest);
                Ok(fetch(&pinned, self.settings, self.facts, self.quiet)?.image)
            }
            other => Err(super::image::cannot_run(other)),
        }
    }
}
