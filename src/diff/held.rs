//! How a job is held, as one map from keys to measures.

use std::collections::BTreeMap;

use super::measure::Measure;
use super::{Change, Direction};
use crate::profile::Origin;

/// How a job is held.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: BTreeMap<String, Entry>,
}

/// One key of it.
#[derive(Debug)]
struct Entry {
    /// What it says.
    measure: Measure,
    /// What it would say where the key is missing; `None`: then there is nothing to compare.
    missing: Option<Measure>,
    /// Where it was written.
    origin: Option<Origin>,
}

impl Held {
    /// A key that stands on both sides, or means nothing without the other.
    pub(super) fn put(&mut self, key: impl Into<String>, measure: Measure, origin: Option<&Origin>) {
        let entry = Entry {
            measure,
            missing: None,
            origin: origin.cloned(),
        };
        self.entries.insert(key.into(), entry);
    }

    /// A key that may stand on one side alone.
    pub(super) fn put_else(
        &mut self,
        key: impl Into<String>,
        measure: Measure,
        missing: Measure,
        origin: Option<&Origin>,
    ) {
        let entry = Entry {
            measure,
            missing: Some(missing),
            origin: origin.cloned(),
        };
        self.entries.insert(key.into(), entry);
    }

    /// What becomes different, the loosest first, then by key.
    pub(super) fn changes(&self, new: &Held) -> Vec<Change> {
        let mut keys: Vec<&String> = self.entries.keys().chain(new.entries.keys()).collect();
        keys.sort();
        keys.dedup();
        let mut changes: Vec<Change> = keys
            .into_iter()
            .filter_map(|key| change(key, self.entries.get(key), new.entries.get(key)))
            .collect();
        changes.sort_by(|a, b| (a.direction, &a.key).cmp(&(b.direction, &b.key)));
        changes
    }
}

fn change(key: &str, old: Option<&Entry>, new: Option<&Entry>) -> Option<Change> {
    let missing = |other: Option<&Entry>| other.and_then(|entry| entry.missing.clone());
    let was = old.map(|entry| entry.measure.clone()).or_else(|| missing(new))?;
    let is = new.map(|entry| entry.measure.clone()).or_else(|| missing(old))?;
    let subject = key
        .rsplit_once('.')
        .filter(|(_, last)| matches!(*last, "mode" | "policy"));
    let subject = subject.map_or(key, |(table, _)| table);
    let (direction, reason): (Direction, String) = was.compare(&is, subject)?;
    let written = new.and_then(|entry| entry.origin.clone());
    Some(Change {
        key: key.to_owned(),
        direction,
        reason,
        in_old: written.is_none(),
        origin: written.or_else(|| old.and_then(|entry| entry.origin.clone())),
    })
}
