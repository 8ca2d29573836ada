//! Processes that are killed while they pull: the store is one that the next pull uses as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::archive::Archive;
use crate::pull::{Folder, command, pull};
use crate::registry::{Layer, Registry, digest};
use crate::{arch, small};

/// What a pull does to its store, and the attempts at each: the first of them, and some later ones.
const CALLS: [&str; 9] = [
    "mkdirat",
    "openat",
    "fchmod",
    "utimensat",
    "fsync",
    "syncfs",
    "renameat",
    "renameat2",
    "unlinkat",
];
const ATTEMPTS: [u32; 8] = [1, 2, 3, 5, 8, 13, 21, 34];

/// What stands under a name that means something is complete.
fn assert_sound(folder: &Folder) {
    let names = |name: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder.store().join(name)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let json = |path: &Path| -> serde_json::Value {
        let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    for layer in names("layers") {
        assert!(layer.join("fs").is_dir(), "{}", layer.display());
        assert!(json(&layer.join("layer.json"))["entries"].as_u64() > Some(0));
    }
    for image in names("images") {
        for layer in json(&image)["layers"].as_array().unwrap() {
            let hex = layer["diff-id"].as_str().unwrap().trim_start_matches("sha256:");
            assert!(folder.store().join("layers").join(hex).is_dir(), "{hex}");
        }
    }
    for blob in names("blobs") {
        let name = blob.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(digest(&fs::read(&blob).unwrap()), format!("sha256:{name}"));
    }
    names("tags").iter().for_each(|tag| drop(json(tag)));
}

/// Every path of the store below its root, with its size.
fn listing(folder: &Folder) -> BTreeSet<(PathBuf, u64)> {
    let below = |path: &Path| path.strip_prefix(folder.store()).unwrap().to_owned();
    folder
        .listing()
        .into_iter()
        .map(|(path, size)| (below(&path), size))
        .collect()
}

fn has_strace() -> bool {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    if let Err(error) = &found {
        assert!(std::env::var_os("RINGFENCE_TESTS").is_none(), "strace: {error}");
        eprintln!("skipped: strace: {error}");
    }
    found.is_ok()
}

/// A loss of power keeps what was synced, and of the rest any part: so the order of the calls is what protects the store.
#[test]
fn what_gets_a_name_is_on_the_disk_before() {
    if !has_strace() {
        return;
    }
    let (registry, folder) = (Registry::start(), Folder::new("order"));
    registry.push("x", "latest", &arch(), &small(), "{}");
    let log = folder.0.join("calls");
    let trace = "trace=fsync,syncfs,renameat,renameat2";
    let strace = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", trace];
    command(&strace, &folder, &format!("{}/x", registry.host))
        .output()
        .unwrap();
    let text = fs::read_to_string(log).unwrap();
    // By thread: a call that another one interrupts is shown in two lines, of which the second says how it ended.
    let mut threads: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.contains("<unfinished")) {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start().trim_start_matches("<... ");
        threads
            .entry(thread)
            .or_default()
            .push(call.split(['(', ' ']).next().unwrap());
    }
    let (mut layers, mut files) = (0, 0);
    for calls in threads.values() {
        for (at, call) in calls.iter().enumerate() {
            let around = (
                at.checked_sub(1).map(|before| calls[before]),
                calls.get(at + 1).copied(),
            );
            match *call {
                "renameat2" => {
                    layers += 1;
                    assert_eq!(around, (Some("syncfs"), Some("fsync")), "{text}");
                }
                "renameat" => {
                    files += 1;
                    assert_eq!(around, (Some("fsync"), Some("fsync")), "{text}");
                }
                _ => {}
            }
        }
    }
    // Three layers; the store's header, manifest, configuration, image, and what two references mean.
    assert_eq!((layers, files), (3, 6), "{text}");
}

#[test]
fn a_pull_may_be_killed_at_any_of_its_calls() {
    if !has_strace() {
        return;
    }
    let (registry, whole) = (Registry::start(), Folder::new("whole"));
    registry.push("x", "latest", &arch(), &small(), r#"{"Cmd":["true"]}"#);
    let name = format!("{}/x", registry.host);
    pull(&whole, &name).unwrap();
    let whole = listing(&whole);
    let mut killed = 0;
    for call in CALLS {
        // One store for all attempts at a call: what one of them leaves is what the next one finds.
        let folder = Folder::new(call);
        for attempt in ATTEMPTS {
            let inject = format!("inject={call}:signal=SIGKILL:when={attempt}");
            let trace = format!("trace={call}");
            let strace = [
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                &trace,
                "-e",
                &inject,
            ];
            let output = command(&strace, &folder, &name).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert_sound(&folder);
            killed += u32::from(!text.contains("REPORT "));
            if text.contains("REPORT ") {
                break;
            }
        }
        pull(&folder, &name).unwrap_or_else(|error| panic!("after {call}: {error}"));
        assert_sound(&folder);
        assert_eq!(listing(&folder), whole, "after {call}");
    }
    // Fewer would mean that the kills did not reach the pull.
    assert!(killed >= 20, "only {killed} were killed");
}

#[test]
fn some_of_many_are_killed_and_the_others_go_on() {
    let (registry, folder) = (Registry::start(), Folder::new("some"));
    let shared = Layer::gzip(&Archive::new().file("shared", &"shared".repeat(500_000)).end());
    for image in 0..3 {
        let own = Layer::gzip(&Archive::new().file("own", &format!("{image}")).end());
        registry.push(
            &format!("i{image}"),
            "latest",
            &arch(),
            &[shared.clone(), own],
            "{}",
        );
    }
    let name = |number: usize| format!("{}/i{}", registry.host, number % 3);
    let mut running = Vec::new();
    for number in 0..24 {
        let mut command = command(&[], &folder, &name(number));
        running.push(command.process_group(0).stdout(Stdio::piped()).spawn().unwrap());
    }
    let mut killed = 0;
    for (number, child) in running.iter().enumerate().filter(|(number, _)| number % 3 == 0) {
        // Spread over the time that they take; when exactly does not matter.
        std::thread::sleep(Duration::from_millis(7 * (number as u64 % 5)));
        killed += usize::from(killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL).is_ok());
    }
    for (number, child) in running.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(number % 3 == 0 || text.contains("REPORT "), "{text}");
    }
    assert_sound(&folder);
    for number in 0..3 {
        pull(&folder, &name(number)).unwrap();
    }
    assert_sound(&folder);
    assert_eq!(fs::read_dir(folder.store().join("staging")).unwrap().count(), 0);
    let fetched = registry
        .paths()
        .into_iter()
        .filter(|path| path.ends_with(&digest(&shared.blob)));
    assert!((1..=1 + killed).contains(&fetched.count()));
}
