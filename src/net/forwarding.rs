//! Forwarding by the host, on for our bridges and the links that lead out, and off again after the last of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sysctl;

/// What was turned on, by the setting's path below `/proc/sys/net`.
type Turned = BTreeMap<String, Change>;

/// What a setting was before, and what we have made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    before: String,
    ours: String,
}

/// What a new bridge needs of the host.
#[derive(Debug)]
pub(super) struct Needed {
    settings: Vec<(String, &'static str)>,
    turned: Turned,
}

impl Needed {
    /// Forwarding of IPv4 on these links, and of IPv6, which knows only all links, on all of them when `ipv6`. What was turned
    /// on before is in `file`.
    ///
    /// # Errors
    /// That of the file, or what it says is no record.
    pub(super) fn look(file: &Path, links_v4: &[String], ipv6: bool) -> io::Result<Needed> {
        let is_off = |name: &str| sysctl::get(name).as_deref() == Some("0");
        let mut settings = Vec::new();
        if is_off("ipv4/ip_forward") {
            let forwarding = |link: &String| (format!("ipv4/conf/{link}/forwarding"), "1");
            settings.extend(links_v4.iter().map(forwarding));
        }
        if ipv6 && is_off("ipv6/conf/all/forwarding") {
            // A host that forwards ignores its own router's advertisements unless it is told not to
            // (Documentation/networking/ip-sysctl.rst, accept_ra); it would lose its default route.
            let accepts = |name: &String| sysctl::get(name).as_deref() == Some("1");
            let links = sysctl::links("ipv6/conf").into_iter();
            let names = links
                .map(|link| format!("ipv6/conf/{link}/accept_ra"))
                .filter(accepts);
            settings.extend(names.map(|name| (name, "2")));
            settings.push(("ipv6/conf/all/forwarding".to_owned(), "1"));
        }
        let mut turned = read(file)?;
        for (name, ours) in &settings {
            let before = sysctl::get(name).unwrap_or_default();
            if before != *ours {
                let ours = (*ours).to_owned();
                turned.entry(name.clone()).or_insert(Change { before, ours });
            }
        }
        Ok(Needed { settings, turned })
    }

    /// As [`only_ours`], when it will be on.
    pub(super) fn only_ours(&self) -> Vec<&'static str> {
        protocols(&self.turned)
    }

    /// Turns it on; what it was is written to `file` first, beside it and then in its place: who is killed leaves a record
    /// that is whole.
    ///
    /// # Errors
    /// That of a setting or of the file.
    pub(super) fn turn_on(&self, file: &Path) -> io::Result<()> {
        if !self.turned.is_empty() {
            let beside = file.with_extension("new");
            fs::write(&beside, serde_json::to_string(&self.turned)?)?;
            fs::rename(&beside, file)?;
        }
        self.settings
            .iter()
            .try_for_each(|(name, value)| sysctl::set(name, value))
    }
}

/// The protocols that are forwarded for us alone: nothing of others may pass.
///
/// # Errors
/// As [`Needed::look`].
pub(super) fn only_ours(file: &Path) -> io::Result<Vec<&'static str>> {
    read(file).map(|turned| protocols(&turned))
}

fn protocols(turned: &Turned) -> Vec<&'static str> {
    let ours = |protocol: &&str| turned.keys().any(|name| name.starts_with(protocol));
    let alone = |protocol: &&str| !is_everybodys(protocol);
    ["ipv4", "ipv6"].into_iter().filter(ours).filter(alone).collect()
}

/// Whether the host forwards for everybody by now: for IPv4 that is a setting of its own, which we never touch.
fn is_everybodys(protocol: &str) -> bool {
    protocol == "ipv4" && sysctl::get("ipv4/ip_forward").as_deref() == Some("1")
}

/// Sets back what is still as we have made it; what somebody else has set meanwhile is theirs. A link that has gone has no
/// setting any more.
///
/// # Errors
/// That of a setting or of the file, which then stays.
pub(super) fn turn_off(file: &Path) -> io::Result<()> {
    for (name, Change { before, ours }) in read(file)? {
        let theirs = is_everybodys(name.split('/').next().unwrap_or_default());
        if theirs || sysctl::get(&name).as_ref() != Some(&ours) {
            continue;
        }
        match sysctl::set(&name, &before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(file: &Path) -> io::Result<Turned> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Turned::new()),
        text => text?,
    };
    serde_json::from_str(&text).map_err(|_| {
        let said = format!(
            "{}: not a record of settings that were turned on; set them as they should be, and remove it",
            file.display()
        );
        io::Error::new(io::ErrorKind::InvalidData, said)
    })
}
