//! One layer, from its registry into the store.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::ahead::Ahead;
use super::digest::{Digest, Hashed};
use super::manifest::{Blob, Compression};
use super::origin::{Origin, OriginError};
use super::store::{LayerRecord, Staging, Store, StoreError};
use super::stream::{Bounded, StreamError, decompress};
use super::unpack::{LIMITS, Owners, UnpackError, Unpacked, unpack};

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

/// Brings a layer into the store: fetched, verified, decompressed and unpacked in one stream, whose three steps (the
/// transfer, decompression, the files) each have a thread. The caller holds the layer's lock.
///
/// Content with another digest than it was asked for by is asked for once more, by a new connection.
pub(crate) fn bring(
    store: &Store,
    origin: &dyn Origin,
    wanted: &Wanted,
    owners: Owners,
    watch: &Watch<'_>,
) -> Result<(), LayerError> {
    let mut staging = store.stage()?;
    let first = origin.layer(wanted.blob)?;
    let unpacked = match fetch(&staging, first, wanted, owners, watch) {
        Err(LayerError::Digest { .. }) => {
            staging = store.stage()?;
            fetch(&staging, origin.layer_again(wanted.blob)?, wanted, owners, watch)
        }
        done => done,
    }?;
    let record = LayerRecord {
        entries: unpacked.entries,
        bytes: unpacked.bytes,
        root_opaque: unpacked.root_opaque,
        lost: unpacked.lost,
    };
    staging.seal(&unpacked.sums, &record)?;
    Ok(staging.commit(wanted.diff_id)?)
}

/// Fetches a layer and unpacks it beside the store; what comes back is verified.
fn fetch(
    staging: &Staging<'_>,
    content: Box<dyn Read + Send + '_>,
    wanted: &Wanted,
    owners: Owners,
    watch: &Watch<'_>,
) -> Result<Unpacked, LayerError> {
    let wrong = |source| LayerError::Unpack {
        digest: wanted.blob.digest,
        source,
    };
    let read = |error| match error {
        error if is_given_up(&error) => LayerError::GivenUp,
        error => wrong(UnpackError::Read(error)),
    };
    let root = staging.make_fs()?;
    let graves = staging.open()?;
    let transfer = Transfer {
        inner: content,
        watch,
    };
    let (digest, done) = thread::scope(|scope| {
        let mut compressed = Ahead::start(scope, Hashed::new(transfer)).map_err(read)?;
        let done = thread::scope(|scope| {
            let plain = decompress(&mut compressed, wanted.compression)?;
            let plain = Hashed::new(Bounded::new(plain, wanted.blob.size, &LIMITS));
            let mut plain = Ahead::start(scope, plain)?;
            let unpacked = unpack(&mut plain, root.as_fd(), graves.as_fd(), owners, &LIMITS);
            Ok(match unpacked {
                Ok(unpacked) => Ok((unpacked, plain.finish()?.finish().0)),
                Err(error) => Err(error),
            })
        });
        let done = done.unwrap_or_else(|error| Err(UnpackError::Read(error)));
        match done {
            Err(UnpackError::Read(error)) if is_given_up(&error) => Err(LayerError::GivenUp),
            Err(error) if !error.is_archive() => Err(wrong(error)),
            // Content that is not what was asked for explains any damage: so its digest is looked at first.
            done => Ok((compressed.finish().map_err(read)?.finish().0, done)),
        }
    })?;
    if digest != wanted.blob.digest {
        return Err(LayerError::Digest {
            wanted: wanted.blob.digest,
            found: digest,
        });
    }
    let (unpacked, diff_id) = done.map_err(wrong)?;
    if diff_id != wanted.diff_id {
        return Err(LayerError::DiffId {
            digest,
            wanted: wanted.diff_id,
            found: diff_id,
        });
    }
    Ok(unpacked)
}

/// Whether another layer's failure ended a stream.
fn is_given_up(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(StreamError::GivenUp))
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
