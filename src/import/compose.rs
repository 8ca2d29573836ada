//! A compose file (compose-spec.io): each service is a job.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::docker::{namespace, option, security, tmpfs};
use super::draft::{Draft, Job};
use super::variables::interpolated;
use super::{Imported, Refusal};

/// Keys of a service that a manifest cannot say, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "build",
        "an image is built by another tool; name what it builds as image",
    ),
    ("configs", "bind the file"),
    ("container_name", "the job's name is the service's"),
    ("credential_spec", "it is for Windows"),
    ("depends_on", "jobs are run one by one"),
    ("deploy", "write limits"),
    ("develop", "nothing watches the sources"),
    ("devices", "no device of the host is given to a job"),
    ("dns", "the job's /etc/resolv.conf is ringfence's own"),
    ("env_file", "write its lines under env"),
    ("expose", "it opens nothing"),
    ("extends", "write a profile that both inherit from"),
    ("extra_hosts", "the job's /etc/hosts is ringfence's own"),
    (
        "group_add",
        "the groups are those that the image's /etc/group gives the user",
    ),
    ("healthcheck", "a run ends with the job"),
    ("labels", "nothing reads it"),
    ("links", "name a network that both jobs are on: network.name"),
    ("logging", "the job has the streams of `ringfence run`"),
    ("platform", "an image is chosen for this machine"),
    ("profiles", "jobs are run by name"),
    ("restart", "a run ends with the job"),
    (
        "secrets",
        "bind the file, or declare a variable with `secret = true`",
    ),
    ("stdin_open", "the job has the caller's standard input"),
    ("stop_signal", "it is the image's"),
];

/// Keys of one text that stand for an option of `docker run`.
const OPTIONS: &[(&str, &str)] = &[
    ("cpus", "cpus"),
    ("cpuset", "cpuset-cpus"),
    ("hostname", "hostname"),
    ("init", "init"),
    ("mem_limit", "memory"),
    ("memswap_limit", "memory-swap"),
    ("pids_limit", "pids-limit"),
    ("privileged", "privileged"),
    ("read_only", "read-only"),
    ("shm_size", "shm-size"),
    ("user", "user"),
];

pub(super) fn file(text: &str) -> Result<Imported, Refusal> {
    let whole = super::yaml::value(text)?;
    let services = whole["services"]
        .as_object()
        .filter(|services| !services.is_empty())
        .ok_or_else(|| Refusal("the file has no services".to_owned()))?;
    let mut draft = Draft::default();
    for (name, service) in services {
        let prefix = format!("services.{name}.");
        let mut job = draft.job(name, "standard", &prefix);
        match service.as_object() {
            Some(service) => service_of(&mut job, service),
            None => job.leave_out("", "it is no table"),
        }
        if !job.has("image") {
            job.set(&["image"], name.as_str());
            job.leave_out("image", "it names none; the service's name stands for it");
        }
    }
    for key in whole.as_object().into_iter().flatten().map(|(key, _)| key) {
        let why = match key.as_str() {
            "services" | "version" | "name" => continue,
            key if key.starts_with("x-") => continue,
            "networks" => "a network is there while jobs name it: network.name",
            "volumes" => "bind folders of the host",
            _ => "it is not known here",
        };
        draft.leave_out(key, why);
    }
    Ok(draft.finish())
}

fn service_of(job: &mut Job<'_>, service: &Map<String, Value>) {
    // What is dropped is dropped first.
    let (first, rest): (Vec<_>, Vec<_>) = service.iter().partition(|(key, _)| *key == "cap_drop");
    for (key, value) in first.into_iter().chain(rest) {
        let scalar = scalar(value);
        match key.as_str() {
            key if key.starts_with("x-") => {}
            "image" => match scalar {
                Some(text) => image(job, &text),
                None => job.leave_out(key, "it is no text"),
            },
            "command" | "entrypoint" => {
                let words = words(job, key, value);
                if !words.is_empty() {
                    job.set(&[key], words);
                }
            }
            "working_dir" => text(job, key, &["workdir"], value),
            "environment" => environment(job, value),
            "network_mode" => option(job, "network", &scalar.unwrap_or_default()),
            "networks" => networks(job, value),
            "ports" => each(value, |port| match short_port(port) {
                Some(port) => option(job, "publish", &port),
                None => job.leave_out(
                    "ports",
                    "one port of the host and one inside are published, by number",
                ),
            }),
            "volumes" => each(value, |volume| volume_of(job, volume)),
            "tmpfs" => each_text(value, |one| tmpfs(job, "tmpfs", one)),
            "cap_add" => each_text(value, |one| option(job, "cap-add", one)),
            "cap_drop" => each_text(value, |one| option(job, "cap-drop", one)),
            "security_opt" => each_text(value, |one| security(job, &format!("security_opt {one}"), one)),
            "sysctls" => each_pair(value, |name, value| {
                option(job, "sysctl", &format!("{name}={value}"))
            }),
            "ulimits" => ulimits(job, value),
            "ipc" | "uts" | "pid" => namespace(job, key, key, &scalar.unwrap_or_default()),
            "stop_grace_period" => match scalar {
                Some(period) => job.set(&["limits", "grace"], period),
                None => job.leave_out(key, "it is no time"),
            },
            "tty" if value == &Value::Bool(true) => job.leave_out(key, "write `ringfence run -t`"),
            "tty" => {}
            _ => match (OPTIONS.iter().find(|(other, _)| other == key), scalar) {
                (Some((_, name)), Some(text)) => option(job, name, &text),
                _ => {
                    let why = LEFT_OUT.iter().find(|(other, _)| other == key);
                    job.leave_out(key, why.map_or("it is not known here", |(_, why)| *why));
                }
            },
        }
    }
}

/// An image is the same for everybody: a variable has no place in it.
fn image(job: &mut Job<'_>, text: &str) {
    match text.contains('$') {
        false => job.set(&["image"], text),
        true => {
            let default = text
                .split_once("${")
                .and_then(|(before, rest)| {
                    let (inside, after) = rest.split_once('}')?;
                    let (_, default) = inside.split_once(":-").or_else(|| inside.split_once('-'))?;
                    Some(format!("{before}{default}{after}"))
                })
                .filter(|text| !text.contains('$'));
            job.leave_out(
                "image",
                format!("`{text}` depends on the environment; an image does not here"),
            );
            if let Some(image) = default {
                job.set(&["image"], image);
            }
        }
    }
}

fn text(job: &mut Job<'_>, key: &str, path: &[&str], value: &Value) {
    match scalar(value) {
        Some(text) => {
            let text = interpolated(&text, key, job);
            job.set(path, text);
        }
        None => job.leave_out(key, "it is no text"),
    }
}

/// A list of words, or one text that a shell would take apart.
fn words(job: &mut Job<'_>, key: &str, value: &Value) -> Vec<toml::Value> {
    let words: Vec<String> = match value {
        Value::Array(items) => items.iter().filter_map(scalar).collect(),
        Value::String(line) => match super::words::split(line) {
            Some(words) => words,
            None => {
                job.leave_out(key, "it has a quote that nothing ends");
                Vec::new()
            }
        },
        _ => Vec::new(),
    };
    words
        .iter()
        .map(|word| interpolated(word, key, job).into())
        .collect()
}

fn environment(job: &mut Job<'_>, value: &Value) {
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    match value {
        Value::Object(entries) => {
            pairs.extend(entries.iter().map(|(name, value)| (name.clone(), scalar(value))));
        }
        Value::Array(items) => pairs.extend(items.iter().filter_map(Value::as_str).map(|line| {
            line.split_once('=')
                .map_or((line.to_owned(), None), |(name, value)| {
                    (name.to_owned(), Some(value.to_owned()))
                })
        })),
        _ => {}
    }
    for (name, value) in pairs {
        match value {
            Some(value) => {
                let value = interpolated(&value, &format!("environment.{name}"), job);
                job.set(&["env", &name], value);
            }
            None => option(job, "env", &name),
        }
    }
}

fn networks(job: &mut Job<'_>, value: &Value) {
    let mut names: Vec<&str> = match value {
        Value::Object(entries) => entries.keys().map(String::as_str).collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    names.retain(|name| *name != "default");
    match names.as_slice() {
        [] => {}
        [name] => option(job, "network", name),
        [name, more @ ..] => {
            option(job, "network", name);
            job.leave_out(
                "networks",
                format!("a job is on one network; not on {}", more.join(", ")),
            );
        }
    }
}

fn short_port(port: &Value) -> Option<String> {
    if let Value::Object(port) = port {
        let (target, published) = (scalar(port.get("target")?)?, scalar(port.get("published")?)?);
        let address = port
            .get("host_ip")
            .and_then(scalar)
            .map(|ip| ip + ":")
            .unwrap_or_default();
        let protocol = port
            .get("protocol")
            .and_then(scalar)
            .unwrap_or_else(|| "tcp".to_owned());
        return Some(format!("{address}{published}:{target}/{protocol}"));
    }
    scalar(port)
}

fn volume_of(job: &mut Job<'_>, volume: &Value) {
    match volume {
        Value::String(text) => {
            let text = interpolated(text, "volumes", job);
            // The text is a template already; only its parts matter to the short form.
            match text.split_once(':') {
                Some((source, rest)) if source.starts_with(['/', '.', '~', '$']) => {
                    let (target, options) = rest.split_once(':').unwrap_or((rest, ""));
                    let read_only = options.split(',').any(|one| one == "ro");
                    match source.strip_prefix("~/") {
                        Some(below) => {
                            job.variable("HOME", None);
                            job.bind(target, &format!("${{HOME}}/{below}"), read_only);
                        }
                        None => job.bind(target, source, read_only),
                    }
                }
                _ => option(job, "volume", &text),
            }
        }
        Value::Object(entries) => {
            let mut parts = BTreeMap::new();
            for (key, value) in entries {
                match (key.as_str(), value) {
                    ("tmpfs", Value::Object(inner)) => {
                        let size = inner.get("size").and_then(scalar);
                        parts.extend(size.map(|size| ("size".to_owned(), size)));
                    }
                    (_, value) => {
                        if let Some(text) = scalar(value) {
                            parts.insert(key.clone(), interpolated(&text, "volumes", job));
                        }
                    }
                }
            }
            job.mount("volumes", &parts);
        }
        _ => job.leave_out("volumes", "one of them is no text"),
    }
}

fn ulimits(job: &mut Job<'_>, value: &Value) {
    let Value::Object(limits) = value else { return };
    for (name, limit) in limits {
        let text = match limit {
            Value::Object(both) => {
                let side = |key: &str| both.get(key).and_then(scalar).unwrap_or_default();
                format!("{}:{}", side("soft"), side("hard"))
            }
            one => scalar(one).unwrap_or_default(),
        };
        super::docker::ulimit(job, &format!("ulimits.{name}"), &format!("{name}={text}"));
    }
}

fn each(value: &Value, mut act: impl FnMut(&Value)) {
    match value {
        Value::Array(items) => items.iter().for_each(act),
        one => act(one),
    }
}

fn each_text(value: &Value, mut act: impl FnMut(&str)) {
    each(value, |one| {
        if let Some(text) = scalar(one) {
            act(&text);
        }
    });
}

/// `{ name: value }` or `["name=value"]`.
fn each_pair(value: &Value, mut act: impl FnMut(&str, &str)) {
    match value {
        Value::Object(entries) => entries.iter().for_each(|(name, value)| {
            act(name, &scalar(value).unwrap_or_default());
        }),
        list => each_text(list, |line| {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            act(name, value);
        }),
    }
}

/// A text, number or truth value as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
