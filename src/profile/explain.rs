//! Where each value of a job comes from: the whole chain of tables that set, changed or removed it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::merge::{Layer, Place};
use super::{BuiltIn, chain};
use crate::manifest::Manifest;
use crate::manifest::value::{Node, Table, Value};
use crate::problem::{Problem, Problems, codes};

/// One table's say in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The table: `job.test`, `profile.ci`, or the name of a built-in profile.
    pub table: String,
    /// The built-in profile that it stands in; else it stands in the manifest. Its text is
    /// [`BuiltIn::text`].
    pub built_in: Option<BuiltIn>,
    /// Bytes of the value in the text of either.
    pub span: Range<usize>,
    /// Whether it takes away what the tables before it wrote (`false` in a keyed table).
    pub removes: bool,
}

/// Every value that a job's chain of tables writes, by dotted path (`limits.memory`,
/// `mounts."/src".bind`), each with its settings, the one that holds last.
///
/// # Errors
/// When there is no such job, or a profile of its chain is missing.
pub fn explain(manifest: &Manifest, job: &str) -> Result<BTreeMap<String, Vec<Setting>>, Problems> {
    let (name, _) = manifest.jobs.get_key_value(job).ok_or_else(|| {
        let message = format!("the manifest has no job `{job}`");
        Problem::new(codes::UNKNOWN_JOB, None, message, "")
    })?;
    let mut problems = Vec::new();
    let layers = chain::of_job(manifest, name, &mut problems).unwrap_or_default();
    let mut found = BTreeMap::new();
    for layer in &layers {
        walk(layer, layer.table, "", &mut found);
    }
    Problems::none_or(problems, found)
}

fn walk(layer: &Layer<'_>, table: &Table, above: &str, found: &mut BTreeMap<String, Vec<Setting>>) {
    for (key, node) in table {
        let path = match above {
            "" => dotted(key),
            _ => format!("{above}.{}", dotted(key)),
        };
        match &node.value {
            Value::Table(table) if !table.is_empty() => walk(layer, table, &path, found),
            _ => {
                let setting = setting(layer, node);
                if setting.removes {
                    // What a removed table held is gone with it.
                    let below = format!("{path}.");
                    for (inner, settings) in found.iter_mut() {
                        if inner.starts_with(&below) {
                            settings.push(setting.clone());
                        }
                    }
                }
                found.entry(path).or_default().push(setting);
            }
        }
    }
}

fn setting(layer: &Layer<'_>, node: &Node) -> Setting {
    let (table, built_in) = match layer.place {
        Place::BuiltIn(profile) => (profile.name().to_owned(), Some(profile)),
        Place::Profile(name) => (format!("profile.{name}"), None),
        Place::Job(name) => (format!("job.{name}"), None),
    };
    Setting {
        table,
        built_in,
        span: node.span.clone(),
        removes: node.value == Value::Bool(false),
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

    #[test]
    fn each_table_of_the_chain_has_its_say_in_order() {
        let text = "schema = 1\n[job.x]\nimage = \"host\"\nprofile = \"ci\"\nlimits.memory = \"1GiB\"\n\
                    mounts.\"/tmp\" = false\n[profile.ci]\nlimits.memory = \"2GiB\"\n";
        let manifest = crate::manifest::parse(text).expect("a manifest");
        let found = explain(&manifest, "x").expect("a job");
        let said = |path: &str| {
            found[path]
                .iter()
                .map(|setting| {
                    let text = setting.built_in.map_or(text, BuiltIn::text);
                    format!("{} {}", setting.table, &text[setting.span.clone()])
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            said("limits.memory.max"),
            ["strict \"512MiB\"", "profile.ci \"2GiB\"", "job.x \"1GiB\""]
        );
        assert_eq!(said("mounts.\"/tmp\".tmpfs"), ["strict \"64MiB\"", "job.x false"]);
        assert_eq!(said("network.mode"), ["strict \"null\""]);
        assert_eq!(
            explain(&manifest, "y").expect_err("no job").to_string(),
            "[RF0207] the manifest has no job `y`"
        );
    }
}
