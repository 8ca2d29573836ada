//! The lock as text: sorted, one thing a line, the same for the same content.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Lock, Locked, LockedImage, VERSION};
use crate::image::{Accounts, Digest, ImageConfig, Layer, Platform};

/// How a lock begins; a file that does not is somebody else's.
const BEGINS: &str = "lock = ";

/// Why a text is not a lock. Follows the name of its file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It does not begin as one does.
    #[error(": it does not begin with `lock = {VERSION}`, so it is no lock and stays as it is")]
    Foreign,
    /// It was written by another version of this program.
    #[error(": it has version {0} of the format, this program knows version {VERSION}")]
    Version(i64),
    /// It is damaged.
    #[error(
        ":{line}:{column}: {reason}; take it from version control, or remove it and run `ringfence lock`"
    )]
    Damaged {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    #[serde(rename = "lock")]
    version: i64,
    #[serde(default)]
    image: Vec<toml::Spanned<RawImage>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawImage {
    request: String,
    index: Digest,
    #[serde(default)]
    platform: BTreeMap<String, toml::Spanned<RawPlatform>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPlatform {
    manifest: Digest,
    config: Digest,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    working_dir: String,
    user: String,
    stop_signal: String,
    layers: Vec<RawLayer>,
    passwd: Option<Vec<String>>,
    group: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLayer {
    digest: Digest,
    diff_id: Digest,
    size: u64,
}

impl Lock {
    /// Reads a lock.
    ///
    /// # Errors
    /// When the text is no lock, one of another version, or a damaged one.
    pub fn parse(text: &str) -> Result<Lock, LockError> {
        let first = text.lines().next().unwrap_or_default();
        let version = first
            .strip_prefix(BEGINS)
            .and_then(|rest| rest.trim_end().parse().ok());
        match version {
            Some(VERSION) => {}
            Some(version) => return Err(LockError::Version(version)),
            None => return Err(LockError::Foreign),
        }
        let damaged = |at: usize, reason: String| {
            let before = text.get(..at).unwrap_or_default();
            LockError::Damaged {
                line: before.matches('\n').count() + 1,
                column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
                reason,
            }
        };
        let raw: RawLock = toml::from_str(text).map_err(|error| {
            let reason = error.message().lines().next().unwrap_or_default().to_owned();
            damaged(error.span().map_or(0, |span| span.start), reason)
        })?;
        debug_assert_eq!(raw.version, VERSION);
        let mut lock = Lock::default();
        for image in raw.image {
            let at = image.span().start;
            let (request, locked) =
                locked(image.into_inner()).map_err(|(place, reason)| damaged(place.unwrap_or(at), reason))?;
            if lock.images.insert(request.clone(), locked).is_some() {
                return Err(damaged(at, format!("`{request}` is locked twice")));
            }
        }
        Ok(lock)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{BEGINS}{VERSION}\n# Written by `ringfence lock`, for version control. Not to be edited by hand.\n"
        );
        for (request, image) in &self.images {
            text += &format!(
                "\n[[image]]\nrequest = {}\nindex = \"{}\"\n",
                string(request),
                image.index
            );
            for (platform, image) in &image.platforms {
                text += &format!("\n[image.platform.{}]\n", string(&platform.to_string()));
                write_image(&mut text, image);
            }
        }
        text
    }
}

fn write_image(text: &mut String, image: &LockedImage) {
    let settings = &image.settings;
    let mut line = |key: &str, value: String| *text += &format!("{key} = {value}\n");
    line("manifest", string(&image.manifest.to_string()));
    line("config", string(&image.config.to_string()));
    line("entrypoint", strings(&settings.entrypoint));
    line("cmd", strings(&settings.cmd));
    let env = settings
        .env
        .iter()
        .map(|(name, value)| string(&format!("{name}={value}")));
    line("env", array(env));
    line("working-dir", string(&settings.working_dir));
    line("user", string(&settings.user));
    line("stop-signal", string(&settings.stop_signal));
    let layer = |layer: &Layer| {
        format!(
            "{{ digest = \"{}\", diff-id = \"{}\", size = {} }}",
            layer.digest, layer.diff_id, layer.size
        )
    };
    line("layers", array(image.layers.iter().map(layer)));
    if let Some(accounts) = &image.accounts {
        line("passwd", strings(&accounts.passwd()));
        line("group", strings(&accounts.group()));
    }
}

/// A basic string of TOML on one line: JSON's, which leaves only DEL as it is.
fn string(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

fn strings(texts: &[String]) -> String {
    array(texts.iter().map(|text| string(text)))
}

/// One item a line, so that a diff shows the items that changed.
fn array(items: impl Iterator<Item = String>) -> String {
    let lines: String = items.map(|item| format!("    {item},\n")).collect();
    match lines.as_str() {
        "" => "[]".to_owned(),
        lines => format!("[\n{lines}]"),
    }
}

/// What is wrong, and where when that is known better than by the whole image.
type Wrong = (Option<usize>, String);

fn locked(raw: RawImage) -> Result<(String, Locked), Wrong> {
    let mut platforms = BTreeMap::new();
    for (name, image) in raw.platform {
        let at = Some(image.span().start);
        let platform = name
            .parse::<Platform>()
            .map_err(|()| (at, format!("`{name}` is not a platform such as `linux/amd64`")))?;
        let image = locked_image(image.into_inner()).map_err(|reason| (at, reason))?;
        platforms.insert(platform, image);
    }
    let locked = Locked {
        index: raw.index,
        platforms,
    };
    Ok((raw.request, locked))
}

fn locked_image(raw: RawPlatform) -> Result<LockedImage, String> {
    let mut env = BTreeMap::new();
    for entry in raw.env {
        let (name, value) = entry
            .split_once('=')
            .ok_or_else(|| format!("`{entry}` of `env` is not NAME=VALUE"))?;
        env.insert(name.to_owned(), value.to_owned());
    }
    let accounts = match (raw.passwd, raw.group) {
        (None, None) => None,
        (Some(passwd), Some(group)) => {
            let accounts = Accounts::parse(passwd.join("\n").as_bytes(), group.join("\n").as_bytes());
            if (accounts.passwd(), accounts.group()) != (passwd, group) {
                return Err("a line of `passwd` or `group` is not one of those files".to_owned());
            }
            Some(accounts)
        }
        _ => return Err("`passwd` and `group` stand together or not at all".to_owned()),
    };
    let layer = |raw: RawLayer| Layer {
        digest: raw.digest,
        diff_id: raw.diff_id,
        size: raw.size,
    };
    Ok(LockedImage {
        manifest: raw.manifest,
        config: raw.config,
        settings: ImageConfig {
            entrypoint: raw.entrypoint,
            cmd: raw.cmd,
            env,
            env_refused: Vec::new(),
            working_dir: raw.working_dir,
            user: raw.user,
            stop_signal: raw.stop_signal,
        },
        layers: raw.layers.into_iter().map(layer).collect(),
        accounts,
    })
}
