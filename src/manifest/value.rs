//! A manifest after decoding: values whose types were checked, each with its place.

use std::ops::Range;

pub(crate) use super::table::Table;
use super::template::Template;
use crate::units::{Bytes, MilliCpus, Millis};

/// A value and its places.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Bytes of the key.
    pub key: Range<usize>,
    /// Bytes of the value; of a `[table]` its header.
    pub span: Range<usize>,
    /// The value.
    pub value: Value,
    /// Written as a bare value: it replaces a parent's table as a whole.
    pub whole: bool,
}

/// A value of a type that its key allows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    /// `false` where that takes away what a parent wrote.
    Removed,
    Integer(i64),
    Cpus(MilliCpus),
    Bytes(Bytes),
    Time(Millis),
    /// Milliseconds, forwards or backwards.
    Offset(i64),
    Unlimited,
    Text(String),
    Template(Template),
    List(Vec<Node>),
    Table(Table),
    /// Reported already; whoever reads it takes a default and says nothing more.
    Bad,
}

impl Value {
    /// The entries, of a table.
    pub(crate) fn as_table(&self) -> Option<&Table> {
        match self {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The string, of a string.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}
