//! Whether the built-in profiles hold on a host. Sums up what the planner refuses there; it asks nothing of its own.

use super::{Patient, State, Verdict, limits};
use crate::host::facts::{CgroupSupport, Feature};

pub(super) fn verdicts(patient: Patient<'_>) -> Vec<Verdict> {
    let facts = patient.facts;
    let limit = |name: &'static str| match limits::support(facts, name) {
        Some(CgroupSupport::V1 | CgroupSupport::V2) => None,
        Some(CgroupSupport::No(_)) | None => Some(format!("limit {name}")),
    };
    let landlock = (facts.landlock_abi == 0).then(|| "Landlock".to_owned());
    // What could not be tried without a user namespace is not held against the host as well.
    let untried = patient.lacks(Feature::UserNamespace).is_some();
    let in_memory = untried || patient.is_root() || patient.lacks(Feature::TmpfsUserXattr).is_none();
    let layer = |there: bool| (!there).then(|| "a writable layer".to_owned());
    let swap = (limit("memory").is_none() && patient.extras.uncounted_swap)
        .then(|| "swap bounded with memory".to_owned());
    let strict = [limit("memory"), swap, limit("pids"), landlock];
    let bridge = facts.network.nftables && (patient.is_root() || facts.network.pasta);
    let bridge = (!bridge).then(|| "what bridge networks are made with".to_owned());
    let standard = [limit("pids"), layer(in_memory), bridge];
    // Its limits are optional, so a folder of the store may take the layer's place.
    let dev = [layer(in_memory || facts.store.overlay_upper)];
    vec![
        verdict(patient, "strict", strict.into()),
        verdict(patient, "standard", standard.into()),
        verdict(patient, "dev", dev.into()),
    ]
}

/// `missing` are the profile's own needs beside those of every job.
fn verdict(patient: Patient<'_>, profile: &'static str, missing: Vec<Option<String>>) -> Verdict {
    let always = [
        (Feature::UserNamespace, "user namespaces"),
        (Feature::ProcMount, "a /proc of its own"),
        (Feature::TimeNamespace, "time namespaces"),
        (Feature::CgroupNamespace, "cgroup namespaces"),
        (Feature::Seccomp, "seccomp"),
    ];
    let lacking = |(feature, what): (Feature, &str)| patient.lacks(feature).map(|_| what.to_owned());
    let mut needs: Vec<String> = always.into_iter().filter_map(lacking).collect();
    if patient.lacks(Feature::UserNamespace).is_some() {
        needs.truncate(1);
    }
    needs.extend(missing.into_iter().flatten());
    let only_host = patient.lacks(Feature::OverlayInUserNamespace).is_some();
    let (state, why) = if !needs.is_empty() {
        (State::Missing, format!("refused, it needs {}", needs.join(", ")))
    } else if only_host {
        (
            State::Reduced,
            "only with the image source `host`: image layers need overlay".to_owned(),
        )
    } else {
        (State::Works, "holds".to_owned())
    };
    Verdict { profile, state, why }
}
