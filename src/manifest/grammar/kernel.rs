//! Words of the kernel: capabilities, system calls, devices, processors, settings.

use super::Wrong;
use crate::manifest::nearest::nearest;
use crate::problem::codes;
use crate::profile::{Capability, Namespace};
use crate::seccomp::system_calls;

/// A capability that a job can be given, by name.
pub(crate) fn capability(text: &str) -> Result<(), Wrong> {
    match Capability::from_name(text) {
        Some(capability) => match capability.never_given() {
            Some(reason) => Err(Wrong::new(
                codes::NEVER_GIVEN,
                format!("is never given to a job: {reason}"),
                "leave it out",
            )),
            None => Ok(()),
        },
        None if text.eq_ignore_ascii_case("all") => Err(Wrong::new(
            codes::UNKNOWN_WORD,
            "is not a capability",
            "list the capabilities that the job needs",
        )),
        None => {
            let upper = text.to_ascii_uppercase();
            let given = Capability::ALL
                .iter()
                .filter(|capability| capability.never_given().is_none());
            let names = given.map(|capability| capability.name());
            let right = match nearest(upper.strip_prefix("CAP_").unwrap_or(&upper), names) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => "see capabilities(7) for the names".to_owned(),
            };
            Err(Wrong::new(codes::UNKNOWN_WORD, "is not a capability", right))
        }
    }
}

/// The name of a system call that some architecture has.
pub(crate) fn syscall(text: &str) -> Result<(), Wrong> {
    if system_calls().any(|name| name == text) {
        return Ok(());
    }
    let right = nearest(text, system_calls())
        .map(|name| format!("did you mean \"{name}\"?"))
        .unwrap_or_else(|| "names as in syscalls(2), such as \"ptrace\"".to_owned());
    Err(Wrong::new(
        codes::UNKNOWN_WORD,
        "is not the name of a system call",
        right,
    ))
}

/// A list of processors, as cpuset(7) has it.
pub(crate) fn cpuset(text: &str) -> Result<(), Wrong> {
    // 8192 is the most that Linux is built for (CONFIG_NR_CPUS_RANGE_END on x86).
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|n| *n < 8192 && n.to_string() == text)
    };
    let good = text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(a), Some(b)) if a <= b),
        None => number(part).is_some(),
    });
    (good && text.len() <= 1024).then_some(()).ok_or_else(|| {
        Wrong::form(
            "is not a list of processors",
            "numbers and ranges with commas between them, such as \"0-2,4\"",
        )
    })
}

/// A block device: a path below /dev, or its numbers.
pub(crate) fn device(text: &str) -> Result<(), Wrong> {
    let numbers = text
        .split_once(':')
        .is_some_and(|(major, minor)| major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok());
    if numbers || (text.starts_with("/dev/") && super::path(text).is_ok()) {
        return Ok(());
    }
    Err(Wrong::new(
        codes::BAD_NAME,
        "is not a block device",
        "a path such as \"/dev/sda\", or numbers such as \"8:0\"",
    ))
}

/// A kernel setting that belongs to a namespace of the job, by dotted name.
pub(crate) fn sysctl_name(text: &str) -> Result<(), Wrong> {
    let part = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    if text.len() > 128 || !text.contains('.') || !text.split('.').all(part) {
        let dotted = text.replace('/', ".");
        let dotted = dotted.trim_matches('.');
        let right = if text.contains('/') && sysctl_name(dotted).is_ok() {
            format!("write `{dotted}`")
        } else {
            "parts with dots between them, such as `net.ipv4.ip_forward`".to_owned()
        };
        return Err(Wrong::new(
            codes::BAD_SYSCTL,
            "is not the name of a kernel setting",
            right,
        ));
    }
    if text == "kernel.hostname" {
        return Err(Wrong::new(
            codes::BAD_SYSCTL,
            "has a key of its own",
            "write `hostname = \"…\"` in the profile or job",
        ));
    }
    match sysctl_namespace(text) {
        Some(_) => Ok(()),
        None => Err(Wrong::new(
            codes::BAD_SYSCTL,
            "would change the whole host",
            "a job may set what belongs to its own namespaces: net.*, fs.mqueue.*, user.max_*, and kernel.{domainname, msg*, sem, shm*}",
        )),
    }
}

/// The namespace that a kernel setting belongs to (see namespaces(7), proc_sys_kernel(5)).
pub(crate) fn sysctl_namespace(name: &str) -> Option<Namespace> {
    match name {
        "kernel.domainname" => Some(Namespace::Uts),
        "kernel.msgmax"
        | "kernel.msgmnb"
        | "kernel.msgmni"
        | "kernel.sem"
        | "kernel.shmall"
        | "kernel.shmmax"
        | "kernel.shmmni"
        | "kernel.shm_rmid_forced" => Some(Namespace::Ipc),
        _ if name.starts_with("fs.mqueue.") => Some(Namespace::Ipc),
        _ if name.starts_with("user.max_") => Some(Namespace::User),
        _ if name.starts_with("net.") => Some(Namespace::Net),
        _ => None,
    }
}

/// What is written into a kernel setting: one line of plain words.
pub(crate) fn sysctl_value(text: &str) -> Result<(), Wrong> {
    let good = (1..=256).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | ',' | '-' | '_' | ':'));
    good.then_some(()).ok_or_else(|| {
        Wrong::new(
            codes::BAD_SYSCTL,
            "is not a value of a kernel setting",
            "up to 256 letters, digits, spaces and `.,-_:`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::assert_form;
    use super::*;

    #[test]
    fn settings_of_the_host_stay_out_of_reach() {
        let name = "is not the name of a kernel setting";
        let host = "would change the whole host";
        assert_form(
            sysctl_name,
            &[
                "net.ipv4.ip_unprivileged_port_start",
                "kernel.shmmax",
                "fs.mqueue.msg_max",
                "user.max_user_namespaces",
            ],
            &[
                ("", name),
                ("net", name),
                ("net..x", name),
                ("net/ipv4/ip_forward", name),
                ("net.ipv4.../../kernel", name),
                ("net.x+kernel.core_pattern", name),
                ("net.x=1", name),
                ("net.x\n", name),
                ("kernel.core_pattern", host),
                ("vm.overcommit_memory", host),
                ("kernel.hostname", "has a key of its own"),
            ],
        );
        let value = "is not a value of a kernel setting";
        assert_form(
            sysctl_value,
            &["1", "32768 60999", "-1"],
            &[("", value), ("1\n2", value), ("1+x=2", value), ("1\0", value)],
        );
    }

    #[test]
    fn capabilities_that_reach_the_host_are_never_given() {
        for given in ["CHOWN", "cap_net_raw", "SYS_CHROOT"] {
            assert_eq!(capability(given), Ok(()), "{given}");
        }
        assert_eq!(capability("CAP_SYS_ADMIN").unwrap_err().code, codes::NEVER_GIVEN);
        assert_eq!(
            capability("NET_RAWW").unwrap_err().right,
            "did you mean \"NET_RAW\"?"
        );
        assert_eq!(
            capability("ALL").unwrap_err().right,
            "list the capabilities that the job needs"
        );
    }

    #[test]
    fn processors_and_devices() {
        let wrong = "is not a list of processors";
        assert_form(
            cpuset,
            &["0", "0-2,4"],
            &[
                ("", wrong),
                ("2-0", wrong),
                ("0,", wrong),
                ("0x1", wrong),
                ("9999", wrong),
                ("00", wrong),
            ],
        );
        assert_form(
            device,
            &["/dev/sda", "8:0"],
            &[
                ("sda", "is not a block device"),
                ("/dev/../etc", "is not a block device"),
                ("8:0:1", "is not a block device"),
            ],
        );
    }
}
