//! Jobs that say that they are somebody else.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::{Caller, Live, Test, skip};
use crate::world::{FAR, FAR_V6, World, output, serve};
use crate::{each, missing};

/// Tells everybody on the link that two addresses are here, by ARP and by neighbour advertisements, and sends from the
/// hardware address that has them.
const POISON: &str = r#"
import socket, struct, sys
victim4, victim6, gateway4, gateway6, there = sys.argv[1:]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
here = raw.getsockname()[4]
there = bytes.fromhex(there.replace(":", ""))
v4 = lambda text: socket.inet_pton(socket.AF_INET, text)
v6 = lambda text: socket.inet_pton(socket.AF_INET6, text)
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
for source in (here, there):
    for operation in (1, 2):
        body = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + here + v4(victim4) + here + v4(gateway4)
        raw.send(b"\xff" * 6 + source + b"\x08\x06" + body)
    for sender in (victim6, gateway6):
        body = struct.pack("!BBHI", 136, 0, 0, 0x60000000) + v6(victim6) + b"\x02\x01" + here
        pseudo = v6(sender) + v6(gateway6) + struct.pack("!II", len(body), 58)
        body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
        header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + v6(sender) + v6(gateway6)
        raw.send(b"\xff" * 6 + source + b"\x86\xdd" + header + body)
"#;

/// The same with what `standard` leaves a job: says that a neighbour's address is here, then that its own is.
const ADVERTISE: &str = r#"
import socket, struct, sys
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
for address in sys.argv[1:3]:
    target = socket.inet_pton(socket.AF_INET6, address)
    try:
        raw.sendto(struct.pack("!BBHI", 136, 0, 0, 0x60000000) + target + bytes([2, 1, 2, 0, 0, 0, 0, 0]), (sys.argv[3], 0))
        print("sent")
    except OSError as error:
        print(error.strerror)
"#;

/// A job that waits, then tries the internet; its IPv4, IPv6 and hardware address.
fn waiting(name: &str, run: Option<&str>) -> (Live, [String; 3]) {
    let script = format!(
        "ip -o addr show dev eth0 scope global | grep -Eo 'inet6? [^/]*' | cut -d' ' -f2 > /out/new\n\
         ip -o link show dev eth0 | grep -o 'ether [^ ]*' | cut -d' ' -f2 >> /out/new; mv /out/new /out/own\n\
         until [ -e /out/go ]; do sleep 0.05; done\n\
         for to in {FAR} {FAR_V6}; do\n\
           timeout 3 bash -c \"exec 3<>/dev/tcp/$to/80; head -n1 <&3\" > /out/heard; echo $? >> /out/tried\n\
         done\n\
         until [ -e /out/end ]; do sleep 0.05; done"
    );
    let mut test = Test::command(&["bash", "-c", &script])
        .with("network.mode = \"bridge\"")
        .with(name)
        .with("mounts.\"/out\" = { bind = \"out\", access = \"rw\" }")
        .setup(|folder: &Path| fs::create_dir(folder.join("out")).unwrap());
    if let Some(run) = run {
        test = test.env("RINGFENCE_RUN", run);
    }
    let mut live = test.start(Caller::Root).unwrap();
    live.wait_for_file("out/own");
    let own = fs::read_to_string(live.folder().join("out/own")).unwrap();
    let own: Vec<String> = own.lines().map(str::to_owned).collect();
    (live, own.try_into().expect("two addresses and one of hardware"))
}

#[test]
fn a_job_on_a_bridge_is_nobody_else() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    world.there(|| serve(80));
    for name in ["", "network.name = \"lab\""] {
        let (mut victim, [v4, v6, mac]) = waiting(name, None);
        let run = victim.folder().join("run").display().to_string();
        let (attacker, _) = waiting(name, Some(&run));
        let gateway4 = v4.rsplit_once('.').unwrap().0.to_owned() + ".1";
        let gateway6 = v6.rsplit_once("::").unwrap().0.to_owned() + "::1";
        // It has every right in its network, and no rules any more.
        let inside = attacker.groups().processes_of_runs();
        let inside = inside.first().expect("a job").to_string();
        let enter = ["-t", &inside, "-n", "--"];
        output("nsenter", &[&enter[..], &["nft", "flush", "ruleset"]].concat());
        let poison = ["python3", "-c", POISON, &v4, &v6, &gateway4, &gateway6, &mac];
        for _ in 0..5 {
            output("nsenter", &[&enter[..], &poison[..]].concat());
        }
        fs::write(victim.folder().join("out/go"), "").unwrap();
        let tried = |live: &Live| fs::read_to_string(live.folder().join("out/tried")).unwrap_or_default();
        victim.wait_until("the victim has tried", |live| tried(live).lines().count() == 2);
        assert_eq!(tried(&victim), "0\n0\n", "{name}");
        let neighbours = output("ip", &["neigh", "show"]);
        for address in [&v4, &v6] {
            let known = neighbours
                .lines()
                .find(|line| line.starts_with(&format!("{address} ")));
            let known = known.unwrap_or_else(|| panic!("{neighbours}"));
            assert!(known.contains(&mac) && known.contains("PERMANENT"), "{known}");
        }
        for live in [attacker, victim] {
            live.signal(Signal::SIGTERM);
            live.end_of_all();
        }
        world.settle("jobs that ended");
    }
}

#[test]
fn a_job_with_raw_sockets_speaks_for_itself_alone() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    let script = format!(
        "own=$(ip -o -6 addr show dev eth0 | grep -Eo 'inet6 [^/]*' | cut -d' ' -f2); net=${{own%::*}}\n\
         exec python3 -c '{ADVERTISE}' $net::77 $own $net::1"
    );
    let test = Test::command(&["bash", "-c", &script])
        .with("profile = \"standard\"")
        .with("user = \"root\"");
    each(&[Caller::Root], &test, |ran| {
        assert_eq!(ran.stdout, "Operation not permitted\nsent\n", "{}", ran.stderr);
    });
    world.settle("a job that ended");
}
