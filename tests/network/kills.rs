//! Launchers that are killed at each call by which they make a network: what they leave, the next command removes.

use std::collections::BTreeMap;
use std::process::Command;

use crate::missing;
use crate::support::{Caller, Test, skip};
use crate::world::{World, left, output};

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

/// Requests to the kernel's tables that are refused one after the other: nobody need run another command after it.
#[test]
fn a_network_that_cannot_be_made_leaves_nothing() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let test = Test::sh("true").with("network.mode = \"bridge\"");
    let mut refused = 0;
    for nth in 1..MOST {
        let inject = format!("inject=sendto:error=ENOMEM:when={nth}");
        let strace = [
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=sendto",
            "-e",
            &inject,
        ];
        let live = test.clone().wrapped(&strace).start(Caller::Root).unwrap();
        let (ran, _) = live.end_of_all();
        world.settle(&format!("the refusal of request {nth}: {}", ran.stderr));
        if ran.status == 0 {
            break;
        }
        assert_eq!(ran.status, 125, "{nth}: {}", ran.stderr);
        refused += 1;
    }
    assert!(refused > 5, "{refused}");
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
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            let trace = format!("trace={call}");
            let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let live = test.clone().wrapped(&strace).start(Caller::Root).unwrap();
            let (ran, room) = live.end_of_all();
            if ran.status == 0 {
                break;
            }
            let found = left();
            // Any command: here one that makes nothing itself.
            let next = Command::new(env!("CARGO_BIN_EXE_ringfence"))
                .args(["check", "-f"])
                .arg(ran.folder.join("ringfence.toml"))
                .env("RINGFENCE_RUN", ran.folder.join("run"))
                .env("RINGFENCE_CONFIG", ran.folder.join("config.toml"))
                .output()
                .unwrap();
            assert!(
                next.status.success(),
                "{call} {nth}: {}",
                String::from_utf8_lossy(&next.stderr)
            );
            assert_eq!(
                left(),
                None,
                "after {call} {nth}: {}",
                String::from_utf8_lossy(&next.stderr)
            );
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
