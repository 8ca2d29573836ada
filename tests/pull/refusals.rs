//! Bad input: one clear error, its exit code, and everything as it was.

use std::net::TcpListener;

use ringfence::image::Platform;

use crate::archive::Archive;
use crate::hub::{HELLO, Hub, Types, base};
use crate::registry::{Fault, Layer, OCI_MANIFEST, digest};
use crate::support::{Caller, Ran, Test, callers};

/// A run that must be refused for its image, with all that it says.
fn refused(image: &str, message: &str) -> Test {
    Test::command(&["true"])
        .image(image)
        .status(125)
        .stderr(&format!("ringfence: {message}\n"))
        .report()
}

/// What a receipt says of a run that never started.
#[track_caller]
fn receipt(ran: &Ran, verdict: &str, code: i32) {
    let stderr = ran.caller.without_notice(&ran.stderr);
    assert_eq!(ran.value("/verdict"), verdict);
    assert_eq!(ran.value("/exit-code"), code);
    assert_eq!(ran.value("/enforced"), &serde_json::json!([]));
    let error = ran.value("/error").as_str().unwrap();
    assert!(stderr.ends_with(&format!("{}\n", error.trim_end())), "{stderr}");
}

/// Beside a good image in the store, none of these leaves a trace there, nor elsewhere.
#[test]
fn a_bad_image_is_one_error_and_no_trace() {
    let (hub, base) = (Hub::start(), base!());
    let (registry, at) = (&hub.registry, format!("http://{}", hub.registry.host));
    hub.push("good", Types::Oci, std::slice::from_ref(&base), HELLO);
    let mut cases = Vec::new();
    let mut case = |repository: &str, message: String| {
        let name = hub.name(repository);
        cases.push((name.clone(), format!("pull {name}: {message}")));
    };

    // Every bad layer comes with a good one, which may not stay either.
    let fresh = |name: &str| Layer::gzip(&Archive::new().file(name, "x").end());
    let with = |repository: &str, bad: &Layer| {
        let layers = [base.clone(), fresh(&format!("beside {repository}")), bad.clone()];
        hub.push(repository, Types::Oci, &layers, HELLO);
        digest(&bad.blob)
    };
    let layer = fresh("other-bytes");
    let wanted = with("other-bytes", &layer);
    registry.fault(&wanted, Fault::OtherBytes);
    let found: Vec<u8> = layer.blob.iter().map(|byte| byte ^ 1).collect();
    case(
        "other-bytes",
        format!("layer {wanted}: the content has the digest {}", digest(&found)),
    );
    let wanted = with("no-tar", &Layer::gzip(&b"<html>please log in</html>".repeat(50)));
    case("no-tar", format!("layer {wanted}: it is not a tar archive"));

    case("absent", format!("{at}: not found (404): manifest unknown"));
    registry.fault("/v2/denied/", Fault::Status(401));
    case(
        "denied",
        format!(
            "{at}: access refused (401): scripted; if the image exists, log in with `docker login {}`",
            registry.host
        ),
    );

    registry.push("other-machine", "latest", "s390x", &[fresh("s390x")], HELLO);
    case(
        "other-machine",
        format!(
            "there is no image for {}; it offers linux/s390x",
            Platform::host()
        ),
    );
    let whole = registry.push("whole", "latest", "s390x", &[fresh("whole")], HELLO);
    registry.put_manifest("truncated", "latest", OCI_MANIFEST, &whole[..whole.len() / 2]);
    case(
        "truncated",
        format!(
            "the manifest is not valid: EOF while parsing a string at line 1 column {}",
            whole.len() / 2
        ),
    );

    hub.each(|visit| {
        let good = Test::command(&["true"]).image(&hub.name("good"));
        visit.run(&good.clone().any_stderr().pulls());
        for (image, message) in &cases {
            let ran = visit.run(&refused(image, message).any_stderr());
            let stderr = ran.caller.without_notice(&ran.stderr);
            // A good layer may have been fetched before the bad one.
            let progress = format!("{image}: layer ");
            let rest: Vec<&str> = stderr
                .lines()
                .filter(|line| !line.starts_with(&progress))
                .collect();
            assert_eq!(rest, [format!("ringfence: {message}")]);
            receipt(&ran, "image", 125);
        }
        visit.run(&good);
    });
}

/// Asked three times, with pauses: a moment later all may be well.
#[test]
fn a_registry_that_answers_500() {
    let hub = Hub::start();
    hub.registry.fault("/v2/broken/", Fault::Status(500));
    let image = hub.name("broken");
    let message = format!(
        "pull {image}: http://{}: it answers 500: scripted",
        hub.registry.host
    );
    let test = refused(&image, &message);
    hub.each(|visit| receipt(&visit.run(&test.clone().pulls()), "image", 125));
}

#[test]
fn a_registry_that_is_not_there() {
    let hub = Hub::start();
    // A port that was free a moment ago.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let image = format!("{gone}/absent:latest");
    // Its own address asks for TLS, which no one answers either.
    let test = refused(
        &image,
        &format!("pull {image}: https://{gone}: connection refused"),
    );
    hub.each(|visit| receipt(&visit.run(&test.clone().pulls()), "image", 125));
}

/// A word that is not a program of the image is the command's own failure, not the sandbox's.
#[test]
fn a_command_that_the_image_does_not_have() {
    let hub = Hub::start();
    hub.push("library/good", Types::Oci, &[base!()], HELLO);
    hub.push("library/mute", Types::Oci, &[base!()], "{}");
    hub.each(|visit| {
        let of = |words: &[&str]| Test::command(words).image("good").report();
        let missing = "not found in the image; the command or the interpreter that its first line names";
        visit.run(&of(&["true"]).any_stderr().pulls());
        for (word, why, code) in [
            ("no-such-command", missing, 127),
            ("/no/such/command", missing, 127),
            ("/etc/plain", "permission denied", 126),
            ("/etc", "permission denied", 126),
        ] {
            let line = format!("ringfence: {word}: {why}\n");
            let ran = visit.run(&of(&[word]).status(code).stderr(&line));
            receipt(&ran, "setup", code);
        }

        // The image names no command and neither does the manifest: refused, before anything starts.
        let mute = Test::command(&[])
            .manifest("schema = 1\n[job.test]\nimage = \"mute\"\n")
            .status(125)
            .any_stderr()
            .report();
        visit.run(&mute.clone().pulls());
        let ran = visit.run(&mute);
        receipt(&ran, "refused", 125);
        assert!(ran.stderr.contains("--> ringfence.toml:"), "{}", ran.stderr);
    });
}

/// A store keeps for good whose files it holds; a caller who is short of processes for a moment decides nothing.
#[test]
fn a_host_that_cannot_be_asked_fixes_no_store() {
    let (hub, layers) = (Hub::start(), [base!()]);
    hub.push("library/busy", Types::Oci, &layers, HELLO);
    let pull = Test::command(&["true"]).image("busy").verb("pull").args(&["-q"]);
    // Root's processes have no such bound.
    for caller in callers(Some(&[Caller::User, Caller::UserWithIds, Caller::Tester])) {
        hub.visit(caller, |visit| {
            let short = pull.clone().wrapped(&["/usr/bin/prlimit", "--nproc=1", "--"]);
            let ran = visit.run(&short.status(125).any_stderr());
            let folder = ran.folder.display().to_string();
            let said = format!(
                "ringfence: image store {folder}/store: whose files it is to hold cannot be told without a user \
                 namespace: fork: a limit of processes is reached\n"
            );
            assert_eq!(ran.caller.without_notice(&ran.stderr), said);
            visit.run(&pull.clone().pulls());
        });
    }
}

/// A disk that has no room left, not even for the name of a folder into which to move what is to be removed.
#[test]
fn a_full_disk_is_one_error_and_no_trace() {
    let hub = Hub::start();
    let many = (0..300).fold(Archive::new(), |all, number| {
        all.file(&format!("d{}/{number}", number % 7), "x")
    });
    let layers = [
        Layer::gzip(&Archive::new().file("whole", "x").end()),
        Layer::gzip(&many.end()),
    ];
    hub.push("library/many", Types::Oci, &layers, HELLO);
    let small = "mount -t tmpfs -o size=64m,nr_inodes=150,mode=700 none store && \"$@\"; status=$?; \
        find store -mindepth 2; exit $status";
    for caller in callers(Some(&[Caller::Root])) {
        hub.visit(caller, |visit| {
            let full = Test::command(&[])
                .verb("pull")
                .args(&["-q", "many"])
                .pulls()
                .in_mounts(small);
            std::fs::create_dir_all(visit.run(&Test::command(&["true"])).folder.join("store")).unwrap();
            let ran = visit.run(&full.status(125).any_stderr());
            let start = format!(
                "ringfence: pull docker.io/library/many:latest: layer {}: entry `",
                digest(&layers[1].blob)
            );
            assert!(ran.stderr.starts_with(&start), "{}", ran.stderr);
            assert!(
                ran.stderr.ends_with(": make: no space left on device\n"),
                "{}",
                ran.stderr
            );
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        });
    }
}

#[test]
fn a_store_that_cannot_be_written_is_said() {
    let (hub, base) = (Hub::start(), base!());
    hub.push("library/tool", Types::Oci, &[base], HELLO);
    let read_only = "mount --bind store store && mount -o remount,bind,ro store && exec \"$@\"";
    for caller in callers(Some(&[Caller::Root])) {
        hub.visit(caller, |visit| {
            visit.run(&Test::command(&[]).verb("pull").args(&["-q", "tool"]).pulls());
            let verbs = [&["verify"][..], &["prune"], &["remove", "tool"]];
            let images = verbs.map(|words| Test::command(&[]).verb("image").args(words).pulls());
            let run = Test::command(&["id"]).image("tool").args(&["--offline"]);
            for test in images.into_iter().chain([run]) {
                let ran = visit.run(&test.in_mounts(read_only).status(125).any_stderr());
                let said: Vec<&str> = ran
                    .stderr
                    .lines()
                    .filter(|line| line.contains("image") || line.contains("store /"))
                    .collect();
                let wanted = format!(
                    "ringfence: store {}: open locks: read-only file system",
                    ran.folder.join("store").display()
                );
                assert_eq!(said, [wanted.as_str()], "{}", ran.stderr);
            }
        });
    }
}
