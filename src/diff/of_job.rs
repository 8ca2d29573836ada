//! A resolved job as measures. Every field is taken apart by name, so that a new one does not compile until somebody
//! has said which way is looser.

use std::collections::BTreeSet;

use super::held::Held;
use super::measure::{Measure, Names};
use crate::egress::Hosts;
use crate::profile::{
    Access, Allow, Job, Mount, Network, Origin, Piece, Placed, Profile, Publish, Rlimit, Root, SysMount,
    Text, User,
};

impl Held {
    pub(super) fn of_job(job: &Job) -> Held {
        let Job {
            // The name tells which two jobs are compared, and warnings are about this one.
            name: _,
            image,
            entrypoint,
            command,
            workdir,
            env,
            unset,
            variables,
            user,
            profile,
            hold,
            expect,
            warnings: _,
        } = job;
        let mut held = Held::default();
        held.put(
            "image",
            Measure::Opaque(image.value.to_string()),
            Some(&image.origin),
        );
        for (key, words) in [("entrypoint", entrypoint), ("command", command)] {
            let shown = words
                .as_ref()
                .map_or("the image's".to_owned(), |words| joined(&words.value));
            held.put(
                key,
                Measure::Neutral(shown),
                words.as_ref().map(|words| &words.origin),
            );
        }
        let place = workdir.as_ref().map(|place| &place.origin);
        let shown = workdir
            .as_ref()
            .map_or("the image's".to_owned(), |place| place.value.to_string());
        held.put("workdir", Measure::Neutral(shown), place);
        let missing = || Measure::Neutral("not set".to_owned());
        for (name, value) in env {
            let measure = Measure::Neutral(value.value.to_string());
            held.put_else(format!("env.{name}"), measure, missing(), Some(&value.origin));
        }
        for (name, origin) in unset {
            let measure = Measure::Neutral("taken out of the image's".to_owned());
            held.put_else(format!("env.{name}"), measure, missing(), Some(origin));
        }
        let texts = [entrypoint, command]
            .into_iter()
            .flatten()
            .flat_map(|words| &words.value);
        let texts = texts.chain(workdir.iter().map(|place| &place.value));
        let used: BTreeSet<&str> = texts
            .chain(env.values().map(|value| &value.value))
            .flat_map(from_environment)
            .collect();
        // A value of the launcher's own environment is given to the job, like a file of the host.
        let passed = used
            .iter()
            .filter_map(|name| variables.get(*name))
            .map(|variable| variable.env.clone());
        held.put("variables", Measure::given(passed), None);
        for name in used {
            let Some(variable) = variables.get(name) else {
                continue;
            };
            let secret = match variable.secret {
                true => Measure::state(0, "kept out of what is printed"),
                false => Measure::state(1, "printable"),
            };
            held.put(format!("variables.{name}.secret"), secret, None);
            let default = variable
                .default
                .as_ref()
                .map_or("no default".to_owned(), Clone::clone);
            held.put(
                format!("variables.{name}.default"),
                Measure::Neutral(default),
                None,
            );
        }
        held.put("user", of_user(&user.value), Some(&user.origin));
        // Whatever another profile changes stands under its own key.
        held.put("profile", Measure::Neutral(profile.clone()), None);
        // What is claimed holds nothing; a claim that goes is worth a reviewer's look all the same.
        for claim in expect {
            let (claimed, missing) = ["claimed", "not claimed"]
                .map(|word| Measure::Neutral(word.to_owned()))
                .into();
            let key = format!("expect.\"{}\"", claim.value);
            held.put_else(key, claimed, missing, Some(&claim.origin));
        }
        held.of_profile(hold);
        held
    }

    fn of_profile(&mut self, profile: &Profile) {
        let Profile {
            namespaces,
            time_offsets,
            hostname,
            init,
            root,
            sys,
            limits,
            rlimits,
            network,
            mounts,
            security,
            sysctls,
        } = profile;
        for (namespace, own) in namespaces {
            let measure = match own.value {
                true => Measure::state(0, "the job's own"),
                false => Measure::state(1, "shared with the launcher"),
            };
            self.put(format!("namespaces.{namespace}"), measure, Some(&own.origin));
        }
        let offsets = time_offsets.as_ref().map_or("none".to_owned(), |offsets| {
            let offsets = offsets.value;
            format!(
                "monotonic {}ms, boottime {}ms",
                offsets.monotonic_ms, offsets.boottime_ms
            )
        });
        let place = time_offsets.as_ref().map(|offsets| &offsets.origin);
        self.put("namespaces.time.offsets", Measure::Neutral(offsets), place);
        self.put(
            "hostname",
            Measure::Neutral(hostname.value.clone()),
            Some(&hostname.origin),
        );
        self.put(
            "init",
            Measure::Neutral(init.value.to_string()),
            Some(&init.origin),
        );
        let measure = match root.value {
            Root::ReadOnly => Measure::state(0, "read-only"),
            Root::Tmpfs => Measure::state(1, "writable, in memory"),
            Root::Disk => Measure::state(1, "writable, on disk"),
        };
        self.put("root", measure, Some(&root.origin));
        let measure = match sys.value {
            SysMount::Absent => Measure::state(0, "absent"),
            SysMount::ReadOnly => Measure::state(1, "visible, read-only"),
        };
        self.put("sys", measure, Some(&sys.origin));
        self.of_limits(limits);
        for name in Rlimit::ALL {
            self.of_rlimit(name, rlimits.get(&name));
        }
        self.of_network(network);
        for (at, mount) in mounts {
            self.of_mount(at, mount);
        }
        self.of_security(security);
        for (name, value) in sysctls {
            self.of_sysctl(name, &value.value, Some(&value.origin));
        }
    }

    pub(super) fn of_sysctl(&mut self, name: &str, value: &str, origin: Option<&Origin>) {
        let key = format!("sysctls.\"{name}\"");
        match (name.starts_with("user.max_"), value.parse::<u64>()) {
            // The kernel's own bounds of what a user namespace may hold (see namespaces(7)).
            (true, Ok(most)) => {
                self.put_else(
                    key,
                    Measure::at_most(Some(most), |most| *most),
                    Measure::unbounded(),
                    origin,
                );
            }
            _ => {
                let missing = Measure::Opaque("the kernel's own".to_owned());
                self.put_else(key, Measure::Opaque(value.to_owned()), missing, origin);
            }
        }
    }

    fn of_network(&mut self, network: &Placed<Network>) {
        let origin = Some(&network.origin);
        let (rank, shown) = match &network.value {
            Network::Null => (0, "nothing but loopback"),
            Network::Bridge(_) => (1, "an interface behind a bridge"),
            Network::Host => (2, "the host's own"),
        };
        self.put("network.mode", Measure::state(rank, shown), origin);
        let peers = match &network.value {
            Network::Null => Some(BTreeSet::new()),
            Network::Host => None,
            Network::Bridge(bridge) => bridge
                .allow
                .as_ref()
                .map(|allow| allow.keys().map(Hosts::to_string).collect()),
        };
        self.put("network.allow", Measure::Given(peers, Names::Apart), origin);
        let Network::Bridge(bridge) = &network.value else {
            return;
        };
        let name = bridge.name.as_ref();
        let measure = match name {
            None => Measure::state(0, "its own"),
            Some(name) => Measure::state(1, format!("`{}`, with the jobs on it", name.value)),
        };
        self.put("network.name", measure, name.map(|name| &name.origin));
        for (hosts, allow) in bridge.allow.iter().flatten() {
            let Allow { ports, protocol } = &allow.value;
            self.allowed(hosts, ports, *protocol, Some(&allow.origin));
        }
        for (socket, publish) in &bridge.publish {
            let Publish { to, protocol } = &publish.value;
            let protocol = format!("{protocol:?}").to_lowercase();
            let measure = Measure::given([format!("{socket} of the host, to {protocol} {to} inside")]);
            let key = format!("network.publish.\"{socket}\"");
            self.put_else(key, measure, Measure::given([]), Some(&publish.origin));
        }
    }

    fn of_mount(&mut self, at: &str, mount: &Placed<Mount>) {
        let key = format!("mounts.\"{at}\"");
        let origin = Some(&mount.origin);
        let given = match &mount.value {
            Mount::Bind {
                source,
                access,
                optional,
            } => {
                let measure = Measure::Neutral(if *optional { "skipped" } else { "refused" }.to_owned());
                self.put(format!("{key}.optional"), measure, origin);
                let source = source.value.to_string();
                let write = match access {
                    Access::Ro => None,
                    Access::Rw => Some(format!("writing {source}")),
                    Access::Copy => Some("writing to a throw-away layer".to_owned()),
                };
                std::iter::once(format!("reading {source}"))
                    .chain(write)
                    .collect()
            }
            Mount::Tmpfs { size, exec } => {
                // No size at all is no file system.
                let measure = Measure::at_most(Some(size.value), |size| size.0);
                self.put_else(format!("{key}.tmpfs"), measure, Measure::nothing(), origin);
                let run = exec.then(|| "running programs in memory".to_owned());
                std::iter::once("writing to memory".to_owned())
                    .chain(run)
                    .collect::<Vec<_>>()
            }
        };
        self.put_else(key, Measure::given(given), Measure::given([]), origin);
    }
}

fn of_user(user: &User) -> Measure {
    match user {
        User::Named(name) => {
            let (user, group) = name.split_once(':').unwrap_or((name, ""));
            let is_root = |name: &str| name == "root" || name.parse::<u32>() == Ok(0);
            match (is_root(user), is_root(group)) {
                (true, _) => Measure::state(2, "root inside"),
                (false, true) => Measure::state(1, format!("{name}, in root's group")),
                (false, false) => Measure::state(0, name.as_str()),
            }
        }
        User::Image => Measure::state(1, "the image's, root where it names none"),
        User::ImageUnlessRoot => Measure::state(0, "the image's, or 65532"),
        User::Caller => Measure::state(0, "the caller"),
    }
}

fn joined(words: &[Text]) -> String {
    let words: Vec<String> = words
        .iter()
        .map(|word| format!("{:?}", word.to_string()))
        .collect();
    format!("[{}]", words.join(", "))
}

/// The variables of the environment in a text.
pub(super) fn from_environment(text: &Text) -> impl Iterator<Item = &str> {
    text.0.iter().filter_map(|piece| match piece {
        Piece::Environment(name) => Some(name.as_str()),
        Piece::Literal(_) | Piece::ManifestDir => None,
    })
}
