//! Values that are right one by one and cannot hold together; found without a host.

use super::{Mount, Namespace, Network, Origin, Placed, Profile, Root};
use crate::manifest::grammar::{forbidden_source, sysctl_namespace};
use crate::problem::{Problem, codes};
use crate::units::Bytes;

/// Everything about a profile that contradicts itself.
pub(super) fn find(hold: &Profile) -> Vec<Problem> {
    let mut problems = Vec::new();
    let off = |namespace| hold.namespaces.get(&namespace).filter(|own| !own.value);
    if let (Some(uts), Origin::Manifest { .. }) = (off(Namespace::Uts), &hold.hostname.origin) {
        problems.push(
            Problem::new(
                codes::NEEDS_NAMESPACE,
                hold.hostname.span(),
                "a host name of its own needs the namespace `uts`",
                "without it the job would rename the host; leave one of both out",
            )
            .beside(uts.span(), "switched off here"),
        );
    }
    for (name, value) in &hold.sysctls {
        let shared = match sysctl_namespace(name) {
            Some(Namespace::Net) => matches!(hold.network.value, Network::Host)
                .then(|| ("a network of its own", hold.network.span())),
            Some(namespace) => off(namespace).map(|own| ("a namespace of its own", own.span())),
            None => None,
        };
        if let Some((needed, place)) = shared {
            problems.push(
                Problem::new(
                    codes::NEEDS_NAMESPACE,
                    value.span(),
                    format!("the kernel setting `{name}` needs {needed}"),
                    "without one the job would change the whole host; leave one of both out",
                )
                .beside(place, "shared with the host here"),
            );
        }
    }
    if hold.root.value == Root::Disk && hold.limits.disk.is_none() {
        problems.push(Problem::new(
            codes::NEEDS_DISK_LIMIT,
            hold.root.span(),
            "a writable layer on disk needs a bound",
            "write `disk = \"1GiB\"` under `limits`",
        ));
    }
    for mount in hold.mounts.values() {
        if let Mount::Bind { source, .. } = &mount.value
            && let Some(path) = source.value.as_literal()
            && let Some(reason) = forbidden_source(path)
            && source.span().is_some()
        {
            // What a variable led to: the decoder has seen the others.
            let message = format!("`{path}` is never given to a job: {reason}");
            let help = "bind the directory that the job needs, not the whole";
            problems.push(Problem::new(codes::MOUNT_SOURCE, source.span(), message, help));
        }
    }
    problems.extend(memory_in_file_systems(hold));
    problems
}

/// Pages of a tmpfs are charged to the memory limit: full ones end the job by `oom`.
fn memory_in_file_systems(hold: &Profile) -> Option<Problem> {
    let memory = &hold.limits.memory.as_ref()?.max;
    let tmpfs = hold
        .mounts
        .iter()
        .filter_map(|(place, mount)| match &mount.value {
            Mount::Tmpfs { size, .. } => Some((place.as_str(), size)),
            Mount::Bind { .. } => None,
        });
    let layer = hold
        .limits
        .disk
        .as_ref()
        .filter(|_| hold.root.value == Root::Tmpfs);
    let layer = layer.map(|limit| ("the writable layer", &limit.max));
    let all: Vec<(&str, &Placed<Bytes>)> = tmpfs.chain(layer).collect();
    let sum = all
        .iter()
        .fold(0u64, |sum, (_, size)| sum.saturating_add(size.value.0));
    if sum <= memory.value.0 {
        return None;
    }
    let parts: Vec<_> = all
        .iter()
        .map(|(place, size)| format!("{place} {}", size.value))
        .collect();
    let span = memory
        .span()
        .or_else(|| all.iter().find_map(|(_, size)| size.span()));
    Some(
        Problem::new(
            codes::TMPFS_OVER_MEMORY,
            span,
            format!(
                "the file systems in memory can grow to {}, and the memory limit is {}",
                Bytes(sum),
                memory.value
            ),
            format!("they count as memory: {}", parts.join(", ")),
        )
        .as_warning(),
    )
}
