//! The lock as its readers and its reviewers see it.

use super::*;
use crate::image::ResolvedImage;

fn digest(content: &str) -> Digest {
    Digest::of(content.as_bytes())
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn resolved(index: &str, platforms: &[&str]) -> Resolved {
    let image = |name: &&str| ResolvedImage {
        platform: platform(name),
        manifest: digest(&format!("{index} {name}")),
        config: digest("config"),
        settings: ImageConfig {
            entrypoint: Vec::new(),
            cmd: vec![
                "sh".to_owned(),
                "-c".to_owned(),
                "echo \"it's\"\n\u{1b}\u{7f}é".to_owned(),
            ],
            env: [
                ("PATH".to_owned(), "/bin".to_owned()),
                ("A".to_owned(), "x=y".to_owned()),
            ]
            .into(),
            env_refused: vec!["SECRET".to_owned()],
            working_dir: "/srv".to_owned(),
            user: "web".to_owned(),
            stop_signal: String::new(),
        },
        layers: vec![Layer {
            digest: digest("compressed"),
            diff_id: digest("plain"),
            size: 42,
        }],
    };
    Resolved {
        index: digest(index),
        images: platforms.iter().map(image).collect(),
    }
}

fn sample() -> Lock {
    let mut python = Locked::new(resolved("python", &["linux/arm64/v8", "linux/amd64"]), None);
    python
        .platforms
        .get_mut(&platform("linux/amd64"))
        .unwrap()
        .accounts = Some(Accounts::parse(
        b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:\n",
        b"root:x:0:\nweb:x:33:web,www\n",
    ));
    let busybox = Locked::new(resolved("busybox", &["linux/amd64"]), None);
    Lock {
        images: [
            ("docker.io/library/python:3.12-slim".to_owned(), python),
            ("docker.io/library/busybox:latest".to_owned(), busybox),
        ]
        .into(),
    }
}

#[test]
fn the_text_is_sorted_and_is_read_as_it_was_written() {
    let lock = sample();
    let text = lock.to_text();
    insta::assert_snapshot!(text);
    assert_eq!(Lock::parse(&text).unwrap(), lock);
    assert_eq!(Lock::parse(&text).unwrap().to_text(), text);
    // As an editor of another system may have left it.
    assert_eq!(Lock::parse(&text.replace('\n', "\r\n")).unwrap().images.len(), 2);
    assert_eq!(Lock::parse(&Lock::default().to_text()).unwrap(), Lock::default());
}

#[test]
fn what_is_no_lock_is_refused_at_its_place() {
    let good = sample().to_text();
    let error = |text: &str| format!("x.lock{}", Lock::parse(text).unwrap_err());
    let foreign = "x.lock: it does not begin with `lock = 1`, so it is no lock and stays as it is";
    for text in [
        "",
        "schema = 1\n",
        "# mine\nlock = 1\n",
        "lock = \"1\"\n",
        " lock = 1\n",
        "\u{feff}lock = 1\n",
    ] {
        assert_eq!(error(text), foreign, "{text:?}");
    }
    assert_eq!(
        error("lock = 2\nnew = true\n"),
        "x.lock: it has version 2 of the format, this program knows version 1"
    );
    let mend = "; take it from version control, or remove it and run `ringfence lock`";
    let line = |part: &str| good.lines().position(|line| line.contains(part)).unwrap() + 1;
    for (from, to, line, column, reason) in [
        (
            "working-dir",
            "workdir",
            line("working-dir"),
            1,
            "unknown field `workdir`",
        ),
        (
            "size = 42",
            "size = -1",
            line("size = 42"),
            0,
            "invalid value: integer `-1`, expected u64",
        ),
        (
            "\"linux/amd64\"",
            "amd64",
            line("[image.platform.\"linux/amd64\"]"),
            1,
            "`amd64` is not a platform such as `linux/amd64`",
        ),
        (
            "PATH=/bin",
            "PATH",
            line("[image.platform.\"linux/amd64\"]"),
            1,
            "`PATH` of `env` is not NAME=VALUE",
        ),
        (
            "root:x:0:0::/root:",
            "root:x:0x0:0::/root:",
            0,
            1,
            "a line of `passwd` or `group` is not one of those files",
        ),
        (
            "library/python:3.12-slim",
            "library/busybox:latest",
            line("python:3.12") - 1,
            1,
            "`docker.io/library/busybox:latest` is locked twice",
        ),
        (
            "# Written",
            "<<<<<<< ours\n# Written",
            2,
            9,
            "key with no value, expected `=`",
        ),
    ] {
        let said = error(&good.replacen(from, to, 1));
        let place = said.strip_prefix("x.lock:").unwrap_or_else(|| panic!("{said}"));
        assert!(said.ends_with(mend), "{said}");
        assert!(said.contains(reason), "{said}\nwanted {reason}");
        let mut numbers = place.split(':');
        let found = numbers.next().unwrap().parse::<usize>().unwrap();
        assert!(line == 0 || found == line, "{said}\nwanted line {line}");
        let found = numbers.next().unwrap().parse::<usize>().unwrap();
        assert!(column == 0 || found == column, "{said}\nwanted column {column}");
    }
}

#[test]
fn a_lock_is_stale_when_its_images_are_not_those_of_the_jobs() {
    let wanted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let lock = sample();
    let (busybox, python) = (
        "docker.io/library/busybox:latest",
        "docker.io/library/python:3.12-slim",
    );
    assert_eq!(lock.stale(&wanted(&[busybox, python])), []);
    assert_eq!(
        lock.stale(&wanted(&[busybox, "docker.io/library/alpine:3"])),
        [
            Change::Missing("docker.io/library/alpine:3".to_owned()),
            Change::Unused(python.to_owned())
        ]
    );
}

/// One image changes where one tag has moved: the diff of the text is that image's.
#[test]
fn a_moved_tag_changes_its_own_entry_alone() {
    let before = sample();
    let mut after = before.clone();
    let name = "docker.io/library/busybox:latest";
    let moved = Locked::new(resolved("busybox 2", &["linux/amd64"]), before.images.get(name));
    after.images.insert(name.to_owned(), moved);
    let (old, new) = (before.to_text(), after.to_text());
    let changed: Vec<(&str, &str)> = old
        .lines()
        .zip(new.lines())
        .filter(|(old, new)| old != new)
        .collect();
    assert_eq!(old.lines().count(), new.lines().count());
    let line = |key: &str, of: &str| format!("{key} = \"{}\"", digest(of));
    assert_eq!(
        changed,
        [
            (
                line("index", "busybox").as_str(),
                line("index", "busybox 2").as_str()
            ),
            (
                line("manifest", "busybox linux/amd64").as_str(),
                line("manifest", "busybox 2 linux/amd64").as_str()
            ),
        ]
    );
}

/// Accounts come from the machine that unpacks; another one keeps them while the image is the same.
#[test]
fn accounts_are_kept_while_their_image_is_the_same() {
    let lock = sample();
    let python = &lock.images["docker.io/library/python:3.12-slim"];
    let amd64 = platform("linux/amd64");
    let same = Locked::new(resolved("python", &["linux/amd64", "linux/s390x"]), Some(python));
    assert_eq!(same.platforms[&amd64].accounts, python.platforms[&amd64].accounts);
    assert_eq!(same.platforms[&platform("linux/s390x")].accounts, None);
    let moved = Locked::new(resolved("python 2", &["linux/amd64"]), Some(python));
    assert_eq!(moved.platforms[&amd64].accounts, None);
}

#[test]
fn the_image_for_a_machine_is_held_against_the_one_in_the_store() {
    let lock = sample();
    let python = &lock.images["docker.io/library/python:3.12-slim"];
    let (platform, locked) = python.image(&platform("linux/amd64")).unwrap();
    let stored = locked
        .image("docker.io/library/python:3.12-slim", platform)
        .unwrap();
    assert_eq!(locked.differs(&stored), None);
    let differs = |change: fn(&mut Image)| {
        let mut other = stored.clone();
        change(&mut other);
        locked.differs(&other)
    };
    assert_eq!(
        differs(|image| image.config.user = "root".to_owned()),
        Some("user")
    );
    assert_eq!(differs(|image| drop(image.config.env.remove("A"))), Some("env"));
    assert_eq!(differs(|image| image.accounts.users[1].uid = 0), Some("passwd"));
    assert_eq!(differs(|image| image.layers[0].size = 1), Some("layers"));
    // What a configuration has besides its settings is not locked.
    assert_eq!(
        differs(|image| image.config.env_refused.push("B".to_owned())),
        None
    );
    assert_eq!(python.image(&self::platform("linux/s390x")), None);
    assert_eq!(python.offered(), "linux/amd64, linux/arm64/v8");
}
