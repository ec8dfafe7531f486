//! The file's form: that of the Prometheus exporter-toolkit.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Spanned, UserMessageFormatter};

use super::error::Fault;

/// Aliases are of no use in this file, and depth is not either.
const MAX_ALIASES: usize = 16;
const MAX_DEPTH: usize = 8;
const MAX_NODES: usize = 4096;

/// The whole file. A key that is there without a value is told from one that is not there: an empty
/// `basic_auth_users` must not open the port.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Format {
    #[serde(default, deserialize_with = "present")]
    pub(super) tls_server_config: Option<Spanned<Option<Tls>>>,
    #[serde(default)]
    pub(super) http_server_config: Option<Http>,
    #[serde(default)]
    pub(super) rate_limit: Option<Spanned<RateLimit>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) basic_auth_users: Option<Spanned<UserList>>,
}

/// Names with hashes of passwords.
pub(super) type UserList = Option<BTreeMap<String, Spanned<String>>>;

/// `tls_server_config`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) cert: Option<Spanned<String>>,
    pub(super) key: Option<Spanned<String>>,
    pub(super) client_ca: Option<Spanned<String>>,
    pub(super) cert_file: Option<Spanned<String>>,
    pub(super) key_file: Option<Spanned<String>>,
    pub(super) client_ca_file: Option<Spanned<String>>,
    pub(super) client_auth_type: Option<Spanned<String>>,
    pub(super) client_allowed_sans: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) min_version: Option<Spanned<String>>,
    pub(super) max_version: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) cipher_suites: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) curve_preferences: Vec<Spanned<String>>,
    pub(super) prefer_server_cipher_suites: Option<bool>,
}

/// `http_server_config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    /// Taken and without effect: a scrape gains nothing by HTTP/2, and clients that may use it speak
    /// HTTP/1.1 as well.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
}

/// `rate_limit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimit {
    interval: Option<Spanned<String>>,
    burst: Option<Spanned<u32>>,
}

/// A value that may be null, of a key that is there.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Reads the file's text.
pub(super) fn parse(text: &str) -> Result<Format, Fault> {
    let mut options = serde_saphyr::options! {
        // A snippet of this file may be a password.
        with_snippet: false,
        strict_booleans: true,
    };
    if let Some(budget) = &mut options.budget {
        budget.max_aliases = MAX_ALIASES;
        budget.max_anchors = MAX_ALIASES;
        budget.max_depth = MAX_DEPTH;
        budget.max_nodes = MAX_NODES;
        budget.max_documents = 1;
    }
    let parsed: Result<Option<Format>, _> = serde_saphyr::from_str_with_options(text, options);
    match parsed {
        Ok(Some(format)) => Ok(format),
        Ok(None) => Err(Fault::invalid(
            1,
            "it is empty; write tls_server_config, basic_auth_users or both, or leave --web.config.file away",
        )),
        Err(error) => {
            let line = error.location().map_or(1, |location| location.line());
            Err(Fault::invalid(line, words(&error)))
        }
    }
}

/// What is wrong, in one line and without the value: it may be a password.
fn words(error: &serde_saphyr::Error) -> String {
    let mut words = error
        .without_snippet()
        .render_with_formatter(&UserMessageFormatter)
        .replace('\n', "; ");
    if let Some(at) = words.rfind(" at line ") {
        words.truncate(at);
    }
    for head in ["invalid type: ", "invalid value: "] {
        let Some(start) = words.find(head).map(|at| at + head.len()) else {
            continue;
        };
        let Some(end) = words.rfind(", expected").filter(|end| *end > start) else {
            continue;
        };
        if let Some(kind) = words[start..end].find([' ', '"', '`']) {
            words.replace_range(start + kind..end, "");
        }
    }
    words
}

/// The headers that may be set, each with the values that it may have where they are few.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

impl Http {
    /// Headers of every answer; one without a value is not set.
    pub(super) fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let line = value.referenced.line();
            let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| known == name) else {
                let known = HEADERS.map(|(name, _)| name).join(", ");
                return Err(Fault::invalid(
                    line,
                    format!("the header {name:?} cannot be set; these can: {known}"),
                ));
            };
            let value = value.value.as_str();
            if value.is_empty() {
                continue;
            }
            if !allowed.is_empty() && !allowed.contains(&value) {
                return Err(Fault::invalid(
                    line,
                    format!("{name} cannot be {value:?}; write {}", allowed.join(" or ")),
                ));
            }
            match (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(value),
            ) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                _ => {
                    return Err(Fault::invalid(
                        line,
                        format!("{name} has a character that no header can have"),
                    ));
                }
            }
        }
        Ok(headers)
    }
}

impl RateLimit {
    /// Time between two requests, and how many may come at once; none without an interval.
    pub(super) fn limits(limit: &Spanned<Self>) -> Result<Option<(Duration, u32)>, Fault> {
        let Some(interval) = &limit.value.interval else {
            return Err(Fault::invalid(
                limit.referenced.line(),
                "rate_limit has no interval; write one such as 1s",
            ));
        };
        let text = interval.value.as_str();
        let time = match text {
            "0" => Duration::ZERO,
            _ => humantime::parse_duration(text).map_err(|error| {
                Fault::invalid(
                    interval.referenced.line(),
                    format!("the interval {text:?} is not a length of time ({error}); write one such as 100ms or 1s"),
                )
            })?,
        };
        if time.is_zero() {
            return Ok(None);
        }
        match &limit.value.burst {
            Some(burst) if burst.value > 0 => Ok(Some((time, burst.value))),
            burst => {
                let at = burst
                    .as_ref()
                    .map_or(limit.referenced, |burst| burst.referenced);
                Err(Fault::invalid(
                    at.line(),
                    "with a burst of 0 every request would be refused; write burst: 1 or more",
                ))
            }
        }
    }
}
