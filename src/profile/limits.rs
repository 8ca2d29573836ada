//! What bounds a job as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Placed;
use super::view::View;
use crate::problem::{Problem, codes};
use crate::units::{Bytes, MilliCpus, Millis};

/// What happens when a host lacks a protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforce {
    /// The run is refused.
    Required,
    /// The run goes on without it; plan and receipt say so.
    Optional,
}

/// One bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit<T> {
    /// The most that is allowed.
    pub max: Placed<T>,
    /// What happens where it cannot be held.
    pub enforce: Enforce,
}

/// What bounds a job as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, without swap.
    pub memory: Option<Limit<Bytes>>,
    /// Processes and threads at once.
    pub pids: Option<Limit<u64>>,
    /// A share of processors.
    pub cpus: Option<Limit<MilliCpus>>,
    /// Processors it may run on, as cpuset(7) lists them: `0-2,4`.
    pub cpuset: Option<Limit<String>>,
    /// Processor time of all its processes together.
    pub cpu_time: Option<Limit<Millis>>,
    /// Bandwidth and operations by block device, keyed by the manifest's path or `major:minor`.
    pub io: BTreeMap<String, Limit<IoLimit>>,
    /// Time from its start; always held.
    pub wall: Option<Limit<Millis>>,
    /// How long after the stop signal the wall limit kills; none kills at once.
    pub grace: Option<Placed<Millis>>,
    /// The writable layer.
    pub disk: Option<Limit<Bytes>>,
    /// Bytes of standard output and of standard error, each; always held.
    pub output: Option<Limit<Bytes>>,
}

/// Bounds of one block device; each per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct IoLimit {
    /// Bytes read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Bytes>,
    /// Bytes written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Bytes>,
    /// Read operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_ops: Option<u64>,
    /// Write operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_ops: Option<u64>,
}

impl Limits {
    pub(super) fn read(view: View<'_, '_>, problems: &mut Vec<Problem>) -> Limits {
        let table = view.get("enforce").word().unwrap_or(Enforce::Required);
        let mut io = BTreeMap::new();
        for (device, entry) in view.get("io").entries() {
            let read = |key| entry.get(key).bytes().map(|bytes| bytes.value);
            let operations = |key| entry.get(key).count().map(|count| count.value);
            let limit = IoLimit {
                read: read("read"),
                write: read("write"),
                read_ops: operations("read-ops"),
                write_ops: operations("write-ops"),
            };
            if limit == IoLimit::default() && !entry.has_bad() {
                problems.push(Problem::new(
                    codes::MISSING_KEY,
                    entry.key_span(),
                    format!("the limit of `{device}` bounds nothing"),
                    "write at least one of `read`, `write`, `read-ops` and `write-ops`",
                ));
            }
            let enforce = entry.get("enforce").word().unwrap_or(table);
            io.insert(
                device.to_owned(),
                Limit {
                    max: entry.place(limit),
                    enforce,
                },
            );
        }
        Limits {
            memory: limit(view, "memory", table, View::bytes, problems),
            pids: limit(view, "pids", table, View::count, problems),
            cpus: limit(view, "cpus", table, View::cpus, problems),
            cpuset: limit(view, "cpuset", table, View::text, problems),
            cpu_time: limit(view, "cpu-time", table, View::time, problems),
            io,
            wall: limit(view, "wall", Enforce::Required, View::time, problems),
            grace: view.get("grace").time(),
            disk: limit(view, "disk", table, View::bytes, problems),
            output: limit(view, "output", Enforce::Required, View::bytes, problems),
        }
    }
}

fn limit<'a, 'm, T>(
    limits: View<'a, 'm>,
    name: &'static str,
    table: Enforce,
    read: fn(View<'a, 'm>) -> Option<Placed<T>>,
    problems: &mut Vec<Problem>,
) -> Option<Limit<T>> {
    let view = limits.get(name);
    let max = read(view.get("max"));
    if max.is_none() && view.is_table() && !view.has_bad() {
        problems.push(Problem::new(
            codes::MISSING_KEY,
            view.key_span(),
            format!("the limit `{name}` does not say how much"),
            format!("write `{name} = {{ max = …, enforce = … }}`"),
        ));
    }
    Some(Limit {
        max: max?,
        enforce: view.get("enforce").word().unwrap_or(table),
    })
}
