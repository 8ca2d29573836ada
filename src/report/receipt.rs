//! The receipt: what was asked for beside what the kernel enforced, and what the run used. One JSON object.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::verdict::{End, Hit, Verdict, end};
use crate::image::Digest;
use crate::launch::{Exit, Published};
use crate::net::connections::Connection;
use crate::plan::{FromKeys, InitStep, Mounted, Plan, WorkloadStep};
use crate::profile::{Namespace, Protocol};

/// The version of the receipt's format.
const SCHEMA: u32 = 1;

/// What `--report` writes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Receipt {
    schema: u32,
    /// Absent when the run was refused before it was known which job was meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    verdict: Verdict,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Hit>,
    hit: Vec<Hit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    enforced: Vec<Protection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    published: Vec<Port>,
    not_applied: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<f64>,
}

/// What the job could reach, and what it tried.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Network {
    mode: &'static str,
    /// Only with a bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<Vec<Connection>>,
    /// Whether there was more than `connections` holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

impl Network {
    fn of(plan: &Plan, exit: &Exit) -> Network {
        let mode = match plan.namespaces.contains(&Namespace::Net) {
            false => "host",
            true if plan.network.is_empty() => "null",
            true => "bridge",
        };
        Network {
            mode,
            connections: exit.connections.as_ref().map(|all| all.list.clone()),
            more: exit.connections.as_ref().map(|all| all.more),
        }
    }
}

/// What the run used; a value that the kernel does not count here is absent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Usage {
    wall_ms: u64,
    cpu_user_ms: u64,
    cpu_system_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak: Option<u64>,
    memory_max_rss: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pids_peak: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io_read: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io_written: Option<u64>,
}

/// One protection.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Protection {
    name: String,
    requested: String,
    enforced: String,
    read_back: &'static str,
    /// Where it was asked for; nowhere when every sandbox has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    at: Vec<String>,
}

/// From keys of a job to the lines that say them.
pub(crate) type Lines<'a> = &'a dyn Fn(&[String]) -> Vec<String>;

/// The sha256 of a plan's canonical form, its JSON.
pub(crate) fn plan_digest(plan: &Plan) -> Result<String, serde_json::Error> {
    Ok(Digest::of(&serde_json::to_vec(plan)?).to_string())
}

/// A port of the host that led inside.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Port {
    address: std::net::IpAddr,
    port: u16,
    protocol: Protocol,
    to: u16,
}

impl Port {
    fn of(published: &Published) -> Port {
        Port {
            address: published.at.ip(),
            port: published.at.port(),
            protocol: published.protocol,
            to: published.to,
        }
    }
}

impl Receipt {
    /// The receipt of a job that never started.
    pub(crate) fn refused(job: Option<&str>, verdict: Verdict, exit_code: u8, error: String) -> Receipt {
        Receipt {
            schema: SCHEMA,
            job: job.map(str::to_owned),
            plan: None,
            verdict,
            exit_code,
            signal: None,
            limit: None,
            hit: Vec::new(),
            error: Some(error),
            usage: None,
            enforced: Vec::new(),
            network: None,
            published: Vec::new(),
            not_applied: Vec::new(),
            started: None,
            ended: None,
        }
    }

    /// The receipt of a job that ran; `lines` are those of the keys that a protection comes from.
    ///
    /// # Errors
    /// None for any plan that this program makes: its strings are UTF-8 and its keys strings.
    pub(crate) fn of(
        plan: &Plan,
        exit: &Exit,
        verdict: Verdict,
        exit_code: u8,
        hit: Vec<Hit>,
        lines: Lines<'_>,
    ) -> Result<Receipt, serde_json::Error> {
        let counters = &exit.counters;
        let seconds = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH)
                .map_or(0.0, |since| since.as_secs_f64())
        };
        Ok(Receipt {
            schema: SCHEMA,
            job: Some(plan.job.clone()),
            plan: Some(plan_digest(plan)?),
            verdict,
            exit_code,
            signal: match end(exit.status) {
                End::Signal(signal) => Some(signal),
                End::Code(_) => None,
            },
            limit: hit.iter().find(|hit| verdict.limit() == Some(hit.key)).cloned(),
            hit,
            error: None,
            usage: Some(Usage {
                wall_ms: u64::try_from(exit.wall.as_millis()).unwrap_or(u64::MAX),
                cpu_user_ms: counters.cpu_user_us.unwrap_or(exit.cpu_us.0) / 1000,
                cpu_system_ms: counters.cpu_system_us.unwrap_or(exit.cpu_us.1) / 1000,
                memory_peak: counters.memory_peak,
                memory_max_rss: exit.max_rss,
                pids_peak: counters.pids_peak,
                io_read: counters.io_read,
                io_written: counters.io_written,
            }),
            enforced: enforced(plan, exit, lines),
            network: Some(Network::of(plan, exit)),
            published: exit.published.iter().map(Port::of).collect(),
            not_applied: plan
                .notices
                .iter()
                .map(|notice| format!("{}: {}", notice.about, notice.text))
                .collect(),
            started: Some(seconds(exit.started)),
            ended: Some(seconds(exit.started + exit.wall)),
        })
    }
}

/// Each protection of the plan beside what the kernel said of it.
fn enforced(plan: &Plan, exit: &Exit, lines: Lines<'_>) -> Vec<Protection> {
    let mut list = Vec::new();
    let mut add = |name: &str, requested: String, enforced: String, read_back, keys: &[String]| {
        list.push(Protection {
            name: name.to_owned(),
            requested,
            enforced,
            read_back,
            at: lines(keys),
        });
    };
    for namespace in &plan.namespaces {
        let name = format!("namespace {namespace}");
        let made = plan.init.iter().any(|step| match step {
            InitStep::Unshare(late) => late == namespace,
            InitStep::Time(_) => *namespace == Namespace::Time,
            _ => false,
        });
        let (seen, how) = if made {
            ("own", "unshare(2) by PID 1 succeeded")
        } else if exit.namespaces.contains(namespace) {
            ("own", "/proc/PID/ns differs from the launcher's")
        } else {
            ("not seen", "/proc/PID/ns")
        };
        add(&name, "own".to_owned(), seen.to_owned(), how, &namespace.keys());
    }
    for limit in &exit.limits {
        let file = limit.file.rsplit('/').next().unwrap_or_default();
        add(
            &format!("cgroup {file}"),
            limit.wanted.clone(),
            limit.got.clone(),
            "the group's file, after writing",
            &limit_of(file),
        );
    }
    let verified = |wanted: &str| {
        if exit.verified {
            wanted.to_owned()
        } else {
            "not verified".to_owned()
        }
    };
    const STATUS: &str = "/proc/self/status of the job, right before execve(2)";
    for step in &plan.workload {
        match step {
            WorkloadStep::Credentials {
                capabilities,
                ambient,
                ..
            } => {
                let set = capabilities
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ");
                let set = if set.is_empty() { "none".to_owned() } else { set };
                let wanted = if *ambient { format!("{set} (ambient)") } else { set };
                add(
                    "capabilities",
                    wanted.clone(),
                    verified(&wanted),
                    STATUS,
                    &step.keys(),
                );
            }
            WorkloadStep::NoNewPrivileges => add(
                "no-new-privileges",
                "on".to_owned(),
                verified("on"),
                STATUS,
                &step.keys(),
            ),
            WorkloadStep::Seccomp(_) => add(
                "seccomp",
                "filters".to_owned(),
                verified("filters"),
                STATUS,
                &step.keys(),
            ),
            WorkloadStep::Landlock(rules) => {
                let text = format!("ABI {}, {} paths", rules.abi, rules.paths.len());
                add(
                    "landlock",
                    text.clone(),
                    text,
                    "landlock_restrict_self(2): fully enforced; then a file system that no rule names was refused",
                    &step.keys(),
                );
            }
            WorkloadStep::Rlimits(limits) => {
                for (kind, wanted) in limits {
                    let held = exit
                        .rlimits
                        .get(kind)
                        .map_or_else(|| "unknown".to_owned(), ToString::to_string);
                    add(
                        &format!("rlimit {kind}"),
                        wanted.to_string(),
                        held,
                        "getrlimit(2) in the job's process",
                        &[format!("rlimits.{kind}")],
                    );
                }
            }
            _ => {}
        }
    }
    const AGAIN: &str = "looked at again by PID 1 after its last step";
    let mut counts = BTreeMap::new();
    for step in &plan.init {
        match step {
            InitStep::Mask(paths) => drop(counts.insert("masked-paths", (paths.len(), AGAIN, step.keys()))),
            InitStep::ReadOnly(paths) => {
                counts.insert("read-only-paths", (paths.len(), AGAIN, step.keys()));
            }
            InitStep::RootReadOnly => drop(counts.insert("root read-only", (1, AGAIN, step.keys()))),
            InitStep::NotDumpable => drop(counts.insert("PID 1 not dumpable", (1, AGAIN, step.keys()))),
            InitStep::SessionKeyring => {
                let how = "keyctl(2) of PID 1 gave a new one";
                counts.insert("session keyring", (1, how, step.keys()));
            }
            InitStep::Mount {
                what: Mounted::Bind { read_only: true, .. },
                ..
            } => {
                let binds = counts.entry("read-only binds").or_insert((0, AGAIN, Vec::new()));
                binds.0 += 1;
                binds.2.extend(step.keys());
            }
            _ => {}
        }
    }
    for (name, (count, how, keys)) in counts {
        add(name, count.to_string(), count.to_string(), how, &keys);
    }
    list
}

/// The key of a control group's file.
fn limit_of(file: &str) -> Vec<String> {
    let key = match file.split('.').next() {
        Some("memory") => "limits.memory",
        Some("pids") => "limits.pids",
        Some("cpu") => "limits.cpus",
        Some("cpuset") => "limits.cpuset",
        Some("io" | "blkio") => "limits.io",
        // Devices are closed in every sandbox.
        _ => return Vec::new(),
    };
    vec![key.to_owned()]
}
