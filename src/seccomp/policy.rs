//! What a manifest may say about system calls, and whether it makes sense.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::Peekable;
use std::slice::Iter;

use serde::{Deserialize, Serialize};

use super::default::{ALLOWED, FORBIDDEN, HOST_ROOT_ONLY, PTRACE, REQUIRED};
use super::tree::Verdict;
use super::{Arch, ProgramError, arguments, table};

/// A named list, and names added to or taken from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// What it starts from.
    #[serde(default)]
    pub base: Base,
    /// System calls allowed besides.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allow: BTreeSet<String>,
    /// System calls refused with EPERM.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub deny: BTreeSet<String>,
}

/// The named policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// What programs of a container image need, without namespaces, mounts, keyrings and kernel interfaces
    /// for host root.
    #[default]
    Default,
    /// The default without reading or changing other processes: no debuggers, no leak checkers.
    NoPtrace,
}

/// Why a policy cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No architecture has it.
    #[error("unknown system call `{0}`")]
    Unknown(String),
    /// In `allow` and in `deny`.
    #[error("system call `{0}` is both allowed and denied")]
    Both(String),
    /// The launcher could not start the program.
    #[error("system call `{0}` cannot be denied")]
    Required(String),
    /// Allowed for some arguments already; a name does not lift that.
    #[error("system call `{0}` cannot be allowed for all arguments")]
    Restricted(String),
    /// Its flags cannot be looked at.
    #[error("system call `clone3` cannot be allowed")]
    Clone3,
    /// The kernel honours it for host root alone.
    #[error("system call `{0}` cannot be allowed")]
    HostRootOnly(String),
    /// seccompiler refused the argument rules.
    #[error("seccomp argument rules: {0}")]
    Rules(seccompiler::BackendError),
    /// The kernel would refuse a program.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl Policy {
    /// Everything that is wrong with the names, `allow` first.
    pub fn problems(&self) -> Vec<PolicyError> {
        let allowed = self.allow.iter().filter_map(|name| {
            Some(match name.as_str() {
                unknown if !table::known(unknown) => PolicyError::Unknown(name.clone()),
                "clone3" => PolicyError::Clone3,
                host if HOST_ROOT_ONLY.contains(&host) => PolicyError::HostRootOnly(name.clone()),
                restricted if arguments::RESTRICTED.contains(&restricted) => {
                    PolicyError::Restricted(name.clone())
                }
                both if self.deny.contains(both) => PolicyError::Both(name.clone()),
                _ => return None,
            })
        });
        let denied = self.deny.iter().filter_map(|name| {
            Some(match name.as_str() {
                unknown if !table::known(unknown) => PolicyError::Unknown(name.clone()),
                required if REQUIRED.contains(&required) => PolicyError::Required(name.clone()),
                _ => return None,
            })
        });
        allowed.chain(denied).collect()
    }

    /// The names of this architecture that are allowed, and those that are refused with EPERM, each sorted.
    pub fn names(&self, arch: Arch) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut allowed, mut forbidden) = (Vec::new(), Vec::new());
        for (name, _, verdict) in self.calls(arch) {
            match verdict {
                Verdict::Allow => allowed.push(name),
                Verdict::Forbid => forbidden.push(name),
            }
        }
        (allowed, forbidden)
    }

    /// The answers by number; a number that is not here is unknown.
    pub(super) fn verdicts(&self, arch: Arch) -> BTreeMap<u32, Verdict> {
        self.calls(arch)
            .map(|(_, number, verdict)| (number, verdict))
            .collect()
    }

    /// Every call of this architecture that is answered, in the order of the names.
    ///
    /// The table and the lists are sorted, so each is gone through once: every start does this.
    fn calls(&self, arch: Arch) -> impl Iterator<Item = (&'static str, u32, Verdict)> {
        let removed: &[&str] = match self.base {
            Base::Default => &[],
            Base::NoPtrace => PTRACE,
        };
        let mut allowed = ALLOWED.iter().peekable();
        let mut forbidden = FORBIDDEN.iter().peekable();
        table::calls(arch).filter_map(move |(name, number)| {
            let is_allowed = is_next(&mut allowed, name);
            let is_forbidden = is_next(&mut forbidden, name);
            let verdict = if self.deny.contains(name) {
                Verdict::Forbid
            } else if self.allow.contains(name) {
                Verdict::Allow
            } else if is_forbidden || removed.contains(&name) {
                Verdict::Forbid
            } else if is_allowed {
                Verdict::Allow
            } else {
                return None;
            };
            Some((name, number, verdict))
        })
    }
}

/// Whether `name` is in a sorted list; what is before it there is passed.
fn is_next(list: &mut Peekable<Iter<'_, &str>>, name: &str) -> bool {
    while list.next_if(|listed| **listed < name).is_some() {}
    list.next_if(|listed| **listed == name).is_some()
}

impl fmt::Display for Policy {
    /// As a plan's line shows it: `default, allow keyctl, deny fork vfork`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.name())?;
        for (verb, names) in [("allow", &self.allow), ("deny", &self.deny)] {
            if !names.is_empty() {
                write!(f, ", {verb}")?;
                names.iter().try_for_each(|name| write!(f, " {name}"))?;
            }
        }
        Ok(())
    }
}

impl Base {
    /// Every named policy, for messages and schemas.
    pub const ALL: [Base; 2] = [Base::Default, Base::NoPtrace];

    /// The name that a manifest uses.
    pub fn name(self) -> &'static str {
        match self {
            Base::Default => "default",
            Base::NoPtrace => "no-ptrace",
        }
    }
}

impl PolicyError {
    /// What would be right; empty when there is nothing to add.
    pub fn help(&self) -> String {
        match self {
            PolicyError::Unknown(_) => "names are those of syscalls(2), without prefix".to_owned(),
            PolicyError::Both(_) => "remove it from one of the lists".to_owned(),
            PolicyError::Required(_) => "the launcher needs it to start the program".to_owned(),
            PolicyError::Restricted(_) => {
                "it is allowed already, but for arguments that lead out of the sandbox".to_owned()
            }
            PolicyError::Clone3 => {
                "no filter can read its flags, which make namespaces; C libraries fall back to `clone`"
                    .to_owned()
            }
            PolicyError::HostRootOnly(_) => {
                "the kernel honours it for host root alone, which no job is".to_owned()
            }
            PolicyError::Rules(_) | PolicyError::Program(_) => String::new(),
        }
    }
}

impl From<seccompiler::BackendError> for PolicyError {
    fn from(error: seccompiler::BackendError) -> PolicyError {
        PolicyError::Rules(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> Policy {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Policy {
            base: Base::Default,
            allow: names(allow),
            deny: names(deny),
        }
    }

    fn problems(allow: &[&str], deny: &[&str]) -> Vec<String> {
        let problems = policy(allow, deny).problems();
        problems
            .iter()
            .map(|problem| format!("{problem}; {}", problem.help()))
            .collect()
    }

    #[test]
    fn every_problem_is_named() {
        assert_eq!(
            problems(
                &["clone3", "keyctrl", "mount", "socket", "swapon"],
                &["execve", "frobnicate", "mount", "sendmsg"]
            ),
            [
                "system call `clone3` cannot be allowed; \
                 no filter can read its flags, which make namespaces; C libraries fall back to `clone`",
                "unknown system call `keyctrl`; names are those of syscalls(2), without prefix",
                "system call `mount` is both allowed and denied; remove it from one of the lists",
                "system call `socket` cannot be allowed for all arguments; \
                 it is allowed already, but for arguments that lead out of the sandbox",
                "system call `swapon` cannot be allowed; the kernel honours it for host root alone, which no job is",
                "system call `execve` cannot be denied; the launcher needs it to start the program",
                "unknown system call `frobnicate`; names are those of syscalls(2), without prefix",
                "system call `sendmsg` cannot be denied; the launcher needs it to start the program",
            ]
        );
        assert_eq!(
            problems(&["keyctl", "read"], &["fork", "prctl", "seccomp"]),
            [""; 0]
        );
    }

    #[test]
    fn allow_adds_and_deny_removes() {
        let policy = policy(&["keyctl"], &["fork", "clone3"]);
        let (allowed, forbidden) = policy.names(Arch::X86_64);
        assert!(allowed.contains(&"keyctl") && !forbidden.contains(&"keyctl"));
        assert!(forbidden.contains(&"fork") && !allowed.contains(&"fork"));
        assert!(forbidden.contains(&"clone3"));
        let (_, forbidden) = policy.names(Arch::Aarch64);
        assert!(!forbidden.contains(&"fork"), "aarch64 has no fork");
    }

    #[test]
    fn no_ptrace_is_the_default_less_three() {
        let strict = Policy {
            base: Base::NoPtrace,
            ..Policy::default()
        };
        let all = Policy::default();
        let (default, _) = all.names(Arch::X86_64);
        let (allowed, forbidden) = strict.names(Arch::X86_64);
        let removed: Vec<_> = default
            .into_iter()
            .filter(|name| !allowed.contains(name))
            .collect();
        assert_eq!(removed, ["process_vm_readv", "process_vm_writev", "ptrace"]);
        assert!(removed.iter().all(|name| forbidden.contains(name)));
    }

    #[test]
    fn is_written_as_data_and_as_a_line() {
        let policy = policy(&["keyctl"], &["fork", "vfork"]);
        assert_eq!(policy.to_string(), "default, allow keyctl, deny fork vfork");
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(
            json,
            r#"{"base":"default","allow":["keyctl"],"deny":["fork","vfork"]}"#
        );
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
        assert_eq!(
            serde_json::to_string(&Policy::default()).unwrap(),
            r#"{"base":"default"}"#
        );
        for base in Base::ALL {
            assert_eq!(serde_json::to_value(base).unwrap(), base.name());
        }
    }
}
