//! One layer, from its registry into the store.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::digest::{Digest, Hashed};
use super::manifest::{Blob, Compression};
use super::origin::{Origin, OriginError};
use super::store::{LayerRecord, Staging, Store, StoreError};
use super::stream::{Bounded, StreamError, decompress};
use super::unpack::{LIMITS, Owners, UnpackError, unpack};

/// A layer to be fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) blob: Blob,
    pub(crate) compression: Compression,
    pub(crate) diff_id: Digest,
}

/// Why a layer did not come into the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("layer {digest}: {source}")]
    Unpack { digest: Digest, source: UnpackError },
    #[error("layer {wanted}: the content has the digest {found}")]
    Digest { wanted: Digest, found: Digest },
    #[error("layer {digest}: unpacked it has the digest {found}, its image says {wanted}")]
    DiffId {
        digest: Digest,
        wanted: Digest,
        found: Digest,
    },
    #[error("given up because another layer failed")]
    GivenUp,
}

/// What tells a transfer to stop, and is told of its bytes.
pub(crate) struct Watch<'a> {
    pub(crate) stop: &'a AtomicBool,
    pub(crate) on_bytes: &'a (dyn Fn(u64) + Sync),
}

/// A layer that is unpacked, verified and sealed, and not in the store yet: dropped without being committed it is removed.
pub(crate) type Brought<'a> = (Digest, Staging<'a>);

/// Brings a layer beside the store: fetched, verified, decompressed and unpacked in one stream. None when the store has
/// it. The caller holds the layer's lock, so that no one else brings it meanwhile.
pub(crate) fn bring<'a>(
    store: &'a Store,
    origin: &dyn Origin,
    wanted: &Wanted,
    owners: Owners,
    watch: &Watch<'_>,
) -> Result<Option<Brought<'a>>, LayerError> {
    if store.has_layer(wanted.diff_id)? {
        return Ok(None);
    }
    let staging = store.stage()?;
    let root = staging.make_fs()?;
    let graves = staging.open()?;
    let transfer = Transfer {
        inner: origin.layer(wanted.blob)?,
        watch,
    };
    let mut compressed = Hashed::new(transfer);
    let mut plain = Hashed::new(Bounded::new(
        decompress(&mut compressed, wanted.compression)
            .map_err(|error| in_layer(wanted, UnpackError::Read(error)))?,
        wanted.blob.size,
        &LIMITS,
    ));
    let done = unpack(&mut plain, root.as_fd(), graves.as_fd(), owners, &LIMITS);
    let (diff_id, _) = plain.finish();
    if let Err(error) = &done
        && !error.is_archive()
    {
        return Err(match done {
            Err(error) if is_given_up(&error) => LayerError::GivenUp,
            Err(error) => in_layer(wanted, error),
            Ok(_) => LayerError::GivenUp,
        });
    }
    // Content that is not what was asked for explains any damage: so its digest is looked at first.
    io::copy(&mut compressed, &mut io::sink()).map_err(|error| in_layer(wanted, UnpackError::Read(error)))?;
    let (digest, _) = compressed.finish();
    if digest != wanted.blob.digest {
        return Err(LayerError::Digest {
            wanted: wanted.blob.digest,
            found: digest,
        });
    }
    let unpacked = done.map_err(|error| in_layer(wanted, error))?;
    if diff_id != wanted.diff_id {
        return Err(LayerError::DiffId {
            digest,
            wanted: wanted.diff_id,
            found: diff_id,
        });
    }
    drop((root, graves));
    let record = LayerRecord {
        entries: unpacked.entries,
        bytes: unpacked.bytes,
        root_opaque: unpacked.root_opaque,
        lost: unpacked.lost,
    };
    staging.seal(&record)?;
    Ok(Some((diff_id, staging)))
}

fn in_layer(wanted: &Wanted, source: UnpackError) -> LayerError {
    LayerError::Unpack {
        digest: wanted.blob.digest,
        source,
    }
}

fn is_given_up(error: &UnpackError) -> bool {
    match error {
        UnpackError::Read(error) => {
            matches!(
                error.get_ref().and_then(|inner| inner.downcast_ref()),
                Some(StreamError::GivenUp)
            )
        }
        _ => false,
    }
}

/// The transfer of a blob, watched.
struct Transfer<'a, R> {
    inner: R,
    watch: &'a Watch<'a>,
}

impl<R: Read> Read for Transfer<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.stop.load(Ordering::Relaxed) {
            return Err(StreamError::GivenUp.into());
        }
        match self.inner.read(buffer) {
            Ok(read) => {
                (self.watch.on_bytes)(read as u64);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(StreamError::Transfer(error.to_string()).into()),
        }
    }
}
