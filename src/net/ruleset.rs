//! What the kernel has of nftables, read without nft(8), which would cost each start ten milliseconds (nfnetlink(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use sha2::{Digest, Sha256};

use super::host_rules::PREFIX;
use super::sets;

// Numbers of <linux/netlink.h>, <linux/netfilter/nfnetlink.h>, <linux/netfilter.h> and <linux/netfilter/nf_tables.h>.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const SUBSYSTEM: u16 = 10;
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
/// NFPROTO_INET, and what is forwarded with NFPROTO_IPV4 and NFPROTO_IPV6, as nft(8) names them.
const INET: u8 = 1;
const FORWARDED: [(u8, &str); 3] = [(INET, "inet"), (2, "ip"), (10, "ip6")];

/// The length of a message's header, and of that of nfnetlink behind it.
const HEADER: usize = 16;
const NETFILTER: usize = 4;

/// More than the kernel puts into one datagram of a dump (32 KiB, netlink_dump of net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 << 10;

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
    let socket = sets::open()?;
    let mut digest = Sha256::new();
    let (mut chains, mut docker) = (0, false);
    let mut dropping = None;
    dump(&socket, GET_CHAIN, |family, chain| {
        let (of, name) = (text(chain, TABLE), text(chain, CHAIN_NAME));
        if family == INET && of == table.as_bytes() {
            digest.update(chain);
            chains += 1;
        }
        docker |= name == b"DOCKER-USER";
        let hook = value(chain, CHAIN_HOOK).and_then(|hook| number(hook, HOOK_NUMBER));
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
            digest.update(rule);
        }
        // Who names our bridges has thought of them.
        if !is_ours(of) && rule.windows(PREFIX.len()).any(|bytes| bytes == PREFIX.as_bytes()) {
            dropping = None;
        }
    })?;
    let hex = || {
        digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    Ok(Ruleset {
        table: (chains > 0).then(hex),
        dropping: dropping.map(|chain| Dropping { chain, docker }),
    })
}

fn is_ours(table: &[u8]) -> bool {
    table.starts_with(PREFIX.as_bytes())
}

/// Asks for all entries of a kind, and shows each: its family and its attributes.
fn dump(socket: &OwnedFd, kind: u16, mut each: impl FnMut(u8, &[u8])) -> Result<(), Errno> {
    let mut request = Vec::with_capacity(HEADER + NETFILTER);
    request.extend(((HEADER + NETFILTER) as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // One request at a time, and one process that asks; of all families (NFPROTO_UNSPEC).
    request.extend([0; 8 + NETFILTER]);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;

    let mut datagram = vec![0; DATAGRAM];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut datagram, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            received => received?,
        };
        let mut rest = &datagram[..length];
        while let Some((header, _)) = rest.split_at_checked(HEADER) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let payload = rest.get(HEADER..length).ok_or(Errno::EPROTO)?;
            match u16::from_ne_bytes([header[4], header[5]]) {
                DONE => return Ok(()),
                ERROR => {
                    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return Err(Errno::from_raw(-code));
                }
                _ => {
                    let (netfilter, attributes) = payload.split_at_checked(NETFILTER).ok_or(Errno::EPROTO)?;
                    each(netfilter[0], attributes);
                }
            }
            // Each begins at a multiple of four (NLMSG_ALIGN).
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The value of the first attribute of this kind.
fn value(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    while let Some(([low, high, first, second], _)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([*low, *high]));
        // The two highest bits say what else it is (NLA_TYPE_MASK, <linux/netlink.h>).
        if u16::from_ne_bytes([*first, *second]) & 0x3fff == kind {
            return rest.get(4..length);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

/// One that ends with a zero byte.
fn text(attributes: &[u8], kind: u16) -> &[u8] {
    let bytes = value(attributes, kind).unwrap_or_default();
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    value(attributes, kind)?
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}
