//! Limits of each process.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Placed;
use super::view::{View, word_of};
use crate::manifest::value::Value;
use crate::problem::{Problem, codes};

/// The limits of setrlimit(2), by its names in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum Rlimit {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

impl Rlimit {
    /// All of them.
    pub const ALL: [Rlimit; 16] = [
        Rlimit::As,
        Rlimit::Core,
        Rlimit::Cpu,
        Rlimit::Data,
        Rlimit::Fsize,
        Rlimit::Locks,
        Rlimit::Memlock,
        Rlimit::Msgqueue,
        Rlimit::Nice,
        Rlimit::Nofile,
        Rlimit::Nproc,
        Rlimit::Rss,
        Rlimit::Rtprio,
        Rlimit::Rttime,
        Rlimit::Sigpending,
        Rlimit::Stack,
    ];
}

impl fmt::Display for Rlimit {
    /// The manifest's word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A soft and a hard limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RlimitValue {
    /// What holds until the process raises it.
    pub soft: Option<u64>,
    /// What it may raise it to.
    pub hard: Option<u64>,
}

impl fmt::Display for RlimitValue {
    /// One number when both are the same, else `soft:hard`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        match self.soft == self.hard {
            true => f.write_str(&shown(self.hard)),
            false => write!(f, "{}:{}", shown(self.soft), shown(self.hard)),
        }
    }
}

/// The limits of each process, in the kernel's units.
pub(super) fn read(view: View<'_, '_>, problems: &mut Vec<Problem>) -> BTreeMap<Rlimit, Placed<RlimitValue>> {
    let mut limits = BTreeMap::new();
    for (name, entry) in view.entries() {
        let Some(limit) = word_of::<Rlimit>(name) else {
            continue;
        };
        let mut side = |key| {
            let view = if entry.is_table() { entry.get(key) } else { entry };
            number(limit, view, problems)
        };
        let (soft, hard) = (side("soft"), side("hard"));
        if entry.has_bad() {
            continue;
        }
        let (Some(soft), Some(hard)) = (soft, hard) else {
            problems.push(Problem::new(
                codes::MISSING_KEY,
                entry.key_span(),
                format!("the limit `{name}` says only one of `soft` and `hard`"),
                format!("write `{name} = {{ soft = …, hard = … }}`, or one value for both"),
            ));
            continue;
        };
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            problems.push(Problem::new(
                codes::SOFT_OVER_HARD,
                entry.get("soft").span().or(entry.span()),
                format!("the soft limit of `{name}` is above its hard limit"),
                "the kernel refuses it (see setrlimit(2))",
            ));
        }
        limits.insert(limit, entry.place(RlimitValue { soft, hard }));
    }
    limits
}

/// A number in the kernel's unit: seconds for `cpu`, microseconds for `rttime` (see setrlimit(2)).
/// The outer `None`: not written; the inner: unlimited.
fn number(limit: Rlimit, view: View<'_, '_>, problems: &mut Vec<Problem>) -> Option<Option<u64>> {
    Some(match view.value()? {
        Value::Unlimited => None,
        Value::Bytes(bytes) => Some(bytes.0),
        Value::Integer(number) => Some(number.unsigned_abs()),
        Value::Time(time) if limit == Rlimit::Rttime => Some(time.0.saturating_mul(1000)),
        Value::Time(time) => {
            if !time.0.is_multiple_of(1000) {
                problems.push(Problem::new(
                    codes::OUT_OF_RANGE,
                    view.span(),
                    format!("`{time}` is not a whole number of seconds"),
                    "the kernel counts `cpu` in seconds; `limits.cpu-time` counts finer",
                ));
            }
            Some(time.0.div_ceil(1000))
        }
        _ => return None,
    })
}
