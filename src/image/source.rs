//! Image sources: where a manifest takes a root file system from.

use std::fmt;

use serde::Serialize;

use super::reference::{Reference, ReferenceError, is_tag};

/// Where a root file system comes from. Pure text: nothing is looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub enum Source {
    /// An image in a registry.
    Registry(Reference),
    /// `oci:DIR[:TAG]`: an OCI image layout in a folder.
    Oci {
        /// The folder; relative to the manifest's unless absolute.
        dir: String,
        /// The name of one of its images; without it the layout must hold one image alone.
        tag: Option<String>,
    },
    /// `archive:FILE`: a file of `docker save` or an OCI archive, relative to the manifest's folder unless absolute.
    Archive(String),
    /// `dir:DIR`: a folder that is a root file system, relative to the manifest's folder unless absolute.
    Dir(String),
    /// `host`: this machine's own programs, read-only.
    Host,
}

/// Why a text names no image source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Not one of the local forms, and no reference either.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A local form without its path.
    #[error("`{prefix}:` names no {what}; write `{prefix}:{example}`")]
    NoPath {
        /// `oci`, `archive` or `dir`.
        prefix: &'static str,
        /// What the path should name.
        what: &'static str,
        /// A path as it could be.
        example: &'static str,
    },
    /// A path that no system call takes.
    #[error("the path of `{prefix}:` has a NUL byte")]
    Nul {
        /// `oci`, `archive` or `dir`.
        prefix: &'static str,
    },
}

impl Source {
    /// Reads `busybox`, `registry.example/repo:tag`, `oci:DIR[:TAG]`, `archive:FILE`, `dir:DIR` or `host`.
    ///
    /// # Errors
    /// When a local form lacks its path, or the text is no reference.
    pub fn parse(text: &str) -> Result<Source, SourceError> {
        if text == "host" {
            return Ok(Source::Host);
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (dir, tag) = match rest.rsplit_once(':') {
                Some((dir, tag)) if is_tag(tag) => (dir, Some(tag.to_owned())),
                _ => (rest, None),
            };
            let dir = path("oci", "folder", "./image:latest", dir)?;
            return Ok(Source::Oci { dir, tag });
        }
        if let Some(file) = text.strip_prefix("archive:") {
            return Ok(Source::Archive(path("archive", "file", "./image.tar", file)?));
        }
        if let Some(dir) = text.strip_prefix("dir:") {
            return Ok(Source::Dir(path("dir", "folder", "./rootfs", dir)?));
        }
        Ok(Source::Registry(Reference::parse(text)?))
    }
}

fn path(
    prefix: &'static str,
    what: &'static str,
    example: &'static str,
    path: &str,
) -> Result<String, SourceError> {
    if path.is_empty() {
        return Err(SourceError::NoPath {
            prefix,
            what,
            example,
        });
    }
    if path.contains('\0') {
        return Err(SourceError::Nul { prefix });
    }
    Ok(path.to_owned())
}

impl fmt::Display for Source {
    /// The canonical form: `docker.io/library/busybox:latest`, `oci:./image:latest`, `host`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Registry(reference) => reference.fmt(f),
            Source::Oci { dir, tag: Some(tag) } => write!(f, "oci:{dir}:{tag}"),
            Source::Oci { dir, tag: None } => write!(f, "oci:{dir}"),
            Source::Archive(file) => write!(f, "archive:{file}"),
            Source::Dir(dir) => write!(f, "dir:{dir}"),
            Source::Host => f.write_str("host"),
        }
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let oci = |dir: &str, tag: Option<&str>| Source::Oci {
            dir: dir.to_owned(),
            tag: tag.map(str::to_owned),
        };
        for (text, want) in [
            ("host", Source::Host),
            ("oci:./image", oci("./image", None)),
            ("oci:/a/image:v1.2", oci("/a/image", Some("v1.2"))),
            ("oci:/a:b/image", oci("/a:b/image", None)),
            ("archive:x.tar.gz", Source::Archive("x.tar.gz".to_owned())),
            ("dir:/srv/root", Source::Dir("/srv/root".to_owned())),
            ("busybox", Source::Registry(Reference::parse("busybox").unwrap())),
            (
                "host:1",
                Source::Registry(Reference::parse("docker.io/library/host:1").unwrap()),
            ),
        ] {
            assert_eq!(Source::parse(text).unwrap(), want, "{text}");
        }
        assert_eq!(
            Source::parse("busybox").unwrap().to_string(),
            "docker.io/library/busybox:latest"
        );
    }

    #[test]
    fn a_form_without_its_path_says_what_to_write() {
        for (text, want) in [
            ("oci:", "`oci:` names no folder; write `oci:./image:latest`"),
            ("oci::tag", "`oci:` names no folder; write `oci:./image:latest`"),
            (
                "archive:",
                "`archive:` names no file; write `archive:./image.tar`",
            ),
            ("dir:", "`dir:` names no folder; write `dir:./rootfs`"),
            ("dir:a\0b", "the path of `dir:` has a NUL byte"),
        ] {
            assert_eq!(Source::parse(text).unwrap_err().to_string(), want);
        }
    }
}
