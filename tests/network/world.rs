//! A host and an internet that a test makes: network namespaces of two threads, and a cable between them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::support::PATIENCE;

/// The host's addresses on the cable, with its gateway's at the other end (RFC 5737, RFC 3849).
pub(crate) const HOST: &str = "198.51.100.2";
pub(crate) const HOST_V6: &str = "2001:db8:1::2";

/// Addresses of the internet, where its servers listen.
pub(crate) const FAR: &str = "203.0.113.9";
pub(crate) const FAR_V6: &str = "2001:db8:9::9";

/// The largest packet on the cable: not what everything has unless it is told.
pub(crate) const MTU: u32 = 1400;

type Errand = Box<dyn FnOnce() + Send>;

/// The internet, beyond this thread's own network, which is the host's.
pub(crate) struct World {
    errands: Sender<(Errand, Sender<()>)>,
}

impl World {
    /// Makes both; from here on this thread, with all that it starts, is on the host.
    pub(crate) fn new() -> World {
        let (errands, inbox) = channel::<(Errand, Sender<()>)>();
        let (tell, told) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            tell.send(nix::unistd::gettid()).expect("the test waits");
            for (errand, done) in inbox {
                errand();
                done.send(()).ok();
            }
        });
        let far = told.recv().expect("the other thread");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let world = World { errands };
        let there = format!("/proc/{}/task/{far}/ns/net", std::process::id());
        ip("link set lo up");
        // What a host that forwards nothing has: new namespaces copy the first one's settings.
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{setting}"), "0").expect("a setting");
        }
        ip(&format!(
            "link add up0 mtu {MTU} type veth peer name down0 mtu {MTU} netns {there}"
        ));
        ip(&format!("addr add {HOST}/24 dev up0"));
        ip(&format!("addr add {HOST_V6}/64 dev up0 nodad"));
        world.there(|| {
            ip("link set lo up");
            ip("addr add 198.51.100.1/24 dev down0");
            ip("addr add 2001:db8:1::1/64 dev down0 nodad");
            ip("link set down0 up");
            ip(&format!("addr add {FAR}/32 dev lo"));
            ip(&format!("addr add {FAR_V6}/128 dev lo nodad"));
        });
        ip("link set up0 up");
        ip("route add default via 198.51.100.1");
        ip("-6 route add default via 2001:db8:1::1");
        world
    }

    /// Does something on the internet.
    pub(crate) fn there(&self, errand: impl FnOnce() + Send + 'static) {
        let (tell, told) = channel();
        self.errands
            .send((Box::new(errand), tell))
            .expect("the internet is there");
        told.recv().expect("the errand is done");
    }

    /// Waits until the host is as it was made: no link, rule or address of a run is left on it.
    #[track_caller]
    pub(crate) fn settle(&self, after: &str) {
        let started = Instant::now();
        while let Some(left) = left() {
            assert!(started.elapsed() < PATIENCE, "left after {after}: {left}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What there is on the host that was not made by [`World::new`].
pub(crate) fn left() -> Option<String> {
    let links = output("ip", &["-o", "-br", "link"]);
    let links = links
        .lines()
        .filter(|line| !line.starts_with("lo ") && !line.starts_with("up0@"));
    let left: Vec<String> = links
        .map(str::to_owned)
        .chain([output("nft", &["list", "ruleset"])])
        .collect();
    let left = left.join("\n");
    (!left.trim().is_empty()).then_some(left)
}

/// Listens on all addresses of this thread's network, and tells each caller the address that it comes from.
pub(crate) fn serve(port: u16) {
    let listener = TcpListener::bind(SocketAddr::new("::".parse().unwrap(), port)).expect("a port");
    thread::spawn(move || {
        for caller in listener.incoming() {
            let mut caller = caller.expect("a caller");
            let from = caller.peer_addr().expect("its address").ip().to_canonical();
            writeln!(caller, "{from}").ok();
            // It reads to the end; so that this end is not the first, which would keep the port busy.
            caller.read_to_end(&mut Vec::new()).ok();
        }
    });
}

/// Runs ip(8) on this thread's network.
pub(crate) fn ip(words: &str) {
    output("ip", &words.split(' ').collect::<Vec<_>>());
}

/// Runs a program on this thread's network.
#[track_caller]
pub(crate) fn output(program: &str, words: &[&str]) -> String {
    let output = Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
