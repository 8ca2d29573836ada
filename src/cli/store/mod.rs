//! `ringfence image`: what the store holds.

mod list;
mod remove;
mod transfer;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::Failure;
use super::settings::Settings;
use crate::image::{Digest, Held, Inventory, Platform, Reference, Store, StoreError};

/// The words after `ringfence image`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List images with their sizes: all of it, and what no other image shares
    List(List),
    /// Say all that is known of an image
    Inspect(Inspect),
    /// Bring an OCI layout, an archive of `docker save` or a root file system into the store
    Import(Import),
    /// Write an image, byte for byte as it came, into an OCI layout or an archive, or as a root file system into a folder
    Export(Export),
    /// Take images, or names of images, out of the store
    Remove(Remove),
    /// Read everything again; name what is damaged, with exit code 1, so that the next pull brings it anew
    Verify(Verify),
    /// Take out what no image needs, and images by age, by size or by what locks name
    Prune(Prune),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A name, or a digest or its first digits
    image: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// A layout's folder or an archive's file; also oci:DIR:TAG, and dir:DIR for a root file system
    #[arg(value_name = "FILE|DIR")]
    from: String,
    /// The name that the image gets
    name: Option<String>,
    /// The image for another machine, such as linux/arm64
    #[arg(long)]
    platform: Option<String>,
    /// Print nothing on the way
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// A name, or a digest or its first digits
    image: String,
    /// oci:DIR[:TAG], which may hold other images, archive:FILE, or dir:DIR, a new folder
    #[arg(value_name = "TARGET")]
    to: String,
    /// The image for another machine, such as linux/arm64
    #[arg(long)]
    platform: Option<String>,
    /// Ask no registry for layers that are not kept as they came
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Names, or digests or their first digits; an image goes with its last name
    #[arg(required = true)]
    images: Vec<String>,
    /// Say as JSON what was removed
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Images that no run has used for so long, such as 720h
    #[arg(long, value_name = "TIME")]
    unused_for: Option<String>,
    /// Images used the longest ago, until the store is not larger, such as 10GiB
    #[arg(long, value_name = "SIZE")]
    down_to: Option<String>,
    /// Never images that this ringfence.lock names; without another bound, all images but those. May be repeated
    #[arg(long, value_name = "FILE")]
    keep_lock: Vec<PathBuf>,
    /// Remove nothing; say which images would go
    #[arg(long)]
    dry_run: bool,
    /// Say as JSON what was removed, or would be
    #[arg(long)]
    json: bool,
}

/// Does what the words say.
pub(super) fn image(command: &Command) -> Result<u8, Failure> {
    match command {
        Command::List(args) => list::list(args),
        Command::Inspect(args) => list::inspect(args),
        Command::Import(args) => transfer::import(args),
        Command::Export(args) => transfer::export(args),
        Command::Remove(args) => remove::remove(args),
        Command::Verify(args) => verify::verify(args),
        Command::Prune(args) => remove::prune(args),
    }
}

/// The store and all that it holds; none where there is no store.
fn open(settings: &Settings) -> Result<Option<(Store, Inventory)>, Failure> {
    let Some(store) = Store::open(&settings.store).map_err(failure)? else {
        return Ok(None);
    };
    let inventory = store.inventory().map_err(failure)?;
    Ok(Some((store, inventory)))
}

/// The image that a text means: one of its names, written as in a manifest, or the beginning of its digest.
fn find<'a>(inventory: &'a Inventory, text: &str) -> Result<(Digest, &'a Held), Failure> {
    find_for(inventory, text, None)
}

/// The same for a machine: a name may mean an image for each. Without one this machine's comes first.
fn find_for<'a>(
    inventory: &'a Inventory,
    text: &str,
    platform: Option<&Platform>,
) -> Result<(Digest, &'a Held), Failure> {
    let canonical = Reference::parse(text).map(|reference| reference.to_string());
    let is_name = |name: &String| name == text || canonical.as_ref() == Ok(name);
    let own = Platform::host();
    let suiting = inventory.images.iter().filter(|(_, held)| {
        let is_meant = platform.is_none_or(|platform| platform.suits(&held.image.platform).is_some());
        is_meant && held.names.iter().any(is_name)
    });
    let rank = |held: &Held| platform.unwrap_or(&own).suits(&held.image.platform);
    if let Some((digest, held)) = suiting.max_by_key(|(_, held)| rank(held)) {
        return Ok((*digest, held));
    }
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_digits = digits.len() >= SHORTEST && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut begun = inventory
        .images
        .iter()
        .filter(|(digest, _)| is_digits && digest.hex().starts_with(digits));
    match (begun.next(), begun.next()) {
        (Some((digest, held)), None) => Ok((*digest, held)),
        (Some(_), Some(_)) => Err(Failure::Image(format!(
            "image {text}: several digests begin so; write more of it"
        ))),
        (None, _) => Err(Failure::Image(format!(
            "image {text} is not in the store; `ringfence image list` shows what is"
        ))),
    }
}

/// The fewest digits that are taken for a digest.
const SHORTEST: usize = 6;

/// What a machine reads.
fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::text(format!("image: {error}")))
}

fn failure(error: StoreError) -> Failure {
    Failure::Image(error.to_string())
}

/// Bytes as people read them: `999 B`, `1.5 kB`, `23 MB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit > 0 && value < 9.95 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => format!("{value:.0} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_or_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9949, "9.9 kB"),
            (9950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_400_000_000, "1.4 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
