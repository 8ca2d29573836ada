//! Published ports.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Caller, Live, PATIENCE, Test, skip};
use crate::world::{HOST, HOST_V6, World, ip};
use crate::{each, missing, waiting};

/// A server that gives back what it gets in capitals, by TCP on port 80 and by UDP on 5353, and ends when it was told `end`.
const SERVER: &str = r#"
import socket, threading
def datagrams():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", 5353))
    while True:
        data, caller = udp.recvfrom(65535)
        udp.sendto(data.upper(), caller)
threading.Thread(target=datagrams, daemon=True).start()
tcp = socket.create_server(("0.0.0.0", 80))
while True:
    caller, _ = tcp.accept()
    data = b""
    while piece := caller.recv(65536):
        data += piece
    caller.sendall(data.upper())
    caller.close()
    if data == b"end":
        break
"#;

fn server(lines: &str) -> Test {
    Test::command(&["python3", "-c", SERVER])
        .with("network.mode = \"bridge\"")
        .with(lines)
}

/// Asks by TCP; where nothing listens yet inside, again.
fn ask(at: &str, words: &[u8]) -> Vec<u8> {
    let started = std::time::Instant::now();
    loop {
        let mut heard = Vec::new();
        if let Ok(mut stream) = TcpStream::connect(at) {
            let asked = stream
                .write_all(words)
                .and_then(|()| stream.shutdown(Shutdown::Write));
            asked.and_then(|()| stream.read_to_end(&mut heard)).ok();
        }
        if !heard.is_empty() {
            return heard;
        }
        assert!(started.elapsed() < PATIENCE, "{at} does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask_udp(at: &str, words: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind(if at.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    })
    .unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut heard = [0; 65536];
    for _ in 0..600 {
        // What came of the one before may be an error.
        socket.send(words).ok();
        if let Ok(length) = socket.recv(&mut heard) {
            return heard[..length].to_vec();
        }
    }
    panic!("{at} does not answer");
}

#[test]
fn a_published_port_leads_inside() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let lines = "network.publish.\"127.0.0.1:8080\" = { to = 80 }\n\
                 network.publish.\"[::1]:8080\" = { to = 80 }\n\
                 network.publish.\"0.0.0.0:9000-9001\" = { to = 79 }\n\
                 network.publish.\"[::1]:8053\" = { to = 5353, protocol = \"udp\" }";
    for caller in crate::support::callers(Some(&[Caller::Root, Caller::User, Caller::UserWithIds])) {
        let live = server(lines).report().start(caller).unwrap();
        assert_eq!(ask("127.0.0.1:8080", b"one"), b"ONE");
        assert_eq!(ask("[::1]:8080", b"two"), b"TWO");
        assert_eq!(ask(&format!("{HOST}:9001"), b"three"), b"THREE");
        assert_eq!(ask_udp("[::1]:8053", b"four"), b"FOUR");
        let much = vec![b'x'; 4 << 20];
        assert_eq!(ask("127.0.0.1:8080", &much).len(), much.len());
        // What it wrote last, before it ended, is delivered too.
        assert_eq!(ask("127.0.0.1:8080", b"end"), b"END");
        let (ran, room) = live.end_of_all();
        assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
        assert_eq!(
            ran.value("/published")[1],
            serde_json::json!({ "address": "0.0.0.0", "port": 9001, "protocol": "tcp", "to": 80 }),
        );
        drop(room);
        world.settle("a job that published");
    }
}

#[test]
fn a_port_that_was_chosen_is_told() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let err = std::env::temp_dir().join(format!("rf-chosen-{}", std::process::id()));
    let stderr = std::fs::File::create(&err).unwrap();
    let test = server("network.publish.\"127.0.0.1:0\" = { to = 80 }").report();
    let mut live = test
        .start_with(Caller::Root, [Stdio::null(), Stdio::null(), stderr.into()])
        .unwrap();
    let said = |_: &Live| std::fs::read_to_string(&err).is_ok_and(|text| text.contains(" inside)\n"));
    live.wait_until("the port is told", said);
    let text = std::fs::read_to_string(&err).unwrap();
    // An older kernel's notices come before it.
    let told = text
        .lines()
        .find_map(|line| line.strip_prefix("ringfence: published: "));
    let at = told.and_then(|rest| rest.strip_suffix(" (tcp, to 80 inside)"));
    let at = at.unwrap_or_else(|| panic!("{text}")).to_owned();
    assert_eq!(ask(&at, b"end"), b"END");
    let (ran, _) = live.end_of_all();
    assert_eq!(format!("127.0.0.1:{}", ran.value("/published/0/port")), at);
    std::fs::remove_file(err).unwrap();
    world.settle("a job that published");
}

#[test]
fn a_port_that_is_taken_ends_the_run_before_the_job_starts() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:8080").unwrap();
    let test = Test::sh("echo started")
        .with("network.mode = \"bridge\"")
        .with("network.publish.\"127.0.0.1:8080\".to = 80");
    each(&[Caller::Root, Caller::User], &test, |ran| {
        let (number, total) = if ran.caller == Caller::Root {
            (3, 7)
        } else {
            (2, 6)
        };
        let wanted = format!(
            "ringfence: network step {number} of {total}: publish 127.0.0.1:8080 (tcp, to 80 inside): port 8080: address already in \
             use (ringfence.toml:5:39)\n"
        );
        assert!(ran.stderr.ends_with(&wanted), "{}", ran.stderr);
        assert_eq!((ran.status, ran.stdout.as_str()), (125, ""));
    });
    drop(taken);
    world.settle("jobs that were refused");
}

/// The second limit that a process of the run sets is its last, of the child that passes on; PID 1 waits for it before its own.
#[test]
fn a_port_that_cannot_be_led_inside_ends_the_run_before_the_job_starts() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let test = server("network.publish.\"127.0.0.1:8080\".to = 80").wrapped(&[
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=prlimit64",
        "-e",
        "inject=prlimit64:error=EPERM:when=2",
    ]);
    each(&[Caller::Root, Caller::User], &test, |ran| {
        let wanted = "ringfence: published ports: operation not permitted\n";
        assert!(ran.stderr.ends_with(wanted), "{:?}: {}", ran.caller, ran.stderr);
        assert_eq!((ran.status, ran.stdout.as_str()), (125, ""));
    });
    world.settle("jobs that were refused");
}

/// Nobody notices before the end that a port leads nowhere any more: the job need not have been called.
#[test]
fn a_port_whose_process_is_killed_is_told_at_the_end() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let test = waiting("").with("network.publish.\"127.0.0.1:8080\".to = 80");
    for caller in crate::support::callers(Some(&[Caller::Root, Caller::User])) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/runs");
        kill(porter(live.pid()), Signal::SIGKILL).unwrap();
        fs::write(live.folder().join("out/go"), "").unwrap();
        let (ran, _) = live.end_of_all();
        let told = "ringfence: after the job's end: published ports: the process that passes on was killed\n";
        assert_eq!(ran.status, 0, "{caller:?}: {}", ran.stderr);
        assert!(ran.stderr.ends_with(told), "{caller:?}: {}", ran.stderr);
    }
    world.settle("jobs that ended");
}

/// The child of a launcher that is in the job's network, and not in its process namespace.
#[track_caller]
fn porter(launcher: Pid) -> Pid {
    let is = |pid: Pid, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    let mut children = children
        .split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()));
    let ours =
        |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "ringfence\n");
    let beside = |pid: &Pid| is(*pid, "pid") == is(launcher, "pid") && is(*pid, "net") != is(launcher, "net");
    children
        .find(|pid| ours(pid) && beside(pid))
        .expect("a child that passes on")
}

/// The process that passes on what arrives is a copy of the launcher, which holds the other end of the job's input.
#[test]
fn a_job_that_publishes_reads_the_end_of_a_terminal() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let test = Test::sh("cat; echo end")
        .with("network.mode = \"bridge\"")
        .with("network.publish.\"127.0.0.1:8080\".to = 80");
    for caller in crate::support::callers(Some(&[Caller::Root, Caller::User, Caller::UserWithIds])) {
        let terminal = openpty(None, None).unwrap();
        // A line, and Ctrl-D.
        File::from(terminal.master.try_clone().unwrap())
            .write_all(b"typed\n\x04")
            .unwrap();
        let streams = [terminal.slave.into(), Stdio::piped(), Stdio::piped()];
        let (ran, _) = test.start_with(caller, streams).unwrap().end_of_all();
        assert_eq!(
            (ran.status, ran.stdout.as_str()),
            (0, "typed\nend\n"),
            "{}",
            ran.stderr
        );
        world.settle("a job that read to the end");
    }
}

#[test]
fn both_kinds_of_addresses_have_the_same_port() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let lines = "network.publish.\"0.0.0.0:8080\" = { to = 80 }\n\
                 network.publish.\"[::]:8080\" = { to = 80 }\n\
                 network.publish.\"0.0.0.0:8053\" = { to = 5353, protocol = \"udp\" }\n\
                 network.publish.\"[::]:8053\" = { to = 5353, protocol = \"udp\" }";
    // The host answers from the address that was asked, not from the one by which the answer leaves: who connects a socket
    // hears nobody else.
    ip("addr add 198.51.100.77/24 dev up0");
    ip("addr add 2001:db8:1::77/64 dev up0 nodad");
    let live = server(lines).start(Caller::Root).unwrap();
    assert_eq!(ask("127.0.0.1:8080", b"one"), b"ONE");
    world.there(|| {
        for at in ["198.51.100.77", "[2001:db8:1::77]", HOST, &format!("[{HOST_V6}]")] {
            assert_eq!(ask(&format!("{at}:8080"), b"two"), b"TWO");
            assert_eq!(ask_udp(&format!("{at}:8053"), b"three"), b"THREE");
        }
    });
    assert_eq!(ask("[::1]:8080", b"end"), b"END");
    let (ran, _) = live.end_of_all();
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    world.settle("a job that published");
}

/// A place for one caller is two descriptors of the porter's, and it has no more than it is allowed.
#[test]
fn more_callers_than_descriptors_wait_for_each_other() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let live = server("network.publish.\"127.0.0.1:8080\".to = 80")
        .wrapped(&["prlimit", "--nofile=64:64"])
        .start(Caller::Root)
        .unwrap();
    assert_eq!(ask("127.0.0.1:8080", b"one"), b"ONE");
    let waiting: Vec<TcpStream> = (0..60)
        .map(|_| TcpStream::connect("127.0.0.1:8080").unwrap())
        .collect();
    // None is sent away.
    for caller in &waiting {
        caller.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let heard = caller.peek(&mut [0]).map_err(|error| error.kind());
        assert_eq!(heard, Err(std::io::ErrorKind::WouldBlock));
        caller.set_read_timeout(None).unwrap();
    }
    // Those that came first are connected inside, and say nothing; when they go others come.
    let mut last = waiting.into_iter().next_back().unwrap();
    last.write_all(b"end")
        .and_then(|()| last.shutdown(Shutdown::Write))
        .unwrap();
    let mut heard = Vec::new();
    last.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"END");
    live.end_of_all();
    world.settle("a job that published");
}
