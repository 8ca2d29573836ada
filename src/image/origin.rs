//! Where an image's content comes from: a registry, a layout in a folder, an archive. All of it is asked for by digest.

use std::io::Read;
use std::sync::Arc;

use super::digest::Digest;
use super::local::LocalError;
use super::manifest::Blob;
use super::registry::{Client, RegistryError};

/// What has the documents and layers of images.
pub(crate) trait Origin: Sync {
    /// A manifest or an index, verified.
    fn document(&self, digest: Digest) -> Result<Fetched, OriginError>;

    /// A small content, verified.
    fn config(&self, blob: Blob) -> Result<Vec<u8>, OriginError>;

    /// A content as a stream, of which no one knows yet whether it is the right one: who reads it hashes it.
    fn layer(&self, blob: Blob) -> Result<Box<dyn Read + Send + '_>, OriginError>;

    /// The same, from elsewhere where that can be: what came first was not the right one.
    fn layer_again(&self, blob: Blob) -> Result<Box<dyn Read + Send + '_>, OriginError> {
        self.layer(blob)
    }
}

/// A manifest or an index as it came.
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
    /// What it was said to be beside itself.
    pub(crate) media_type: Option<String>,
}

/// Why an origin does not give a content.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layout or an archive.
    #[error(transparent)]
    Local(#[from] LocalError),
}

impl Origin for Arc<Client> {
    fn document(&self, digest: Digest) -> Result<Fetched, OriginError> {
        Ok(Client::manifest(self, &digest.to_string(), Some(digest))?)
    }

    fn config(&self, blob: Blob) -> Result<Vec<u8>, OriginError> {
        Ok(Client::small(self, blob)?)
    }

    fn layer(&self, blob: Blob) -> Result<Box<dyn Read + Send + '_>, OriginError> {
        Ok(Box::new(Client::blob(self, blob, 0)?))
    }

    fn layer_again(&self, blob: Blob) -> Result<Box<dyn Read + Send + '_>, OriginError> {
        Ok(Box::new(Client::blob(self, blob, 1)?))
    }
}
