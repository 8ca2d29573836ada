//! A job, a host and an image for tests: profile `strict` on a host that has everything, with control groups v1.

use std::collections::{BTreeMap, BTreeSet};

use super::given::Given;
use super::{Image, ImageConfig, ImageKind, Plan, Request, plan};
use crate::host::facts::{
    Caller, CgroupSupport, Facts, Feature, Ids, NetworkFacts, RootFacts, StoreFacts, Support,
};
use crate::profile::{
    BuiltIn, Enforce, Job, Landlock, Limit, Limits, Mount, Namespace, Network, Origin, Placed, Profile, Root,
    Security, SysMount, Text, User,
};
use crate::seccomp::{Arch, Policy};
use crate::units::{Bytes, Millis};

#[derive(Clone)]
pub(super) struct Sample {
    pub(super) job: Job,
    pub(super) facts: Facts,
    pub(super) image: Image,
    pub(super) request: Request,
}

impl Sample {
    pub(super) fn given(&self) -> Given<'_> {
        Given {
            job: &self.job,
            facts: &self.facts,
            image: &self.image,
            request: &self.request,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.job, &self.facts, &self.image, &self.request)
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// Message and help of every problem.
    pub(super) fn refusals(&self) -> Vec<String> {
        let problems = plan(&self.job, &self.facts, &self.image, &self.request).err();
        let text = |problem: &crate::problem::Problem| match problem.help.as_str() {
            "" => problem.message.clone(),
            help => format!("{}; {help}", problem.message),
        };
        problems
            .iter()
            .flat_map(|problems| problems.iter())
            .map(text)
            .collect()
    }

    /// The plan's notices about one thing.
    pub(super) fn notices(&self, about: &str) -> Vec<String> {
        let notices = self.plan().notices.into_iter();
        notices
            .filter(|notice| notice.about == about)
            .map(|notice| notice.text)
            .collect()
    }
}

/// A value that a manifest writes at a place.
pub(super) fn placed<T>(value: T, at: usize) -> Placed<T> {
    let origin = Origin::Manifest {
        table: "job.test".to_owned(),
        span: at..at + 1,
    };
    Placed { value, origin }
}

/// A required limit of the manifest.
pub(super) fn limit<T>(max: T) -> Limit<T> {
    Limit {
        max: placed(max, 30),
        enforce: Enforce::Required,
    }
}

fn built_in<T>(value: T) -> Placed<T> {
    Placed {
        value,
        origin: Origin::BuiltIn(BuiltIn::Strict),
    }
}

fn tmpfs(size: u64, exec: bool) -> Placed<Mount> {
    let size = built_in(Bytes(size));
    built_in(Mount::Tmpfs { size, exec })
}

pub(super) fn strict() -> Sample {
    let limits = Limits {
        memory: Some(limit(Bytes(512 << 20))),
        pids: Some(Limit {
            max: built_in(128),
            enforce: Enforce::Required,
        }),
        wall: Some(limit(Millis(600_000))),
        ..Limits::default()
    };
    let security = Security {
        capabilities: built_in(BTreeSet::new()),
        seccomp: built_in(Policy::default()),
        seccomp_enforce: Enforce::Required,
        landlock: Some(Landlock {
            origin: Origin::BuiltIn(BuiltIn::Strict),
            paths: None,
            connect_tcp: None,
            bind_tcp: None,
        }),
        landlock_enforce: Enforce::Required,
        no_new_privileges: built_in(true),
        masked_paths: built_in(vec!["/proc/kcore".into(), "/sys/firmware".into()]),
        read_only_paths: built_in(vec!["/proc/sys".into()]),
    };
    let own = [Namespace::Ipc, Namespace::Uts, Namespace::Cgroup, Namespace::Time];
    let hold = Profile {
        namespaces: own.map(|namespace| (namespace, built_in(true))).into(),
        time_offsets: None,
        hostname: built_in("ringfence".into()),
        init: built_in(true),
        root: built_in(Root::ReadOnly),
        sys: built_in(SysMount::Absent),
        limits,
        rlimits: BTreeMap::new(),
        network: built_in(Network::Null),
        mounts: BTreeMap::from([
            ("/tmp".into(), tmpfs(64 << 20, true)),
            ("/dev/shm".into(), tmpfs(16 << 20, false)),
        ]),
        security,
        sysctls: BTreeMap::new(),
    };
    let job = Job {
        name: "test".into(),
        image: placed(crate::image::Source::parse("busybox").expect("a reference"), 0),
        entrypoint: None,
        command: Some(placed(vec![Text::literal("/bin/true")], 2)),
        workdir: None,
        env: BTreeMap::new(),
        unset: BTreeMap::new(),
        variables: BTreeMap::new(),
        user: built_in(User::ImageUnlessRoot),
        profile: "strict".into(),
        hold,
        expect: Vec::new(),
        warnings: Vec::new(),
    };
    Sample {
        job,
        facts: facts(),
        image: Image {
            reference: "docker.io/library/busybox:latest".into(),
            kind: ImageKind::Layers,
            digest: Some("sha256:00".into()),
            layers: vec!["sha256:01".into()],
            config: ImageConfig::default(),
            passwd: String::new(),
            group: String::new(),
        },
        request: Request::default(),
    }
}

fn facts() -> Facts {
    let features = [
        Feature::UserNamespace,
        Feature::TimeNamespace,
        Feature::CgroupNamespace,
        Feature::OverlayInUserNamespace,
        Feature::TmpfsUserXattr,
        Feature::Seccomp,
        Feature::ProcMount,
    ];
    let controllers = ["memory", "pids", "devices"];
    Facts {
        facts: 1,
        kernel: "6.18.0".into(),
        arch: Arch::X86_64,
        cpus: 2,
        caller: Caller::Root,
        ids: Ids::default(),
        kernel_features: features.map(|feature| (feature, Support::Yes)).into(),
        landlock_abi: 7,
        cgroup: controllers
            .map(|name| (name.to_owned(), CgroupSupport::V1))
            .into(),
        store: StoreFacts {
            idmapped_mounts: true,
            overlay_upper: true,
            image_file: true,
        },
        network: NetworkFacts {
            nftables: true,
            pasta: true,
            ipv6: true,
        },
        root: RootFacts::default(),
        path: BTreeMap::new(),
        variable: BTreeMap::new(),
    }
}
