//! What a table of sections, keys and types can say. The tables themselves stand in [`super::sections`].

use super::grammar::Check;

/// A table with known keys.
pub(crate) struct Section {
    /// Its keys, in the order in which documents show them.
    pub keys: &'static [Key],
    /// Keys of which exactly one decides what the table is (`bind`, `tmpfs`); empty for most.
    pub kinds: &'static [&'static str],
    /// Keys that push each other out: the one that is written later in the chain wins.
    pub rivals: &'static [&'static str],
}

/// A table whose keys the user chooses.
pub(crate) struct Entries {
    /// What a key stands for, in messages: `an environment variable`.
    pub noun: &'static str,
    /// The form of a key.
    pub name: Check,
    /// What each entry holds.
    pub value: Kind,
}

/// One key of a [`Section`].
pub(crate) struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// What a value may be.
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// `true`; `false` is refused for this reason.
    AlwaysOn(&'static str),
    /// Nothing: the key exists only so that this reason can be given.
    Refused(&'static str),
    /// `false` alone: takes away what a parent wrote.
    Removed,
    /// A whole number between two others.
    Integer(i64, i64),
    /// A processor share.
    Cpus,
    /// A quantity with its unit.
    Quantity(Unit),
    /// The word `unlimited`.
    Unlimited,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A string of some form.
    Text(Check),
    /// A string of some form, with variables.
    Template(Check),
    /// An array.
    List(&'static Kind),
    /// A table with known keys.
    Table(&'static Section),
    /// A table whose keys the user chooses.
    Entries(&'static Entries),
    /// The first that fits.
    Either(&'static [Kind]),
    /// A table, or a bare value that stands for the table with this one key.
    Short(&'static str, &'static Kind, &'static Section),
}

/// What a quantity measures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes, more than none.
    Bytes,
    /// Bytes, or none.
    BytesOrZero,
    /// Time, more than none.
    Time,
    /// Time, forwards or backwards.
    Offset,
}

impl Section {
    /// A section of keys that have nothing to do with each other.
    pub(crate) const fn of(keys: &'static [Key]) -> Section {
        Section {
            keys,
            kinds: &[],
            rivals: &[],
        }
    }

    /// The key of a name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// What it takes, in words that follow "takes".
    pub(crate) fn expects(&'static self) -> String {
        match self {
            Kind::Bool | Kind::AlwaysOn(_) => "`true` or `false`".into(),
            Kind::Refused(_) => "nothing".into(),
            Kind::Removed => "`false`".into(),
            Kind::Integer(..) => "a whole number".into(),
            Kind::Cpus => "a number of processors such as 1.5".into(),
            Kind::Quantity(Unit::Bytes | Unit::BytesOrZero) => "bytes such as \"64MiB\"".into(),
            Kind::Quantity(Unit::Time | Unit::Offset) => "a time such as \"30s\"".into(),
            Kind::Unlimited => "\"unlimited\"".into(),
            Kind::Word(words) => match words {
                [one] => format!("\"{one}\""),
                _ => format!("one of {}", listed(words)),
            },
            Kind::Text(_) | Kind::Template(_) => "a string".into(),
            Kind::List(item) => match item {
                Kind::Integer(..) => "an array of whole numbers".into(),
                Kind::Table(_) => "an array of tables".into(),
                _ => "an array of strings".into(),
            },
            Kind::Table(_) | Kind::Entries(_) => "a table".into(),
            Kind::Either(_) | Kind::Short(..) => {
                let all: Vec<_> = self.alternatives().iter().map(|kind| kind.expects()).collect();
                let (last, first) = all.split_last().expect("an alternative has two sides");
                format!("{} or {last}", first.join(", "))
            }
        }
    }

    /// What it takes, one by one; a short form is its bare value, or the table.
    pub(crate) fn alternatives(&'static self) -> Vec<&'static Kind> {
        match self {
            Kind::Either(kinds) => kinds.iter().flat_map(Kind::alternatives).collect(),
            Kind::Short(_, bare, _) => {
                let mut all = bare.alternatives();
                all.push(const { &Kind::Table(&Section::of(&[])) });
                all
            }
            one => vec![one],
        }
    }
}

impl Kind {
    /// The known keys of a table that may stand here.
    pub(crate) fn section(&'static self) -> Option<&'static Section> {
        match self {
            Kind::Table(section) | Kind::Short(_, _, section) => Some(section),
            Kind::Either(kinds) => kinds.iter().find_map(Kind::section),
            _ => None,
        }
    }

    /// What a table that may stand here holds under keys of the user's own.
    pub(crate) fn entries(&'static self) -> Option<&'static Entries> {
        match self {
            Kind::Entries(entries) => Some(entries),
            Kind::Either(kinds) => kinds.iter().find_map(Kind::entries),
            _ => None,
        }
    }

    /// What stands under a key.
    pub(crate) fn below(&'static self, key: &str) -> Option<&'static Kind> {
        match self.section() {
            Some(section) => section.key(key).map(|key| &key.kind),
            None => self.entries().map(|entries| &entries.value),
        }
    }

    /// The key that a bare value stands for.
    pub(crate) fn bare(&'static self) -> Option<&'static str> {
        match self {
            Kind::Short(name, ..) => Some(name),
            Kind::Either(kinds) => kinds.iter().find_map(Kind::bare),
            _ => None,
        }
    }
}

/// `"a", "b"`, as a manifest writes them.
pub(crate) fn listed(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(", ")
}
