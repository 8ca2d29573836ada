//! Forwarding by the host, on for our bridges and the links that lead out, and off again after the last of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::sysctl;

/// What was turned on, by the setting's path below `/proc/sys/net`, and what it was before.
type Turned = BTreeMap<String, String>;

/// Turns on what a new bridge needs: forwarding on the links `uplinks_v4`, and for IPv6, which knows only all links, on all
/// of them when `ipv6`. What it was is written to `file` first. Answers the protocols that are forwarded for us alone.
///
/// # Errors
/// That of a setting or of the file.
pub(super) fn turn_on(file: &Path, uplinks_v4: &[String], ipv6: bool) -> io::Result<Vec<&'static str>> {
    let mut wanted = Vec::new();
    if sysctl::get("ipv4/ip_forward").as_deref() == Some("0") {
        wanted.extend(
            uplinks_v4
                .iter()
                .map(|link| (format!("ipv4/conf/{link}/forwarding"), "1")),
        );
    }
    if ipv6 && sysctl::get("ipv6/conf/all/forwarding").as_deref() == Some("0") {
        // A host that forwards ignores its own router's advertisements unless it is told not to
        // (Documentation/networking/ip-sysctl.rst, accept_ra); it would lose its default route.
        for link in sysctl::links("ipv6/conf") {
            let name = format!("ipv6/conf/{link}/accept_ra");
            if sysctl::get(&name).as_deref() == Some("1") {
                wanted.push((name, "2"));
            }
        }
        wanted.push(("ipv6/conf/all/forwarding".to_owned(), "1"));
    }
    let mut turned = read(file);
    for (name, value) in &wanted {
        let before = sysctl::get(name).unwrap_or_default();
        if before != *value {
            turned.entry(name.clone()).or_insert(before);
        }
    }
    if !turned.is_empty() {
        fs::write(file, serde_json::to_string(&turned)?)?;
    }
    for (name, value) in &wanted {
        sysctl::set(name, value)?;
    }
    let ours = |protocol: &&str| turned.keys().any(|name| name.starts_with(protocol));
    Ok(["ipv4", "ipv6"]
        .into_iter()
        .filter(|protocol| ours(protocol))
        .collect())
}

/// Sets everything back to what it was. A link that has gone meanwhile has no setting any more.
///
/// # Errors
/// That of the file.
pub(super) fn turn_off(file: &Path) -> io::Result<()> {
    for (name, before) in read(file) {
        sysctl::set(&name, &before).ok();
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(file: &Path) -> Turned {
    let text = fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
