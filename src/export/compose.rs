//! A compose file with one service.

use serde_json::{Map, Value, json};

use super::docker::{SIGTERM, losses, may_set, seccomp_file, ulimits};
use super::network::{Bridge, Network};
use super::sandbox::{Place, Sandbox};
use super::{Exported, Losses, Refusal, yaml};
use crate::profile::{Namespace, Rlimit};

pub(super) fn compose(sandbox: &Sandbox<'_>, beside: bool, lost: &mut Losses) -> Result<Exported, Refusal> {
    let image = sandbox.registry_image("compose")?;
    losses(sandbox, lost);
    if sandbox.rlimits.contains_key(&Rlimit::As) {
        lost.add("rlimits.as", "the engine does not know it");
    }
    let seccomp = seccomp_file(sandbox, beside, lost);
    let mut options = vec!["no-new-privileges:true"];
    options.extend(seccomp.is_some().then_some("seccomp:./seccomp.json"));
    let (entrypoint, command) = sandbox.argv.split_at(sandbox.argv.len().min(1));
    let words = |words: &[String]| words.iter().map(|word| literal(word)).collect::<Vec<_>>();
    let env: Map<String, Value> = sandbox
        .env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), literal(value).into()))
        .collect();
    let mut service = json!({
        "image": image,
        "entrypoint": words(entrypoint),
        "command": words(command),
        "working_dir": literal(&sandbox.workdir),
        "user": format!("{}:{}", sandbox.user, sandbox.group),
        "environment": env,
        "read_only": sandbox.writable.is_none(),
        "init": sandbox.init,
        "cap_drop": ["ALL"],
        "security_opt": options,
    });
    let mut set = |key: &str, value: Value| {
        let empty = match &value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        };
        if !empty {
            service[key] = value;
        }
    };
    let network = sandbox.network.word();
    match &sandbox.network {
        Network::Bridge(_) => set("networks", network.into_iter().collect()),
        _ => set("network_mode", network.into()),
    }
    set("ports", sandbox.network.published().into());
    let names = sandbox.capabilities.iter().map(|capability| capability.name());
    set("cap_add", names.collect());
    set("group_add", sandbox.groups.iter().map(u32::to_string).collect());
    set("hostname", sandbox.hostname.into());
    if !sandbox.namespaces.contains(&Namespace::Ipc) {
        set("ipc", "host".into());
    }
    if sandbox.watch.stop_signal != SIGTERM {
        set("stop_signal", sandbox.watch.stop_signal.to_string().into());
    }
    let cgroup = &sandbox.cgroup;
    if let Some(memory) = cgroup.memory {
        set("mem_limit", memory.0.into());
        // Both together: so much memory, and no swap.
        set("memswap_limit", memory.0.into());
    }
    set("pids_limit", cgroup.pids.into());
    if let Some(cpus) = cgroup.cpus {
        set("cpus", (f64::from(cpus.0) / 1000.0).into());
    }
    set("cpuset", cgroup.cpuset.clone().into());
    set("blkio_config", block_devices(sandbox));
    let ulimits = ulimits(&sandbox.rlimits).into_iter();
    let ulimits: Map<String, Value> = ulimits
        .map(|(name, soft, hard)| (name, json!({ "soft": soft, "hard": hard })))
        .collect();
    set("ulimits", ulimits.into());
    let sysctls = sandbox.sysctls.iter().filter(|(name, _)| may_set(name));
    let sysctls: Map<String, Value> = sysctls
        .map(|(name, value)| ((*name).to_owned(), literal(value).into()))
        .collect();
    set("sysctls", sysctls.into());
    let (tmpfs, volumes, shm) = mounts(sandbox);
    set("tmpfs", tmpfs);
    set("volumes", volumes);
    set("shm_size", shm);
    let name = sandbox.job.to_owned();
    let mut whole = json!({ "services": { name: service } });
    if let Network::Bridge(Bridge { name: Some(name), .. }) = &sandbox.network {
        // By this name for every project, as it is for every manifest.
        whole["networks"] = json!({ (*name): { "name": name } });
    }
    Ok(Exported {
        name: "compose.yaml",
        text: yaml::document(&whole),
        executable: false,
        beside: seccomp
            .map(|text| ("seccomp.json".to_owned(), text))
            .into_iter()
            .collect(),
        losses: Vec::new(),
    })
}

/// A text in which compose finds no variable of its own.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// File systems in memory, binds, and the size of `/dev/shm`, which has a key of its own.
fn mounts(sandbox: &Sandbox<'_>) -> (Value, Value, Value) {
    let (mut tmpfs, mut volumes, mut shm) = (Vec::new(), Vec::new(), Value::Null);
    for mount in &sandbox.mounts {
        let at = literal(mount.at);
        let mut bind = |source: &str, read_only: bool| {
            let mut volume = json!({
                "type": "bind", "source": literal(source), "target": at, "bind": { "create_host_path": false },
            });
            if read_only {
                volume["read_only"] = true.into();
            }
            volumes.push(volume);
        };
        match &mount.what {
            Place::Tmpfs { size, .. } if mount.at == "/dev/shm" => shm = size.0.into(),
            Place::Tmpfs { size, mode, exec } => {
                let exec = if *exec { "exec" } else { "noexec" };
                let size = size.0;
                tmpfs.push(format!("{at}:rw,nosuid,nodev,{exec},size={size},mode={mode:o}"));
            }
            Place::Bind {
                source, read_only, ..
            } => bind(source, *read_only),
            Place::Copy { source } => bind(source, true),
            Place::File(_) | Place::Link(_) => {}
        }
    }
    (tmpfs.into(), volumes.into(), shm)
}

fn block_devices(sandbox: &Sandbox<'_>) -> Value {
    let mut config = Map::new();
    for (device, limit) in &sandbox.cgroup.io {
        let rates = [
            ("device_read_bps", limit.read.map(|bytes| bytes.0)),
            ("device_write_bps", limit.write.map(|bytes| bytes.0)),
            ("device_read_iops", limit.read_ops),
            ("device_write_iops", limit.write_ops),
        ];
        for (key, rate) in rates.into_iter().filter(|_| device.starts_with('/')) {
            let Some(rate) = rate else { continue };
            let list = config.entry(key).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(json!({ "path": device, "rate": rate }));
            }
        }
    }
    config.into()
}
