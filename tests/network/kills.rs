//! Launchers that are killed at each call by which they make a network: what they leave, the next command removes.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::{missing, waiting};
use nix::sys::signal::Signal;

use crate::support::{Caller, Ran, Test, skip};
use crate::world::{HOST, World, left, output};

/// What a launcher makes a network by: requests to the kernel's tables, files, locks, and processes that it starts.
const CALLS: [&str; 7] = [
    "sendto",
    "write",
    "flock",
    "openat",
    "ftruncate",
    "clone",
    "vfork",
];

/// More than there are of any of them in the network's steps; the loop ends at the first that is not reached.
const MOST: u32 = 400;

/// The launcher meets this at the `nth` of these calls (strace(1), "Tampering").
fn tampered(test: &Test, call: &str, nth: u32, what: &str) -> Test {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:{what}:when={nth}");
    test.clone()
        .wrapped(&["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
}

/// Calls that are refused one after the other: nobody need run another command after it, and no child outlives its launcher.
#[test]
fn a_network_that_cannot_be_made_leaves_nothing() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let test = Test::sh("true")
        .with("network.mode = \"bridge\"")
        .with("network.publish.\"127.0.0.1:8080\".to = 80");
    let calls = ["sendto", "socketpair", "clone"];
    for (caller, call) in [Caller::Root, Caller::User]
        .into_iter()
        .flat_map(|caller| calls.map(|call| (caller, call)))
    {
        let mut refused = 0;
        for nth in 1..MOST {
            let live = tampered(&test, call, nth, "error=ENOMEM").start(caller).unwrap();
            let (ran, _) = live.end_of_all();
            world.settle(&format!(
                "the refusal of {call} {nth} as {caller:?}: {}",
                ran.stderr
            ));
            if ran.status == 0 {
                break;
            }
            assert_eq!(ran.status, 125, "{caller:?}, {call} {nth}: {}", ran.stderr);
            refused += 1;
        }
        assert!(refused > 0, "{caller:?}, {call}");
    }
}

/// What a job lists of what is closed to every job is open to its address, which another may have after it.
#[test]
fn what_a_killed_job_listed_is_closed_by_the_next_command() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    // The bridge and its rules stay for this one.
    let mut other = waiting("").start(Caller::Root).unwrap();
    other.wait_for_file("out/runs");
    let run = other.folder().join("run").display().to_string();
    let listed = waiting("")
        .with(&format!("network.allow.\"{HOST}\" = {{ ports = [80] }}"))
        .env("RINGFENCE_RUN", &run);
    let open = || {
        output("nft", &["list", "ruleset"])
            .matches(&format!(" . {HOST} . "))
            .count()
    };
    for flushed in [false, true] {
        let mut live = listed.start(Caller::Root).unwrap();
        live.wait_for_file("out/runs");
        assert_eq!(open(), 2, "{}", output("nft", &["list", "ruleset"]));
        live.signal(Signal::SIGKILL);
        let (ran, room) = live.end_of_all();
        assert_eq!(open(), 2, "a launcher that is killed closes nothing");
        if flushed {
            output("nft", &["flush", "ruleset"]);
        }
        let said = next(&ran, &run);
        assert_eq!((open(), said.as_str()), (0, ""));
        drop(room);
    }
    fs::write(other.folder().join("out/go"), "").unwrap();
    let (ran, _) = other.end_of_all();
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    world.settle("jobs that ended");
}

/// Any command with this run state, here one that makes nothing itself; what it says.
#[track_caller]
fn next(ran: &Ran, run: &str) -> String {
    let next = Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .args(["check", "-f"])
        .arg(ran.folder.join("ringfence.toml"))
        .env("RINGFENCE_RUN", run)
        .env("RINGFENCE_CONFIG", ran.folder.join("config.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&next.stderr).into_owned();
    assert!(next.status.success(), "{said}");
    said
}

#[test]
fn a_launcher_killed_at_any_call_leaves_nothing_after_the_next_command() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let test = Test::sh("true").with("network.mode = \"bridge\"");
    let mut table: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for call in CALLS {
        for nth in (1..MOST).step_by(if call == "openat" { 7 } else { 1 }) {
            let live = tampered(&test, call, nth, "signal=KILL")
                .start(Caller::Root)
                .unwrap();
            let (ran, room) = live.end_of_all();
            if ran.status == 0 {
                break;
            }
            let found = left();
            let run = ran.folder.join("run").display().to_string();
            let said = next(&ran, &run);
            assert_eq!(left(), None, "after {call} {nth}: {said}");
            assert_eq!(
                output("sysctl", &["-n", "net.ipv6.conf.all.forwarding"]).trim(),
                "0",
                "{call} {nth}"
            );
            drop(room);
            let row = table.entry(call).or_default();
            row.0 += 1;
            row.1 += u32::from(found.is_some());
        }
    }
    eprintln!("call        killed  with something left  left after the next command");
    for (call, (killed, with)) in &table {
        eprintln!("{call:<12}{killed:>6}{with:>21}{:>29}", 0);
    }
    // The table means something: kills did hit between what is made and what is removed.
    assert!(table.values().any(|(_, with)| *with > 0), "{table:?}");
    world.settle("all of them");
}
