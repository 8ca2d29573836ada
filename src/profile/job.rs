//! What runs: a job with every value in its place.

use std::collections::BTreeMap;

use super::merge::{Layer, Place};
use super::text::Names;
use super::view::View;
use super::{BuiltIn, Claim, Origin, Placed, Profile, Text, Variable, expect, image_source};
use crate::image::Source;
use crate::manifest::grammar;
use crate::manifest::template::{Part, Template};
use crate::manifest::value::{Table, Value};
use crate::problem::{Problem, codes};

/// What runs, and how it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name in the manifest.
    pub name: String,
    /// Where its root file system comes from.
    pub image: Placed<Source>,
    /// Replaces the image's Entrypoint and drops its Cmd.
    pub entrypoint: Option<Placed<Vec<Text>>>,
    /// Replaces the image's Cmd.
    pub command: Option<Placed<Vec<Text>>>,
    /// Replaces the image's WorkingDir.
    pub workdir: Option<Placed<Text>>,
    /// Added to the image's Env.
    pub env: BTreeMap<String, Placed<Text>>,
    /// Taken out of the image's Env (`NAME = false`), each with its place.
    pub unset: BTreeMap<String, Origin>,
    /// What the manifest declares to come from the environment, by the manifest's name for it: where
    /// the values of [`Piece::Environment`](super::Piece::Environment) are found.
    pub variables: BTreeMap<String, Variable>,
    /// Who the job is inside.
    pub user: Placed<User>,
    /// The name of its profile, for messages.
    pub profile: String,
    /// How it is held.
    pub hold: Profile,
    /// What its author expects of the sandbox, in the manifest's order.
    pub expect: Vec<Placed<Claim>>,
    /// What is worth knowing about it and stops nothing.
    pub warnings: Vec<Problem>,
}

/// Who the job is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// As the manifest writes it: a name or number, with or without a group after a colon.
    Named(String),
    /// The image's User when that is not 0, else 65532 (profile `strict`).
    ImageUnlessRoot,
    /// The image's User, else 0 (profile `standard`).
    Image,
    /// The caller's own ids (profile `dev`).
    Caller,
}

/// Where the folder of the manifest is seen with the profile `dev`, for a job that names no workdir.
pub(super) const WORKSPACE: &str = "/workspace";

impl User {
    pub(super) fn read(view: View<'_, '_>) -> Placed<User> {
        let from = view.get("from");
        let user = match (view.get("name").str(), from.str()) {
            (Some(name), _) => return view.place(User::Named(name.to_owned())),
            (None, Some("image")) => User::Image,
            (None, Some("caller")) => User::Caller,
            (None, _) => User::ImageUnlessRoot,
        };
        view.place(user)
    }
}

/// What a job says of itself, beside how it is held.
pub(super) fn read(
    view: View<'_, '_>,
    written: &Table,
    names: Names<'_>,
    hold: Profile,
    problems: &mut Vec<Problem>,
) -> Job {
    let words = |key| {
        let list = view.get(key);
        let words: Vec<_> = list
            .items()
            .filter_map(|word| Some(word.expanded(names)?.value))
            .collect();
        list.is_written().then(|| list.place(words))
    };
    let (entrypoint, command) = (words("entrypoint"), words("command"));
    let none = |words: &Option<Placed<Vec<Text>>>| words.as_ref().is_none_or(|words| words.value.is_empty());
    if let Some(empty) = entrypoint
        .as_ref()
        .filter(|_| none(&entrypoint) && none(&command))
        && !view.get("entrypoint").has_bad()
        && !view.get("command").has_bad()
    {
        let help = "an `entrypoint` drops the image's command too; write one of both";
        let message = format!("the job `{}` has nothing to run", names.job);
        problems.push(Problem::new(codes::MISSING_KEY, empty.span(), message, help));
    }
    let env = view.get("env");
    let unset = match written.get("env").map(|node| &node.value) {
        Some(Value::Table(table)) => table
            .iter()
            .filter(|(_, node)| node.value == Value::Removed)
            .map(|(name, node)| {
                let table = format!("job.{}", names.job);
                (
                    name.to_owned(),
                    Origin::Manifest {
                        table,
                        span: node.span.clone(),
                    },
                )
            })
            .collect(),
        _ => BTreeMap::new(),
    };
    let workspace = matches!(
        hold.mounts.get(WORKSPACE).map(|mount| &mount.origin),
        Some(Origin::BuiltIn(_))
    );
    let workspace = workspace.then(|| Placed {
        value: Text::literal(WORKSPACE),
        origin: Origin::BuiltIn(BuiltIn::Dev),
    });
    Job {
        name: names.job.to_owned(),
        image: image(view.get("image"), names, problems),
        entrypoint,
        command,
        workdir: view.get("workdir").expanded(names).or(workspace),
        env: env
            .entries()
            .filter_map(|(name, value)| Some((name.to_owned(), value.expanded(names)?)))
            .collect(),
        unset,
        variables: names
            .manifest
            .variables()
            .iter()
            .filter_map(|(name, declared)| Some((name.clone(), declared.environment()?.clone())))
            .collect(),
        user: User::read(view.get("user")),
        profile: view
            .get("profile")
            .text()
            .map_or_else(|| "strict".to_owned(), |name| name.value),
        hold,
        expect: expect::read(view.get("expect"), problems),
        warnings: Vec::new(),
    }
}

/// The tables of the profile `dev` with the manifest's folder at the job's own workdir; none when the
/// job has none, or the profile is another.
pub(super) fn workspace(job: &Table, layers: &[Layer<'_>], problems: &mut Vec<Problem>) -> Option<Table> {
    let dev = layers
        .iter()
        .find(|layer| layer.place == Place::BuiltIn(BuiltIn::Dev))?;
    let node = job.get("workdir")?;
    let Value::Template(template) = &node.value else {
        return None;
    };
    let wrong = match template.as_literal() {
        Some(path) => grammar::mount_place(path)
            .err()
            .map(|wrong| format!("`{path}` {}", wrong.wrong)),
        None => Some("a place inside is written without variables".to_owned()),
    };
    if let Some(message) = wrong {
        let help = "the profile `dev` mounts the manifest's folder at the workdir; choose a directory for it";
        problems.push(Problem::new(
            codes::MOUNT_PLACE,
            Some(node.span.clone()),
            message,
            help,
        ));
        return None;
    }
    let mut table = dev.table.clone();
    if let Value::Table(mounts) = &mut table.get_mut("mounts")?.value {
        let mount = mounts.remove(WORKSPACE)?;
        mounts.insert(template.as_literal()?.to_owned(), mount);
    }
    Some(table)
}

/// Puts the table that [`workspace`] made in the place of the profile's own.
pub(super) fn place_workspace<'m>(layers: &mut [Layer<'m>], workspace: Option<&'m Table>) {
    for layer in layers {
        if let (Place::BuiltIn(BuiltIn::Dev), Some(table)) = (layer.place, workspace) {
            layer.table = table;
        }
    }
}

/// The image's source. It is the same for everybody who has the manifest, or a lock and a plan would
/// say nothing: a variable from the environment has no place in it, and the manifest's folder only
/// where a path begins, which is relative to it anyway.
fn image(view: View<'_, '_>, names: Names<'_>, problems: &mut Vec<Problem>) -> Placed<Source> {
    let fallback = view.place(Source::Host);
    let template = match view.value() {
        Some(Value::Template(template)) => template,
        Some(_) => return fallback,
        None => {
            problems.push(Problem::new(
                codes::MISSING_KEY,
                names.manifest.job_span(names.job),
                format!("the job `{}` has no image", names.job),
                "write `image = \"busybox\"`, or `image = \"host\"` for this machine's own programs",
            ));
            return fallback;
        }
    };
    let mut text = String::new();
    for part in &template.0 {
        match part {
            Part::ManifestDir if text.ends_with(':') => text.push('.'),
            Part::Literal(_) | Part::Job | Part::Variable(_) => {
                let expanded = names.expand(&Template(vec![part.clone()]));
                match expanded.as_literal() {
                    Some(literal) => text.push_str(literal),
                    None => {
                        let help =
                            "write the image out, or as a variable with a text of its own: `NAME = \"text\"`";
                        let message = format!("the image depends on the environment: `{expanded}`");
                        problems.push(Problem::new(codes::BAD_IMAGE, view.span(), message, help));
                        return fallback;
                    }
                }
            }
            Part::ManifestDir => {
                let help = "paths of `dir:`, `oci:` and `archive:` are relative to the manifest's folder";
                let message = "`${manifest-dir}` stands where no path begins";
                problems.push(Problem::new(codes::BAD_IMAGE, view.span(), message, help));
                return fallback;
            }
        }
    }
    match image_source(&text) {
        Ok(source) => view.place(source),
        Err((wrong, right)) => {
            problems.push(Problem::new(
                codes::BAD_IMAGE,
                view.span(),
                format!("`{text}` {wrong}"),
                right,
            ));
            fallback
        }
    }
}
