//! A client of the distribution protocol: manifests and blobs of one repository, from its mirrors and its registry.

mod base64;
mod blob;
mod challenge;
mod credentials;
mod endpoint;
mod error;
mod helper;
mod login;
mod pace;
mod proxy;
mod url;

use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::header::CONTENT_TYPE;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

pub(crate) use self::blob::BlobReader;
pub use self::credentials::{CredentialError, Credentials};
use self::endpoint::{Ask, Endpoint};
use self::error::Refusal;
pub use self::error::RegistryError;
use self::pace::Paced;
use self::proxy::Proxies;
use super::digest::Digest;
use super::manifest::{ACCEPTED, Blob, LARGEST_MANIFEST};
use super::origin::Fetched;
use super::reference::Reference;
use super::registries::Registries;

/// How long to wait for a connection, an answer or the next bytes, unless the host's configuration says otherwise.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often all addresses are asked in turn while one of them may answer a moment later.
const ROUNDS: u32 = 4;
/// No further round begins after this time.
const LAST_ROUND: Duration = Duration::from_secs(120);

/// A client for one repository.
pub(crate) struct Client {
    endpoints: Vec<Endpoint>,
    patience: Duration,
}

impl Client {
    /// A client for the reference's repository. Nothing is sent yet.
    ///
    /// # Errors
    /// When the registry's file of certificates cannot be read.
    pub(crate) fn new(
        reference: &Reference,
        registries: &Registries,
        credentials: &Credentials,
    ) -> Result<Client, RegistryError> {
        let settings = registries.get(reference.registry());
        let patience = settings.and_then(|settings| settings.timeout).unwrap_or(PATIENCE);
        let roots = match settings.and_then(|settings| settings.ca.as_ref()) {
            None => RootCerts::PlatformVerifier,
            Some(file) => certificates(file).map_err(|reason| RegistryError {
                tried: vec![(
                    file.display().to_string(),
                    Refusal::Protocol(format!("no certificates: {reason}")),
                )],
            })?,
        };
        let proxies = Proxies::from_environment().map_err(|(variable, reason)| RegistryError {
            tried: vec![(variable, Refusal::Protocol(reason))],
        })?;
        let agent: Agent = Agent::config_builder()
            // Each request has its own: see `Proxies`.
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("ringfence/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_resolve(Some(patience))
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .build()
            .into();
        let endpoints = registries
            .addresses(reference.registry())
            .into_iter()
            .map(|address| {
                Endpoint::new(
                    address,
                    agent.clone(),
                    proxies.clone(),
                    patience,
                    reference.repository(),
                    settings,
                    credentials,
                )
            })
            .collect();
        Ok(Client { endpoints, patience })
    }

    /// Gets a manifest or an index by tag or digest. With `expected` the bytes must have that digest.
    ///
    /// # Errors
    /// When no address has it, or what came is too large or not what was asked for.
    pub(crate) fn manifest(&self, wanted: &str, expected: Option<Digest>) -> Result<Fetched, RegistryError> {
        self.each(|endpoint| {
            let accept = ACCEPTED.join(", ");
            let ask = Ask {
                accept: Some(&accept),
                from: 0,
            };
            let response = endpoint.get(&format!("manifests/{wanted}"), ask)?;
            let media_type = response
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|kind| kind.to_str().ok())
                .map(str::to_owned);
            if media_type
                .as_deref()
                .is_some_and(|kind| kind.starts_with("text/html"))
            {
                return Err(Refusal::Protocol(
                    "it answers a web page; perhaps a network on the way wants a login".to_owned(),
                ));
            }
            let bytes = self.bounded(response.into_body().into_reader(), LARGEST_MANIFEST)?;
            let digest = Digest::of(&bytes);
            match expected {
                // The hash of the bytes decides, whatever the registry's headers say (CVE-2026-85747).
                Some(wanted) if wanted != digest => Err(Refusal::Digest {
                    wanted,
                    found: digest,
                }),
                _ => Ok(Fetched {
                    bytes,
                    digest,
                    media_type,
                }),
            }
        })
    }

    /// Gets a small blob, verified.
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub(crate) fn small(self: &Arc<Client>, blob: Blob) -> Result<Vec<u8>, RegistryError> {
        self.each(|endpoint| {
            let response = endpoint.get(&format!("blobs/{}", blob.digest), Ask::default())?;
            let bytes = self.bounded(response.into_body().into_reader(), blob.size)?;
            match Digest::of(&bytes) {
                digest if digest == blob.digest => Ok(bytes),
                found => Err(Refusal::Digest {
                    wanted: blob.digest,
                    found,
                }),
            }
        })
    }

    /// Opens a blob as a stream, not verified. Another `attempt`, counted from 0, begins with another address.
    ///
    /// # Errors
    /// When no address has it.
    pub(crate) fn blob(self: &Arc<Client>, blob: Blob, attempt: usize) -> Result<BlobReader, RegistryError> {
        BlobReader::open(Arc::clone(self), blob, attempt)
    }

    /// Asks the addresses in turn; all again a moment later while one of them may come back.
    fn each<T>(&self, request: impl Fn(&Endpoint) -> Result<T, Refusal>) -> Result<T, RegistryError> {
        self.each_from(0, request)
    }

    /// The same, beginning with another address than the first.
    fn each_from<T>(
        &self,
        first: usize,
        request: impl Fn(&Endpoint) -> Result<T, Refusal>,
    ) -> Result<T, RegistryError> {
        let (before, after) = self.endpoints.split_at(first % self.endpoints.len().max(1));
        let started = Instant::now();
        let mut round = 0;
        loop {
            round += 1;
            let mut tried = Vec::new();
            for endpoint in after.iter().chain(before) {
                match request(endpoint) {
                    Ok(answer) => return Ok(answer),
                    Err(refusal) => tried.push((endpoint.address.as_str().to_owned(), refusal)),
                }
            }
            let again = tried.iter().any(|(_, refusal)| refusal.is_transient());
            if !again || round == ROUNDS || started.elapsed() > LAST_ROUND {
                return Err(RegistryError { tried });
            }
            pause(round, tried.iter().find_map(|(_, refusal)| refusal.wait()));
        }
    }

    fn bounded(&self, body: impl Read, most: u64) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        Paced::new(body, self.patience)
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Refusal::from_io(&error, self.patience))?;
        match bytes.len() as u64 > most {
            true => Err(Refusal::TooLarge(most)),
            false => Ok(bytes),
        }
    }
}

/// Waits before attempt `attempt + 1`: as long as was asked for, else a time that doubles, with jitter so that many
/// clients that lost one registry do not come back at once.
fn pause(attempt: u32, asked: Option<Duration>) {
    let base = asked.unwrap_or(Duration::from_millis(200 << attempt.min(5)));
    std::thread::sleep(base + base.mul_f64(random_share() / 2.0));
}

/// A number from 0 to 1; the standard library's hash keys are its source.
fn random_share() -> f64 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    f64::from(random as u32) / f64::from(u32::MAX)
}

/// The host's own roots and those of a file: behind the address of a mirror there may be a public one.
fn certificates(file: &std::path::Path) -> Result<RootCerts, String> {
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    // A host without any has only this file's.
    let host = rustls_native_certs::load_native_certs().certs;
    found.extend(
        host.iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned()),
    );
    Ok(RootCerts::new_with_certs(&found))
}
