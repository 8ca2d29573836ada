//! A Kubernetes Job, and the NetworkPolicy that its pod is held by.

use serde_json::{Map, Value, json};

use super::docker::SIGTERM;
use super::network::Network;
use super::sandbox::{Place, Sandbox};
use super::{Exported, Losses, Refusal, yaml};
use crate::profile::Namespace;

/// Settings that a cluster takes without being told to (kubernetes.io, "Safe and unsafe sysctls").
const SAFE_SYSCTLS: [&str; 8] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_syncookies",
];

pub(super) fn kubernetes(sandbox: &Sandbox<'_>, lost: &mut Losses) -> Result<Exported, Refusal> {
    let image = sandbox.registry_image("kubernetes")?;
    losses(sandbox, lost);
    let name = dns_label(sandbox.job);
    let labels = json!({ "app.kubernetes.io/name": name });
    let mut spec = json!({
        "backoffLimit": 0,
        "template": {
            "metadata": { "labels": labels },
            "spec": pod(sandbox, &name, &image),
        },
    });
    if let Some(wall) = sandbox.watch.wall_ms {
        spec["activeDeadlineSeconds"] = wall.0.div_ceil(1000).into();
    }
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name, "labels": labels }, "spec": spec,
    });
    let mut text = yaml::document(&job);
    if !matches!(sandbox.network, Network::Host) {
        // What no rule lists may not pass.
        let (ingress, egress) = sandbox.network.policy(lost);
        let mut policy = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "name": name, "labels": labels },
            "spec": { "podSelector": { "matchLabels": labels }, "policyTypes": ["Ingress", "Egress"] },
        });
        for (key, rules) in [("ingress", ingress), ("egress", egress)] {
            if !rules.is_empty() {
                policy["spec"][key] = rules.into();
            }
        }
        text = format!("{text}---\n{}", yaml::document(&policy));
    }
    Ok(Exported {
        name: "job.yaml",
        text,
        executable: false,
        beside: Vec::new(),
        losses: Vec::new(),
    })
}

fn losses(sandbox: &Sandbox<'_>, losses: &mut Losses) {
    match &sandbox.network {
        Network::Null => losses.add(
            "network.mode",
            "the pod has an interface; that nothing passes is up to the cluster's network plugin",
        ),
        Network::Bridge(bridge) => {
            losses.add(
                "network",
                "that its policy holds is up to the cluster's network plugin",
            );
            if bridge.name.is_some() {
                losses.add(
                    "network.name",
                    "jobs do not find each other: a policy and a service for both would say so",
                );
            }
        }
        Network::Host => {}
    }
    losses.add(
        "ids",
        "`hostUsers: false` needs a cluster and nodes that have user namespaces for pods",
    );
    if sandbox.init {
        losses.add(
            "init",
            "the job is PID 1: nothing reaps what it leaves, and nothing passes signals on",
        );
    }
    let cgroup = &sandbox.cgroup;
    if cgroup.pids.is_some() {
        losses.add(
            "limits.pids",
            "the number of processes is bounded for a whole node alone",
        );
    }
    if cgroup.memory.is_some() {
        losses.add(
            "limits.memory",
            "whether there is swap besides is the node's setting",
        );
    }
    if cgroup.cpuset.is_some() {
        losses.add("limits.cpuset", "processors cannot be chosen");
    }
    if !cgroup.io.is_empty() {
        losses.add("limits.io", "the speed of disks is not bounded");
    }
    if !sandbox.rlimits.is_empty() {
        losses.add(
            "rlimits",
            "limits of each process are the container runtime's own",
        );
    }
    if sandbox.seccomp.is_some() {
        losses.add(
            "security.seccomp",
            "the runtime's own policy holds; another would be a file on every node",
        );
    }
    if !sandbox.masked.is_empty() || !sandbox.read_only.is_empty() {
        losses.add("security.masked-paths", "the runtime's own lists hold");
        losses.add("security.read-only-paths", "the runtime's own lists hold");
    }
    if !sandbox.sysfs {
        losses.add("sys", "there is a /sys, read-only");
    }
    if sandbox.namespaces.contains(&Namespace::Time) {
        losses.add("namespaces.time", "the clocks since boot are the node's");
    }
    if sandbox.ambient {
        losses.add(
            "security.capabilities",
            format!(
                "user {} does not keep them: there is no ambient set",
                sandbox.user
            ),
        );
    }
    if !sandbox.unset.is_empty() {
        let names = sandbox.unset.join(" ");
        losses.add("env", format!("the image's {names} cannot be taken away"));
    }
    if sandbox.watch.stop_signal != SIGTERM {
        losses.add("stop signal", "it is SIGTERM, or the image's");
    }
    for (name, _) in sandbox
        .sysctls
        .iter()
        .filter(|(name, _)| !SAFE_SYSCTLS.contains(name))
    {
        losses.add(
            format!("sysctls.\"{name}\""),
            "a cluster refuses it unless every kubelet allows it",
        );
    }
    for mount in &sandbox.mounts {
        let about = format!("mounts.\"{}\"", mount.at);
        match &mount.what {
            Place::Bind { optional, .. } => {
                if *optional {
                    losses.add(about.clone(), "a source that is missing is not skipped");
                }
                losses.add(about, "a path of whichever node runs it, with that node's owners");
            }
            Place::Copy { .. } => losses.add(
                about,
                "there is no copy: it is read-only, of whichever node runs it",
            ),
            Place::Tmpfs { exec: false, .. } => losses.add(about, "programs in it can be run"),
            Place::Tmpfs { .. } | Place::File(_) | Place::Link(_) => {}
        }
    }
}

fn pod(sandbox: &Sandbox<'_>, name: &str, image: &str) -> Value {
    let (volumes, volume_mounts) = volumes(sandbox);
    let (entrypoint, args) = sandbox.argv.split_at(sandbox.argv.len().min(1));
    let words = |words: &[String]| words.iter().map(|word| literal(word)).collect::<Vec<_>>();
    let env: Vec<Value> = sandbox
        .env
        .iter()
        .map(|(name, value)| json!({ "name": name, "value": literal(value) }))
        .collect();
    let capabilities: Vec<&str> = sandbox.capabilities.iter().map(|one| one.name()).collect();
    let mut drop = json!({ "drop": ["ALL"] });
    if !capabilities.is_empty() {
        drop["add"] = capabilities.into();
    }
    let container = json!({
        "name": name,
        "image": image,
        "command": words(entrypoint),
        "args": words(args),
        "workingDir": sandbox.workdir,
        "env": env,
        "resources": resources(sandbox),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": sandbox.writable.is_none(),
            "capabilities": drop,
        },
        "volumeMounts": volume_mounts,
    });
    let sysctls: Vec<Value> = sandbox
        .sysctls
        .iter()
        .filter(|(name, _)| SAFE_SYSCTLS.contains(name))
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let mut pod = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "hostUsers": false,
        "terminationGracePeriodSeconds": sandbox.watch.grace_ms.0.div_ceil(1000),
        "securityContext": {
            "runAsUser": sandbox.user,
            "runAsGroup": sandbox.group,
            "runAsNonRoot": sandbox.user != 0,
            "supplementalGroups": sandbox.groups,
            "seccompProfile": { "type": "RuntimeDefault" },
            "sysctls": sysctls,
        },
        "containers": [container],
        "volumes": volumes,
    });
    if let Some(name) = sandbox.hostname {
        pod["hostname"] = dns_label(name).into();
    }
    let ports = sandbox.network.container_ports();
    if !ports.is_empty() {
        pod["containers"][0]["ports"] = ports.into();
    }
    if matches!(sandbox.network, Network::Host) {
        pod["hostNetwork"] = true.into();
        // A pod in the node's network cannot have users of its own.
        pod["hostUsers"] = true.into();
        pod["securityContext"]["sysctls"] = json!([]);
    }
    if !sandbox.namespaces.contains(&Namespace::Ipc) {
        pod["hostIPC"] = true.into();
    }
    pod
}

fn resources(sandbox: &Sandbox<'_>) -> Value {
    let mut limits = Map::new();
    if let Some(memory) = sandbox.cgroup.memory {
        limits.insert("memory".into(), memory.0.to_string().into());
    }
    if let Some(cpus) = sandbox.cgroup.cpus {
        limits.insert("cpu".into(), format!("{}m", cpus.0).into());
    }
    if let Some(Some(size)) = sandbox.writable {
        limits.insert("ephemeral-storage".into(), size.0.to_string().into());
    }
    json!({ "limits": limits })
}

fn volumes(sandbox: &Sandbox<'_>) -> (Vec<Value>, Vec<Value>) {
    let (mut volumes, mut mounts) = (Vec::new(), Vec::new());
    for mount in &sandbox.mounts {
        let name = format!("volume-{}", volumes.len() + 1);
        let (volume, read_only) = match &mount.what {
            Place::Tmpfs { size, .. } => (
                json!({ "name": name, "emptyDir": { "medium": "Memory", "sizeLimit": size.0.to_string() } }),
                false,
            ),
            Place::Bind {
                source, read_only, ..
            } => (
                json!({ "name": name, "hostPath": { "path": source } }),
                *read_only,
            ),
            Place::Copy { source } => (json!({ "name": name, "hostPath": { "path": source } }), true),
            Place::File(_) | Place::Link(_) => continue,
        };
        volumes.push(volume);
        mounts.push(json!({ "name": name, "mountPath": mount.at, "readOnly": read_only }));
    }
    (volumes, mounts)
}

/// A text in which Kubernetes finds no variable of its own: `$(NAME)` is one, `$$(NAME)` is not.
fn literal(text: &str) -> String {
    text.replace("$(", "$$(")
}

/// A name as a label of DNS: lower case, letters, digits and dashes, 63 at the most (RFC 1123).
fn dns_label(name: &str) -> String {
    let label: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    label.trim_matches('-').to_owned()
}
