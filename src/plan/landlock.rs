//! The second wall around paths and ports, from what the mounts allow or what the manifest lists.

use std::collections::{BTreeMap, BTreeSet};

use super::given::{Found, Given, asker};
use super::{LandlockAccess, LandlockRules, Mounted, WorkloadStep, codes, place};
use crate::profile::{Enforce, Landlock, LandlockPaths, Placed};

/// The newest version that rules are built for.
const NEWEST: u32 = 7;

/// The first version with TCP ports (Linux 6.7).
const PORTS: u32 = 4;

/// The first version that keeps signals and abstract sockets inside (Linux 6.12).
const SCOPES: u32 = 6;

/// What each version holds that older ones do not (landlock(7)).
const ADDED: [(u32, &str); 3] = [
    (3, "truncating files"),
    (5, "ioctl on devices"),
    (SCOPES, "signals and abstract sockets"),
];

/// The ruleset; `places` are the mounts inside and `root_writable` whether the root can be written.
pub(super) fn landlock(
    given: Given<'_>,
    places: &BTreeMap<String, Mounted>,
    root_writable: bool,
    found: &mut Found,
) -> Option<WorkloadStep> {
    let security = &given.job.hold.security;
    let wanted = security.landlock.as_ref()?;
    let ports = wanted.connect_tcp.is_some() || wanted.bind_tcp.is_some();
    let (there, needed) = (given.facts.landlock_abi, if ports { PORTS } else { 1 });
    let abi = there.min(NEWEST);
    let mut with_ports = ports;
    if there < needed {
        let reason = match there {
            0 => "this host has none".to_owned(),
            version => format!("this host has ABI {version}"),
        };
        let what = if ports { "TCP ports" } else { "paths" };
        match security.landlock_enforce {
            Enforce::Required => {
                found.refuse(
                    codes::NO_LANDLOCK,
                    wanted.origin.span(),
                    format!("{} needs Landlock ABI {needed} for {what}: {reason}", asker(&wanted.origin)),
                    match there {
                        0 => "boot with `landlock` in `lsm=`, or write `enforce = \"optional\"` in `security.landlock`",
                        _ => "use Linux 6.7 or newer, or write `enforce = \"optional\"` in `security.landlock`",
                    },
                );
                return None;
            }
            Enforce::Optional => {
                found.notice("security.landlock", format!("not applied to {what}: {reason}"))
            }
        }
        if there == 0 {
            return None;
        }
        with_ports = false;
    }
    let open: Vec<&str> = ADDED
        .iter()
        .filter(|(since, _)| abi < *since)
        .map(|(_, what)| *what)
        .collect();
    if !open.is_empty() {
        found.notice(
            "security.landlock",
            format!("ABI {abi} does not hold back {}", open.join(", ")),
        );
    }
    let ports = |list: &Option<Placed<Vec<u16>>>| -> Option<BTreeSet<u16>> {
        let list = list.as_ref().filter(|_| with_ports)?;
        Some(list.value.iter().copied().collect())
    };
    Some(WorkloadStep::Landlock(LandlockRules {
        abi,
        paths: match &wanted.paths {
            Some(paths) => listed(paths),
            None => derived(places, root_writable),
        },
        connect_tcp: ports(&wanted.connect_tcp),
        bind_tcp: ports(&wanted.bind_tcp),
        scoped: abi >= SCOPES,
    }))
    .inspect(|_| check(wanted, found))
}

/// What the mounts allow already: read and execute everywhere, write where something can be written.
fn derived(places: &BTreeMap<String, Mounted>, root_writable: bool) -> BTreeMap<String, LandlockAccess> {
    let mut paths = BTreeMap::new();
    let mut allow =
        |path: &str, write, execute| paths.insert(path.to_owned(), LandlockAccess { write, execute });
    allow("/", root_writable, true);
    allow("/dev", true, false);
    allow("/proc", true, false);
    for (at, what) in places {
        match what {
            Mounted::Tmpfs { exec, .. } => allow(at, true, *exec),
            Mounted::Bind { read_only: false, .. } | Mounted::Copy { .. } => allow(at, true, true),
            _ => None,
        };
    }
    paths
}

/// What the manifest lists, and `/proc` to read: the job's own status is compared with the plan after this step.
fn listed(paths: &LandlockPaths) -> BTreeMap<String, LandlockAccess> {
    let mut rules = BTreeMap::from([("/proc".to_owned(), LandlockAccess::default())]);
    let mut allow = |list: &[Placed<String>], right: fn(&mut LandlockAccess)| {
        for path in list {
            right(rules.entry(place::normal(&path.value)).or_default());
        }
    };
    allow(&paths.read, |_| {});
    allow(&paths.write, |access| access.write = true);
    allow(&paths.execute, |access| access.execute = true);
    rules
}

/// Refuses listed paths that are no places inside.
fn check(wanted: &Landlock, found: &mut Found) {
    let lists = wanted
        .paths
        .iter()
        .flat_map(|paths| [&paths.read, &paths.write, &paths.execute]);
    for path in lists.flatten() {
        if !path.value.starts_with('/')
            || path.value.split('/').any(|part| part == "..")
            || path.value.contains('\0')
        {
            found.refuse(
                codes::BAD_STRING,
                path.span(),
                format!(
                    "the Landlock path `{}` is no plain absolute path",
                    path.value.escape_debug()
                ),
                "write a path inside, such as `/src`",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, Sample, placed};
    use super::*;

    fn rules(sample: &Sample) -> Option<String> {
        let plan = sample.plan();
        let step = plan
            .workload
            .iter()
            .find(|step| matches!(step, WorkloadStep::Landlock(_)));
        step.map(ToString::to_string)
    }

    #[test]
    fn rules_follow_the_mounts_and_the_kernels_version() {
        let mut sample = sample::strict();
        let paths = "read /, write /dev /dev/shm /proc /tmp, execute / /tmp";
        assert_eq!(
            rules(&sample),
            Some(format!(
                "landlock ABI 7 ({paths}; signals and abstract sockets stay inside)"
            ))
        );
        assert_eq!(sample.notices("security.landlock"), [""; 0]);
        sample.facts.landlock_abi = 2;
        assert_eq!(rules(&sample), Some(format!("landlock ABI 2 ({paths})")));
        assert_eq!(
            sample.notices("security.landlock"),
            ["ABI 2 does not hold back truncating files, ioctl on devices, signals and abstract sockets"]
        );
    }

    #[test]
    fn an_old_kernel_is_refused_or_noted() {
        let mut sample = sample::strict();
        sample.facts.landlock_abi = 0;
        assert_eq!(
            sample.refusals(),
            [
                "profile `strict` needs Landlock ABI 1 for paths: this host has none; \
                 boot with `landlock` in `lsm=`, or write `enforce = \"optional\"` in `security.landlock`"
            ]
        );
        sample.job.hold.security.landlock_enforce = Enforce::Optional;
        assert_eq!(rules(&sample), None);
        assert_eq!(
            sample.notices("security.landlock"),
            ["not applied to paths: this host has none"]
        );

        sample.facts.landlock_abi = 2;
        sample
            .job
            .hold
            .security
            .landlock
            .as_mut()
            .expect("set")
            .connect_tcp = Some(placed(vec![443, 80], 3));
        assert_eq!(
            sample.notices("security.landlock"),
            [
                "ABI 2 does not hold back truncating files, ioctl on devices, signals and abstract sockets",
                "not applied to TCP ports: this host has ABI 2",
            ]
        );
        sample.job.hold.security.landlock_enforce = Enforce::Required;
        assert_eq!(
            sample.refusals(),
            [
                "profile `strict` needs Landlock ABI 4 for TCP ports: this host has ABI 2; \
                 use Linux 6.7 or newer, or write `enforce = \"optional\"` in `security.landlock`"
            ]
        );
        sample.facts.landlock_abi = 4;
        let shown = rules(&sample).expect("rules");
        assert!(shown.ends_with("; connect to TCP 80 443)"), "{shown}");
    }

    #[test]
    fn listed_paths_are_the_only_ones() {
        let mut sample = sample::strict();
        let path = |text: &str| placed(text.to_owned(), 3);
        let landlock = sample.job.hold.security.landlock.as_mut().expect("set");
        landlock.paths = Some(LandlockPaths {
            read: vec![path("/usr/"), path("/etc")],
            write: vec![path("/tmp")],
            execute: vec![path("/usr")],
        });
        landlock.bind_tcp = Some(placed(Vec::new(), 3));
        assert_eq!(
            rules(&sample).as_deref(),
            Some(
                "landlock ABI 7 (read /etc /proc /usr, write /tmp, execute /usr; bind no TCP port; \
                 signals and abstract sockets stay inside)"
            )
        );
        let landlock = sample.job.hold.security.landlock.as_mut().expect("set");
        landlock.paths.as_mut().expect("set").read.push(path("src"));
        assert_eq!(
            sample.refusals(),
            ["the Landlock path `src` is no plain absolute path; write a path inside, such as `/src`"]
        );
    }
}
