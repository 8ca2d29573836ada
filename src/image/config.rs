//! What an image says about its own start: six settings, and nothing else that it carries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::platform::Platform;

/// The six settings of an image that may reach a plan. Labels, annotations, volumes, ports and health checks are never read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageConfig {
    /// Entrypoint.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Cmd.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Env; the last of two entries with one name counts.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Entries of Env that were left out because they are not `NAME=value`, made printable.
    #[serde(default)]
    pub env_refused: Vec<String>,
    /// WorkingDir; empty when unset.
    #[serde(default)]
    pub working_dir: String,
    /// User: empty, a name or id, perhaps with a group after a colon. Not looked up here.
    #[serde(default)]
    pub user: String,
    /// StopSignal; empty when unset.
    #[serde(default)]
    pub stop_signal: String,
}

/// A whole configuration file, as far as it is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) platform: Platform,
    pub(crate) diff_ids: Vec<Digest>,
    pub(crate) settings: ImageConfig,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    rootfs: RawRootfs,
    #[serde(default)]
    config: Option<RawConfig>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

impl ConfigFile {
    /// Reads a configuration file (OCI image configuration, Docker image specification 1.2).
    ///
    /// # Errors
    /// What is wrong with it, as a fragment that follows "configuration".
    pub(crate) fn parse(bytes: &[u8]) -> Result<ConfigFile, String> {
        let raw: RawFile = serde_json::from_slice(bytes)
            .map_err(|error| format!("is not valid: {}", super::printable(&error.to_string(), 200)))?;
        if raw.rootfs.kind != "layers" {
            return Err(format!(
                "has a root file system of the kind `{}`, not `layers`",
                super::printable(&raw.rootfs.kind, 40)
            ));
        }
        let config = raw.config.unwrap_or_default();
        let (env, env_refused) = environment(config.env.unwrap_or_default());
        let settings = ImageConfig {
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            env,
            env_refused,
            working_dir: config.working_dir.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            stop_signal: config.stop_signal.unwrap_or_default(),
        };
        let nul = |text: &String| text.contains('\0');
        if settings.entrypoint.iter().any(nul)
            || settings.cmd.iter().any(nul)
            || nul(&settings.working_dir)
            || nul(&settings.user)
        {
            return Err("has a NUL byte in a setting".to_owned());
        }
        Ok(ConfigFile {
            platform: Platform {
                os: raw.os,
                architecture: raw.architecture,
                variant: raw.variant,
            },
            diff_ids: raw.rootfs.diff_ids.unwrap_or_default(),
            settings,
        })
    }
}

/// Entries without a name or a `=` would elsewhere take their value from the caller's environment
/// (CVE-2026-57231): they are left out and named.
fn environment(entries: Vec<String>) -> (BTreeMap<String, String>, Vec<String>) {
    let mut env = BTreeMap::new();
    let mut refused = Vec::new();
    for entry in entries {
        match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() && !entry.contains('\0') => {
                env.insert(name.to_owned(), value.to_owned());
            }
            _ => refused.push(super::printable(&entry, 100)),
        }
    }
    (env, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_settings_are_read_and_nothing_else() {
        let text = br#"{
            "os": "linux", "architecture": "amd64", "created": "x", "history": [{"created_by": "x"}],
            "rootfs": {"type": "layers", "diff_ids": []},
            "config": {
                "Entrypoint": ["/e"], "Cmd": ["a", "b"], "WorkingDir": "/w", "User": "1:2", "StopSignal": "SIGINT",
                "Env": ["SECRET", "AWS_*", "*", "=x", "A", "LD_PRELOAD=/e.so", "A=1", "A=2", ""],
                "Labels": {"run.oci.handler": "krun"}, "Volumes": {"/../../etc": {}}, "ExposedPorts": {"1/tcp": {}}
            }
        }"#;
        let read = ConfigFile::parse(text).unwrap();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            read.settings,
            ImageConfig {
                entrypoint: words(&["/e"]),
                cmd: words(&["a", "b"]),
                env: [("A", "2"), ("LD_PRELOAD", "/e.so")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                env_refused: words(&["SECRET", "AWS_*", "*", "=x", "A", ""]),
                working_dir: "/w".to_owned(),
                user: "1:2".to_owned(),
                stop_signal: "SIGINT".to_owned(),
            }
        );
    }

    #[test]
    fn a_configuration_without_settings_is_empty() {
        let text = br#"{"rootfs": {"type": "layers", "diff_ids": null}, "config": null}"#;
        assert_eq!(ConfigFile::parse(text).unwrap().settings, ImageConfig::default());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(
            ConfigFile::parse(b"{").unwrap_err(),
            "is not valid: EOF while parsing an object at line 1 column 1"
        );
        assert_eq!(
            ConfigFile::parse(br#"{"rootfs": {"type": "foreign"}}"#).unwrap_err(),
            "has a root file system of the kind `foreign`, not `layers`"
        );
        let deep = "[".repeat(1_000_000);
        assert!(
            ConfigFile::parse(deep.as_bytes())
                .unwrap_err()
                .starts_with("is not valid: ")
        );
    }
}
