//! The web configuration file: TLS, clients' certificates, passwords, headers, a limit of requests.

mod auth;
mod client;
mod error;
mod files;
mod format;
mod guard;
mod tls;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue};
use tokio_rustls::rustls::ServerConfig;

use auth::Users;
use error::Fault;
use files::Files;
use format::RateLimit;
use guard::Rate;

pub use error::WebError;
pub(super) use guard::guard;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// A web configuration file in the form of the Prometheus exporter-toolkit, followed as it and the
/// files that it names change.
pub struct WebConfig {
    path: PathBuf,
    current: Mutex<Current>,
}

/// Not what stands in it: hashes are no words for a log.
impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

struct Current {
    rules: Arc<Rules>,
    files: Files,
    looked: Instant,
}

/// What the file asks for.
pub(super) struct Rules {
    /// None: plain HTTP.
    pub(super) tls: Option<Arc<ServerConfig>>,
    users: Option<Arc<Users>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    rate: Option<Rate>,
}

impl WebConfig {
    /// Reads the file and those that it names.
    ///
    /// # Errors
    /// [`WebError`], which names the file, the line and the mend.
    pub fn open(path: &Path) -> Result<Self, WebError> {
        let mut files = Files::default();
        let rules = read(path, &mut files)?;
        Ok(Self {
            path: path.to_owned(),
            current: Mutex::new(Current {
                rules: Arc::new(rules),
                files,
                looked: Instant::now(),
            }),
        })
    }

    /// Whether it asks for TLS.
    pub fn tls(&self) -> bool {
        self.latest().tls.is_some()
    }

    /// The rules of now: where a file has changed they are read anew, at most once a second. While
    /// the new ones cannot be used the last good ones stay.
    pub(super) fn latest(&self) -> Arc<Rules> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK {
            current.looked = Instant::now();
            if current.files.changed() {
                self.renew(&mut current);
            }
        }
        Arc::clone(&current.rules)
    }

    fn renew(&self, current: &mut Current) {
        let mut files = Files::default();
        let rules = read(&self.path, &mut files).and_then(|rules| self.no_weaker(current, rules));
        match rules {
            Ok(rules) => {
                tracing::info!(path = ?self.path, "the web configuration has changed and is in use");
                current.rules = Arc::new(rules);
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(
                    "the web configuration has changed and is not used, the one before stays: {error:#}"
                );
            }
        }
        // Good or bad, it is read again when it changes again.
        current.files = files;
    }

    fn no_weaker(&self, current: &Current, rules: Rules) -> Result<Rules, WebError> {
        let what = if current.rules.tls.is_some() && rules.tls.is_none() {
            "TLS"
        } else if current.rules.users.is_some() && rules.users.is_none() {
            "passwords"
        } else {
            return Ok(rules);
        };
        Err(WebError::Weaker {
            path: self.path.clone(),
            what,
        })
    }
}

fn read(path: &Path, files: &mut Files) -> Result<Rules, WebError> {
    let unreadable = |source| WebError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = files.read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| unreadable(std::io::Error::other("it is not text in UTF-8")))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    rules(&text, folder, files).map_err(|fault| fault.within(path.to_owned()))
}

fn rules(text: &str, folder: &Path, files: &mut Files) -> Result<Rules, Fault> {
    let format = format::parse(text)?;
    let tls = format.tls_server_config.as_ref();
    let http = format.http_server_config.unwrap_or_default();
    let rate = format.rate_limit.as_ref().map(RateLimit::limits);
    Ok(Rules {
        tls: tls.map(|tls| tls::server(tls, folder, files)).transpose()?,
        users: format
            .basic_auth_users
            .as_ref()
            .map(Users::of)
            .transpose()?
            .map(Arc::new),
        headers: http.headers()?,
        rate: rate.transpose()?.flatten().map(Rate::new),
    })
}
