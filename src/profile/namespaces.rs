//! What the kernel keeps apart.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Placed;
use super::view::View;

/// The kinds of namespace, by the kernel's names (see namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum Namespace {
    User,
    Mount,
    Pid,
    Net,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl fmt::Display for Namespace {
    /// The manifest's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Offsets of a time namespace, in milliseconds; they may be negative (see time_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct TimeOffsets {
    /// Added to CLOCK_MONOTONIC.
    pub monotonic_ms: i64,
    /// Added to CLOCK_BOOTTIME.
    pub boottime_ms: i64,
}

/// The namespaces of a job and the offsets of its clocks.
pub(super) fn read(view: View<'_, '_>) -> (BTreeMap<Namespace, Placed<bool>>, Option<Placed<TimeOffsets>>) {
    let mut namespaces: BTreeMap<_, _> = view
        .entries()
        .filter_map(|(name, entry)| Some((super::view::word_of(name)?, entry.bool()?)))
        .collect();
    let time = view.get("time");
    let offsets = time.is_table().then(|| {
        let offset = |key| time.get(key).offset().map_or(0, |offset| offset.value);
        time.place(TimeOffsets {
            monotonic_ms: offset("monotonic"),
            boottime_ms: offset("boottime"),
        })
    });
    if offsets.is_some() {
        namespaces.insert(Namespace::Time, time.place(true));
    }
    (namespaces, offsets)
}
