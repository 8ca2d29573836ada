//! `ringfence test`: claims of a manifest, held against real sandboxes.

#[path = "support/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "other test programs use the rest"
)]
mod support;

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

use support::Test;

/// A job on the image `host` with these expectations; each line is one.
fn expecting(job: &str, claims: &[&str]) -> Test {
    let claims: String = claims
        .iter()
        .map(|claim| format!("[[job.test.expect]]\n{claim}\n"))
        .collect();
    let manifest = format!("schema = 1\n[job.test]\nimage = \"host\"\n{job}\n{claims}");
    Test::command(&[]).verb("test").manifest(&manifest)
}

#[test]
fn what_holds_is_listed() {
    expecting(
        "command = [\"/bin/sh\", \"-c\", \"echo started; echo oh >&2; exit 3\"]",
        &[
            "can-read = \"/etc/passwd\"",
            "can-read = \"/usr\"",
            "cannot-read = \"/etc/shadow\"",
            "cannot-read = \"/proc/kcore\"",
            "can-write = \"/tmp\"",
            "can-write = \"/tmp/new\"",
            "can-write = \"/dev/null\"",
            "cannot-write = \"/\"",
            "cannot-write = \"/usr\"",
            "cannot-write = \"/etc/passwd\"",
            "cannot-connect = \"192.0.2.7:443\"",
            "cannot-connect = \"[2001:db8::7]:443\"",
            "cannot-connect = \"127.0.0.1:80\"",
            "cannot-connect = \"127.0.0.1:80/udp\"",
            "cannot-connect = \"192.0.2.7:53/udp\"",
            "cannot-connect = \"index.example.org:443\"",
            "cannot-connect = \"localhost:53/udp\"",
            "cannot-connect = \"/run/docker.sock\"",
            "uid = 65532",
            "gid = 65532",
            "lacks-capability = \"SYS_ADMIN\"",
            "lacks-capability = \"CAP_NET_RAW\"",
            "processes = 2",
            "exit-code = 3",
            "verdict = \"exit\"",
            "output-matches = '^started\\n$'",
            "errors-match = 'oh'",
        ],
    )
    .stdout(
        "job test\n  ok      can read /etc/passwd\n  ok      can read /usr\n  ok      cannot read /etc/shadow\n  \
         ok      cannot read /proc/kcore\n  ok      can write /tmp\n  ok      can write /tmp/new\n  \
         ok      can write /dev/null\n  ok      cannot write /\n  ok      cannot write /usr\n  \
         ok      cannot write /etc/passwd\n  ok      cannot connect to 192.0.2.7:443\n  \
         ok      cannot connect to [2001:db8::7]:443\n  ok      cannot connect to 127.0.0.1:80\n  \
         ok      cannot connect to 127.0.0.1:80/udp\n  ok      cannot connect to 192.0.2.7:53/udp\n  \
         ok      cannot connect to index.example.org:443\n  ok      cannot connect to localhost:53/udp\n  \
         ok      cannot connect to /run/docker.sock\n  ok      uid is 65532\n  ok      gid is 65532\n  \
         ok      lacks capability SYS_ADMIN\n  ok      lacks capability NET_RAW\n  ok      sees 2 processes\n  \
         ok      exit code is 3\n  ok      verdict is exit\n  ok      output matches ^started\\n$\n  \
         ok      errors match oh\n27 of 27 expectations hold\n",
    )
    .run();
}

#[test]
fn what_does_not_hold_is_told_with_what_was_seen_and_its_line() {
    expecting(
        "user = \"root\"\nsecurity.capabilities = [\"NET_RAW\"]\ninit = false\ncommand = [\"/bin/echo\", \"hello\"]",
        &[
            "can-read = \"/etc/shadow\"",
            "cannot-read = \"/usr\"",
            "can-write = \"/new\"",
            "cannot-write = \"/tmp\"",
            "can-connect = \"192.0.2.7:443\"",
            "uid = 65532",
            "lacks-capability = \"NET_RAW\"",
            "processes = 2",
            "exit-code = 1",
            "verdict = \"oom\"",
            "output-matches = '^bye'",
            "errors-match = '.'",
        ],
    )
    .status(1)
    .stdout(
        "job test\n  \
         FAILED  can read /etc/shadow: no such file or directory, ringfence.toml:9:1\n  \
         FAILED  cannot read /usr: it can, ringfence.toml:11:1\n  \
         FAILED  can write /new: read-only file system, ringfence.toml:13:1\n  \
         FAILED  cannot write /tmp: it can, ringfence.toml:15:1\n  \
         FAILED  can connect to 192.0.2.7:443: network is unreachable, ringfence.toml:17:1\n  \
         FAILED  uid is 65532: it is 0, ringfence.toml:19:1\n  \
         FAILED  lacks capability NET_RAW: the job has it, ringfence.toml:21:1\n  \
         FAILED  sees 2 processes: there are 1, ringfence.toml:23:1\n  \
         FAILED  exit code is 1: it is 0, ringfence.toml:25:1\n  \
         FAILED  verdict is oom: it is exit, ringfence.toml:27:1\n  \
         FAILED  output matches ^bye: it is \"hello\\n\", ringfence.toml:29:1\n  \
         FAILED  errors match .: there is none, ringfence.toml:31:1\n\
         0 of 12 expectations hold\n",
    )
    .run();
}

#[test]
fn a_limit_is_expected_by_its_verdict() {
    expecting(
        "command = [\"/bin/sleep\", \"60\"]\nlimits.wall = \"200ms\"",
        &["verdict = \"wall\"", "exit-code = 124"],
    )
    .stdout("job test\n  ok      verdict is wall\n  ok      exit code is 124\n2 of 2 expectations hold\n")
    .run();
    expecting(
        "command = [\"/no/such/program\"]",
        &["exit-code = 127", "uid = 65532"],
    )
    .stdout("job test\n  ok      exit code is 127\n  ok      uid is 65532\n2 of 2 expectations hold\n")
    .run();
}

#[test]
fn a_bind_is_looked_at_and_left_as_it_was() {
    expecting(
        "command = [\"/bin/true\"]\nmounts.\"/in\" = { bind = \"in\", access = \"rw\" }\n\
         mounts.\"/locked\" = { bind = \"in\", access = \"ro\" }",
        &[
            "can-write = \"/in\"",
            "can-write = \"/in/new\"",
            "can-write = \"/in/there\"",
            "cannot-write = \"/locked\"",
            "cannot-write = \"/locked/there\"",
            "can-read = \"/locked/there\"",
        ],
    )
    .setup(|folder| {
        std::fs::create_dir(folder.join("in")).unwrap();
        std::fs::write(folder.join("in/there"), "as it was").unwrap();
    })
    .any_stdout()
    .each(|ran| {
        assert!(
            ran.stdout.ends_with("\n6 of 6 expectations hold\n"),
            "{}",
            ran.stdout
        );
        let names: Vec<_> = std::fs::read_dir(ran.folder.join("in"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["there"]);
        assert_eq!(
            std::fs::read_to_string(ran.folder.join("in/there")).unwrap(),
            "as it was"
        );
    });
}

#[test]
fn a_connection_that_can_be_made_is_made() {
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = outside.local_addr().unwrap();
    let taking = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = taking.local_addr().unwrap();
    let held = std::sync::Mutex::new(Vec::new());
    let listening = std::sync::Arc::new(held);
    let keep = listening.clone();
    expecting(
        "network.mode = \"host\"\ncommand = [\"/bin/true\"]\nmounts.\"/in\" = { bind = \"in\", access = \"rw\" }",
        &[
            &format!("can-connect = \"{address}\""),
            &format!("can-connect = \"localhost:{}\"", address.port()),
            &format!("can-connect = \"{datagrams}/udp\""),
            &format!("cannot-connect = \"{address}/udp\""),
            "cannot-connect = \"name.invalid:443\"",
            "can-connect = \"/in/socket\"",
            "cannot-connect = \"/in/other\"",
        ],
    )
    .setup(move |folder| {
        std::fs::create_dir(folder.join("in")).unwrap();
        let socket = folder.join("in/socket");
        keep.lock().unwrap().push(UnixListener::bind(socket).unwrap());
    })
    .stdout(&format!(
        "job test\n  ok      can connect to {address}\n  ok      can connect to localhost:{}\n  \
         ok      can connect to {datagrams}/udp\n  ok      cannot connect to {address}/udp\n  \
         ok      cannot connect to name.invalid:443\n  ok      can connect to /in/socket\n  \
         ok      cannot connect to /in/other\n7 of 7 expectations hold\n",
        address.port()
    ))
    .any_stderr()
    .run();
    drop(listening);
}

#[test]
fn machines_read_tap_junit_and_json() {
    let test = || expecting("command = [\"/bin/true\"]", &["uid = 65532", "exit-code = 7"]).status(1);
    test()
        .args(&["--format", "tap"])
        .stdout(
            "TAP version 14\n1..2\nok 1 - test: uid is 65532\nnot ok 2 - test: exit code is 7\n  ---\n  \
             seen: \"it is 0\"\n  at: \"ringfence.toml:8:1\"\n  ...\n",
        )
        .run();
    test().args(&["--format", "junit"]).any_stdout().each(|ran| {
        let failure = "<failure message=\"it is 0\">ringfence.toml:8:1</failure>";
        assert!(ran.stdout.contains(failure), "{}", ran.stdout);
    });
    test()
        .args(&["test", "--format", "json"])
        .any_stdout()
        .each(|ran| {
            let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(json["failed"], 1);
            assert_eq!(json["jobs"][0]["expectations"][0]["met"], true);
        });
}

#[test]
fn a_job_that_nothing_is_expected_of_is_no_test() {
    expecting("command = [\"/bin/true\"]", &[])
        .status(125)
        .stderr(
            "ringfence: nothing is expected; write a table `[[job.NAME.expect]]`, such as `cannot-read = \"/etc/shadow\"`\n",
        )
        .run();
    // A sandbox that cannot be built is not one that keeps its promises.
    expecting(
        "command = [\"/bin/true\"]\nmounts.\"/in\" = { bind = \"missing\" }",
        &["uid = 65532"],
    )
    .status(125)
    .any_stderr()
    .each(|ran| assert!(ran.stderr.contains("missing"), "{}", ran.stderr));
}

#[test]
fn every_job_is_tested_with_a_sandbox_of_its_own() {
    let job = |name: &str, user: u32| {
        format!(
            "[job.{name}]\nimage = \"host\"\ncommand = [\"/bin/sleep\", \"0\"]\nuser = \"{user}\"\n\
             [[job.{name}.expect]]\nuid = {user}\n[[job.{name}.expect]]\nexit-code = 0\n"
        )
    };
    let silent = "[job.c]\nimage = \"host\"\ncommand = [\"/no/such\"]\n";
    let manifest = format!("schema = 1\n{}{}{silent}", job("b", 7), job("a", 8));
    Test::command(&[])
        .verb("test")
        .manifest(&manifest)
        .stdout(
            "job a\n  ok      uid is 8\n  ok      exit code is 0\njob b\n  ok      uid is 7\n  \
             ok      exit code is 0\n4 of 4 expectations hold\n",
        )
        .run();
}

#[test]
fn the_example_holds() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/expect.toml")).unwrap();
    Test::command(&[])
        .verb("test")
        .manifest(&text)
        .any_stdout()
        .each(|ran| {
            assert!(
                ran.stdout.ends_with("\n12 of 12 expectations hold\n"),
                "{}",
                ran.stdout
            )
        });
}
