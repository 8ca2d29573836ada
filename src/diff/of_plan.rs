//! A plan as measures. As with jobs, every field and every step is taken apart by name.

use std::collections::{BTreeMap, BTreeSet};

use super::held::Held;
use super::measure::{Measure, Names};
use crate::plan::{
    Cgroup, ChildStep, Exec, HostStep, Id, InitStep, LandlockRules, Mounted, Plan, PlannedImage, RootMount,
    Tree, Upper, Watch, WorkloadStep,
};
use crate::profile::{IoLimit, Namespace, Origin, Placed, Rlimit, RlimitValue};
use crate::units::{Bytes, MilliCpus, Millis};

/// The namespaces that a plan may do without.
const NAMESPACES: [Namespace; 8] = [
    Namespace::User,
    Namespace::Mount,
    Namespace::Pid,
    Namespace::Net,
    Namespace::Ipc,
    Namespace::Uts,
    Namespace::Cgroup,
    Namespace::Time,
];

impl Held {
    pub(super) fn of_plan(plan: &Plan) -> Held {
        let Plan {
            plan: _,
            job: _,
            profile,
            image,
            namespaces,
            before_clone,
            with_child,
            network,
            init,
            workload,
            exec,
            watch,
            notices,
        } = plan;
        let mut held = Held::default();
        held.put("profile", Measure::Neutral(profile.clone()), None);
        let PlannedImage {
            reference,
            digest,
            layers,
        } = image;
        held.put("image", Measure::Opaque(reference.clone()), None);
        held.put(
            "image.digest",
            Measure::Opaque(digest.clone().unwrap_or_default()),
            None,
        );
        held.put("image.layers", Measure::Opaque(layers.join(" ")), None);
        for namespace in NAMESPACES {
            let measure = match namespaces.contains(&namespace) {
                true => Measure::state(0, "the job's own"),
                false => Measure::state(1, "shared with the launcher"),
            };
            held.put(format!("namespaces.{namespace}"), measure, None);
        }
        let missing = || Measure::Neutral("absent".to_owned());
        let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for notice in notices {
            texts.entry(&notice.about).or_default().push(&notice.text);
        }
        for (about, texts) in texts {
            let measure = Measure::Neutral(texts.join("; "));
            held.put_else(format!("notices.{about}"), measure, missing(), None);
        }
        held.of_cgroup(plan.cgroup().cloned().unwrap_or_default());
        held.host_steps(before_clone);
        held.child_steps(with_child);
        held.network_steps(namespaces.contains(&Namespace::Net), network);
        held.init_steps(init);
        held.workload_steps(workload);
        held.of_exec(exec);
        held.of_watch(watch);
        held.orders(plan);
        held
    }

    fn orders(&mut self, plan: &Plan) {
        fn lines<S: ToString>(steps: &[S]) -> Measure {
            Measure::Order(steps.iter().map(ToString::to_string).collect())
        }
        self.put("steps.before-clone", lines(&plan.before_clone), None);
        self.put("steps.with-child", lines(&plan.with_child), None);
        if !plan.network.is_empty() {
            self.put("steps.network", lines(&plan.network), None);
        }
        self.put("steps.init", lines(&plan.init), None);
        self.put("steps.workload", lines(&plan.workload), None);
    }

    fn host_steps(&mut self, steps: &[HostStep]) {
        for step in steps {
            match step {
                // What appears of a tree is told by the mount or the root, and the group is told whenever it is made.
                HostStep::Cgroup(_) | HostStep::TakeTree(_) => {}
                HostStep::LayerFile { size } => {
                    self.put("root.size", Measure::at_most(Some(*size), |size| size.0), None);
                }
            }
        }
    }

    fn of_cgroup(&mut self, cgroup: Cgroup) {
        let Cgroup {
            controllers,
            memory,
            pids,
            cpus,
            cpuset,
            io,
            devices,
        } = cgroup;
        let names: Vec<String> = controllers
            .iter()
            .map(|(name, version)| format!("{name} v{version}"))
            .collect();
        self.put("cgroup.controllers", Measure::Neutral(names.join(", ")), None);
        self.bound("limits.memory", memory, |bytes: &Bytes| bytes.0);
        self.bound("limits.pids", pids, |count: &u64| *count);
        self.bound("limits.cpus", cpus, |cpus: &MilliCpus| u64::from(cpus.0));
        let processors = cpuset.as_deref().map(super::of_limits::processors);
        self.put("limits.cpuset", Measure::Given(processors, Names::Apart), None);
        let devices = match devices {
            true => Measure::state(0, "closed but for six"),
            false => Measure::state(1, "open where a node is"),
        };
        self.put("cgroup.devices", devices, None);
        for (device, limit) in &io {
            let IoLimit {
                read,
                write,
                read_ops,
                write_ops,
            } = limit;
            for (name, bound) in [("read", read), ("write", write)] {
                let measure = Measure::at_most(*bound, |bytes| bytes.0);
                self.put_else(
                    format!("limits.io.\"{device}\".{name}"),
                    measure,
                    Measure::unbounded(),
                    None,
                );
            }
            for (name, bound) in [("read-ops", read_ops), ("write-ops", write_ops)] {
                let measure = Measure::at_most(*bound, |count| *count);
                self.put_else(
                    format!("limits.io.\"{device}\".{name}"),
                    measure,
                    Measure::unbounded(),
                    None,
                );
            }
        }
    }

    fn child_steps(&mut self, steps: &[ChildStep]) {
        for step in steps {
            match step {
                ChildStep::Cgroup(_) => {}
                ChildStep::MapIds(mapping) => {
                    self.put(
                        "ids",
                        Measure::Opaque(ChildStep::MapIds(mapping.clone()).to_string()),
                        None,
                    );
                }
                ChildStep::IdmapTree { tree, .. } => {
                    let missing = Measure::Neutral("not mapped".to_owned());
                    self.put_else(
                        format!("ids.{tree}"),
                        Measure::Neutral(step.to_string()),
                        missing,
                        None,
                    );
                }
                ChildStep::MountOverlay { size } => self.bound("root.size", *size, |size: &Bytes| size.0),
            }
        }
    }

    fn init_steps(&mut self, steps: &[InitStep]) {
        let mut protections = BTreeSet::new();
        let mut root_writable = true;
        let (mut masked, mut read_only) = (BTreeSet::new(), BTreeSet::new());
        for step in steps {
            match step {
                InitStep::NotDumpable | InitStep::SessionKeyring | InitStep::PrivateMounts => {
                    protections.insert(step.to_string());
                }
                // How the namespaces, groups and trees that are told elsewhere come about.
                InitStep::JoinCgroup
                | InitStep::Fork
                | InitStep::Unshare(_)
                | InitStep::TakeTree(_)
                | InitStep::BecomeRoot
                | InitStep::Loopback
                | InitStep::Network => {}
                InitStep::Time(_) => self.put(
                    "namespaces.time.offsets",
                    Measure::Neutral(step.to_string()),
                    None,
                ),
                InitStep::Hostname(name) => self.put("hostname", Measure::Neutral(name.clone()), None),
                InitStep::Root(root) => self.of_root(root),
                InitStep::Mount { at, what } => self.of_mounted(at, what),
                InitStep::Sysctl { name, value } => self.of_sysctl(name, value, None),
                InitStep::Mask(paths) => masked.extend(paths.iter().cloned()),
                InitStep::ReadOnly(paths) => read_only.extend(paths.iter().cloned()),
                InitStep::RootReadOnly => root_writable = false,
            }
        }
        self.put(
            "protections.init",
            Measure::Denied(protections, Names::Apart),
            None,
        );
        // Without a /sys nothing of it has to be hidden.
        let has_sys = steps
            .iter()
            .any(|step| matches!(step, InitStep::Mount { at, .. } if at == "/sys"));
        for (key, paths) in [("masked-paths", masked), ("read-only-paths", read_only)] {
            let (sys, others) = paths.into_iter().partition(|path| path.starts_with("/sys/"));
            self.put(
                format!("security.{key}"),
                Measure::Denied(others, Names::Paths),
                None,
            );
            if has_sys {
                self.put(
                    format!("security.{key}.sys"),
                    Measure::Denied(sys, Names::Paths),
                    None,
                );
            }
        }
        let measure = match root_writable {
            true => Measure::state(1, "writable"),
            false => Measure::state(0, "read-only"),
        };
        self.put("root", measure, None);
    }

    fn of_root(&mut self, root: &RootMount) {
        let (layer, size) = match root {
            RootMount::Overlay(Upper::Tmpfs(size)) => ("memory", Some(*size)),
            RootMount::WritableTmpfs { size } => ("memory", Some(*size)),
            RootMount::OverlayFromLauncher => ("memory", None),
            RootMount::Overlay(Upper::LayerFile | Upper::Scratch) => ("disk", None),
            RootMount::Overlay(Upper::MountPoints) | RootMount::Tmpfs => ("nowhere", None),
        };
        self.put("root.writes-go-to", Measure::Neutral(layer.to_owned()), None);
        if let Some(size) = size {
            self.bound("root.size", size, |size: &Bytes| size.0);
        }
    }

    fn of_mounted(&mut self, at: &str, what: &Mounted) {
        let key = format!("mounts.\"{at}\"");
        let source = |tree: &Tree| match tree {
            Tree::Bind { source, .. } => source.to_string(),
            Tree::Layers | Tree::Scratch => tree.to_string(),
        };
        let given: Vec<String> = match what {
            Mounted::Proc => vec!["a /proc of its own".to_owned()],
            Mounted::Sysfs => vec!["a /sys of its own".to_owned()],
            Mounted::Dev => vec!["the standard devices".to_owned()],
            Mounted::Tmpfs { size, mode, exec } => {
                let measure = Measure::at_most(Some(*size), |size| size.0);
                self.put_else(format!("{key}.tmpfs"), measure, Measure::nothing(), None);
                self.put(format!("{key}.mode"), Measure::Opaque(format!("{mode:o}")), None);
                let run = exec.then(|| "running programs in memory".to_owned());
                std::iter::once("writing to memory".to_owned())
                    .chain(run)
                    .collect()
            }
            Mounted::Bind { tree, read_only } => {
                let source = source(tree);
                let write = (!read_only).then(|| format!("writing {source}"));
                std::iter::once(format!("reading {source}"))
                    .chain(write)
                    .collect()
            }
            Mounted::Copy { tree, size } => {
                self.bound(&format!("{key}.size"), *size, |size: &Bytes| size.0);
                vec![
                    format!("reading {}", source(tree)),
                    "writing to a throw-away layer".to_owned(),
                ]
            }
            Mounted::File { text } => {
                let missing = Measure::Neutral("absent".to_owned());
                self.put_else(key, Measure::Neutral(text.to_string()), missing, None);
                return;
            }
            Mounted::Link { target } => {
                let missing = Measure::Neutral("absent".to_owned());
                self.put_else(key, Measure::Neutral(target.clone()), missing, None);
                return;
            }
        };
        self.put_else(key, Measure::given(given), Measure::given([]), None);
    }

    fn workload_steps(&mut self, steps: &[WorkloadStep]) {
        let mut protections = BTreeSet::new();
        let mut rlimits: BTreeMap<Rlimit, RlimitValue> = BTreeMap::new();
        let (mut landlock, mut seccomp) = (None, None);
        for step in steps {
            match step {
                WorkloadStep::WaitForInit => {}
                WorkloadStep::Session
                | WorkloadStep::NoNewPrivileges
                | WorkloadStep::CloseDescriptors
                | WorkloadStep::Verify => {
                    protections.insert(step.to_string());
                }
                WorkloadStep::Rlimits(limits) => rlimits = limits.clone(),
                WorkloadStep::Credentials {
                    user,
                    group,
                    groups,
                    capabilities,
                    ambient,
                } => {
                    let root = *user == Id::Number(0);
                    let shown = format!("{}:{}", id(*user), id(*group));
                    let shown = if root {
                        format!("root inside ({shown})")
                    } else {
                        shown
                    };
                    self.put("user", Measure::state(u8::from(root), shown), None);
                    let groups = groups.iter().map(u32::to_string);
                    self.put("groups", Measure::given(groups), None);
                    let names = capabilities
                        .iter()
                        .map(|capability| format!("CAP_{}", capability.name()));
                    self.put("security.capabilities", Measure::given(names), None);
                    // User 0 holds them without being given them.
                    let kept = match (*ambient || root) && !capabilities.is_empty() {
                        true => Measure::state(1, "held by the job's user"),
                        false => Measure::state(0, "held by nobody"),
                    };
                    self.put("security.capabilities.ambient", kept, None);
                }
                WorkloadStep::Workdir(path) => self.put("workdir", Measure::Neutral(path.to_string()), None),
                WorkloadStep::Landlock(rules) => landlock = Some(rules),
                WorkloadStep::Seccomp(policy) => seccomp = Some(policy),
            }
        }
        self.put(
            "protections.workload",
            Measure::Denied(protections, Names::Apart),
            None,
        );
        for name in Rlimit::ALL {
            let placed = rlimits.get(&name).map(|value| Placed {
                value: *value,
                origin: Origin::Arguments,
            });
            self.of_rlimit(name, placed.as_ref());
        }
        self.put("security.seccomp", Measure::on(seccomp.is_some()), None);
        if let Some(policy) = seccomp {
            self.of_policy(policy, None);
        }
        self.put("security.landlock", Measure::on(landlock.is_some()), None);
        if let Some(rules) = landlock {
            self.of_rules(rules);
        }
    }

    fn of_rules(&mut self, rules: &LandlockRules) {
        let LandlockRules {
            abi,
            paths,
            connect_tcp,
            bind_tcp,
            scoped,
        } = rules;
        self.put("security.landlock.abi", Measure::AtLeast(u64::from(*abi)), None);
        let those = |fits: fn(&crate::plan::LandlockAccess) -> bool| {
            let fitting = paths.iter().filter(|(_, access)| fits(access));
            Measure::Given(
                Some(fitting.map(|(path, _)| path.clone()).collect()),
                Names::Paths,
            )
        };
        self.put("security.landlock.read", those(|_| true), None);
        self.put("security.landlock.write", those(|access| access.write), None);
        self.put("security.landlock.execute", those(|access| access.execute), None);
        for (key, ports) in [("connect-tcp", connect_tcp), ("bind-tcp", bind_tcp)] {
            let numbers = ports
                .as_ref()
                .map(|ports| ports.iter().map(u16::to_string).collect());
            self.put(
                format!("security.landlock.{key}"),
                Measure::Given(numbers, Names::Apart),
                None,
            );
        }
        let scoped = match scoped {
            true => Measure::state(0, "inside"),
            false => Measure::state(1, "open for signals and abstract sockets"),
        };
        self.put("security.landlock.scope", scoped, None);
    }

    fn of_exec(&mut self, exec: &Exec) {
        let Exec { argv, env, init } = exec;
        let words: Vec<String> = argv
            .iter()
            .map(|word| format!("{:?}", word.to_string()))
            .collect();
        self.put(
            "command",
            Measure::Neutral(format!("[{}]", words.join(", "))),
            None,
        );
        for (name, value) in env {
            let missing = Measure::Neutral("not set".to_owned());
            self.put_else(
                format!("env.{name}"),
                Measure::Neutral(value.to_string()),
                missing,
                None,
            );
        }
        let texts = argv.iter().chain(env.values());
        let passed: BTreeSet<String> = texts
            .flat_map(super::of_job::from_environment)
            .map(str::to_owned)
            .collect();
        self.put("variables", Measure::given(passed), None);
        self.put("init", Measure::Neutral(init.to_string()), None);
    }

    fn of_watch(&mut self, watch: &Watch) {
        let Watch {
            wall_ms,
            grace_ms,
            cpu_time_ms,
            output,
            stop_signal,
        } = watch;
        self.bound("limits.wall", *wall_ms, |time: &Millis| time.0);
        self.bound("limits.grace", Some(*grace_ms), |time: &Millis| time.0);
        self.bound("limits.cpu-time", *cpu_time_ms, |time: &Millis| time.0);
        self.bound("limits.output", *output, |bytes: &Bytes| bytes.0);
        self.put("stop-signal", Measure::Neutral(stop_signal.to_string()), None);
    }

    fn bound<T: ToString>(&mut self, key: &str, value: Option<T>, number: impl Fn(&T) -> u64) {
        self.put(key, Measure::at_most(value, number), None);
    }
}

fn id(id: Id) -> String {
    match id {
        Id::Number(number) => number.to_string(),
        Id::Caller => "the caller's".to_owned(),
    }
}
