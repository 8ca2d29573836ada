//! Images in use.

use std::path::PathBuf;

use super::super::Image;
use super::{LayerRecord, Locks, Store, StoreError, layer_path, layer_record_path};

/// An image that is in use: no one removes it meanwhile.
#[derive(Debug)]
pub struct Lease {
    _locks: Locks,
    layers: Vec<PathBuf>,
}

impl Lease {
    /// The root folders of its layers, lowest first; what an opaque root hides is left out.
    pub fn layer_dirs(&self) -> &[PathBuf] {
        &self.layers
    }
}

impl Store {
    /// Keeps an image from being removed while the lease lives.
    ///
    /// # Errors
    /// When the image was removed since it was found.
    pub fn lease(&self, image: &Image) -> Result<Lease, StoreError> {
        let locks = self.locks()?;
        let name = format!("image {}", image.digest);
        locks
            .shared(&name)
            .map_err(|source| self.io(format!("lock {name}"), source))?;
        let gone = || StoreError::Gone {
            path: self.path.clone(),
            reference: image.reference.clone(),
        };
        // A removal takes the record away first, and it waits for this lock: what is there now stays.
        if !self.touch(image.digest) {
            return Err(gone());
        }
        let mut layers = Vec::new();
        for layer in &image.layers {
            let record: Option<LayerRecord> = self.record(&layer_record_path(layer.diff_id))?;
            let record = record.ok_or_else(gone)?;
            // An opaque root hides all lower layers. overlayfs does not look at the root's own mark.
            if record.root_opaque {
                layers.clear();
            }
            layers.push(self.path.join(layer_path(layer)));
        }
        Ok(Lease {
            _locks: locks,
            layers,
        })
    }
}
