//! Where each value of a job comes from: the whole chain of tables that set, replaced or removed it.
//!
//! Nothing here merges a second time: the chain is laid down table by table with [`merge`], and what
//! appears, changes or goes with each table is that table's say.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::merge::{Layer, Place, merge};
use super::view::View;
use super::{BuiltIn, chain, job, unknown_job};
use crate::manifest::paths::{self, unquoted};
use crate::manifest::schema::Kind;
use crate::manifest::value::{Node, Table, Value};
use crate::manifest::{Manifest, sections};
use crate::problem::Problems;

/// Every value of a job and of its chain of profiles, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The tables that make the job, the job's own first: `job.test`, `profile.ci`, `strict`.
    pub chain: Vec<String>,
    /// Every value that one of them writes, sorted by path.
    pub values: Vec<Explained>,
}

/// One value, and who had a say in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The keys that lead to it from the job's table.
    pub keys: Vec<String>,
    /// What it is about, in a sentence.
    pub doc: &'static str,
    /// Its settings; the one that holds stands last.
    pub settings: Vec<Setting>,
}

/// One table's say in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The table: `job.test`, `profile.ci`, or the name of a built-in profile.
    pub table: String,
    /// The built-in profile that it stands in; else it stands in the manifest. Its text is
    /// [`BuiltIn::text`].
    pub built_in: Option<BuiltIn>,
    /// Bytes of the value in the text of either; of a removal, what takes it away.
    pub span: Range<usize>,
    /// Whether it takes away what the tables before it wrote: `false` in a keyed table, a mount of
    /// another kind, a key whose rival is written.
    pub removes: bool,
}

/// Where every value of a job comes from.
///
/// # Errors
/// When there is no such job, or a profile of its chain is missing.
pub fn explain(manifest: &Manifest, job: &str) -> Result<Explanation, Problems> {
    let (name, node) = manifest
        .jobs
        .get_key_value(job)
        .ok_or_else(|| unknown_job(manifest, job))?;
    let mut problems = Vec::new();
    let mut layers = chain::of_job(manifest, name, &mut problems).unwrap_or_default();
    let workspace = node
        .value
        .as_table()
        .and_then(|written| job::workspace(written, &layers, &mut problems));
    job::place_workspace(&mut layers, workspace.as_ref());
    Problems::none_or(problems, told(&layers))
}

impl Explanation {
    /// The values at a path and below it. A path is written with or without quotes around its keys:
    /// `mounts."/tmp"` and `mounts./tmp` are the same.
    pub fn under(&self, path: &str) -> impl Iterator<Item = &Explained> {
        let asked = unquoted(path);
        self.values.iter().filter(move |value| {
            let rest = value.keys.join(".");
            let rest = rest.strip_prefix(asked.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || asked.is_empty())
        })
    }

    /// Who set the value that holds at a path; of a bound, `limits.memory` is the same as
    /// `limits.memory.max`.
    pub fn holds(&self, path: &str) -> Option<&Setting> {
        let asked = unquoted(path);
        let mut exact = self.under(path).filter(|value| {
            let keys = value.keys.join(".");
            keys == asked || keys == format!("{asked}.max")
        });
        exact.next().and_then(Explained::holds)
    }
}

impl Explained {
    /// Its path as TOML writes it.
    pub fn path(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|key| dotted(key)).collect();
        keys.join(".")
    }

    /// The setting that holds.
    pub fn holds(&self) -> Option<&Setting> {
        self.settings.last()
    }
}

fn told(layers: &[Layer<'_>]) -> Explanation {
    let mut found: BTreeMap<Vec<&str>, Vec<Setting>> = BTreeMap::new();
    let mut before = BTreeMap::new();
    for (depth, layer) in layers.iter().enumerate() {
        let merged = merge(&layers[..=depth], sections::job());
        let mut after = BTreeMap::new();
        leaves(View::of(&merged), &mut Vec::new(), &mut after);
        // The chain tells it, and a job has no such key.
        after.remove(["inherits"].as_slice());
        let mut written = BTreeMap::new();
        written_in(layer.table, &mut Vec::new(), &mut written);
        written.remove(["inherits"].as_slice());
        for (path, (at, node)) in &after {
            if *at == depth {
                let setting = setting(layer, node.span.clone(), false);
                found.entry(path.clone()).or_default().push(setting);
            }
        }
        let gone = before.keys().filter(|path| !is_there(&after, path));
        // What it takes away whole is told value by value.
        let unheard = written
            .keys()
            .filter(|path| after.get(*path).is_none_or(|(at, _)| *at != depth) && !is_there(&before, path));
        let removed: BTreeSet<&Vec<&str>> = gone.chain(unheard).collect();
        for path in removed {
            let span = remover(layer.table, path).unwrap_or_default();
            let setting = setting(layer, span, true);
            found.entry(path.clone()).or_default().push(setting);
        }
        before = after;
    }
    Explanation {
        chain: layers.iter().rev().map(|layer| table_name(layer.place)).collect(),
        values: found
            .into_iter()
            .map(|(keys, settings)| Explained {
                doc: paths::doc(&keys).unwrap_or_default(),
                keys: keys.into_iter().map(str::to_owned).collect(),
                settings,
            })
            .collect(),
    }
}

/// Values after merging, with the number of the table that wrote each.
type Leaves<'m> = BTreeMap<Vec<&'m str>, (usize, &'m Node)>;

fn leaves<'m>(table: View<'_, 'm>, path: &mut Vec<&'m str>, found: &mut Leaves<'m>) {
    for (key, entry) in table.entries() {
        path.push(key);
        match entry.node() {
            Some(node) if entry.entries().next().is_none() => {
                found.insert(path.clone(), (entry.depth(), node));
            }
            _ => leaves(entry, path, found),
        }
        path.pop();
    }
}

/// Whether there is a value at a path, or a table of values.
fn is_there(leaves: &Leaves<'_>, path: &Vec<&str>) -> bool {
    let mut from = leaves.range(path.clone()..);
    from.next().is_some_and(|(next, _)| next.starts_with(path))
}

/// The values that one table writes.
fn written_in<'m>(table: &'m Table, path: &mut Vec<&'m str>, found: &mut BTreeMap<Vec<&'m str>, &'m Node>) {
    for (key, node) in table.iter() {
        path.push(key);
        match &node.value {
            Value::Table(table) if !table.is_empty() => written_in(table, path, found),
            // An empty header over what a parent wrote says nothing.
            Value::Table(_) => {}
            _ => drop(found.insert(path.clone(), node)),
        }
        path.pop();
    }
}

/// What a table writes that takes the value at a path away: the nearest key above it, or beside it where
/// one key pushes another out.
fn remover(table: &Table, path: &[&str]) -> Option<Range<usize>> {
    let (mut table, mut kind, mut nearest) = (table, Some(sections::job_kind()), None);
    for key in path {
        let Some(node) = table.get(key) else {
            let section = kind.and_then(Kind::section);
            let beside = section.map(|section| section.kinds.iter().chain(section.rivals));
            let culprit = beside.into_iter().flatten().find_map(|name| table.get(name));
            return culprit.map(|node| node.span.clone()).or(nearest);
        };
        nearest = Some(node.span.clone());
        let Value::Table(inner) = &node.value else {
            return nearest;
        };
        table = inner;
        kind = kind.and_then(|kind| kind.below(key));
    }
    nearest
}

fn setting(layer: &Layer<'_>, span: Range<usize>, removes: bool) -> Setting {
    Setting {
        table: table_name(layer.place),
        built_in: match layer.place {
            Place::BuiltIn(profile) => Some(profile),
            Place::Profile(_) | Place::Job(_) => None,
        },
        span,
        removes,
    }
}

fn table_name(place: Place<'_>) -> String {
    match place {
        Place::BuiltIn(profile) => profile.name().to_owned(),
        Place::Profile(name) => format!("profile.{name}"),
        Place::Job(name) => format!("job.{name}"),
    }
}

/// A key as TOML writes it.
fn dotted(key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    match bare {
        true => key.to_owned(),
        false => toml::Value::from(key).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who says what about a path of the job `x`, the oldest first.
    #[track_caller]
    fn said(text: &str, path: &str) -> Vec<String> {
        let text = format!("schema = 1\n[job.x]\nimage = \"host\"\n{text}");
        let manifest = crate::manifest::parse(&text).expect("a manifest");
        let found = explain(&manifest, "x").expect("a job");
        let mut values = found.values.iter().filter(|value| value.path() == path);
        let value = values
            .next()
            .unwrap_or_else(|| panic!("no {path} in {:#?}", found.values));
        let say = |setting: &Setting| {
            let text = setting.built_in.map_or(text.as_str(), |profile| profile.text());
            let verb = if setting.removes { "removed by" } else { "is" };
            format!("{} {verb} {}", setting.table, &text[setting.span.clone()])
        };
        value.settings.iter().map(say).collect()
    }

    #[test]
    fn each_table_of_the_chain_has_its_say_in_order() {
        let text = "profile = \"ci\"\nlimits.memory = \"1GiB\"\n[profile.ci]\nlimits.memory = \"2GiB\"\n";
        assert_eq!(
            said(text, "limits.memory.max"),
            [
                "strict is \"512MiB\"",
                "profile.ci is \"2GiB\"",
                "job.x is \"1GiB\""
            ]
        );
        assert_eq!(said(text, "network.mode"), ["strict is \"null\""]);
    }

    #[test]
    fn what_takes_a_value_away_is_named() {
        let tmp = "mounts.\"/tmp\".tmpfs";
        let parent = "strict is \"64MiB\"";
        assert_eq!(
            said("mounts.\"/tmp\" = false", tmp),
            [parent, "job.x removed by false"]
        );
        let other_kind = "mounts.\"/tmp\" = { bind = \"t\" }";
        assert_eq!(said(other_kind, tmp), [parent, "job.x removed by \"t\""]);
        let table = "profile = \"p\"\nlimits.memory = \"1GiB\"\n[profile.p]\nlimits.memory = { enforce = \"optional\" }";
        assert_eq!(
            said(table, "limits.memory.enforce"),
            ["profile.p is \"optional\"", "job.x removed by \"1GiB\""]
        );
        let rival = "profile = \"p\"\nnetwork.egress = \"open\"\n[profile.p.network]\nmode = \"bridge\"\nallow.\"a.example\" = {}";
        assert_eq!(
            said(rival, "network.allow.\"a.example\""),
            ["profile.p is {}", "job.x removed by \"open\""]
        );
        // It takes nothing of the chain away, and something of the image.
        assert_eq!(said("env.PATH = false", "env.PATH"), ["job.x removed by false"]);
    }

    #[test]
    fn false_is_a_value_where_the_key_is_a_boolean() {
        assert_eq!(
            said("namespaces.ipc = false", "namespaces.ipc"),
            ["strict is true", "job.x is false"]
        );
    }

    #[test]
    fn the_folder_of_dev_stands_where_the_job_wants_it() {
        let text = "profile = \"dev\"\nworkdir = \"/src\"";
        assert_eq!(said(text, "mounts.\"/src\".bind"), ["dev is \"${manifest-dir}\""]);
    }

    #[test]
    fn values_are_found_by_path() {
        let text = "schema = 1\n[job.x]\nimage = \"host\"\n";
        let manifest = crate::manifest::parse(text).expect("a manifest");
        let found = explain(&manifest, "x").expect("a job");
        assert_eq!(found.chain, ["job.x", "strict"]);
        let under = |path: &str| {
            found
                .under(path)
                .map(Explained::path)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(under("mounts./tmp"), "mounts.\"/tmp\".tmpfs");
        assert_eq!(
            under("mounts.\"/dev/shm\""),
            "mounts.\"/dev/shm\".exec mounts.\"/dev/shm\".tmpfs"
        );
        assert_eq!(under("limits.memory"), "limits.memory.max");
        assert_eq!(found.under("").count(), found.values.len());
        assert_eq!(found.holds("limits.memory").expect("set").table, "strict");
        assert_eq!(found.holds("limits.cpus"), None);
        let error = explain(&manifest, "y").expect_err("no job").to_string();
        assert_eq!(error, "[RF0207] the manifest has no job `y`; did you mean `x`?");
    }
}
