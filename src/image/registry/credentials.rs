//! Credentials as `docker login` and `podman login` leave them, and the helpers that keep them elsewhere.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::base64;
use super::helper::Helpers;
use crate::sys::fork::Child;

/// The key of Docker Hub in Docker's configuration, and what its helpers are asked for.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The largest configuration file, in bytes.
const LARGEST: u64 = 1 << 20;

/// What proves who pulls. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Credential {
    /// A name and a password.
    Password { user: String, password: String },
    /// A refresh token for the token service (OAuth 2).
    Refresh(String),
}

/// Why credentials that are configured cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("credentials {file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not what `docker login` writes.
    #[error("credentials {file}: {reason}")]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A credential helper did not answer.
    #[error("credential helper docker-credential-{helper}: {reason}")]
    Helper {
        /// The helper's name in the configuration.
        helper: String,
        /// What it said, or why it could not run.
        reason: String,
    },
}

/// Where credentials are looked up; nothing is read before a registry asks.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    file: Option<PathBuf>,
    helpers: Helpers,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

impl Credentials {
    /// None at all: every registry is asked anonymously.
    pub fn none() -> Credentials {
        Credentials::default()
    }

    /// `$REGISTRY_AUTH_FILE`, else `~/.docker/config.json`; helpers are looked up in the absolute folders of `$PATH`.
    pub fn from_environment() -> Credentials {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = set("REGISTRY_AUTH_FILE")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| Path::new(&home).join(".docker/config.json")));
        Credentials {
            file,
            helpers: Helpers::from_environment(),
        }
    }

    /// The same for a process that is about to enter a user namespace: its helpers are run by the child that comes back too,
    /// and lives as long as that.
    ///
    /// # Errors
    /// As [`crate::sys::fork::run`].
    pub(crate) fn outside(&self) -> Result<(Credentials, Child), Errno> {
        let (helpers, child) = self.helpers.outside()?;
        let file = self.file.clone();
        Ok((Credentials { file, helpers }, child))
    }

    /// The credential for a registry's host and port, and for this repository of it, if there is one.
    ///
    /// # Errors
    /// When the configuration cannot be read, or its helper fails.
    pub(super) fn find(
        &self,
        authority: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(path) = &self.file else { return Ok(None) };
        let Some(file) = read(path)? else { return Ok(None) };
        let hub = matches!(authority, "registry-1.docker.io" | "docker.io");
        let authority = if hub { "docker.io" } else { authority };
        let asked = if hub { DOCKER_HUB_KEY } else { authority };
        if let Some((_, helper)) = file.helpers.iter().find(|(key, _)| host(key) == authority) {
            return self.helpers.ask(helper, asked);
        }
        // A key may name a namespace of the registry (containers-auth.json(5)): the longest that fits counts.
        let image = format!("{authority}/{repository}");
        let best = file
            .auths
            .iter()
            .map(|(key, auth)| (scope(key), auth))
            .filter(|(scope, _)| {
                image
                    .strip_prefix(scope.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            })
            .max_by_key(|(scope, _)| scope.len());
        if let Some((_, auth)) = best
            && let Some(credential) = auth.credential().map_err(|reason| CredentialError::Malformed {
                file: path.clone(),
                reason: format!("the entry of {authority} {reason}"),
            })?
        {
            return Ok(Some(credential));
        }
        match file.store.as_str() {
            "" => Ok(None),
            helper => self.helpers.ask(helper, asked),
        }
    }
}

fn read(path: &Path) -> Result<Option<File>, CredentialError> {
    let failed = |source| CredentialError::Read {
        file: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| CredentialError::Malformed {
            file: path.to_owned(),
            // serde_json quotes no values of strings it could read; position and kind alone are safe to show.
            reason: format!("not the JSON that `docker login` writes (line {})", error.line()),
        })
}

impl Auth {
    fn credential(&self) -> Result<Option<Credential>, String> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::Refresh(self.identitytoken.clone())));
        }
        if !self.username.is_empty() {
            return Ok(Some(Credential::Password {
                user: self.username.clone(),
                password: self.password.clone(),
            }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let text = base64::decode(self.auth.trim()).and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = text
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or("has an `auth` that is not base64 of name:password")?;
        Ok(Some(Credential::Password {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

/// A key without scheme and API version, Docker Hub by its short name: `docker.io`, `a.example:444`, `a.example/team`.
fn scope(key: &str) -> String {
    let key = key
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let key = key.trim_end_matches("/v1").trim_end_matches("/v2");
    match key.split_once('/') {
        None if key == "index.docker.io" => "docker.io".to_owned(),
        _ => key.to_owned(),
    }
}

fn host(key: &str) -> String {
    scope(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with(text: &str, name: &str) -> (Credentials, PathBuf) {
        let folder =
            std::env::temp_dir().join(format!("ringfence-credentials-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config.json");
        std::fs::write(&file, text).unwrap();
        let credentials = Credentials {
            file: Some(file),
            helpers: Helpers::in_folders(vec![folder.clone()]),
        };
        (credentials, folder)
    }

    fn password(user: &str) -> Option<Credential> {
        Some(Credential::Password {
            user: user.to_owned(),
            password: "pw".to_owned(),
        })
    }

    #[test]
    fn a_credential_goes_to_its_own_registry_alone() {
        // "a:pw", "hub:pw", "team:pw" in base64
        let (credentials, folder) = with(
            r#"{"auths": {"a.example": {"auth": "YTpwdw=="}, "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
                "a.example/team": {"auth": "dGVhbTpwdw=="}}}"#,
            "own",
        );
        let find = |authority: &str, repository: &str| credentials.find(authority, repository).unwrap();
        assert!(find("a.example", "x") == password("a"));
        assert!(find("a.example", "team/x") == password("team"));
        assert!(find("a.example", "teams/x") == password("a"));
        assert!(find("registry-1.docker.io", "library/x") == password("hub"));
        for other in ["a.example.evil.com", "a.example:444", "b.example", "xa.example"] {
            assert!(find(other, "x").is_none(), "{other}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_helper_is_asked_without_our_environment() {
        let (credentials, folder) = with(
            r#"{"credHelpers": {"a.example": "fake"}, "credsStore": "absent"}"#,
            "helper",
        );
        let helper = folder.join("docker-credential-fake");
        std::fs::write(&helper, "#!/bin/sh\nread server\n[ -z \"$HOME\" ] && echo '{\"Username\":\"'$server'\",\"Secret\":\"pw\"}'\n").unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(credentials.find("a.example", "x").unwrap() == password("a.example"));
        let Err(error) = credentials.find("b.example", "x") else {
            panic!("found")
        };
        assert_eq!(
            error.to_string(),
            "credential helper docker-credential-absent: not found in PATH"
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_broken_file_is_named_without_its_content() {
        let (credentials, folder) = with("{\"auths\": {\"a\": {\"auth\": secret", "broken");
        let Err(error) = credentials.find("a", "x") else {
            panic!("read")
        };
        assert_eq!(
            error.to_string(),
            format!(
                "credentials {}: not the JSON that `docker login` writes (line 1)",
                folder.join("config.json").display()
            )
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
