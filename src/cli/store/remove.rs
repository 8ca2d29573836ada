//! `ringfence image remove` and `prune`.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use super::super::failure::Failure;
use super::super::settings::Settings;
use super::super::{print, say};
use super::{Prune, Remove, failure, find, json, open, size};
use crate::image::{Digest, Inventory, Policy, Reference, Swept, sweep_in_child};
use crate::lock::Lock;
use crate::units::{Bytes, Millis, UnitError};

/// What was removed, for a machine that reads.
#[derive(Serialize)]
struct Removed {
    /// Names, or digests of what had none.
    images: Vec<String>,
    #[serde(flatten)]
    swept: Option<Swept>,
}

/// Takes images out, and what only they needed.
pub(super) fn remove(args: &Remove) -> Result<u8, Failure> {
    let settings = Settings::load()?;
    let Some((store, inventory)) = open(&settings)? else {
        return find(&Inventory::default(), &args.images[0]).map(|_| 0);
    };
    // All are found before one goes: a slip of the pen removes nothing.
    for text in &args.images {
        find(&inventory, text)?;
    }
    let mut images = Vec::new();
    for text in &args.images {
        // As it is now: the name before may have been of the same image.
        let inventory = store.inventory().map_err(failure)?;
        let Ok((digest, held)) = find(&inventory, text) else {
            continue;
        };
        let canonical =
            Reference::parse(text).map_or_else(|_| text.clone(), |reference| reference.to_string());
        // A digest, a layout and an archive say where an image came from; they are no names that anyone gave it.
        let is_given = |name: &&String| {
            !name.contains('@')
                && !["oci:", "archive:", "dir:"]
                    .iter()
                    .any(|source| name.starts_with(source))
        };
        let is_other = |name: &&String| **name != canonical && *name != text && is_given(name);
        let by_name = held.names.contains(&canonical) || held.names.contains(text);
        let name = if held.names.contains(&canonical) {
            &canonical
        } else {
            text
        };
        if by_name && held.names.iter().filter(is_other).count() > 0 {
            store.remove_name(name, digest).map_err(failure)?;
        } else if !store.remove_image(digest).map_err(failure)? {
            return Err(Failure::Image(format!(
                "image {text} is in use by a run; it stays"
            )));
        }
        images.push(name.clone());
    }
    let swept = Some(sweep(&settings)?);
    say_removed(&Removed { images, swept }, args.json)
}

/// Takes out images that a policy names, and what no image needs.
pub(super) fn prune(args: &Prune) -> Result<u8, Failure> {
    let wrong = |option: &str, error: UnitError| {
        let UnitError { wrong, right } = error;
        Failure::Usage(format!("ringfence: {option} {wrong}; {right}"))
    };
    let unused_for = args.unused_for.as_deref().map(Millis::parse).transpose();
    let unused_for = unused_for.map_err(|error| wrong("--unused-for", error))?;
    let down_to = args.down_to.as_deref().map(Bytes::parse).transpose();
    let down_to = down_to.map_err(|error| wrong("--down-to", error))?;
    let mut keep = BTreeSet::new();
    for file in &args.keep_lock {
        keep.extend(named(file)?);
    }
    let policy = Policy {
        unused_for: unused_for.map(Millis::duration),
        down_to: down_to.map(|bytes| bytes.0),
        all_others: !args.keep_lock.is_empty() && unused_for.is_none() && down_to.is_none(),
        keep,
    };
    let settings = Settings::load()?;
    let Some((store, inventory)) = open(&settings)? else {
        return Ok(0);
    };
    let mut images = Vec::new();
    for digest in policy.choose(&inventory, SystemTime::now()) {
        let name = name(&inventory, digest);
        if !args.dry_run && !store.remove_image(digest).map_err(failure)? {
            say(&format!("ringfence: image {name} is in use by a run; it stays"));
            continue;
        }
        if !args.json {
            print(&format!("{name}\n"))?;
        }
        images.push(name);
    }
    let swept = (!args.dry_run).then(|| sweep(&settings)).transpose()?;
    say_removed(&Removed { images, swept }, args.json)
}

fn name(inventory: &Inventory, digest: Digest) -> String {
    let held = inventory.images.get(&digest);
    let name = held.and_then(|held| held.names.iter().find(|name| !name.contains('@')));
    name.cloned().unwrap_or_else(|| digest.to_string())
}

/// The images of every platform that a lock names.
fn named(file: &Path) -> Result<Vec<Digest>, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::text(format!("{}: {}", file.display(), crate::launch::io_words(&error))))?;
    let lock = Lock::parse(&text).map_err(|error| Failure::text(format!("{}{error}", file.display())))?;
    let images = lock
        .images
        .into_values()
        .flat_map(|image| image.platforms.into_values());
    Ok(images.map(|image| image.manifest).collect())
}

/// Removes what no image needs.
fn sweep(settings: &Settings) -> Result<Swept, Failure> {
    sweep_in_child(&settings.store).map_err(|error| Failure::Image(error.to_string()))
}

/// Says how much was removed.
fn say_removed(removed: &Removed, as_json: bool) -> Result<u8, Failure> {
    if as_json {
        print(&json(removed)?)?;
    } else if let Some(swept) = &removed.swept {
        let noun = if swept.layers == 1 { "layer" } else { "layers" };
        say(&format!("{} {noun} removed, {}", swept.layers, size(swept.bytes)));
    }
    Ok(0)
}
