//! Commands that install what is missing.

use super::{Mend, Patient};

/// Which commands install a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// apt-get: Debian, Ubuntu and theirs.
    Debian,
    /// dnf: Fedora, Red Hat Enterprise Linux and theirs.
    Fedora,
    /// zypper: SUSE.
    Suse,
    /// pacman: Arch Linux and its.
    Arch,
    /// apk: Alpine Linux.
    Alpine,
    /// Any other.
    #[default]
    Other,
}

impl Distribution {
    /// By the text of `/etc/os-release` (see os-release(5)): its own name, else what it is like.
    pub fn of(os_release: &str) -> Distribution {
        let value = |key: &str| {
            let line = os_release
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or("").trim_matches(['"', '\'']).to_owned()
        };
        let names = format!("{} {}", value("ID"), value("ID_LIKE"));
        let known = |name: &str| match name {
            "debian" | "ubuntu" => Some(Distribution::Debian),
            "fedora" | "rhel" | "centos" => Some(Distribution::Fedora),
            "suse" | "opensuse" | "sles" => Some(Distribution::Suse),
            "arch" => Some(Distribution::Arch),
            "alpine" => Some(Distribution::Alpine),
            _ => None,
        };
        names.split_whitespace().find_map(known).unwrap_or_default()
    }
}

impl Patient<'_> {
    /// Installs a package that every distribution calls the same.
    pub(super) fn install(self, package: &str) -> Mend {
        let command = match self.extras.distribution {
            Distribution::Debian => "apt-get install",
            Distribution::Fedora => "dnf install",
            Distribution::Suse => "zypper install",
            Distribution::Arch => "pacman -S",
            Distribution::Alpine => "apk add",
            Distribution::Other => return Mend::Do(format!("install {package}")),
        };
        self.as_root(format!("{command} {package}"))
    }

    /// Installs newuidmap(1) and newgidmap(1).
    pub(super) fn install_newuidmap(self) -> Mend {
        self.install(match self.extras.distribution {
            Distribution::Debian => "uidmap",
            Distribution::Fedora => "shadow-utils",
            Distribution::Suse | Distribution::Arch => "shadow",
            Distribution::Alpine => "shadow-uidmap",
            Distribution::Other => "newuidmap and newgidmap (of shadow, often in a package uidmap)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_distribution_by_its_name_or_what_it_is_like() {
        let cases = [
            ("NAME=\"Debian GNU/Linux\"\nID=debian\n", Distribution::Debian),
            ("ID_LIKE=\"ubuntu debian\"\nID=linuxmint\n", Distribution::Debian),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Distribution::Fedora,
            ),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Distribution::Suse,
            ),
            ("ID=alpine\n", Distribution::Alpine),
            ("ID=arch\n", Distribution::Arch),
            ("ID=gentoo\n", Distribution::Other),
            ("", Distribution::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(Distribution::of(text), expected, "{text}");
        }
    }
}
