//! From the kernel's bare error numbers to what a person can act on. Pure.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::ids::RANGE;
use super::process::Process;
use super::trial::{Answers, Step};
use super::userns::PATIENCE;
use crate::host::facts::{Caller, Feature, Support};
use crate::host::reason;

/// An error as prose: `operation not permitted`.
pub(super) fn text(errno: Errno) -> String {
    let text = errno.desc();
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_lowercase);
    first.chain(characters).collect()
}

/// Whether a failure may pass by itself: something is used up, not forbidden.
pub(super) fn may_pass(errno: Errno) -> bool {
    use Errno::{EAGAIN, EBUSY, EINTR, EMFILE, ENFILE, ENOMEM, ENOSPC, EUSERS};
    [EAGAIN, EBUSY, EINTR, EMFILE, ENFILE, ENOMEM, ENOSPC, EUSERS].contains(&errno)
}

/// Every feature that is tried in a user namespace, refused for one reason; `read` reads a file of the kernel.
pub(super) fn all_refused(reason: &str, read: &dyn Fn(&str) -> String) -> BTreeMap<Feature, Support> {
    let inside = [
        Feature::TimeNamespace,
        Feature::CgroupNamespace,
        Feature::OverlayInUserNamespace,
        Feature::TmpfsUserXattr,
        Feature::ProcMount,
    ];
    let needs = || Support::No(format!("{}: {reason}", reason::NEEDS_USER_NAMESPACE));
    let mut features: BTreeMap<_, _> = inside.into_iter().map(|feature| (feature, needs())).collect();
    features.insert(Feature::UserNamespace, Support::No(reason.to_owned()));
    features.insert(Feature::Seccomp, seccomp(read));
    features
}

/// What the child's answers say about each feature.
pub(super) fn features(
    answers: &Answers,
    process: &Process,
    first_id: u32,
    read: &dyn Fn(&str) -> String,
) -> BTreeMap<Feature, Support> {
    for step in [Step::Unshare, Step::Ids, Step::Mounts, Step::Tmpfs, Step::Clone] {
        match answers.get(&step) {
            Some(Ok(())) => {}
            Some(Err(errno)) => {
                return all_refused(&no_namespace(step, *errno, process, first_id, read), read);
            }
            None => {
                let reason = format!(
                    "the child that tries it gave no answer within {} s",
                    PATIENCE.as_secs()
                );
                return all_refused(&reason, read);
            }
        }
    }
    let support = |step: Step| match answers.get(&step) {
        Some(Ok(())) => Support::Yes,
        Some(Err(errno)) => Support::No(no_feature(step, *errno)),
        None => Support::No("the child that tries it gave no answer".into()),
    };
    BTreeMap::from([
        (Feature::UserNamespace, Support::Yes),
        (Feature::TimeNamespace, support(Step::Time)),
        (Feature::CgroupNamespace, support(Step::Cgroup)),
        (Feature::OverlayInUserNamespace, support(Step::Overlay)),
        (Feature::TmpfsUserXattr, support(Step::TmpfsXattr)),
        (Feature::ProcMount, support(Step::Proc)),
        (Feature::Seccomp, seccomp(read)),
    ])
}

/// Why there is no user namespace in which mounts can be made.
fn no_namespace(
    step: Step,
    errno: Errno,
    process: &Process,
    first_id: u32,
    read: &dyn Fn(&str) -> String,
) -> String {
    let is = |sysctl: &str, value: &str| read(&format!("/proc/sys/{sysctl}")) == value;
    let forbidden = matches!(errno, Errno::EPERM | Errno::EACCES);
    let is_user = process.caller() == Caller::User;
    if matches!(errno, Errno::ENOSPC | Errno::EUSERS) {
        if step == Step::Unshare && is("user/max_user_namespaces", "0") {
            return reason::NO_USER_NAMESPACES.into();
        }
        let (name, kind) = match step {
            Step::Unshare => ("user.max_user_namespaces", "user"),
            Step::Mounts => ("user.max_mnt_namespaces", "mount"),
            _ => ("user.max_pid_namespaces", "pid"),
        };
        return format!("{name} is reached: there are too many {kind} namespaces");
    }
    if step == Step::Unshare && errno == Errno::EINVAL {
        return reason::NOT_BUILT_IN.into();
    }
    if forbidden && is_user && step == Step::Unshare && is("kernel/unprivileged_userns_clone", "0") {
        return reason::USERNS_CLONE_OFF.into();
    }
    // AppArmor lets the namespace be made and takes its capabilities away, so a later step fails.
    if forbidden && is_user && is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return reason::APPARMOR_RESTRICTS.into();
    }
    if forbidden && !is_user && step == Step::Ids {
        let last = first_id.saturating_add(RANGE - 1);
        return format!(
            "{} {first_id} to {last}: it stands in a user namespace without them",
            reason::FOREIGN_IDS
        );
    }
    let what = match step {
        Step::Unshare => "unshare a user namespace",
        Step::Ids => "map ids",
        Step::Mounts => "unshare a mount namespace in a user namespace",
        Step::Tmpfs => "mount tmpfs in a user namespace",
        _ => "clone3 with a pid namespace in a user namespace",
    };
    let filter = if process.filtered && (forbidden || errno == Errno::ENOSYS) {
        ", under a seccomp filter of the caller"
    } else {
        ""
    };
    format!("{what}: {}{filter}", text(errno))
}

/// Why a feature is missing inside a user namespace.
fn no_feature(step: Step, errno: Errno) -> String {
    match (step, errno) {
        (Step::TmpfsXattr, Errno::EOPNOTSUPP) => "tmpfs has no user.* attributes in this kernel".into(),
        (Step::Overlay, Errno::ENODEV) => "this kernel has no overlay".into(),
        (Step::Overlay, Errno::EPERM | Errno::EINVAL) => {
            "overlay cannot be mounted in a user namespace in this kernel".into()
        }
        (Step::Proc, Errno::EPERM | Errno::EACCES) => {
            "parts of /proc are covered here, as in a container, so no fresh one may be mounted".into()
        }
        (Step::Time, Errno::EINVAL) => "this kernel has no time namespaces".into(),
        (Step::Cgroup, Errno::EINVAL) => "this kernel has no cgroup namespaces".into(),
        (Step::Time, Errno::ENOSPC) => "user.max_time_namespaces is reached".into(),
        (Step::Cgroup, Errno::ENOSPC) => "user.max_cgroup_namespaces is reached".into(),
        (Step::TmpfsXattr, _) => format!("set a user.* attribute on tmpfs: {}", text(errno)),
        (Step::Overlay, _) => format!("mount overlay in a user namespace: {}", text(errno)),
        (Step::Proc, _) => format!("mount proc in a pid namespace: {}", text(errno)),
        (Step::Time, _) => format!("unshare a time namespace: {}", text(errno)),
        (Step::Cgroup, _) => format!("unshare a cgroup namespace: {}", text(errno)),
        (Step::Unshare | Step::Ids | Step::Mounts | Step::Tmpfs | Step::Upper | Step::Clone, _) => {
            text(errno)
        }
    }
}

/// The file lists what a filter may answer; it is there where filters are (seccomp(2), Linux 4.14).
fn seccomp(read: &dyn Fn(&str) -> String) -> Support {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail");
    if actions.split(' ').any(|action| action == "kill_process") {
        Support::Yes
    } else {
        Support::No("this kernel was built without seccomp filters".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Process {
        Process {
            uid: 1000,
            ..Process::default()
        }
    }

    fn answers(failed: Option<(Step, Errno)>) -> Answers {
        use Step::{Cgroup, Clone, Ids, Mounts, Overlay, Proc, Time, Tmpfs, TmpfsXattr, Unshare};
        [
            Unshare, Ids, Mounts, Tmpfs, TmpfsXattr, Overlay, Clone, Proc, Time, Cgroup,
        ]
        .map(|step| match failed {
            Some((other, errno)) if other == step => (step, Err(errno)),
            _ => (step, Ok(())),
        })
        .into()
    }

    /// The reason against user namespaces when one step fails and the kernel has one setting.
    fn against(step: Step, errno: Errno, process: &Process, setting: (&str, &str)) -> String {
        let read = |path: &str| {
            let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
            if name == setting.0 {
                setting.1.to_owned()
            } else {
                String::new()
            }
        };
        match &features(&answers(Some((step, errno))), process, 2_000_000_000, &read)[&Feature::UserNamespace]
        {
            Support::No(reason) => reason.clone(),
            Support::Yes => "works".into(),
        }
    }

    #[test]
    fn names_the_switch_that_forbids_user_namespaces() {
        let of = |step, errno, name, value| against(step, errno, &user(), (name, value));
        assert_eq!(
            of(
                Step::Unshare,
                Errno::EPERM,
                "kernel.unprivileged_userns_clone",
                "0"
            ),
            "kernel.unprivileged_userns_clone is 0"
        );
        assert_eq!(
            of(Step::Unshare, Errno::ENOSPC, "user.max_user_namespaces", "0"),
            "user.max_user_namespaces is 0"
        );
        assert_eq!(
            of(Step::Unshare, Errno::ENOSPC, "user.max_user_namespaces", "9"),
            "user.max_user_namespaces is reached: there are too many user namespaces"
        );
        assert_eq!(
            of(
                Step::Tmpfs,
                Errno::EACCES,
                "kernel.apparmor_restrict_unprivileged_userns",
                "1"
            ),
            "kernel.apparmor_restrict_unprivileged_userns is 1 and no AppArmor profile allows it"
        );
        assert_eq!(
            of(Step::Unshare, Errno::EINVAL, "", ""),
            "this kernel was built without user namespaces"
        );
        assert_eq!(
            of(Step::Unshare, Errno::EPERM, "", ""),
            "unshare a user namespace: operation not permitted"
        );
    }

    #[test]
    fn blames_a_filter_and_an_outer_namespace() {
        let filtered = Process {
            filtered: true,
            ..user()
        };
        assert_eq!(
            against(Step::Clone, Errno::ENOSYS, &filtered, ("", "")),
            "clone3 with a pid namespace in a user namespace: function not implemented, under a seccomp filter of the caller"
        );
        let root = Process {
            capabilities: u64::MAX,
            ..Process::default()
        };
        assert_eq!(
            against(
                Step::Ids,
                Errno::EPERM,
                &root,
                ("kernel.apparmor_restrict_unprivileged_userns", "1")
            ),
            "the caller may not map the ids 2000000000 to 2000065535: it stands in a user namespace without them"
        );
    }

    #[test]
    fn a_missing_namespace_takes_what_needs_it_along() {
        let read = |_: &str| String::new();
        let found = features(&answers(Some((Step::Unshare, Errno::EINVAL))), &user(), 0, &read);
        assert_eq!(
            found[&Feature::ProcMount],
            Support::No("needs a user namespace: this kernel was built without user namespaces".into())
        );
        assert_eq!(found.len(), 7);
        let silent = features(&Answers::new(), &user(), 0, &read);
        assert_eq!(
            silent[&Feature::UserNamespace],
            Support::No("the child that tries it gave no answer within 30 s".into())
        );
    }

    #[test]
    fn one_missing_feature_leaves_the_others() {
        let read = |_: &str| "kill_process kill_thread errno".to_owned();
        let found = features(
            &answers(Some((Step::TmpfsXattr, Errno::EOPNOTSUPP))),
            &user(),
            0,
            &read,
        );
        let missing: Vec<_> = found
            .iter()
            .filter(|(_, support)| **support != Support::Yes)
            .collect();
        let reason = "tmpfs has no user.* attributes in this kernel";
        assert_eq!(missing, [(&Feature::TmpfsUserXattr, &Support::No(reason.into()))]);
    }
}
