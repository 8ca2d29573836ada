//! What a job on a bridge reaches, and what it does not.

use crate::support::{Caller, Test, skip};
use crate::world::{FAR, FAR_V6, HOST, HOST_V6, MTU, World, ip, output, serve};
use crate::{each, missing, waiting};

const ALL: [Caller; 3] = [Caller::Root, Caller::User, Caller::UserWithIds];

fn bridge(script: &str) -> Test {
    Test::command(&["bash", "-c", script]).with("network.mode = \"bridge\"")
}

#[test]
fn a_job_reaches_the_internet_as_the_host() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    world.there(|| serve(80));
    let script = format!("for to in {FAR} {FAR_V6}; do exec 3<>/dev/tcp/$to/80; head -n1 <&3; done");
    each(&ALL, &bridge(&script), |ran| {
        assert_eq!(
            ran.stdout,
            format!("{HOST}\n{HOST_V6}\n"),
            "{:?}: {}",
            ran.caller,
            ran.stderr
        );
    });
    world.settle("jobs that ended");
}

#[test]
fn a_job_has_an_address_of_each_kind_and_packets_of_the_uplinks_size() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let script = "ip -o -4 addr show dev eth0 | grep -o '10.213.[0-9]*.[0-9]*/24'; \
                  ip -o -6 addr show dev eth0 | grep -o 'fd72:696e:6766:[0-9a-f]*::[0-9a-f]*/64'; \
                  ip -o -6 addr show dev eth0 | wc -l; cat /sys/class/net/eth0/mtu; \
                  cat /proc/sys/net/ipv6/conf/eth0/accept_ra; grep nameserver /etc/resolv.conf";
    each(&ALL, &bridge(script).with("sys = \"read-only\""), |ran| {
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let [v4, v6, count, mtu, advertised, nameserver] = lines.as_slice() else {
            panic!("{:?}: {}{}", ran.caller, ran.stdout, ran.stderr);
        };
        assert!(
            v4.starts_with("10.213.") && v6.starts_with("fd72:"),
            "{}",
            ran.stdout
        );
        // What goes through pasta is cut there.
        let wanted = if ran.caller == Caller::Root { MTU } else { 65520 };
        assert_eq!(
            (*count, *mtu, *advertised),
            ("1", wanted.to_string().as_str(), "0")
        );
        assert_eq!(*nameserver, "nameserver 127.0.0.11");
    });
    world.settle("jobs that ended");
}

#[test]
fn the_host_and_the_clouds_metadata_are_refused_at_once() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    serve(80);
    world.there(|| {
        ip("addr add 169.254.169.254/32 dev lo");
        serve(80);
    });
    ip("route add 169.254.169.254 via 198.51.100.1");
    // A network that is the host's own, all of it.
    ip("route add local 192.0.2.0/24 dev lo");
    // The shell says why: refused, or prohibited; what says nothing is ended by the clock.
    let script = format!(
        "gateway=$(ip route show default | cut -d' ' -f3)\n\
         for to in {HOST} {HOST_V6} $gateway 169.254.169.254 192.0.2.5; do\n\
           timeout 5 bash -c \"exec 3<>/dev/tcp/$to/80 && head -n1 <&3\" 2>/dev/null; echo $?\n\
         done"
    );
    each(&ALL, &bridge(&script), |ran| {
        assert_eq!(ran.stdout, "1\n1\n1\n1\n1\n", "{:?}: {}", ran.caller, ran.stderr);
    });
    // An entry opens them to its job alone; the host sees who asks.
    let listed =
        format!("network.allow.\"169.254.169.254\".ports = [80]\nnetwork.allow.\"{HOST}\".ports = [80]");
    let script = format!(
        "for to in 169.254.169.254 {HOST}; do bash -c \"exec 3<>/dev/tcp/$to/80 && head -n1 <&3\" 2>/dev/null; done"
    );
    each(&[Caller::Root], &bridge(&script).with(&listed), |ran| {
        let (metadata, host) = ran.stdout.split_once('\n').unwrap_or_default();
        assert_eq!(metadata, HOST, "{:?}: {}", ran.caller, ran.stderr);
        assert!(host.starts_with("10.213."), "{:?}: {host}", ran.caller);
    });
    world.settle("jobs that ended");
}

#[test]
fn what_the_host_gains_while_a_job_runs_is_closed_too() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    serve(80);
    let (four, six) = ("198.51.100.77", "2001:db8:1::77");
    let script = format!(
        "for to in {four} {six}; do\n\
           for i in $(seq 100); do\n\
             timeout 5 bash -c \"exec 3<>/dev/tcp/$to/80 && head -n1 <&3\" >/out/heard 2>/dev/null; ended=$?\n\
             [ $ended = 1 ] && break; sleep 0.05\n\
           done; echo $ended\n\
         done"
    );
    let test = waiting(&script);
    for caller in crate::support::callers(Some(&ALL)) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/runs");
        ip(&format!("addr add {four}/24 dev up0"));
        ip(&format!("addr add {six}/64 dev up0 nodad"));
        std::fs::write(live.folder().join("out/go"), "").unwrap();
        let (ran, _) = live.end_of_all();
        assert_eq!(ran.stdout, "1\n1\n", "{caller:?}: {}", ran.stderr);
        ip(&format!("addr del {four}/24 dev up0"));
        ip(&format!("addr del {six}/64 dev up0"));
        world.settle("a job that ended");
    }
}

#[test]
fn a_job_that_cannot_be_kept_from_what_the_host_gains_is_ended() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let test = bridge("touch /out/runs; sleep 1000")
        .with("mounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder: &std::path::Path| std::fs::create_dir(folder.join("out")).unwrap());
    for caller in crate::support::callers(Some(&ALL)) {
        let mut live = test.start(caller).unwrap();
        live.wait_for_file("out/runs");
        // The kernel refuses what nobody else could make it refuse: the set is not there.
        let inside = live.groups().processes_of_runs();
        let inside = inside.first().expect("a job").to_string();
        output("nsenter", &["-t", &inside, "-n", "--", "nft", "flush", "ruleset"]);
        ip("addr add 198.51.100.77/24 dev up0");
        let (ran, _) = live.end_of_all();
        let told = "ringfence: after the job's end: it was ended, as an address that this host has gained could not be closed to \
                    it: no such file or directory\n";
        assert_eq!(ran.status, 137, "{caller:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.matches(told).count(), 1, "{caller:?}: {}", ran.stderr);
        ip("addr del 198.51.100.77/24 dev up0");
        world.settle("a job that was ended");
    }
}

#[test]
fn jobs_see_each_other_on_a_network_that_they_name_and_on_no_other() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let server = "ip -o -4 addr show dev eth0 | grep -o '10.213.[0-9]*.[0-9]*' | head -n1 > /out/address.new\n\
                  mv /out/address.new /out/address; exec python3 -m http.server 80 >/dev/null 2>&1";
    // A kernel with br_netfilter asks the host's rules about what passes from port to port, if it is told to.
    let asks = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    for (name, tries, seen, asked) in [
        ("network.name = \"lab\"", 100, "0\n", "0"),
        ("network.name = \"lab\"", 100, "0\n", "1"),
        ("", 2, "1\n", "1"),
    ] {
        if asks.exists() {
            std::fs::write(asks, asked).unwrap();
        }
        let of = |script: &str| {
            bridge(script)
                .with(name)
                .with("mounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        };
        let out = |folder: &std::path::Path| std::fs::create_dir(folder.join("out")).unwrap();
        let mut live = of(server).setup(out).start(Caller::Root).unwrap();
        live.wait_for_file("out/address");
        let address = std::fs::read_to_string(live.folder().join("out/address")).unwrap();
        let run = live.folder().join("run").display().to_string();
        let script = format!(
            "for i in $(seq {tries}); do timeout 5 bash -c 'exec 3<>/dev/tcp/{0}/80' 2>/dev/null && exit; sleep 0.1; done; exit 1",
            address.trim()
        );
        // The same run state: the same networks.
        let client = bridge(&format!("({script}); echo $?"))
            .with(name)
            .env("RINGFENCE_RUN", &run);
        each(&[Caller::Root], &client, |ran| {
            assert_eq!(ran.stdout, seen, "{name}: {}", ran.stderr)
        });
        live.signal(nix::sys::signal::Signal::SIGTERM);
        let (_, room) = live.end_of_all();
        drop(room);
        world.settle("jobs that ended");
    }
}

#[test]
fn a_pool_that_the_host_uses_is_named() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    ip("route add 10.64.0.0/10 via 198.51.100.1");
    let config = |folder: &std::path::Path| {
        std::fs::write(folder.join("config.toml"), "[network]\npool = \"10.64.8.0/22\"\n").unwrap();
    };
    each(
        &[Caller::Root, Caller::User],
        &bridge("true").setup(config),
        |ran| {
            let step = match ran.caller {
                Caller::Root => "1 of 6: join the network of jobs that name none",
                _ => "1 of 5: eth0 (by pasta: the job's connections are the caller's)",
            };
            let wanted = format!(
                "ringfence: network step {step}: all of the pool 10.64.8.0/22 is in use on this host, for one by its route to \
             10.64.0.0/10; set another `pool` in `[network]` of config.toml"
            );
            assert!(ran.stderr.contains(&wanted), "{}", ran.stderr);
            assert_eq!(ran.status, 125);
        },
    );
    world.settle("jobs that were refused");
}

#[test]
fn jobs_that_start_at_once_have_addresses_of_their_own() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    const JOBS: usize = 20;
    let world = World::new();
    let script = "ip -o -4 addr show dev eth0 | grep -o '10.213.[0-9]*.[0-9]*' | head -n1; read wait";
    let test = bridge(script);
    let first = test.start(Caller::Root).unwrap();
    let run = first.folder().join("run").display().to_string();
    let test = test.env("RINGFENCE_RUN", &run);
    let others: Vec<_> = (1..JOBS).map(|_| test.start(Caller::Root).unwrap()).collect();
    let mut addresses = std::collections::BTreeSet::new();
    for live in others.into_iter().chain([first]) {
        let (ran, _) = live.end_of_all();
        assert!(ran.stdout.starts_with("10.213."), "{}", ran.stderr);
        addresses.insert(ran.stdout);
    }
    // All of them may have had one after the other; not more than there are.
    assert!(addresses.len() <= JOBS, "{addresses:?}");
    world.settle("jobs that ended");
}

#[test]
fn forwarding_is_off_again_after_the_last_job() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let settings = || {
        output(
            "sysctl",
            &[
                "net.ipv4.conf.up0.forwarding",
                "net.ipv6.conf.all.forwarding",
                "net.ipv6.conf.up0.accept_ra",
            ],
        )
    };
    let before = settings();
    assert!(before.contains("net.ipv4.conf.up0.forwarding = 0"), "{before}");
    let during = |live: &crate::support::Live| {
        settings().contains("net.ipv6.conf.all.forwarding = 1") && live.folder().exists()
    };
    let mut live = bridge("read wait").start_with(Caller::Root, streams()).unwrap();
    live.wait_until("forwarding is on", during);
    live.signal(nix::sys::signal::Signal::SIGTERM);
    live.end_of_all();
    world.settle("a job that ended");
    assert_eq!(settings(), before);
}

#[test]
fn a_job_reaches_a_network_beside_the_uplink() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let host = nix::unistd::gettid();
    world.there(move || {
        ip(&format!("link add lan1 type veth peer name lan0 netns {host}"));
        ip("addr add 192.168.50.5/24 dev lan1");
        ip("link set lan1 up");
        serve(80);
    });
    ip("addr add 192.168.50.1/24 dev lan0");
    ip("link set lan0 up");
    each(
        &ALL,
        &bridge("exec 3<>/dev/tcp/192.168.50.5/80; head -n1 <&3"),
        |ran| {
            assert_eq!(ran.stdout, "192.168.50.1\n", "{:?}: {}", ran.caller, ran.stderr);
        },
    );
    ip("link del lan0");
    world.settle("jobs that ended");
}

#[test]
fn a_host_with_half_routes_or_without_ipv6_has_networks() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    world.there(|| serve(80));
    // What a VPN puts before the default route.
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        ip(&format!("route add {half} via 198.51.100.1"));
    }
    ip("route del default");
    for half in ["::/1", "8000::/1"] {
        ip(&format!("-6 route add {half} via 2001:db8:1::1"));
    }
    ip("-6 route del default");
    let script = |far: &str| {
        bridge(&format!(
            "for to in {far}; do exec 3<>/dev/tcp/$to/80; head -n1 <&3; done; ip -o -6 addr show dev eth0 | wc -l"
        ))
    };
    each(&ALL, &script(&format!("{FAR} {FAR_V6}")), |ran| {
        let (who, wanted) = (ran.caller, format!("{HOST}\n{HOST_V6}\n1\n"));
        assert_eq!(ran.stdout, wanted, "{who:?}: {}", ran.stderr);
    });
    world.settle("jobs that ended");
    ip("route add default via 198.51.100.1");
    std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    each(&ALL, &script(FAR), |ran| {
        assert_eq!(
            ran.stdout,
            format!("{HOST}\n0\n"),
            "{:?}: {}",
            ran.caller,
            ran.stderr
        );
        let told = "ringfence: network.mode: the job has IPv4 only: this host has IPv6 turned off\n";
        assert!(ran.stderr.contains(told), "{:?}: {}", ran.caller, ran.stderr);
    });
    world.settle("jobs that ended");
}

/// The bridge stays for a second, and one process of ours with it; `ringfence run | cat` does not wait for that.
#[test]
fn what_stays_after_a_run_holds_nothing_of_it() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let live = bridge("true").report().start(Caller::Root).unwrap();
    let run = live.folder().join("run/network").display().to_string();
    let (ran, room) = live.end();
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let mut looked = 0;
    for process in room.groups().processes() {
        // One that ends meanwhile holds nothing.
        for fd in std::fs::read_dir(format!("/proc/{process}/fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(file) = std::fs::read_link(fd.path()) else {
                continue;
            };
            let file = file.display().to_string();
            let own = file == "/dev/null" || file.starts_with(&run) || file.starts_with("socket:");
            assert!(own, "{process} holds {file}");
            looked += 1;
        }
    }
    assert!(looked > 0, "the keeper was looked at");
    world.settle("a job that ended");
}

/// A job that reads waits for ever.
fn streams() -> [std::process::Stdio; 3] {
    use std::process::Stdio;
    let (reader, writer) = std::io::pipe().unwrap();
    std::mem::forget(writer);
    [reader.into(), Stdio::piped(), Stdio::piped()]
}
