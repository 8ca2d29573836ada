//! Runs and plans with a lock beside their manifest.

use std::fs;

use crate::archive::Archive;
use crate::hub::{HELLO, Hub, Ids, Visit, base};
use crate::registry::Layer;
use crate::support::{Ran, Test, skip};
use crate::{lock, push};

const NAME: &str = "docker.io/library/tool:latest";

fn motd(text: &str) -> Layer {
    Layer::gzip(&Archive::new().file("etc/motd", text).end())
}

fn run(args: &[&str]) -> Test {
    let manifest = "schema = 1\n[job.test]\nimage = \"tool\"\ncommand = [\"cat\", \"/etc/motd\"]\n";
    Test::command(&[]).manifest(manifest).args(args)
}

/// The sockets in a trace of strace that could leave this machine: all but those of Unix.
fn internet(ran: &Ran) -> Vec<String> {
    let trace = fs::read_to_string(ran.folder.join("trace")).unwrap();
    assert!(trace.contains("execve("), "nothing was traced");
    let sockets = trace
        .lines()
        .filter(|line| line.contains("socket(") && !line.contains("socket(AF_UNIX"));
    sockets.map(str::to_owned).collect()
}

/// Takes all images out of the store.
fn empty(visit: &mut Visit) {
    let prune = Test::command(&[])
        .verb("image")
        .args(&["prune", "--down-to", "0B"]);
    visit.run(&prune.any_stdout().any_stderr().pulls());
}

#[test]
fn a_run_is_pinned_and_asks_no_one() {
    let (hub, base) = (Hub::start(), base!());
    hub.each(|visit| {
        push(
            &hub.registry,
            "library/tool",
            &[base.clone(), motd("first\n")],
            HELLO,
        );
        let none = "ringfence: ringfence.lock: there is none, and --locked was given; run `ringfence lock`\n";
        visit.run(&run(&["--locked"]).status(125).stderr(none));
        visit.run(&lock(&["tool"], &["-q"]).pulls());
        push(
            &hub.registry,
            "library/tool",
            &[base.clone(), motd("second\n")],
            HELLO,
        );
        hub.registry.forget();
        for args in [&[][..], &["--locked"], &["--offline"], &["--locked", "--offline"]] {
            visit.run(&run(args).stdout("first\n"));
        }
        assert_eq!(hub.registry.paths(), Vec::<String>::new());
        // Another machine with the same lock: an empty store, and the tag has moved.
        let folder = visit.run(&run(&[]).verb("plan").any_stdout()).folder;
        empty(visit);
        visit.run(&run(&["--locked"]).stdout("first\n").any_stderr().pulls());
        let asked = hub.registry.paths();
        assert!(
            !asked.iter().any(|path| path.ends_with("/manifests/latest")),
            "{asked:#?}"
        );
        // Without the lock the tag means what it means now.
        empty(visit);
        fs::remove_file(folder.join("ringfence.lock")).unwrap();
        visit.run(&run(&[]).stdout("second\n").any_stderr().pulls());
        empty(visit);
    });
}

#[test]
fn with_lock_and_store_no_socket_is_opened() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        skip!("no strace");
    }
    let (hub, base) = (Hub::start(), base!());
    push(&hub.registry, "library/tool", &[base, motd("first\n")], HELLO);
    hub.each(|visit| {
        // What is traced gets no rights from newuidmap's mode.
        if visit.ids() == Ids::Subordinate {
            return;
        }
        let trace = ["strace", "-f", "-qq", "-o", "trace", "-e", "trace=execve,socket"];
        let traced = |test: Test| test.wrapped(&trace);
        let missing = format!("ringfence: image {NAME} is not in the store; run `ringfence pull`\n");
        let ran = visit.run(&traced(run(&["--offline"])).status(125).stderr(&missing));
        assert_eq!(internet(&ran), Vec::<String>::new());
        visit.run(&lock(&["tool"], &["-q"]).pulls());
        for args in [&[][..], &["--locked"], &["--offline"]] {
            let ran = visit.run(&traced(run(args)).stdout("first\n"));
            assert_eq!(internet(&ran), Vec::<String>::new());
        }
        let ran = visit.run(&traced(run(&[])).verb("plan").any_stdout());
        assert_eq!(internet(&ran), Vec::<String>::new());
        // The trace does see sockets where there are any.
        empty(visit);
        let ran = visit.run(&traced(run(&[])).stdout("first\n").any_stderr().pulls());
        assert!(!internet(&ran).is_empty());
    });
}

/// A plan needs the lock alone: it is the same text with and without the image.
#[test]
fn a_plan_is_made_from_the_lock() {
    let (hub, base) = (Hub::start(), base!());
    push(
        &hub.registry,
        "library/tool",
        &[base],
        r#"{"Env":["PATH=/bin"],"User":"worker","WorkingDir":"/etc"}"#,
    );
    hub.each(|visit| {
        let plan = run(&[]).verb("plan").any_stdout();
        let missing = format!("ringfence: image {NAME} is not in the store; run `ringfence pull`\n");
        visit.run(&plan.clone().status(125).stderr(&missing));
        visit.run(&lock(&["tool"], &["-q"]).pulls());
        let ran = visit.run(&plan);
        assert!(ran.stdout.contains("as           1000:1001"), "{}", ran.stdout);
        empty(visit);
        let again = visit.run(&plan);
        assert_eq!(again.stdout, ran.stdout);
        fs::remove_file(ran.folder.join("ringfence.lock")).unwrap();
    });
}

#[test]
fn an_image_that_is_not_locked_is_said() {
    let (hub, base) = (Hub::start(), base!());
    push(&hub.registry, "library/tool", &[base, motd("first\n")], HELLO);
    hub.each(|visit| {
        visit.run(&lock(&[], &["-q"]));
        let error = format!(
            "ringfence: ringfence.lock: {NAME} is not locked, and --locked was given; run `ringfence lock`\n"
        );
        visit.run(&run(&["--locked"]).status(125).stderr(&error));
        visit.run(&run(&[]).verb("pull").args(&["-q"]).pulls().any_stderr());
        let notice = format!("ringfence: ringfence.lock: {NAME} is not locked; run `ringfence lock`\n");
        let ran = visit.run(&run(&[]).stdout("first\n").stderr(&notice));
        fs::remove_file(ran.folder.join("ringfence.lock")).unwrap();
    });
}

/// A lock that was edited is held against the manifest that it names.
#[test]
fn an_edited_lock_is_refused() {
    let (hub, base) = (Hub::start(), base!());
    push(&hub.registry, "library/tool", &[base, motd("first\n")], HELLO);
    hub.each(|visit| {
        let folder = visit.run(&lock(&["tool"], &["-q"]).pulls()).folder;
        let path = folder.join("ringfence.lock");
        let good = fs::read_to_string(&path).unwrap();
        for (from, to, what) in [
            ("worker:x:1000:1001", "worker:x:0:0", "passwd"),
            ("working-dir = \"/etc\"", "working-dir = \"/\"", "working-dir"),
            (
                "    \"PATH=/bin\",\n",
                "    \"LD_PRELOAD=/x\",\n    \"PATH=/bin\",\n",
                "env",
            ),
        ] {
            assert!(good.contains(from), "{good}");
            fs::write(&path, good.replace(from, to)).unwrap();
            let ran = visit.run(&run(&["--locked"]).status(125).any_stderr());
            let said = visit.caller.without_notice(&ran.stderr);
            let start =
                format!("ringfence: ringfence.lock: `{what}` of {NAME} is not what its manifest sha256:");
            let end = " has; take it from version control, or remove it and run `ringfence lock`\n";
            assert!(said.starts_with(&start) && said.ends_with(end), "{said}");
        }
        fs::remove_file(&path).unwrap();
    });
}
