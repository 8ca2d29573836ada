//! Where a value was written.

use std::ops::Range;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the manifest: the table that holds it (`job.test`, `profile.ci`) and the bytes of its text.
    Manifest {
        /// The table's name.
        table: String,
        /// Bytes of the manifest's text.
        span: Range<usize>,
    },
    /// In a built-in profile.
    BuiltIn(BuiltIn),
    /// On the command line.
    Arguments,
}

/// The profiles that every manifest can inherit from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuiltIn {
    /// For untrusted jobs; the default.
    Strict,
    /// What a Docker user expects.
    Standard,
    /// To reproduce an environment.
    Dev,
}

impl<T> Placed<T> {
    /// The bytes of the manifest where the value stands; none for built-in values and arguments.
    pub fn span(&self) -> Option<Range<usize>> {
        self.origin.span()
    }
}

impl Origin {
    /// The bytes of the manifest where the value stands; none for built-in values and arguments.
    pub fn span(&self) -> Option<Range<usize>> {
        match self {
            Origin::Manifest { span, .. } => Some(span.clone()),
            Origin::BuiltIn(_) | Origin::Arguments => None,
        }
    }
}

impl BuiltIn {
    /// All of them.
    pub const ALL: [BuiltIn; 3] = [BuiltIn::Strict, BuiltIn::Standard, BuiltIn::Dev];

    /// Its name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            BuiltIn::Strict => "strict",
            BuiltIn::Standard => "standard",
            BuiltIn::Dev => "dev",
        }
    }

    /// The profile of a name.
    pub fn from_name(name: &str) -> Option<BuiltIn> {
        BuiltIn::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// What it says, as a manifest would say it.
    pub fn text(self) -> &'static str {
        match self {
            BuiltIn::Strict => include_str!("builtin/strict.toml"),
            BuiltIn::Standard => include_str!("builtin/standard.toml"),
            BuiltIn::Dev => include_str!("builtin/dev.toml"),
        }
    }
}
