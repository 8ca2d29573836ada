//! What a registry takes as proof of who asks: a password, or a token of a token service.

use std::io::Read;
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::header::AUTHORIZATION;
use ureq::http::{HeaderValue, Uri};

use super::base64;
use super::challenge::Challenge;
use super::credentials::Credential;
use super::endpoint::{Endpoint, LARGEST_ANSWER, shown};
use super::error::Refusal;
use super::pace::Paced;
use super::url::{authority, is_inner};

/// How long a token is good for whose service does not say (distribution token specification, `expires_in`).
const UNSAID_LIFE: Duration = Duration::from_secs(60);

/// The answer to a challenge.
#[derive(Clone)]
pub(super) struct Login {
    /// The value of `Authorization`.
    pub(super) value: HeaderValue,
    /// What it answers.
    pub(super) challenge: Challenge,
    /// When the next one has to be had; none for a password.
    until: Option<Instant>,
}

impl Login {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

impl Endpoint {
    /// Answers a challenge; none when there is nothing to offer.
    pub(super) fn answer(&self, challenge: Challenge) -> Result<Option<Login>, Refusal> {
        let (value, until) = match &challenge {
            Challenge::Basic => match self
                .credentials
                .find(self.address.authority(), &self.repository)?
            {
                Some(Credential::Password { user, password }) => (basic(&user, &password), None),
                _ => return Ok(None),
            },
            Challenge::Bearer { realm, service } => {
                let asked = Instant::now();
                let (value, life) = self.token(realm, service.as_deref())?;
                (value, asked.checked_add(life))
            }
        };
        Ok(Some(Login {
            value,
            challenge,
            until,
        }))
    }

    /// Asks a token service; gives the token and how long it is good for. The service sees the credential only when its host is the registry's own, well known or configured
    /// (CVE-2026-33540 and its like); any other is asked anonymously.
    pub(super) fn token(
        &self,
        realm: &str,
        service: Option<&str>,
    ) -> Result<(HeaderValue, Duration), Refusal> {
        let failed = |reason: String, transient| Refusal::Token {
            realm: shown(realm),
            reason,
            transient,
        };
        let refused = |reason: &str| failed(reason.to_owned(), false);
        let Some((https, host)) = authority(realm).filter(|_| realm.parse::<Uri>().is_ok()) else {
            return Err(refused("not an address of https"));
        };
        let pinned = self.token_hosts.iter().any(|known| known == host);
        if !https && (self.address.is_https() || !pinned) {
            return Err(refused("it is not encrypted"));
        }
        if !pinned && is_inner(host) && !self.may_reach_inner(host) {
            return Err(refused("it leads into a private network"));
        }
        let credential = match pinned {
            true => self
                .credentials
                .find(self.address.authority(), &self.repository)?,
            false => None,
        };
        let scope = format!("repository:{}:pull", self.repository);
        let mut query = vec![("scope", scope.as_str())];
        query.extend(service.map(|service| ("service", service)));
        let answer = match &credential {
            Some(Credential::Refresh(token)) => {
                query.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "ringfence"),
                    ("refresh_token", token),
                ]);
                self.on_the_way(realm, self.agent.post(realm)).send_form(query)
            }
            Some(Credential::Password { user, password }) => self
                .on_the_way(realm, self.agent.get(realm))
                .query_pairs(query)
                .header(AUTHORIZATION, basic(user, password))
                .call(),
            None => self
                .on_the_way(realm, self.agent.get(realm))
                .query_pairs(query)
                .call(),
        };
        let answer = answer.map_err(|error| {
            let refusal = Refusal::from_transfer(error, self.patience);
            failed(refusal.to_string(), refusal.is_transient())
        })?;
        let status = answer.status().as_u16();
        if matches!(status, 401 | 403) {
            return Err(Refusal::Denied {
                status,
                login: self.login_name(),
                reason: "the token service refuses".to_owned(),
            });
        }
        if status != 200 {
            return Err(failed(
                format!("it answers {status}"),
                status == 429 || status >= 500,
            ));
        }
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<i64>,
        }
        let mut text = Vec::new();
        Paced::new(answer.into_body().into_reader(), self.patience)
            .take(LARGEST_ANSWER)
            .read_to_end(&mut text)
            .map_err(|error| failed(Refusal::from_io(&error, self.patience).to_string(), true))?;
        let token: Token = serde_json::from_slice(&text).map_err(|_| refused("its answer is not a token"))?;
        let life = token
            .expires_in
            .and_then(|seconds| u64::try_from(seconds).ok().filter(|seconds| *seconds > 0));
        let text = token.token.or(token.access_token);
        let mut value = text
            .filter(|token| !token.is_empty())
            .and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok())
            .ok_or_else(|| refused("its answer is not a token"))?;
        value.set_sensitive(true);
        Ok((value, life.map_or(UNSAID_LIFE, Duration::from_secs)))
    }
}

fn basic(user: &str, password: &str) -> HeaderValue {
    let text = format!(
        "Basic {}",
        base64::encode(format!("{user}:{password}").as_bytes())
    );
    let mut value = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
