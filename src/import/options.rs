//! The options of `docker run`: which there are, which have a value, and what a manifest cannot say of them.

use super::Refusal;

/// Options without a value.
const SWITCHES: &[&str] = &[
    "detach",
    "disable-content-trust",
    "init",
    "interactive",
    "no-healthcheck",
    "oom-kill-disable",
    "privileged",
    "publish-all",
    "quiet",
    "read-only",
    "rm",
    "sig-proxy",
    "tty",
    "use-api-socket",
    "help",
    "version",
];

/// Options with a value that a manifest cannot say, and why.
pub(super) const LEFT_OUT: &[(&str, &str)] = &[
    ("add-host", "the job's /etc/hosts is ringfence's own"),
    ("annotation", "nothing reads it"),
    ("attach", "the job has the streams of `ringfence run`"),
    (
        "blkio-weight",
        "limits.io bounds bandwidth and operations of a device",
    ),
    (
        "blkio-weight-device",
        "limits.io bounds bandwidth and operations of a device",
    ),
    ("cgroup-parent", "a run has a group of its own below the caller's"),
    ("cidfile", "nothing outlives a run"),
    ("cpu-count", "write limits.cpus"),
    ("cpu-percent", "write limits.cpus"),
    ("cpu-period", "write limits.cpus"),
    ("cpu-quota", "write limits.cpus"),
    ("cpu-rt-period", "real-time processor time is not given"),
    ("cpu-rt-runtime", "real-time processor time is not given"),
    ("cpu-shares", "a share is a bound here: limits.cpus"),
    ("cpuset-mems", "memory nodes cannot be chosen"),
    ("detach-keys", "a run is not detached from"),
    ("device", "no device of the host is given to a job"),
    ("device-cgroup-rule", "no device of the host is given to a job"),
    ("dns", "the job's /etc/resolv.conf is ringfence's own"),
    ("dns-option", "the job's /etc/resolv.conf is ringfence's own"),
    ("dns-search", "the job's /etc/resolv.conf is ringfence's own"),
    ("domainname", "the host name is all"),
    ("env-file", "write its lines under env"),
    ("expose", "it opens nothing"),
    ("gpus", "no device of the host is given to a job"),
    (
        "group-add",
        "the groups are those that the image's /etc/group gives the user",
    ),
    ("health-cmd", "a run ends with the job"),
    ("health-interval", "a run ends with the job"),
    ("health-retries", "a run ends with the job"),
    ("health-start-interval", "a run ends with the job"),
    ("health-start-period", "a run ends with the job"),
    ("health-timeout", "a run ends with the job"),
    ("ip", "addresses are given by ringfence"),
    ("ip6", "addresses are given by ringfence"),
    ("isolation", "it is for Windows"),
    ("kernel-memory", "limits.memory counts it"),
    ("label", "nothing reads it"),
    ("label-file", "nothing reads it"),
    ("link", "name a network that both jobs are on: network.name"),
    ("link-local-ip", "addresses are given by ringfence"),
    ("log-driver", "the job has the streams of `ringfence run`"),
    ("log-opt", "the job has the streams of `ringfence run`"),
    ("mac-address", "addresses are given by ringfence"),
    ("memory-reservation", "limits.memory is a bound"),
    ("memory-swappiness", "there is no swap"),
    (
        "network-alias",
        "name a network that both jobs are on: network.name",
    ),
    ("oom-score-adj", "the kernel's own score holds"),
    ("platform", "an image is chosen for this machine"),
    (
        "pull",
        "an image is fetched when it is not in the store; `ringfence pull` fetches again",
    ),
    ("restart", "a run ends with the job"),
    ("runtime", "there is one"),
    ("stop-signal", "it is the image's"),
    ("storage-opt", "write limits.disk"),
    ("userns", "a job always has a user namespace of its own"),
    ("uts-mode", "write namespaces.uts"),
    ("volume-driver", "bind a folder of the host"),
    ("volumes-from", "bind the same folder in both jobs"),
    (
        "blkio-device",
        "limits.io bounds bandwidth and operations of a device",
    ),
];

/// Short options and what they stand for.
const SHORT: &[(char, &str)] = &[
    ('a', "attach"),
    ('c', "cpu-shares"),
    ('d', "detach"),
    ('e', "env"),
    ('h', "hostname"),
    ('i', "interactive"),
    ('l', "label"),
    ('m', "memory"),
    ('p', "publish"),
    ('P', "publish-all"),
    ('q', "quiet"),
    ('t', "tty"),
    ('u', "user"),
    ('v', "volume"),
];

/// An option by its long name, and its value.
pub(super) type Named = (String, String);

/// The options by their long names, and what follows them.
pub(super) fn options(words: &[String]) -> Result<(Vec<Named>, &[String]), Refusal> {
    let mut found = Vec::new();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        let Some(dashed) = word.strip_prefix('-') else {
            break;
        };
        rest = after;
        if dashed == "-" {
            break;
        }
        let value = |rest: &mut &[String]| match rest.split_first() {
            Some((value, after)) => {
                *rest = after;
                Ok(value.clone())
            }
            None => Err(Refusal(format!("{word} has no value"))),
        };
        if let Some(long) = dashed.strip_prefix('-') {
            let (name, given) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let given = match given {
                Some(given) => given,
                None if SWITCHES.contains(&name) => "true".to_owned(),
                None if is_known(name) => value(&mut rest)?,
                None => {
                    return Err(Refusal(format!(
                        "--{name} is not known, nor whether the next word is its value; leave it out, or write --{name}=VALUE"
                    )));
                }
            };
            found.push((name.to_owned(), given));
            continue;
        }
        let mut letters = dashed.chars();
        while let Some(letter) = letters.next() {
            let long = SHORT
                .iter()
                .find(|(short, _)| *short == letter)
                .map(|(_, long)| *long);
            // `-w` is the one short option whose letter is not the first of its name.
            let Some(long) = long.or((letter == 'w').then_some("workdir")) else {
                return Err(Refusal(format!("-{letter} is not known")));
            };
            if SWITCHES.contains(&long) {
                found.push((long.to_owned(), "true".to_owned()));
                continue;
            }
            let given = letters.as_str().trim_start_matches('=').to_owned();
            let given = if given.is_empty() {
                value(&mut rest)?
            } else {
                given
            };
            found.push((long.to_owned(), given));
            break;
        }
    }
    Ok((found, rest))
}

/// Options with a value that a manifest can say.
const SAID: &[&str] = &[
    "cap-add",
    "cap-drop",
    "cgroupns",
    "cpus",
    "cpuset-cpus",
    "device-read-bps",
    "device-read-iops",
    "device-write-bps",
    "device-write-iops",
    "entrypoint",
    "env",
    "hostname",
    "ipc",
    "memory",
    "memory-swap",
    "mount",
    "name",
    "net",
    "network",
    "pid",
    "pids-limit",
    "publish",
    "security-opt",
    "shm-size",
    "stop-timeout",
    "sysctl",
    "tmpfs",
];
const SAID_TOO: &[&str] = &["ulimit", "user", "uts", "volume", "workdir"];

fn is_known(name: &str) -> bool {
    SAID.contains(&name) || SAID_TOO.contains(&name) || LEFT_OUT.iter().any(|(other, _)| *other == name)
}
