//! The way of a layer's bytes: counted, hashed, decompressed, bounded, hashed again, without being stored on the way.

use std::io::{self, BufRead, Read};

use super::manifest::Compression;
use super::unpack::Limits;

/// The largest window of a zstd frame, as a power of two: 128 MiB, what the zstd program accepts by default.
const LARGEST_WINDOW: u32 = 27;

/// What ended a stream, told apart from what a reader of it finds wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The transfer.
    #[error("{0}")]
    Transfer(String),
    /// The compressed form is damaged.
    #[error("{0}")]
    Compression(String),
    /// A bomb.
    #[error("{0}")]
    TooLarge(String),
    /// Another layer of the image failed: nothing more is worth while.
    #[error("given up because another layer failed")]
    GivenUp,
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> io::Error {
        io::Error::other(error)
    }
}

/// Decompresses; errors of the source pass through.
pub(crate) fn decompress<'a>(
    source: impl BufRead + Send + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(Decoded {
            inner: flate2::bufread::MultiGzDecoder::new(source),
            name: "gzip",
        }),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(LARGEST_WINDOW)?;
            Box::new(Decoded {
                inner: decoder,
                name: "zstd",
            })
        }
    })
}

struct Decoded<R> {
    inner: R,
    name: &'static str,
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let ours = error.get_ref().is_some_and(|inner| inner.is::<StreamError>());
            match ours || error.kind() == io::ErrorKind::Interrupted {
                true => error,
                false => {
                    StreamError::Compression(format!("its {} data is damaged: {error}", self.name)).into()
                }
            }
        })
    }
}

/// Ends a stream that grows beyond its bounds.
pub(crate) struct Bounded<R> {
    inner: R,
    left: u64,
    most: u64,
}

impl<R: Read> Bounded<R> {
    /// Bounds for a layer whose compressed form has `size` bytes.
    pub(crate) fn new(inner: R, size: u64, limits: &Limits) -> Bounded<R> {
        let most = limits
            .bytes
            .min(size.saturating_mul(limits.ratio).max(limits.free));
        Bounded {
            inner,
            left: most,
            most,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                let reason = format!(
                    "it unpacks to more than {} bytes, which is out of proportion",
                    self.most
                );
                return Err(StreamError::TooLarge(reason).into());
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::unpack::LIMITS;
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8], compression: Compression) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut stream = decompress(bytes, compression).map_err(|error| error.to_string())?;
        stream.read_to_end(&mut out).map_err(|error| error.to_string())?;
        Ok(out)
    }

    #[test]
    fn all_members_and_frames_are_read() {
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(read(&two, Compression::Gzip).unwrap(), b"onetwo");
        let two = [
            zstd::encode_all(&b"one"[..], 1).unwrap(),
            zstd::encode_all(&b"two"[..], 1).unwrap(),
        ]
        .concat();
        assert_eq!(read(&two, Compression::Zstd).unwrap(), b"onetwo");
        assert_eq!(read(b"plain", Compression::None).unwrap(), b"plain");
    }

    #[test]
    fn damage_is_named() {
        let good = gzip(b"some content");
        let trailing = [good.clone(), b"garbage".to_vec()].concat();
        for bad in [&good[..good.len() - 3], &trailing, b"not gzip", &good[..5]] {
            let error = read(bad, Compression::Gzip).unwrap_err();
            assert!(error.starts_with("its gzip data is damaged: "), "{error}");
        }
        let error = read(b"not zstd at all", Compression::Zstd).unwrap_err();
        assert!(error.starts_with("its zstd data is damaged: "), "{error}");
    }

    #[test]
    fn a_bomb_ends_at_its_bound() {
        let limits = Limits {
            free: 1000,
            ratio: 2,
            ..LIMITS
        };
        let mut small = Bounded::new(io::repeat(0).take(1000), 10, &limits);
        assert_eq!(io::copy(&mut small, &mut io::sink()).unwrap(), 1000);
        let mut bomb = Bounded::new(io::repeat(0), 10, &limits);
        assert_eq!(
            io::copy(&mut bomb, &mut io::sink()).unwrap_err().to_string(),
            "it unpacks to more than 1000 bytes, which is out of proportion"
        );
    }
}
