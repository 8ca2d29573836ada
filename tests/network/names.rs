//! A DNS server for the internet and the host that a test makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::missing;
use crate::support::{PATIENCE, Test};
use crate::world::{FAR, World, ip, serve};

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
pub(crate) struct Names {
    server: Child,
    folder: PathBuf,
}

impl Names {
    /// Starts dnsmasq(8) on this thread's network.
    pub(crate) fn start(listen: &str, options: &[&str]) -> Names {
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
    pub(crate) fn log(&self) -> String {
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
pub(crate) fn world(options: &'static [&'static str]) -> (World, Names) {
    world_asking(FAR, options)
}

/// The same where the host asks `server`.
pub(crate) fn world_asking(server: &str, options: &'static [&'static str]) -> (World, Names) {
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

pub(crate) fn without_dnsmasq() -> Option<&'static str> {
    missing().or_else(|| (!Path::new("/usr/sbin/dnsmasq").exists()).then_some("dnsmasq is not installed"))
}

/// Tries each `try HOST PORT`, and says of each how it ended: 0 when it was reached.
pub(crate) fn script(places: &str) -> String {
    format!(
        "try() {{ timeout 10 bash -c \"exec 3<>/dev/tcp/$1/$2 && head -n1 <&3 >/dev/null\" 2>/dev/null; echo $1 $2 $?; }}\n{places}"
    )
}

/// A job that does.
pub(crate) fn tries(places: &str) -> Test {
    Test::command(&["bash", "-c", &script(places)]).with("network.mode = \"bridge\"")
}
