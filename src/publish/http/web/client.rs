//! What is asked of clients' certificates.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use webpki::EndEntityCert;

use super::error::Fault;
use super::format::Tls;

const MODES: [(&str, Mode); 5] = [
    ("NoClientCert", Mode::None),
    ("RequestClientCert", Mode::Request),
    ("RequireAnyClientCert", Mode::RequireAny),
    ("VerifyClientCertIfGiven", Mode::VerifyIfGiven),
    ("RequireAndVerifyClientCert", Mode::RequireAndVerify),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    None,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl Mode {
    const fn required(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }

    const fn verified(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

/// `client_auth_type` and `client_allowed_sans`.
#[derive(Debug)]
pub(super) struct ClientAuth {
    mode: Mode,
    line: u64,
    sans: Option<Vec<San>>,
}

/// An alternative name that a client's certificate may have.
#[derive(Debug)]
enum San {
    /// Of a host, as it stands in the certificate: a wildcard is only itself.
    Name(String),
    Uri(String),
    Ip(IpAddr),
}

impl San {
    fn of(text: &str, line: u64) -> Result<Self, Fault> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        if text.contains(':') {
            return Ok(Self::Uri(text.to_owned()));
        }
        if text.is_empty() || text.contains('@') {
            return Err(Fault::invalid(
                line,
                format!(
                    "client_allowed_sans: {text:?} can be no client's; write names of hosts, URIs or IP addresses (e-mail addresses are not compared)"
                ),
            ));
        }
        Ok(Self::Name(text.to_owned()))
    }

    fn is_of(&self, cert: &EndEntityCert<'_>) -> bool {
        match self {
            Self::Name(name) => cert.valid_dns_names().any(|found| found == name),
            Self::Uri(uri) => cert.valid_uri_names().any(|found| found == uri),
            Self::Ip(ip) => cert
                .verify_is_valid_for_subject_name(&ServerName::from(*ip))
                .is_ok(),
        }
    }
}

impl ClientAuth {
    pub(super) fn of(tls: &Tls, section: u64) -> Result<Self, Fault> {
        let (mode, line) = match &tls.client_auth_type {
            None => (Mode::None, section),
            Some(name) => {
                let line = name.referenced.line();
                let known = MODES.iter().find(|(known, _)| *known == name.value);
                match (known, name.value.as_str()) {
                    (Some((_, mode)), _) => (*mode, line),
                    // The toolkit takes both still.
                    (None, "") => (Mode::None, line),
                    (None, "RequireClientCert") => (Mode::RequireAny, line),
                    (None, other) => {
                        let known = MODES.map(|(name, _)| name).join(", ");
                        return Err(Fault::invalid(
                            line,
                            format!("there is no client_auth_type {other:?}; there are {known}"),
                        ));
                    }
                }
            }
        };
        let Some(names) = &tls.client_allowed_sans else {
            return Ok(Self {
                mode,
                line,
                sans: None,
            });
        };
        let at = names.referenced.line();
        if !mode.required() {
            return Err(Fault::invalid(
                at,
                "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert or RequireAnyClientCert: with others a client may come without a certificate",
            ));
        }
        if names.value.is_empty() {
            return Err(Fault::invalid(
                at,
                "client_allowed_sans is empty: no client could come; write the names of those that may",
            ));
        }
        let sans = names
            .value
            .iter()
            .map(|name| San::of(&name.value, name.referenced.line()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            mode,
            line,
            sans: Some(sans),
        })
    }
}

/// Checks clients' certificates as `auth` says, against `roots` where it verifies.
pub(super) fn verifier(
    auth: ClientAuth,
    roots: Option<RootCertStore>,
    section: u64,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let chain = match (auth.mode, roots) {
        (Mode::None, None) => return Ok(WebPkiClientVerifier::no_client_auth()),
        (Mode::None, Some(_)) => {
            return Err(Fault::invalid(
                section,
                "there is a client_ca_file, and no client_auth_type that asks for certificates; write client_auth_type: RequireAndVerifyClientCert",
            ));
        }
        (mode, None) if mode.verified() => {
            return Err(Fault::invalid(
                auth.line,
                "this client_auth_type verifies certificates, and there is no client_ca_file to verify them with; write one",
            ));
        }
        (mode, Some(roots)) if mode.verified() => {
            let provider = Arc::clone(provider);
            let chain =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            Some(chain.map_err(|error| Fault::invalid(auth.line, error.to_string()))?)
        }
        (_, Some(_)) => {
            tracing::warn!(
                line = auth.line,
                "the client_ca_file of the web configuration is not used: this client_auth_type takes any certificate; RequireAndVerifyClientCert verifies them"
            );
            None
        }
        (_, None) => None,
    };
    Ok(Arc::new(Verifier {
        chain,
        required: auth.mode.required(),
        sans: auth.sans,
        provider: Arc::clone(provider),
    }))
}

/// The client holds the certificate's key in every mode; the rest is as asked.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<dyn ClientCertVerifier>>,
    required: bool,
    sans: Option<Vec<San>>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain
            .as_ref()
            .map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        if let Some(sans) = &self.sans {
            let cert = EndEntityCert::try_from(end_entity)
                .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
            if !sans.iter().any(|san| san.is_of(&cert)) {
                return Err(Error::InvalidCertificate(
                    CertificateError::ApplicationVerificationFailure,
                ));
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
