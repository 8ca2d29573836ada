//! Groups of an ordinary user: handed over, delegated, or refused. Each test runs this program again.

use std::os::unix::process::CommandExt;

use super::*;

/// Runs this test program's `test` again as an ordinary user, who stands in `dirs`.
fn as_user(uid: u32, test: &str, dirs: &[PathBuf]) -> String {
    // The build's folder may be closed to others.
    let program = std::env::temp_dir().join(format!("ringfence-cgroup-test-{uid}"));
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let script = "for dir; do echo 0 > \"$dir/cgroup.procs\" || exit 99; done; \
                  exec setpriv --reuid=$RUN_UID --regid=$RUN_UID --clear-groups \"$RUN_PROGRAM\" --exact --ignored --nocapture \"$RUN_TEST\" 2>&1";
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .args(dirs)
        .env("RUN_UID", uid.to_string())
        .env("RUN_PROGRAM", &program)
        .env("RUN_TEST", test)
        .process_group(0)
        .output()
        .unwrap();
    fs::remove_file(&program).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
    text
}

#[test]
#[ignore = "started by other tests, as an ordinary user"]
fn inner_makes_a_group() {
    let limits = Limits {
        memory: Some(16 * MIB),
        pids: Some(8),
        ..Limits::default()
    };
    let group = Group::create(&Site::find(), &name(), &limits).unwrap();
    assert!(!run(&group, "exec tail /dev/zero").success());
    assert!(group.counters().oom_kills >= Some(1));
    println!("made {}", group.parts[0].dir.display());
    group.remove().unwrap();
}

#[test]
#[ignore = "started by other tests, as an ordinary user"]
fn inner_is_refused() {
    let limits = Limits {
        memory: Some(16 * MIB),
        ..Limits::default()
    };
    println!(
        "refused {}",
        Group::create(&Site::find(), &name(), &limits).unwrap_err()
    );
}

/// The directories of memory and pids below which this process makes groups, when it is root on v1.
fn v1_as_root() -> Option<[PathBuf; 2]> {
    let mut site = as_root()?;
    let dirs = [Controller::Memory, Controller::Pids].map(|controller| site.v1.remove(&controller));
    if let [Some(memory), Some(pids)] = dirs {
        return Some([memory, pids]);
    }
    not_here("no v1 hierarchies");
    None
}

/// A group of this test, and one below it to stand in, in the unified hierarchy with memory and pids enabled.
fn v2_as_root(name: &str) -> Option<(PathBuf, PathBuf)> {
    let site = as_root()?;
    let Some(unified) = site
        .v2
        .filter(|unified| unified.controllers.contains(&Controller::Memory))
    else {
        not_here("no controllers on v2");
        return None;
    };
    let parent = unified.parent.join(format!("{name}-{}", std::process::id()));
    file::write(&unified.parent.join("cgroup.subtree_control"), "+memory +pids").unwrap();
    fs::create_dir_all(parent.join("shell")).unwrap();
    Some((parent.clone(), parent.join("shell")))
}

fn as_root() -> Option<Site> {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        not_here("only root can hand groups over");
    }
    root.then(Site::find)
}

fn hand_over(dirs: &[PathBuf], uid: u32) {
    for dir in dirs {
        std::os::unix::fs::chown(dir, Some(uid), Some(uid)).unwrap();
        for entry in fs::read_dir(dir).unwrap() {
            std::os::unix::fs::chown(entry.unwrap().path(), Some(uid), Some(uid)).unwrap();
        }
    }
}

#[test]
fn an_ordinary_user_makes_groups_where_it_stands() {
    let Some(parents) = v1_as_root() else { return };
    let uid = 70_001;
    let dirs = parents.map(|dir| dir.join(format!("stand-{}", std::process::id())));
    dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
    hand_over(&dirs, uid);
    let text = as_user(uid, "cgroup::group::tests::user::inner_makes_a_group", &dirs);
    assert!(
        text.contains(&format!("made {}/{PREFIX}test-", dirs[0].display())),
        "{text}"
    );
    dirs.iter().for_each(|dir| fs::remove_dir(dir).unwrap());
}

#[test]
fn an_ordinary_user_makes_groups_in_directories_below_that_it_owns() {
    let Some(parents) = v1_as_root() else { return };
    let uid = 70_002;
    let dirs = parents.map(|dir| dir.join(format!("user-{uid}")));
    dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
    hand_over(&dirs, uid);
    let text = as_user(uid, "cgroup::group::tests::user::inner_makes_a_group", &[]);
    assert!(
        text.contains(&format!("made {}/{PREFIX}test-", dirs[0].display())),
        "{text}"
    );
    dirs.iter().for_each(|dir| fs::remove_dir(dir).unwrap());
}

#[test]
fn an_ordinary_user_without_a_directory_is_refused() {
    let Some([memory, _]) = v1_as_root() else { return };
    let text = as_user(70_003, "cgroup::group::tests::user::inner_is_refused", &[]);
    let memory = memory.display();
    let expected = format!(
        "refused cgroup controller memory: {memory} is not writable: permission denied; \
         as root: `mkdir {memory}/user-70003 && chown -R 70003 {memory}/user-70003`"
    );
    assert!(text.lines().any(|line| line.ends_with(&expected)), "{text}");
}

#[test]
fn an_ordinary_user_makes_groups_in_its_delegated_subtree() {
    let Some((parent, shell)) = v2_as_root("delegated") else {
        return;
    };
    let uid = 70_004;
    hand_over(&[shell.clone(), parent.clone()], uid);
    let text = as_user(
        uid,
        "cgroup::group::tests::user::inner_makes_a_group",
        std::slice::from_ref(&shell),
    );
    assert!(
        text.contains(&format!("made {}/{PREFIX}test-", parent.display())),
        "{text}"
    );
    fs::remove_dir(shell).unwrap();
    fs::remove_dir(parent).unwrap();
}

#[test]
fn an_ordinary_user_without_delegation_is_refused() {
    let Some((parent, shell)) = v2_as_root("closed") else {
        return;
    };
    let text = as_user(
        70_005,
        "cgroup::group::tests::user::inner_is_refused",
        std::slice::from_ref(&shell),
    );
    let expected = format!(
        "refused cgroup controller memory: {} is not writable: permission denied, \
         and {} is not writable: permission denied; as root, make a group, hand it over with everything in it \
         (`chown -R 70005`), and start the caller in a group below it",
        shell.display(),
        parent.display()
    );
    assert!(text.lines().any(|line| line.ends_with(&expected)), "{text}");
    fs::remove_dir(shell).unwrap();
    fs::remove_dir(parent).unwrap();
}

#[test]
fn alone_in_a_limited_group_the_caller_steps_aside_and_back() {
    let Some((parent, shell)) = v2_as_root("alone") else {
        return;
    };
    file::write(&parent.join("cgroup.subtree_control"), "+memory +pids").unwrap();
    file::write(&shell.join("memory.max"), &(256 * MIB).to_string()).unwrap();
    let text = as_user(
        0,
        "cgroup::group::tests::user::inner_makes_a_group",
        std::slice::from_ref(&shell),
    );
    assert!(
        text.contains(&format!("made {}/{PREFIX}test-", shell.display())),
        "{text}"
    );
    // Nothing is left below, or the group would be busy.
    fs::remove_dir(shell).unwrap();
    fs::remove_dir(parent).unwrap();
}
