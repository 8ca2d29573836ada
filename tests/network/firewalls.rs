//! Other firewalls of the host, and hosts whose settings change while jobs run.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Caller, Live, Test, skip};
use crate::world::{FAR, HOST, World, ip, output, serve};
use crate::{each, missing};

fn bridge(script: &str) -> Test {
    Test::command(&["bash", "-c", script]).with("network.mode = \"bridge\"")
}

/// A job that listens on port 80, and its address.
fn listening() -> (Live, String) {
    let script = "ip -o -4 addr show dev eth0 | grep -o '10.213.[0-9]*.[0-9]*' | head -n1 > /out/address.new\n\
                  mv /out/address.new /out/address; exec python3 -m http.server 80 >/dev/null 2>&1";
    let test = bridge(script)
        .with("mounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder| fs::create_dir(folder.join("out")).unwrap());
    let mut live = test.start(Caller::Root).unwrap();
    live.wait_for_file("out/address");
    let address = fs::read_to_string(live.folder().join("out/address")).unwrap();
    (live, address.trim().to_owned())
}

fn end(live: Live, world: &World) {
    live.signal(Signal::SIGTERM);
    let (_, room) = live.end_of_all();
    world.settle("jobs that ended");
    drop(room);
}

fn connects(address: &str) -> bool {
    let socket = format!("{address}:80").parse().unwrap();
    std::net::TcpStream::connect_timeout(&socket, Duration::from_secs(1)).is_ok()
}

#[test]
fn a_job_whose_hosts_rules_are_thrown_away_is_not_reached() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    world.there(|| {
        serve(80);
        ip(&format!("route add 10.213.0.0/16 via {HOST}"));
    });
    let (live, address) = listening();
    let tables = || output("nft", &["list", "ruleset"]);
    let before = tables();
    output("nft", &["flush", "ruleset"]);
    // The job does listen, and the host does forward.
    let job = live.groups().processes_of_runs();
    let job = job.first().expect("a job").to_string();
    let until = format!("until (exec 3<>/dev/tcp/{address}/80) 2>/dev/null; do sleep 0.05; done");
    output("nsenter", &["-t", &job, "-n", "--", "bash", "-c", &until]);
    assert_eq!(
        fs::read_to_string("/proc/sys/net/ipv4/conf/up0/forwarding").unwrap(),
        "1\n"
    );
    let its = address.clone();
    world.there(move || assert!(!connects(&its), "the internet reaches the job"));
    assert!(!connects(&address), "the host reaches the job");
    // The next job has all of it loaded anew: it would have no way out otherwise. As when a part of it was changed.
    let next = bridge(&format!("exec 3<>/dev/tcp/{FAR}/80; head -n1 <&3"))
        .env("RINGFENCE_RUN", &live.folder().join("run").display().to_string());
    let reaches = || {
        each(&[Caller::Root], &next, |ran| {
            assert_eq!(ran.stdout, format!("{HOST}\n"), "{}", ran.stderr);
        });
        assert_eq!(tables(), before);
    };
    reaches();
    let table = before.split("table inet ").nth(1);
    let table = table.and_then(|rest| rest.split(' ').next()).expect("a table");
    output("nft", &["flush", "chain", "inet", table, "input"]);
    assert_ne!(tables(), before);
    reaches();
    end(live, &world);
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_named() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    world.there(|| serve(80));
    let nft = |text: &str| output("nft", &[text]);
    nft(
        "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
    );
    let test = bridge(&format!(
        "timeout 1 bash -c 'exec 3<>/dev/tcp/{FAR}/80' 2>/dev/null; echo $?"
    ));
    each(&[Caller::Root], &test, |ran| {
        assert_eq!(ran.stdout, "124\n", "{}", ran.stderr);
        let told = "ringfence: network: another firewall, chain ip filter FORWARD, drops what this host forwards, the job's \
                    packets too; `ringfence doctor` says how to let them pass\n";
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    });
    let doctor = std::process::Command::new(env!("CARGO_BIN_EXE_ringfence"));
    let said = { doctor }.arg("doctor").output().expect("the doctor").stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.contains("another firewall, chain ip filter FORWARD, drops what this host forwards"),
        "{said}"
    );
    nft("add rule ip filter FORWARD iifname \"rf-*\" accept");
    nft("add rule ip filter FORWARD oifname \"rf-*\" ct state established accept");
    each(&[Caller::Root], &test, |ran| {
        assert_eq!(ran.stdout, "0\n", "{}", ran.stderr);
        assert!(!ran.stderr.contains("another firewall"), "{}", ran.stderr);
    });
    nft("delete table ip filter");
    world.settle("jobs that ended");
}

#[test]
fn settings_that_others_have_made_meanwhile_are_theirs() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let (live, _) = listening();
    // As Docker does when it starts.
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    fs::write("/proc/sys/net/ipv6/conf/up0/accept_ra", "0").unwrap();
    end(live, &world);
    let setting = |name: &str| fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap();
    let settings = [
        "ipv4/ip_forward",
        "ipv4/conf/up0/forwarding",
        "ipv6/conf/up0/accept_ra",
        "ipv6/conf/all/forwarding",
    ];
    assert_eq!(settings.map(setting), ["1\n", "1\n", "0\n", "0\n"]);
}

#[test]
fn a_record_of_settings_that_cannot_be_read_is_told() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let broken = |folder: &Path| {
        let mut private = fs::DirBuilder::new();
        let made = private
            .recursive(true)
            .mode(0o700)
            .create(folder.join("run/network"));
        made.unwrap();
        fs::write(folder.join("run/network/forwarding"), "{").unwrap();
    };
    each(&[Caller::Root], &bridge("true").setup(broken), |ran| {
        let record = ran.folder.join("run/network/forwarding");
        let wanted = format!(
            "ringfence: network step 1 of 6: join the network of jobs that name none: {}: not a record of settings that were \
             turned on; set them as they should be, and remove it",
            record.display()
        );
        assert!(ran.stderr.contains(&wanted), "{}", ran.stderr);
        assert_eq!(ran.status, 125);
    });
    world.settle("a job that was refused");
}
