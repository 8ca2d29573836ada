//! The host's own reasons for refusing a feature: the probe writes them, the doctor knows their mends.

/// Debian's switch is off.
pub(crate) const USERNS_CLONE_OFF: &str = "kernel.unprivileged_userns_clone is 0";
/// Ubuntu's switch is on (23.10 and later): a namespace without capabilities.
pub(crate) const APPARMOR_RESTRICTS: &str =
    "kernel.apparmor_restrict_unprivileged_userns is 1 and no AppArmor profile allows it";
/// The number of user namespaces is bounded by 0.
pub(crate) const NO_USER_NAMESPACES: &str = "user.max_user_namespaces is 0";
/// The kernel was built without them.
pub(crate) const NOT_BUILT_IN: &str = "this kernel was built without user namespaces";
/// The caller is user 0, yet may not map other ids: a job of its would be user 0 outside as well.
pub(crate) const POWERLESS_ROOT: &str = "the caller is user 0 without CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID, so a job would be user 0 outside too";
/// The package with newuidmap(1) and newgidmap(1) is missing.
pub(crate) const NO_NEWUIDMAP: &str = "newuidmap and newgidmap are not installed";
/// newuidmap(1) has its rights from its file, which this forbids.
pub(crate) const NO_NEW_PRIVILEGES: &str =
    "no_new_privs is set on the caller, so newuidmap would have no rights";
/// How the reason begins when /etc/subuid or /etc/subgid says nothing about the caller.
pub(crate) const NO_SUBORDINATE_IDS: &str = "no line for";
/// Something that was found out only inside a user namespace, which there is not.
pub(crate) const NEEDS_USER_NAMESPACE: &str = "needs a user namespace";
/// How the reason begins when root stands in a user namespace that does not have the ids of jobs.
pub(crate) const FOREIGN_IDS: &str = "the caller may not map the ids";
