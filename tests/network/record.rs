//! What a run says afterwards of what it would have needed.

use crate::each;
use crate::names::{script, tries, without_dnsmasq, world};
use crate::support::{self, Caller, Ran, Test, skip};
use crate::world::{HOST, serve};

/// Runs a job that tries these places and is recorded, with these last lines of its manifest; what is printed of it.
#[track_caller]
fn record(caller: Caller, places: &str, allow: &str) -> (Ran, String) {
    let manifest = format!(
        "schema = 1\n[job.test]\nimage = \"host\"\nnetwork.mode = \"bridge\"\ncommand = [\"bash\", \"-c\", {}]\n{allow}\n",
        toml::Value::from(script(places).replace('$', "$$"))
    );
    let live = Test::sh("")
        .manifest(&manifest)
        .args(&["--record"])
        .start(caller)
        .unwrap();
    let (mut ran, room) = live.end_of_all();
    room.check(&format!("{caller:?}: {}", ran.stderr));
    let at = ran
        .stderr
        .find("# All of")
        .unwrap_or_else(|| panic!("{}", ran.stderr));
    let record = ran.stderr.split_off(at);
    (ran, record)
}

#[test]
fn a_run_says_which_entries_it_would_have_needed() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&[]);
    let test = tries(
        "try files.example.org 8000; try files.example.org 80; try 203.0.113.10 80; try gone.example 80",
    )
    .with("network.allow.\"files.example.org\" = { ports = [8000] }")
    .args(&["--record"]);
    each(&[Caller::Root, Caller::User], &test, |ran| {
        let wanted = "# All of `allow` that this run needed.

# Refused in this run.
[job.test.network.allow.\"files.example.org\"]
ports = [80, 8000]
protocol = \"tcp\"

# Refused in this run, before a port was tried.
[job.test.network.allow.\"gone.example\"]

# Refused in this run.
[job.test.network.allow.\"203.0.113.10\"]
ports = [80]
protocol = \"tcp\"
";
        assert!(ran.stderr.ends_with(wanted), "{}", ran.stderr);
    });
    world.settle("jobs that ended");
}

#[test]
fn what_is_printed_is_pasted_and_the_next_run_reaches_the_same() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&[]);
    let common = "try index.example.org 80; try alias.example.org 8000; try 203.0.113.10 8000";
    // A name that is not listed is asked of nobody, so where it leads is known only after it is.
    let open = format!("{common}; try private.example.org 80");
    // What is closed to every job is refused on an open network too.
    let closed = format!("{common}; try 169.254.169.254 80; try {HOST} 80");
    serve(80);
    for caller in support::callers(Some(&[Caller::Root, Caller::User])) {
        for (allow, places) in [("", open.as_str()), ("network.allow = {}", closed.as_str())] {
            let reached: String = places
                .split("; ")
                .map(|place| format!("{} 0\n", place.trim_start_matches("try ")))
                .collect();
            let (first, needed) = record(caller, places, allow);
            assert_eq!(first.stdout == reached, allow.is_empty(), "{}", first.stdout);
            let (second, reached_by) = record(caller, places, &needed);
            assert_eq!(
                second.stdout, reached,
                "{caller:?} with {needed}: {}",
                second.stderr
            );
            assert!(!reached_by.contains("Refused"), "{reached_by}");
            let (third, again) = record(caller, places, &reached_by);
            assert_eq!((third.stdout, again), (reached, reached_by), "{caller:?}");
        }
    }
    world.settle("jobs that ended");
}

#[test]
fn a_run_that_needed_nothing_says_so() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&[]);
    let (_, needed) = record(Caller::Root, "true", "");
    assert_eq!(
        needed,
        "# All of `allow` that this run needed: nothing.\n[job.test.network.allow]\n"
    );
    let (second, _) = record(Caller::Root, "try index.example.org 80", &needed);
    assert_eq!(second.stdout, "index.example.org 80 1\n", "{}", second.stderr);
    world.settle("jobs that ended");
}

#[test]
fn only_a_job_with_connections_of_its_own_is_recorded() {
    Test::sh("true").args(&["--record"]).only(&[Caller::Root, Caller::Tester]).status(125).stderr(
        "ringfence: --record: this job has no network of its own whose connections are counted; it needs `network.mode = \"bridge\"`\n",
    ).run();
}
