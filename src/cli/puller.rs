//! What a command brings: what a source means now, and images, into the store.

use std::path::Path;

use super::failure::Failure;
use super::image::ownership;
use super::progress::Progress;
use super::settings::Settings;
use crate::host::facts::Facts;
use crate::image::{
    Credentials, Digest, Event, Image, Import, Platform, PullError, Report, Request, Resolved, Source, Store,
    StoreError, import_in_child, look_into_in_child, pull_in_child, resolve_in_child, sweep_in_child,
};

/// How this caller brings images.
#[derive(Clone, Copy)]
pub(super) struct Puller<'a> {
    pub(super) settings: &'a Settings,
    pub(super) facts: &'a Facts,
    /// The folder that paths of layouts and archives are relative to.
    pub(super) base: &'a Path,
    /// Nothing is said while bytes come.
    pub(super) quiet: bool,
}

/// Where the image of a source comes from.
enum Way {
    Registry(Request),
    Local(Import),
}

impl Puller<'_> {
    /// The image of a source as the store has it, and the store; with a manifest, that image. Opens no socket.
    ///
    /// # Errors
    /// When the store cannot be read, or a layout.
    pub(super) fn known(
        &self,
        source: &Source,
        manifest: Option<Digest>,
    ) -> Result<Option<(Image, Store)>, Failure> {
        let Some(store) = Store::open(&self.settings.store).map_err(store_failure)? else {
            return Ok(None);
        };
        let image = match (manifest, self.way(source, manifest)?) {
            (Some(manifest), _) => store.image(manifest).map_err(store_failure)?,
            (None, Way::Registry(request)) => store
                .find(&request.reference, &request.platform)
                .map_err(store_failure)?,
            (None, Way::Local(import)) => import.known(&store).map_err(pull_failure)?,
        };
        Ok(image.map(|image| (image, store)))
    }

    /// What a source means now, for every platform.
    ///
    /// # Errors
    /// When it cannot be reached, or has something else than images.
    pub(super) fn resolve(&self, source: &Source) -> Result<Resolved, Failure> {
        let resolved = match self.way(source, None)? {
            Way::Registry(request) => resolve_in_child(&request),
            Way::Local(import) => look_into_in_child(
                &self.settings.store,
                ownership(self.settings, self.facts)?,
                &import,
            ),
        };
        resolved.map_err(pull_failure)
    }

    /// Brings the image of a source into the store; with a manifest, that image, whatever the source means now.
    ///
    /// # Errors
    /// The whole message of what went wrong; the store then holds what it held before.
    pub(super) fn bring(&self, source: &Source, manifest: Option<Digest>) -> Result<Report, Failure> {
        let way = self.way(source, manifest)?;
        let (store, ownership) = (&self.settings.store, ownership(self.settings, self.facts)?);
        let own = platform(self.facts);
        let name = match own == Platform::host() {
            true => source.to_string(),
            false => format!("{source} for {own}"),
        };
        progress(name, self.quiet, |show| match &way {
            Way::Registry(request) => pull_in_child(store, ownership, request, show),
            Way::Local(import) => import_in_child(store, ownership, import, show),
        })
    }

    /// Takes an image that was brought out of the store again, with what no other image needs.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) fn take_out(&self, manifest: Digest) -> Result<(), Failure> {
        if let Some(store) = Store::open(&self.settings.store).map_err(store_failure)? {
            // One that somebody has begun to use stays.
            store.remove_image(manifest).map_err(store_failure)?;
        }
        sweep_in_child(&self.settings.store).map_err(pull_failure)?;
        Ok(())
    }

    fn way(&self, source: &Source, manifest: Option<Digest>) -> Result<Way, Failure> {
        match source {
            Source::Registry(reference) => Ok(Way::Registry(Request {
                reference: manifest.map_or_else(|| reference.clone(), |manifest| reference.pinned(manifest)),
                platform: platform(self.facts),
                registries: self.settings.registries.clone(),
                credentials: Credentials::from_environment(),
            })),
            Source::Oci { .. } | Source::Archive(_) => Ok(Way::Local(Import {
                source: source.clone(),
                base: self.base.to_owned(),
                platform: platform(self.facts),
                manifest,
                name: None,
                keep: false,
            })),
            Source::Dir(_) | Source::Host => Err(Failure::Image(format!(
                "image {source}: it has no place in the store"
            ))),
        }
    }
}

/// Shows how the image comes that is called `name`.
///
/// # Errors
/// Those of `bring`.
pub(super) fn progress(
    name: String,
    quiet: bool,
    bring: impl FnOnce(&mut dyn FnMut(Event)) -> Result<Report, PullError>,
) -> Result<Report, Failure> {
    let mut progress = Progress::new(name, quiet);
    let brought = bring(&mut |event| progress.show(&event));
    progress.end();
    brought.map_err(pull_failure)
}

/// The platform whose images a host runs.
pub(super) fn platform(facts: &Facts) -> Platform {
    Platform::of(facts.arch.name())
}

fn pull_failure(error: PullError) -> Failure {
    Failure::Image(error.to_string())
}

fn store_failure(error: StoreError) -> Failure {
    Failure::Image(error.to_string())
}
