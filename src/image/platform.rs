//! Platforms: which of an index's images this machine can run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and a processor, in the words of the OCI image index (Go's names).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, `riscv64`, …
    pub architecture: String,
    /// `v7`, `v8`; empty where the processor has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform of this program.
    pub fn host() -> Platform {
        Platform::of(std::env::consts::ARCH)
    }

    /// The platform of a processor, by the name that Rust has for it ([`std::env::consts::ARCH`]).
    pub fn of(processor: &str) -> Platform {
        let (architecture, variant) = match processor {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// How well an image for `offered` runs here: none when not at all, else the higher the better.
    ///
    /// An image for an older version of the processor runs, one for a newer version does not. Without a
    /// variant the oldest version is meant, but for arm64, where that is v8 (containerd, platforms.Normalize).
    pub fn suits(&self, offered: &Platform) -> Option<u32> {
        if (&self.os, &self.architecture) != (&offered.os, &offered.architecture) {
            return None;
        }
        let (have, want) = (self.version()?, offered.version()?);
        (want <= have).then_some(want)
    }

    fn version(&self) -> Option<u32> {
        match (self.architecture.as_str(), self.variant.as_str()) {
            ("arm64", "") => Some(8),
            ("arm", "") => Some(7),
            (_, "") => Some(1),
            (_, variant) => variant.strip_prefix('v')?.split('.').next()?.parse().ok(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &str| super::printable(text, 30);
        write!(f, "{}/{}", part(&self.os), part(&self.architecture))?;
        match self.variant.as_str() {
            "" => Ok(()),
            variant => write!(f, "/{}", part(variant)),
        }
    }
}

impl FromStr for Platform {
    type Err = ();

    /// Reads `linux/amd64` or `linux/arm/v7`.
    fn from_str(text: &str) -> Result<Platform, ()> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] if !variant.is_empty() => (os, architecture, variant),
            _ => return Err(()),
        };
        match os.is_empty() || architecture.is_empty() {
            true => Err(()),
            false => Ok(Platform {
                os: os.to_owned(),
                architecture: architecture.to_owned(),
                variant: variant.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_platform_is_read_as_it_is_written() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_newest_version_that_runs_here_is_the_best() {
        let suits = |host: &str, offered: &str| platform(host).suits(&platform(offered));
        assert_eq!(suits("linux/amd64", "linux/amd64"), Some(1));
        assert_eq!(suits("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(suits("linux/amd64", "linux/arm64"), None);
        assert_eq!(suits("linux/amd64", "windows/amd64"), None);
        assert_eq!(suits("linux/amd64", "linux/amd64/x"), None);
        assert_eq!(suits("linux/arm64/v8", "linux/arm64"), Some(8));
        assert!(suits("linux/arm/v7", "linux/arm/v7") > suits("linux/arm/v7", "linux/arm/v6"));
        assert_eq!(suits("linux/arm/v6", "linux/arm/v7"), None);
    }
}
