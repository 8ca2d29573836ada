//! What the planner is told of an image and of the command line: data, from the lock or the store.

use serde::{Deserialize, Serialize};

/// An image as far as a plan may depend on it: no label and no annotation is among it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Image {
    /// Where its root file system comes from, in full: `docker.io/library/python:3.12-slim`, `dir:rootfs`, `host`.
    pub reference: String,
    /// What it is made of.
    pub kind: ImageKind,
    /// The digest of its manifest; none for `host` and `dir:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The digests of its layers, lowest first.
    #[serde(default)]
    pub layers: Vec<String>,
    /// What its configuration says about running it.
    #[serde(default)]
    pub config: ImageConfig,
    /// The text of its `/etc/passwd`; empty where it has none.
    #[serde(default)]
    pub passwd: String,
    /// The text of its `/etc/group`; empty where it has none.
    #[serde(default)]
    pub group: String,
}

impl Image {
    /// The image source `host`: it has no layers and no configuration.
    pub fn host() -> Image {
        Image {
            reference: "host".to_owned(),
            kind: ImageKind::Host,
            digest: None,
            layers: Vec::new(),
            config: ImageConfig::default(),
            passwd: String::new(),
            group: String::new(),
        }
    }
}

/// What a root file system is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageKind {
    /// Layers in the store.
    Layers,
    /// A directory of the host.
    Dir,
    /// Parts of this machine's own root.
    Host,
}

/// The parts of an image's configuration that may reach a plan (contract: "entrypoint and command").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ImageConfig {
    /// Entrypoint; empty for none.
    pub entrypoint: Vec<String>,
    /// Cmd; empty for none.
    pub cmd: Vec<String>,
    /// Env, each `NAME=VALUE`.
    pub env: Vec<String>,
    /// WorkingDir; empty for `/`.
    pub working_dir: String,
    /// User: `name`, `uid`, either with `:group`; empty for root.
    pub user: String,
    /// StopSignal: a name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// What the command line adds to a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Replaces the job's `command`.
    pub args: Option<Vec<String>>,
    /// The job gets a terminal of its own.
    pub tty: bool,
}
