//! Other firewalls of the host that drop what it would forward for jobs. They are left as they are.

use std::process::Command;

use super::nft;

/// Another firewall's chain that drops what this host forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropping {
    /// As nft(8) names it: `ip filter FORWARD`.
    pub(crate) chain: String,
    /// It is Docker's, with a chain for other people's rules.
    pub(crate) docker: bool,
}

/// Asks nft(8), which only root may; without it or without an answer there is nothing to say.
pub(crate) fn dropping() -> Option<Dropping> {
    let listed = Command::new(nft::program()?)
        .args(["list", "ruleset"])
        .env_clear()
        .output()
        .ok()?;
    in_ruleset(&String::from_utf8_lossy(&listed.stdout))
}

/// The first chain that drops all it has no rule for, unless a rule somewhere speaks of our bridges.
fn in_ruleset(ruleset: &str) -> Option<Dropping> {
    let (mut table, mut chain) = ("", "");
    let mut found = None;
    let mut docker = false;
    for line in ruleset.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("table ") {
            table = rest.trim_end_matches(" {");
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
            docker |= chain == "DOCKER-USER";
        } else if table.starts_with("inet rf-") {
            // One of ours.
        } else if line.contains("hook forward") && line.contains("policy drop") {
            found = found.or_else(|| Some(format!("{table} {chain}")));
        } else if line.contains("\"rf-") {
            return None;
        }
    }
    found.map(|chain| Dropping { chain, docker })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_drops_is_found_unless_it_knows_of_us() {
        let ours = "table inet rf-0123abcd {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\
                    \t\toifname \"rf-*\" reject\n\t}\n}\n";
        let docker = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\
                      \tchain DOCKER-USER {\n";
        let told = "\t\tiifname \"rf-*\" counter packets 0 bytes 0 accept\n";
        assert_eq!(in_ruleset(ours), None);
        assert_eq!(
            in_ruleset(&format!("{ours}{docker}\t}}\n}}\n")),
            Some(Dropping {
                chain: "ip filter FORWARD".to_owned(),
                docker: true
            })
        );
        assert_eq!(in_ruleset(&format!("{ours}{docker}{told}\t}}\n}}\n")), None);
    }
}
