//! What can go wrong with a registry, told once.

use std::fmt;
use std::time::Duration;

use super::super::digest::Digest;
use super::credentials::CredentialError;

/// The longest wait that a registry may ask for; one that asks for more is given up.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const NO_ADDRESS: &str = "the host's name has no address";

/// A content could not be had from a registry: what each of its addresses answered.
#[derive(Debug, thiserror::Error)]
#[error("{}", .tried.iter().map(|(address, refusal)| format!("{address}: {refusal}")).collect::<Vec<_>>().join("; "))]
pub struct RegistryError {
    /// Each address with its last answer, in the order of asking.
    pub(super) tried: Vec<(String, Refusal)>,
}

/// Why one address did not give a content.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("not found (404){}", said(.0))]
    NotFound(String),
    #[error("access refused ({status}){}; if the image exists, log in with `docker login {login}`", said(.reason))]
    Denied {
        status: u16,
        login: String,
        reason: String,
    },
    #[error("it answers {status}{}{}", said(.reason), later(*.wait))]
    Status {
        status: u16,
        reason: String,
        wait: Option<Duration>,
    },
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("{0}")]
    Connection(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("redirect to {to}: {reason}")]
    Redirect { to: String, reason: &'static str },
    #[error("token service {realm}: {reason}")]
    Token {
        realm: String,
        reason: String,
        transient: bool,
    },
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("its answer is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the content has the digest {found}, not {wanted}")]
    Digest { wanted: Digest, found: Digest },
    #[error("{0}")]
    Protocol(String),
}

impl Refusal {
    /// Whether the same request may succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Refusal::Status { status, wait, .. } => {
                matches!(status, 408 | 429 | 500..=599) && wait.is_none_or(|wait| wait <= LONGEST_WAIT)
            }
            Refusal::Timeout(_) | Refusal::Connection(_) => true,
            Refusal::Token { transient, .. } => *transient,
            _ => false,
        }
    }

    /// How long the registry asked to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Refusal::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    pub(super) fn from_transfer(error: ureq::Error, patience: Duration) -> Refusal {
        use ureq::Error;
        match error {
            Error::Timeout(_) => Refusal::Timeout(patience),
            Error::HostNotFound => Refusal::Connection(NO_ADDRESS.to_owned()),
            Error::Tls(reason) => Refusal::Tls(reason.to_owned()),
            Error::Rustls(reason) => Refusal::Tls(reason.to_string()),
            Error::Io(error) => Refusal::from_io(&error, patience),
            Error::Protocol(reason) => Refusal::Connection(format!(
                "not an answer of HTTP: {}",
                printable(&reason.to_string())
            )),
            Error::ConnectProxyFailed(reason) => {
                // "proxy server responded 407/407"
                let status = reason.rsplit('/').next().unwrap_or(&reason);
                Refusal::Connection(format!("the proxy answers {}", printable(status)))
            }
            Error::ConnectionFailed => Refusal::Connection("connection failed".to_owned()),
            other => Refusal::Protocol(printable(&other.to_string())),
        }
    }

    pub(super) fn from_io(error: &std::io::Error, patience: Duration) -> Refusal {
        use std::io::ErrorKind;
        if let Some(inner) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<ureq::Error>())
            && matches!(inner, ureq::Error::Timeout(_))
        {
            return Refusal::Timeout(patience);
        }
        // The standard library's words for what getaddrinfo(3) says; it has no kind of its own.
        if let Some(reason) = error
            .to_string()
            .strip_prefix("failed to lookup address information: ")
        {
            return Refusal::Connection(format!("{NO_ADDRESS}: {}", printable(reason)));
        }
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Refusal::Timeout(patience),
            ErrorKind::ConnectionRefused => Refusal::Connection("connection refused".to_owned()),
            ErrorKind::UnexpectedEof => Refusal::Connection("the connection ended too early".to_owned()),
            // rustls reports a certificate it does not trust as invalid data.
            ErrorKind::InvalidData => Refusal::Tls(printable(&error.to_string())),
            _ => Refusal::Connection(printable(&error.to_string())),
        }
    }
}

fn printable(text: &str) -> String {
    super::super::printable(text, 200)
}

fn later(wait: Option<Duration>) -> impl fmt::Display {
    match wait {
        Some(wait) if wait > LONGEST_WAIT => format!("; come back in {} s", wait.as_secs()),
        _ => String::new(),
    }
}

fn said(reason: &str) -> impl fmt::Display {
    match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    }
}
