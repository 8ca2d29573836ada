//! Reading a merged tree: every question has an answer, also where nothing was written.

use std::ops::Range;

use serde::Deserialize;
use serde::de::value::StrDeserializer;

use super::merge::{Merged, MergedTable, Place, entries, entry};
use super::text::{Names, Text};
use super::{BuiltIn, Origin, Placed};
use crate::manifest::value::{Node, Value};
use crate::units::{Bytes, MilliCpus, Millis};

/// A place of the merged tree; perhaps nothing stands there.
#[derive(Clone, Copy)]
pub(super) struct View<'a, 'm> {
    node: Option<&'m Node>,
    laid: Option<&'a MergedTable<'m>>,
    place: Option<Place<'m>>,
    depth: usize,
}

impl<'a, 'm> View<'a, 'm> {
    /// The whole tree.
    pub(super) fn of(whole: &'a MergedTable<'m>) -> View<'a, 'm> {
        View {
            node: None,
            laid: Some(whole),
            place: None,
            depth: 0,
        }
    }

    fn merged(merged: &'a Merged<'m>) -> View<'a, 'm> {
        View {
            node: Some(merged.node),
            laid: merged.laid.as_ref(),
            place: Some(merged.place),
            depth: merged.depth,
        }
    }

    /// What stands under a key.
    pub(super) fn get(self, key: &str) -> View<'a, 'm> {
        let found = match self.laid {
            Some(laid) => laid.get(key).map(|merged| View::merged(merged)),
            None => self
                .node
                .and_then(|node| entry(node, key))
                .map(|node| self.inside(node)),
        };
        found.unwrap_or(View {
            node: None,
            laid: None,
            place: None,
            depth: 0,
        })
    }

    /// The entries of a table, sorted by key.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'m str, View<'a, 'm>)> {
        let laid = self.laid.into_iter().flatten();
        let laid = laid.map(|(key, merged)| (*key, View::merged(merged)));
        let written = self.node.filter(|_| self.laid.is_none());
        let written = written.into_iter().flat_map(entries);
        laid.chain(written.map(move |(key, node)| (key, self.inside(node))))
    }

    /// What was written together with this.
    fn inside(self, node: &'m Node) -> View<'a, 'm> {
        View {
            node: Some(node),
            laid: None,
            ..self
        }
    }

    /// The items of an array.
    pub(super) fn items(self) -> impl Iterator<Item = View<'a, 'm>> {
        let items = match self.value() {
            Some(Value::List(items)) => items.as_slice(),
            _ => &[],
        };
        items.iter().map(move |node| self.inside(node))
    }

    pub(super) fn value(self) -> Option<&'m Value> {
        self.node.map(|node| &node.value)
    }

    pub(super) fn is_written(self) -> bool {
        self.node.is_some()
    }

    pub(super) fn is_table(self) -> bool {
        matches!(self.value(), Some(Value::Table(_)))
    }

    /// Whether it, or an entry of it, was reported already.
    pub(super) fn has_bad(self) -> bool {
        matches!(self.value(), Some(Value::Bad)) || self.entries().any(|(_, entry)| entry.has_bad())
    }

    /// The value with its places; none where nothing was written.
    pub(super) fn node(self) -> Option<&'m Node> {
        self.node
    }

    /// The number of the table of the chain that wrote it, the oldest first.
    pub(super) fn depth(self) -> usize {
        self.depth
    }

    /// Whether a later table of the chain wrote it.
    pub(super) fn is_later_than(self, other: View<'_, '_>) -> bool {
        self.depth > other.depth
    }

    /// Its bytes in the manifest.
    pub(super) fn span(self) -> Option<Range<usize>> {
        self.origin().span()
    }

    /// The bytes of its key in the manifest.
    pub(super) fn key_span(self) -> Option<Range<usize>> {
        self.span().and(self.node.map(|node| node.key.clone()))
    }

    /// Where it was written. Only a tree with gaps has a place where nothing was, and its problems
    /// are reported already.
    pub(super) fn origin(self) -> Origin {
        let span = self.node.map(|node| node.span.clone()).unwrap_or_default();
        match self.place {
            Some(Place::Profile(name)) => Origin::Manifest {
                table: format!("profile.{name}"),
                span,
            },
            Some(Place::Job(name)) => Origin::Manifest {
                table: format!("job.{name}"),
                span,
            },
            Some(Place::BuiltIn(profile)) => Origin::BuiltIn(profile),
            None => Origin::BuiltIn(BuiltIn::Strict),
        }
    }

    /// A value that was read from here.
    pub(super) fn place<T>(self, value: T) -> Placed<T> {
        Placed {
            value,
            origin: self.origin(),
        }
    }

    pub(super) fn bool(self) -> Option<Placed<bool>> {
        match self.value()? {
            Value::Bool(value) => Some(self.place(*value)),
            _ => None,
        }
    }

    pub(super) fn count(self) -> Option<Placed<u64>> {
        match self.value()? {
            Value::Integer(value) => Some(self.place(u64::try_from(*value).ok()?)),
            _ => None,
        }
    }

    pub(super) fn port(self) -> Option<u16> {
        match self.value()? {
            Value::Integer(value) => u16::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn cpus(self) -> Option<Placed<MilliCpus>> {
        match self.value()? {
            Value::Cpus(value) => Some(self.place(*value)),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> Option<Placed<Bytes>> {
        match self.value()? {
            Value::Bytes(value) => Some(self.place(*value)),
            _ => None,
        }
    }

    pub(super) fn time(self) -> Option<Placed<Millis>> {
        match self.value()? {
            Value::Time(value) => Some(self.place(*value)),
            _ => None,
        }
    }

    pub(super) fn offset(self) -> Option<Placed<i64>> {
        match self.value()? {
            Value::Offset(value) => Some(self.place(*value)),
            _ => None,
        }
    }

    /// A string, without its place.
    pub(super) fn str(self) -> Option<&'m str> {
        self.value()?.as_text()
    }

    pub(super) fn text(self) -> Option<Placed<String>> {
        Some(self.place(self.str()?.to_owned()))
    }

    /// A string with its variables looked up, as far as they are known.
    pub(super) fn expanded(self, names: Names<'_>) -> Option<Placed<Text>> {
        match self.value()? {
            Value::Template(template) => Some(self.place(names.expand(template))),
            _ => None,
        }
    }

    /// A word of a closed set, without its place.
    pub(super) fn word<T: for<'d> Deserialize<'d>>(self) -> Option<T> {
        word_of(self.str()?)
    }
}

/// The value that a word of the manifest stands for. The decoder has checked the words; that both
/// know the same ones is tested.
pub(super) fn word_of<T: for<'d> Deserialize<'d>>(word: &str) -> Option<T> {
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(word)).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Enforce, Namespace, Protocol, Rlimit, Root, SysMount};
    use super::word_of;
    use crate::manifest::schema::{Kind, Section};
    use crate::manifest::sections;
    use crate::seccomp::Base;

    /// All words below a section, with the key that takes them.
    fn words(section: &'static Section, found: &mut Vec<(&'static str, &'static str)>) {
        for key in section.keys {
            below(key.name, &key.kind, found);
        }
    }

    fn below(key: &'static str, kind: &'static Kind, found: &mut Vec<(&'static str, &'static str)>) {
        match kind {
            Kind::Word(words) => found.extend(words.iter().map(|word| (key, *word))),
            Kind::Table(section) => words(section, found),
            Kind::Short(_, bare, section) => {
                below(key, bare, found);
                words(section, found);
            }
            Kind::Entries(entries) => below(key, &entries.value, found),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| below(key, kind, found)),
            _ => {}
        }
    }

    #[test]
    fn every_word_of_a_manifest_has_a_value() {
        let mut found = Vec::new();
        words(sections::job(), &mut found);
        assert!(found.len() > 20);
        for (key, word) in found {
            let known = match key {
                "enforce" => word_of::<Enforce>(word).is_some(),
                "root" => word_of::<Root>(word).is_some(),
                "sys" => word_of::<SysMount>(word).is_some(),
                "policy" | "seccomp" => word_of::<Base>(word).is_some(),
                "access" => word_of::<Access>(word).is_some(),
                "protocol" => word_of::<Protocol>(word).is_some(),
                // Read by hand, each word beside its value.
                "mode" | "egress" | "from" => true,
                _ => false,
            };
            assert!(known, "{key} = {word}");
        }
        for (table, known) in [
            (
                "namespaces",
                (|word| word_of::<Namespace>(word).is_some()) as fn(&str) -> bool,
            ),
            ("rlimits", |word| word_of::<Rlimit>(word).is_some()),
        ] {
            let Some(Kind::Table(section)) = sections::job().key(table).map(|key| &key.kind) else {
                panic!("{table} is a table");
            };
            assert!(section.keys.iter().all(|key| known(key.name)), "{table}");
        }
    }
}
