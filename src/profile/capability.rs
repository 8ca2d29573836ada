//! The kernel's capabilities, by name.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! capabilities {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// A capability (see capabilities(7)); the number is the kernel's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names are the kernel's")]
        pub enum Capability { $(#[serde(rename = $text)] $name = $number,)* }

        impl Capability {
            /// All of them, in the kernel's order.
            pub const ALL: &[Capability] = &[$(Capability::$name,)*];

            /// The kernel's name in capitals, without `CAP_`.
            pub fn name(self) -> &'static str {
                match self { $(Capability::$name => $text,)* }
            }
        }
    };
}

capabilities! {
    Chown = 0, "CHOWN";
    DacOverride = 1, "DAC_OVERRIDE";
    DacReadSearch = 2, "DAC_READ_SEARCH";
    Fowner = 3, "FOWNER";
    Fsetid = 4, "FSETID";
    Kill = 5, "KILL";
    Setgid = 6, "SETGID";
    Setuid = 7, "SETUID";
    Setpcap = 8, "SETPCAP";
    LinuxImmutable = 9, "LINUX_IMMUTABLE";
    NetBindService = 10, "NET_BIND_SERVICE";
    NetBroadcast = 11, "NET_BROADCAST";
    NetAdmin = 12, "NET_ADMIN";
    NetRaw = 13, "NET_RAW";
    IpcLock = 14, "IPC_LOCK";
    IpcOwner = 15, "IPC_OWNER";
    SysModule = 16, "SYS_MODULE";
    SysRawio = 17, "SYS_RAWIO";
    SysChroot = 18, "SYS_CHROOT";
    SysPtrace = 19, "SYS_PTRACE";
    SysPacct = 20, "SYS_PACCT";
    SysAdmin = 21, "SYS_ADMIN";
    SysBoot = 22, "SYS_BOOT";
    SysNice = 23, "SYS_NICE";
    SysResource = 24, "SYS_RESOURCE";
    SysTime = 25, "SYS_TIME";
    SysTtyConfig = 26, "SYS_TTY_CONFIG";
    Mknod = 27, "MKNOD";
    Lease = 28, "LEASE";
    AuditWrite = 29, "AUDIT_WRITE";
    AuditControl = 30, "AUDIT_CONTROL";
    Setfcap = 31, "SETFCAP";
    MacOverride = 32, "MAC_OVERRIDE";
    MacAdmin = 33, "MAC_ADMIN";
    Syslog = 34, "SYSLOG";
    WakeAlarm = 35, "WAKE_ALARM";
    BlockSuspend = 36, "BLOCK_SUSPEND";
    AuditRead = 37, "AUDIT_READ";
    Perfmon = 38, "PERFMON";
    Bpf = 39, "BPF";
    CheckpointRestore = 40, "CHECKPOINT_RESTORE";
}

impl Capability {
    /// The capability of a name, with or without `CAP_`, in any case.
    pub fn from_name(name: &str) -> Option<Capability> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        Capability::ALL
            .iter()
            .copied()
            .find(|capability| capability.name() == name)
    }

    /// Why no job is given it, not even inside its own user namespace; `None` for all others.
    ///
    /// These open kernel code that was written for the host's administrator alone: most holes that a
    /// container's root has climbed out by were reached through one of them.
    pub fn never_given(self) -> Option<&'static str> {
        use Capability::*;
        Some(match self {
            SysAdmin => "with it a job could mount, and undo the mounts that hold it",
            NetAdmin => "with it a job could change the firewall that holds it",
            SysPtrace => "with it a job could control processes that it did not start",
            DacReadSearch => "with it a job could open files of the host by handle",
            SysModule | SysRawio => "it is for the kernel's own code and memory",
            Bpf | Perfmon => "it opens the kernel's verifier and counters to the job",
            CheckpointRestore => "with it a job could replace what a process claims to be",
            Syslog => "it shows the kernel's addresses",
            SysTime => "the clock is the host's",
            MacOverride | MacAdmin => "it is for the host's security policy",
            _ => return None,
        })
    }

    /// Its bit in the sets of capset(2).
    pub fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
