//! A blob as one stream, though its connection may break on the way.

use std::io::{self, Read};
use std::sync::Arc;

use ureq::http::Response;

use super::super::manifest::Blob;
use super::error::{Refusal, RegistryError};
use super::pace::Paced;
use super::{Ask, Client, pause};

/// Breaks of a transfer, with less than [`FAR`] between them, before it is given up.
const ATTEMPTS: u32 = 4;
/// Bytes after which a break is forgotten.
const FAR: u64 = 1 << 20;

/// The bytes of a blob, exactly as many as its descriptor says. A broken transfer goes on where it broke off.
///
/// The bytes are not verified here: whoever reads them hashes them, and only the hash of the whole counts.
pub(crate) struct BlobReader {
    client: Arc<Client>,
    blob: Blob,
    offset: u64,
    body: Box<dyn Read + Send>,
    /// The address that is asked first.
    first: usize,
    attempts: u32,
    /// Where the last break was.
    broke: u64,
}

impl BlobReader {
    pub(super) fn open(client: Arc<Client>, blob: Blob, first: usize) -> Result<BlobReader, RegistryError> {
        let body = client.blob_from(&blob, 0, first)?;
        Ok(BlobReader {
            client,
            blob,
            offset: 0,
            body,
            first,
            attempts: 0,
            broke: 0,
        })
    }

    fn resume(&mut self, broken: &str) -> io::Result<()> {
        if self.offset - self.broke >= FAR {
            self.attempts = 0;
        }
        self.broke = self.offset;
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            return Err(io::Error::other(format!(
                "the transfer broke off after {} of {} bytes, {ATTEMPTS} times: {broken}",
                self.offset, self.blob.size
            )));
        }
        pause(self.attempts, None);
        self.body = self
            .client
            .blob_from(&self.blob, self.offset, self.first)
            .map_err(io::Error::other)?;
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.size - self.offset;
        if buffer.is_empty() || left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        loop {
            match self.body.read(&mut buffer[..most]) {
                Ok(0) => self.resume("the connection ended too early")?,
                Ok(read) => {
                    self.offset += read as u64;
                    return Ok(read);
                }
                Err(error) => {
                    let refusal = Refusal::from_io(&error, self.client.patience);
                    self.resume(&refusal.to_string())?;
                }
            }
        }
    }
}

impl Client {
    /// The blob's bytes from `offset` on. A registry that ignores `Range` has its first bytes skipped.
    fn blob_from(
        &self,
        blob: &Blob,
        offset: u64,
        first: usize,
    ) -> Result<Box<dyn Read + Send>, RegistryError> {
        self.each_from(first, |endpoint| {
            let path = format!("blobs/{}", blob.digest);
            let ask = |from| endpoint.get(&path, Ask { accept: None, from });
            let response = match ask(offset) {
                // Not every registry knows what it was asked for: the whole can always be had.
                Err(Refusal::Status { status: 416, .. }) => ask(0)?,
                Ok(response) if !begins_at(&response, offset) => ask(0)?,
                response => response?,
            };
            let partial = response.status().as_u16() == 206;
            let length = response
                .headers()
                .get("content-length")
                .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
            let skipped = if partial { 0 } else { offset };
            let expected = blob.size - offset + skipped;
            if let Some(length) = length
                && length != expected
            {
                return Err(Refusal::Protocol(format!(
                    "{} has {length} bytes where its manifest says {expected}",
                    blob.digest
                )));
            }
            let mut body = Paced::new(response.into_body().into_reader(), self.patience);
            let read = io::copy(&mut (&mut body).take(skipped), &mut io::sink())
                .map_err(|error| Refusal::from_io(&error, self.patience))?;
            if read < skipped {
                return Err(Refusal::Connection("the connection ended too early".to_owned()));
            }
            Ok(Box::new(body) as Box<dyn Read + Send>)
        })
    }
}

/// Whether an answer is what `Range` asked for, or the whole.
fn begins_at(response: &Response<ureq::Body>, offset: u64) -> bool {
    let range = response
        .headers()
        .get("content-range")
        .and_then(|range| range.to_str().ok());
    response.status().as_u16() != 206
        || range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}
