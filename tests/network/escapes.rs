//! What a job tries that wants to reach more than it may.

use crate::support::{Caller, Test, skip};
use crate::world::{FAR, FAR_V6, World};
use crate::{each, missing};

const ALL: [Caller; 3] = [Caller::Root, Caller::User, Caller::UserWithIds];

/// Answers every datagram at an address of the internet.
fn answer(at: &str, port: u16) {
    let socket = std::net::UdpSocket::bind((at, port)).expect("a port");
    std::thread::spawn(move || {
        let mut datagram = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut datagram) {
            socket.send_to(b"reached", from).ok();
        }
    });
}

/// Binds the address that is closed to it, which takes no privilege (IP_FREEBIND, ip(7); IPV6_FREEBIND, ipv6(7)), sends
/// from there to its own over the loopback interface, and answers: for the kernel that belongs to the same connection.
const FORGED: &str = r#"
import socket, sys
for far, family, level, freebind, own in [
    (sys.argv[1], socket.AF_INET, 0, 15, sys.argv[3]),
    (sys.argv[2], socket.AF_INET6, 41, 78, sys.argv[4]),
]:
    job = socket.socket(family, socket.SOCK_DGRAM)
    job.bind((own, 5000))
    job.settimeout(1)
    forged = socket.socket(family, socket.SOCK_DGRAM)
    forged.setsockopt(level, freebind, 1)
    forged.bind((far, 4433))
    try:
        forged.sendto(b"x", (own, 5000))
    except OSError:
        pass
    forged.close()
    try:
        job.recvfrom(64)
    except OSError:
        pass
    try:
        job.sendto(b"out", (far, 4433))
        print(job.recvfrom(64)[0].decode())
    except OSError:
        print("refused")
"#;

#[test]
fn no_answer_to_a_forged_packet_leaves() {
    if let Some(reason) = missing() {
        skip!("{reason}");
    }
    let world = World::new();
    world.there(|| {
        answer(FAR, 4433);
        answer(FAR_V6, 4433);
    });
    let script = format!(
        "set -- $(ip -o addr show dev eth0 scope global | grep -Eo 'inet6? [^/]*' | cut -d' ' -f2); \
         exec python3 -c '{FORGED}' {FAR} {FAR_V6} \"$@\""
    );
    let job = |listed: &str| {
        Test::command(&["bash", "-c", &script])
            .with("network.mode = \"bridge\"")
            .with(listed)
    };
    each(&ALL, &job("network.allow = {}"), |ran| {
        assert_eq!(
            ran.stdout, "refused\nrefused\n",
            "{:?}: {}",
            ran.caller, ran.stderr
        );
    });
    // The same job reaches both where they are listed, so the refusal was of the rules.
    let listed = format!("network.allow.\"{FAR}\" = {{}}\nnetwork.allow.\"{FAR_V6}\" = {{}}");
    each(&[Caller::Root], &job(&listed), |ran| {
        assert_eq!(
            ran.stdout, "reached\nreached\n",
            "{:?}: {}",
            ran.caller, ran.stderr
        );
    });
    world.settle("jobs that ended");
}
