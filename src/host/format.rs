//! Facts as TOML: what `ringfence facts` prints, `ringfence plan --facts FILE` reads, and tests keep.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::facts::{FACTS_VERSION, Facts};

/// Sections in the order in which they are printed.
const SECTIONS: [&str; 8] = [
    "ids",
    "kernel-features",
    "cgroup",
    "store",
    "network",
    "root",
    "variable",
    "path",
];

/// Why a text is not facts.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Not TOML, or a key or value that facts do not have; with line and column.
    #[error("{0}")]
    Text(#[from] toml::de::Error),
    /// Written by a newer or older program.
    #[error("facts = {0}: this program reads version {FACTS_VERSION}")]
    Version(u32),
}

impl Facts {
    /// The facts as TOML, in a fixed order, one line for each answer.
    pub fn to_toml(&self) -> String {
        let mut text = String::from(
            "# What a host offers, as `ringfence facts` prints it; `ringfence plan --facts FILE` plans for it.\n",
        );
        let head = [
            ("facts", Value::from(self.facts)),
            ("kernel", Value::from(self.kernel.as_str())),
            ("arch", value(&self.arch)),
            ("cpus", Value::from(self.cpus)),
            ("caller", value(&self.caller)),
            ("landlock-abi", Value::from(self.landlock_abi)),
        ];
        for (key, value) in head {
            line(&mut text, key, &value);
        }
        for name in SECTIONS {
            let section = match name {
                "ids" => value(&self.ids),
                "kernel-features" => value(&self.kernel_features),
                "cgroup" => value(&self.cgroup),
                "store" => value(&self.store),
                "network" => value(&self.network),
                "root" => value(&self.root),
                "variable" => value(&self.variable),
                _ => value(&self.path),
            };
            let Value::Table(section) = section else {
                continue;
            };
            if section.is_empty() {
                continue;
            }
            if name != "path" {
                heading(&mut text, name);
                section
                    .iter()
                    .for_each(|(key, value)| line(&mut text, key, value));
                continue;
            }
            for (source, facts) in &section {
                heading(&mut text, &format!("path.{}", Value::from(source.as_str())));
                let facts = facts.as_table().into_iter().flatten();
                facts.for_each(|(key, value)| line(&mut text, key, value));
            }
        }
        text
    }

    /// Reads what [`Facts::to_toml`] wrote, or a person.
    ///
    /// # Errors
    /// [`FactsError`]: the first thing that facts do not have, with its place.
    pub fn from_toml(text: &str) -> Result<Facts, FactsError> {
        /// What the facts of every version begin with.
        #[derive(Deserialize)]
        struct Head {
            facts: u32,
        }
        // First: those of another version have other keys.
        let head: Head = toml::from_str(text)?;
        match head.facts {
            FACTS_VERSION => Ok(toml::from_str(text)?),
            other => Err(FactsError::Version(other)),
        }
    }
}

/// A part of the facts as a TOML value.
fn value(part: &impl Serialize) -> Value {
    Value::try_from(part).expect("facts have text keys, integers below 2^63 and no missing values")
}

fn heading(text: &mut String, name: &str) {
    writeln!(text, "\n[{name}]").expect("a String takes all");
}

/// One `key = value`; a table stays on the line.
fn line(text: &mut String, key: &str, value: &Value) {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        writeln!(text, "{key} = {value}").expect("a String takes all");
    } else {
        writeln!(text, "{} = {value}", Value::from(key)).expect("a String takes all");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::host::facts::*;
    use crate::seccomp::Arch;

    fn facts() -> Facts {
        Facts {
            facts: 1,
            kernel: "6.1.0-44-amd64".into(),
            arch: Arch::X86_64,
            cpus: 2,
            caller: Caller::User,
            ids: Ids {
                subordinate_uids: 0,
                subordinate_gids: 65536,
                reason: "no line for \"kim\" in /etc/subuid".into(),
            },
            kernel_features: BTreeMap::from([
                (Feature::UserNamespace, Support::Yes),
                (Feature::TmpfsUserXattr, Support::No("tmpfs has none".into())),
            ]),
            landlock_abi: 2,
            cgroup: BTreeMap::from([
                ("memory".into(), CgroupSupport::V2),
                ("io".into(), CgroupSupport::No("not delegated".into())),
            ]),
            store: StoreFacts {
                idmapped_mounts: true,
                ..StoreFacts::default()
            },
            network: NetworkFacts {
                nftables: true,
                pasta: false,
                ipv6: true,
            },
            root: RootFacts {
                links: BTreeMap::from([("/bin".into(), "usr/bin".into())]),
                directories: vec!["/libexec".into()],
                etc: vec!["/etc/ssl".into()],
            },
            path: BTreeMap::from([(
                "${manifest-dir}/a \"b\"".into(),
                PathFacts {
                    kind: PathKind::Directory,
                    idmapped_mounts: false,
                    file_system: "ext4".into(),
                    owned: true,
                    device: None,
                },
            )]),
            variable: BTreeMap::from([("CI_JOB".into(), false)]),
        }
    }

    #[test]
    fn prints_one_line_for_each_answer() {
        insta::assert_snapshot!(facts().to_toml());
    }

    #[test]
    fn reads_what_it_prints() {
        assert_eq!(Facts::from_toml(&facts().to_toml()).unwrap(), facts());
    }

    #[test]
    fn refuses_unknown_keys_with_their_place() {
        let text = facts().to_toml().replace("owned", "owner");
        insta::assert_snapshot!(Facts::from_toml(&text).unwrap_err().to_string());
    }

    #[test]
    fn refuses_another_version() {
        let other = facts().to_toml().replace("facts = 1", "facts = 2");
        for text in [other.as_str(), "facts = 2\nnew = true\n"] {
            let error = Facts::from_toml(text).unwrap_err().to_string();
            assert_eq!(error, "facts = 2: this program reads version 1");
        }
    }
}
