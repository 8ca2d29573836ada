//! What the doctor's mends need to know and no plan does.

use std::fs::read_to_string;
use std::path::Path;

use super::text;
use crate::cgroup::Site;
use crate::host::doctor::{Distribution, Extras, ForwardDrop};
use crate::host::names;
use crate::net::ruleset::{Dropping, dropping};

/// The first id that usermod(8) and adduser give away.
const FIRST_SUBORDINATE_ID: u32 = 100_000;

/// Looks them up; changes nothing.
pub fn extras() -> Extras {
    let uid = nix::unistd::geteuid().as_raw();
    // What cannot be read is not there; a mend is then less exact.
    let read = |path: &str| read_to_string(path).unwrap_or_default();
    let site = Site::find();
    // One line for each, below a headline.
    let swaps = read("/proc/swaps").lines().count() > 1;
    Extras {
        user: names::user_name(&read("/etc/passwd"), uid).map_or(uid.to_string(), str::to_owned),
        distribution: Distribution::of(&read("/etc/os-release")),
        systemd: Path::new("/run/systemd/system").is_dir(),
        program: std::env::current_exe().unwrap_or("/usr/bin/ringfence".into()),
        free_subordinate_id: free(&[&read("/etc/subuid"), &read("/etc/subgid")]),
        security_modules: text("/sys/kernel/security/lsm"),
        tiocsti: text("/proc/sys/dev/tty/legacy_tiocsti") == "1",
        forward_drop: dropping().map(|Dropping { chain, docker }| ForwardDrop { chain, docker }),
        uncounted_swap: swaps && !site.swap_accounting,
    }
}

/// The first id above all that these files give away.
fn free(files: &[&str]) -> u32 {
    let end = |line: &str| {
        let mut fields = line.split(':').skip(1);
        let first: u32 = fields.next()?.trim().parse().ok()?;
        first.checked_add(fields.next()?.trim().parse().ok()?)
    };
    let ends = files.iter().flat_map(|text| text.lines()).filter_map(end);
    ends.fold(FIRST_SUBORDINATE_ID, u32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_range_begins_above_all_others() {
        assert_eq!(free(&["", "broken\nx:y:z\n"]), 100_000);
        assert_eq!(
            free(&["a:100000:65536\nb:165536:65536\n", "a:100000:65536\n"]),
            231_072
        );
        assert_eq!(free(&["a:1:5\nb:4294967295:2"]), 100_000);
    }
}
