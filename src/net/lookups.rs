//! What a job's resolver remembers for the run's report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How much is remembered, pairs of a name and an address: a job can make up names, and this is not its memory.
const REMEMBERED: usize = 4096;

/// Names that were looked up. What comes from the resolver's process is read with doubt: it reads the job's bytes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lookups {
    /// The names that led to an address.
    pub(super) names: BTreeMap<IpAddr, BTreeSet<String>>,
    /// The names that were refused, the addresses that they led to if it was for these, and how often.
    pub(super) refused: BTreeMap<String, BTreeMap<String, u64>>,
    /// There were more.
    pub(crate) more: bool,
    /// How many pairs there are.
    #[serde(skip)]
    pairs: usize,
}

impl Lookups {
    /// Nobody knows what was looked up.
    pub(crate) fn unknown() -> Lookups {
        Lookups {
            more: true,
            ..Lookups::default()
        }
    }

    /// A name was answered with addresses.
    pub(crate) fn answered(&mut self, name: &str, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            let known = self.names.get(&address).is_some_and(|names| names.contains(name));
            if !known && self.has_room() {
                self.names.entry(address).or_default().insert(name.to_owned());
            }
        }
    }

    /// A name was refused, for the address that it led to or for itself.
    pub(crate) fn refused(&mut self, name: &str, address: Option<IpAddr>) {
        let address = address.map_or_else(String::new, |address| address.to_string());
        let counts = self.refused.get(name);
        if counts.is_some_and(|counts| counts.contains_key(&address)) || self.has_room() {
            let counts = self.refused.entry(name.to_owned()).or_default();
            *counts.entry(address).or_default() += 1;
        }
    }

    /// Whether one more pair is remembered; it is counted then.
    fn has_room(&mut self) -> bool {
        let room = self.pairs < REMEMBERED;
        self.pairs += usize::from(room);
        self.more |= !room;
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_job_fills_the_launchers_memory() {
        let mut lookups = Lookups::default();
        let all = || (0..=u8::MAX).map(|last| IpAddr::from([192, 0, 2, last]));
        for name in 0..100 {
            lookups.answered(&format!("{name}.example"), all());
            lookups.refused(&format!("{name}.example"), None);
        }
        let names: usize = lookups.names.values().map(BTreeSet::len).sum();
        let refused: usize = lookups.refused.values().map(BTreeMap::len).sum();
        assert_eq!((names + refused, lookups.more), (REMEMBERED, true));
        let more_of_the_known = lookups.refused["0.example"][""];
        lookups.refused("0.example", None);
        assert_eq!(lookups.refused["0.example"][""], more_of_the_known + 1);
    }
}
