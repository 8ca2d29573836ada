//! The same plan for another engine, with everything that the engine cannot express.
//!
//! Pure: a plan and the values that it leaves open go in, texts and a list of losses come out. An engine that can hold
//! something in another way only almost loses it too: whoever moves a job elsewhere must know what stays behind.

mod bundle;
mod bwrap;
mod compose;
mod docker;
mod kubernetes;
mod network;
mod nsjail;
mod sandbox;
mod shell;
#[cfg(test)]
mod tests;
mod yaml;

use std::fmt;

pub(crate) use self::sandbox::{Place, Rootfs, Sandbox, Values};

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A folder that runc, crun and their like run (OCI runtime specification 1.0.2).
    OciBundle,
    /// A `docker run` line.
    Docker,
    /// A compose file with one service.
    Compose,
    /// A Job and a NetworkPolicy.
    Kubernetes,
    /// A script that runs bubblewrap.
    Bwrap,
    /// A configuration of nsjail, in the text form of its protocol buffer.
    Nsjail,
}

/// What the engine is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exported {
    /// The main file's name in a folder.
    pub(crate) name: &'static str,
    /// Its text.
    pub(crate) text: String,
    /// It is a program.
    pub(crate) executable: bool,
    /// Files that it refers to, by their names beside it.
    pub(crate) beside: Vec<(String, String)>,
    /// What the engine cannot express.
    pub(crate) losses: Vec<Loss>,
}

/// Something of the plan that another engine cannot express, or only almost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Loss {
    /// The manifest's word for it: `limits.wall`.
    about: String,
    /// What happens instead: a lower-case fragment.
    text: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.text)
    }
}

/// Why nothing can be exported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

/// The losses of one export, in the order of the plan.
#[derive(Debug, Default)]
struct Losses(Vec<Loss>);

impl Losses {
    fn add(&mut self, about: impl Into<String>, text: impl Into<String>) {
        self.0.push(Loss {
            about: about.into(),
            text: text.into(),
        });
    }
}

/// The plan for `target`. With `beside`, files can be put beside the main one.
///
/// # Errors
/// When the engine has no way at all to run the job: an image that has no name in a registry.
pub(crate) fn export(target: Target, sandbox: &Sandbox<'_>, beside: bool) -> Result<Exported, Refusal> {
    let mut losses = Losses(sandbox.losses.clone());
    everywhere(sandbox, &mut losses);
    let mut exported = match target {
        Target::OciBundle => bundle::bundle(sandbox, &mut losses),
        Target::Docker => docker::docker(sandbox, beside, &mut losses)?,
        Target::Compose => compose::compose(sandbox, beside, &mut losses)?,
        Target::Kubernetes => kubernetes::kubernetes(sandbox, &mut losses)?,
        Target::Bwrap => bwrap::bwrap(sandbox, &mut losses)?,
        Target::Nsjail => nsjail::nsjail(sandbox, &mut losses)?,
    };
    exported.losses = losses.0;
    Ok(exported)
}

/// What none of the engines has.
fn everywhere(sandbox: &Sandbox<'_>, losses: &mut Losses) {
    if sandbox.landlock {
        losses.add("security.landlock", "no path or port is held by Landlock");
    }
    if sandbox.watch.output.is_some() {
        losses.add("limits.output", "what it writes is not bounded");
    }
    if sandbox.watch.cpu_time_ms.is_some() {
        losses.add("limits.cpu-time", "its processor time as a whole is not bounded");
    }
}

impl Target {
    /// The word of the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Target::OciBundle => "oci-bundle",
            Target::Docker => "docker",
            Target::Compose => "compose",
            Target::Kubernetes => "kubernetes",
            Target::Bwrap => "bwrap",
            Target::Nsjail => "nsjail",
        }
    }
}
