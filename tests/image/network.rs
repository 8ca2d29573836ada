//! What lies between a registry and us: proxies, certificates, tokens that expire, transfers that break or are damaged.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::archive::Archive;
use crate::pull::{Folder, pull, pull_with};
use crate::registry::{Fault, Layer, Range, Registry, digest};
use crate::{arch, small};

/// A layer of a megabyte that does not compress.
fn large() -> Layer {
    Layer::plain(&Archive::new().file("big", &"0123456789".repeat(100_000)).end())
}

#[test]
fn wrong_bytes_are_asked_for_once_more() {
    let (registry, folder) = (Registry::start(), Folder::new("again"));
    let layer = Layer::gzip(&Archive::new().file("a", "x").end());
    registry.push("x", "latest", &arch(), std::slice::from_ref(&layer), "{}");
    registry.fault(&digest(&layer.blob), Fault::OtherBytesOnce);
    pull(&folder, &format!("{}/x", registry.host)).unwrap();
    let asked = registry
        .paths()
        .into_iter()
        .filter(|path| path.ends_with(&digest(&layer.blob)));
    assert_eq!(asked.count(), 2);
}

#[test]
fn wrong_bytes_of_a_mirror_are_asked_for_elsewhere() {
    let (bad, good, folder) = (Registry::start(), Registry::start(), Folder::new("elsewhere"));
    let layer = Layer::gzip(&Archive::new().file("a", "x").end());
    for registry in [&bad, &good] {
        registry.push("x", "latest", &arch(), std::slice::from_ref(&layer), "{}");
    }
    bad.fault(&digest(&layer.blob), Fault::OtherBytes);
    let mirrors = format!("http://{} http://{}", bad.host, good.host);
    let name = format!("{}/x", good.host);
    pull_with(&folder, &name, &[("RINGFENCE_TEST_MIRRORS", &mirrors)]).unwrap();
    assert_eq!(good.paths(), [format!("/v2/x/blobs/{}", digest(&layer.blob))]);
}

#[test]
fn a_transfer_goes_on_whatever_a_registry_makes_of_ranges() {
    let registry = Registry::start();
    let layer = large();
    registry.push("x", "latest", &arch(), std::slice::from_ref(&layer), "{}");
    for range in [Range::Ignored, Range::Wrong, Range::Unsaid, Range::Refused] {
        let folder = Folder::new(&format!("{range:?}"));
        registry.fault(&digest(&layer.blob), Fault::CutThen(500_000, range));
        pull(&folder, &format!("{}/x", registry.host)).unwrap_or_else(|error| panic!("{range:?}: {error}"));
    }
}

/// Something comes all the time, and yet it would take a week.
#[test]
fn a_transfer_that_crawls_is_given_up() {
    let (registry, folder) = (Registry::start(), Folder::new("crawl"));
    let layer = large();
    registry.push("x", "latest", &arch(), std::slice::from_ref(&layer), "{}");
    registry.fault(&digest(&layer.blob), Fault::Trickle);
    let error = pull(&folder, &format!("{}/x", registry.host)).unwrap_err();
    let end = format!(
        " of {} bytes, 4 times: less than 1 KiB came in a second",
        layer.blob.len()
    );
    assert!(
        error.contains(": the transfer broke off after ") && error.ends_with(&end),
        "{error}"
    );
    assert_eq!(fs::read_dir(folder.store().join("layers")).unwrap().count(), 0);
}

/// Nor does a small answer, which is a manifest here.
#[test]
fn an_answer_that_crawls_is_given_up() {
    let (registry, folder) = (Registry::start(), Folder::new("crawl-manifest"));
    registry.push("x", "latest", &arch(), &small(), "{}");
    registry.fault("/v2/x/manifests/latest", Fault::Trickle);
    let name = format!("{}/x", registry.host);
    assert_eq!(
        pull(&folder, &name).unwrap_err(),
        format!(
            "pull {name}:latest: http://{}: less than 1 KiB came in a second",
            registry.host
        )
    );
}

#[test]
fn a_token_that_expires_is_fetched_again() {
    let (registry, folder) = (Registry::start(), Folder::new("expire"));
    registry.push("x", "latest", &arch(), &small(), "{}");
    registry.ask_for_token(&format!("http://{}/token", registry.host), None);
    // Of three transfers at once none may find its new token used up by the two others.
    registry.let_tokens_expire(3);
    pull(&folder, &format!("{}/x", registry.host)).unwrap();
    let tokens = registry
        .paths()
        .into_iter()
        .filter(|path| path.starts_with("/token"));
    assert!((2..=5).contains(&tokens.count()));
}

#[test]
fn a_token_is_not_sent_when_its_time_is_over() {
    let (registry, folder) = (Registry::start(), Folder::new("over"));
    let layer = large();
    registry.push("x", "latest", &arch(), std::slice::from_ref(&layer), "{}");
    registry.ask_for_token(&format!("http://{}/token", registry.host), None);
    registry.let_tokens_live(1);
    // The layer's second request comes when the token is over: a new one is had first, and not after a refusal.
    registry.fault(&digest(&layer.blob), Fault::BusyOnce("2".to_owned()));
    pull(&folder, &format!("{}/x", registry.host)).unwrap();
    let paths = registry.paths();
    let from = paths.iter().position(|path| path.ends_with(&digest(&layer.blob)));
    let then: Vec<bool> = paths[from.unwrap()..]
        .iter()
        .map(|path| path.starts_with("/token"))
        .collect();
    assert_eq!(then, [false, true, false], "{paths:#?}");
}

#[test]
fn a_busy_registry_says_when_to_come_back() {
    let (registry, folder) = (Registry::start(), Folder::new("busy"));
    registry.push("x", "latest", &arch(), &small(), "{}");
    let name = format!("{}/x", registry.host);
    registry.fault("/v2/x/manifests/latest", Fault::BusyOnce("86400".to_owned()));
    assert_eq!(
        pull(&folder, &name).unwrap_err(),
        format!(
            "pull {name}:latest: http://{}: it answers 429; come back in 86400 s",
            registry.host
        )
    );
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    registry.fault("/v2/x/manifests/latest", Fault::BusyOnce(date));
    pull(&folder, &name).unwrap();
}

#[test]
fn a_login_page_is_not_taken_for_a_manifest() {
    let (registry, folder) = (Registry::start(), Folder::new("portal"));
    registry.put(
        "x/manifests/latest",
        "text/html; charset=utf-8",
        b"<html>please log in</html>",
    );
    let name = format!("{}/x:latest", registry.host);
    assert_eq!(
        pull(&folder, &name).unwrap_err(),
        format!(
            "pull {name}: http://{}: it answers a web page; perhaps a network on the way wants a login",
            registry.host
        )
    );
}

/// A proxy (RFC 9110, 9.3.6) that leads every name to one place.
struct Proxy {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// What a proxy was asked: the first line, and the credential.
type Asked = (String, Option<String>);

impl Proxy {
    fn start(to: &str, status: &'static str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, to) = (listener.local_addr().unwrap().to_string(), to.to_owned());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, log, to) = (stream.unwrap(), Arc::clone(&log), to.clone());
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let first = lines.next().unwrap().unwrap();
                    let headers: Vec<String> = lines
                        .map(Result::unwrap)
                        .take_while(|line| !line.is_empty())
                        .collect();
                    let credential = headers.iter().find_map(|line| {
                        let (name, value) = line.split_once(": ")?;
                        name.eq_ignore_ascii_case("proxy-authorization")
                            .then(|| value.to_owned())
                    });
                    log.lock().unwrap().push((first, credential));
                    write!(stream, "HTTP/1.1 {status}\r\n\r\n").unwrap();
                    if status.starts_with("200") {
                        relay(stream, TcpStream::connect(&to).unwrap());
                    }
                });
            }
        });
        Proxy { address, asked }
    }
}

fn relay(client: TcpStream, server: TcpStream) {
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || io::copy(&mut from, &mut to).ok());
    let (mut from, mut to) = (server, client);
    io::copy(&mut from, &mut to).ok();
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let registry = Registry::start();
    registry.push("x", "latest", &arch(), &small(), "{}");
    let proxy = Proxy::start(&registry.host, "200 OK");
    let name = "registry.invalid:5000/x:latest";
    let variable = format!("http://user:password@{}", proxy.address);
    let folder = Folder::new("proxy");
    let mirrors = ("RINGFENCE_TEST_MIRRORS", "http://registry.invalid:5000");
    pull_with(&folder, name, &[("http_proxy", &variable), mirrors]).unwrap();
    let asked = proxy.asked.lock().unwrap().clone();
    assert!(!asked.is_empty());
    for (line, credential) in asked {
        assert_eq!(line, "CONNECT registry.invalid:5000 HTTP/1.1");
        assert_eq!(credential.as_deref(), Some("Basic dXNlcjpwYXNzd29yZA=="));
    }

    // Not for this machine itself, nor for what NO_PROXY names.
    let before = proxy.asked.lock().unwrap().len();
    let own = format!("{}/x", registry.host);
    pull_with(&Folder::new("loopback"), &own, &[("ALL_PROXY", &variable)]).unwrap();
    let direct = [
        ("http_proxy", variable.as_str()),
        ("NO_PROXY", ".invalid"),
        mirrors,
    ];
    let error = pull_with(&Folder::new("direct"), name, &direct).unwrap_err();
    let start = format!("pull {name}: http://registry.invalid:5000: the host's name has no address");
    assert!(error.starts_with(&start), "{error}");
    assert_eq!(proxy.asked.lock().unwrap().len(), before);

    let closed = Proxy::start(&registry.host, "407 Proxy Authentication Required");
    let variable = format!("http://{}", closed.address);
    assert_eq!(
        pull_with(
            &Folder::new("closed"),
            name,
            &[("http_proxy", &variable), mirrors]
        )
        .unwrap_err(),
        format!("pull {name}: http://registry.invalid:5000: the proxy answers 407")
    );
    assert_eq!(
        pull_with(
            &Folder::new("socks"),
            name,
            &[("http_proxy", "socks4://u:secret@h:1"), mirrors]
        )
        .unwrap_err(),
        format!("pull {name}: http_proxy: not the address of a proxy; write `http://host:port`")
    );
}

/// Runs openssl in a folder; false when there is none.
fn openssl(folder: &Path, arguments: &str) -> bool {
    match Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
    {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            true
        }
        Err(error) => {
            assert!(std::env::var_os("RINGFENCE_TESTS").is_none(), "openssl: {error}");
            eprintln!("skipped: openssl: {error}");
            false
        }
    }
}

/// Ends TLS before a registry; gives its address.
fn encrypted(folder: &Path, to: &str) -> String {
    let certificate = CertificateDer::from_pem_file(folder.join("own.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("own.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (config, to) = (Arc::new(config), to.to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, server) = (stream.unwrap(), TcpStream::connect(&to).unwrap());
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let client = rustls::StreamOwned::new(connection, stream);
            std::thread::spawn(move || turns(client, server).ok());
        }
    });
    address
}

/// Passes bytes on, one direction after the other: a TLS connection cannot be read and written at once.
fn turns(
    mut client: rustls::StreamOwned<rustls::ServerConnection, TcpStream>,
    mut server: TcpStream,
) -> io::Result<()> {
    let turn = Some(Duration::from_millis(5));
    client.sock.set_read_timeout(turn)?;
    server.set_read_timeout(turn)?;
    let mut buffer = [0; 16 << 10];
    loop {
        for to_server in [true, false] {
            let read = if to_server {
                client.read(&mut buffer)
            } else {
                server.read(&mut buffer)
            };
            match read {
                Ok(0) => return Ok(()),
                Ok(read) if to_server => server.write_all(&buffer[..read])?,
                Ok(read) => client.write_all(&buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[test]
fn a_registrys_own_authority_is_trusted_where_it_is_configured() {
    let (registry, folder) = (Registry::start(), Folder::new("tls"));
    let authority = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tests";
    if !openssl(&folder.0, &format!("{authority} -keyout ca.key -out ca.pem")) {
        return;
    }
    openssl(
        &folder.0,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout own.key -out own.csr",
    );
    let sign = |names: &str| {
        fs::write(folder.0.join("names"), names).unwrap();
        openssl(
            &folder.0,
            "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out own.pem",
        );
    };
    sign("subjectAltName=IP:127.0.0.1");
    registry.push("x", "latest", &arch(), &small(), "{}");
    let host = encrypted(&folder.0, &registry.host);
    let (name, mirror) = (format!("{host}/x:latest"), format!("https://{host}"));
    let mirrors = ("RINGFENCE_TEST_MIRRORS", mirror.as_str());
    assert_eq!(
        pull_with(&folder, &name, &[mirrors]).unwrap_err(),
        format!("pull {name}: {mirror}: TLS: invalid peer certificate: UnknownIssuer")
    );
    let ca = folder.0.join("ca.pem");
    let trusted = [mirrors, ("RINGFENCE_TEST_CA", ca.to_str().unwrap())];
    pull_with(&folder, &name, &trusted).unwrap();

    sign("subjectAltName=DNS:another.example");
    let host = encrypted(&folder.0, &registry.host);
    let (name, mirror) = (format!("{host}/x:latest"), format!("https://{host}"));
    let trusted = [("RINGFENCE_TEST_MIRRORS", mirror.as_str()), trusted[1]];
    let error = pull_with(&folder, &name, &trusted).unwrap_err();
    let start =
        format!("pull {name}: {mirror}: TLS: invalid peer certificate: certificate not valid for name");
    assert!(error.starts_with(&start), "{error}");

    let absent = [trusted[0], ("RINGFENCE_TEST_CA", "/absent.pem")];
    assert_eq!(
        pull_with(&folder, &name, &absent).unwrap_err(),
        format!("pull {name}: /absent.pem: no certificates: No such file or directory (os error 2)")
    );
}
