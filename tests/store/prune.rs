//! `ringfence image prune`, alone and beside runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ringfence::image::Platform;

use crate::hub::{HELLO, Hub, Types, Visit, base};
use crate::support::Test;
use crate::{SETTINGS, image, layer, layers, names, pull};

fn hub() -> Hub {
    let hub = Hub::start();
    for (number, image) in ["one", "two", "three"].into_iter().enumerate() {
        let layers = [layer("base", 5000), layer(image, 1000 * (number + 1))];
        let architecture = Platform::host().architecture;
        hub.registry.push(
            &format!("library/{image}"),
            "latest",
            &architecture,
            &layers,
            SETTINGS,
        );
    }
    hub
}

fn name(image: &str) -> String {
    format!("docker.io/library/{image}:latest")
}

/// Sets back when each image was used: `one` the longest ago.
fn age(folder: &Path) {
    let mut hours = 0;
    for image in ["three", "two", "one"] {
        hours += 100;
        for entry in fs::read_dir(folder.join("store/images")).unwrap() {
            let path = entry.unwrap().path();
            if fs::read_to_string(&path).unwrap().contains(&name(image)) {
                let then = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_modified(then)
                    .unwrap();
            }
        }
    }
}

fn all(visit: &mut Visit) -> std::path::PathBuf {
    pull(visit, &["one", "two", "three"]);
    let folder = visit.run(&image(&["list"]).any_stdout()).folder;
    age(&folder);
    folder
}

#[test]
fn images_go_by_age_by_size_and_by_what_locks_name() {
    let hub = hub();
    hub.each(|visit| {
        let folder = all(visit);
        // Without a bound nothing goes but waste.
        visit.run(&image(&["prune"]).stderr("0 layers removed, 0 B\n").pulls());
        let gone = |images: &[&str]| images.iter().map(|image| name(image) + "\n").collect::<String>();
        let dry_json = image(&["prune", "--unused-for", "150h", "--dry-run", "--json"]);
        let dry = image(&["prune", "--unused-for", "150h", "--dry-run"]);
        visit.run(&dry.stdout(&gone(&["one", "two"])));
        let ran = visit.run(&dry_json.any_stdout());
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(json(&ran.stdout), serde_json::json!({ "images": [name("one"), name("two")] }));
        assert_eq!(names(visit).len(), 3);
        let by_age = image(&["prune", "--unused-for", "250h"]);
        visit.run(&by_age.stdout(&gone(&["one"])).stderr("1 layer removed, 1.0 kB\n").pulls());
        assert_eq!(names(visit), [name("three"), name("two")]);
        // 5000 shared, 2000 and 3000 of their own.
        let by_size = image(&["prune", "--down-to", "8kB"]);
        visit.run(&by_size.clone().stdout(&gone(&["two"])).stderr("1 layer removed, 2.0 kB\n").pulls());
        visit.run(&by_size.stderr("0 layers removed, 0 B\n").pulls());
        assert_eq!(names(visit), [name("three")]);

        pull(visit, &["one", "two", "three"]);
        let jobs = "schema = 1\n[job.a]\nimage = \"two\"\n";
        visit.run(&Test::command(&[]).manifest(jobs).verb("lock").args(&["-q"]).pulls());
        let by_lock = image(&["prune", "--keep-lock", "ringfence.lock"]);
        let ran = visit.run(&by_lock.any_stdout().stderr("2 layers removed, 4.0 kB\n").pulls());
        let mut removed: Vec<&str> = ran.stdout.lines().collect();
        removed.sort_unstable();
        assert_eq!(removed, [name("one"), name("three")]);
        assert_eq!((names(visit), layers(visit)), (vec![name("two")], 2));
        age(&folder);
        let kept = image(&["prune", "--keep-lock", "ringfence.lock", "--down-to", "0B"]);
        visit.run(&kept.stderr("0 layers removed, 0 B\n").pulls());
        let ran = visit.run(&image(&["remove", "--json", "two"]).any_stdout().pulls());
        let removed = json(&ran.stdout);
        assert_eq!((&removed["images"], &removed["layers"], &removed["bytes"]), (&serde_json::json!([name("two")]), &2.into(), &7000.into()));
        assert!(removed["other-bytes"].as_u64().unwrap() > 0, "{removed}");
        let foreign = "ringfence: ringfence.toml: it does not begin with `lock = 1`, so it is no lock and stays as it is\n";
        visit.run(&image(&["prune", "--keep-lock", "ringfence.toml"]).status(125).stderr(foreign));
        let unit = "ringfence: --down-to has no unit";
        let ran = visit.run(&image(&["prune", "--down-to", "10"]).status(125).any_stderr());
        assert!(ran.stderr.starts_with("ringfence: --down-to "), "{}\nwanted {unit}", ran.stderr);
        fs::remove_file(folder.join("ringfence.lock")).unwrap();
    });
}

/// What a run uses stays, with all its layers; afterwards it is as young as the run.
#[test]
fn an_image_in_use_stays() {
    let (hub, base) = (Hub::start(), base!());
    hub.push("library/tool", Types::Oci, &[base], HELLO);
    hub.each(|visit| {
        pull(visit, &["tool"]);
        let folder = visit.run(&image(&["list"]).any_stdout()).folder;
        let record = fs::read_dir(folder.join("store/images")).unwrap().next().unwrap().unwrap().path();
        let old = fs::metadata(&record).unwrap().mtime() - 1000;
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(old.unsigned_abs());
        fs::File::options().write(true).open(&record).unwrap().set_modified(then).unwrap();
        // The job reads until the other commands have been tried: all of them at once, in one room.
        let script = "{ while ! [ -e tried ]; do sleep 0.05; done; echo; } | \"$@\" & while ! [ -e src/runs ]; do sleep 0.05; done; \
            for words in 'prune --down-to 0B' 'remove tool'; do $1 image $words; echo \"exit $?\"; done; touch tried; wait";
        let job = "schema = 1\n[job.test]\nimage = \"tool\"\nuser = \"root\"\n\
             command = [\"sh\", \"-c\", \"touch /src/runs; read line; echo still here\"]\n\
             [job.test.mounts.\"/src\"]\nbind = \"src\"\naccess = \"rw\"\n";
        let test = Test::command(&[]).manifest(job).wrapped(&["sh", "-c", script, "sh"]);
        let ran = visit.run(&test.any_stdout().any_stderr().pulls());
        assert_eq!(ran.stdout, "exit 0\nexit 125\nstill here\n", "{}", ran.stderr);
        for said in [
            "ringfence: image docker.io/library/tool:latest is in use by a run; it stays\n",
            "ringfence: image tool is in use by a run; it stays\n",
            "0 layers removed, 0 B\n",
        ] {
            assert!(ran.stderr.contains(said), "{}", ran.stderr);
        }
        assert!(fs::metadata(&record).unwrap().mtime() > old, "the run is no use of it");
        visit.run(&image(&["remove", "tool"]).any_stderr().pulls());
        fs::remove_file(folder.join("tried")).unwrap();
        fs::remove_file(folder.join("src/runs")).unwrap();
    });
}

/// Pulls, runs and prunes at once: every run runs, and what is there afterwards is whole.
#[test]
fn pulls_runs_and_prunes_do_not_disturb_each_other() {
    let (hub, base) = (Hub::start(), base!());
    for image in ["one", "two"] {
        hub.push(
            &format!("library/{image}"),
            Types::Oci,
            &[base.clone(), layer(image, 3000)],
            HELLO,
        );
    }
    hub.each(|visit| {
        visit.facts();
        let script = "run() { for i in 1 2 3; do $1 run --image $2 -- sh -c 'echo ran' 2>>errors || echo \"failed $2\"; done; }; \
            prune() { for i in 1 2 3 4 5 6; do $1 image prune --down-to 0B >/dev/null 2>>errors || echo failed prune; done; }; \
            run $1 one & run $1 two & run $1 one & prune $1 & prune $1 & wait";
        let test = image(&["list"]).wrapped(&["sh", "-c", script, "sh"]);
        let ran = visit.run(&test.any_stdout().any_stderr().pulls());
        let errors = fs::read_to_string(ran.folder.join("errors")).unwrap_or_default();
        assert_eq!(ran.stdout, "ran\n".repeat(9), "{errors}");
        visit.run(&image(&["prune", "--down-to", "0B"]).any_stdout().any_stderr().pulls());
        assert_eq!((names(visit), layers(visit)), (Vec::new(), 0));
        fs::remove_file(ran.folder.join("errors")).unwrap();
    });
}
