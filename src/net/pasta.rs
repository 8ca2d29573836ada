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
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::agent::{Agent, INTERFACE};
use super::subnet::{GATEWAY, LENGTH, Number, Subnet};
use super::trusted;
use crate::sys::{fork, process};

/// Where distributions put it.
const PLACES: [&str; 2] = ["/usr/bin/pasta", "/bin/pasta"];

/// The largest packet of its interface, in bytes: what the job writes at once it sends at once (pasta(1), --mtu).
pub(crate) const MTU: u32 = 65520;

/// pasta(1), if it is installed and root's own.
pub(crate) fn program() -> Option<&'static Path> {
    trusted::program(&PLACES)
}

/// pasta at work for one job.
pub(crate) struct Pasta {
    pid: Pid,
    process: OwnedFd,
    said: File,
}

impl Pasta {
    /// Starts it on the namespaces of a job, that `agent` is in. The interface comes a little later.
    ///
    /// # Errors
    /// That it is not installed, or cannot be started.
    pub(crate) fn start(agent: &Agent, subnet: Subnet, number: Number) -> Result<Pasta, String> {
        let program = program().ok_or("pasta is not installed (package passt)")?;
        let words = |errno: Errno| format!("{}: {}", program.display(), super::words(errno));
        let said = memfd_create(c"pasta", MFdFlags::MFD_CLOEXEC).map_err(words)?;
        let said = File::from(said);
        let mut command = Command::new(program);
        command.args(["--foreground", "--quiet", "--ns-ifname", INTERFACE]);
        // It enters the one before it opens the other, and may then look only at who is there. PID 1 has closed itself.
        for name in ["user", "net"] {
            command.args([format!("--{name}ns"), format!("/proc/{}/ns/{name}", agent.pid())]);
        }
        for (address, _) in subnet.addresses(number) {
            command.args(["--address", &address.to_string()]);
        }
        command.args(["--netmask", &LENGTH.to_string()]);
        for (gateway, _) in subnet.addresses(GATEWAY) {
            command.args(["--gateway", &gateway.to_string()]);
        }
        let mac = subnet.mac(number).map(|byte| format!("{byte:02x}")).join(":");
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
        let pid = fork::run(|| {
            // It comes back only to say that it could not be done, and the file of its words is then empty.
            drop(command.exec());
            127
        });
        let pid = pid.map_err(words)?;
        let process = process::open(pid).map_err(words)?;
        Ok(Pasta { pid, process, said })
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
            .filter(|line| !line.trim().is_empty() && !line.contains("syslog"));
        match (read, own.next_back()) {
            (Ok(_), Some(line)) => format!("pasta: {}", line.trim()),
            _ => "pasta has ended".to_owned(),
        }
    }

    /// Ends it, and waits for that.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn end(self) -> Result<(), Errno> {
        match process::signal(self.process.as_fd(), Signal::SIGKILL as i32) {
            Ok(()) | Err(Errno::ESRCH) => process::wait(self.pid).map(drop),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Pasta {
    /// Readable when it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}
