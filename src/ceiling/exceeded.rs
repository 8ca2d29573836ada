//! Where a job exceeds a ceiling: each time with the line that asks and the line that forbids.

use std::ops::Range;

use toml::Spanned;

use super::{Ceiling, Mode, codes, roots};
use crate::image::Source;
use crate::problem::{Elsewhere, Problem, Problems};
use crate::profile::{BuiltIn, Enforce, Explanation, Job, Limit, Mount, Text};

/// The job that is looked at, and the text of the ceiling for messages.
#[derive(Clone, Copy)]
pub struct Check<'a> {
    /// The job.
    pub job: &'a Job,
    /// Where its values come from.
    pub explanation: &'a Explanation,
    /// The name of the file that holds the ceiling.
    pub file: &'a str,
    /// Its text: the one that the ceiling's places belong to.
    pub text: &'a str,
}

impl Ceiling {
    /// Everything in which a job exceeds the ceiling; `None` when it does not.
    ///
    /// `real` is the absolute path that a bind's source leads to, links followed, or nothing where that is not known:
    /// such a source is refused. The paths of `mounts` go through it as well, so `${manifest-dir}` may be one.
    pub fn exceeded(&self, check: &Check<'_>, real: impl Fn(&Text) -> Option<String>) -> Option<Problems> {
        // Every key by name: one that nobody looks at would be a ceiling that does not hold.
        let Ceiling {
            memory,
            pids,
            wall,
            network,
            mounts,
            registries,
            images,
            capabilities,
            profiles,
        } = self;
        let limits = &check.job.hold.limits;
        let mut found = Vec::new();
        if let Some(most) = memory {
            let written = most.as_ref().0;
            found.extend(check.limit("memory", &limits.memory, &written, most.span()));
        }
        if let Some(most) = pids {
            found.extend(check.limit("pids", &limits.pids, most.get_ref(), most.span()));
        }
        if let Some(most) = wall {
            let written = most.as_ref().0;
            found.extend(check.limit("wall", &limits.wall, &written, most.span()));
        }
        if let Some(modes) = network {
            found.extend(check.network(modes));
        }
        if let Some(roots) = mounts {
            found.extend(check.mounts(roots, real));
        }
        if let Some(registries) = registries {
            found.extend(check.registry(registries));
        }
        if let Some(images) = images
            && !images
                .get_ref()
                .iter()
                .any(|pattern| pattern.fits(&check.job.image.value))
        {
            let message = format!(
                "this host's ceiling does not allow the image {}",
                check.job.image.value
            );
            let help = format!("it allows {}", listed(images.get_ref()));
            found.push(check.problem(codes::IMAGE, "image", message, help, images.span()));
        }
        if let Some(allowed) = capabilities {
            let names: Vec<&str> = (check.job.hold.security.capabilities.value.iter())
                .filter(|capability| !allowed.get_ref().iter().any(|written| written.0 == **capability))
                .map(|capability| capability.name())
                .collect();
            if !names.is_empty() {
                let message = format!("this host's ceiling does not allow {}", names.join(", "));
                let help = "write `security.capabilities` without it, or none: `[]`";
                found.push(check.problem(
                    codes::CAPABILITY,
                    "security.capabilities",
                    message,
                    help,
                    allowed.span(),
                ));
            }
        }
        if let Some(allowed) = profiles {
            found.extend(check.profiles(allowed));
        }
        Problems::from_found(found)
    }
}

impl Check<'_> {
    fn limit<T: PartialOrd + ToString>(
        &self,
        name: &str,
        limit: &Option<Limit<T>>,
        most: &T,
        ceiling: Range<usize>,
    ) -> Option<Problem> {
        let shown = most.to_string();
        let (message, key) = match limit {
            None => (
                format!("no limit of {name}, and this host's ceiling is {shown}"),
                name.to_owned(),
            ),
            Some(limit) if limit.max.value > *most => (
                format!(
                    "{name} of {} exceeds this host's ceiling of {shown}",
                    limit.max.value.to_string()
                ),
                name.to_owned(),
            ),
            Some(limit) if limit.enforce == Enforce::Optional => {
                let own = format!("limits.{name}.enforce");
                let key = if self.explanation.holds(&own).is_some() {
                    format!("{name}.enforce")
                } else {
                    "enforce".to_owned()
                };
                (
                    format!("the limit of {name} is optional, and this host has a ceiling of {shown}"),
                    key,
                )
            }
            Some(_) => return None,
        };
        let help = match limit {
            Some(limit) if limit.max.value <= *most => "write `enforce = \"required\"`".to_owned(),
            _ => format!("ask for at most {shown}"),
        };
        Some(self.problem(codes::LIMIT, &format!("limits.{key}"), message, help, ceiling))
    }

    fn network(&self, modes: &Spanned<Vec<Mode>>) -> Option<Problem> {
        let mode = Mode::of(&self.job.hold.network.value);
        if modes.get_ref().contains(&mode) {
            return None;
        }
        let message = format!("this host's ceiling does not allow the network mode \"{mode}\"");
        let help = format!("it allows {}", listed(modes.get_ref()));
        Some(self.problem(codes::NETWORK, "network.mode", message, help, modes.span()))
    }

    fn mounts(&self, allowed: &Spanned<Vec<String>>, real: impl Fn(&Text) -> Option<String>) -> Vec<Problem> {
        let root = |text: &String| {
            let rest = text.strip_prefix("${manifest-dir}");
            let text = match rest {
                Some(rest) => Text(vec![
                    crate::profile::Piece::ManifestDir,
                    crate::profile::Piece::Literal(rest.to_owned()),
                ]),
                None => Text::literal(text.as_str()),
            };
            roots::normal(&real(&text)?)
        };
        let folders: Vec<String> = allowed.get_ref().iter().filter_map(root).collect();
        let mut found = Vec::new();
        for (at, mount) in &self.job.hold.mounts {
            let Mount::Bind { source, .. } = &mount.value else {
                continue;
            };
            let path = real(&source.value).and_then(|path| roots::normal(&path));
            if path
                .as_ref()
                .is_some_and(|path| folders.iter().any(|folder| roots::below(path, folder)))
            {
                continue;
            }
            let message = match path {
                Some(path) => format!("this host's ceiling does not allow {path} to be bound"),
                None => format!(
                    "this host's ceiling allows some folders, and where {} leads is not known",
                    source.value
                ),
            };
            let help = format!("it allows {} and what is below", listed(allowed.get_ref()));
            let key = format!("mounts.{at}.bind");
            found.push(self.problem(codes::MOUNT, &key, message, help, allowed.span()));
        }
        found
    }

    fn registry(&self, allowed: &Spanned<Vec<String>>) -> Option<Problem> {
        let Source::Registry(reference) = &self.job.image.value else {
            return None;
        };
        if allowed.get_ref().iter().any(|name| name == reference.registry()) {
            return None;
        }
        let message = format!(
            "this host's ceiling does not allow the registry {}",
            reference.registry()
        );
        let help = format!("it allows {}", listed(allowed.get_ref()));
        Some(self.problem(codes::IMAGE, "image", message, help, allowed.span()))
    }

    fn profiles(&self, allowed: &Spanned<Vec<String>>) -> Option<Problem> {
        let chain = &self.explanation.chain;
        let forbidden =
            |name: &&String| BuiltIn::from_name(name).is_some() && !allowed.get_ref().contains(name);
        let name = chain.iter().find(forbidden)?;
        let message = format!("this host's ceiling does not allow the profile `{name}`");
        let help = format!("it allows {}", listed(allowed.get_ref()));
        Some(self.problem(codes::PROFILE, "profile", message, help, allowed.span()))
    }

    /// A problem at the line that sets a value, wherever that is, beside the line of the ceiling.
    fn problem(
        &self,
        code: &'static str,
        key: &str,
        message: String,
        help: impl Into<String>,
        ceiling: Range<usize>,
    ) -> Problem {
        let setting = self.explanation.holds(key);
        let here = setting.filter(|setting| setting.built_in.is_none());
        // What the job did not write it took over with its profile.
        let profile = || {
            self.explanation
                .holds("profile")
                .map(|setting| setting.span.clone())
        };
        let span = here.map(|setting| setting.span.clone()).or_else(profile);
        let span = span.or_else(|| self.job.image.span());
        let mut problem = Problem::new(code, span, message, help);
        if let Some((profile, setting)) = setting.and_then(|setting| Some((setting.built_in?, setting))) {
            let file = format!("built-in profile {}", profile.name());
            problem.elsewhere.push(Elsewhere::of(
                file,
                profile.text(),
                setting.span.clone(),
                "set here",
            ));
        }
        problem
            .elsewhere
            .push(Elsewhere::of(self.file, self.text, ceiling, "the ceiling"));
        problem
    }
}

fn listed<T: ToString>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}
