//! Something of the host, or of memory, at a place inside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text::Names;
use super::view::View;
use super::{Placed, Text};
use crate::problem::{Problem, codes};
use crate::units::Bytes;

/// Something of the host, or of memory, at a place inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A file or directory of the host.
    Bind {
        /// Where it stands on the host; relative to the manifest's folder.
        source: Placed<Text>,
        /// What the job may do with it.
        access: Access,
        /// A source that is missing is skipped.
        optional: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Its size.
        size: Placed<Bytes>,
        /// Programs in it may be run.
        exec: bool,
    },
}

/// What a job may do with a bind mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read.
    Ro,
    /// Read and write the host's own files.
    Rw,
    /// Read, and write to a layer that is thrown away.
    Copy,
}

/// The mounts of a job, by place inside.
pub(super) fn read(
    view: View<'_, '_>,
    names: Names<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Placed<Mount>> {
    let mut mounts = BTreeMap::new();
    for (place, entry) in view.entries() {
        let (bind, tmpfs) = (entry.get("bind"), entry.get("tmpfs"));
        let mut only_for = |key: &'static str, kind: &str| {
            if entry.get(key).is_written() {
                let message = format!("`{key}` says nothing about a {kind}");
                problems.push(Problem::new(
                    codes::EXCLUSIVE_KEYS,
                    entry.get(key).key_span(),
                    message,
                    "leave it out",
                ));
            }
        };
        let mount = if let Some(source) = bind.expanded(names) {
            only_for("exec", "bind mount");
            Mount::Bind {
                source,
                access: entry.get("access").word().unwrap_or(Access::Ro),
                optional: entry
                    .get("optional")
                    .bool()
                    .is_some_and(|optional| optional.value),
            }
        } else if let Some(size) = tmpfs.bytes() {
            only_for("access", "tmpfs, which the job can always write");
            only_for("optional", "tmpfs, which has no source");
            Mount::Tmpfs {
                size,
                exec: entry.get("exec").bool().is_none_or(|exec| exec.value),
            }
        } else {
            if !entry.has_bad() {
                let message = format!("the mount at `{place}` does not say what stands there");
                let help = "write `bind = \"DIRECTORY\"` or `tmpfs = \"64MiB\"`";
                problems.push(Problem::new(codes::MISSING_KEY, entry.key_span(), message, help));
            }
            continue;
        };
        mounts.insert(place.to_owned(), entry.place(mount));
    }
    mounts
}
