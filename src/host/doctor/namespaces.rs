//! Namespaces and ids.

use super::{Finding, Mend, Patient};
use crate::host::facts::Feature;
use crate::host::reason;

/// Ids that an image may use: 0 to 65535.
const IDS: u32 = 65536;

pub(super) fn findings(patient: Patient<'_>) -> Vec<Finding> {
    let mut findings = vec![user(patient)];
    // What failed only because the first did is not worth a line of its own.
    if patient.lacks(Feature::UserNamespace).is_some() {
        return findings;
    }
    findings.push(proc(patient));
    let more = [
        ("time namespaces", Feature::TimeNamespace, "time", (5, 6)),
        ("cgroup namespaces", Feature::CgroupNamespace, "cgroup", (4, 6)),
    ];
    for (what, feature, key, (major, minor)) in more {
        findings.push(match patient.lacks(feature) {
            None => Finding::works(what),
            Some(reason) => Finding::missing(what, reason).mend([Mend::Do(format!(
                "Linux {major}.{minor} has them; `{key} = false` in `namespaces` runs without"
            ))]),
        });
    }
    findings.push(ids(patient));
    findings
}

fn user(patient: Patient<'_>) -> Finding {
    let what = "user namespaces";
    let Some(reason) = patient.lacks(Feature::UserNamespace) else {
        return Finding::works(what);
    };
    let setting = |setting: &str| {
        let keep = format!("sh -c 'echo {setting} > /etc/sysctl.d/99-ringfence.conf'");
        vec![
            patient.as_root(format!("sysctl -w {setting}")),
            patient.as_root(keep),
        ]
    };
    let mend = if reason == reason::USERNS_CLONE_OFF {
        setting("kernel.unprivileged_userns_clone=1")
    } else if reason == reason::NO_USER_NAMESPACES {
        setting("user.max_user_namespaces=15000")
    } else if reason == reason::APPARMOR_RESTRICTS {
        apparmor(patient)
    } else if reason == reason::POWERLESS_ROOT {
        vec![Mend::Do(
            "run as an ordinary user, or give the container these capabilities".into(),
        )]
    } else if reason == reason::NOT_BUILT_IN {
        vec![Mend::Do("boot a kernel with CONFIG_USER_NS".into())]
    } else if reason.starts_with(reason::FOREIGN_IDS) {
        vec![Mend::Do(
            "run as an ordinary user, or write a `base` that is mapped here under `[ids]` in config.toml"
                .into(),
        )]
    } else {
        Vec::new()
    };
    Finding::missing(what, reason).mend(mend)
}

/// A profile that allows this program user namespaces and nothing else more, as Ubuntu's own for bubblewrap and
/// others do (apparmor.d(5), "userns").
fn apparmor(patient: Patient<'_>) -> Vec<Mend> {
    let lines = [
        "abi <abi/4.0>,".to_owned(),
        "include <tunables/global>".to_owned(),
        format!(
            "profile ringfence \"{}\" flags=(unconfined) {{",
            patient.extras.program.display()
        ),
        "  userns,".to_owned(),
        "}".to_owned(),
    ];
    let quoted: Vec<String> = lines
        .iter()
        .map(|line| format!("'{}'", line.replace('\'', r"'\''")))
        .collect();
    let tee = if patient.is_root() { "tee" } else { "sudo tee" };
    vec![
        Mend::Run(format!(
            "printf '%s\\n' {} | {tee} /etc/apparmor.d/ringfence",
            quoted.join(" ")
        )),
        patient.as_root("apparmor_parser -r /etc/apparmor.d/ringfence"),
    ]
}

fn proc(patient: Patient<'_>) -> Finding {
    let what = "a /proc of its own";
    match patient.lacks(Feature::ProcMount) {
        None => Finding::works(what),
        Some(reason) => Finding::missing(what, reason).mend([Mend::Do(
            "in a container: start that one with its /proc unmasked (docker: --security-opt systempaths=unconfined, podman: --security-opt unmask=ALL, \
             Kubernetes: procMount: Unmasked)"
                .into(),
        )]),
    }
}

fn ids(patient: Patient<'_>) -> Finding {
    let (what, ids) = ("65536 ids inside", &patient.facts.ids);
    if patient.is_root() || (ids.subordinate_uids >= IDS && ids.subordinate_gids >= IDS) {
        return Finding::works(what);
    }
    let name = &patient.extras.user;
    let first = patient.extras.free_subordinate_id;
    let range = format!("{first}-{}", first.saturating_add(IDS - 1));
    let usermod = patient.as_root(format!(
        "usermod --add-subuids {range} --add-subgids {range} {name}"
    ));
    let reason = if ids.reason.is_empty() {
        format!(
            "{} users and {} groups are given to {name}",
            ids.subordinate_uids, ids.subordinate_gids
        )
    } else {
        ids.reason.clone()
    };
    let mend = match reason.as_str() {
        reason::NO_NEWUIDMAP => vec![patient.install_newuidmap(), usermod],
        reason::NO_NEW_PRIVILEGES => {
            vec![Mend::Do(
                "start it from a shell, or unset NoNewPrivileges= of the service that starts it".into(),
            )]
        }
        reason if reason.starts_with(reason::NO_SUBORDINATE_IDS) || ids.reason.is_empty() => vec![usermod],
        _ => Vec::new(),
    };
    Finding::reduced(what, reason)
        .and("so a job has one id, and all files of an image are its own")
        .mend(mend)
}
