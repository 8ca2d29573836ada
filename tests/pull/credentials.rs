//! A registry that wants a name and a password, and where those are kept.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::archive::Archive;
use crate::hub::{HELLO, Hub, Types};
use crate::registry::Layer;
use crate::support::Test;

/// user:password
const LOGIN: &str = "Basic dXNlcjpwYXNzd29yZA==";

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    for path in [file, file.parent().unwrap()] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
}

/// A helper that knows one server and one user, and answers as `docker-credential-*` do.
fn helper(server: &str, user: u32, answer: &str) -> String {
    format!("#!/bin/sh\nread -r server\n[ \"$1 $server $(id -u)\" = 'get {server} {user}' ] && {answer}\n")
}

#[test]
fn a_password_comes_from_a_file_or_a_helper() {
    let hub = Hub::start();
    let host = hub.registry.host.clone();
    let registry = &hub.registry;
    let layer = Layer::gzip(&Archive::new().file("a", "x").end());
    hub.push("library/closed", Types::Oci, &[layer], HELLO);
    registry.ask_for_no_token();
    registry.ask_for_password(LOGIN);
    let image = hub.name("library/closed");
    hub.each(|visit| {
        let folder = visit.run(&Test::command(&[]).verb("image").args(&["list"]).any_stdout()).folder;
        let home = folder.to_str().unwrap();
        let path = format!("{home}/bin:/usr/bin:/bin");
        let pull = |file: &str| {
            let pull = Test::command(&[]).verb("pull").args(&["-q", &image]);
            pull.env("HOME", home).env("PATH", &path).env("REGISTRY_AUTH_FILE", file).pulls()
        };
        let empty = || Test::command(&[]).verb("image").args(&["prune", "--down-to", "0B"]).any_stdout().any_stderr().pulls();
        let start = format!("ringfence: pull {image}: http://{host}: ");
        let refused = format!("{start}access refused (401); if the image exists, log in with `docker login {host}`\n");
        visit.run(&pull("").status(125).stderr(&refused));

        let config = folder.join(".docker/config.json");
        let auth = format!(r#"{{"auths":{{"{host}":{{"auth":"dXNlcjpwYXNzd29yZA=="}}}}}}"#);
        write(&config, &auth);
        visit.run(&pull(""));
        visit.run(&empty());
        // Another file, as podman writes it, counts instead.
        let other = folder.join("auth.json");
        fs::write(&other, "{}").unwrap();
        visit.run(&pull(other.to_str().unwrap()).status(125).stderr(&refused));

        let program = folder.join("bin/docker-credential-test");
        for (key, answer, said) in [
            (format!(r#""credHelpers":{{"{host}":"test"}}"#), r#"echo '{"ServerURL":"x","Username":"user","Secret":"password"}'"#, None),
            (r#""credsStore":"test""#.to_owned(), r#"echo '{"ServerURL":"x","Username":"user","Secret":"password"}'"#, None),
            (r#""credsStore":"test""#.to_owned(), "{ echo 'credentials not found in native keychain'; exit 1; }", Some(refused.clone())),
            (r#""credsStore":"test""#.to_owned(), "{ echo 'the keyring is locked'; exit 1; }", Some(format!("{start}credential helper docker-credential-test: the keyring is locked\n"))),
            (r#""credsStore":"test""#.to_owned(), "echo password", Some(format!("{start}credential helper docker-credential-test: its answer is not the JSON of a credential\n"))),
            (r#""credsStore":"gone""#.to_owned(), "true", Some(format!("{start}credential helper docker-credential-gone: not found in PATH\n"))),
        ] {
            write(&config, &format!("{{{key}}}"));
            write(&program, &helper(&host, visit.caller.uid(), answer));
            match said {
                None => drop(visit.run(&pull(""))),
                Some(said) => drop(visit.run(&pull("").status(125).stderr(&said))),
            }
            visit.run(&empty());
        }
        // The password was shown to no one else: not in the store, and not on the way.
        assert!(registry.log().iter().all(|logged| logged.authorization.as_deref().is_none_or(|sent| sent == LOGIN)));
        for gone in ["bin", ".docker"] {
            fs::remove_dir_all(folder.join(gone)).unwrap();
        }
        fs::remove_file(other).unwrap();
    });
}
