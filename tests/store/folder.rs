//! `ringfence image export IMAGE dir:DIR`, and back.

use std::fs;

use crate::archive::{Archive, Header};
use crate::hub::{Hub, Ids, Types, Visit, base};
use crate::registry::Layer;
use crate::support::{Caller, Test};
use crate::transfer::sh;
use crate::{SETTINGS, image, layer, pull};

/// The first subordinate id of [`Caller::UserWithIds`].
const SUBORDINATE: u32 = 1_900_000_000;

/// Layers with all that a tree can hold, and all by which one layer changes what others show.
fn layers() -> [Layer; 2] {
    let of = |name: &'static str, kind: u8, mode: u32| Header {
        name: name.as_bytes(),
        kind,
        mode,
        ..Header::default()
    };
    let lower = ["./", "etc", "opaque", "was"]
        .iter()
        .fold(Archive::new(), |all, name| all.dir(name));
    let lower = lower
        .file("etc/gone", "1")
        .file("etc/kept", "kept\n")
        .file("opaque/lower", "1")
        .file("was/a-folder", "1")
        .file("one", "same")
        .hard_link("two", "one")
        .symlink("link", "etc/kept");
    // A folder's mode, owner and time are those of the topmost layer that has something in it.
    let upper = ["./", "etc", "opaque"]
        .iter()
        .fold(Archive::new(), |all, name| all.dir(name));
    let upper = upper
        .file("etc/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/upper", "2")
        .file("was", "now a file")
        .pax(&[("SCHILY.xattr.user.note", b"kept")])
        .file("noted", "")
        .pax(&[("mtime", b"1600000000.25")])
        .entry(of("closed", b'0', 0), b"secret")
        .entry(of("pipe", b'6', 0o640), b"")
        .entry(of("handed", b'5', 0o2775), b"")
        .entry(of("handed/sticky", b'5', 0o1777), b"")
        .entry(of("shut", b'5', 0o500), b"")
        .entry(of("shut/in", b'0', 0o400), b"")
        .entry(
            Header {
                uid: 33,
                gid: 44,
                ..of("owned", b'0', 0o600)
            },
            b"33",
        );
    [Layer::gzip(&lower.end()), Layer::gzip(&upper.end())]
}

/// What a folder holds but for busybox: type, mode, links, size of files, time, owner, path, target.
fn listing(visit: &mut Visit, folder: &str) -> String {
    let place = visit.run(&image(&["list"]).any_stdout()).folder;
    let files = "find . -path ./bin -prune -o -path './etc/*' ! -name kept -prune -o -type d -printf '%M - - %Ts %U:%G %P\\n' -o -printf '%M %n %s %Ts %U:%G %P%l\\n'";
    sh(&place, &format!("cd {folder}; {files} | sort -k 6"))
}

fn remove(visit: &mut Visit, folders: &str) {
    let place = visit.run(&image(&["list"]).any_stdout()).folder;
    sh(
        &place,
        &format!("find {folders} -type d -exec chmod u+rwx {{}} +; rm -r {folders}"),
    );
}

#[test]
fn a_folder_has_all_that_an_image_shows() {
    let hub = Hub::start();
    let [lower, upper] = layers();
    hub.push("library/tool", Types::Oci, &[base!(), lower, upper], SETTINGS);
    hub.each(|visit| {
        pull(visit, &["tool"]);
        let said = match visit.ids() {
            Ids::One => "dir:out: 1 file of users who have no id here\n",
            Ids::Range | Ids::Subordinate => "",
        };
        visit.run(&image(&["export", "--offline", "tool", "dir:out"]).stderr(said));
        let (uid, gid) = (visit.caller.uid(), visit.caller.gid());
        let other = match (visit.ids(), visit.caller) {
            (Ids::Range, _) => "33:44".to_owned(),
            (Ids::Subordinate, Caller::UserWithIds) => format!("{}:{}", SUBORDINATE + 33, SUBORDINATE + 44),
            (Ids::Subordinate, _) => return,
            (Ids::One, _) => format!("{uid}:{gid}"),
        };
        let wanted = [
            "drwxr-xr-x - - 1700000000 OWN ",
            "---------- 1 6 1600000000 OWN closed",
            "drwxr-xr-x - - 1700000000 OWN etc",
            "-rw-r--r-- 1 5 1700000000 OWN etc/kept",
            "drwxrwsr-x - - 1700000000 OWN handed",
            "drwxrwxrwt - - 1700000000 OWN handed/sticky",
            "lrwxrwxrwx 1 8 1700000000 OWN linketc/kept",
            "-rw-r--r-- 1 0 1700000000 OWN noted",
            "-rw-r--r-- 2 4 1700000000 OWN one",
            "drwxr-xr-x - - 1700000000 OWN opaque",
            "-rw-r--r-- 1 1 1700000000 OWN opaque/upper",
            "-rw------- 1 2 1700000000 OTHER owned",
            "prw-r----- 1 0 1700000000 OWN pipe",
            "dr-x------ - - 1700000000 OWN shut",
            "-r-------- 1 0 1700000000 OWN shut/in",
            "-rw-r--r-- 2 4 1700000000 OWN two",
            "-rw-r--r-- 1 10 1700000000 OWN was",
        ];
        let wanted = wanted
            .join("\n")
            .replace("OWN", &format!("{uid}:{gid}"))
            .replace("OTHER", &other)
            + "\n";
        assert_eq!(listing(visit, "out"), wanted, "{:?}", visit.caller);
        // The job sees it as the image.
        let script = "cat /etc/kept; stat -c %u:%g /one";
        let job = Test::command(&["sh", "-c", script]).image("dir:out");
        let owner = match visit.ids() {
            Ids::Range => 0,
            // What is the caller's is the job's user's.
            Ids::Subordinate | Ids::One => 65532,
        };
        let ran = visit.run(&job.stdout(&format!("kept\n{owner}:{owner}\n")).any_stderr());
        assert_eq!(visit.caller.without_notice(&ran.stderr), "");

        // In again, and out again: the same image, and the same tree.
        visit.run(&image(&["import", "-q", "dir:out", "again"]).pulls());
        visit.run(&image(&["export", "again", "dir:out.2"]));
        assert_eq!(listing(visit, "out.2"), wanted, "{:?}", visit.caller);
        let ran = visit.run(&image(&["import", "dir:out.2", "once-more"]).any_stderr().pulls());
        // Of the store's own owners none is lost a second time.
        assert!(!ran.stderr.contains("who have no id here"), "{}", ran.stderr);
        let digest = |visit: &mut Visit, name: &str| {
            let ran = visit.run(&image(&["inspect", "--json", name]).any_stdout());
            let sheet: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            sheet["digest"].clone()
        };
        assert_eq!(digest(visit, "again"), digest(visit, "once-more"));
        visit.run(&image(&["export", "again", "oci:layout"]));
        sh(&ran.folder, "grep -rqa SCHILY.xattr.user.note=kept layout");
        remove(visit, "out out.2 layout");
        visit.run(
            &image(&["remove", "tool", "again", "once-more"])
                .any_stderr()
                .pulls(),
        );
    });
}

/// Device nodes, set-id bits and owners that have no id are gone since the pull; whoever gets a folder is told.
#[test]
fn what_a_folder_does_not_hold_is_said() {
    let hub = Hub::start();
    let of = |name: &'static str, kind: u8| Header {
        name: name.as_bytes(),
        kind,
        ..Header::default()
    };
    let lossy = Archive::new()
        .entry(
            Header {
                device: (1, 3),
                ..of("null", b'3')
            },
            b"",
        )
        .entry(
            Header {
                mode: 0o4755,
                ..of("su", b'0')
            },
            b"",
        )
        .pax(&[("SCHILY.xattr.security.capability", b"x")])
        .file("ping", "")
        .entry(
            Header {
                uid: 70000,
                ..of("far", b'0')
            },
            b"",
        )
        .entry(
            Header {
                uid: 33,
                ..of("near", b'0')
            },
            b"",
        );
    hub.push(
        "library/lossy",
        Types::Oci,
        &[Layer::gzip(&lossy.clone().end())],
        "{}",
    );
    hub.each(|visit| {
        pull(visit, &["lossy"]);
        let owners = match visit.ids() {
            Ids::One => "2 files",
            Ids::Range | Ids::Subordinate => "1 file",
        };
        let said = format!(
            "dir:out: its layers had more, which no store keeps: 1 device, 1 file with set-id bits, 1 attribute\n\
             dir:out: {owners} of users who have no id here\n"
        );
        let ran = visit.run(&image(&["export", "lossy", "dir:out"]).stderr(&said));
        assert_eq!(sh(&ran.folder, "ls out; stat -c %a out/su"), "far\nnear\nping\nsu\n755\n");
        remove(visit, "out");
        // What comes from this machine is told the same.
        let layer = Layer::plain(&lossy.clone().end());
        crate::made::Made::new(&[layer], "{}").write_layout(&ran.folder.join("layout"));
        let imported = visit.run(&image(&["import", "layout", "it"]).any_stderr().pulls());
        let said = format!("docker.io/library/it:latest: {owners} of users who have no id here\n");
        assert!(imported.stderr.ends_with(&said), "{}", imported.stderr);
        sh(&ran.folder, "rm -r layout");
        visit.run(&image(&["remove", "it"]).any_stderr().pulls());
        visit.run(&image(&["remove", "lossy"]).any_stderr().pulls());
    });
}

#[test]
fn a_folder_is_new_or_nothing_is_written() {
    let hub = Hub::start();
    let digest = hub.push("library/tool", Types::Oci, &[layer("file", 5000)], SETTINGS);
    hub.each(|visit| {
        pull(visit, &["tool"]);
        let ran = visit.run(&image(&["inspect", "--json", "tool"]).any_stdout());
        let sheet: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let (image_digest, folder) = (sheet["digest"].as_str().unwrap(), ran.folder);
        assert_ne!(image_digest, digest, "the image of the index, not the index");
        fs::create_dir(folder.join("empty")).unwrap();
        fs::write(folder.join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", folder.join("dangling")).unwrap();
        for target in ["empty", "file", "dangling", ".", "empty/.."] {
            let said = format!(
                "ringfence: export {image_digest}: {}: it is there already, and a root file system is written into a new folder\n",
                folder.join(target).display()
            );
            visit.run(&image(&["export", "tool", &format!("dir:{target}")]).status(125).stderr(&said));
        }
        let said = format!(
            "ringfence: export {image_digest}: {}: no such file or directory\n",
            folder.join("no/such").display()
        );
        visit.run(&image(&["export", "tool", "dir:no/such"]).status(125).stderr(&said));
        let host = "ringfence: image export: `host` is this machine itself, and no store holds it\n";
        visit.run(&image(&["export", "host", "dir:out"]).status(125).stderr(host));
        let host = "ringfence: image export: `host` is no target; write `oci:DIR[:TAG]`, `archive:FILE` or `dir:DIR`\n";
        visit.run(&image(&["export", "tool", "host"]).status(125).stderr(host));
        let host = "ringfence: image import: `host` is this machine itself; a job runs on it as it is with `image = \"host\"`\n";
        visit.run(&image(&["import", "host"]).status(125).stderr(host).pulls());
        assert_eq!(sh(&folder, "ls -d empty file dangling *.part out 2>/dev/null || :"), "dangling\nempty\nfile\n");
        sh(&folder, "rm -r empty file dangling");
        visit.run(&image(&["remove", "tool"]).any_stderr().pulls());
    });
}
