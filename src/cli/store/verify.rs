//! `ringfence image verify`.

use super::super::failure::Failure;
use super::super::settings::Settings;
use super::super::{print, say};
use super::{Verify, json};
use crate::image::{Damage, verify_in_child};

/// Reads everything again; prints a line for each damaged part, with exit code 1.
pub(super) fn verify(args: &Verify) -> Result<u8, Failure> {
    let store = Settings::load()?.store;
    let damage = verify_in_child(&store).map_err(|error| Failure::Image(error.to_string()))?;
    match args.json {
        true => print(&json(&damage)?)?,
        false => print(&damage.iter().map(line).collect::<String>())?,
    }
    if damage.iter().any(|part| !part.in_use) {
        say("ringfence: what is damaged counts as absent now; pull or import it again");
    }
    if damage.iter().any(|part| part.in_use) {
        say("ringfence: what a run uses stays until it has ended; verify again then");
    }
    Ok(u8::from(!damage.is_empty()))
}

fn line(damage: &Damage) -> String {
    let Damage {
        path,
        reason,
        images,
        in_use,
    } = damage;
    let mut notes: Vec<&str> = images.iter().map(String::as_str).collect();
    notes.extend(in_use.then_some("in use"));
    match notes.is_empty() {
        true => format!("{path}: {reason}\n"),
        false => format!("{path}: {reason} ({})\n", notes.join(", ")),
    }
}
