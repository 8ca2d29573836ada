//! Archives as no honest program writes them: confined or refused.

use super::*;

#[test]
fn strange_whiteouts_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh."] {
        let archive = Archive::new().file(name, "").end();
        assert_eq!(
            refusal(archive),
            format!("entry `{name}`: it is a whiteout of nothing")
        );
    }
    for archive in [
        Archive::new().dir(".wh..wh..opq"),
        Archive::new().symlink(".wh.x", "/"),
        Archive::new().file(".wh.x", "content"),
    ] {
        assert!(refusal(archive.end()).ends_with("it is a whiteout but not an empty file"));
    }
    let through = Archive::new()
        .symlink("up", "../outside")
        .file("up/.wh.canary", "")
        .end();
    let place = Place::new();
    assert_eq!(
        place.unpack(&through).unwrap_err(),
        "entry `up/.wh.canary`: its folder is a file or a dangling link"
    );
}

#[test]
fn links_lead_nowhere_outside() {
    let outside = std::env::temp_dir();
    let outside = outside.to_str().unwrap();
    for target in [
        "../outside",
        "../../../../../../../../../..",
        "/",
        outside,
        "/proc/self/root",
        "/proc/self/cwd",
        ".",
    ] {
        let entries: [fn(Archive) -> Archive; 5] = [
            |archive| archive.file("a/canary", "evil"),
            |archive| archive.dir("a/made"),
            |archive| archive.file("a/x/y/z", "evil"),
            |archive| archive.file("a/.wh.canary", ""),
            |archive| archive.symlink("a/link", "x"),
        ];
        for entry in entries {
            // Confined or refused; `unpack` looks at what lies outside.
            let archive = entry(Archive::new().symlink("a", target)).end();
            if let Err(error) = Place::new().unpack(&archive) {
                assert!(
                    error.ends_with("its folder is a file or a dangling link"),
                    "{target}: {error}"
                );
            }
        }
        let place = Place::new();
        if let Err(error) = place.unpack(
            &Archive::new()
                .symlink("a", target)
                .hard_link("b", "a/canary")
                .end(),
        ) {
            assert!(
                error.ends_with("it is a hard link to a file that its layer does not hold"),
                "{error}"
            );
        }
    }
    let mut chain = Archive::new().dir("end");
    for step in 0..41 {
        let target = if step == 0 {
            "end".to_owned()
        } else {
            format!("l{}", step - 1)
        };
        chain = chain.symlink(&format!("l{step}"), &target);
    }
    assert_eq!(
        refusal(chain.file("l40/x", "").end()),
        "entry `l40/x`: resolve its folder: too many symbolic links encountered"
    );
}

#[test]
fn the_root_is_a_directory() {
    for name in [".", "/", "./"] {
        let link = Archive::new().symlink(name, "/etc").file("passwd", "evil").end();
        assert!(refusal(link).ends_with("the root can only be a directory"));
    }
    let file = Archive::new().file(".", "x").end();
    assert!(refusal(file).ends_with("the root can only be a directory"));
}

#[test]
fn hard_links_stay_in_their_layer() {
    for target in ["/etc/shadow", "../x", "later", "gone", ""] {
        let archive = Archive::new()
            .file(".wh.gone", "")
            .hard_link("x", target)
            .file("later", "")
            .end();
        assert!(refusal(archive).starts_with("entry `x`: it"), "{target}");
    }
    assert_eq!(
        refusal(Archive::new().hard_link("x", "x").end()),
        "entry `x`: it is a hard link to itself"
    );
    assert_eq!(
        refusal(Archive::new().dir("d").hard_link("x", "d").end()),
        "entry `x`: it is a hard link to a directory"
    );
    // A link to a symbolic link is one to the link, and writing over one name leaves the other.
    let place = Place::new();
    let archive = Archive::new()
        .symlink("s", "../outside/canary")
        .hard_link("h", "s")
        .file("h", "new")
        .file("one", "1")
        .hard_link("two", "one")
        .hard_link("two", "one")
        .file("two", "2")
        .end();
    place.unpack(&archive).unwrap();
    assert!(place.meta("s").is_symlink());
    assert_eq!(place.read("h"), "new");
    assert_eq!(
        (place.read("one"), place.read("two")),
        ("1".to_owned(), "2".to_owned())
    );
}

#[test]
fn two_readings_are_one_refusal() {
    let file = |name: &str| Archive::new().file(name, "x");
    for (archive, want) in [
        (
            Archive::new().pax(&[("size", b"0")]).file("f", "x"),
            "entry `f`: its size differs between its two headers",
        ),
        (
            Archive::new()
                .pax(&[("path", b"a")])
                .pax(&[("path", b"b")])
                .file("f", ""),
            "entry `PaxHeaders/x`: it has two PAX headers",
        ),
        (
            Archive::new()
                .long(b'L', b"a")
                .pax(&[("path", b"b")])
                .file("f", ""),
            "entry `f`: it has two names",
        ),
        (
            Archive::new().long(b'L', b"a").long(b'L', b"b").file("f", ""),
            "entry `././@LongLink`: it has two long names",
        ),
        (
            Archive::new().pax(&[("GNU.sparse.map", b"0,1")]).file("f", ""),
            "entry ``: it is a sparse file, which layers may not hold",
        ),
        (
            Archive::new().entry(
                Header {
                    kind: b'S',
                    ..Header::default()
                },
                b"",
            ),
            "entry `file`: it is a sparse file, which layers may not hold",
        ),
        (
            Archive::new().entry(
                Header {
                    kind: b'V',
                    ..Header::default()
                },
                b"",
            ),
            "entry `file`: it is of the unknown type 'V'",
        ),
        (
            Archive::new().entry(
                Header {
                    kind: b'5',
                    ..Header::default()
                },
                b"x",
            ),
            "entry `file`: it has content though it is no file",
        ),
        (
            Archive::new().entry(
                Header {
                    kind: b'g',
                    ..Header::default()
                },
                b"8 uid=1\n",
            ),
            "entry ``: a global PAX header changes entries",
        ),
        (
            Archive::new().pax(&[("path", b"a\0b")]).file("f", ""),
            "entry `a\\u{0}b`: its name has a NUL byte",
        ),
        (
            Archive::new().pax(&[("path", &b"a/".repeat(5000))]).file("f", ""),
            ": its name is longer than 4095 bytes",
        ),
        (file("../x"), "entry `../x`: its name leads up with `..`"),
        (file(""), "entry ``: it has no name"),
        (
            file("f").raw(&[0; 1024]).file("second", "x"),
            "its archive is damaged: something follows its end",
        ),
    ] {
        let error = refusal(archive.end());
        assert!(error.ends_with(want), "{error}\nis not {want}");
    }
    let huge = Archive::new()
        .entry(
            Header {
                kind: b'x',
                size: Some(1 << 30),
                ..Header::default()
            },
            b"",
        )
        .end();
    assert_eq!(
        refusal(huge),
        "entry ``: an extension record of 1073741824 bytes is larger than 1048576"
    );
    let comment = Archive::new()
        .entry(
            Header {
                kind: b'g',
                ..Header::default()
            },
            b"14 comment=xy\n",
        )
        .file("f", "");
    Place::new().unpack(&comment.end()).unwrap();
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    assert_eq!(
        refusal(b"<html>captive portal</html>".repeat(100)),
        "it is not a tar archive"
    );
    assert_eq!(refusal(b"short".to_vec()), "it is not a tar archive");
    assert_eq!(
        refusal(
            Archive::new()
                .entry(
                    Header {
                        size: Some(5000),
                        ..Header::default()
                    },
                    b"x"
                )
                .cut()
        ),
        "its archive breaks off"
    );
    assert_eq!(
        refusal(Archive::new().file("f", "x").raw(b"half a header").cut()),
        "its archive breaks off"
    );
    assert_eq!(
        refusal(Archive::new().file("f", "x").pax(&[("path", b"x")]).end()),
        "its archive breaks off"
    );
    assert_eq!(
        refusal(Archive::new().file("f", "x").raw(&[b'x'; 512]).end()),
        "its archive is damaged: a header is malformed"
    );
    // Nothing at all, and an archive without its end, are what some programs write.
    Place::new().unpack(b"").unwrap();
    Place::new().unpack(&Archive::new().file("f", "x").cut()).unwrap();
}

#[test]
fn attributes_that_an_image_may_not_set_are_left_out() {
    let place = Place::new();
    let value: &[u8] = b"y";
    let archive = Archive::new()
        .pax(&[
            ("SCHILY.xattr.user.overlay.opaque", value),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", value),
            (
                "SCHILY.xattr.security.capability",
                &[1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
            ("SCHILY.xattr.user.own", b"kept"),
        ])
        .dir("d")
        .end();
    let unpacked = place.unpack(&archive).unwrap();
    assert_eq!(unpacked.lost.xattrs, 4);
    assert!(!place.is_opaque("d"));
    let folder = fs::File::open(place.at("d")).unwrap();
    assert!(xattr::is(folder.as_fd(), c"user.own", b"kept").unwrap());
    for name in [c"user.overlay.redirect", c"trusted.overlay.opaque"] {
        assert!(
            !xattr::is(folder.as_fd(), name, b"y").unwrap()
                && !xattr::is(folder.as_fd(), name, b"/etc").unwrap()
        );
    }
}

#[test]
fn bounds_end_a_bomb() {
    let limits = Limits {
        entries: 10,
        names: 1000,
        ..LIMITS
    };
    let many = (0..20)
        .fold(Archive::new(), |archive, count| {
            archive.file(&format!("f{count}"), "")
        })
        .end();
    assert_eq!(
        Place::new().unpack_within(&many, &limits).unwrap_err(),
        "it has more than 10 entries"
    );
    let names = (0..9)
        .fold(Archive::new(), |archive, count| {
            archive.dir(&format!("{}{count}", "d".repeat(90)))
        })
        .end();
    assert_eq!(
        Place::new().unpack_within(&names, &limits).unwrap_err(),
        "the names of its directories take more than 1000 bytes"
    );
}
