//! Basic authentication: users with bcrypt hashes.

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::hmac;
use ring::rand::SystemRandom;
use serde_saphyr::Spanned;
use tokio::sync::{Semaphore, oneshot};
use tokio::time;

use super::error::Fault;
use super::format::UserList;

/// bcrypt takes 2^cost rounds: at 14 over a second of a core for each password that somebody tries.
const MAX_COST: u32 = 13;
const MIN_COST: u32 = 4;
/// Requests that wait for a password to be checked; more are told to come back.
const MAX_WAITING: usize = 8;
const MAX_WAIT: Duration = Duration::from_secs(5);
/// After a wrong password none is checked for this many times as long as it took: whoever guesses
/// gets a quarter of a core, however many connections they have.
const PAUSE_FACTOR: u32 = 3;
/// Wrong passwords that are remembered, for a scraper that sends the same one for ever.
const MAX_REFUSED: usize = 64;

/// What is said of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Welcome,
    Refused,
    /// Too many passwords wait to be checked.
    Busy,
}

/// The users of a configuration.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// A hash that no password has, as costly as the users': whether a user exists cannot be told
    /// by the time of an answer.
    nobody: String,
    /// Of this process alone. What is remembered is useless without it.
    secret: hmac::Key,
    known: Mutex<Known>,
    waiting: Semaphore,
    checking: Arc<Semaphore>,
}

/// Passwords checked before, as keyed digests.
#[derive(Default)]
struct Known {
    /// The right one by user: as many as there are users, and no guess pushes one out.
    right: BTreeMap<String, hmac::Tag>,
    wrong: VecDeque<hmac::Tag>,
}

impl Known {
    fn verdict(&self, user: &str, tag: &hmac::Tag) -> Option<Verdict> {
        let same = |known: &hmac::Tag| {
            // Of equal length and secret key: where they differ tells nothing of the password.
            known.as_ref() == tag.as_ref()
        };
        if self.right.get(user).is_some_and(same) {
            Some(Verdict::Welcome)
        } else if self.wrong.iter().any(same) {
            Some(Verdict::Refused)
        } else {
            None
        }
    }

    fn remember(&mut self, user: String, tag: hmac::Tag, right: bool) {
        if right {
            self.right.insert(user, tag);
            return;
        }
        if self.wrong.len() >= MAX_REFUSED {
            self.wrong.pop_front();
        }
        self.wrong.push_back(tag);
    }
}

impl Users {
    /// The users of `basic_auth_users`.
    pub(super) fn of(section: &Spanned<UserList>) -> Result<Self, Fault> {
        let line = section.referenced.line();
        let users = section.value.as_ref().filter(|users| !users.is_empty());
        let users = users.ok_or_else(|| {
            Fault::invalid(
                line,
                "basic_auth_users is empty; write a user, or leave it away to serve without a password",
            )
        })?;
        let mut hashes = BTreeMap::new();
        let mut cost = MIN_COST;
        for (name, hash) in users {
            cost = cost.max(cost_of(name, hash)?);
            hashes.insert(name.clone(), hash.value.clone());
        }
        let secret = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| Fault::invalid(line, "this host gives no random numbers"))?;
        Ok(Self {
            hashes,
            nobody: format!("$2b${cost:02}${}", ".".repeat(53)),
            secret,
            known: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
            checking: Arc::new(Semaphore::new(1)),
        })
    }

    /// What is said of a request with these headers.
    pub(super) async fn verdict(self: &Arc<Self>, headers: &HeaderMap) -> Verdict {
        let Some((user, password)) = credentials(headers) else {
            return Verdict::Refused;
        };
        let tag = self.tag(&user, &password);
        if let Some(verdict) = self.known(&user, &tag) {
            return verdict;
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Verdict::Busy;
        };
        let turn = time::timeout(MAX_WAIT, Arc::clone(&self.checking).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Verdict::Busy;
        };
        // The same scraper may have asked twice at once.
        if let Some(verdict) = self.known(&user, &tag) {
            return verdict;
        }
        let (tell, told) = oneshot::channel();
        let this = Arc::clone(self);
        // Apart: a client that leaves early must not cut the pause short.
        tokio::spawn(async move {
            let began = Instant::now();
            let hash = this.hashes.get(&user);
            let exists = hash.is_some();
            let hash = hash.unwrap_or(&this.nobody).clone();
            let same = tokio::task::spawn_blocking(move || {
                bcrypt::verify(password, &hash).unwrap_or(false)
            });
            let right = same.await.unwrap_or(false) && exists;
            let took = began.elapsed();
            this.remember(user, tag, right);
            let _ = tell.send(right);
            if !right {
                time::sleep(took * PAUSE_FACTOR).await;
            }
            drop(turn);
        });
        match told.await {
            Ok(true) => Verdict::Welcome,
            _ => Verdict::Refused,
        }
    }

    fn known(&self, user: &str, tag: &hmac::Tag) -> Option<Verdict> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.verdict(user, tag)
    }

    fn remember(&self, user: String, tag: hmac::Tag, right: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remember(user, tag, right);
    }

    fn tag(&self, user: &str, password: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(&(user.len() as u64).to_le_bytes());
        context.update(user.as_bytes());
        context.update(password);
        context.sign()
    }
}

/// The cost of a user's hash.
fn cost_of(name: &str, hash: &Spanned<String>) -> Result<u32, Fault> {
    let line = hash.referenced.line();
    if name.contains(':') {
        return Err(Fault::invalid(
            line,
            format!("the user {name:?} could not log in: a name has no colon"),
        ));
    }
    // Whatever it is instead, it may be a password: it is not repeated.
    let cost = match HashParts::from_str(&hash.value) {
        Ok(parts) => parts.get_cost(),
        Err(_) => {
            return Err(Fault::invalid(
                line,
                format!(
                    "the password of {name:?} is no bcrypt hash; hash it with: htpasswd -nBC 10 {name}"
                ),
            ));
        }
    };
    if !(MIN_COST..=MAX_COST).contains(&cost) {
        return Err(Fault::invalid(
            line,
            format!(
                "the bcrypt cost of {name:?} is {cost}, beyond {MIN_COST} to {MAX_COST}; hash it with: htpasswd -nBC 10 {name}"
            ),
        ));
    }
    Ok(cost)
}

/// User and password of a request, if it has them.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(&decoded[..colon]).ok()?.to_owned();
    Some((user, decoded[colon + 1..].to_vec()))
}
