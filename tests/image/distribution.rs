//! The registry that most others are made of: Debian's docker-registry, behind a token service that this test brings.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::archive::Archive;
use crate::made::Made;
use crate::pull::{Folder, pull, pull_with};
use crate::registry::Layer;

const IMAGE: &str = "some/image";
/// `somebody:secret`.
const LOGIN: &str = "c29tZWJvZHk6c2VjcmV0";

/// Makes the token of these claims, signed by the key of the folder (RFC 7519).
const SIGN: &str = r#"
b64() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
chain=$(openssl x509 -in cert.pem -outform DER | openssl base64 -A)
head=$(printf '{"typ":"JWT","alg":"RS256","x5c":["%s"]}' "$chain" | b64)
text=$head.$(printf '%s' "$1" | b64)
printf '%s.' "$text"; printf '%s' "$text" | openssl dgst -sha256 -sign key.pem | b64
"#;

fn sh(folder: &Path, script: &str, argument: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", script, "sh", argument])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A token service: who knows the password may do what it asks for, anyone else nothing. Gives its address.
fn token_service(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/token", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(&folder, stream.unwrap());
        }
    });
    address
}

fn serve(folder: &Path, mut stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let lines: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let Some(first) = lines.first() else { return };
    let is_known = lines
        .iter()
        .any(|line| line.eq_ignore_ascii_case(&format!("authorization: basic {LOGIN}")));
    let query = first.split([' ', '?']).nth(2).unwrap_or_default();
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let access = scopes.filter(|_| is_known).filter_map(|scope| {
        let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        let (name, actions) = scope.strip_prefix("repository:")?.split_once(':')?;
        let actions: Vec<&str> = actions.split(',').collect();
        Some(serde_json::json!({ "type": "repository", "name": name, "actions": actions }))
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = serde_json::json!({
        "iss": "tests", "aud": "registry", "sub": "somebody", "jti": now.to_string(),
        "iat": now, "nbf": now - 10, "exp": now + 300, "access": access.collect::<Vec<_>>(),
    });
    let token = sh(folder, SIGN, &claims.to_string());
    let body = serde_json::json!({ "token": token, "expires_in": 300 }).to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok();
}

/// A running registry.
struct Distribution {
    host: String,
    process: Child,
}

impl Distribution {
    fn start(folder: &Path, realm: &str) -> Distribution {
        // Taken and given back: no one else takes it within a moment.
        let host = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let settings = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {0}/registry}}}}\nhttp: {{addr: {host}}}\n\
             auth: {{token: {{realm: {realm}, service: registry, issuer: tests, rootcertbundle: {0}/cert.pem}}}}\n",
            folder.display()
        );
        fs::write(folder.join("registry.yml"), settings).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("registry.yml"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("registry.log")).unwrap())
            .spawn()
            .unwrap();
        let registry = Distribution { host, process };
        for _ in 0..300 {
            if TcpStream::connect(&registry.host).is_ok() {
                return registry;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{}", fs::read_to_string(folder.join("registry.log")).unwrap());
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn an_image_comes_from_debians_registry_behind_a_token_service() {
    for (program, argument) in [
        ("docker-registry", "--version"),
        ("skopeo", "--version"),
        ("openssl", "version"),
    ] {
        if Command::new(program).arg(argument).output().is_err() {
            assert!(std::env::var_os("RINGFENCE_TESTS").is_none(), "no {program}");
            eprintln!("skipped: no {program}");
            return;
        }
    }
    let folder = Folder::new("distribution");
    let make_key = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests -keyout key.pem -out cert.pem 2>&1";
    sh(&folder.0, make_key, "");
    let realm = token_service(&folder.0);
    let registry = Distribution::start(&folder.0, &realm);
    let layers = [
        Layer::gzip(&Archive::new().dir("etc").file("etc/motd", "first\n").end()),
        Layer::zstd(&Archive::new().file("etc/motd", "welcome\n").end()),
    ];
    let made = Made::new(&layers, r#"{"Cmd":["true"]}"#);
    made.write_layout(&folder.0.join("layout"));
    let push = "skopeo --insecure-policy copy -q --dest-tls-verify=false --dest-creds somebody:secret oci:layout:v1 docker://$1:v1";
    let repository = format!("{}/{IMAGE}", registry.host);
    sh(&folder.0, push, &repository);

    let name = format!("{repository}:v1");
    let refused = |reason: &str| format!("pull {name}: http://{}: {reason}", registry.host);
    // Its service is not encrypted and no one has named it.
    let unknown = format!("token service {realm}: it is not encrypted");
    assert_eq!(pull(&folder, &name).unwrap_err(), refused(&unknown));
    let service = realm.trim_start_matches("http://").trim_end_matches("/token");
    // Signing takes seconds on an emulated processor.
    let named = [
        ("RINGFENCE_TEST_TOKEN_HOST", service),
        ("RINGFENCE_TEST_PATIENT", "1"),
    ];
    let denied = format!(
        "access refused (401): authentication required; if the image exists, log in with `docker login {}`",
        registry.host
    );
    assert_eq!(pull_with(&folder, &name, &named).unwrap_err(), refused(&denied));
    fs::create_dir(folder.0.join(".docker")).unwrap();
    let login = serde_json::json!({ "auths": { registry.host.clone(): { "auth": LOGIN } } });
    fs::write(folder.0.join(".docker/config.json"), login.to_string()).unwrap();
    let report = pull_with(&folder, &name, &named).unwrap();
    assert_eq!(
        (report.fetched_layers, report.image.digest.to_string()),
        (2, made.digest())
    );
    let top = folder.layers(&name).pop().unwrap();
    assert_eq!(fs::read_to_string(top.join("etc/motd")).unwrap(), "welcome\n");
    assert_eq!(pull_with(&folder, &name, &named).unwrap().fetched_layers, 0);
}
