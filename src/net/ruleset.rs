//! What the kernel has of nftables, read without nft(8), which would cost each start ten milliseconds (nfnetlink(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::host_rules::PREFIX;
use super::nfnetlink::{DONE, ERROR, HEADER, INET, NETFILTER, SUBSYSTEM, answers, attribute, failure, open};
use crate::image::Digest;

// Numbers of <linux/netfilter.h> and <linux/netfilter/nf_tables.h>.
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
/// Of a chain and of a rule alike.
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
/// NF_INET_FORWARD and NF_DROP.
const FORWARD: u32 = 2;
const DROP: u32 = 0;
/// What is forwarded: with NFPROTO_IPV4 and NFPROTO_IPV6, as nft(8) names them.
const FORWARDED: [(u8, &str); 3] = [(INET, "inet"), (2, "ip"), (10, "ip6")];

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ruleset {
    /// A digest of the table that was asked for, its chains and rules with their handles: another one when anybody has
    /// changed it. None when it is not there.
    pub(super) table: Option<String>,
    /// Another firewall that drops what this host forwards, and has no rule for our bridges.
    pub(super) dropping: Option<Dropping>,
}

/// Another firewall's chain that drops what this host forwards. It is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropping {
    /// As nft(8) names it: `ip filter FORWARD`.
    pub(crate) chain: String,
    /// It is Docker's, with a chain for other people's rules.
    pub(crate) docker: bool,
}

/// Another firewall that drops what this host forwards; none too for who may not look, which is root's alone.
pub(crate) fn dropping() -> Option<Dropping> {
    look("").ok()?.dropping
}

/// Looks at the tables of this process's network namespace, and at the one named `table` (inet) closely.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN; the kernel's.
pub(super) fn look(table: &str) -> Result<Ruleset, Errno> {
    let socket = open()?;
    let mut own = Vec::new();
    let (mut chains, mut docker) = (0, false);
    let mut dropping = None;
    dump(&socket, GET_CHAIN, |family, chain| {
        let (of, name) = (text(chain, TABLE), text(chain, CHAIN_NAME));
        if family == INET && of == table.as_bytes() {
            own.extend_from_slice(chain);
            chains += 1;
        }
        docker |= name == b"DOCKER-USER";
        let hook = attribute(chain, CHAIN_HOOK).and_then(|hook| number(hook, HOOK_NUMBER));
        let drops = hook == Some(FORWARD) && number(chain, CHAIN_POLICY) == Some(DROP);
        let family = FORWARDED.iter().find(|(number, _)| *number == family);
        if let (Some((_, family)), true, false) = (family, drops, is_ours(of)) {
            let [of, name] = [of, name].map(String::from_utf8_lossy);
            dropping.get_or_insert(format!("{family} {of} {name}"));
        }
    })?;
    dump(&socket, GET_RULE, |family, rule| {
        let of = text(rule, TABLE);
        if family == INET && of == table.as_bytes() {
            own.extend_from_slice(rule);
        }
        // Who names our bridges has thought of them.
        if !is_ours(of) && rule.windows(PREFIX.len()).any(|bytes| bytes == PREFIX.as_bytes()) {
            dropping = None;
        }
    })?;
    Ok(Ruleset {
        table: (chains > 0).then(|| Digest::of(&own).hex()),
        dropping: dropping.map(|chain| Dropping { chain, docker }),
    })
}

fn is_ours(table: &[u8]) -> bool {
    table.starts_with(PREFIX.as_bytes())
}

/// Asks for all entries of a kind, and shows each: its family and its attributes.
fn dump(socket: &OwnedFd, kind: u16, mut each: impl FnMut(u8, &[u8])) -> Result<(), Errno> {
    let mut request = Vec::with_capacity(HEADER);
    request.extend((HEADER as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // One request at a time, and one process that asks; of all families (NFPROTO_UNSPEC).
    request.resize(HEADER, 0);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;

    let mut failed = None;
    answers(socket, |kind, _, payload| {
        match (kind, payload.split_at_checked(NETFILTER)) {
            (DONE, _) => true,
            (ERROR, _) => {
                failed = failure(payload);
                true
            }
            (_, Some((netfilter, attributes))) => {
                each(netfilter[0], attributes);
                false
            }
            (_, None) => {
                failed = Some(Errno::EPROTO);
                true
            }
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// One that ends with a zero byte.
fn text(attributes: &[u8], kind: u16) -> &[u8] {
    let bytes = attribute(attributes, kind).unwrap_or_default();
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    attribute(attributes, kind)?
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}
