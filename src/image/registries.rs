//! How this host reaches registries: the `[registry."…"]` tables of config.toml.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The `registry` table of config.toml, by the registry's name in references (`docker.io`, `registry.example:5000`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Registries(pub BTreeMap<String, Registry>);

/// How one registry is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Registry {
    /// Asked first, in this order: `https://mirror.example`, `http://127.0.0.1:5000`. Plain http is used only where it is
    /// written here; a mirror with the registry's own name and port replaces the registry's own address.
    #[serde(default)]
    pub mirrors: Vec<Address>,
    /// A file of certificates (PEM) that may vouch for the registry, its mirrors and where they redirect to, besides the
    /// host's: `ca = "/etc/ringfence/registry.pem"`.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Hosts of token services that may see the registry's credentials, besides its own host and the well-known one.
    #[serde(default)]
    pub token_hosts: Vec<String>,
    /// How long to wait for a connection, an answer or the next bytes; the default is 20 s.
    #[serde(default, deserialize_with = "time")]
    pub timeout: Option<std::time::Duration>,
}

/// Where a registry answers: scheme, host, port and perhaps a folder, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    url: String,
    authority_start: usize,
    authority_end: usize,
}

/// Why a text is not the address of a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a registry's address; write `https://host[:port]` or, for plain http, `http://host[:port]`"
)]
pub struct AddressError(String);

impl Registries {
    /// The addresses to ask for a registry's content, in order.
    pub fn addresses(&self, registry: &str) -> Vec<Address> {
        let mut addresses = self
            .get(registry)
            .map(|own| own.mirrors.clone())
            .unwrap_or_default();
        if !addresses.iter().any(|address| address.authority() == registry) {
            addresses.push(Address::upstream(registry));
        }
        addresses
    }

    /// The table of one registry.
    pub fn get(&self, registry: &str) -> Option<&Registry> {
        self.0.get(registry)
    }
}

impl Address {
    /// Reads `https://host[:port][/folder]`; user names, queries and fragments are refused.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let wrong = || AddressError(super::printable(text, 200));
        let url = text.trim_end_matches('/');
        let authority_start = ["https://", "http://"]
            .iter()
            .find(|scheme| url.starts_with(**scheme))
            .map(|scheme| scheme.len())
            .ok_or_else(wrong)?;
        let rest = &url[authority_start..];
        let authority = rest.split('/').next().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]/~".contains(&byte);
        if authority.is_empty()
            || authority.starts_with(':')
            || !rest.bytes().all(plain)
            || rest.contains("..")
        {
            return Err(wrong());
        }
        Ok(Address {
            authority_end: authority_start + authority.len(),
            url: url.to_owned(),
            authority_start,
        })
    }

    /// The registry's own address: https, and Docker Hub's API host for its short name.
    fn upstream(registry: &str) -> Address {
        let host = if registry == "docker.io" {
            "registry-1.docker.io"
        } else {
            registry
        };
        Address {
            url: format!("https://{host}"),
            authority_start: "https://".len(),
            authority_end: "https://".len() + host.len(),
        }
    }

    /// The address as written, without a slash at the end.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.url[self.authority_start..self.authority_end]
    }

    /// Whether the connection is encrypted.
    pub fn is_https(&self) -> bool {
        self.url.starts_with("https:")
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        Address::parse(&text)
    }
}

fn time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<std::time::Duration>, D::Error> {
    let text = String::deserialize(from)?;
    match crate::units::Millis::parse(&text) {
        Ok(time) if time.0 > 0 => Ok(Some(time.duration())),
        Ok(_) => Err(serde::de::Error::custom("timeout is zero")),
        Err(error) => Err(serde::de::Error::custom(format!(
            "timeout `{text}` {}; {}",
            error.wrong, error.right
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(text: &str) -> Result<Registries, toml::de::Error> {
        #[derive(Deserialize)]
        struct File {
            registry: Registries,
        }
        toml::from_str(text).map(|file: File| file.registry)
    }

    #[test]
    fn mirrors_come_before_the_registry_itself() {
        let found = registries(
            "[registry.\"docker.io\"]\nmirrors = [\"http://127.0.0.1:5000/\"]\ntimeout = \"5s\"\n\
             [registry.\"127.0.0.1:5001\"]\nmirrors = [\"http://127.0.0.1:5001\"]",
        )
        .unwrap();
        let addresses = |registry: &str| {
            found
                .addresses(registry)
                .iter()
                .map(|address| address.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            addresses("docker.io"),
            ["http://127.0.0.1:5000", "https://registry-1.docker.io"]
        );
        assert_eq!(addresses("127.0.0.1:5001"), ["http://127.0.0.1:5001"]);
        assert_eq!(addresses("quay.example"), ["https://quay.example"]);
        assert_eq!(
            found.get("docker.io").unwrap().timeout,
            Some(std::time::Duration::from_secs(5))
        );
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        for text in [
            "mirror.example",
            "ftp://a",
            "https://",
            "https://u:p@a",
            "https://a/../b",
            "https://a?x",
            "https://a b",
        ] {
            assert_eq!(
                Address::parse(text).unwrap_err().to_string(),
                format!(
                    "`{text}` is not a registry's address; write `https://host[:port]` or, for plain http, `http://host[:port]`"
                )
            );
        }
        let error = registries("[registry.\"a.example\"]\nmirrors = [\"a\"]").unwrap_err();
        assert!(
            error.message().starts_with("`a` is not a registry's address"),
            "{error}"
        );
    }
}
