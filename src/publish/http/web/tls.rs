//! `tls_server_config`: certificate, versions, ciphers and what is asked of clients.

use std::path::Path;
use std::sync::Arc;

use serde_saphyr::Spanned;
use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::{
    ProtocolVersion, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};

use super::client::{self, ClientAuth};
use super::error::Fault;
use super::files::Files;
use super::format::Tls;

/// The section's TLS, with the files it names, whose paths are relative to `folder`.
pub(super) fn server(
    tls: &Spanned<Option<Tls>>,
    folder: &Path,
    files: &mut Files,
) -> Result<Arc<ServerConfig>, Fault> {
    let section = tls.referenced.line();
    let Some(tls) = &tls.value else {
        return Err(Fault::invalid(
            section,
            "tls_server_config is empty; write cert_file and key_file, or leave it away to serve without TLS",
        ));
    };
    let chain = Pem::of(
        ["cert", "cert_file"],
        [&tls.cert, &tls.cert_file],
        folder,
        files,
    )?;
    let key = Pem::of(
        ["key", "key_file"],
        [&tls.key, &tls.key_file],
        folder,
        files,
    )?;
    let ca = Pem::of(
        ["client_ca", "client_ca_file"],
        [&tls.client_ca, &tls.client_ca_file],
        folder,
        files,
    )?;
    let (Some(chain), Some(key)) = (&chain, &key) else {
        let lacks = if chain.is_none() {
            "cert_file"
        } else {
            "key_file"
        };
        return Err(Fault::invalid(
            section,
            format!("tls_server_config has no {lacks}; write one"),
        ));
    };

    let mut provider = ring::default_provider();
    suites(&tls.cipher_suites, &mut provider)?;
    curves(&tls.curve_preferences, &mut provider)?;
    let versions = versions(tls)?;
    let roots = ca.as_ref().map(Pem::roots).transpose()?;
    let provider = Arc::new(provider);
    let wanted = ClientAuth::of(tls, section)?;
    let verifier = client::verifier(wanted, roots, section, &provider)?;

    let invalid =
        |line: u64, error: &dyn std::fmt::Display| Fault::invalid(line, error.to_string());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| invalid(section, &error))?
        .with_client_cert_verifier(verifier);
    let mut server = builder
        .with_single_cert(chain.certificates()?, key.key()?)
        .map_err(|error| {
            let words = format!(
                "{} and {} do not go together ({error}); write a certificate chain, the server's own first, and its key",
                chain.name(),
                key.name()
            );
            invalid(key.line, &words)
        })?;
    server.ignore_client_order = tls.prefer_server_cipher_suites.unwrap_or(true);
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Prometheus keeps its connection. Without resumption nothing is kept of clients, and each new
    // connection shows its certificate anew.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Arc::new(server))
}

/// PEM from the file itself or from one it names.
struct Pem {
    line: u64,
    key: &'static str,
    file: Option<String>,
    bytes: Vec<u8>,
}

impl Pem {
    fn of(
        [inline_key, file_key]: [&'static str; 2],
        [inline, file]: [&Option<Spanned<String>>; 2],
        folder: &Path,
        files: &mut Files,
    ) -> Result<Option<Self>, Fault> {
        match (inline, file) {
            (None, None) => Ok(None),
            (Some(_), Some(file)) => Err(Fault::invalid(
                file.referenced.line(),
                format!("there are both {inline_key} and {file_key}; write one of them"),
            )),
            (Some(pem), None) => Ok(Some(Self {
                line: pem.referenced.line(),
                key: inline_key,
                file: None,
                bytes: pem.value.clone().into_bytes(),
            })),
            (None, Some(file)) => {
                let line = file.referenced.line();
                if file.value.is_empty() {
                    return Err(Fault::invalid(
                        line,
                        format!("{file_key} is empty; write a path"),
                    ));
                }
                let path = folder.join(&file.value);
                let bytes = files.read(&path).map_err(|source| Fault::Named {
                    line,
                    key: file_key,
                    file: path.clone(),
                    source,
                })?;
                Ok(Some(Self {
                    line,
                    key: file_key,
                    file: Some(path.display().to_string()),
                    bytes,
                }))
            }
        }
    }

    fn name(&self) -> String {
        match &self.file {
            Some(file) => format!("{} {file:?}", self.key),
            None => self.key.to_owned(),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(Fault::invalid(
                self.line,
                format!("{} holds no certificate in PEM", self.name()),
            )),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, Fault> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|_| {
            Fault::invalid(
                self.line,
                format!(
                    "{} holds no private key in PEM without a passphrase",
                    self.name()
                ),
            )
        })
    }

    fn roots(&self) -> Result<RootCertStore, Fault> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| {
                Fault::invalid(
                    self.line,
                    format!(
                        "{} holds a certificate that cannot be used: {error}",
                        self.name()
                    ),
                )
            })?;
        }
        Ok(roots)
    }
}

/// A cipher suite by the name that Go gives it.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.replace("TLS13_", "TLS_")
}

/// Leaves the TLS 1.2 suites that are named, in that order. Those of TLS 1.3 cannot be chosen, as in
/// Go.
fn suites(names: &[Spanned<String>], provider: &mut CryptoProvider) -> Result<(), Fault> {
    if names.is_empty() {
        return Ok(());
    }
    let all = std::mem::take(&mut provider.cipher_suites);
    let old = |suite: &&SupportedCipherSuite| suite.version().version == ProtocolVersion::TLSv1_2;
    provider.cipher_suites = all.iter().filter(|suite| !old(suite)).copied().collect();
    for name in names {
        let Some(suite) = all.iter().find(|suite| suite_name(suite) == name.value) else {
            let known: Vec<_> = all.iter().map(suite_name).collect();
            return Err(Fault::invalid(
                name.referenced.line(),
                format!(
                    "there is no cipher suite {:?} here; there are {}",
                    name.value,
                    known.join(", ")
                ),
            ));
        };
        if !provider.cipher_suites.contains(suite) {
            provider.cipher_suites.push(*suite);
        }
    }
    Ok(())
}

const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", ring::kx_group::X25519),
    ("CurveP256", ring::kx_group::SECP256R1),
    ("CurveP384", ring::kx_group::SECP384R1),
];

fn curves(names: &[Spanned<String>], provider: &mut CryptoProvider) -> Result<(), Fault> {
    if names.is_empty() {
        return Ok(());
    }
    provider.kx_groups.clear();
    for name in names {
        let Some((_, group)) = CURVES.iter().find(|(known, _)| *known == name.value) else {
            let known = CURVES.map(|(name, _)| name).join(", ");
            return Err(Fault::invalid(
                name.referenced.line(),
                format!("there is no curve {:?} here; there are {known}", name.value),
            ));
        };
        provider.kx_groups.push(*group);
    }
    Ok(())
}

const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("TLS12", &version::TLS12), ("TLS13", &version::TLS13)];

/// The versions from `min_version` to `max_version`.
fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, Fault> {
    let place = |key: &str, value: &Option<Spanned<String>>, default: usize| {
        let Some(value) = value else {
            return Ok(default);
        };
        let known = VERSIONS.iter().position(|(name, _)| *name == value.value);
        known.ok_or_else(|| {
            let words = match value.value.as_str() {
                "TLS10" | "TLS11" => "is too old and not served",
                _ => "does not exist",
            };
            Fault::invalid(
                value.referenced.line(),
                format!("{key} {:?} {words}; write TLS12 or TLS13", value.value),
            )
        })
    };
    let (min, max) = (
        place("min_version", &tls.min_version, 0)?,
        place("max_version", &tls.max_version, VERSIONS.len() - 1)?,
    );
    if min > max {
        let line = tls
            .min_version
            .as_ref()
            .map_or(0, |min| min.referenced.line());
        return Err(Fault::invalid(line, "min_version is above max_version"));
    }
    Ok(VERSIONS[min..=max]
        .iter()
        .map(|(_, version)| *version)
        .collect())
}
