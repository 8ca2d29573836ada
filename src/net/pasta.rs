//! An ordinary user's way out: pasta(1), which sends what the job sends as connections of the caller's own.
//!
//! It makes the job's interface, a tap device, and serves it until it is ended. It dies with this process
//! (PR_SET_PDEATHSIG(2const)): to enter a user namespace that one owns takes nothing from that.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::agent::{Agent, INTERFACE, Interface};
use super::subnet::{GATEWAY, LENGTH};
use super::trusted;
use crate::sys::fork::{self, Child};
use crate::sys::process;

/// Where distributions put it.
const PLACES: [&str; 2] = ["/usr/bin/pasta", "/bin/pasta"];

/// The largest packet of its interface, in bytes: what the job writes at once it sends at once (pasta(1), --mtu).
pub(crate) const MTU: u32 = 65520;

/// The most that it may say, in bytes.
const WORDS: u64 = 64 << 10;

/// pasta(1), if it is installed and root's own.
pub(crate) fn program() -> Option<&'static Path> {
    trusted::program(&PLACES)
}

/// pasta at work for one job; it ends when this is dropped.
pub(crate) struct Pasta {
    _child: Child,
    process: OwnedFd,
    said: File,
}

impl Pasta {
    /// Starts it on the namespaces of a job, that `agent` is in, with the host's `link` where it would find none. The interface
    /// comes a little later.
    ///
    /// # Errors
    /// That it is not installed, or cannot be started.
    pub(crate) fn start(agent: &Agent, interface: &Interface, link: Option<&str>) -> Result<Pasta, String> {
        let program = program().ok_or("pasta is not installed (package passt)")?;
        let words = |errno: Errno| format!("{}: {}", program.display(), super::words(errno));
        let said =
            memfd_create(c"pasta", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(words)?;
        let said = File::from(said);
        said.set_len(WORDS).map_err(|error| error.to_string())?;
        // What it says beyond that is lost: it is no way to fill the host's memory.
        fcntl(&said, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).map_err(words)?;
        let mut command = Command::new(program);
        command.args(["--foreground", "--quiet", "--ns-ifname", INTERFACE]);
        // It looks for a default route, and for nothing else.
        command.args(link.iter().flat_map(|link| ["--interface", link]));
        // It enters the one before it opens the other, and may then look only at who is there. PID 1 has closed itself.
        for name in ["user", "net"] {
            command.args([format!("--{name}ns"), format!("/proc/{}/ns/{name}", agent.pid())]);
        }
        for (address, _) in interface.addresses(interface.number) {
            command.args(["--address", &address.to_string()]);
        }
        command.args(["--netmask", &LENGTH.to_string()]);
        for (gateway, _) in interface.addresses(GATEWAY) {
            command.args(["--gateway", &gateway.to_string()]);
        }
        let mac = interface.subnet.mac(interface.number);
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        command.args(["--ns-mac-addr", &mac]);
        // No port of the host leads inside or back, and no address inside is the host's own loopback.
        for ports in ["--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"] {
            command.args([ports, "none"]);
        }
        // The agent gives the addresses.
        command.args(["--no-map-gw", "--no-dhcp", "--no-dhcpv6", "--no-ra"]);
        let streams = said.try_clone().and_then(|out| Ok((out, said.try_clone()?)));
        let (out, err) = streams.map_err(|error| error.to_string())?;
        command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let child = fork::run(|| {
            // What the caller has left open is none of its business.
            if process::cloexec_from(3).is_err() {
                return 127;
            }
            // It comes back only to say that it could not be done, and the file of its words is then empty.
            drop(command.exec());
            127
        });
        let child = child.map_err(words)?;
        let process = process::open(child.pid()).map_err(words)?;
        Ok(Pasta {
            _child: child,
            process,
            said,
        })
    }

    /// Why it has ended, in its own words.
    pub(crate) fn last_words(&mut self) -> String {
        let mut text = String::new();
        let read = self
            .said
            .rewind()
            .and_then(|()| self.said.read_to_string(&mut text));
        // Without a socket of the system log it speaks of that as well.
        let mut own = text
            .lines()
            .map(|line| line.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0'))
            .filter(|line| !line.is_empty() && !line.contains("syslog"));
        match (read, own.next_back()) {
            (Ok(_), Some(line)) => format!("pasta: {line}"),
            _ => "pasta has ended".to_owned(),
        }
    }
}

impl AsFd for Pasta {
    /// Readable when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}
