//! The least speed of a transfer: one in which something comes all the time may yet take a week.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// The least of a transfer, in bytes a second; a slower one counts as broken.
const SLOWEST: u64 = 1 << 10;

/// An answer's bytes, as long as they come fast enough.
pub(super) struct Paced<R> {
    inner: R,
    /// As long as one waits for an answer: over such a time the speed is taken.
    patience: Duration,
    since: Instant,
    come: u64,
}

impl<R: Read> Paced<R> {
    pub(super) fn new(inner: R, patience: Duration) -> Paced<R> {
        Paced {
            inner,
            patience,
            since: Instant::now(),
            come: 0,
        }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.come += read as u64;
        let time = self.since.elapsed();
        if read == 0 || time < self.patience {
            return Ok(read);
        }
        let wanted = (time.as_secs_f64() * SLOWEST as f64) as u64;
        let come = std::mem::take(&mut self.come);
        self.since = Instant::now();
        match come < wanted {
            true => Err(io::Error::other("less than 1 KiB came in a second")),
            false => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, each after a while.
    struct Slow(usize);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Ok(0);
            }
            std::thread::sleep(Duration::from_millis(2));
            self.0 -= 1;
            buffer[0] = b'x';
            Ok(1)
        }
    }

    #[test]
    fn what_crawls_is_an_error_and_the_end_is_none() {
        let read = |bytes, patience| {
            let mut all = Vec::new();
            Paced::new(Slow(bytes), Duration::from_millis(patience))
                .read_to_end(&mut all)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(1000, 20), Err("less than 1 KiB came in a second".to_owned()));
        assert_eq!(read(5, 60_000), Ok(5));
        assert_eq!(read(0, 0), Ok(0));
    }
}
