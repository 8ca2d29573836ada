//! Filters and rights of a job's processes.

use std::collections::BTreeSet;

use super::view::View;
use super::{Capability, Enforce, Origin, Placed};
use crate::problem::{Problem, codes};
use crate::seccomp::{Base, Policy, PolicyError};

/// Filters and rights of the job's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// Capabilities inside its user namespace; none outside, ever.
    pub capabilities: Placed<BTreeSet<Capability>>,
    /// System calls.
    pub seccomp: Placed<Policy>,
    /// Whether a host without seccomp is accepted.
    pub seccomp_enforce: Enforce,
    /// Paths and ports by Landlock; none switches it off.
    pub landlock: Option<Landlock>,
    /// Whether a host without Landlock is accepted.
    pub landlock_enforce: Enforce,
    /// no_new_privs (see prctl(2)).
    pub no_new_privileges: Placed<bool>,
    /// Paths that show nothing.
    pub masked_paths: Placed<Vec<String>>,
    /// Paths that cannot be written.
    pub read_only_paths: Placed<Vec<String>>,
}

/// What Landlock allows (see landlock(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landlock {
    /// Where the value comes from, for messages about the host's version.
    pub origin: Origin,
    /// Paths by right. `None`: what the mounts allow (read and execute everywhere, write where mounts are writable).
    pub paths: Option<LandlockPaths>,
    /// TCP ports that may be connected to; `None`: not restricted.
    pub connect_tcp: Option<Placed<Vec<u16>>>,
    /// TCP ports that may be bound; `None`: not restricted.
    pub bind_tcp: Option<Placed<Vec<u16>>>,
}

/// Paths inside, by right; a path in `write` or `execute` can be read as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LandlockPaths {
    /// Files may be read and directories listed below these.
    pub read: Vec<Placed<String>>,
    /// Also written, made and removed.
    pub write: Vec<Placed<String>>,
    /// Also executed.
    pub execute: Vec<Placed<String>>,
}

impl Security {
    pub(super) fn read(view: View<'_, '_>, problems: &mut Vec<Problem>) -> Security {
        let (capabilities, seccomp) = (view.get("capabilities"), view.get("seccomp"));
        let enforce = |view: View<'_, '_>| view.get("enforce").word().unwrap_or(Enforce::Required);
        let paths = |key| {
            let view = view.get(key);
            view.place(view.items().filter_map(View::str).map(str::to_owned).collect())
        };
        Security {
            capabilities: capabilities.place(
                capabilities
                    .items()
                    .filter_map(|name| Capability::from_name(name.str()?))
                    .collect(),
            ),
            seccomp: seccomp.place(policy(seccomp, problems)),
            seccomp_enforce: enforce(seccomp),
            landlock: view
                .get("landlock")
                .is_table()
                .then(|| Landlock::read(view.get("landlock"))),
            landlock_enforce: enforce(view.get("landlock")),
            no_new_privileges: view
                .get("no-new-privileges")
                .bool()
                .unwrap_or_else(|| view.place(true)),
            masked_paths: paths("masked-paths"),
            read_only_paths: paths("read-only-paths"),
        }
    }
}

fn policy(view: View<'_, '_>, problems: &mut Vec<Problem>) -> Policy {
    let names = |key| {
        view.get(key)
            .items()
            .filter_map(|name| name.str().map(str::to_owned))
            .collect()
    };
    let policy = Policy {
        base: view.get("policy").word().unwrap_or(Base::Default),
        allow: names("allow"),
        deny: names("deny"),
    };
    for error in policy.problems() {
        let (list, name) = match &error {
            PolicyError::Required(name) => ("deny", name.as_str()),
            PolicyError::Clone3 => ("allow", "clone3"),
            PolicyError::Unknown(name)
            | PolicyError::Both(name)
            | PolicyError::Restricted(name)
            | PolicyError::HostRootOnly(name) => ("allow", name.as_str()),
            PolicyError::Rules(_) | PolicyError::Program(_) => ("policy", ""),
        };
        let written = |item: &View<'_, '_>| item.value().and_then(|value| value.as_text()) == Some(name);
        let place = view.get(list).items().find(written).unwrap_or(view);
        problems.push(Problem::new(
            codes::BAD_POLICY,
            place.span(),
            error.to_string(),
            error.help(),
        ));
    }
    policy
}

impl Landlock {
    fn read(view: View<'_, '_>) -> Landlock {
        let paths = |key| view.get(key).items().filter_map(View::text).collect();
        let ports = |key| {
            let ports = view.get(key);
            ports
                .is_written()
                .then(|| ports.place(ports.items().filter_map(View::port).collect()))
        };
        let restricted = ["read", "write", "execute"]
            .iter()
            .any(|key| view.get(key).is_written());
        Landlock {
            origin: view.origin(),
            paths: restricted.then(|| LandlockPaths {
                read: paths("read"),
                write: paths("write"),
                execute: paths("execute"),
            }),
            connect_tcp: ports("connect-tcp"),
            bind_tcp: ports("bind-tcp"),
        }
    }
}
