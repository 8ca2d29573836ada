//! Who starts a run.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Who starts a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Root.
    Root,
    /// An ordinary user without subordinate ids, in groups that root has handed over.
    User,
    /// The same with 65536 subordinate ids.
    UserWithIds,
    /// An ordinary user to whom nothing was handed over; only for tests that name it.
    UserWithoutGroups,
    /// The ordinary user that runs the tests, whatever it has.
    Tester,
}

/// The ordinary users: numbers that no distribution gives away.
const USER: u32 = 48_611;
const USER_WITH_IDS: u32 = 48_612;
const USER_WITHOUT_GROUPS: u32 = 48_613;

/// The first of the subordinate ids.
const SUBORDINATE: u32 = 1_900_000_000;

/// Every caller that this machine allows, of those that are wanted.
pub(crate) fn callers(wanted: Option<&[Caller]>) -> Vec<Caller> {
    let mut all = vec![Caller::Tester];
    if nix::unistd::geteuid().is_root() {
        all = vec![Caller::Root, Caller::User];
        match subordinate_files() {
            Some(_) => all.push(Caller::UserWithIds),
            None => assert!(
                std::env::var("RINGFENCE_TESTS").as_deref() != Ok("require"),
                "may not be skipped: newuidmap(1), newgidmap(1) and the files that they read"
            ),
        }
        all.push(Caller::UserWithoutGroups);
    }
    let is_wanted = |caller: &Caller| match wanted {
        Some(wanted) => wanted.contains(caller),
        None => *caller != Caller::UserWithoutGroups,
    };
    all.into_iter().filter(is_wanted).collect()
}

impl Caller {
    /// The caller's user id.
    pub(crate) fn uid(self) -> u32 {
        match self {
            Caller::Root | Caller::Tester => nix::unistd::geteuid().as_raw(),
            Caller::User => USER,
            Caller::UserWithIds => USER_WITH_IDS,
            Caller::UserWithoutGroups => USER_WITHOUT_GROUPS,
        }
    }

    /// The caller's group id.
    pub(crate) fn gid(self) -> u32 {
        match self {
            Caller::Root | Caller::Tester => nix::unistd::getegid().as_raw(),
            Caller::User | Caller::UserWithIds | Caller::UserWithoutGroups => self.uid(),
        }
    }

    /// What was said, without what every run says here: that a user has no subordinate ids, that Landlock is an older one.
    pub(crate) fn without_notice(self, stderr: &str) -> String {
        let notices = [
            "ringfence: ids: the job's user is the only one inside: no line for ",
            "ringfence: security.landlock: ABI ",
        ];
        let is_notice = |said: &&str| notices.iter().any(|notice| said.starts_with(notice));
        let rest = stderr.split_inclusive('\n').filter(|said| !is_notice(said));
        rest.collect()
    }

    /// A shell script that becomes this caller and then executes its arguments.
    pub(super) fn script(self) -> String {
        let (user, group) = (self.uid(), self.gid());
        let change =
            format!("exec setpriv --reuid={user} --regid={group} --clear-groups --inh-caps=-all -- \"$@\"");
        match self {
            Caller::Root | Caller::Tester => "exec \"$@\"".to_owned(),
            Caller::User | Caller::UserWithoutGroups => change,
            Caller::UserWithIds => {
                let files = subordinate_files().unwrap_or_default();
                let bind = |name: &str| format!("mount --bind {files}/{name} /etc/{name} && ");
                let binds: String = FILES.map(bind).concat();
                // Only its own mount namespace has this user; the machine's files stay as they are.
                format!("exec unshare --mount --propagation private sh -c '{binds}{change}' sh \"$@\"")
            }
        }
    }
}

/// Files in which a user with subordinate ids is known.
const FILES: [&str; 3] = ["passwd", "subuid", "subgid"];

/// A folder with these files, made once in each process; none where newuidmap(1) or the right to mount is missing.
fn subordinate_files() -> Option<String> {
    static FOLDER: OnceLock<Option<String>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let has = |name: &str| Path::new("/usr/bin").join(name).exists();
            if !(has("newuidmap")
                && has("newgidmap")
                && FILES.iter().all(|name| Path::new("/etc").join(name).exists()))
            {
                return None;
            }
            let folder = std::env::temp_dir().join("ringfence-test-accounts");
            fs::create_dir_all(&folder).ok()?;
            for name in FILES {
                let line = match name {
                    "passwd" => {
                        format!("ringfence-test:x:{USER_WITH_IDS}:{USER_WITH_IDS}::/nonexistent:/bin/sh\n")
                    }
                    _ => format!("ringfence-test:{SUBORDINATE}:65536\n"),
                };
                let text = fs::read_to_string(Path::new("/etc").join(name)).ok()? + &line;
                let own = folder.join(format!("{name}.{}", std::process::id()));
                fs::write(&own, text).ok()?;
                // Whole at every moment for other test processes that use the same folder.
                fs::rename(own, folder.join(name)).ok()?;
            }
            Some(folder.to_str()?.to_owned())
        })
        .clone()
}
