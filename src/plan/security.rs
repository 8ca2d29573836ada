//! Who the job is to the kernel, and which system calls it may make.

use super::given::{Found, Given, asker};
use super::user::Person;
use super::{WorkloadStep, codes};
use crate::host::facts::Feature;
use crate::profile::{Enforce, Origin};
use crate::seccomp::PolicyError;

/// The job's ids and capabilities.
pub(super) fn credentials(given: Given<'_>, person: &Person, found: &mut Found) -> WorkloadStep {
    let wanted = &given.job.hold.security.capabilities;
    let mut capabilities = wanted.value.clone();
    let mut ambient = false;
    if !person.is_root() {
        if matches!(wanted.origin, Origin::BuiltIn(_)) {
            // A built-in profile's set is for user 0; nothing could give it to another user under no_new_privs.
            capabilities.clear();
        } else if !capabilities.is_empty() {
            ambient = true;
            let names: Vec<&str> = capabilities.iter().map(|capability| capability.name()).collect();
            found.notice(
                "security.capabilities",
                format!(
                    "a user that is not root keeps {}, inside its user namespace",
                    names.join(" ")
                ),
            );
        }
    }
    WorkloadStep::Credentials {
        user: person.user,
        group: person.group,
        groups: person.groups.clone(),
        capabilities,
        ambient,
    }
}

/// no_new_privs, without which the kernel takes no filter from a process that has no privilege left (seccomp(2)).
pub(super) fn no_new_privileges(given: Given<'_>, found: &mut Found) {
    let wanted = &given.job.hold.security.no_new_privileges;
    if !wanted.value {
        found.refuse(
            codes::FILTERS_NEED_NNP,
            wanted.span(),
            "without no_new_privs neither seccomp nor Landlock can be set up",
            "leave `no-new-privileges` out: every mount is nosuid anyway, so that no program gains privilege",
        );
    }
}

/// The system call filter.
pub(super) fn seccomp(given: Given<'_>, found: &mut Found) -> Option<WorkloadStep> {
    let security = &given.job.hold.security;
    let policy = &security.seccomp;
    for problem in policy.value.problems() {
        found.refuse(
            codes::BAD_POLICY,
            policy.span(),
            format!("the seccomp policy of {}: {problem}", asker(&policy.origin)),
            match problem {
                PolicyError::Required(_) => {
                    "take it out of `deny`: without it no program starts, speaks or ends"
                }
                _ => "take the name out of the policy",
            },
        );
    }
    match (given.lacks(Feature::Seccomp), security.seccomp_enforce) {
        (None, _) => return Some(WorkloadStep::Seccomp(policy.value.clone())),
        (Some(reason), Enforce::Required) => found.refuse(
            codes::NO_SECCOMP,
            policy.span(),
            format!("{} needs seccomp filters: {reason}", asker(&policy.origin)),
            "use a kernel with CONFIG_SECCOMP_FILTER, or write `enforce = \"optional\"` in `security.seccomp`",
        ),
        (Some(reason), Enforce::Optional) => found.notice("security.seccomp", format!("not applied: {reason}")),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, placed};
    use super::*;
    use crate::host::facts::Support;
    use crate::profile::{BuiltIn, Capability, Placed, User};

    fn credentials_of(sample: &sample::Sample) -> String {
        let plan = sample.plan();
        let step = plan
            .workload
            .iter()
            .find(|step| matches!(step, WorkloadStep::Credentials { .. }));
        step.expect("always there").to_string()
    }

    #[test]
    fn a_built_in_set_is_for_root_inside_only() {
        let mut sample = sample::strict();
        let set = [Capability::Chown, Capability::NetBindService];
        sample.job.hold.security.capabilities = Placed {
            value: set.into(),
            origin: Origin::BuiltIn(BuiltIn::Standard),
        };
        assert_eq!(credentials_of(&sample), "become 65532:65532 (no capabilities)");
        sample.job.user = placed(User::Named("root".into()), 1);
        assert_eq!(
            credentials_of(&sample),
            "become 0:0 (capabilities CHOWN NET_BIND_SERVICE)"
        );
        assert_eq!(sample.notices("security.capabilities"), [""; 0]);

        sample.job.hold.security.capabilities = placed(set.into(), 1);
        sample.job.user = placed(User::Named("5:6".into()), 1);
        assert_eq!(
            credentials_of(&sample),
            "become 5:6 (ambient capabilities CHOWN NET_BIND_SERVICE)"
        );
        assert_eq!(
            sample.notices("security.capabilities"),
            ["a user that is not root keeps CHOWN NET_BIND_SERVICE, inside its user namespace"]
        );
    }

    #[test]
    fn filters_are_required_unless_the_manifest_says_otherwise() {
        let mut sample = sample::strict();
        sample
            .facts
            .kernel_features
            .insert(Feature::Seccomp, Support::No("prctl: EINVAL".into()));
        assert_eq!(
            sample.refusals(),
            [
                "profile `strict` needs seccomp filters: prctl: EINVAL; use a kernel with CONFIG_SECCOMP_FILTER, \
                 or write `enforce = \"optional\"` in `security.seccomp`"
            ]
        );
        sample.job.hold.security.seccomp_enforce = Enforce::Optional;
        assert_eq!(sample.notices("security.seccomp"), ["not applied: prctl: EINVAL"]);
        assert!(
            !sample
                .plan()
                .workload
                .iter()
                .any(|step| matches!(step, WorkloadStep::Seccomp(_)))
        );
    }

    #[test]
    fn a_policy_must_let_a_program_start_and_end() {
        let mut sample = sample::strict();
        sample
            .job
            .hold
            .security
            .seccomp
            .value
            .deny
            .extend(["read".to_owned(), "execve".to_owned()]);
        assert_eq!(
            sample.refusals(),
            [
                "the seccomp policy of profile `strict`: system call `execve` cannot be denied; \
                 take it out of `deny`: without it no program starts, speaks or ends",
                "the seccomp policy of profile `strict`: system call `read` cannot be denied; \
                 take it out of `deny`: without it no program starts, speaks or ends",
            ]
        );
    }

    #[test]
    fn filters_cannot_be_had_without_no_new_privs() {
        let mut sample = sample::strict();
        sample.job.hold.security.no_new_privileges = placed(false, 1);
        assert_eq!(
            sample.refusals(),
            [
                "without no_new_privs neither seccomp nor Landlock can be set up; \
                 leave `no-new-privileges` out: every mount is nosuid anyway, so that no program gains privilege"
            ]
        );
    }
}
