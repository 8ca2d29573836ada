//! References: the names of images in registries, by one strict grammar.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// An image in a registry, its defaults filled in.
///
/// Its text is the canonical form, `docker.io/library/busybox:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ReferenceError {
    /// The text, made printable.
    pub text: String,
    /// What is wrong with it, and the mend where there is one.
    pub reason: String,
}

/// The registry of names without one.
const DOCKER_HUB: &str = "docker.io";
/// The longest name, registry included (distribution's reference grammar, NameTotalLengthMax).
const LONGEST_NAME: usize = 255;

impl Reference {
    /// Reads `busybox`, `busybox:1.36`, `user/repo:tag`, `registry.example:5000/repo@sha256:…`.
    ///
    /// # Errors
    /// When the text does not follow the grammar; the reason names the part.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        parse(text).map_err(|reason| ReferenceError {
            text: super::printable(text, 300),
            reason,
        })
    }

    /// The registry's name and port: `docker.io`, `registry.example:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none where a digest alone was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins the image, if one was written.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What a registry is asked for: the digest, else the tag.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The same repository's image with this digest.
    pub fn pinned(&self, digest: Digest) -> Reference {
        Reference {
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Reference, ReferenceError> {
        Reference::parse(&text)
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (
            name,
            Some(digest.parse::<Digest>().map_err(|error| error.to_string())?),
        ),
        None => (text, None),
    };
    // A colon after the last slash begins a tag; one before it belongs to the registry's port.
    let path_start = name.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match name[path_start..].find(':') {
        Some(colon) => (&name[..path_start + colon], Some(&name[path_start + colon + 1..])),
        None => (name, None),
    };
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err(format!(
            "the tag `{}` is not 1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter, a digit or _",
            super::printable(tag, 140)
        ));
    }
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if names_registry(first) => (registry(first)?, rest.to_owned()),
        Some(_) => (DOCKER_HUB.to_owned(), name.to_owned()),
        None => (DOCKER_HUB.to_owned(), format!("library/{name}")),
    };
    let repository = match registry.as_str() {
        DOCKER_HUB if !repository.contains('/') => format!("library/{repository}"),
        _ => repository,
    };
    if registry.len() + 1 + repository.len() > LONGEST_NAME {
        return Err(format!("its name is longer than {LONGEST_NAME} characters"));
    }
    for component in repository.split('/') {
        if !is_component(component) {
            return Err(format!(
                "`{}` is not a part of a repository's name (a-z and 0-9, between them one of . _ __ or dashes)",
                super::printable(component, 100)
            ));
        }
    }
    let tag = match (tag, &digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Reference {
        registry,
        repository,
        tag,
        digest,
    })
}

/// Whether the part before the first slash is a registry, as every client of Docker Hub decides it.
fn names_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '['])
}

fn registry(text: &str) -> Result<String, String> {
    let wrong = |why: &str| format!("the registry `{}` {why}", super::printable(text, 100));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(|| wrong("lacks a `]`"))?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(wrong("is not an IPv6 address"));
            }
            match rest.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if rest.is_empty() => (None, None),
                None => return Err(wrong("has text after its `]`")),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    if let Some(host) = host
        && !host.split('.').all(is_label)
    {
        return Err(wrong("is not a host name in lower case"));
    }
    if let Some(port) = port {
        let digits =
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
        if !digits || port.parse::<u16>().is_err() {
            return Err(wrong("has no port between 1 and 65535 after its colon"));
        }
    }
    Ok(match text {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        _ => text.to_owned(),
    })
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= 63
        && label
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Runs of a-z and 0-9 with one separator between two of them: `.`, `_`, `__` or any number of dashes.
fn is_component(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(word) || !component.ends_with(word) {
        return false;
    }
    component
        .split(word)
        .filter(|between| !between.is_empty())
        .all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-'))
}

/// Whether a text can be a tag.
pub(crate) fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && tag
            .bytes()
            .all(|byte| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
        && !tag.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Reference::parse(text).unwrap().to_string()
    }

    #[test]
    fn short_names_get_their_defaults() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, want) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("user/repo:tag", "docker.io/user/repo:tag"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("registry.example:5000/repo", "registry.example:5000/repo:latest"),
            ("localhost/a/b/c:v1", "localhost/a/b/c:v1"),
            ("[::1]:5000/repo", "[::1]:5000/repo:latest"),
            ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
        ] {
            assert_eq!(canonical(text), want);
            assert_eq!(canonical(want), want);
        }
        let pinned = format!("registry.example:5000/repo@{digest}");
        assert_eq!(canonical(&pinned), pinned);
        assert_eq!(Reference::parse(&pinned).unwrap().wanted(), digest);
        assert_eq!(
            canonical(&format!("busybox:1@{digest}")),
            format!("docker.io/library/busybox:1@{digest}")
        );
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let long = "a".repeat(300);
        let digest_then_tag = format!("busybox@sha256:{}:tag", "ab".repeat(32));
        for text in [
            "",
            "..",
            "a/../b",
            "Busybox",
            "a b",
            "a%2fb",
            "-a",
            "a-",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "é",
            "a@",
            "a@sha512:00",
            "a_._b",
            "a.example:0/x",
            "a.example:99999/x",
            "a.example:/x",
            "a@evil/x",
            "A.example/x",
            "[::1/x",
            "[zz]/x",
            "a\n",
            "a\0",
            ":tag",
            "https://a.example/x",
            &long,
            &digest_then_tag,
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(
            Reference::parse("Busybox").unwrap_err().to_string(),
            "`Busybox` is not an image reference: `Busybox` is not a part of a repository's name \
             (a-z and 0-9, between them one of . _ __ or dashes)"
        );
    }
}
