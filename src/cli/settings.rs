//! The host's own settings: config.toml, and where the store and run state are.

use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::{geteuid, getuid};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::failure::Failure;
use crate::image::Registries;
use crate::launch::{RangeConfig, RunDir};
use crate::net::Pool;
use crate::net::bridge::{Kept, Networks};

/// The host's own settings.
#[derive(Debug)]
pub(super) struct Settings {
    /// Registries, mirrors and their certificates.
    pub(super) registries: Registries,
    /// Ranges of ids for root's runs.
    pub(super) ids: RangeConfig,
    /// The addresses that networks of jobs are made of.
    pub(super) pool: Pool,
    /// The folder of the image store.
    pub(super) store: PathBuf,
    /// The folder of run state.
    run: PathBuf,
}

/// config.toml, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    registry: Registries,
    #[serde(default)]
    ids: RangeConfig,
    #[serde(default)]
    network: NetworkConfig,
    /// Read by [`super::ceiling`].
    #[serde(rename = "ceiling")]
    _ceiling: Option<IgnoredAny>,
}

/// `[network]` of config.toml.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkConfig {
    #[serde(default)]
    pool: Pool,
}

impl Settings {
    /// Reads config.toml and the environment.
    ///
    /// # Errors
    /// When the file is wrong: its path, the line and what is wrong there.
    pub(super) fn load() -> Result<Settings, Failure> {
        let root = geteuid().is_root();
        let config = read_config()?;
        Ok(Settings {
            registries: config.registry,
            ids: config.ids,
            pool: config.network.pool,
            store: store(root)?,
            run: run(root),
        })
    }

    /// The folder of run state, made and checked.
    ///
    /// # Errors
    /// When it is not this user's alone.
    pub(super) fn run_dir(&self) -> Result<RunDir, Failure> {
        Ok(RunDir::open(&self.run)?)
    }

    /// The folder of run state where it is there, for a command that changes nothing.
    ///
    /// # Errors
    /// When it is not this user's alone.
    pub(super) fn existing_run_dir(&self) -> Result<Option<RunDir>, Failure> {
        Ok(RunDir::find(&self.run)?)
    }
}

fn read_config() -> Result<ConfigFile, Failure> {
    // The nearest file counts; of ceilings every one does.
    let Some((path, text)) = config_files()?.into_iter().next() else {
        return Ok(ConfigFile::default());
    };
    let failed = |cause: String| Failure::text(format!("config {}: {cause}", path.display()));
    let config: ConfigFile = toml::from_str(&text).map_err(|error| failed(error.to_string()))?;
    if config.ids.count < 2 || u64::from(config.ids.base) + u64::from(config.ids.count) * 65536 > 0xffff_0000
    {
        return Err(failed(
            "`[ids]` needs a `count` of at least 2, and all ranges below 4294901760".to_owned(),
        ));
    }
    Ok(config)
}

/// Every config.toml that there is with its text, the caller's own before the host's (contract: Files).
///
/// # Errors
/// When one cannot be read, or the one of `$RINGFENCE_CONFIG` is not there.
pub(super) fn config_files() -> Result<Vec<(PathBuf, String)>, Failure> {
    let mut paths = Vec::new();
    match env::var_os("RINGFENCE_CONFIG") {
        Some(path) => paths.push((PathBuf::from(path), true)),
        None => {
            if let (false, Some(folder)) = (geteuid().is_root(), home_folder("XDG_CONFIG_HOME", ".config")) {
                paths.push((folder.join("ringfence/config.toml"), false));
            }
            paths.push((PathBuf::from("/etc/ringfence/config.toml"), false));
        }
    }
    let mut found = Vec::new();
    for (path, must_exist) in paths {
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {}
            Err(error) => {
                let cause = crate::launch::io_words(&error);
                return Err(Failure::text(format!("config {}: {cause}", path.display())));
            }
            Ok(text) => found.push((path, text)),
        }
    }
    Ok(found)
}

/// `$RINGFENCE_STORE`, else as the contract says.
fn store(root: bool) -> Result<PathBuf, Failure> {
    if let Some(path) = env::var_os("RINGFENCE_STORE").filter(|path| !path.is_empty()) {
        return std::path::absolute(path).map_err(|error| Failure::text(format!("RINGFENCE_STORE: {error}")));
    }
    if root {
        return Ok(PathBuf::from("/var/lib/ringfence"));
    }
    home_folder("XDG_DATA_HOME", ".local/share")
        .map(|folder| folder.join("ringfence"))
        .ok_or_else(|| {
            Failure::text("image store: neither XDG_DATA_HOME nor HOME is set; set RINGFENCE_STORE")
        })
}

/// `$RINGFENCE_RUN`, else as the contract says; a folder of the session that is missing or another's gives way to `/tmp`.
fn run(root: bool) -> PathBuf {
    if let Some(path) = env::var_os("RINGFENCE_RUN").filter(|path| !path.is_empty()) {
        return PathBuf::from(path);
    }
    if root {
        return PathBuf::from("/run/ringfence");
    }
    let session = env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| is_own(path));
    session.map_or_else(
        || PathBuf::from(format!("/tmp/ringfence-{}", getuid())),
        |path| path.join("ringfence"),
    )
}

fn is_own(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|seen| seen.is_dir() && seen.uid() == geteuid().as_raw())
}

/// Removes what dead runs have left of networks, before any command that is not a run: that does it on its way.
pub(super) fn sweep() {
    let root = geteuid().is_root();
    let Ok(Some(run_dir)) = RunDir::find(&run(root)) else {
        // There is none, or it is not ours: a command that needs it says so.
        return;
    };
    for left in Networks::of(run_dir.path(), Pool::default()).sweep(Kept::Goes) {
        super::say(&format!("ringfence: left of a run that has died: {left}"));
    }
}

/// The folder that an XDG variable names, absolute ones only, else one below HOME (XDG Base Directory Specification).
fn home_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}
