//! Values of `[ceiling]` as they are written there.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::image::Source;
use crate::profile::{Capability, Network};
use crate::units::{Bytes, Millis, UnitError};

/// A value in the words of a manifest: a quantity with its unit, a capability by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<T>(pub T);

/// A mode of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing but loopback.
    Null,
    /// An interface behind a bridge.
    Bridge,
    /// The host's own.
    Host,
}

/// An image source in full, or the beginning of one before a `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Whether it stands for an image.
    pub fn fits(&self, source: &Source) -> bool {
        let source = source.to_string();
        match self.0.strip_suffix('*') {
            Some(start) => source.starts_with(start),
            None => source == self.0,
        }
    }
}

impl<'d> Deserialize<'d> for Pattern {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Pattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Some(start) = text.strip_suffix('*') else {
            // A manifest writes `busybox`, a plan `docker.io/library/busybox:latest`: both mean the same here.
            let source = Source::parse(&text).map_err(|error| D::Error::custom(error.to_string()))?;
            return Ok(Pattern(source.to_string()));
        };
        // `docker.io*` would let `docker.io.example/x` in.
        let whole = ["/", ":", "@"].iter().any(|end| start.ends_with(end));
        if !whole || start.contains('*') {
            let wrong = format!("`{text}`: a `*` stands at the end, after `/`, `:` or `@`");
            return Err(D::Error::custom(wrong));
        }
        Ok(Pattern(text))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Mode {
    /// The mode of a job's network.
    pub(super) fn of(network: &Network) -> Mode {
        match network {
            Network::Null => Mode::Null,
            Network::Bridge(_) => Mode::Bridge,
            Network::Host => Mode::Host,
        }
    }
}

impl fmt::Display for Mode {
    /// The manifest's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Null => "null",
            Mode::Bridge => "bridge",
            Mode::Host => "host",
        })
    }
}

impl<'d> Deserialize<'d> for Written<Bytes> {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        quantity(deserializer, Bytes::parse)
    }
}

impl<'d> Deserialize<'d> for Written<Millis> {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        quantity(deserializer, Millis::parse)
    }
}

impl<'d> Deserialize<'d> for Written<Capability> {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let found = Capability::from_name(&text).map(Written);
        found.ok_or_else(|| D::Error::custom(format!("`{text}` is not a capability")))
    }
}

fn quantity<'d, D: Deserializer<'d>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, UnitError>,
) -> Result<Written<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = |error: UnitError| D::Error::custom(format!("`{text}` {}; {}", error.wrong, error.right));
    parse(&text).map(Written).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::Ceiling;
    use super::*;

    #[test]
    fn patterns_end_where_a_part_of_a_name_ends() {
        let fits = |pattern: &str, image: &str| {
            let ceiling: Ceiling = toml::from_str(&format!("images = ['{pattern}']")).expect(pattern);
            let images = ceiling.images.expect("written").into_inner();
            images[0].fits(&Source::parse(image).expect(image))
        };
        assert!(fits("docker.io/library/*", "busybox"));
        assert!(fits("busybox", "busybox:latest"));
        assert!(fits("dir:*", "dir:rootfs"));
        assert!(fits("host", "host"));
        assert!(!fits("docker.io/library/*", "somebody/busybox"));
        assert!(!fits("busybox", "busybox:1.36"));
        let wrong = |text: &str| toml::from_str::<Ceiling>(text).expect_err(text).to_string();
        assert!(wrong("images = ['docker.io*']").contains("a `*` stands at the end, after `/`, `:` or `@`"));
        assert!(wrong("memory = '4G'").contains("`4G` has the unit `G`, which can be read in two ways"));
        assert!(wrong("capabilities = ['ALL']").contains("`ALL` is not a capability"));
        assert!(wrong("network = ['none']").contains("unknown variant `none`"));
        assert!(wrong("disk = '1GiB'").contains("unknown field `disk`"));
    }
}
