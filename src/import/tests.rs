//! Lines and files of other tools, and the manifests that they become. Every one of those is right.

use super::*;
use crate::profile;

/// The manifest and what is left out; the manifest has no mistake.
fn sheet(imported: &Imported) -> String {
    let problems = profile::check(&imported.manifest);
    let errors = problems.filter(crate::problem::Problems::has_errors);
    assert_eq!(
        errors.map(|found| found.render("x", &imported.manifest, false)),
        None,
        "{}",
        imported.manifest
    );
    let left: String = imported.left_out.iter().map(|one| format!("{one}\n")).collect();
    format!("{}\n--- left out\n{left}", imported.manifest)
}

fn words(line: &str) -> Vec<String> {
    super::words::split(line).expect("a line")
}

#[test]
fn a_docker_line_with_everything() {
    let line = r#"docker run --rm -it --name web-1 -e CI=1 -e TOKEN --env='PRICE=5$' -v /home/me/src:/src:ro -v cache:/cache
        --mount type=bind,source=/data,target=/data,readonly --tmpfs /run:size=16m,exec --tmpfs /scratch -w /src -u 1000:1000
        -h web.example --network none -m 512m --memory-swap 512m --cpus=1.5 --cpuset-cpus 0-1 --pids-limit 100
        --ulimit nofile=1024:2048 --ulimit core=0 --shm-size 128m --sysctl net.core.somaxconn=1024 --init --read-only
        --cap-drop ALL --cap-add NET_BIND_SERVICE --security-opt no-new-privileges --gpus all --restart=always
        --entrypoint /bin/sh --stop-timeout 5 --device-read-bps /dev/sda:1mb --ipc host --privileged
        python:3.12-slim -c 'echo $HOME'"#;
    insta::assert_snapshot!(sheet(&docker(&words(line)).expect("a line")));
}

#[test]
fn short_docker_lines() {
    let short = |line: &str| docker(&words(line)).map(|imported| sheet(&imported));
    insta::assert_snapshot!(short("run busybox").expect("a line"), @r#"
    schema = 1

    [job.main]
    image = "busybox"
    profile = "standard"

    --- left out
    "#);
    insta::assert_snapshot!(short("docker run -d -p 8080:80 -p 127.0.0.1:53:53/udp nginx").expect("a line"), @r#"
    schema = 1

    [job.main]
    image = "nginx"
    profile = "standard"

    [job.main.network]
    mode = "bridge"

    [job.main.network.publish."0.0.0.0:8080"]
    to = 80

    [job.main.network.publish."127.0.0.1:53"]
    protocol = "udp"
    to = 53

    --- left out
    --detach: a run is in the foreground
    "#);
    for (line, why) in [
        ("docker run", "the line names no image"),
        ("docker run --cpus", "--cpus has no value"),
        (
            "docker run --frobnicate x y",
            "--frobnicate is not known, nor whether the next word is its value; leave it out, or write --frobnicate=VALUE",
        ),
        ("docker run -z x", "-z is not known"),
    ] {
        assert_eq!(short(line), Err(Refusal(why.to_owned())), "{line}");
    }
}

#[test]
fn a_compose_file_with_everything() {
    let text = r#"
version: "3.9"
x-common: &common
  restart: always
  environment:
    LEVEL: info
services:
  web:
    <<: *common
    image: nginx:1.27
    command: nginx -g 'daemon off;'
    ports: ["8080:80", { target: 443, published: 8443, host_ip: 127.0.0.1 }]
    volumes:
      - ./site:/usr/share/nginx/html:ro
      - data:/data
      - { type: tmpfs, target: /cache, tmpfs: { size: 67108864 } }
      - { type: bind, source: "${CONF:-./conf}", target: /etc/nginx/conf.d, read_only: true }
    networks: [front, back]
    depends_on: [db]
    mem_limit: 256m
    cpus: 0.5
    ulimits: { nofile: { soft: 100, hard: 200 }, nproc: 64 }
    tmpfs: /run
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    healthcheck: { test: ["CMD", "true"] }
  db:
    image: postgres:${PG_VERSION:-16}
    environment:
      - POSTGRES_PASSWORD=${PASSWORD:?}
      - PGDATA
      - COST=5$$
    user: "999"
    read_only: true
    network_mode: none
    stop_grace_period: 30s
  built:
    build: .
    entrypoint: ["/entry", "$WHO"]
volumes:
  data: {}
networks:
  front: {}
"#;
    insta::assert_snapshot!(sheet(&compose(text).expect("a file")));
}

#[test]
fn what_is_no_compose_file_is_refused() {
    let why = |text: &str| compose(text).expect_err("no file").to_string();
    assert_eq!(why("a: 1"), "the file has no services");
    assert_eq!(why("services: {}"), "the file has no services");
    assert!(why("a: [").starts_with("it is no YAML: "), "{}", why("a: ["));
    // Ten levels of ten aliases each.
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{},", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    assert!(why(&bomb).starts_with("it is no YAML: "), "{}", why(&bomb));
}

#[test]
fn a_devcontainer_with_everything() {
    let text = r#"{
    // Comments and trailing commas are allowed here.
    "name": "Rust & friends",
    "image": "mcr.microsoft.com/devcontainers/rust:1",
    "workspaceFolder": "/workspaces/app",
    "workspaceMount": "source=${localWorkspaceFolder},target=/workspaces/app,type=bind",
    "remoteUser": "vscode",
    "containerUser": "root",
    "containerEnv": { "HOME_OF": "${localEnv:HOME}", "WHERE": "${containerWorkspaceFolder}/x", "PRICE": "5$" },
    "remoteEnv": { "UNSET": null },
    "mounts": [
        "source=${localWorkspaceFolder}/.cargo,target=/cargo,type=bind",
        { "source": "cache", "target": "/cache", "type": "volume" },
    ],
    "runArgs": ["--cpus=2", "--cap-add", "NET_RAW", "--gpus", "all"],
    "init": true,
    "features": { "ghcr.io/devcontainers/features/node:1": {} },
    "forwardPorts": [3000],
    "postCreateCommand": "cargo build",
    "customizations": { "vscode": {} },
}"#;
    insta::assert_snapshot!(sheet(&devcontainer(text).expect("a file")));
    let why = |text: &str| devcontainer(text).expect_err("no file").to_string();
    assert_eq!(
        why("{ \"build\": { \"dockerfile\": \"Dockerfile\" } }"),
        "it names no image; build it with another tool, and write `\"image\": \"NAME\"`"
    );
    assert!(
        why("{ image }").starts_with("it is no JSON with comments: "),
        "{}",
        why("{ image }")
    );
}
