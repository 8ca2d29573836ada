//! A job and real servers on the internet: nginx, and dnsmasq by whose names it is found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::each;
use crate::names::{without_dnsmasq, world};
use crate::support::{Caller, Test, skip};

/// nginx, until it is dropped.
struct Nginx {
    server: Child,
    folder: PathBuf,
}

impl Nginx {
    fn start(port: u16) -> Nginx {
        let folder = std::env::temp_dir().join(format!("rf-nginx-{}-{port}", nix::unistd::gettid()));
        fs::create_dir_all(&folder).unwrap();
        let own = folder.display();
        let text = format!(
            "daemon off; master_process off; pid {own}/pid; error_log {own}/error.log;\n\
             events {{}}\n\
             http {{\n\
             access_log off; client_body_temp_path {own}; proxy_temp_path {own}; fastcgi_temp_path {own};\n\
             uwsgi_temp_path {own}; scgi_temp_path {own};\n\
             server {{ listen {port}; location / {{ return 200 \"nginx for $http_host\"; }} }}\n\
             }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-c")
            .arg(&file);
        let server = command.stdin(Stdio::null()).spawn().expect("nginx");
        Nginx { server, folder }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Fetches a page of each; a server that has not begun yet is asked again.
const FETCH: &str = r#"
import time, urllib.error, urllib.request
def fetch(name):
    for _ in range(100):
        try:
            return urllib.request.urlopen(f"http://{name}:8080/", timeout=5).read().decode()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                return "refused"
            time.sleep(0.1)
print(fetch("web.example"), fetch("other.example"), sep="\n")
"#;

#[test]
fn nginx_is_reached_by_the_name_that_is_listed() {
    let nginx = Path::new("/usr/sbin/nginx").exists();
    if let Some(reason) = without_dnsmasq().or((!nginx).then_some("nginx is not installed")) {
        skip!("{reason}");
    }
    let (world, _names) = world(&["--address=/web.example/other.example/203.0.113.10"]);
    let (tell, told) = std::sync::mpsc::channel();
    world.there(move || tell.send(Nginx::start(8080)).unwrap());
    let _nginx = told.recv().unwrap();
    let test = Test::command(&["python3", "-c", FETCH])
        .with("network.mode = \"bridge\"")
        .with("network.allow.\"web.example\".ports = [8080]");
    each(&[Caller::Root, Caller::User], &test, |ran| {
        assert_eq!(
            ran.stdout, "nginx for web.example:8080\nrefused\n",
            "{:?}: {}",
            ran.caller, ran.stderr
        );
    });
    world.settle("jobs that ended");
}
