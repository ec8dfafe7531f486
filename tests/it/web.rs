//! The web configuration file: the server over real sockets, against TLS clients with certificates.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod faults;
mod passwords;
mod program;
mod reload;
mod tls;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use slicewatch::publish::http::{HttpState, LivePage, WebConfig, WebError, bind, serve};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

/// Ends a handshake that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of "correct horse", as cheap as bcrypt can be.
fn hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

/// An authority of the tests' own.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    fn sign(&self, sans: &[SanType]) -> Identity {
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans.to_vec();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate, key }
    }

    /// Of a server that the tests reach.
    fn server(&self) -> Identity {
        self.sign(&[
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::DnsName("localhost".try_into().unwrap()),
        ])
    }

    fn client(&self, name: &str) -> Identity {
        self.sign(&[SanType::DnsName(name.try_into().unwrap())])
    }
}

impl Identity {
    fn write(&self, folder: &Path, name: &str) {
        fs::create_dir_all(folder).unwrap();
        let path = |kind: &str| folder.join(format!("{name}.{kind}"));
        fs::write(path("crt"), self.certificate.pem()).unwrap();
        fs::write(path("key"), self.key.serialize_pem()).unwrap();
    }
}

/// A folder with a web configuration and a server's certificate.
struct Site {
    folder: TempDir,
    authority: Authority,
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.server().write(folder.path(), "server");
        fs::write(folder.path().join("ca.crt"), authority.certificate.pem()).unwrap();
        Self { folder, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, yaml: &str) -> PathBuf {
        let path = self.path("web.yaml");
        fs::write(&path, yaml).unwrap();
        path
    }

    fn open(&self, yaml: &str) -> Result<WebConfig, WebError> {
        WebConfig::open(&self.config(yaml))
    }

    fn serve(&self, yaml: &str) -> Server {
        Server::start(self.open(yaml).unwrap())
    }

    fn client(&self) -> Client {
        Client::trusting(&self.authority)
    }
}

/// A server on a thread of its own, ended when dropped.
struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(web: WebConfig) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (told, addr) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let (_snapshots, receiver) = watch::channel(None);
            let state = HttpState::new(receiver, || true)
                .configured(Some(web))
                .with_page(Some(LivePage::new()));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, state, async {
                    let _ = stopped.await;
                })
                .await;
            });
        });
        Self {
            addr: addr.recv().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Over plain HTTP.
    fn get(&self, path: &str, headers: &str) -> Answer {
        ask(self.connect(), path, headers).unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// One request on a connection that ends with it.
fn ask(mut stream: impl Read + Write, path: &str, headers: &str) -> io::Result<Answer> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{headers}\r\n"
    )?;
    answer(stream)
}

fn answer(mut stream: impl Read) -> io::Result<Answer> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("no answer: {text:?}")))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer {
        status: status.ok_or_else(|| io::Error::other("no status"))?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

fn basic(user: &str, password: &str) -> String {
    let word = STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {word}\r\n")
}

/// A TLS client.
struct Client {
    roots: RootCertStore,
    versions: Vec<&'static SupportedProtocolVersion>,
    identity: Option<Identity>,
    protocols: Vec<Vec<u8>>,
}

impl Client {
    fn trusting(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        Self {
            roots,
            versions: vec![&version::TLS12, &version::TLS13],
            identity: None,
            protocols: Vec::new(),
        }
    }

    fn with(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    fn speaking(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    fn connect(&self, server: &Server) -> StreamOwned<ClientConnection, TcpStream> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
                let chain = vec![identity.certificate.der().clone()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = self.protocols.clone();
        let name = "127.0.0.1".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, server.connect())
    }

    fn get(&self, server: &Server, path: &str, headers: &str) -> io::Result<Answer> {
        ask(self.connect(server), path, headers)
    }

    /// The status of the page, or none where there is no connection.
    fn status(&self, server: &Server) -> Option<u16> {
        self.get(server, "/", "").ok().map(|answer| answer.status)
    }
}
