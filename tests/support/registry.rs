//! A registry for tests: HTTP/1.1 on the loopback, scripted, with a token service and a log of its requests.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "shared by several tests, each with its own part; names say it"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What a request is answered with instead of the content.
#[derive(Clone, Debug)]
pub enum Fault {
    Status(u16),
    /// The connection is taken and nothing is said.
    Silence,
    /// So many bytes of the body, then the connection ends. Once.
    CutOnce(usize),
    /// Other bytes of the same length.
    OtherBytes,
    Redirect(String),
    /// The same, once.
    OtherBytesOnce,
    /// So many bytes of the body, then the connection ends; and what `Range` gets is this.
    CutThen(usize, Range),
    Ranged(Range),
    /// A byte of the body every 50 ms.
    Trickle,
    /// `429` with `Retry-After`, once.
    BusyOnce(String),
}

/// What a registry makes of `Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The whole content.
    Ignored,
    /// Another part than was asked for, and says so.
    Wrong,
    /// A part, and does not say which.
    Unsaid,
    /// `416`.
    Refused,
}

#[derive(Default)]
struct State {
    /// By path: media type and bytes.
    content: BTreeMap<String, (String, Vec<u8>)>,
    faults: BTreeMap<String, Fault>,
    log: Vec<Logged>,
    /// Where the token service is, when there is one.
    realm: Option<String>,
    /// The credential that the token service wants (`Basic` …); anyone when none.
    login: Option<String>,
    /// The credential that the registry itself wants (`Basic` …); anyone when none.
    password: Option<String>,
    /// How many seconds a token is said to be good for; 300 when none.
    token_seconds: Option<u64>,
    /// How many requests a token is good for, and what is left of the last one.
    token_life: Option<(u32, u32)>,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
}

/// A running registry; it ends when dropped.
pub struct Registry {
    pub host: String,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

/// A layer to be pushed.
#[derive(Clone)]
pub struct Layer {
    pub media_type: String,
    pub blob: Vec<u8>,
    pub diff_id: String,
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

impl Layer {
    pub fn plain(archive: &[u8]) -> Layer {
        Layer {
            media_type: OCI_LAYER.to_owned(),
            blob: archive.to_vec(),
            diff_id: digest(archive),
        }
    }

    pub fn gzip(archive: &[u8]) -> Layer {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(archive).unwrap();
        Layer {
            media_type: DOCKER_LAYER_GZIP.to_owned(),
            blob: encoder.finish().unwrap(),
            diff_id: digest(archive),
        }
    }

    pub fn zstd(archive: &[u8]) -> Layer {
        let blob = zstd::encode_all(archive, 1).unwrap();
        Layer {
            media_type: format!("{OCI_LAYER}+zstd"),
            blob,
            diff_id: digest(archive),
        }
    }
}

/// The configuration of an image, with `settings` as the text of its `config`.
pub fn config(architecture: &str, layers: &[Layer], settings: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("\"{}\"", layer.diff_id))
        .collect();
    format!(
        r#"{{"os":"linux","architecture":"{architecture}","config":{settings},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    )
    .into_bytes()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    format!(
        r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#,
        digest(bytes),
        bytes.len()
    )
}

pub fn manifest(media_type: &str, config_type: &str, config: &[u8], layers: &[Layer]) -> Vec<u8> {
    let layers: Vec<String> = layers
        .iter()
        .map(|layer| descriptor(&layer.media_type, &layer.blob))
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{},"layers":[{}]}}"#,
        descriptor(config_type, config),
        layers.join(",")
    )
    .into_bytes()
}

impl Registry {
    pub fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (state, stop) = (
            Arc::new(Mutex::new(State::default())),
            Arc::new(AtomicBool::new(false)),
        );
        let registry = Registry {
            host,
            state: Arc::clone(&state),
            stop: Arc::clone(&stop),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
                std::thread::spawn(move || serve(stream.unwrap(), &state, &stop));
            }
        });
        registry
    }

    /// Puts content at a path below `/v2/`.
    pub fn put(&self, path: &str, media_type: &str, bytes: &[u8]) {
        let content = (media_type.to_owned(), bytes.to_vec());
        self.state
            .lock()
            .unwrap()
            .content
            .insert(format!("/v2/{path}"), content);
    }

    pub fn put_blob(&self, repository: &str, bytes: &[u8]) {
        self.put(
            &format!("{repository}/blobs/{}", digest(bytes)),
            "application/octet-stream",
            bytes,
        );
    }

    /// Puts a manifest under its tag and its digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        for name in [tag.to_owned(), digest(bytes)] {
            self.put(&format!("{repository}/manifests/{name}"), media_type, bytes);
        }
    }

    /// Pushes an image of one platform; gives its manifest.
    pub fn push(
        &self,
        repository: &str,
        tag: &str,
        architecture: &str,
        layers: &[Layer],
        settings: &str,
    ) -> Vec<u8> {
        let config = config(architecture, layers, settings);
        let manifest = manifest(OCI_MANIFEST, OCI_CONFIG, &config, layers);
        self.put_blob(repository, &config);
        for layer in layers {
            self.put_blob(repository, &layer.blob);
        }
        self.put_manifest(repository, tag, OCI_MANIFEST, &manifest);
        manifest
    }

    /// Answers requests whose path holds `part` with a fault.
    pub fn fault(&self, part: &str, fault: Fault) {
        self.state.lock().unwrap().faults.insert(part.to_owned(), fault);
    }

    /// Asks for a token of the service at `realm`; `login` is the credential that this registry's own service wants.
    pub fn ask_for_token(&self, realm: &str, login: Option<&str>) {
        let mut state = self.state.lock().unwrap();
        state.realm = Some(realm.to_owned());
        state.login = login.map(str::to_owned);
    }

    /// Asks for no token any more.
    pub fn ask_for_no_token(&self) {
        self.state.lock().unwrap().realm = None;
    }

    /// Asks for a name and a password.
    pub fn ask_for_password(&self, login: &str) {
        self.state.lock().unwrap().password = Some(login.to_owned());
    }

    /// Every token is said to be good for so many seconds.
    pub fn let_tokens_live(&self, seconds: u64) {
        self.state.lock().unwrap().token_seconds = Some(seconds);
    }

    /// Every token is good for so many requests.
    pub fn let_tokens_expire(&self, after: u32) {
        self.state.lock().unwrap().token_life = Some((after, 0));
    }

    pub fn log(&self) -> Vec<Logged> {
        self.state.lock().unwrap().log.clone()
    }

    /// Paths that were asked for, in order.
    pub fn paths(&self) -> Vec<String> {
        self.log().into_iter().map(|logged| logged.path).collect()
    }

    pub fn forget(&self) {
        self.state.lock().unwrap().log.clear();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(&self.host));
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, stop: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = request(&mut reader) {
        state.lock().unwrap().log.push(request.clone());
        if answer(&mut stream, state, stop, &request).is_none() {
            drop(stream.shutdown(std::net::Shutdown::Both));
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<Logged> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut logged = Logged {
        method,
        path,
        authorization: None,
        range: None,
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => logged.authorization = Some(value.to_owned()),
            "range" => logged.range = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(logged)
}

/// None ends the connection.
fn answer(stream: &mut TcpStream, state: &Mutex<State>, stop: &AtomicBool, request: &Logged) -> Option<()> {
    let path = request.path.as_str();
    let mut state = state.lock().unwrap();
    let fault = state.faults.iter().find(|(part, _)| path.contains(part.as_str()));
    let fault = fault.map(|(part, fault)| (part.clone(), fault.clone()));
    match &fault {
        Some((part, Fault::CutOnce(_) | Fault::BusyOnce(_) | Fault::OtherBytesOnce)) => {
            state.faults.remove(part);
        }
        Some((part, Fault::CutThen(_, range))) => {
            state.faults.insert(part.clone(), Fault::Ranged(*range));
        }
        _ => {}
    }
    if path.starts_with("/token") {
        if state.login.is_some() && request.authorization != state.login {
            return send(stream, 401, &[], b"{}");
        }
        state.token_life = state.token_life.map(|(life, _)| (life, life));
        let answer = format!(
            r#"{{"token":"secret-token","expires_in":{}}}"#,
            state.token_seconds.unwrap_or(300)
        );
        return send(stream, 200, &[], answer.as_bytes());
    }
    let expired = match &mut state.token_life {
        Some((_, 0)) => true,
        Some((_, left)) => {
            *left -= u32::from(request.authorization.is_some());
            false
        }
        None => false,
    };
    if let Some(realm) = &state.realm
        && (expired || request.authorization.as_deref() != Some("Bearer secret-token"))
    {
        let challenge = format!(r#"Bearer realm="{realm}",service="test",scope="repository:x:pull""#);
        return send(stream, 401, &[("WWW-Authenticate", &challenge)], b"{}");
    }
    if state.password.is_some() && request.authorization != state.password {
        return send(
            stream,
            401,
            &[("WWW-Authenticate", "Basic realm=\"test\"")],
            b"{}",
        );
    }
    let found = state.content.get(path).cloned();
    drop(state);
    let fault = fault.map(|(_, fault)| fault);
    match fault {
        Some(Fault::Status(status)) => {
            return send(
                stream,
                status,
                &[],
                br#"{"errors":[{"code":"X","message":"scripted"}]}"#,
            );
        }
        Some(Fault::Silence) => {
            for _ in 0..300 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            return None;
        }
        Some(Fault::Redirect(to)) => return send(stream, 307, &[("Location", &to)], b""),
        Some(Fault::BusyOnce(after)) => return send(stream, 429, &[("Retry-After", &after)], b"{}"),
        _ => {}
    }
    let Some((media_type, mut bytes)) = found else {
        return send(
            stream,
            404,
            &[],
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        );
    };
    if let Some(Fault::OtherBytes | Fault::OtherBytesOnce) = fault {
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let from = request
        .range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let mut from: usize = from.unwrap_or(0);
    let ranged = match fault {
        Some(Fault::Ranged(range)) if from > 0 => Some(range),
        _ => None,
    };
    match ranged {
        Some(Range::Refused) => return send(stream, 416, &[], b"{}"),
        Some(Range::Ignored) => from = 0,
        _ => {}
    }
    let said = if ranged == Some(Range::Wrong) {
        from - 1
    } else {
        from
    };
    let range = format!("bytes {said}-{}/{}", bytes.len() - 1, bytes.len());
    let mut headers = vec![("Content-Type", media_type.as_str())];
    if from > 0 && ranged != Some(Range::Unsaid) {
        headers.push(("Content-Range", &range));
    }
    let status = if from > 0 { 206 } else { 200 };
    match fault {
        Some(Fault::CutOnce(after) | Fault::CutThen(after, _)) => {
            head(stream, status, &headers, bytes.len() - from)?;
            stream.write_all(&bytes[from..][..after]).ok()?;
            None
        }
        Some(Fault::Trickle) => {
            head(stream, status, &headers, bytes.len() - from)?;
            for byte in &bytes[from..] {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                stream.write_all(std::slice::from_ref(byte)).ok()?;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            None
        }
        _ => send(stream, status, &headers, &bytes[from..]),
    }
}

fn send(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Option<()> {
    head(stream, status, headers, body.len())?;
    stream.write_all(body).ok()
}

fn head(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], length: usize) -> Option<()> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).ok()
}
