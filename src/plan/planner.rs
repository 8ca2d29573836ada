//! The planner: what a job asks for and what a host offers, made into steps in their order.

use std::collections::{BTreeMap, BTreeSet};

use super::given::{Found, Given};
use super::user::{self, Person};
use super::{
    Cgroup, ChildStep, HostStep, IdMapping, Image, ImageKind, InitStep, Mounted, Plan, PlannedImage, Request,
    Tree, VERSION, WorkloadStep, codes, command, host_root, ids, landlock, limits, mounts, network, root,
    security,
};
use crate::host::facts::{Facts, Feature};
use crate::problem::Problems;
use crate::profile::{Job, Namespace, Origin};

/// Plans a job for a host: everything that will be done, in order.
///
/// Pure: the same four values give the same plan, and nothing of this machine is looked at. `request`
/// is what the command line adds.
///
/// # Errors
/// Every reason why the job cannot run on that host as it is held, with its place in the manifest.
pub fn plan(job: &Job, facts: &Facts, image: &Image, request: &Request) -> Result<Plan, Problems> {
    let given = Given {
        job,
        facts,
        image,
        request,
    };
    let mut found = Found::default();
    let plan = drafted(given, &mut found);
    Problems::none_or(found.problems, plan)
}

/// The plan as far as it goes; it counts only when no problem was found.
fn drafted(given: Given<'_>, found: &mut Found) -> Plan {
    let Given { job, image, .. } = given;
    let (namespaces, time) = namespaces(given, found);
    network::check(given, found);
    let mut person = user::person(given, found);
    let mapping = ids::mapping(given, &mut person, found);
    let cgroup = limits::cgroup(given, found);
    let root = root::root(given, found);
    let mut ours = network::files(given);
    if image.kind == ImageKind::Host {
        ours.extend(host_root::places(given, &person, found));
    }
    let mounts = mounts::mounts(given, &person, ours, found);
    let workload = workload(given, &person, &mounts.places, root.writable, found);

    let trees: Vec<Tree> = root.trees.iter().chain(mounts.trees()).cloned().collect();
    let is_of = |number| move |cgroup: &Cgroup| cgroup.controllers.values().any(|version| *version == number);
    let old_hierarchy = cgroup.as_ref().is_some_and(is_of(1));
    let (born_in, joined) = match cgroup.as_ref().is_some_and(is_of(2)) {
        true => (cgroup, None),
        false => (None, cgroup),
    };
    let idmap_layers = ids::idmap_layers(given, &mapping, found);

    let mut before_clone: Vec<HostStep> = born_in.into_iter().map(HostStep::Cgroup).collect();
    let mut init = Vec::new();
    if joined.is_some() {
        // Needs nothing of the launcher, which makes the group meanwhile.
        let alone = [Namespace::Net, Namespace::Ipc, Namespace::Uts];
        let alone = alone
            .into_iter()
            .filter(|namespace| namespaces.contains(namespace));
        init.extend(alone.map(InitStep::Unshare));
    }
    // The launcher makes the group while PID 1 builds the root, so the later it is joined the better. But who may move a
    // process is decided by its ids and those of the opener of the file: an ordinary user's must still be the caller's.
    let mut join = Vec::new();
    if old_hierarchy {
        join.push(InitStep::JoinCgroup);
        if namespaces.contains(&Namespace::Cgroup) {
            join.push(InitStep::Unshare(Namespace::Cgroup));
        }
    }
    let (join_early, join_late) = match given.as_root() {
        true => (Vec::new(), join),
        false => (join, Vec::new()),
    };
    init.extend(join_early);
    if time {
        let offsets = job.hold.time_offsets.as_ref();
        init.push(InitStep::Time(
            offsets.map_or_else(Default::default, |offsets| offsets.value),
        ));
    }
    match given.as_root() {
        true => before_clone.extend(trees.into_iter().map(HostStep::TakeTree)),
        false => init.extend(trees.into_iter().map(InitStep::TakeTree)),
    }
    before_clone.extend(root.before_clone);
    if !matches!(mapping, IdMapping::Single { .. }) {
        init.push(InitStep::BecomeRoot);
    }
    init.extend([
        InitStep::NotDumpable,
        InitStep::SessionKeyring,
        InitStep::PrivateMounts,
    ]);
    if namespaces.contains(&Namespace::Uts) {
        init.push(InitStep::Hostname(job.hold.hostname.value.clone()));
    }
    let network = network::steps(given);
    if network::own(given) && network.is_empty() {
        init.push(InitStep::Loopback);
    }
    init.push(InitStep::Root(root.mount));
    init.extend(join_late);
    let has_init = job.hold.init.value;
    // A terminal of the job's own is opened in the finished /dev.
    if has_init && !given.request.tty {
        init.push(InitStep::Fork);
    }
    inside(given, mounts.places, root.writable, &mut init, found);
    if !network.is_empty() {
        init.push(InitStep::Network);
    }
    if has_init && given.request.tty {
        init.push(InitStep::Fork);
    }

    // The group comes last: PID 1 needs the others to go on.
    let with_child = [ChildStep::MapIds(mapping)].into_iter();
    let with_child = with_child
        .chain(idmap_layers)
        .chain(mounts.idmaps)
        .chain(root.with_child)
        .chain(joined.map(ChildStep::Cgroup));
    let exec = command::exec(given, &person, found);
    let watch = limits::watch(given, found);
    let mut notices = std::mem::take(&mut found.notices);
    notices.sort();
    notices.dedup();
    Plan {
        plan: VERSION,
        job: job.name.clone(),
        profile: job.profile.clone(),
        image: PlannedImage {
            reference: image.reference.clone(),
            digest: image.digest.clone(),
            layers: image.layers.clone(),
        },
        namespaces,
        before_clone,
        with_child: with_child.collect(),
        network,
        init,
        workload,
        exec,
        watch,
        notices,
    }
}

/// The namespaces, and whether one of time is among them.
fn namespaces(given: Given<'_>, found: &mut Found) -> (BTreeSet<Namespace>, bool) {
    let mut own = BTreeSet::from([Namespace::User, Namespace::Mount, Namespace::Pid]);
    if network::own(given) {
        own.insert(Namespace::Net);
    }
    let wanted = &given.job.hold.namespaces;
    own.extend(
        wanted
            .iter()
            .filter(|(_, wanted)| wanted.value)
            .map(|(namespace, _)| *namespace),
    );
    let always = [
        (Feature::UserNamespace, "a user namespace with mounts"),
        (Feature::ProcMount, "a /proc of its own"),
    ];
    for (feature, what) in always {
        if let Some(reason) = given.lacks(feature) {
            found.refuse(
                codes::NO_FEATURE,
                None,
                format!("every sandbox needs {what}: {reason}"),
                "run `ringfence doctor`",
            );
        }
    }
    let some = [
        (Namespace::Time, Feature::TimeNamespace, "time"),
        (Namespace::Cgroup, Feature::CgroupNamespace, "cgroup"),
    ];
    for (namespace, feature, name) in some {
        if own.contains(&namespace)
            && let Some(reason) = given.lacks(feature)
        {
            found.refuse(
                codes::NO_FEATURE,
                wanted.get(&namespace).and_then(|wanted| wanted.span()),
                format!("a {name} namespace cannot be made: {reason}"),
                format!("write `{name} = false` in `namespaces` to run without it"),
            );
        }
    }
    if own.contains(&Namespace::Time) && !given.job.hold.init.value {
        // The process that unshares it stays outside; only its children live in it (time_namespaces(7)).
        let asked = wanted
            .get(&Namespace::Time)
            .filter(|wanted| !matches!(wanted.origin, Origin::BuiltIn(_)));
        let offsets = given.job.hold.time_offsets.as_ref().map(|offsets| offsets.span());
        match asked.map(|asked| asked.span()).or(offsets) {
            Some(span) => found.refuse(
                codes::TIME_NEEDS_INIT,
                span,
                "a time namespace needs `init`: PID 1 stays outside, its children live in it",
                "write `init = true`, or `time = false` in `namespaces`",
            ),
            None => found.notice("namespaces.time", "not made: it needs `init`"),
        }
        own.remove(&Namespace::Time);
    }
    let time = own.contains(&Namespace::Time);
    (own, time)
}

/// What PID 1 does inside the new root.
fn inside(
    given: Given<'_>,
    places: BTreeMap<String, Mounted>,
    root_writable: bool,
    init: &mut Vec<InitStep>,
    found: &mut Found,
) {
    let hold = &given.job.hold;
    let mut mount = |at: &str, what| {
        init.push(InitStep::Mount {
            at: at.to_owned(),
            what,
        });
    };
    let sys = network::sys(given, found);
    mount("/proc", Mounted::Proc);
    if sys {
        mount("/sys", Mounted::Sysfs);
    }
    mount("/dev", Mounted::Dev);
    for (at, what) in places {
        mount(&at, what);
    }
    let mut sysctls = BTreeMap::new();
    if network::own(given) {
        // All ports of a network of one's own may be bound by anybody in it.
        sysctls.insert("net.ipv4.ip_unprivileged_port_start", "0");
    }
    sysctls.extend(
        hold.sysctls
            .iter()
            .map(|(name, value)| (name.as_str(), value.value.as_str())),
    );
    init.extend(sysctls.into_iter().map(|(name, value)| InitStep::Sysctl {
        name: name.to_owned(),
        value: value.to_owned(),
    }));
    let there = |paths: &[String]| -> Vec<String> {
        paths
            .iter()
            .filter(|path| sys || !path.starts_with("/sys/"))
            .cloned()
            .collect()
    };
    let (masked, read_only) = (
        there(&hold.security.masked_paths.value),
        there(&hold.security.read_only_paths.value),
    );
    if !masked.is_empty() {
        init.push(InitStep::Mask(masked));
    }
    if !read_only.is_empty() {
        init.push(InitStep::ReadOnly(read_only));
    }
    if !root_writable {
        init.push(InitStep::RootReadOnly);
    }
}

/// What the process that becomes the job does: rights go first, filters last.
fn workload(
    given: Given<'_>,
    person: &Person,
    places: &BTreeMap<String, Mounted>,
    root_writable: bool,
    found: &mut Found,
) -> Vec<WorkloadStep> {
    let rlimits: BTreeMap<_, _> = given
        .job
        .hold
        .rlimits
        .iter()
        .map(|(name, value)| (*name, value.value))
        .collect();
    security::no_new_privileges(given, found);
    let rlimits = (!rlimits.is_empty()).then_some(WorkloadStep::Rlimits(rlimits));
    let credentials = security::credentials(given, person, found);
    let workdir = WorkloadStep::Workdir(command::workdir(given, found));
    let landlock = landlock::landlock(given, places, root_writable, found);
    let seccomp = security::seccomp(given, found);
    // What comes before needs nothing of the root file system.
    let wait = given.job.hold.init.value.then_some(WorkloadStep::WaitForInit);
    [WorkloadStep::Session]
        .into_iter()
        .chain(rlimits)
        .chain([credentials, WorkloadStep::NoNewPrivileges])
        .chain(wait)
        .chain([workdir])
        .chain(landlock)
        .chain([WorkloadStep::CloseDescriptors])
        .chain(seccomp)
        .chain([WorkloadStep::Verify])
        .collect()
}
