//! The rules of the host's side of a network, as nftables takes them: a table of its own for each bridge (nft(8)).
//!
//! What a job may reach is held inside its own network namespace, where an entry of its manifest may open a part of what is
//! closed to every job; here is what no job may do whatever it holds: be another one, reach the jobs of other networks, or the
//! host or its cloud's metadata where it has not listed them, or be reached without having asked. An `accept` here does not overrule another firewall's refusal: every table
//! of a hook is asked.

use super::listed;
use super::subnet::{GATEWAY, LENGTH_V6, Subnet};

/// What the names of all our bridges begin with.
pub(super) const PREFIX: &str = "rf-";

/// The table of `bridge`, whose ports are `alone` or reach each other: a kernel with br_netfilter asks these hooks about what
/// passes from port to port as well. The host forwards nothing for others where forwarding was turned on for us alone: `only_ours`
/// names its protocols, `ipv4` and `ipv6`.
pub(super) fn table(bridge: &str, subnet: Subnet, alone: bool, only_ours: &[&str]) -> String {
    let v6 = format!("{}/{LENGTH_V6}", subnet.v6(0));
    let others: String = only_ours
        .iter()
        .map(|protocol| {
            format!("    meta nfproto {protocol} iifname != \"{PREFIX}*\" oifname != \"{PREFIX}*\" drop\n")
        })
        .collect();
    let among = match alone {
        true => String::new(),
        false => format!("    iifname \"{bridge}\" oifname \"{bridge}\" accept\n"),
    };
    let [listed, listed_v6] = listed::RULES;
    let refuse = "reject with icmpx admin-prohibited";
    let gateway = subnet.v4(GATEWAY);
    format!(
        "table inet {bridge} {{
  comment \"ringfence: jobs on {subnet} and {v6}, host {gateway}\"
  set listed4 {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags interval; }}
  set listed6 {{ type ipv6_addr . ipv6_addr . inet_proto . inet_service; flags interval; }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
{among}    oifname \"{bridge}\" ct state established,related accept
    oifname \"{bridge}\" {refuse}
{others}    iifname != \"{bridge}\" return
    meta nfproto ipv4 ip saddr != {subnet} drop
    meta nfproto ipv6 ip6 saddr != {v6} drop
    oifname \"{PREFIX}*\" {refuse}
    {listed}
    {listed_v6}
    ip daddr 169.254.0.0/16 {refuse}
    ip6 daddr {{ fe80::/10, fd00:ec2::254 }} {refuse}
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname != \"{bridge}\" return
    ct state established,related accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
    {listed}
    {listed_v6}
    {refuse}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname != \"{bridge}\" masquerade
    ip6 saddr {v6} oifname != \"{bridge}\" masquerade
  }}
}}
"
    )
}

/// The end of the table of `bridge`, if there is one. nft waits for the kernel's next grace period then, ten milliseconds on a host
/// that has nothing to do: it closes its socket, which waits until nobody can see the old table any more
/// (nft_rcv_nl_event of net/netfilter/nf_tables_api.c).
pub(super) fn no_table(bridge: &str) -> String {
    format!("table inet {bridge}\ndelete table inet {bridge}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_all_that_a_job_may_not() {
        let subnet = Subnet::of(std::net::Ipv4Addr::new(10, 213, 7, 0));
        insta::assert_snapshot!(table("rf-0123abcd", subnet, false, &["ipv4"]));
    }
}
