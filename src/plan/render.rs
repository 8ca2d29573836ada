//! The plan for people (a sheet), and as data (JSON, TOML). The same bytes on every machine.

use std::fmt::{self, Display, Formatter};

use super::keys::FromKeys;
use super::line::Ids;
use super::plain::{Plain, Quoted};
use super::{Id, InitStep, Mounted, NetworkStep, Plan, RootMount, Tree, Upper, WorkloadStep};
use crate::egress::Egress;
use crate::profile::Namespace;

impl Plan {
    /// The canonical plan: the input of the digest that receipts carry. One line of JSON, names in a fixed order.
    pub fn digest_input(&self) -> String {
        serde_json::to_string(self).expect("a plan holds only what JSON can say")
    }

    /// The plan as JSON for people and machines, with a line end.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan holds only what JSON can say") + "\n"
    }

    /// The same as TOML; what is not set is left out.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a plan holds only what TOML can say")
    }

    fn credentials(&self) -> Option<String> {
        self.workload.iter().find_map(|step| match step {
            WorkloadStep::Credentials {
                user,
                group,
                capabilities,
                ..
            } => {
                let root = if *user == Id::Number(0) {
                    "root inside, "
                } else {
                    ""
                };
                let names: Vec<&str> = capabilities.iter().map(|capability| capability.name()).collect();
                let capabilities = match names.is_empty() {
                    true => "without capabilities".to_owned(),
                    false => format!("with {} inside its user namespace", names.join(" ")),
                };
                Some(format!("{root}{}, {capabilities}", Ids(*user, *group)))
            }
            _ => None,
        })
    }

    fn sees(&self) -> Vec<String> {
        let root = self.init.iter().find_map(|step| match step {
            InitStep::Root(root) => Some(root),
            _ => None,
        });
        let root = match root {
            Some(RootMount::Tmpfs) => "an empty root, read-only",
            Some(RootMount::WritableTmpfs { .. }) => "an empty root, writes in memory",
            Some(RootMount::Overlay(Upper::MountPoints)) | None => "the image, read-only",
            Some(RootMount::Overlay(Upper::Tmpfs(_)) | RootMount::OverlayFromLauncher) => {
                "the image, writes in memory"
            }
            Some(RootMount::Overlay(Upper::LayerFile | Upper::Scratch)) => "the image, writes on disk",
        };
        let mounts = self.init.iter().filter_map(|step| match step {
            InitStep::Mount { at, what } => match what {
                Mounted::Tmpfs { .. } => Some(format!("{} ({what})", Plain(at))),
                Mounted::Bind {
                    tree: Tree::Bind { source, .. },
                    ..
                }
                | Mounted::Copy {
                    tree: Tree::Bind { source, .. },
                    ..
                } => {
                    let source = source.to_string();
                    Some(match source == *at {
                        true => format!("{} ({what})", Plain(at)),
                        false => format!("{} ({what}, of {})", Plain(at), Plain(&source)),
                    })
                }
                _ => None,
            },
            _ => None,
        });
        std::iter::once(root.to_owned()).chain(mounts).collect()
    }

    fn reaches(&self) -> Vec<String> {
        let words = match (self.namespaces.contains(&Namespace::Net), self.egress()) {
            (true, None) => "nothing: it has a loopback interface only",
            (true, Some(Egress::Open)) => {
                "what the host reaches, but not the host itself, from an address of its own"
            }
            (true, Some(Egress::Listed(allowed))) if !allowed.is_empty() => {
                return allowed
                    .iter()
                    .map(|one| Plain(&one.to_string()).to_string())
                    .collect();
            }
            (true, Some(Egress::Listed(_))) => "nothing: no host is listed",
            (false, _) => "everything that the host reaches",
        };
        vec![words.to_owned()]
    }

    fn reached_at(&self) -> Vec<String> {
        let published = |step: &NetworkStep| match step {
            NetworkStep::Publish { at, to, protocol } => {
                Some(format!("{} of the host ({protocol}, to {to} inside)", Plain(at)))
            }
            _ => None,
        };
        self.network.iter().filter_map(published).collect()
    }

    fn bounds(&self) -> String {
        let mut bounds = self.cgroup().map_or_else(Vec::new, |cgroup| cgroup.bounds());
        let watch = &self.watch;
        bounds.extend(watch.cpu_time_ms.map(|time| format!("cpu-time {time}")));
        bounds.extend(watch.wall_ms.map(|wall| match watch.grace_ms.0 {
            0 => format!("wall {wall}"),
            _ => format!("wall {wall} and {} of grace", watch.grace_ms),
        }));
        bounds.extend(watch.output.map(|output| format!("output {output} each")));
        match bounds.is_empty() {
            true => "nothing".to_owned(),
            false => bounds.join(", "),
        }
    }
}

/// What stands below a step, a line each: made from the keys that the step comes from.
type Below<'a> = Option<&'a dyn Fn(&[String]) -> Vec<String>>;

impl Plan {
    /// The sheet with lines of `below` under each step: where the manifest says it, for one. It gets the keys that the
    /// step comes from, none for what every sandbox does.
    pub fn to_sheet(&self, below: impl Fn(&[String]) -> Vec<String>) -> String {
        struct Sheet<'a>(&'a Plan, Below<'a>);
        impl Display for Sheet<'_> {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                self.0.sheet(f, self.1)
            }
        }
        Sheet(self, Some(&below)).to_string()
    }

    fn sheet(&self, f: &mut Formatter<'_>, below: Below<'_>) -> fmt::Result {
        writeln!(
            f,
            "plan {} of job {}, profile {}",
            self.plan,
            Plain(&self.job),
            Plain(&self.profile)
        )?;
        writeln!(f)?;
        writeln!(f, "image        {}", Plain(&self.image.reference))?;
        if let Some(digest) = &self.image.digest {
            writeln!(f, "             {}", Plain(digest))?;
        }
        for (number, layer) in self.image.layers.iter().enumerate() {
            writeln!(f, "  layer {:<5}{}", number + 1, Plain(layer))?;
        }
        let words: Vec<String> = self
            .exec
            .argv
            .iter()
            .map(|word| Quoted(&word.to_string()).to_string())
            .collect();
        writeln!(f, "runs         {}", words.join(" "))?;
        writeln!(f, "as           {}", self.credentials().unwrap_or_default())?;
        writeln!(
            f,
            "under        {}",
            if self.exec.init {
                "an init of ours"
            } else {
                "no init: it is PID 1"
            }
        )?;
        rows(f, "sees", self.sees())?;
        rows(f, "reaches", self.reaches())?;
        rows(f, "reached at", self.reached_at())?;
        writeln!(f, "bounded by   {}", self.bounds())?;
        let own: Vec<String> = self.namespaces.iter().map(ToString::to_string).collect();
        writeln!(f, "namespaces   {}", own.join(" "))?;
        writeln!(f, "stop signal  {}", self.watch.stop_signal)?;
        for (number, (name, value)) in self.exec.env.iter().enumerate() {
            let label = if number == 0 { "environment" } else { "" };
            writeln!(f, "{label:<13}{}={}", Plain(name), Quoted(&value.to_string()))?;
        }
        phase(f, "before the clone", &self.before_clone, below)?;
        phase(f, "with the child waiting", &self.with_child, below)?;
        if !self.network.is_empty() {
            phase(f, "network", &self.network, below)?;
        }
        phase(f, "init", &self.init, below)?;
        phase(f, "workload", &self.workload, below)?;
        if !self.notices.is_empty() {
            writeln!(f, "\nnotices")?;
            for notice in &self.notices {
                writeln!(f, "  {}: {}", Plain(&notice.about), Plain(&notice.text))?;
            }
        }
        Ok(())
    }
}

impl Display for Plan {
    /// A sheet to read and to compare: what runs, then every step in its order.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.sheet(f, None)
    }
}

/// What there is of one kind, a row each; the first has its name.
fn rows(f: &mut Formatter<'_>, name: &str, rows: Vec<String>) -> fmt::Result {
    for (number, row) in rows.into_iter().enumerate() {
        writeln!(f, "{:<13}{row}", if number == 0 { name } else { "" })?;
    }
    Ok(())
}

fn phase<S: Display + FromKeys>(
    f: &mut Formatter<'_>,
    name: &str,
    steps: &[S],
    below: Below<'_>,
) -> fmt::Result {
    writeln!(f, "\n{name}")?;
    for (number, step) in steps.iter().enumerate() {
        writeln!(f, "{:>4}  {step}", number + 1)?;
        for line in below.map(|below| below(&step.keys())).unwrap_or_default() {
            writeln!(f, "        {line}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, limit, placed};
    use crate::profile::{Access, Mount, Rlimit, RlimitValue, Root, Text};
    use crate::units::Bytes;

    #[test]
    fn the_sheet_shows_everything() {
        let mut sample = sample::strict();
        sample.job.command = Some(placed(["sh", "-c", "echo 'a'\n"].map(Text::literal).to_vec(), 1));
        let source = placed(Text::literal("./src"), 1);
        let bind = Mount::Bind {
            source,
            access: Access::Copy,
            optional: false,
        };
        sample.job.hold.mounts.insert("/src".into(), placed(bind, 1));
        insta::assert_snapshot!(sample.plan());
    }

    #[test]
    fn json_and_toml_hold_the_same() {
        let mut sample = sample::strict();
        sample.job.hold.root = placed(Root::Tmpfs, 1);
        let unlimited = RlimitValue {
            soft: Some(5),
            hard: None,
        };
        sample
            .job
            .hold
            .rlimits
            .insert(Rlimit::Nofile, placed(unlimited, 1));
        let plan = sample.plan();
        let json: serde_json::Value = serde_json::from_str(&plan.digest_input()).expect("json");
        let toml: toml::Table = toml::from_str(&plan.to_toml()).expect("toml");
        let mut from_json = json.clone();
        without_null(&mut from_json);
        assert_eq!(serde_json::to_value(&toml).expect("a table"), from_json);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&plan.to_json()).expect("json"),
            json
        );
        assert_eq!(plan.digest_input(), sample.clone().plan().digest_input());
        sample.job.hold.limits.disk = Some(limit(Bytes(1 << 20)));
        assert_ne!(plan.digest_input(), sample.plan().digest_input());
    }

    /// TOML has no null: what is null in JSON is left out there.
    fn without_null(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                map.retain(|_, value| !value.is_null());
                map.values_mut().for_each(without_null);
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(without_null),
            _ => {}
        }
    }
}
