//! Bounds of a job, and of each of its processes, as measures.

use std::collections::BTreeSet;

use super::held::Held;
use super::measure::{Measure, Names};
use crate::profile::{Enforce, IoLimit, Limit, Limits, Origin, Placed, Rlimit, RlimitValue};
use crate::units::Millis;

impl Held {
    pub(super) fn of_limits(&mut self, limits: &Limits) {
        let Limits {
            memory,
            pids,
            cpus,
            cpuset,
            cpu_time,
            io,
            wall,
            grace,
            disk,
            output,
        } = limits;
        self.limit("memory", memory, |max| max.0);
        self.limit("pids", pids, |max| *max);
        self.limit("cpus", cpus, |max| u64::from(max.0));
        self.limit("cpu-time", cpu_time, |max| max.0);
        self.limit("wall", wall, |max| max.0);
        self.limit("disk", disk, |max| max.0);
        self.limit("output", output, |max| max.0);
        let origin = cpuset.as_ref().map(|limit| &limit.max.origin);
        let processors = cpuset.as_ref().map(|limit| processors(&limit.max.value));
        self.put("limits.cpuset", Measure::Given(processors, Names::Apart), origin);
        self.enforce(
            "limits.cpuset",
            cpuset.as_ref().map(|limit| limit.enforce),
            origin,
        );
        // Without grace the wall limit kills at once.
        let origin = grace.as_ref().map(|grace| &grace.origin);
        let time = grace.as_ref().map_or(Millis(0), |grace| grace.value);
        self.put(
            "limits.grace",
            Measure::at_most(Some(time), |time| time.0),
            origin,
        );
        for (device, limit) in io {
            self.of_io(device, limit);
        }
    }

    fn of_io(&mut self, device: &str, limit: &Limit<IoLimit>) {
        let IoLimit {
            read,
            write,
            read_ops,
            write_ops,
        } = limit.max.value;
        let origin = Some(&limit.max.origin);
        let key = format!("limits.io.\"{device}\"");
        for (name, bound) in [("read", read), ("write", write)] {
            let measure = Measure::at_most(bound, |bytes| bytes.0);
            self.put_else(format!("{key}.{name}"), measure, Measure::unbounded(), origin);
        }
        for (name, bound) in [("read-ops", read_ops), ("write-ops", write_ops)] {
            let measure = Measure::at_most(bound, |count| *count);
            self.put_else(format!("{key}.{name}"), measure, Measure::unbounded(), origin);
        }
        self.enforce(&key, Some(limit.enforce), origin);
    }

    fn limit<T: Clone + ToString>(
        &mut self,
        name: &str,
        limit: &Option<Limit<T>>,
        number: impl Fn(&T) -> u64,
    ) {
        let key = format!("limits.{name}");
        let origin = limit.as_ref().map(|limit| &limit.max.origin);
        let most = limit.as_ref().map(|limit| limit.max.value.clone());
        self.put(&*key, Measure::at_most(most, number), origin);
        self.enforce(&key, limit.as_ref().map(|limit| limit.enforce), origin);
    }

    pub(super) fn enforce(&mut self, key: &str, enforce: Option<Enforce>, origin: Option<&Origin>) {
        let measure = match enforce {
            Some(Enforce::Required) => Measure::state(0, "required"),
            Some(Enforce::Optional) => Measure::state(1, "optional: a host that cannot hold it is accepted"),
            None => return,
        };
        self.put(format!("{key}.enforce"), measure, origin);
    }

    /// A limit that is not written is the caller's own, and a hard limit above that is lowered to it.
    pub(super) fn of_rlimit(&mut self, name: Rlimit, limit: Option<&Placed<RlimitValue>>) {
        let origin = limit.map(|limit| &limit.origin);
        let (soft, hard) = limit.map_or((None, None), |limit| (limit.value.soft, limit.value.hard));
        for (side, value) in [("soft", soft), ("hard", hard)] {
            // 1 is tighter than 0: only it keeps the host's core pattern from starting a program (fs/coredump.c).
            let number = |value: &u64| match (name, *value) {
                (Rlimit::Core, 1) => 0,
                (Rlimit::Core, 0) => 1,
                (_, value) => value,
            };
            self.put(
                format!("rlimits.{name}.{side}"),
                Measure::at_most(value, number),
                origin,
            );
        }
    }
}

/// The processors of a list such as `0-2,4`; the grammar has bounded it.
pub(super) fn processors(list: &str) -> BTreeSet<String> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let ranges = list.split(',').filter_map(|part| match part.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?),
        None => Some(number(part)?..=number(part)?),
    });
    ranges.flatten().map(|number| number.to_string()).collect()
}
