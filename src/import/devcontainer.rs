//! A devcontainer.json (containers.dev): a job that opens a shell in that environment.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::docker::{option, run_args};
use super::draft::{Draft, Job};
use super::{Imported, Refusal};

/// Keys that a manifest cannot say, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("appPort", "publish ports one by one: network.publish"),
    (
        "build",
        "an image is built by another tool; name what it builds as image",
    ),
    ("customizations", "it is for editors"),
    ("dockerComposeFile", "import the compose file"),
    (
        "dockerFile",
        "an image is built by another tool; name what it builds as image",
    ),
    ("features", "an image holds all that the job needs"),
    ("forwardPorts", "publish ports one by one: network.publish"),
    ("hostRequirements", "nothing reads it"),
    ("initializeCommand", "run it before the job"),
    ("onCreateCommand", "write a job for it"),
    ("otherPortsAttributes", "it is for editors"),
    ("portsAttributes", "it is for editors"),
    ("postAttachCommand", "write a job for it"),
    ("postCreateCommand", "write a job for it"),
    ("postStartCommand", "write a job for it"),
    ("secrets", "declare variables with `secret = true`"),
    ("service", "import the compose file"),
    ("updateContentCommand", "write a job for it"),
    (
        "updateRemoteUserUID",
        "a bind's files are the job's user's anyway",
    ),
    ("userEnvProbe", "it is for editors"),
];

/// Keys that change nothing here.
const NOTHING: &[&str] = &[
    "$schema",
    "overrideCommand",
    "runServices",
    "shutdownAction",
    "waitFor",
    "workspaceFolder",
];

pub(super) fn file(text: &str) -> Result<Imported, Refusal> {
    let options = jsonc_parser::ParseOptions::default();
    let whole = jsonc_parser::parse_to_serde_value::<Value>(text, &options)
        .map_err(|error| Refusal(format!("it is no JSON with comments: {error}")))?;
    let Value::Object(whole) = whole else {
        return Err(Refusal("it is no table".to_owned()));
    };
    let Some(image) = whole.get("image").and_then(Value::as_str) else {
        return Err(Refusal(
            "it names no image; build it with another tool, and write `\"image\": \"NAME\"`".to_owned(),
        ));
    };
    let name = whole.get("name").and_then(Value::as_str).unwrap_or("dev");
    let workspace = workspace(&whole);
    let mut draft = Draft::default();
    let mut job = draft.job(name, "dev", "");
    job.set(&["image"], image.replace('$', "$$"));
    job.set(&["command"], vec![toml::Value::from("/bin/sh")]);
    job.set(&["workdir"], workspace.as_str());
    for (key, value) in &whole {
        field(&mut job, key, value, &workspace)?;
    }
    Ok(draft.finish())
}

/// Where the project's folder is inside: what the file says, else as the specification has it.
fn workspace(whole: &Map<String, Value>) -> String {
    let folder = whole.get("workspaceFolder").and_then(Value::as_str);
    let folder = folder.filter(|folder| folder.starts_with('/') && !folder.contains('$'));
    folder.unwrap_or("/workspace").trim_end_matches('/').to_owned()
}

fn field(job: &mut Job<'_>, key: &str, value: &Value, workspace: &str) -> Result<(), Refusal> {
    let texts = || -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    match (key, value) {
        ("image" | "name", _) => {}
        ("containerEnv" | "remoteEnv", Value::Object(entries)) => {
            for (name, value) in entries {
                match value.as_str() {
                    Some(text) => {
                        let text = substituted(job, text, &format!("{key}.{name}"), workspace);
                        job.set(&["env", name], text);
                    }
                    None => job.set(&["env", name], false),
                }
            }
        }
        ("remoteUser", Value::String(user)) => job.set(&["user"], user.as_str()),
        // The one who works is remoteUser, where both are written.
        ("containerUser", Value::String(user)) => {
            if !job.has("user") {
                job.set(&["user"], user.as_str());
            }
        }
        ("mounts", Value::Array(mounts)) => {
            for mount in mounts {
                let parts = mount_parts(job, mount, workspace);
                job.mount("mounts", &parts);
            }
        }
        ("workspaceMount", _) => job.leave_out(
            key,
            format!("the manifest's folder is mounted at {workspace}, as the profile dev has it"),
        ),
        ("runArgs", Value::Array(_)) => {
            let words: Vec<String> = texts();
            run_args(job, &words)?;
        }
        ("capAdd", Value::Array(_)) => texts().iter().for_each(|one| option(job, "cap-add", one)),
        ("securityOpt", Value::Array(_)) => {
            texts().iter().for_each(|one| option(job, "security-opt", one));
        }
        ("privileged", Value::Bool(flag)) => option(job, "privileged", &flag.to_string()),
        ("init", Value::Bool(flag)) => job.set(&["init"], *flag),
        _ if NOTHING.contains(&key) => {}
        _ => {
            let why = LEFT_OUT.iter().find(|(other, _)| *other == key);
            job.leave_out(key, why.map_or("it is not known here", |(_, why)| why));
        }
    }
    Ok(())
}

/// A mount as a table or as Docker's `--mount` writes it.
fn mount_parts(job: &mut Job<'_>, mount: &Value, workspace: &str) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    match mount {
        Value::String(text) => {
            for part in text.split(',') {
                let (key, value) = part.split_once('=').unwrap_or((part, "true"));
                let value = substituted(job, value, "mounts", workspace);
                parts.insert(key.to_owned(), value);
            }
        }
        Value::Object(entries) => {
            for (key, value) in entries {
                if let Some(text) = value.as_str() {
                    let text = substituted(job, text, "mounts", workspace);
                    parts.insert(key.clone(), text);
                }
            }
        }
        _ => {}
    }
    parts
}

/// A text with the specification's variables (containers.dev, "Variables in devcontainer.json") as a manifest's.
fn substituted(job: &mut Job<'_>, text: &str, what: &str, workspace: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out += &before.replace('$', "$$");
        let Some((inside, behind)) = after.split_once('}') else {
            return out + "$${" + &after.replace('$', "$$");
        };
        rest = behind;
        let mut parts = inside.splitn(3, ':');
        match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
            ("localWorkspaceFolder", None, _) => out += "${manifest-dir}",
            ("containerWorkspaceFolder", None, _) => out += workspace,
            ("containerWorkspaceFolderBasename", None, _) => {
                out += workspace.rsplit('/').next().unwrap_or_default();
            }
            ("localEnv" | "env", Some(name), default) => {
                job.variable(name, Some(default.unwrap_or_default()));
                out += &format!("${{{name}}}");
            }
            _ => job.leave_out(what, format!("`${{{inside}}}` has no counterpart")),
        }
    }
    out + &rest.replace('$', "$$")
}
