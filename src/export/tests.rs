//! What each engine is given for one job that uses everything, and what is said to be lost.

use super::*;
use crate::host::facts::Facts;
use crate::plan::{Image, Plan, Request, plan};
use crate::seccomp::Arch;
use crate::{manifest, profile};

const ROOT: &str = include_str!("../../tests/hosts/root-v1.toml");
const USER: &str = include_str!("../../tests/hosts/rootless-v2.toml");
const PYTHON: &str = include_str!("../../tests/images/python.toml");

const EVERYTHING: &str = r#"
schema = 1
[variables]
TOKEN = { env = "TOKEN", secret = true }
PLACE = { env = "PLACE", default = "here" }
[job.Full_Test]
image = "python"
command = ["python3", "-c", "print('it is $$HOME', \"$$(x)\")", "${PLACE}"]
workdir = "/src"
user = "1000:1000"
env = { PLACE = "${PLACE}", TOKEN = "${TOKEN}", LANG = false }
hostname = "full.example"
[job.Full_Test.limits]
memory = "512MiB"
pids = 64
cpus = 1.5
cpuset = "0-1"
wall = "90500ms"
grace = "5s"
cpu-time = "30s"
output = "1MiB"
disk = "64MiB"
[job.Full_Test.limits.io."/dev/vda"]
read = "10MiB"
write-ops = 100
[job.Full_Test.rlimits]
nofile = { soft = 100, hard = 200 }
stack = "8MiB"
[job.Full_Test.mounts]
"/src" = { bind = ".", access = "ro" }
"/out" = { bind = "out", access = "rw" }
"/cache" = { bind = "/var/cache/it", access = "copy" }
"/maybe" = { bind = "maybe", optional = true }
"/scratch" = { tmpfs = "8MiB", exec = false }
[job.Full_Test.security]
capabilities = ["NET_RAW"]
"#;

/// A job that bundles express as a whole.
const PLAIN: &str = r#"
schema = 1
[job.plain]
image = "host"
command = ["/bin/true"]
init = false
namespaces.time = false
limits.wall = false
security.landlock = false
[job.plain.sysctls]
"user.max_user_namespaces" = false
"user.max_inotify_instances" = false
"user.max_inotify_watches" = false
"#;

fn planned(text: &str, host: &str) -> (profile::Job, Plan) {
    let manifest = manifest::parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    let name = manifest.jobs().next().expect("a job").to_owned();
    let job = profile::resolve(&manifest, &name).unwrap_or_else(|problems| panic!("{problems}"));
    let image: Image = match text.contains("image = \"host\"") {
        true => Image::host(),
        false => toml::from_str(PYTHON).expect("an image"),
    };
    let facts = Facts::from_toml(host).expect("a host");
    let plan =
        plan(&job, &facts, &image, &Request::default()).unwrap_or_else(|problems| panic!("{problems}"));
    (job, plan)
}

fn exported(target: Target, text: &str, host: &str, rootfs: Rootfs) -> Result<Exported, Refusal> {
    let (job, plan) = planned(text, host);
    let values = Values {
        manifest_dir: "/home/me/project",
        variable: &|name| (name == "PLACE").then(|| "here".to_owned()),
        secret: &|name| name == "TOKEN",
        caller: (1001, 1002),
        base: 2_000_000_000,
        arch: Arch::X86_64,
        unset: job.unset.keys().cloned().collect(),
        rootfs,
    };
    let sandbox = Sandbox::of(&plan, &values)?;
    export(target, &sandbox, true)
}

/// The text and the losses, without the long lists of seccomp.
fn sheet(exported: &Exported) -> String {
    let losses: String = exported.losses.iter().map(|loss| format!("{loss}\n")).collect();
    let text: Vec<&str> = exported
        .text
        .lines()
        .map(|line| match line.find(" < <(printf '\\") {
            Some(_) => "    (a compiled filter)",
            None if line.contains("< <(printf '\\") => "    (a compiled filter) \\",
            None => line,
        })
        .collect();
    let mut text = text.join("\n");
    if let Ok(mut config) = serde_json::from_str::<serde_json::Value>(&exported.text) {
        let calls = config["linux"]["seccomp"]["syscalls"]
            .as_array()
            .map_or(0, Vec::len);
        config["linux"]["seccomp"] = format!("({calls} rules)").into();
        text = format!("{config:#}");
    }
    format!("{text}\n\n--- not expressed\n{losses}")
}

#[test]
fn every_engine_is_given_what_it_can_hold() {
    let folder = || Rootfs::Folder("/store/rootfs".to_owned());
    for target in [
        Target::OciBundle,
        Target::Docker,
        Target::Compose,
        Target::Kubernetes,
        Target::Bwrap,
        Target::Nsjail,
    ] {
        let name = target.name();
        let exported = exported(target, EVERYTHING, ROOT, folder());
        let exported = exported.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert!(
            !exported.text.contains("TOKEN"),
            "{name}: a secret's name is all that could leak"
        );
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../../tests/exports" }, {
            insta::assert_snapshot!(name, sheet(&exported));
        });
    }
}

/// A network with everything that one can have.
const NETWORK: &str = r#"
schema = 1
[job.web]
image = "python"
command = ["python3", "-m", "http.server"]
[job.web.network]
mode = "bridge"
name = "app"
allow."index.example.org" = { ports = [443] }
allow."10.1.0.0/16" = { ports = [53, 5432], protocol = "tcp" }
allow."2001:db8::7" = {}
publish."127.0.0.1:8080" = { to = 80 }
publish."[::1]:9000-9001" = { to = 90, protocol = "udp" }
publish."0.0.0.0:0" = { to = 7 }
"#;

/// What an engine is told of a network, and what is lost of it.
fn network(target: Target, text: &str) -> String {
    let exported = exported(target, text, ROOT, Rootfs::Folder("/store/rootfs".to_owned()));
    let exported = exported.unwrap_or_else(|refusal| panic!("{refusal}"));
    let told = match target {
        Target::Docker => {
            let of_network = |line: &&str| line.contains("--network") || line.contains("--publish");
            exported
                .text
                .lines()
                .filter(of_network)
                .collect::<Vec<_>>()
                .join("\n")
        }
        Target::Compose | Target::Kubernetes => {
            let documents = exported.text.split("---\n").map(|text| {
                let mut whole: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
                match whole["kind"].as_str() {
                    Some("Job") => whole["spec"]["template"]["spec"]["containers"][0]["ports"].take(),
                    Some(_) => whole["spec"].take(),
                    None => {
                        let service = &whole["services"]["web"];
                        serde_json::json!([
                            service["networks"],
                            service["network_mode"],
                            service["ports"],
                            whole["networks"]
                        ])
                    }
                }
                .to_string()
            });
            documents.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    let losses = exported.losses.iter().map(ToString::to_string);
    let losses: Vec<String> = losses.filter(|loss| loss.starts_with("network")).collect();
    format!("{}: {told}\n{}\n", target.name(), losses.join("\n"))
}

#[test]
fn a_network_is_told_as_far_as_an_engine_has_words() {
    let targets = [Target::Docker, Target::Compose, Target::Kubernetes, Target::Bwrap];
    let told: Vec<String> = targets.map(|target| network(target, NETWORK)).into();
    let open = NETWORK
        .lines()
        .filter(|line| !line.starts_with("allow") && !line.starts_with("name"));
    let open = open
        .filter(|line| !line.starts_with("publish"))
        .collect::<Vec<_>>()
        .join("\n");
    let targets = [Target::Docker, Target::Compose, Target::Kubernetes];
    let bare: Vec<String> = targets.map(|target| network(target, &open)).into();
    let told = format!(
        "{}\n--- without names, lists and ports\n{}",
        told.join("\n"),
        bare.join("\n")
    );
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "../../tests/exports" }, {
        insta::assert_snapshot!("network", told);
    });
}

#[test]
fn an_ordinary_users_bundle_maps_the_caller() {
    let exported = exported(Target::OciBundle, PLAIN, USER, Rootfs::Empty).expect("a bundle");
    let config: serde_json::Value = serde_json::from_str(&exported.text).expect("JSON");
    assert_eq!(
        config["linux"]["uidMappings"],
        serde_json::json!([{ "containerID": 65532, "hostID": 1001, "size": 1 }])
    );
    assert_eq!(config["linux"]["gidMappings"][0]["hostID"], 1002);
}

#[test]
fn a_job_without_what_is_ours_alone_loses_nothing_in_a_bundle() {
    let exported = exported(Target::OciBundle, PLAIN, ROOT, Rootfs::Empty).expect("a bundle");
    assert_eq!(exported.losses, []);
}

#[test]
fn an_image_without_a_name_is_refused_where_one_is_needed() {
    for target in [Target::Docker, Target::Compose, Target::Kubernetes] {
        let refused = exported(target, PLAIN, ROOT, Rootfs::Empty).expect_err("no name");
        assert_eq!(
            refused.to_string(),
            format!(
                "image host has no name in a registry, which {} needs; push it to one, or export an oci-bundle",
                target.name()
            )
        );
    }
    for target in [Target::Bwrap, Target::Nsjail] {
        let refused = exported(target, EVERYTHING, ROOT, Rootfs::Layers).expect_err("two layers");
        assert!(refused.to_string().contains("has several layers"), "{refused}");
    }
}
