//! Which control group controllers the caller may use, in the words of facts.

use std::collections::BTreeMap;

use crate::cgroup::{Availability, Controller, Site, Version};
use crate::host::facts::CgroupSupport;

/// What was found of every controller, keyed by the kernel's name: `blkio` on v1, `io` on v2. Changes nothing.
pub(crate) fn control_groups(site: &Site) -> BTreeMap<String, CgroupSupport> {
    let named = |(controller, availability): (Controller, Availability)| {
        let (version, support) = match availability {
            Availability::Usable { version: Version::V1 } => (Version::V1, CgroupSupport::V1),
            Availability::Usable { version: Version::V2 } => (Version::V2, CgroupSupport::V2),
            Availability::Missing { reason } => (Version::V2, CgroupSupport::No(reason)),
        };
        (controller.name(version).to_owned(), support)
    };
    site.availability().into_iter().map(named).collect()
}
