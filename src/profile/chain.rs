//! Who inherits from whom: from a job or profile to the built-in profile at the root.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::OnceLock;

use super::BuiltIn;
use super::merge::{Layer, Place};
use crate::manifest::nearest::nearest;
use crate::manifest::value::{Node, Table, Value};
use crate::manifest::{self, Manifest};
use crate::problem::{Problem, codes};

/// More profiles than anybody follows; it keeps the work for each job small.
const LONGEST: usize = 64;

/// What a built-in profile writes.
pub(super) fn built_in(profile: BuiltIn) -> &'static Table {
    static PARSED: [OnceLock<Manifest>; 3] = [const { OnceLock::new() }; 3];
    let manifest = PARSED[profile as usize]
        .get_or_init(|| manifest::parse(profile.text()).expect("the built-in profiles are tested"));
    let written = manifest.profiles.get(profile.name());
    written
        .and_then(|node| node.value.as_table())
        .expect("a profile is a table")
}

/// The tables that make a job, the oldest first; none when a link of the chain is missing.
pub(super) fn of_job<'m>(
    manifest: &'m Manifest,
    job: &'m str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Layer<'m>>> {
    let table = manifest.jobs.get(job)?.value.as_table()?;
    let parent = table.get("profile");
    let layer = Layer {
        place: Place::Job(job),
        table,
    };
    walk(manifest, vec![layer], parent, problems)
}

/// The tables that make a profile, the oldest first; none when a link of the chain is missing.
pub(super) fn of_profile<'m>(
    manifest: &'m Manifest,
    profile: &'m str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Layer<'m>>> {
    let table = manifest.profiles.get(profile)?.value.as_table()?;
    let layer = Layer {
        place: Place::Profile(profile),
        table,
    };
    walk(manifest, vec![layer], table.get("inherits"), problems)
}

/// The profiles that a job or another profile names.
pub(super) fn parents(manifest: &Manifest) -> BTreeSet<&str> {
    let jobs = manifest.jobs.values().map(|job| (job, "profile"));
    let profiles = manifest.profiles.values().map(|profile| (profile, "inherits"));
    jobs.chain(profiles)
        .filter_map(|(node, key)| node.value.as_table()?.get(key)?.value.as_text())
        .collect()
}

fn walk<'m>(
    manifest: &'m Manifest,
    mut layers: Vec<Layer<'m>>,
    mut parent: Option<&'m Node>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Layer<'m>>> {
    loop {
        let (name, span) = match parent.map(|node| (&node.value, &node.span)) {
            None => (BuiltIn::Strict.name(), None),
            Some((Value::Text(name), span)) => (name.as_str(), Some(span.clone())),
            Some(_) => return None,
        };
        if let Some(profile) = BuiltIn::from_name(name) {
            let table = built_in(profile);
            layers.push(Layer {
                place: Place::BuiltIn(profile),
                table,
            });
            // A built-in profile without a parent is a root.
            parent = table.get("inherits");
            if parent.is_some() {
                continue;
            }
            layers.reverse();
            return Some(layers);
        }
        if layers.iter().any(|layer| layer.place == Place::Profile(name)) {
            problems.push(cycle(manifest, name));
            return None;
        }
        if layers.len() > LONGEST {
            let message = format!("more than {LONGEST} profiles inherit from each other");
            let help = "a chain that long cannot be read; let some of them inherit from an earlier one";
            problems.push(Problem::new(codes::CHAIN_TOO_LONG, span, message, help));
            return None;
        }
        let Some((name, table)) = find(manifest, name) else {
            problems.push(unknown(manifest, name, span));
            return None;
        };
        layers.push(Layer {
            place: Place::Profile(name),
            table: table?,
        });
        parent = table?.get("inherits");
    }
}

fn find<'m>(manifest: &'m Manifest, name: &str) -> Option<(&'m str, Option<&'m Table>)> {
    let (name, node) = manifest.profiles.get_key_value(name)?;
    Some((name, node.value.as_table()))
}

fn unknown(manifest: &Manifest, name: &str, span: Option<Range<usize>>) -> Problem {
    let known = || manifest.profiles().chain(BuiltIn::ALL.map(BuiltIn::name));
    let help = match nearest(name, known()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("the profiles are {}", known().collect::<Vec<_>>().join(", ")),
    };
    Problem::new(
        codes::UNKNOWN_PROFILE,
        span,
        format!("unknown profile `{name}`"),
        help,
    )
}

/// The same words wherever the circle was entered, so that it is reported once.
fn cycle(manifest: &Manifest, inside: &str) -> Problem {
    let parent = |name: &str| {
        let inherits = manifest.profiles.get(name)?.value.as_table()?.get("inherits")?;
        Some((inherits.value.as_text()?.to_owned(), inherits.span.clone()))
    };
    let mut names = vec![inside.to_owned()];
    while let Some((next, _)) = names.last().and_then(|name| parent(name))
        && next != inside
    {
        names.push(next);
    }
    let first = names
        .iter()
        .enumerate()
        .min_by_key(|(_, name)| *name)
        .map_or(0, |(at, _)| at);
    names.rotate_left(first);
    let span = parent(&names[0]).map(|(_, span)| span);
    names.push(names[0].clone());
    Problem::new(
        codes::INHERITANCE_CYCLE,
        span,
        format!(
            "profiles inherit from each other in a circle: {}",
            names.join(" → ")
        ),
        "let one of them inherit from a built-in profile: strict, standard or dev",
    )
}

/// Profiles that take the name of a built-in one.
pub(super) fn redefined(manifest: &Manifest) -> impl Iterator<Item = Problem> {
    manifest.profiles.iter().filter_map(|(name, node)| {
        BuiltIn::from_name(name)?;
        Some(Problem::new(
            codes::BUILT_IN_REDEFINED,
            Some(node.key.clone()),
            format!("the profile `{name}` is built in"),
            format!("choose another name and write `inherits = \"{name}\"`"),
        ))
    })
}
