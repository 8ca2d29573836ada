//! TOML's tree: values, each with its bytes in the text.
//!
//! `toml` has one of its own, in which each table is a `BTreeMap`: its first entry takes room for eleven.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use toml::Spanned;

/// A key and its bytes.
pub(in crate::manifest) type TomlKey<'i> = Spanned<Cow<'i, str>>;

/// A value.
#[derive(Debug)]
pub(in crate::manifest) enum Toml<'i> {
    String(Cow<'i, str>),
    Integer(Integer<'i>),
    Float(Cow<'i, str>),
    Boolean(bool),
    Datetime,
    Array(TomlArray<'i>),
    Table(TomlTable<'i>),
}

/// A whole number as it is written.
#[derive(Debug)]
pub(in crate::manifest) struct Integer<'i> {
    /// Its sign and digits.
    pub digits: Cow<'i, str>,
    /// Their base.
    pub radix: u32,
}

/// An array.
#[derive(Debug, Default)]
pub(in crate::manifest) struct TomlArray<'i> {
    /// Its items.
    pub items: Vec<Spanned<Toml<'i>>>,
    /// Headers in two pairs of brackets make it, each one table of it.
    pub(super) of_headers: bool,
}

/// A table.
#[derive(Debug, Default)]
pub(in crate::manifest) struct TomlTable<'i> {
    /// In the order in which they are written.
    entries: Vec<(TomlKey<'i>, Spanned<Toml<'i>>)>,
    /// Where each of more than [`FEW`] is.
    places: Option<HashMap<Cow<'i, str>, usize>>,
    pub(super) written: Written,
}

/// What wrote a table first, which says who may add to it (toml.io/en/v1.0.0#table).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Written {
    /// A header of its own, or it is the whole text.
    #[default]
    Header,
    /// The header of a table in it.
    Implied,
    /// Dots of a key.
    Dots,
    /// Braces.
    Braces,
    /// Dots of a key between braces.
    DotsInBraces,
}

/// So many entries are looked through one after the other.
const FEW: usize = 8;

impl<'i> TomlTable<'i> {
    pub(super) fn of(written: Written) -> TomlTable<'i> {
        TomlTable {
            written,
            ..TomlTable::default()
        }
    }

    /// How many entries it has.
    pub(in crate::manifest) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub(in crate::manifest) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key.
    pub(in crate::manifest) fn get(&self, key: &str) -> Option<&Toml<'i>> {
        self.place(key).map(|place| self.entries[place].1.get_ref())
    }

    /// The keys.
    pub(in crate::manifest) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.get_ref().as_ref())
    }

    /// The place of a key.
    pub(super) fn place(&self, key: &str) -> Option<usize> {
        match &self.places {
            None => self.keys().position(|known| known == key),
            Some(places) => places.get(key).copied(),
        }
    }

    /// The entry at a place.
    pub(super) fn at(&mut self, place: usize) -> &mut (TomlKey<'i>, Spanned<Toml<'i>>) {
        &mut self.entries[place]
    }

    /// Appends an entry whose key is new; its place.
    pub(super) fn push(&mut self, key: TomlKey<'i>, value: Spanned<Toml<'i>>) -> usize {
        let place = self.entries.len();
        if place == 0 {
            // Most tables of a long list have one.
            self.entries.reserve_exact(1);
        }
        if let Some(places) = &mut self.places {
            places.insert(key.get_ref().clone(), place);
        }
        self.entries.push((key, value));
        if place == FEW {
            let keys = self.entries.iter().map(|(key, _)| key.get_ref().clone());
            self.places = Some(keys.zip(0..).collect());
        }
        place
    }
}

impl<'i> IntoIterator for TomlTable<'i> {
    type Item = (TomlKey<'i>, Spanned<Toml<'i>>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl Toml<'_> {
    /// The string, of a string.
    pub(in crate::manifest) fn as_str(&self) -> Option<&str> {
        match self {
            Toml::String(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, as the parser's messages say it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Toml::String(_) => "string",
            Toml::Integer(_) => "integer",
            Toml::Float(_) => "float",
            Toml::Boolean(_) => "boolean",
            Toml::Datetime => "datetime",
            Toml::Array(_) => "array",
            Toml::Table(_) => "table",
        }
    }
}

impl fmt::Display for Integer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.radix {
            2 => "0b",
            8 => "0o",
            16 => "0x",
            _ => "",
        };
        write!(f, "{prefix}{}", self.digits)
    }
}
