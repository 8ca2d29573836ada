//! The entries of a table, sorted by key.
//!
//! Most tables of a manifest have one entry or two. A `BTreeMap` takes room for eleven at once, 1.2 KiB: of a thousand entries
//! of `allow` half a start's page faults.

use std::borrow::Cow;

use super::value::Node;

/// A key: of the grammar, or of the user's own.
pub(crate) type Key = Cow<'static, str>;

/// The entries of a table, sorted by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table(Vec<(Key, Node)>);

impl Table {
    /// These, each with a key of its own.
    pub(crate) fn of(mut entries: Vec<(Key, Node)>) -> Table {
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Table(entries)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry under a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.get_key_value(key).map(|(_, node)| node)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        let at = self.place(key).ok()?;
        Some(&mut self.0[at].1)
    }

    /// The entry under a key, with the key.
    pub(crate) fn get_key_value(&self, key: &str) -> Option<(&str, &Node)> {
        let at = self.place(key).ok()?;
        self.0.get(at).map(|(key, node)| (key.as_ref(), node))
    }

    /// Whether there is one.
    pub(crate) fn contains_key(&self, key: &str) -> bool {
        self.place(key).is_ok()
    }

    /// Puts an entry in, in the place of one under the same key. In the order of keys each takes its place at the end.
    pub(crate) fn insert(&mut self, key: impl Into<Key>, node: Node) {
        let key = key.into();
        let last = self.0.last();
        if last.is_none_or(|(last, _)| *last < key) {
            return self.0.push((key, node));
        }
        match self.place(&key) {
            Ok(at) => self.0[at].1 = node,
            Err(at) => self.0.insert(at, (key, node)),
        }
    }

    /// Takes the entry under a key out.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.place(key).ok()?;
        Some(self.0.remove(at).1)
    }

    /// The entries.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Node)> {
        self.0.iter().map(|(key, node)| (key.as_ref(), node))
    }

    /// The keys.
    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// The values.
    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.iter().map(|(_, node)| node)
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_ref().cmp(key))
    }
}

impl<K: Into<Key>> FromIterator<(K, Node)> for Table {
    fn from_iter<I: IntoIterator<Item = (K, Node)>>(entries: I) -> Table {
        let mut table = Table::default();
        for (key, node) in entries {
            table.insert(key, node);
        }
        table
    }
}

impl<K: Into<Key>, const N: usize> From<[(K, Node); N]> for Table {
    fn from(entries: [(K, Node); N]) -> Table {
        entries.into_iter().collect()
    }
}

impl IntoIterator for Table {
    type Item = (Key, Node);
    type IntoIter = std::vec::IntoIter<(Key, Node)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Value;
    use super::*;

    fn node(number: i64) -> Node {
        Node {
            key: 0..0,
            span: 0..0,
            value: Value::Integer(number),
            whole: true,
        }
    }

    #[test]
    fn entries_are_sorted_whatever_their_order_was() {
        let entries = [("b", 1), ("a", 2), ("c", 3), ("b", 4)];
        let mut table: Table = entries
            .into_iter()
            .map(|(key, number)| (key.to_owned(), node(number)))
            .collect();
        let of = |table: &Table| -> Vec<String> {
            table
                .iter()
                .map(|(key, node)| format!("{key}{:?}", node.value))
                .collect()
        };
        assert_eq!(of(&table), ["aInteger(2)", "bInteger(4)", "cInteger(3)"]);
        assert_eq!(table.remove("b"), Some(node(4)));
        assert_eq!((table.remove("b"), table.get("d")), (None, None));
        assert_eq!(of(&table), ["aInteger(2)", "cInteger(3)"]);
    }
}
