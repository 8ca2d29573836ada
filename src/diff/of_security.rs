//! Filters and rights of a job's processes as measures.

use std::collections::{BTreeMap, BTreeSet};

use super::held::Held;
use super::measure::{Measure, Names};
use crate::profile::{Landlock, LandlockPaths, Origin, Placed, Security};
use crate::seccomp::{Base, Policy};

impl Held {
    pub(super) fn of_security(&mut self, security: &Security) {
        let Security {
            capabilities,
            seccomp,
            seccomp_enforce,
            landlock,
            landlock_enforce,
            no_new_privileges,
            masked_paths,
            read_only_paths,
        } = security;
        let names = capabilities
            .value
            .iter()
            .map(|capability| format!("CAP_{}", capability.name()));
        self.put(
            "security.capabilities",
            Measure::given(names),
            Some(&capabilities.origin),
        );
        self.of_policy(&seccomp.value, Some(&seccomp.origin));
        self.enforce("security.seccomp", Some(*seccomp_enforce), Some(&seccomp.origin));
        self.of_landlock(landlock.as_ref());
        if let Some(landlock) = landlock {
            self.enforce(
                "security.landlock",
                Some(*landlock_enforce),
                Some(&landlock.origin),
            );
        }
        let no_new_privileges = (
            Measure::on(no_new_privileges.value),
            Some(&no_new_privileges.origin),
        );
        self.put(
            "security.no-new-privileges",
            no_new_privileges.0,
            no_new_privileges.1,
        );
        for (key, paths) in [
            ("masked-paths", masked_paths),
            ("read-only-paths", read_only_paths),
        ] {
            let measure = Measure::Denied(paths.value.iter().cloned().collect(), Names::Paths);
            self.put(format!("security.{key}"), measure, Some(&paths.origin));
        }
    }

    pub(super) fn of_policy(&mut self, policy: &Policy, origin: Option<&Origin>) {
        let Policy { base, allow, deny } = policy;
        let measure = match base {
            Base::NoPtrace => Measure::state(0, "\"no-ptrace\""),
            Base::Default => Measure::state(1, "\"default\""),
        };
        self.put("security.seccomp.policy", measure, origin);
        self.put(
            "security.seccomp.allow",
            Measure::given(allow.iter().cloned()),
            origin,
        );
        self.put(
            "security.seccomp.deny",
            Measure::Denied(deny.clone(), Names::Apart),
            origin,
        );
    }

    fn of_landlock(&mut self, landlock: Option<&Landlock>) {
        let on = landlock.map(|landlock| &landlock.origin);
        self.put("security.landlock", Measure::on(landlock.is_some()), on);
        let paths = landlock.and_then(|landlock| landlock.paths.as_ref());
        let lists = paths.map(|LandlockPaths { read, write, execute }| {
            let set = |lists: &[&Vec<Placed<String>>]| -> BTreeSet<String> {
                lists
                    .iter()
                    .flat_map(|list| list.iter())
                    .map(|path| path.value.clone())
                    .collect()
            };
            // What can be written or executed can be read as well.
            BTreeMap::from([
                ("read", set(&[read, write, execute])),
                ("write", set(&[write])),
                ("execute", set(&[execute])),
            ])
        });
        for key in ["read", "write", "execute"] {
            let paths = lists.as_ref().map(|lists| lists[key].clone());
            self.put(
                format!("security.landlock.{key}"),
                Measure::Given(paths, Names::Paths),
                on,
            );
        }
        let connect = landlock.and_then(|landlock| landlock.connect_tcp.as_ref());
        let bind = landlock.and_then(|landlock| landlock.bind_tcp.as_ref());
        for (key, ports) in [("connect-tcp", connect), ("bind-tcp", bind)] {
            let numbers = ports.map(|ports| ports.value.iter().map(u16::to_string).collect());
            let origin = ports.map(|ports| &ports.origin);
            self.put(
                format!("security.landlock.{key}"),
                Measure::Given(numbers, Names::Apart),
                origin,
            );
        }
    }
}
