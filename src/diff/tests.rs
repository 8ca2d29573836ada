//! Every key of a manifest has its direction, and loosening one is never called tighter.

mod ladders;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::ladders::{ELSEWHERE, FIXED, LADDERS, NEUTRAL, UNKNOWN};
use super::{Change, Direction, jobs, new_job, plans};
use crate::host::facts::Facts;
use crate::manifest;
use crate::manifest::schema::Kind;
use crate::manifest::sections;
use crate::plan::{Image, Plan, Request, plan};
use crate::profile::{self, Job, Rlimit};

/// Every path of a job that can hold a value; `*` stands for a name of the user's own.
fn leaves(kind: &'static Kind, path: &str, found: &mut BTreeSet<String>) {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match kind {
        Kind::Table(section) | Kind::Short(_, _, section) => {
            section
                .keys
                .iter()
                .for_each(|key| leaves(&key.kind, &below(key.name), found));
        }
        Kind::Entries(entries) => leaves(&entries.value, &below("*"), found),
        // `false` in a keyed table: what is not there is the first rung of a ladder, or the last.
        Kind::Removed => {}
        Kind::Either(kinds) => kinds.iter().for_each(|kind| leaves(kind, path, found)),
        _ => drop(found.insert(path.to_owned())),
    }
}

#[track_caller]
fn job(lines: &str) -> Job {
    try_job(lines).unwrap_or_else(|problems| panic!("{lines}: {problems}"))
}

fn try_job(lines: &str) -> Result<Job, crate::problem::Problems> {
    let image = if lines.contains("#other image") {
        "busybox"
    } else {
        "host"
    };
    let text = format!("schema = 1\n[job.x]\nimage = \"{image}\"\n{lines}\n");
    manifest::parse(&text).and_then(|manifest| profile::resolve(&manifest, "x"))
}

fn directions(changes: &[Change]) -> BTreeSet<Direction> {
    changes.iter().map(|change| change.direction).collect()
}

#[test]
fn every_key_of_a_manifest_has_its_direction() {
    let mut all = BTreeSet::new();
    leaves(sections::job_kind(), "", &mut all);
    // One rule for all of them, tested below.
    all.retain(|path| !path.starts_with("rlimits."));
    let told: Vec<&str> = (LADDERS.iter().map(|(path, _)| *path))
        .chain(NEUTRAL.iter().map(|(path, _)| *path))
        .chain(UNKNOWN.iter().map(|(path, _)| *path))
        .chain(ELSEWHERE.iter().chain(FIXED).copied())
        .collect();
    let known: BTreeSet<String> = told.iter().map(|path| (*path).to_owned()).collect();
    assert_eq!(told.len(), known.len(), "a key is told twice");
    assert_eq!(
        all.difference(&known).collect::<Vec<_>>(),
        [""; 0],
        "keys without a direction"
    );
    assert_eq!(
        known.difference(&all).collect::<Vec<_>>(),
        [""; 0],
        "keys that there are not"
    );
}

#[test]
fn each_rung_of_a_ladder_is_looser_than_the_one_below() {
    for (path, rungs) in LADDERS {
        for pair in rungs.windows(2) {
            let (tight, loose) = (job(pair[0]), job(pair[1]));
            let (up, down) = (jobs(&tight, &loose), jobs(&loose, &tight));
            let (up, down) = (directions(&up), directions(&down));
            assert!(
                up.contains(&Direction::Looser) && !up.contains(&Direction::Tighter),
                "{path}: {pair:?} is {up:?}"
            );
            assert!(
                down.contains(&Direction::Tighter) && !down.contains(&Direction::Looser),
                "{path} back: {pair:?} is {down:?}"
            );
        }
    }
    for name in Rlimit::ALL {
        let unit = match name {
            Rlimit::Cpu | Rlimit::Rttime => "s",
            Rlimit::As | Rlimit::Core | Rlimit::Data | Rlimit::Fsize | Rlimit::Memlock => "B",
            Rlimit::Msgqueue | Rlimit::Rss | Rlimit::Stack => "B",
            Rlimit::Locks
            | Rlimit::Nice
            | Rlimit::Nofile
            | Rlimit::Nproc
            | Rlimit::Rtprio
            | Rlimit::Sigpending => "",
        };
        let value = |number: u64| match unit {
            "" => number.to_string(),
            unit => format!("\"{number}{unit}\""),
        };
        let bound =
            |soft: &str, hard: &str| job(&format!("rlimits.{name} = {{ soft = {soft}, hard = {hard} }}"));
        let (tight, soft, hard) = (
            bound(&value(2), &value(3)),
            bound(&value(3), &value(3)),
            bound(&value(2), &value(4)),
        );
        for loose in [
            soft,
            hard,
            bound(&value(2), "\"unlimited\""),
            job(&format!("rlimits.{name} = false")),
        ] {
            assert_eq!(
                directions(&jobs(&tight, &loose)),
                [Direction::Looser].into(),
                "{name}"
            );
            assert_eq!(
                directions(&jobs(&loose, &tight)),
                [Direction::Tighter].into(),
                "{name}"
            );
        }
    }
}

#[test]
fn neutral_and_unknown_keys_are_called_that() {
    for (tables, direction) in [(NEUTRAL, Direction::Neutral), (UNKNOWN, Direction::Unknown)] {
        for (path, [one, other]) in tables {
            let found = jobs(&job(one), &job(other));
            assert_eq!(directions(&found), [direction].into(), "{path}: {found:?}");
        }
    }
}

#[test]
fn a_core_of_one_byte_is_tighter_than_none() {
    let core = |size: &str| job(&format!("rlimits.core = \"{size}\""));
    assert_eq!(
        directions(&jobs(&core("1B"), &core("0B"))),
        [Direction::Looser].into()
    );
    assert_eq!(
        directions(&jobs(&core("0B"), &core("2B"))),
        [Direction::Looser].into()
    );
}

#[test]
fn a_part_of_the_environment_is_given_like_a_part_of_the_host() {
    let with = |secret: bool, line: &str| {
        let text = format!(
            "schema = 1\n[variables]\nTOKEN = {{ env = \"CI_TOKEN\", secret = {secret} }}\n[job.x]\nimage = \"host\"\n{line}\n"
        );
        manifest::parse(&text)
            .and_then(|manifest| profile::resolve(&manifest, "x"))
            .expect("a job")
    };
    let passing = "env.T = \"${TOKEN}\"";
    let found = jobs(&with(true, ""), &with(true, passing));
    assert_eq!(
        (found[0].key.as_str(), found[0].reason.as_str()),
        ("variables", "adds CI_TOKEN")
    );
    assert_eq!(found[0].direction, Direction::Looser);
    let found = jobs(&with(true, passing), &with(false, passing));
    assert_eq!(found[0].reason, "variables.TOKEN.secret becomes printable");
}

#[test]
fn reasons_are_said_in_words() {
    let reason = |old: &str, new: &str| {
        let found = jobs(&job(old), &job(new));
        let words: Vec<String> = found
            .iter()
            .map(|change| format!("{}: {} ({})", change.direction, change.reason, change.key))
            .collect();
        words.join("\n")
    };
    let cases = [
        ("", "root = \"tmpfs\""),
        ("", "network.mode = \"host\""),
        ("", "security.capabilities = [\"NET_RAW\"]"),
        ("", "mounts.\"/src\" = { bind = \".\", access = \"rw\" }"),
        ("mounts.\"/src\".bind = \"a\"", "mounts.\"/src\".bind = \"b\""),
        ("", "limits.memory = false"),
        ("limits.wall = \"1min\"", "limits.wall = \"90s\""),
        ("", "security.landlock = false"),
        ("", "user = \"root\""),
        ("", "mounts.\"/tmp\" = { bind = \"t\" }"),
    ];
    let all: Vec<String> = cases.iter().map(|(old, new)| reason(old, new)).collect();
    insta::assert_snapshot!(all.join("\n\n"), @r#"
    looser: root becomes writable, in memory (root)

    looser: everything, where it was limited (network.allow)
    looser: network becomes the host's own (network.mode)

    looser: adds CAP_NET_RAW (security.capabilities)

    looser: adds reading ., writing . (mounts."/src")

    looser: adds reading b; removes reading a (mounts."/src")

    looser: 512MiB → no bound (limits.memory)

    looser: 1min → 90s (limits.wall)

    looser: security.landlock becomes off (security.landlock)

    looser: user becomes root inside (user)

    looser: adds reading t; removes running programs in memory, writing to memory (mounts."/tmp")
    tighter: 64MiB → none (mounts."/tmp".tmpfs)
    "#);
}

#[test]
fn a_new_job_is_compared_with_a_bare_one() {
    assert_eq!(new_job(&job("command = [\"true\"]\nenv.A = \"1\"")), []);
    let found = new_job(&job("network.mode = \"host\"\nlimits.pids = 4"));
    let words: Vec<_> = found
        .iter()
        .map(|change| (change.direction, change.key.as_str()))
        .collect();
    assert_eq!(
        words,
        [
            (Direction::Looser, "network.allow"),
            (Direction::Looser, "network.mode"),
            (Direction::Tighter, "limits.pids"),
        ]
    );
}

fn planned(job: &Job) -> Option<Plan> {
    let facts = Facts::from_toml(include_str!("../../tests/hosts/root-v2.toml")).expect("facts");
    let request = Request {
        args: Some(vec!["true".to_owned()]),
        ..Request::default()
    };
    plan(job, &facts, &Image::host(), &request).ok()
}

#[test]
fn plans_tell_the_same_as_their_manifests() {
    let mut compared = 0;
    for (path, rungs) in LADDERS {
        for pair in rungs.windows(2) {
            let (Some(tight), Some(loose)) = (planned(&job(pair[0])), planned(&job(pair[1]))) else {
                continue;
            };
            let found = plans(&tight, &loose);
            assert!(
                !directions(&found).contains(&Direction::Tighter),
                "{path}: {pair:?} is {found:?}"
            );
            compared += usize::from(directions(&found).contains(&Direction::Looser));
        }
    }
    // Bridges and some limits are refused on that host, and what may be missing is decided by then.
    assert!(compared > 40, "{compared}");
}

#[test]
fn a_user_that_becomes_root_gives_no_capability_up() {
    let of = |user: &str| planned(&job(&format!("security.capabilities = [\"NET_RAW\"]\n{user}"))).unwrap();
    let found = plans(
        &of("user.from = \"image-unless-root\""),
        &of("user.from = \"image\""),
    );
    assert!(!directions(&found).contains(&Direction::Tighter), "{found:?}");
    assert!(directions(&found).contains(&Direction::Looser), "{found:?}");
}

/// A line of every ladder that gets on with the others, and one ladder to climb.
fn climb() -> impl Strategy<Value = (String, usize, usize, usize)> {
    let others = proptest::collection::vec((0..LADDERS.len(), 0..8_usize), 0..6);
    (others, 0..LADDERS.len(), 0..8_usize, 0..8_usize).prop_map(|(others, ladder, from, to)| {
        let table = |at: usize| LADDERS[at].0.split('.').next().unwrap_or_default();
        let mut tables = BTreeSet::from([table(ladder)]);
        let mut lines = String::new();
        for (other, rung) in others {
            // Two inline tables of one name would be no TOML.
            if tables.insert(table(other)) {
                let rungs = LADDERS[other].1;
                lines += rungs[rung % rungs.len()];
                lines.push('\n');
            }
        }
        let rungs = LADDERS[ladder].1.len();
        let (from, to) = (from % rungs, to % rungs);
        (lines, ladder, from.min(to), from.max(to))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever else stands in a manifest, loosening one key is never called tighter, nor the way back looser.
    #[test]
    fn loosening_one_key_is_never_called_tighter((lines, ladder, from, to) in climb()) {
        let rungs = LADDERS[ladder].1;
        let (tight, loose) = (format!("{lines}{}", rungs[from]), format!("{lines}{}", rungs[to]));
        let (tight, loose) = match (try_job(&tight), try_job(&loose)) {
            (Ok(tight), Ok(loose)) => (tight, loose),
            // Together they contradict each other, and there is nothing to compare.
            _ => return Err(TestCaseError::reject("contradiction")),
        };
        let (up, down) = (directions(&jobs(&tight, &loose)), directions(&jobs(&loose, &tight)));
        prop_assert!(!up.contains(&Direction::Tighter), "{:?}", up);
        prop_assert!(!down.contains(&Direction::Looser), "{:?}", down);
        prop_assert_eq!(up.contains(&Direction::Looser), from != to);
        // The host's network takes /sys away: there, what a looser key leads to is tighter as well.
        let takes_sys = lines.contains("sys = \"read-only\"") && LADDERS[ladder].0.starts_with("network");
        if !takes_sys && let (Some(tight), Some(loose)) = (planned(&tight), planned(&loose)) {
            prop_assert!(!directions(&plans(&tight, &loose)).contains(&Direction::Tighter));
        }
    }
}
