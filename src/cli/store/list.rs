//! `ringfence image list` and `inspect`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::super::failure::Failure;
use super::super::print;
use super::super::settings::Settings;
use super::{Inspect, List, find, json, open, size};
use crate::image::{Digest, Held, ImageConfig, Layer};

/// An image for a machine that reads.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    names: &'a [String],
    digest: Digest,
    platform: String,
    /// Bytes.
    size: u64,
    /// Bytes that no other image shares.
    own: u64,
    /// Seconds since 1970.
    used: u64,
}

/// The same with what a plan may depend on.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Sheet<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    #[serde(flatten)]
    config: &'a ImageConfig,
    passwd: Vec<String>,
    group: Vec<String>,
    layers: &'a [Layer],
}

fn line(digest: Digest, held: &Held) -> Line<'_> {
    Line {
        names: &held.names,
        digest,
        platform: held.image.platform.to_string(),
        size: held.size,
        own: held.own,
        used: held.used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    }
}

/// Prints a line for each name of each image.
pub(super) fn list(args: &List) -> Result<u8, Failure> {
    let inventory = open(&Settings::load()?)?
        .map(|(_, inventory)| inventory)
        .unwrap_or_default();
    if args.json {
        let lines: Vec<_> = inventory
            .images
            .iter()
            .map(|(digest, held)| line(*digest, held))
            .collect();
        print(&json(&lines)?)?;
        return Ok(0);
    }
    let now = SystemTime::now();
    let mut rows = Vec::new();
    for (digest, held) in &inventory.images {
        let age = now.duration_since(held.used).unwrap_or_default().as_secs();
        for name in shown(held) {
            rows.push([name, digest.short(), size(held.size), size(held.own), ago(age)]);
        }
    }
    rows.sort();
    rows.insert(0, ["IMAGE", "DIGEST", "SIZE", "OWN", "USED"].map(str::to_owned));
    print(&table(&rows))?;
    Ok(0)
}

/// Prints all that is known of an image.
pub(super) fn inspect(args: &Inspect) -> Result<u8, Failure> {
    let inventory = open(&Settings::load()?)?
        .map(|(_, inventory)| inventory)
        .unwrap_or_default();
    let (digest, held) = find(&inventory, &args.image)?;
    let sheet = Sheet {
        line: line(digest, held),
        config: &held.image.config,
        passwd: held.image.accounts.passwd(),
        group: held.image.accounts.group(),
        layers: &held.image.layers,
    };
    print(&match args.json {
        true => json(&sheet)?,
        false => toml::to_string_pretty(&sheet).map_err(|error| Failure::text(format!("image: {error}")))?,
    })?;
    Ok(0)
}

/// The names of an image that say more than its digest; without one, a digest's, shortened.
fn shown(held: &Held) -> Vec<String> {
    let (pinned, named): (Vec<&String>, Vec<&String>) =
        held.names.iter().partition(|name| name.contains('@'));
    if !named.is_empty() {
        return named.into_iter().cloned().collect();
    }
    let short = |name: &str| match name.split_once("@sha256:") {
        Some((name, digits)) => format!("{name}@sha256:{}…", digits.get(..12).unwrap_or(digits)),
        None => name.to_owned(),
    };
    match pinned.first() {
        Some(name) => vec![short(name)],
        None => vec![held.image.reference.clone()],
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Columns as wide as their widest cell; all but the first are set to the right.
fn table(rows: &[[String; 5]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        text += &format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            text += &format!("  {cell:>width$}");
        }
        text += "\n";
    }
    text
}
