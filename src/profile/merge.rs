//! Layers of tables laid over each other: built-in profile, profiles, job.
//!
//! One rule: tables merge by key, everything else replaces. `false` takes an entry away, a bare value
//! (`memory = "1GiB"`) or a table of another kind (`tmpfs` over `bind`) replaces its parent whole, and
//! rival keys (`allow`, `egress`) push each other out.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::BuiltIn;
use crate::manifest::schema::{Kind, Section};
use crate::manifest::value::{Node, Table, Value};

/// One table of a chain.
#[derive(Clone, Copy)]
pub(super) struct Layer<'m> {
    /// Which table it is.
    pub place: Place<'m>,
    /// What it says.
    pub table: &'m Table,
}

/// Which table of the chain a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place<'m> {
    /// A built-in profile.
    BuiltIn(BuiltIn),
    /// `[profile.NAME]`.
    Profile(&'m str),
    /// `[job.NAME]`.
    Job(&'m str),
}

/// A value after merging; borrowed from the manifest.
#[derive(Clone)]
pub(super) struct Merged<'m> {
    /// The value, or the table as it was written last.
    pub node: &'m Node,
    /// The table of the chain that it comes from.
    pub place: Place<'m>,
    /// The number of that table, the oldest first.
    pub depth: usize,
    /// The entries of a table that was laid over another; none where what was written holds as it is.
    pub laid: Option<MergedTable<'m>>,
}

/// The entries of a table that was laid over another. Jobs share what they inherit and do not change.
pub(super) type MergedTable<'m> = BTreeMap<&'m str, Rc<Merged<'m>>>;

/// What the jobs of a manifest inherit, merged once for each profile.
#[derive(Default)]
pub(super) struct Inherited<'m>(BTreeMap<Place<'m>, MergedTable<'m>>);

impl<'m> Inherited<'m> {
    /// The layers of a job laid over each other, the oldest first. A profile's must be the same each time.
    pub(super) fn merge(&mut self, layers: &[Layer<'m>], section: &'static Section) -> MergedTable<'m> {
        let Some((job, profiles)) = layers.split_last() else {
            return MergedTable::new();
        };
        let mut merged = match profiles.last() {
            None => MergedTable::new(),
            Some(parent) => {
                let known = self.0.entry(parent.place);
                known.or_insert_with(|| merge(profiles, section)).clone()
            }
        };
        lay(
            &mut merged,
            job.table,
            Shape::Section(section),
            (job.place, profiles.len()),
        );
        merged
    }
}

/// Lays the layers over each other, the oldest first.
pub(super) fn merge<'m>(layers: &[Layer<'m>], section: &'static Section) -> MergedTable<'m> {
    let mut merged = MergedTable::new();
    for (depth, layer) in layers.iter().enumerate() {
        lay(
            &mut merged,
            layer.table,
            Shape::Section(section),
            (layer.place, depth),
        );
    }
    merged
}

/// What the keys of a table mean.
#[derive(Clone, Copy)]
enum Shape {
    Section(&'static Section),
    Entries(&'static Kind),
}

fn lay<'m>(under: &mut MergedTable<'m>, over: &'m Table, shape: Shape, at: (Place<'m>, usize)) {
    let (place, depth) = at;
    if let Shape::Section(section) = shape
        && section.rivals.iter().any(|rival| over.contains_key(rival))
    {
        section.rivals.iter().for_each(|rival| {
            if !over.contains_key(rival) {
                under.remove(rival);
            }
        });
    }
    for (key, node) in over.iter() {
        let parent = under.remove(key);
        let laid = match (&node.value, shape.below(key)) {
            (Value::Removed, _) => continue,
            (Value::Table(table), Some(inner)) => parent
                .filter(|parent| !node.whole && !another_kind(inner, parent, table))
                .map(|parent| {
                    let mut entries = Rc::unwrap_or_clone(parent).into_entries();
                    lay(&mut entries, table, inner, at);
                    entries
                }),
            _ => None,
        };
        let merged = Merged {
            node,
            place,
            depth,
            laid,
        };
        under.insert(key, Rc::new(merged));
    }
}

impl<'m> Merged<'m> {
    /// Its entries, to lay others over them.
    fn into_entries(self) -> MergedTable<'m> {
        let Merged {
            node,
            place,
            depth,
            laid,
        } = self;
        let each = |(key, node)| {
            let merged = Merged {
                node,
                place,
                depth,
                laid: None,
            };
            (key, Rc::new(merged))
        };
        laid.unwrap_or_else(|| entries(node).map(each).collect())
    }

    fn has(&self, key: &str) -> bool {
        match &self.laid {
            Some(entries) => entries.contains_key(key),
            None => entry(self.node, key).is_some(),
        }
    }
}

/// The entries of a table that nothing lies under, as they were written: there is nothing to be taken away.
pub(super) fn entries(table: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let entries = table.value.as_table().into_iter().flat_map(Table::iter);
    entries.filter(|(_, node)| node.value != Value::Removed)
}

/// One of [`entries`].
pub(super) fn entry<'m>(table: &'m Node, key: &str) -> Option<&'m Node> {
    let entry = table.value.as_table()?.get(key);
    entry.filter(|node| node.value != Value::Removed)
}

impl Shape {
    /// What stands under a key, where that is a table.
    fn below(self, key: &str) -> Option<Shape> {
        match self {
            Shape::Section(section) => table_shape(&section.key(key)?.kind),
            Shape::Entries(kind) => table_shape(kind),
        }
    }
}

fn table_shape(kind: &'static Kind) -> Option<Shape> {
    match kind {
        Kind::Table(section) | Kind::Short(_, _, section) => Some(Shape::Section(section)),
        Kind::Entries(entries) => Some(Shape::Entries(&entries.value)),
        Kind::Either(kinds) => kinds.iter().find_map(table_shape),
        _ => None,
    }
}

/// A mount of another kind, say, replaces its parent whole.
fn another_kind(shape: Shape, under: &Merged<'_>, over: &Table) -> bool {
    let Shape::Section(section) = shape else {
        return false;
    };
    let of = |has: &dyn Fn(&str) -> bool| section.kinds.iter().copied().find(|kind| has(kind));
    match (of(&|kind| under.has(kind)), of(&|kind| over.contains_key(kind))) {
        (Some(under), Some(over)) => under != over,
        _ => false,
    }
}
