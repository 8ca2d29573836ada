//! The resolver of a job: whom it asks, what it answers, and that no job gets it to stop.

use std::collections::BTreeSet;
use std::fs;

use crate::each;
use crate::names::{Names, tries, without_dnsmasq, world, world_asking};
use crate::support::{Caller, Test, folder, skip};
use crate::world::{FAR, HOST, ip};

const ALL: [Caller; 3] = [Caller::Root, Caller::User, Caller::UserWithIds];

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
    // As many as fit into the longest message; and how many of them what is listed for both protocols opens.
    const HUGE: usize = 4000;
    const OPENED: usize = 2048;
    const BIG: usize = 200;
    let hosts = std::env::temp_dir().join(format!("rf-hosts-{}", std::process::id()));
    let line =
        |name: &str, number: usize| format!("203.1.{}.{} {name}.example.org\n", number / 250, number % 250);
    let big = (0..BIG).map(|number| line("big", number));
    let huge = (0..HUGE).map(|number| line("huge", number));
    fs::write(&hosts, big.chain(huge).collect::<String>()).unwrap();
    let (world, names) = world_asking("203.0.113.11", &[]);
    let option = format!("--addn-hosts={}", hosts.display());
    world.there(move || ip("addr add 203.0.113.11/32 dev lo"));
    let (tell, told) = std::sync::mpsc::channel();
    world.there(move || tell.send(Names::start("203.0.113.11", &[&option])).unwrap());
    let big = told.recv().unwrap();
    let script = "for name in big huge; do getent ahostsv4 $name.example.org | grep -c STREAM; done";
    for (allow, seen) in [("", HUGE), ("network.allow.\"*.example.org\" = {}", OPENED)] {
        let test = Test::sh(script).with("network.mode = \"bridge\"").with(allow);
        each(&[Caller::Root, Caller::User], &test, |ran| {
            assert_eq!(ran.stdout, format!("{BIG}\n{seen}\n"), "{allow}: {}", ran.stderr);
        });
    }
    drop((names, big));
    fs::remove_file(hosts).unwrap();
    world.settle("jobs that ended");
}

#[test]
fn an_entry_has_as_many_ports_as_it_likes() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&["--local-ttl=1"]);
    let ports: Vec<String> = (20_000..21_000).map(|port| port.to_string()).collect();
    // The second time all of them are there already.
    let test = tries("for i in 1 2; do try files.example.org 80; try files.example.org 8000; sleep 2; done")
        .with(&format!(
            "network.allow.\"files.example.org\" = {{ ports = [80, {}] }}",
            ports.join(", ")
        ));
    each(&[Caller::Root, Caller::User], &test, |ran| {
        let round = "files.example.org 80 0\nfiles.example.org 8000 1\n";
        assert_eq!(ran.stdout, round.repeat(2), "{}", ran.stderr);
    });
    world.settle("jobs that ended");
}

#[test]
fn connections_that_ask_nothing_hold_nobody_up() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&[]);
    let test = Test::command(&[
        "bash",
        "-c",
        "for i in $(seq 80); do exec {fd}<>/dev/tcp/127.0.0.11/53 || exit 1; done\n\
         getent ahostsv4 files.example.org | grep -c STREAM\n\
         RES_OPTIONS=use-vc getent ahostsv4 files.example.org | grep -c STREAM",
    ])
    .with("network.mode = \"bridge\"");
    each(&[Caller::Root, Caller::User], &test, |ran| {
        assert_eq!(ran.stdout, "1\n1\n", "{}", ran.stderr);
    });
    world.settle("jobs that ended");
}

#[test]
fn a_job_may_be_a_dns_server_itself() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    let (world, _names) = world(&[]);
    let script = "import socket\n\
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('0.0.0.0', 53))\n\
        tcp = socket.socket(); tcp.bind(('0.0.0.0', 53)); tcp.listen()\n\
        print(socket.gethostbyname('files.example.org'))\n\
        socket.create_connection(('127.0.0.1', 53)); tcp.accept(); print('own')";
    let test = Test::command(&["python3", "-c", script]).with("network.mode = \"bridge\"");
    each(&ALL, &test, |ran| {
        assert_eq!(ran.stdout, format!("{FAR}\nown\n"), "{}", ran.stderr);
    });
    world.settle("jobs that ended");
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
fn jobs_that_start_at_once_all_find_the_next() {
    if let Some(reason) = without_dnsmasq() {
        skip!("{reason}");
    }
    const JOBS: usize = 20;
    let (world, names) = world(&[]);
    let folder = folder();
    fs::create_dir(folder.join("out")).unwrap();
    let job = |number: usize| {
        let next = (number + 1) % JOBS;
        // Each stays until all have found theirs.
        let script = format!(
            "for i in $(seq 600); do getent ahostsv4 j{next} >/dev/null && break; sleep 0.05; done\n\
             getent ahostsv4 j{next} | grep -c STREAM; getent ahostsv4 index.example.org | grep -c STREAM\n\
             ip -o -4 addr show dev eth0 | grep -o '10[.0-9]*/24'; touch /out/{number}\n\
             for i in $(seq 1200); do set -- /out/*; [ $# -lt {JOBS} ] || exit 0; sleep 0.05; done; exit 1"
        );
        let text = format!(
            "schema = 1\n[job.j{number}]\nimage = \"host\"\ncommand = [\"sh\", \"-c\", {}]\n\
             mounts.\"/out\" = {{ bind = \"{}\", access = \"rw\" }}\n\
             [job.j{number}.network]\nmode = \"bridge\"\nname = \"ring\"\nallow.\"index.example.org\" = {{}}\n",
            toml::Value::from(script.replace('$', "$$")),
            folder.join("out").display(),
        );
        let test = Test::sh("").manifest(&text);
        test.env("RINGFENCE_RUN", &folder.join("run").display().to_string())
    };
    let all: Vec<_> = (0..JOBS)
        .map(|number| job(number).start(Caller::Root).unwrap())
        .collect();
    let mut addresses = BTreeSet::new();
    for live in all {
        let (ran, _) = live.end_of_all();
        let address = ran.stdout.strip_prefix("1\n1\n");
        let address = address.unwrap_or_else(|| panic!("{}{}", ran.stdout, ran.stderr));
        assert!(addresses.insert(address.to_owned()), "{address} twice");
    }
    drop(names);
    world.settle("jobs that ended");
    fs::remove_dir_all(folder).unwrap();
}
