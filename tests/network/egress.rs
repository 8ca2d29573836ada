//! What a job reaches whose manifest lists it, and what the run says of it afterwards; with a real DNS server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::support::{Caller, PATIENCE, Test, skip};
use crate::world::{FAR, HOST, World, ip, output, serve};
use crate::{each, missing};

const ALL: [Caller; 3] = [Caller::Root, Caller::User, Caller::UserWithIds];

/// What the internet's DNS server knows.
const NAMES: [&str; 9] = [
    "--host-record=index.example.org,203.0.113.9,2001:db8:9::9",
    "--host-record=files.example.org,203.0.113.9",
    "--cname=alias.example.org,files.example.org",
    "--host-record=other.example.net,203.0.113.10",
    "--host-record=private.example.org,10.0.0.7",
    "--host-record=metadata.example.org,169.254.169.254",
    "--host-record=host.example.org,198.51.100.2",
    "--txt-record=index.example.org,a text",
    "--local=/example.org/example.net/",
];

/// A DNS server, ended when dropped, and its log.
struct Names {
    server: Child,
    folder: PathBuf,
}

impl Names {
    /// Starts dnsmasq(8) on this thread's network.
    fn start(listen: &str, options: &[&str]) -> Names {
        let thread = nix::unistd::gettid();
        let folder = std::env::temp_dir().join(format!("rf-names-{thread}-{listen}"));
        fs::create_dir_all(&folder).unwrap();
        let log = folder.join("log");
        let server = Command::new("/usr/sbin/dnsmasq")
            .args([
                "-k",
                "-C",
                "/dev/null",
                "--no-hosts",
                "--user=root",
                "--bind-interfaces",
            ])
            .args(["--pid-file=", "--log-queries", "--cache-size=0"])
            .arg(format!("--listen-address={listen}"))
            .arg(format!("--log-facility={}", log.display()))
            .args(options)
            .stdin(Stdio::null())
            .spawn()
            .expect("dnsmasq");
        let names = Names { server, folder };
        let started = Instant::now();
        while !names.log().contains("started") {
            assert!(started.elapsed() < PATIENCE, "dnsmasq does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        names
    }

    /// What it was asked.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// From here on the programs that this thread starts find `text` in /etc/resolv.conf.
fn resolv_conf(text: &str) {
    let path = std::env::temp_dir().join(format!(
        "rf-resolv-{}-{}",
        std::process::id(),
        nix::unistd::gettid()
    ));
    fs::write(&path, text).unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some(&path), "/etc/resolv.conf", none, MsFlags::MS_BIND, none).unwrap();
    fs::remove_file(path).unwrap();
}

/// An internet with a DNS server, which the host asks, and servers on ports 80 and 8000.
fn world(options: &'static [&'static str]) -> (World, Names) {
    world_asking(FAR, options)
}

/// The same where the host asks `server`.
fn world_asking(server: &str, options: &'static [&'static str]) -> (World, Names) {
    let world = World::new();
    let (tell, told) = std::sync::mpsc::channel();
    world.there(move || {
        ip("addr add 203.0.113.10/32 dev lo");
        ip("addr add 10.0.0.7/32 dev lo");
        ip("addr add 169.254.169.254/32 dev lo");
        serve(80);
        serve(8000);
        let options: Vec<&str> = NAMES.into_iter().chain(options.iter().copied()).collect();
        tell.send(Names::start(FAR, &options)).unwrap();
    });
    resolv_conf(&format!("nameserver {server}\noptions edns0 trust-ad\n"));
    (world, told.recv().unwrap())
}

fn without_dnsmasq() -> Option<&'static str> {
    missing().or_else(|| (!Path::new("/usr/sbin/dnsmasq").exists()).then_some("dnsmasq is not installed"))
}

/// A job that tries each `HOST PORT`, and says of each how it ended: 0 when it was reached.
fn tries(places: &str) -> Test {
    let script = format!(
        "try() {{ timeout 10 bash -c \"exec 3<>/dev/tcp/$1/$2 && head -n1 <&3 >/dev/null\" 2>/dev/null; echo $1 $2 $?; }}\n{places}"
    );
    Test::command(&["bash", "-c", &script]).with("network.mode = \"bridge\"")
}

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
        let wanted = "# Refused in this run.
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
fn only_a_job_with_connections_of_its_own_is_recorded() {
    Test::sh("true").args(&["--record"]).only(&[Caller::Root, Caller::Tester]).status(125).stderr(
        "ringfence: --record: this job has no network of its own whose connections are counted; it needs `network.mode = \"bridge\"`\n",
    ).run();
}

#[test]
fn what_a_name_led_to_closes_after_its_time() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&["--local-ttl=1"]);
    let test = tries(&format!(
        "try {FAR} 80; try files.example.org 80; try {FAR} 80; sleep 8; try {FAR} 80; try files.example.org 80"
    ))
    .with("network.allow.\"files.example.org\" = { ports = [80] }");
    each(&[Caller::Root, Caller::User], &test, |ran| {
        assert_eq!(
            ran.stdout,
            format!("{FAR} 80 1\nfiles.example.org 80 0\n{FAR} 80 0\n{FAR} 80 1\nfiles.example.org 80 0\n"),
            "{}",
            ran.stderr
        );
    });
    world.settle("jobs that ended");
}

#[test]
fn a_resolver_on_the_hosts_loopback_is_asked() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, names) = world_asking("127.0.0.53", &[]);
    let own = Names::start("127.0.0.53", &["--no-resolv", &format!("--server={FAR}")]);
    each(&ALL, &tries("try index.example.org 80"), |ran| {
        assert_eq!(ran.stdout, "index.example.org 80 0\n", "{}", ran.stderr);
    });
    assert!(
        own.log().contains("query[A] index.example.org from 127.0.0.1"),
        "{}",
        own.log()
    );
    drop((own, names));
    world.settle("jobs that ended");
}

#[test]
fn names_are_asked_of_nobody_else() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, names) = world(&[]);
    let script =
        format!("for to in {FAR} {HOST}; do echo secret > /dev/udp/$to/53; echo $?; done; try {FAR} 53");
    let open = tries(&script).report();
    let listed = tries(&script).with("network.allow.\"0.0.0.0/0\" = {}").report();
    for test in [open, listed] {
        each(&ALL, &test, |ran| {
            assert_eq!(ran.stdout, format!("1\n1\n{FAR} 53 1\n"), "{}", ran.stderr);
            let connections = ran.value("/network/connections").as_array().unwrap();
            let refused = |one: &&serde_json::Value| one["port"] == 53 && one["verdict"] == "refused";
            assert_eq!(connections.iter().filter(refused).count(), 3, "{connections:#?}");
        });
    }
    assert!(!names.log().contains("query"), "{}", names.log());
    world.settle("jobs that ended");
}

#[test]
fn answers_that_do_not_fit_come_over_tcp() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    const MANY: usize = 200;
    let hosts = std::env::temp_dir().join(format!("rf-hosts-{}", std::process::id()));
    let lines = (0..MANY).map(|number| format!("203.0.113.{number} big.example.org\n"));
    fs::write(&hosts, lines.collect::<String>()).unwrap();
    let (world, names) = world_asking("203.0.113.11", &[]);
    let option = format!("--addn-hosts={}", hosts.display());
    world.there(move || ip("addr add 203.0.113.11/32 dev lo"));
    let (tell, told) = std::sync::mpsc::channel();
    world.there(move || tell.send(Names::start("203.0.113.11", &[&option])).unwrap());
    let big = told.recv().unwrap();
    let test = Test::sh("getent ahostsv4 big.example.org | grep -c STREAM")
        .with("network.mode = \"bridge\"")
        .with("network.allow.\"big.example.org\" = {}");
    each(&[Caller::Root, Caller::User], &test, |ran| {
        assert_eq!(ran.stdout, format!("{MANY}\n"), "{}", ran.stderr);
    });
    drop((names, big));
    fs::remove_file(hosts).unwrap();
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

#[test]
fn jobs_on_a_network_with_a_name_find_each_other_by_theirs() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, names) = world(&[]);
    let server = "touch /out/ready; exec python3 -m http.server 80 >/dev/null 2>&1";
    let mut live = Test::sh(server)
        .with("network.mode = \"bridge\"\nnetwork.name = \"lab\"")
        .with("mounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder| fs::create_dir(folder.join("out")).unwrap())
        .start(Caller::Root)
        .unwrap();
    live.wait_for_file("out/ready");
    let run = live.folder().join("run").display().to_string();
    let job = |called: &str, network: &str, script: &str| {
        let text = format!(
            "schema = 1\n[job.{called}]\nimage = \"host\"\ncommand = [\"sh\", \"-c\", {}]\n[job.{called}.network]\n{network}\n",
            toml::Value::from(script.replace('$', "$$"))
        );
        Test::sh("").manifest(&text).env("RINGFENCE_RUN", &run)
    };
    let script = "getent ahostsv4 test | grep -c STREAM; getent ahostsv6 test | grep -c STREAM; getent hosts gone; \
                  for i in $(seq 100); do curl -sS -o /dev/null http://test/ && break; sleep 0.1; done; echo $?";
    for allow in ["", "allow = {}"] {
        let named = format!("mode = \"bridge\"\nname = \"lab\"\n{allow}");
        each(&[Caller::Root], &job("other", &named, script), |ran| {
            assert_eq!(ran.stdout, "1\n1\n0\n", "{allow}: {}", ran.stderr);
        });
    }
    each(
        &[Caller::Root],
        &job("apart", "mode = \"bridge\"", "getent hosts test; echo $?"),
        |ran| {
            assert_eq!(ran.stdout, "2\n", "{}", ran.stderr);
        },
    );
    live.signal(nix::sys::signal::Signal::SIGTERM);
    let (_, room) = live.end_of_all();
    drop((room, names));
    world.settle("jobs that ended");
}
