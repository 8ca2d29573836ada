//! Forwarding by the host, on for our bridges and the links that lead out, and off again after the last of them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::sysctl;

/// What was turned on, by the setting's path below `/proc/sys/net`, and what it was before.
type Turned = BTreeMap<String, String>;

/// What a new bridge needs of the host.
pub(super) struct Needed {
    settings: Vec<(String, &'static str)>,
    turned: Turned,
}

impl Needed {
    /// Forwarding on the links `uplinks_v4`, and for IPv6, which knows only all links, on all of them when `ipv6`. What was
    /// turned on before is in `file`.
    pub(super) fn look(file: &Path, uplinks_v4: &[String], ipv6: bool) -> Needed {
        let is_off = |name: &str| sysctl::get(name).as_deref() == Some("0");
        let mut settings = Vec::new();
        if is_off("ipv4/ip_forward") {
            let forwarding = |link: &String| (format!("ipv4/conf/{link}/forwarding"), "1");
            settings.extend(uplinks_v4.iter().map(forwarding));
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
        let mut turned = read(file);
        for (name, value) in &settings {
            let before = sysctl::get(name).unwrap_or_default();
            if before != *value {
                turned.entry(name.clone()).or_insert(before);
            }
        }
        Needed { settings, turned }
    }

    /// The protocols that are forwarded for us alone: nothing of others may pass.
    pub(super) fn only_ours(&self) -> Vec<&'static str> {
        let ours = |protocol: &&str| self.turned.keys().any(|name| name.starts_with(protocol));
        ["ipv4", "ipv6"].into_iter().filter(ours).collect()
    }

    /// Turns it on; what it was is written to `file` first.
    ///
    /// # Errors
    /// That of a setting or of the file.
    pub(super) fn turn_on(&self, file: &Path) -> io::Result<()> {
        if !self.turned.is_empty() {
            fs::write(file, serde_json::to_string(&self.turned)?)?;
        }
        self.settings
            .iter()
            .try_for_each(|(name, value)| sysctl::set(name, value))
    }
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
