//! What a host can hold, for a person: each thing with its state, the host's reason and the command that mends it.
//!
//! Pure: everything comes from [`Facts`], as the planner sees them, and from [`Extras`], which only a mend needs.

mod limits;
mod mend;
mod namespaces;
mod render;
mod verdict;

use std::path::PathBuf;

use super::facts::{Caller, Facts, Feature, Support};
pub use mend::Distribution;

/// What the mends need to know and no plan does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// The caller's name, or its number where it has none.
    pub user: String,
    /// Which commands install a package.
    pub distribution: Distribution,
    /// Whether systemd runs this host (see sd_booted(3)).
    pub systemd: bool,
    /// This program, for an AppArmor profile.
    pub program: PathBuf,
    /// The first id that neither `/etc/subuid` nor `/etc/subgid` gives to anybody.
    pub free_subordinate_id: u32,
    /// The security modules of this boot, `lockdown,capability,yama`; empty where they cannot be read.
    pub security_modules: String,
    /// Whether programs may type into the terminal that they hold (`dev.tty.legacy_tiocsti`, Linux 6.2).
    pub tiocsti: bool,
    /// Whether this host swaps what no group counts.
    pub uncounted_swap: bool,
    /// Another firewall that drops what this host forwards.
    pub forward_drop: Option<ForwardDrop>,
}

/// Another firewall that drops what this host forwards, unless it is told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardDrop {
    /// Its chain as nft(8) names it: `ip filter FORWARD`.
    pub chain: String,
    /// It is Docker's, with a chain for other people's rules.
    pub docker: bool,
}

/// How well something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It does.
    Works,
    /// In part, or in another way.
    Reduced,
    /// It does not.
    Missing,
}

/// What a person can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// A command, to be typed as it stands.
    Run(String),
    /// Something else, in words.
    Do(String),
}

/// One thing that this host can hold, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The thing.
    pub what: String,
    /// How well it works.
    pub state: State,
    /// The reason, or what follows from it; one line for each.
    pub why: Vec<String>,
    /// What mends it, in this order.
    pub mend: Vec<Mend>,
}

/// Whether a built-in profile holds here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The profile's name.
    pub profile: &'static str,
    /// Works: as it stands. Reduced: for some jobs, or with a change. Missing: every run is refused.
    pub state: State,
    /// What is in the way.
    pub why: String,
}

/// All that there is to say about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    host: String,
    /// One for each built-in profile.
    pub verdicts: Vec<Verdict>,
    /// In a fixed order: what everything needs comes first.
    pub findings: Vec<Finding>,
}

/// Looks through what a host offers.
pub fn examine(facts: &Facts, extras: &Extras) -> Report {
    let patient = Patient { facts, extras };
    let mut findings = namespaces::findings(patient);
    if patient.lacks(Feature::UserNamespace).is_none() {
        findings.extend([patient.image_layers(), patient.layer_in_memory()]);
    }
    findings.push(patient.layer_on_disk());
    findings.extend([patient.seccomp(), patient.landlock()]);
    findings.extend(limits::findings(patient));
    findings.extend([patient.network(), patient.terminal()]);
    let arch = facts.arch.name();
    let who = match facts.caller {
        Caller::Root => "root",
        Caller::User => "an ordinary user",
    };
    let processors = match facts.cpus {
        1 => "1 processor".to_owned(),
        many => format!("{many} processors"),
    };
    Report {
        host: format!("Linux {} on {arch}, {processors}, as {who}", facts.kernel),
        verdicts: verdict::verdicts(patient),
        findings,
    }
}

/// The host under examination.
#[derive(Clone, Copy)]
struct Patient<'a> {
    facts: &'a Facts,
    extras: &'a Extras,
}

impl Patient<'_> {
    fn is_root(self) -> bool {
        self.facts.caller == Caller::Root
    }

    /// The reason against a feature.
    fn lacks(&self, feature: Feature) -> Option<&str> {
        match self.facts.kernel_features.get(&feature) {
            Some(Support::Yes) => None,
            Some(Support::No(reason)) => Some(reason),
            None => Some("the facts do not have it"),
        }
    }

    /// A command that needs root.
    fn as_root(self, command: impl AsRef<str>) -> Mend {
        let sudo = if self.is_root() { "" } else { "sudo " };
        Mend::Run(format!("{sudo}{}", command.as_ref()))
    }

    /// Whether the kernel is at least this one. For people alone: what a host offers is tried, not read off here.
    fn has_linux(self, major: u32, minor: u32) -> bool {
        let mut numbers = self
            .facts
            .kernel
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }

    fn image_layers(self) -> Finding {
        let what = "image layers";
        if let Some(reason) = self.lacks(Feature::OverlayInUserNamespace) {
            return Finding::missing(what, reason)
                .and("the image source `host` needs none")
                .mend(self.newer(5, 11));
        }
        if self.is_root() && !self.facts.store.idmapped_mounts {
            return Finding::reduced(
                what,
                "the store's file system takes no idmapped mounts: all runs share one range of ids",
            )
            .mend([Mend::Do(
                "put the store (RINGFENCE_STORE) on ext4, xfs or btrfs".into(),
            )]);
        }
        Finding::works(what)
    }

    fn layer_in_memory(self) -> Finding {
        let what = "writable layer in memory";
        let Some(reason) = self.lacks(Feature::TmpfsUserXattr) else {
            return Finding::works(what);
        };
        let finding = if self.is_root() {
            return Finding::works(what)
                .and(reason)
                .and("so root mounts the overlay itself");
        } else if self.facts.store.overlay_upper {
            Finding::reduced(what, reason)
                .and("where `limits` are optional a folder of the store takes its place, without a bound")
        } else {
            Finding::missing(what, reason)
        };
        finding.mend(self.newer(6, 6))
    }

    fn layer_on_disk(self) -> Finding {
        let what = "writable layer on disk";
        if self.facts.store.image_file {
            return Finding::works(what);
        }
        if !self.is_root() {
            return Finding::missing(what, "an ordinary user can mount no file system of a sized file");
        }
        Finding::missing(what, "it needs /dev/loop-control and mkfs.ext4")
            .mend([self.install("e2fsprogs"), self.as_root("modprobe loop")])
    }

    fn seccomp(self) -> Finding {
        let what = "seccomp";
        match self.lacks(Feature::Seccomp) {
            None => Finding::works(what),
            Some(reason) => Finding::missing(what, reason)
                .mend([Mend::Do("boot a kernel with CONFIG_SECCOMP_FILTER".into())]),
        }
    }

    fn landlock(self) -> Finding {
        let (what, modules) = ("Landlock", &self.extras.security_modules);
        match self.facts.landlock_abi {
            0 if !self.has_linux(5, 13) => {
                Finding::missing(what, "this kernel has none").mend(self.newer(5, 13))
            }
            0 => {
                let modules = match modules.as_str() {
                    "" => "` and the list in /sys/kernel/security/lsm".to_owned(),
                    modules => format!("{modules}`"),
                };
                Finding::missing(what, "it is not among the security modules of this boot").mend([Mend::Do(
                    format!("boot with `lsm=landlock,{modules} (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub)"),
                )])
            }
            abi @ 1..=3 => {
                Finding::reduced(what, format!("ABI {abi}: no TCP ports (ABI 4)")).mend(self.newer(6, 7))
            }
            abi => Finding::works(what).and(format!("ABI {abi}")),
        }
    }

    fn network(self) -> Finding {
        let what = "bridge networks";
        let has = self.facts.network;
        let pasta = self.is_root() || has.pasta;
        match (has.nftables, pasta) {
            (true, true) => return self.forwarded(Finding::works(what)),
            (false, true) => Finding::missing(what, "nft(8) is not installed"),
            (true, false) => Finding::missing(what, "pasta(1), an ordinary user's way out, is not installed"),
            (false, false) => Finding::missing(
                what,
                "nft(8) and pasta(1), an ordinary user's way out, are not installed",
            ),
        }
        .and("network modes `null` and `host` need nothing")
        .mend((!has.nftables).then(|| self.install("nftables")))
        .mend((!pasta).then(|| self.install("passt")))
    }

    /// As root a job's packets are forwarded by the host.
    fn forwarded(self, finding: Finding) -> Finding {
        let Some(ForwardDrop { chain, docker }) =
            self.extras.forward_drop.as_ref().filter(|_| self.is_root())
        else {
            return finding;
        };
        let Finding { what, .. } = finding;
        let finding = Finding::reduced(
            what,
            format!("another firewall, chain {chain}, drops what this host forwards, jobs' packets too"),
        );
        finding.mend(match docker {
            true => vec![
                self.as_root("iptables -I DOCKER-USER -i rf-+ -j ACCEPT"),
                self.as_root(
                    "iptables -I DOCKER-USER -o rf-+ -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
                ),
            ],
            false => vec![Mend::Do(
                "let it accept what comes from interfaces `rf-*`, and what is established to them".into(),
            )],
        })
    }

    fn terminal(self) -> Finding {
        let finding = Finding::works("terminal");
        if !self.extras.tiocsti {
            return finding;
        }
        finding
            .and("dev.tty.legacy_tiocsti is 1: a program may type into the terminal it holds; no job holds yours")
            .mend([self.as_root("sysctl -w dev.tty.legacy_tiocsti=0")])
    }

    fn newer(self, major: u32, minor: u32) -> [Mend; 1] {
        [Mend::Do(format!("Linux {major}.{minor} has it"))]
    }
}

impl Finding {
    fn new(what: impl Into<String>, state: State) -> Finding {
        Finding {
            what: what.into(),
            state,
            why: Vec::new(),
            mend: Vec::new(),
        }
    }

    fn works(what: impl Into<String>) -> Finding {
        Finding::new(what, State::Works)
    }

    fn reduced(what: impl Into<String>, why: impl Into<String>) -> Finding {
        Finding::new(what, State::Reduced).and(why)
    }

    fn missing(what: impl Into<String>, why: impl Into<String>) -> Finding {
        Finding::new(what, State::Missing).and(why)
    }

    fn and(mut self, why: impl Into<String>) -> Finding {
        self.why.push(why.into());
        self
    }

    fn mend(mut self, mend: impl IntoIterator<Item = Mend>) -> Finding {
        self.mend.extend(mend);
        self
    }
}

#[cfg(test)]
mod tests;
