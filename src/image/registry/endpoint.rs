//! One address of a registry: requests with its credential, redirects without.

use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Deserialize;
use ureq::http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{Response, Uri};
use ureq::{Agent, RequestBuilder};

use super::super::registries::{Address, Registry};
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::error::Refusal;
use super::login::Login;
use super::pace::Paced;
use super::proxy::Proxies;
use super::url::{authority, is_inner, is_link_local};

/// Most redirects that one request follows.
const MOST_REDIRECTS: usize = 5;
/// Most bytes that are read of an error's or a token service's answer.
pub(super) const LARGEST_ANSWER: u64 = 64 << 10;

/// One address of a registry.
pub(super) struct Endpoint {
    pub(super) address: Address,
    pub(super) patience: Duration,
    pub(super) agent: Agent,
    proxies: Proxies,
    pub(super) repository: String,
    pub(super) credentials: Credentials,
    pub(super) token_hosts: Vec<String>,
    /// What the registry took last.
    login: Mutex<Option<Login>>,
}

/// What a request asks for besides its path.
#[derive(Clone, Copy, Default)]
pub(super) struct Ask<'a> {
    pub(super) accept: Option<&'a str>,
    /// The first byte wanted.
    pub(super) from: u64,
}

impl Endpoint {
    pub(super) fn new(
        address: Address,
        agent: Agent,
        proxies: Proxies,
        patience: Duration,
        repository: &str,
        settings: Option<&Registry>,
        credentials: &Credentials,
    ) -> Endpoint {
        let mut token_hosts = settings
            .map(|settings| settings.token_hosts.clone())
            .unwrap_or_default();
        token_hosts.push(address.authority().to_owned());
        match address.authority() {
            "registry-1.docker.io" => token_hosts.push("auth.docker.io".to_owned()),
            "registry.gitlab.com" => token_hosts.push("gitlab.com".to_owned()),
            _ => {}
        }
        Endpoint {
            address,
            patience,
            agent,
            proxies,
            repository: repository.to_owned(),
            credentials: credentials.clone(),
            token_hosts,
            login: Mutex::new(None),
        }
    }

    /// Gets `/v2/REPOSITORY/PATH`: logs in when the registry asks for it, once.
    pub(super) fn get(&self, path: &str, ask: Ask<'_>) -> Result<Response<ureq::Body>, Refusal> {
        let url = format!("{}/v2/{}/{path}", self.address.as_str(), self.repository);
        let known = self.login().clone();
        let login = match known {
            Some(known) if known.is_over(Instant::now()) => self.answer(known.challenge)?,
            known => known,
        };
        let mut response = self.follow(&url, ask, login.as_ref())?;
        let mut taken = login;
        if response.status().as_u16() == 401
            && let Some(challenge) = Challenge::of(response.headers())
            && let Some(login) = self.answer(challenge)?
        {
            response = self.follow(&url, ask, Some(&login))?;
            taken = Some(login);
        }
        if response.status().is_success() {
            *self.login() = taken;
        }
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            _ => Err(self.refusal(response)),
        }
    }

    fn login(&self) -> MutexGuard<'_, Option<Login>> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request and its redirects. The credential goes to the registry's own scheme, host and port alone.
    fn follow(
        &self,
        url: &str,
        ask: Ask<'_>,
        login: Option<&Login>,
    ) -> Result<Response<ureq::Body>, Refusal> {
        let mut url = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let own = self.is_own(&url);
            let mut request = self
                .on_the_way(&url, self.agent.get(&url))
                .header(ACCEPT_ENCODING, "identity");
            if let Some(accept) = ask.accept {
                request = request.header(ACCEPT, accept);
            }
            if ask.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.from));
            }
            if let Some(login) = login.filter(|_| own) {
                request = request.header(AUTHORIZATION, login.value.clone());
            }
            let response = request
                .call()
                .map_err(|error| Refusal::from_transfer(error, self.patience))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            url = self.redirected(&url, location)?;
        }
        Err(Refusal::Redirect {
            to: shown(&url),
            reason: "more than 5 in a row",
        })
    }

    /// A request through the proxy that the environment names for its URL.
    pub(super) fn on_the_way<B>(&self, url: &str, request: RequestBuilder<B>) -> RequestBuilder<B> {
        let proxy = authority(url).and_then(|(https, authority)| self.proxies.on_the_way(https, authority));
        match proxy {
            Some(proxy) => request.config().proxy(Some(proxy.clone())).build(),
            None => request,
        }
    }

    fn is_own(&self, url: &str) -> bool {
        url.strip_prefix(self.address.as_str())
            .is_some_and(|rest| rest.starts_with('/'))
            || authority(url) == Some((self.address.is_https(), self.address.authority()))
    }

    /// Where a redirect leads, if it may lead there.
    fn redirected(&self, from: &str, location: &str) -> Result<String, Refusal> {
        let refused = |reason| {
            Err(Refusal::Redirect {
                to: shown(location),
                reason,
            })
        };
        let (from_https, from_authority) = authority(from).unwrap_or((true, ""));
        let scheme = if from_https { "https" } else { "http" };
        let url = match location {
            _ if location.starts_with("https://") || location.starts_with("http://") => location.to_owned(),
            _ if location.starts_with("//") => format!("{scheme}:{location}"),
            _ if location.starts_with('/') => format!("{scheme}://{from_authority}{location}"),
            _ => return refused("not an address of https"),
        };
        if url.parse::<Uri>().is_err() {
            return refused("not an address of https");
        }
        let Some((https, to)) = authority(&url) else {
            return refused("it names a user");
        };
        if !https && (from_https || self.address.is_https()) {
            return refused("it is not encrypted");
        }
        if to != self.address.authority() && is_inner(to) && !self.may_reach_inner(to) {
            return refused("it leads into a private network");
        }
        Ok(url)
    }

    /// A registry that is itself in a private network may name others there, but never link-local addresses,
    /// where clouds keep their metadata services.
    pub(super) fn may_reach_inner(&self, to: &str) -> bool {
        self.token_hosts.iter().any(|host| host == to)
            || (is_inner(self.address.authority()) && !is_link_local(to))
    }

    pub(super) fn login_name(&self) -> String {
        match self.address.authority() {
            "registry-1.docker.io" => "docker.io".to_owned(),
            other => other.to_owned(),
        }
    }

    fn refusal(&self, response: Response<ureq::Body>) -> Refusal {
        let status = response.status().as_u16();
        let wait = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| wait(value.to_str().ok()?, SystemTime::now()));
        let mut body = Vec::new();
        // The body only makes the message better; one that breaks off is no error of its own.
        drop(
            Paced::new(response.into_body().into_reader(), self.patience)
                .take(LARGEST_ANSWER)
                .read_to_end(&mut body),
        );
        let reason = message(&body);
        match status {
            404 => Refusal::NotFound(reason),
            401 | 403 => Refusal::Denied {
                status,
                login: self.login_name(),
                reason,
            },
            _ => Refusal::Status { status, reason, wait },
        }
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(
            httpdate::parse_http_date(text.trim())
                .ok()?
                .duration_since(now)
                .unwrap_or_default(),
        ),
    }
}

/// The first message of a registry's error document; empty when there is none.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Document {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Document>(body) {
        Ok(document) => document
            .errors
            .first()
            .map(|entry| shown(&entry.message))
            .unwrap_or_default(),
        Err(_) => String::new(),
    }
}

pub(super) fn shown(text: &str) -> String {
    super::super::printable(text, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        let agent = Agent::new_with_defaults();
        let address = Address::parse(address).unwrap();
        Endpoint::new(
            address,
            agent,
            Proxies::default(),
            Duration::from_secs(1),
            "library/x",
            None,
            &Credentials::none(),
        )
    }

    fn redirect(endpoint: &Endpoint, location: &str) -> String {
        let from = format!("{}/v2/library/x/blobs/y", endpoint.address.as_str());
        match endpoint.redirected(&from, location) {
            Ok(url) => url,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn redirects_stay_encrypted_and_outside() {
        let public = endpoint("https://r.example");
        assert_eq!(redirect(&public, "/b"), "https://r.example/b");
        assert_eq!(
            redirect(&public, "https://cdn.example/b?x=1"),
            "https://cdn.example/b?x=1"
        );
        for (location, reason) in [
            ("http://cdn.example/b", "it is not encrypted"),
            ("https://127.0.0.1/b", "it leads into a private network"),
            ("https://169.254.169.254/b", "it leads into a private network"),
            ("https://[::ffff:10.0.0.1]/b", "it leads into a private network"),
            ("https://u:p@cdn.example/b", "it names a user"),
            ("file:///etc/passwd", "not an address of https"),
            ("", "not an address of https"),
        ] {
            assert_eq!(
                redirect(&public, location),
                format!("redirect to {location}: {reason}")
            );
        }
        let inner = endpoint("http://127.0.0.1:5000");
        assert_eq!(
            redirect(&inner, "http://127.0.0.1:6000/b"),
            "http://127.0.0.1:6000/b"
        );
        assert_eq!(
            redirect(&inner, "http://169.254.169.254/b"),
            "redirect to http://169.254.169.254/b: it leads into a private network"
        );
    }

    #[test]
    fn a_registry_may_say_when_to_come_back() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:42 GMT", Some(5)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(wait(text, now).map(|wait| wait.as_secs()), seconds, "{text}");
        }
    }

    #[test]
    fn only_the_own_host_sees_the_credential() {
        let own = endpoint("https://r.example:444");
        assert!(own.is_own("https://r.example:444/v2/x"));
        for other in [
            "https://r.example/v2",
            "http://r.example:444/v2",
            "https://r.example:4444/",
            "https://r.example:444@evil/",
            "https://r.example:444.evil/",
        ] {
            assert!(!own.is_own(other), "{other}");
        }
    }

    #[test]
    fn a_token_service_must_be_encrypted_and_outside() {
        let public = endpoint("https://r.example");
        for (realm, want) in [
            (
                "http://r.example/token",
                "token service http://r.example/token: it is not encrypted",
            ),
            (
                "https://169.254.169.254/token",
                "token service https://169.254.169.254/token: it leads into a private network",
            ),
            (
                "https://u@r.example/token",
                "token service https://u@r.example/token: not an address of https",
            ),
            ("nonsense", "token service nonsense: not an address of https"),
        ] {
            assert_eq!(public.token(realm, None).err().unwrap().to_string(), want);
        }
    }
}
