//! The last look before execve(2): what the kernel says of this process must equal the plan.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{getgroups, read};

use super::Bound;
use super::credentials::Credentials;
use crate::plan::WorkloadStep;

/// The open `/proc/self/status`, and room for what it will say: made before the filters, which may forbid to ask for memory.
#[derive(Debug)]
pub(super) struct Status {
    file: OwnedFd,
    room: Vec<u8>,
}

impl Status {
    /// Makes the room. All lines but the supplementary groups' have bounds, and fit into a page.
    ///
    /// # Errors
    /// None that getgroups(2) gives for these arguments.
    pub(super) fn new(file: OwnedFd) -> Result<Status, Errno> {
        // A group is ten digits and a blank at the most, and there may be 65536.
        let room = vec![0; 4096 + 11 * getgroups()?.len()];
        Ok(Status { file, room })
    }

    /// Reads the file and compares it with what `steps` have asked for, the policy as so many filters (proc_pid_status(5)).
    ///
    /// # Errors
    /// ENOTRECOVERABLE when one value differs.
    pub(super) fn verify(
        mut self,
        steps: &[WorkloadStep],
        filters: usize,
        bound: &Bound,
    ) -> Result<(), Errno> {
        let mut length = 0;
        loop {
            match read(self.file.as_fd(), &mut self.room[length..])? {
                0 => break,
                more => length += more,
            }
        }
        // The file's first line is the program's name, which may be any bytes; what is looked for is ASCII.
        let text = String::from_utf8_lossy(&self.room[..length]);
        let holds = |(key, value): &(&str, String)| field(&text, key) == Some(value.as_str());
        if expected(steps, filters, bound).iter().all(holds) {
            Ok(())
        } else {
            Err(Errno::ENOTRECOVERABLE)
        }
    }
}

/// The lines of the file that the plan determines.
fn expected(steps: &[WorkloadStep], filters: usize, bound: &Bound) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for step in steps {
        match step {
            WorkloadStep::Credentials {
                user,
                group,
                groups,
                capabilities,
                ambient,
            } => {
                let wanted = Credentials {
                    user: bound.user(*user),
                    group: bound.group(*group),
                    groups: Some(groups),
                    capabilities: capabilities
                        .iter()
                        .fold(0, |set, capability| set | capability.bit()),
                    ambient: *ambient,
                };
                let (permitted, inheritable, _) = wanted.sets();
                let (user, group) = (wanted.user, wanted.group);
                lines.push(("Uid", format!("{user}\t{user}\t{user}\t{user}")));
                lines.push(("Gid", format!("{group}\t{group}\t{group}\t{group}")));
                lines.push(("CapInh", format!("{inheritable:016x}")));
                lines.push(("CapPrm", format!("{permitted:016x}")));
                lines.push(("CapEff", format!("{permitted:016x}")));
                lines.push(("CapBnd", format!("{:016x}", wanted.capabilities)));
                lines.push(("CapAmb", format!("{inheritable:016x}")));
            }
            WorkloadStep::NoNewPrivileges => lines.push(("NoNewPrivs", "1".to_owned())),
            WorkloadStep::Seccomp(_) => {
                lines.push(("Seccomp", "2".to_owned()));
                lines.push(("Seccomp_filters", filters.to_string()));
            }
            _ => {}
        }
    }
    lines
}

/// The value of one line `Key:\tvalue`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "Seccomp_filters:\t3\nSeccomp:\t2\nUid:\t0\t0\t0\t0\n";
        assert_eq!(field(text, "Seccomp"), Some("2"));
        assert_eq!(field(text, "Seccomp_filters"), Some("3"));
        assert_eq!(field(text, "Uid"), Some("0\t0\t0\t0"));
        assert_eq!(field(text, "Sec"), None);
    }
}
