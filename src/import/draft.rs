//! A manifest that is being written.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::{Imported, LeftOut};
use crate::profile::Capability;
use crate::{manifest, profile};

/// A manifest that is being written.
#[derive(Default)]
pub(super) struct Draft {
    jobs: Table,
    variables: Table,
    left_out: Vec<LeftOut>,
}

/// One job of it.
pub(super) struct Job<'a> {
    table: &'a mut Table,
    variables: &'a mut Table,
    left_out: &'a mut Vec<LeftOut>,
    /// What stands before the names of things that are left out: `services.web.`.
    prefix: String,
}

impl Draft {
    /// A job of this name, as far as a name can be.
    pub(super) fn job(&mut self, name: &str, profile: &str, prefix: &str) -> Job<'_> {
        let name: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "_.-".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .take(64)
            .collect();
        let name = name.trim_start_matches(['_', '.', '-']);
        let name = if name.is_empty() { "main" } else { name };
        let entry = self
            .jobs
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(table) = entry else {
            unreachable!("jobs are tables");
        };
        table.insert("profile".into(), profile.into());
        Job {
            table,
            variables: &mut self.variables,
            left_out: &mut self.left_out,
            prefix: prefix.to_owned(),
        }
    }

    /// Notes something that no job can say.
    pub(super) fn leave_out(&mut self, what: &str, why: &str) {
        self.left_out.push(LeftOut {
            what: what.to_owned(),
            why: why.to_owned(),
        });
    }

    /// The manifest.
    pub(super) fn finish(self) -> Imported {
        let mut text = "schema = 1\n\n".to_owned();
        let mut whole = Table::new();
        if !self.variables.is_empty() {
            whole.insert("variables".into(), self.variables.into());
        }
        whole.insert("job".into(), self.jobs.into());
        text += &whole.to_string();
        Imported {
            manifest: text,
            left_out: self.left_out,
        }
    }
}

impl Job<'_> {
    /// Sets a key by its path of tables.
    pub(super) fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, tables)) = path.split_last() else {
            return;
        };
        let mut table = &mut *self.table;
        for name in tables {
            let entry = table
                .entry((*name).to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = entry else { return };
            table = inner;
        }
        table.insert((*last).to_owned(), value.into());
    }

    /// Whether a key of the job was set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The capabilities as they are so far: those that were written, else those of the profile.
    pub(super) fn own_capabilities(&self) -> Vec<Capability> {
        let written = self
            .table
            .get("security")
            .and_then(|table| table.get("capabilities"));
        match written.and_then(Value::as_array) {
            Some(names) => {
                let names = names.iter().filter_map(Value::as_str);
                names.filter_map(Capability::from_name).collect()
            }
            None => standard_capabilities(),
        }
    }

    /// Writes the whole list of capabilities.
    pub(super) fn capabilities(&mut self, all: &[Capability]) {
        let mut all = all.to_vec();
        all.sort_by_key(|capability| capability.name());
        all.dedup();
        let names: Vec<Value> = all.iter().map(|capability| capability.name().into()).collect();
        self.set(&["security", "capabilities"], names);
    }

    /// Declares a variable of the environment.
    pub(super) fn variable(&mut self, name: &str, default: Option<&str>) {
        let mut table = Table::from_iter([("env".to_owned(), Value::from(name))]);
        if let Some(default) = default {
            table.insert("default".into(), default.into());
        }
        self.variables.insert(name.to_owned(), table.into());
    }

    /// Notes something that a manifest cannot say.
    pub(super) fn leave_out(&mut self, what: &str, why: impl Into<String>) {
        self.left_out.push(LeftOut {
            what: format!("{}{what}", self.prefix),
            why: why.into(),
        });
    }

    /// A mount from the parts of Docker's `--mount`: `type`, `source`, `target`, `readonly` and their other names.
    pub(super) fn mount(&mut self, what: &str, parts: &BTreeMap<String, String>) {
        let part = |names: &[&str]| names.iter().find_map(|name| parts.get(*name)).map(String::as_str);
        let Some(target) = part(&["target", "destination", "dst"]).map(str::to_owned) else {
            return self.leave_out(what, "it names no place inside");
        };
        let is_set = |names: &[&str]| part(names).is_some_and(|value| !matches!(value, "false" | "0"));
        let source = part(&["source", "src"]).map(str::to_owned);
        match (part(&["type"]).unwrap_or("volume"), source) {
            ("bind", Some(source)) => {
                let read_only = is_set(&["readonly", "ro", "read_only"]);
                self.bind(&target, &source, read_only);
            }
            ("tmpfs", _) => {
                let size = part(&["tmpfs-size", "size"]).and_then(bytes);
                self.tmpfs(what, &target, size.as_deref(), false);
            }
            (kind, _) => self.leave_out(
                what,
                format!("a {kind} has no name here; bind a folder of the host at {target}"),
            ),
        }
    }

    /// A bind mount.
    pub(super) fn bind(&mut self, target: &str, source: &str, read_only: bool) {
        let target = shortest(target);
        self.set(&["mounts", &target, "bind"], source);
        self.set(
            &["mounts", &target, "access"],
            if read_only { "ro" } else { "rw" },
        );
    }

    /// A file system in memory, which has a size here.
    pub(super) fn tmpfs(&mut self, what: &str, target: &str, size: Option<&str>, exec: bool) {
        if size.is_none() {
            self.leave_out(what, format!("{target} had no size; it has 64MiB"));
        }
        let target = shortest(target);
        self.set(&["mounts", &target, "tmpfs"], size.unwrap_or("64MiB"));
        if !exec {
            self.set(&["mounts", &target, "exec"], false);
        }
    }
}

/// What the profile `standard`, and `dev` after it, gives: Docker's own set.
fn standard_capabilities() -> Vec<Capability> {
    let text = "schema = 1\n[job.x]\nimage = \"host\"\nprofile = \"standard\"\n";
    let job = manifest::parse(text).and_then(|manifest| profile::resolve(&manifest, "x"));
    job.map_or_else(
        |_| Vec::new(),
        |job| job.hold.security.capabilities.value.into_iter().collect(),
    )
}

/// A path in its only spelling, as manifests have it.
fn shortest(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    format!("/{}", parts.join("/"))
}

/// `512m`, `1g`, `67108864` as a manifest writes them; Docker's units are powers of 1024.
pub(super) fn bytes(text: &str) -> Option<String> {
    let folded = text.trim().to_ascii_lowercase();
    let digits = folded
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(folded.len());
    let (number, unit) = folded.split_at(digits);
    if number.parse::<f64>().is_err() {
        return None;
    }
    let unit = match unit.trim() {
        "" | "b" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => return None,
    };
    let whole: u64 = match (unit, number.parse::<u64>()) {
        ("B", Ok(whole)) => whole,
        _ => return Some(format!("{number}{unit}")),
    };
    let larger = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = larger
        .iter()
        .find(|(_, size)| whole >= *size && whole.is_multiple_of(*size));
    Some(fitting.map_or_else(
        || format!("{whole}B"),
        |(unit, size)| format!("{}{unit}", whole / size),
    ))
}
