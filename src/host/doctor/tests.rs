use std::fs;

use super::*;
use crate::host::facts::{CgroupSupport, NetworkFacts};
use crate::host::reason;

/// Recorded and invented hosts.
fn host(name: &str) -> Facts {
    let path = format!("{}/tests/hosts/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap();
    Facts::from_toml(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn extras() -> Extras {
    Extras {
        user: "kim".into(),
        distribution: Distribution::Debian,
        program: "/usr/bin/ringfence".into(),
        free_subordinate_id: 100_000,
        security_modules: "lockdown,capability,yama,apparmor".into(),
        ..Extras::default()
    }
}

/// A finding as it is printed.
fn finding(facts: &Facts, extras: &Extras, what: &str) -> String {
    let mut report = examine(facts, extras);
    report.findings.retain(|finding| finding.what.contains(what));
    report.verdicts.clear();
    let text = report.render(false);
    text.split_once("what they stand on\n").unwrap().1.to_owned()
}

fn without(mut facts: Facts, feature: Feature, reason: &str) -> Facts {
    facts.kernel_features.insert(feature, Support::No(reason.into()));
    facts
}

#[test]
fn tells_what_each_host_can_hold() {
    insta::glob!("../../../tests/hosts", "*.toml", |path| {
        let facts = host(path.file_stem().unwrap().to_str().unwrap());
        insta::assert_snapshot!(examine(&facts, &extras()).render(false));
    });
}

#[test]
fn colours_only_the_states() {
    let report = examine(&host("old-kernel"), &extras());
    let coloured = report.render(true);
    assert!(coloured.contains("\x1b[31mmissing\x1b[0m") && coloured.contains("\x1b[32mworks  \x1b[0m"));
    let plain = ["31", "32", "33", "0"]
        .iter()
        .fold(coloured, |text, code| text.replace(&format!("\x1b[{code}m"), ""));
    assert_eq!(plain, report.render(false));
}

#[test]
fn a_distribution_that_forbids_user_namespaces() {
    let of = |reason| {
        let facts = without(host("rootless-v2"), Feature::UserNamespace, reason);
        let refused = "refused, it needs user namespaces";
        assert!(
            examine(&facts, &extras())
                .verdicts
                .iter()
                .all(|verdict| verdict.why.starts_with(refused))
        );
        finding(&facts, &extras(), "user namespaces")
    };
    insta::assert_snapshot!(of(reason::USERNS_CLONE_OFF), @r#"
    missing user namespaces
              kernel.unprivileged_userns_clone is 0
              $ sudo sysctl -w kernel.unprivileged_userns_clone=1
              $ sudo sh -c 'echo kernel.unprivileged_userns_clone=1 > /etc/sysctl.d/99-ringfence.conf'
    "#);
    insta::assert_snapshot!(of(reason::NO_USER_NAMESPACES), @r#"
    missing user namespaces
              user.max_user_namespaces is 0
              $ sudo sysctl -w user.max_user_namespaces=15000
              $ sudo sh -c 'echo user.max_user_namespaces=15000 > /etc/sysctl.d/99-ringfence.conf'
    "#);
    insta::assert_snapshot!(of(reason::APPARMOR_RESTRICTS), @r#"
    missing user namespaces
              kernel.apparmor_restrict_unprivileged_userns is 1 and no AppArmor profile allows it
              $ printf '%s\n' 'abi <abi/4.0>,' 'include <tunables/global>' 'profile ringfence "/usr/bin/ringfence" flags=(unconfined) {' '  userns,' '}' | sudo tee /etc/apparmor.d/ringfence
              $ sudo apparmor_parser -r /etc/apparmor.d/ringfence
    "#);
    insta::assert_snapshot!(of(reason::POWERLESS_ROOT), @r#"
    missing user namespaces
              the caller is user 0 without CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID, so a job would be user 0 outside too
              > run as an ordinary user, or give the container these capabilities
    "#);
    insta::assert_snapshot!(of("unshare a user namespace: operation not permitted"), @r#"
    missing user namespaces
              unshare a user namespace: operation not permitted
    "#);
}

#[test]
fn subordinate_ids() {
    let of = |reason: &str, distribution, free_subordinate_id| {
        let mut facts = host("rootless-v2");
        facts.ids.reason = reason.into();
        let extras = Extras {
            distribution,
            free_subordinate_id,
            ..extras()
        };
        finding(&facts, &extras, "ids inside")
    };
    insta::assert_snapshot!(of("no line for kim in /etc/subgid", Distribution::Fedora, 231_072), @r#"
    reduced 65536 ids inside
              no line for kim in /etc/subgid
              so a job has one id, and all files of an image are its own
              $ sudo usermod --add-subuids 231072-296607 --add-subgids 231072-296607 kim
    "#);
    insta::assert_snapshot!(of(reason::NO_NEWUIDMAP, Distribution::Debian, 100_000), @r#"
    reduced 65536 ids inside
              newuidmap and newgidmap are not installed
              so a job has one id, and all files of an image are its own
              $ sudo apt-get install uidmap
              $ sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 kim
    "#);
    insta::assert_snapshot!(of(reason::NO_NEWUIDMAP, Distribution::Other, 100_000), @r#"
    reduced 65536 ids inside
              newuidmap and newgidmap are not installed
              so a job has one id, and all files of an image are its own
              > install newuidmap and newgidmap (of shadow, often in a package uidmap)
              $ sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 kim
    "#);
    insta::assert_snapshot!(of(reason::NO_NEW_PRIVILEGES, Distribution::Debian, 100_000), @r#"
    reduced 65536 ids inside
              no_new_privs is set on the caller, so newuidmap would have no rights
              so a job has one id, and all files of an image are its own
              > start it from a shell, or unset NoNewPrivileges= of the service that starts it
    "#);
}

#[test]
fn too_few_subordinate_ids() {
    let mut facts = host("rootless-v2-subids");
    facts.ids.subordinate_gids = 1000;
    insta::assert_snapshot!(finding(&facts, &extras(), "ids inside"), @r#"
    reduced 65536 ids inside
              65536 users and 1000 groups are given to kim
              so a job has one id, and all files of an image are its own
              $ sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 kim
    "#);
}

#[test]
fn groups_that_are_not_delegated() {
    let of = |reason: &str, caller, systemd| {
        let mut facts = host("root-v2");
        facts.caller = caller;
        for support in facts.cgroup.values_mut() {
            *support = CgroupSupport::No(reason.into());
        }
        let extras = Extras { systemd, ..extras() };
        finding(&facts, &extras, "limits memory")
    };
    let closed = "/sys/fs/cgroup/init is not writable: permission denied; start it with `systemd-run …`";
    insta::assert_snapshot!(of(closed, Caller::User, true), @r#"
    missing limits memory, pids, cpus, cpu-time, cpuset, io
              /sys/fs/cgroup/init is not writable: permission denied
              $ systemd-run --user --scope -p Delegate=yes ringfence run
    "#);
    insta::assert_snapshot!(of(closed, Caller::User, false), @r#"
    missing limits memory, pids, cpus, cpu-time, cpuset, io
              /sys/fs/cgroup/init is not writable: permission denied
              $ sudo sh -c 'cd /sys/fs/cgroup && mkdir -p /sys/fs/cgroup/user-kim/shell && for c in cpu cpuset io memory pids; do echo +$c > cgroup.subtree_control; echo +$c > /sys/fs/cgroup/user-kim/cgroup.subtree_control; done; chown -R kim /sys/fs/cgroup/user-kim && echo $0 > /sys/fs/cgroup/user-kim/shell/cgroup.procs' $$
    "#);
    insta::assert_snapshot!(of(closed, Caller::Root, true), @r#"
    missing limits memory, pids, cpus, cpu-time, cpuset, io
              /sys/fs/cgroup/init is not writable: permission denied
              $ systemd-run --scope -p Delegate=yes ringfence run
    "#);
    let others = "/sys/fs/cgroup/a holds other processes; move every process of /sys/fs/cgroup/a into a group below it";
    insta::assert_snapshot!(of(others, Caller::Root, false), @r#"
    missing limits memory, pids, cpus, cpu-time, cpuset, io
              /sys/fs/cgroup/a holds other processes
              > move every process of /sys/fs/cgroup/a into a group below it
    "#);
}

#[test]
fn a_controller_that_systemd_does_not_hand_down() {
    let mut facts = host("rootless-v2");
    let reason =
        "/sys/fs/cgroup/user.slice/cgroup.controllers does not list io; enable it in the group above";
    facts.cgroup.insert("io".into(), CgroupSupport::No(reason.into()));
    let extras = Extras {
        systemd: true,
        ..extras()
    };
    insta::assert_snapshot!(finding(&facts, &extras, "limit io"), @r#"
    missing limit io
              /sys/fs/cgroup/user.slice/cgroup.controllers does not list io
              $ sudo mkdir -p /etc/systemd/system/user@.service.d
              $ sudo sh -c 'printf "[Service]\nDelegate=cpu cpuset io memory pids\n" > /etc/systemd/system/user@.service.d/delegate.conf'
              $ sudo systemctl daemon-reload
              > log out of all sessions and in again
    "#);
}

#[test]
fn swap_that_nobody_counts() {
    let extras = Extras {
        uncounted_swap: true,
        ..extras()
    };
    insta::assert_snapshot!(finding(&host("root-v1"), &extras, "swap"), @r#"
    missing swap bounded with memory
              this host swaps and counts it for no group
              > boot with `swapaccount=1`
              $ swapoff -a
    "#);
    let strict = &examine(&host("root-v1"), &extras).verdicts[0];
    assert_eq!(strict.why, "refused, it needs swap bounded with memory");
    assert_eq!(finding(&host("rootless-v1-undelegated"), &extras, "swap"), "");
}

#[test]
fn landlock_that_is_not_started() {
    let mut facts = host("rootless-v2");
    facts.landlock_abi = 0;
    insta::assert_snapshot!(finding(&facts, &extras(), "Landlock"), @r#"
    missing Landlock
              it is not among the security modules of this boot
              > boot with `lsm=landlock,lockdown,capability,yama,apparmor` (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub)
    "#);
    assert_eq!(
        examine(&facts, &extras()).verdicts[0].why,
        "refused, it needs Landlock"
    );
}

#[test]
fn inside_a_container() {
    let reason = "parts of /proc are covered here, as in a container, so no fresh one may be mounted";
    let facts = without(host("root-v2"), Feature::ProcMount, reason);
    insta::assert_snapshot!(finding(&facts, &extras(), "/proc"), @r#"
    missing a /proc of its own
              parts of /proc are covered here, as in a container, so no fresh one may be mounted
              > in a container: start that one with its /proc unmasked (docker: --security-opt systempaths=unconfined, podman: --security-opt unmask=ALL, Kubernetes: procMount: Unmasked)
    "#);
}

#[test]
fn a_terminal_that_can_be_typed_into() {
    let extras = Extras {
        tiocsti: true,
        ..extras()
    };
    insta::assert_snapshot!(finding(&host("rootless-v2"), &extras, "terminal"), @r#"
    works   terminal
              dev.tty.legacy_tiocsti is 1: a program may type into the terminal it holds; no job holds yours
              $ sudo sysctl -w dev.tty.legacy_tiocsti=0
    "#);
}

#[test]
fn facts_without_answers_hold_nothing() {
    let text = "facts = 1\nkernel = \"6.6.0\"\narch = \"aarch64\"\ncpus = 1\ncaller = \"user\"\n";
    let report = examine(&Facts::from_toml(text).unwrap(), &Extras::default());
    assert!(
        report
            .verdicts
            .iter()
            .all(|verdict| verdict.state == State::Missing)
    );
    insta::assert_snapshot!(report.render(false));
}

#[test]
fn what_bridge_networks_lack_is_mended() {
    let mut facts = host("rootless-v2-subids");
    let bridge = |facts: &Facts, extras: &Extras| finding(facts, extras, "bridge networks");
    assert_eq!(bridge(&facts, &extras()), "  works   bridge networks\n");
    facts.network = NetworkFacts::default();
    insta::assert_snapshot!(bridge(&facts, &extras()));

    let dropped = Extras {
        forward_drop: Some(ForwardDrop {
            chain: "ip filter FORWARD".into(),
            docker: true,
        }),
        ..extras()
    };
    insta::assert_snapshot!(bridge(&host("root-v1"), &dropped));
}
