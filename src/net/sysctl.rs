//! Settings of a network namespace: the files below `/proc/sys/net`, which show the reader its own (proc_sys_net(5)).

use std::fs;
use std::io;

fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}

/// Sets one, named by its path: a link's name may hold the dots that separate other names.
///
/// # Errors
/// That of the file, which is named.
pub(super) fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(path(name), value)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path(name))))
}

/// Keeps IPv6 of a link that is still down to the addresses that it is given: none that the kernel makes up, and none, nor a
/// router, that somebody else on the network advertises (Documentation/networking/ip-sysctl.rst).
///
/// # Errors
/// That of a file, which is named.
pub(super) fn only_given_ipv6(link: &str) -> io::Result<()> {
    set(&format!("ipv6/conf/{link}/addr_gen_mode"), "1")?;
    set(&format!("ipv6/conf/{link}/accept_ra"), "0")
}

/// Reads one; none where this kernel has none.
pub(super) fn get(name: &str) -> Option<String> {
    fs::read_to_string(path(name))
        .ok()
        .map(|text| text.trim().to_owned())
}

/// The links that have settings in a folder, by name; not the two that stand for all and for new ones.
pub(super) fn links(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(path(folder)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name != "all" && name != "default").collect()
}
