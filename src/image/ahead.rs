//! Reading ahead: a step of a stream in a thread of its own, so that the steps of one layer use several processors.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Bytes of one buffer.
const BUFFER: usize = 256 << 10;
/// Full buffers between two threads: one may sleep while the other has work, and a layer's two take 2 MiB.
const BUFFERS: usize = 4;

/// Bytes that were read, and room for as many as there may be.
struct Buffer {
    room: Box<[u8]>,
    filled: usize,
}

/// A source that another thread reads, some buffers ahead of whoever reads this.
pub(crate) struct Ahead<'scope, R> {
    full: Receiver<io::Result<Buffer>>,
    /// Where buffers go back to, to be filled again.
    empty: Sender<Buffer>,
    thread: ScopedJoinHandle<'scope, R>,
    current: Option<Buffer>,
    at: usize,
}

impl<'scope, R: Read + Send + 'scope> Ahead<'scope, R> {
    /// Starts the thread. It ends with the source, with the source's first error, or when no one reads any more.
    ///
    /// # Errors
    /// EAGAIN at a limit of processes.
    pub(crate) fn start<'env>(scope: &'scope Scope<'scope, 'env>, source: R) -> io::Result<Ahead<'scope, R>> {
        let (to_reader, full) = sync_channel(BUFFERS);
        let (empty, from_reader) = channel();
        let thread = Builder::new().spawn_scoped(scope, move || read(source, &to_reader, &from_reader))?;
        Ok(Ahead {
            full,
            empty,
            thread,
            current: None,
            at: 0,
        })
    }

    /// Reads what is left, and gives the source back.
    ///
    /// # Errors
    /// The source's.
    pub(crate) fn finish(mut self) -> io::Result<R> {
        loop {
            match self.fill_buf()?.len() {
                0 => break,
                length => self.consume(length),
            }
        }
        self.thread
            .join()
            .or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl<R> BufRead for Ahead<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self
            .current
            .as_ref()
            .is_none_or(|buffer| self.at == buffer.filled)
        {
            if let Some(buffer) = self.current.take() {
                // The thread may have ended: then no buffer is needed any more.
                self.empty.send(buffer).ok();
            }
            self.at = 0;
            // The thread's end is the source's.
            self.current = self.full.recv().ok().transpose()?;
        }
        Ok(self
            .current
            .as_ref()
            .map_or(&[], |buffer| &buffer.room[self.at..buffer.filled]))
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl<R> Read for Ahead<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

fn read<R: Read>(mut source: R, full: &SyncSender<io::Result<Buffer>>, empty: &Receiver<Buffer>) -> R {
    loop {
        let mut buffer = empty.try_recv().unwrap_or_else(|_| Buffer {
            room: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
        });
        let error = fill(&mut source, &mut buffer).err();
        let ended = buffer.filled < BUFFER;
        let sent = buffer.filled == 0 || full.send(Ok(buffer)).is_ok();
        if let Some(error) = error {
            // Without a reader there is no one to tell.
            full.send(Err(error)).ok();
        }
        if ended || !sent {
            return source;
        }
    }
}

/// Fills a buffer; fewer bytes come before an error or at the end.
fn fill(source: &mut impl Read, buffer: &mut Buffer) -> io::Result<()> {
    buffer.filled = 0;
    while buffer.filled < buffer.room.len() {
        match source.read(&mut buffer.room[buffer.filled..]) {
            Ok(0) => break,
            Ok(read) => buffer.filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_what_went_in() {
        let bytes: Vec<u8> = (0..3 * BUFFER + 7).map(|number| number as u8).collect();
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, &bytes[..]).unwrap();
            let mut out = vec![0; 10];
            ahead.read_exact(&mut out).unwrap();
            ahead.read_to_end(&mut out).unwrap();
            assert!(out == bytes);
            assert!(ahead.finish().unwrap().is_empty());
        });
    }

    #[test]
    fn an_error_comes_after_the_bytes_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, b"before".chain(Broken)).unwrap();
            let mut out = Vec::new();
            assert_eq!(ahead.read_to_end(&mut out).unwrap_err().to_string(), "broken");
            assert_eq!(out, b"before");
        });
    }

    #[test]
    fn a_source_without_a_reader_is_left() {
        std::thread::scope(|scope| {
            let mut ahead = Ahead::start(scope, io::repeat(1)).unwrap();
            let mut out = [0; 3];
            ahead.read_exact(&mut out).unwrap();
            assert_eq!(out, [1; 3]);
        });
    }
}
