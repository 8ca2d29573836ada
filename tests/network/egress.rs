//! What a job reaches whose manifest lists it, with a real DNS server.

use std::fs;

use serde_json::json;

use crate::each;
use crate::names::{tries, without_dnsmasq, world};
use crate::support::{Caller, skip};
use crate::world::{HOST, HOST_V6, output, serve};

const ALL: [Caller; 3] = [Caller::Root, Caller::User, Caller::UserWithIds];

#[test]
fn what_is_listed_is_reached_and_everything_else_refused_at_once() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, names) = world(&[]);
    let test = tries(
        "try index.example.org 80; try index.example.org 8000; try alias.example.org 8000\n\
         try secret.tunnel.example.net 80; try 203.0.113.10 80; try 203.0.113.10 8000",
    )
    .with("network.allow.\"index.example.org\" = { ports = [80], protocol = \"tcp\" }")
    .with("network.allow.\"*.example.org\" = { ports = [8000] }")
    .with("network.allow.\"203.0.113.10\" = { ports = [8000] }")
    .report();
    each(&ALL, &test, |ran| {
        assert_eq!(
            ran.stdout,
            "index.example.org 80 0\nindex.example.org 8000 0\nalias.example.org 8000 0\n\
             secret.tunnel.example.net 80 1\n203.0.113.10 80 1\n203.0.113.10 8000 0\n",
            "{}",
            ran.stderr
        );
        let connections = ran.value("/network/connections").as_array().unwrap();
        let tried = |connection: serde_json::Value| {
            let same = |one: &&serde_json::Value| {
                let keys = connection.as_object().unwrap().iter();
                keys.clone().all(|(key, value)| one[key] == *value)
            };
            assert!(
                connections.iter().any(|one| same(&one)),
                "{connection} in {connections:#?}"
            );
        };
        tried(json!({ "name": "secret.tunnel.example.net", "verdict": "refused" }));
        tried(
            json!({ "address": "203.0.113.10", "port": 80, "protocol": "tcp", "verdict": "refused", "count": 1 }),
        );
        tried(json!({ "address": "203.0.113.10", "port": 8000, "verdict": "allowed", "count": 1 }));
        tried(json!({ "name": "index.example.org", "port": 80, "verdict": "allowed", "count": 1 }));
        assert_eq!(*ran.value("/network/mode"), json!("bridge"));
        assert_eq!(*ran.value("/network/more"), json!(false));
    });
    let log = names.log();
    assert!(
        log.contains("index.example.org") && !log.contains("tunnel"),
        "{log}"
    );
    world.settle("jobs that ended");
}

#[test]
fn names_lead_to_nothing_private_unless_it_is_listed() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&[]);
    serve(80);
    let places = "try private.example.org 80; try metadata.example.org 80; try host.example.org 80";
    let closed = tries(places)
        .with("network.allow.\"*.example.org\" = {}")
        .report();
    each(&ALL, &closed, |ran| {
        assert_eq!(
            ran.stdout, "private.example.org 80 1\nmetadata.example.org 80 1\nhost.example.org 80 1\n",
            "{}",
            ran.stderr
        );
        let connections = ran.value("/network/connections").as_array().unwrap();
        let led = |name: &str, address: &str| {
            let found = connections.iter().find(|one| one["name"] == name).unwrap();
            assert_eq!(
                (&found["address"], &found["verdict"]),
                (&json!(address), &json!("refused"))
            );
        };
        led("private.example.org", "10.0.0.7");
        led("metadata.example.org", "169.254.169.254");
        led("host.example.org", HOST);
    });
    let listed = tries(places)
        .with("network.allow.\"*.example.org\" = {}")
        .with("network.allow.\"10.0.0.0/8\" = { ports = [80] }");
    each(&ALL, &listed, |ran| {
        assert!(
            ran.stdout
                .starts_with("private.example.org 80 0\nmetadata.example.org 80 1\n"),
            "{}",
            ran.stdout
        );
    });
    world.settle("jobs that ended");
}

#[test]
fn what_is_closed_to_every_job_is_open_to_one_that_lists_it() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&[]);
    serve(80);
    serve(8000);
    let places: Vec<String> = ["169.254.169.254", HOST, HOST_V6]
        .into_iter()
        .flat_map(|host| [80, 8000].map(|port| format!("{host} {port}")))
        .collect();
    let script: String = places.iter().map(|place| format!("try {place}; ")).collect();
    let said = |reached: &dyn Fn(&str) -> bool| -> String {
        let line = |place: &String| format!("{place} {}\n", i32::from(!reached(place)));
        places.iter().map(line).collect()
    };
    let listed = tries(&script)
        .with("network.allow.\"169.254.169.254\" = { ports = [80] }")
        .with(&format!(
            "network.allow.\"{HOST}\" = {{ ports = [80], protocol = \"tcp\" }}"
        ))
        .with(&format!("network.allow.\"{HOST_V6}\" = {{}}"));
    each(&ALL, &listed, |ran| {
        let wanted = said(&|place| place.ends_with(" 80") || place.starts_with(HOST_V6));
        assert_eq!(ran.stdout, wanted, "{:?}: {}", ran.caller, ran.stderr);
    });
    let all = tries(&script)
        .with("network.allow.\"0.0.0.0/0\" = {}")
        .with("network.allow.\"::/0\" = {}");
    each(&ALL, &all, |ran| {
        assert_eq!(ran.stdout, said(&|_| false), "{:?}: {}", ran.caller, ran.stderr);
    });
    world.settle("jobs that ended");
}

#[test]
fn rules_that_the_host_loses_open_nothing() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&[]);
    serve(80);
    let script = format!(
        "touch /out/ready; until [ -e /out/go ]; do sleep 0.05; done; try {HOST} 80; try 203.0.113.10 80"
    );
    let mut live = tries(&script)
        .with("network.allow.\"index.example.org\" = {}")
        .with("mounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder| fs::create_dir(folder.join("out")).unwrap())
        .start(Caller::Root)
        .unwrap();
    live.wait_for_file("out/ready");
    output("nft", &["flush", "ruleset"]);
    fs::write(live.folder().join("out/go"), "").unwrap();
    let (ran, room) = live.end_of_all();
    assert_eq!(
        ran.stdout,
        format!("{HOST} 80 1\n203.0.113.10 80 1\n"),
        "{}",
        ran.stderr
    );
    drop(room);
    world.settle("a job whose host was flushed");
}
