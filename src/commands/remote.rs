//! A running agent, asked for its snapshot over HTTP or HTTPS.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use ureq::http::header::AUTHORIZATION;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::model::Snapshot;
use crate::model::snapshot::SCHEMA;

/// An answer longer than this is not a snapshot.
const MAX_BYTES: u64 = 64 << 20;

/// How an agent that asks for TLS or a password is reached.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "With --url")]
pub struct RemoteArgs {
    /// Certificates that the agent's is signed by, in PEM [default: the public authorities]
    #[arg(long, env = "SLICEWATCH_CA_FILE", value_name = "PATH")]
    ca_file: Option<PathBuf>,
    /// A certificate to show to the agent, in PEM
    #[arg(
        long,
        env = "SLICEWATCH_CERT_FILE",
        value_name = "PATH",
        requires = "key_file"
    )]
    cert_file: Option<PathBuf>,
    /// The key of --cert-file
    #[arg(
        long,
        env = "SLICEWATCH_KEY_FILE",
        value_name = "PATH",
        requires = "cert_file"
    )]
    key_file: Option<PathBuf>,
    /// Take any certificate of the agent: whoever sits between can read and change the answer
    #[arg(long, conflicts_with = "ca_file")]
    insecure_skip_verify: bool,
    /// Name to log in with; one in the URL (https://NAME:PASSWORD@...) wins
    #[arg(
        long,
        env = "SLICEWATCH_USER",
        value_name = "NAME",
        requires = "password_file"
    )]
    user: Option<String>,
    /// A file with the password of --user
    #[arg(
        long,
        env = "SLICEWATCH_PASSWORD_FILE",
        value_name = "PATH",
        requires = "user"
    )]
    password_file: Option<PathBuf>,
}

/// A running agent.
pub struct Remote {
    agent: ureq::Agent,
    /// Without user and password: it is printed.
    address: String,
    authorization: Option<String>,
}

impl Remote {
    /// The agent at this URL.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be.
    pub fn new(url: &str, args: &RemoteArgs) -> anyhow::Result<Self> {
        let (url, in_url) = without_user(url);
        let authorization = match (in_url, &args.user, &args.password_file) {
            (Some(user), _, _) => Some(user),
            (None, Some(user), Some(file)) => {
                let password = read(file, "--password-file")?;
                let password = password.strip_suffix(b"\n").unwrap_or(&password);
                let password = password.strip_suffix(b"\r").unwrap_or(password);
                Some([user.as_bytes(), b":", password].concat())
            }
            _ => None,
        };
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .tls_config(tls(args)?)
            .http_status_as_error(false)
            .build();
        Ok(Self {
            agent: agent.into(),
            address: format!("{}/api/v1/snapshot", url.trim_end_matches('/')),
            authorization: authorization.map(|pair| format!("Basic {}", STANDARD.encode(pair))),
        })
    }

    /// Where it is asked, without user and password.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its latest snapshot.
    ///
    /// # Errors
    /// No answer, a refusal, or an answer that is not a snapshot of this version.
    pub fn fetch(&self) -> anyhow::Result<Arc<Snapshot>> {
        let address = &self.address;
        let mut request = self.agent.get(address);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut answer = request
            .call()
            .with_context(|| format!("{address} did not answer; give --url the address of a running agent, such as http://127.0.0.1:9735"))?;
        match answer.status().as_u16() {
            200 => {}
            401 => bail!("{address} asks for another password; give --user and --password-file"),
            status => bail!(
                "{address} answered with status {status}; give --url the address of a running agent, such as http://127.0.0.1:9735"
            ),
        }
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_BYTES)
            .read_to_vec()
            .with_context(|| format!("{address}: the answer broke off"))?;
        let value: serde_json::Value = serde_json::from_slice(&body)
            .with_context(|| format!("{address}: not a slicewatch agent's snapshot (no JSON)"))?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(schema) if schema == u64::from(SCHEMA) => {}
            Some(schema) => bail!(
                "{address}: snapshot schema {schema}, this program reads {SCHEMA}; use the agent's own version"
            ),
            None => bail!("{address}: not a slicewatch agent's snapshot (no schema)"),
        }
        let snapshot = serde_json::from_value(value)
            .with_context(|| format!("{address}: the snapshot is not understood"))?;
        Ok(Arc::new(snapshot))
    }
}

fn tls(args: &RemoteArgs) -> anyhow::Result<TlsConfig> {
    let mut tls = TlsConfig::builder().disable_verification(args.insecure_skip_verify);
    if let Some(file) = &args.ca_file {
        let roots = certificates(file, "--ca-file")?;
        tls = tls.root_certs(RootCerts::new_with_certs(&roots));
    }
    if let (Some(cert), Some(key)) = (&args.cert_file, &args.key_file) {
        let chain = certificates(cert, "--cert-file")?;
        let pem = read(key, "--key-file")?;
        let key = PrivateKey::from_pem(&pem)
            .with_context(|| format!("--key-file {key:?} holds no private key in PEM"))?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(tls.build())
}

fn certificates(file: &Path, flag: &str) -> anyhow::Result<Vec<Certificate<'static>>> {
    let pem = read(file, flag)?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    match items.collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => bail!("{flag} {file:?} holds no certificate in PEM"),
    }
}

fn read(file: &Path, flag: &str) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {flag} {file:?}; give a file"))
}

/// A URL without its `user:password@`, and that, decoded.
fn without_user(url: &str) -> (String, Option<Vec<u8>>) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return (url.to_owned(), None);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else {
        return (url.to_owned(), None);
    };
    let mut user = decoded(&rest[..at]);
    if !rest[..at].contains(':') {
        user.push(b':');
    }
    (format!("{scheme}://{}", &rest[at + 1..]), Some(user))
}

fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    while let Some((first, rest)) = bytes.split_first() {
        let digit = |at: usize| rest.get(at).and_then(|digit| (*digit as char).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = &rest[2..];
            }
            _ => {
                out.push(*first);
                bytes = rest;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_taken_out_of_a_url() {
        for (url, without, user) in [
            ("http://a:1/", "http://a:1/", None),
            ("http://a:1/x@y", "http://a:1/x@y", None),
            ("not a url", "not a url", None),
            ("https://u:p@a:1", "https://a:1", Some("u:p")),
            ("https://u@a", "https://a", Some("u:")),
            (
                "https://u:p%40:%25%zz@a/b",
                "https://a/b",
                Some("u:p@:%%zz"),
            ),
            ("https://u:p@q@a", "https://a", Some("u:p@q")),
        ] {
            let user = user.map(|user: &str| user.as_bytes().to_vec());
            assert_eq!(without_user(url), (without.to_owned(), user), "{url}");
        }
    }
}
