//! What the kernel has of nftables, read without nft(8), which would cost each start ten milliseconds (nfnetlink(7)).

use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_DUMP, NLM_F_REQUEST};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use sha2::{Digest, Sha256};

use super::sets;

// Numbers of <linux/netlink.h>, <linux/netfilter/nfnetlink.h>, <linux/netfilter.h> and <linux/netfilter/nf_tables.h>.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const SUBSYSTEM: u16 = 10;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const GET_RULE: u16 = SUBSYSTEM << 8 | 7;
/// Of a chain and of a rule alike.
const TABLE: u16 = 1;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
/// NF_INET_FORWARD and NF_DROP.
const FORWARD: u32 = 2;
const DROP: u32 = 0;
/// NFPROTO_UNSPEC, NFPROTO_INET, NFPROTO_IPV4 and NFPROTO_IPV6.
const ANY: u8 = 0;
const INET: u8 = 1;
const FORWARDED: [u8; 3] = [INET, 2, 10];

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
    /// Some chain drops what the host forwards, unless a rule says otherwise.
    pub(super) drops: bool,
}

/// Looks at the tables of this process's network namespace, and at the one named `table` (inet) closely.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN; the kernel's.
pub(super) fn look(table: &str) -> Result<Ruleset, Errno> {
    let socket = sets::open()?;
    let mut name = table.as_bytes().to_vec();
    name.push(0);
    let mut digest = Sha256::new();
    let mut found = Ruleset {
        table: None,
        drops: false,
    };
    let mut chains = 0;
    dump(&socket, GET_CHAIN, ANY, &[], |family, attributes| {
        if family == INET && value(attributes, TABLE) == Some(&name) {
            digest.update(attributes);
            chains += 1;
        }
        let hook = value(attributes, CHAIN_HOOK).and_then(|hook| number(hook, HOOK_NUMBER));
        found.drops |= FORWARDED.contains(&family)
            && hook == Some(FORWARD)
            && number(attributes, CHAIN_POLICY) == Some(DROP);
    })?;
    let only = [DefaultNla::new(TABLE, name.clone())];
    let rules = dump(&socket, GET_RULE, INET, &only, |_, attributes| {
        digest.update(attributes)
    });
    match rules {
        // The table itself is not there.
        Err(Errno::ENOENT) => {}
        rules => rules?,
    }
    let text = || {
        digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    found.table = (chains > 0).then(text);
    Ok(found)
}

/// Asks for a table of the kernel's, and shows each entry: its family and its attributes.
fn dump(
    socket: &OwnedFd,
    kind: u16,
    family: u8,
    only: &[DefaultNla],
    mut each: impl FnMut(u8, &[u8]),
) -> Result<(), Errno> {
    let length = HEADER + NETFILTER + only.buffer_len();
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // One request at a time, and one process that asks.
    request.extend([0; 8]);
    request.extend([family, 0, 0, 0]);
    request.resize(length, 0);
    only.emit(&mut request[HEADER + NETFILTER..]);
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

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    value(attributes, kind)?
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}
