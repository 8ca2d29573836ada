//! What a job's resolver remembers for the run's report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How much is remembered of each kind: a job can make up names.
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
            let full = self.names.len() >= REMEMBERED;
            match self.names.get_mut(&address) {
                Some(names) if names.len() < REMEMBERED => drop(names.insert(name.to_owned())),
                None if !full => drop(self.names.insert(address, BTreeSet::from([name.to_owned()]))),
                _ => self.more = true,
            }
        }
    }

    /// A name was refused, for the address that it led to or for itself.
    pub(crate) fn refused(&mut self, name: &str, address: Option<IpAddr>) {
        if self.refused.len() >= REMEMBERED && !self.refused.contains_key(name) {
            self.more = true;
            return;
        }
        let address = address.map_or_else(String::new, |address| address.to_string());
        let counts = self.refused.entry(name.to_owned()).or_default();
        if counts.len() < REMEMBERED {
            *counts.entry(address).or_default() += 1;
        }
    }
}
