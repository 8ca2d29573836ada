//! Jobs on networks of their own, in a host and an internet that the tests make: never on the machine's own interfaces.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "tests/launch uses the rest")]
mod support;

mod egress;
mod escapes;
mod firewalls;
mod kills;
mod names;
mod neighbours;
mod ports;
mod reach;
mod record;
mod resolver;
mod servers;
mod world;

use support::{Caller, Ran, Test};

/// Why no networks can be made here, if so.
fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root makes network namespaces without others");
    }
    let programs = [
        ("/usr/sbin/nft", "nft is not installed"),
        ("/usr/bin/pasta", "pasta is not installed"),
    ];
    let absent = programs
        .iter()
        .find(|(path, _)| !std::path::Path::new(path).exists());
    absent.map(|(_, reason)| *reason)
}

/// A job on a network that makes `out/runs` once it runs, and does what the script says once there is `out/go`.
fn waiting(script: &str) -> Test {
    let wait = "touch /out/runs; until [ -e /out/go ]; do sleep 0.05; done";
    Test::sh(&format!("{wait}\n{script}"))
        .with("network.mode = \"bridge\"")
        .with("mounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder| std::fs::create_dir(folder.join("out")).unwrap())
}

/// Runs a job as each of these; what outlives a launcher, which leaves the network for it, is waited for.
#[track_caller]
fn each(callers: &[Caller], test: &Test, look: impl Fn(&Ran)) {
    for caller in support::callers(Some(callers)) {
        let live = test
            .start(caller)
            .unwrap_or_else(|reason| panic!("{caller:?}: {reason}"));
        let (ran, room) = live.end_of_all();
        room.check(&format!("{caller:?}: {}", ran.stderr));
        look(&ran);
    }
}
