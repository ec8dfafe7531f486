//! What a request passes before it is answered: rate, password; and the headers it is answered with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::super::plain;
use super::WebConfig;
use super::auth::Verdict;

/// Checks a request against the configuration as it is now.
///
/// The kubelet's probes can send no password, so health needs none; it says no more than yes or no.
pub(in super::super) async fn guard(
    State(web): State<Arc<WebConfig>>,
    request: Request,
    next: Next,
) -> Response {
    let rules = web.latest();
    let health = matches!(request.uri().path(), "/-/healthy" | "/-/ready");
    let refusal = if health {
        None
    } else if rules.rate.as_ref().is_some_and(|rate| !rate.take()) {
        Some(later(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests: over the rate_limit of the web configuration.\n",
        ))
    } else {
        match &rules.users {
            None => None,
            Some(users) => match users.verdict(request.headers()).await {
                Verdict::Welcome => None,
                Verdict::Refused => Some(unauthorized()),
                Verdict::Busy => Some(later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Too many passwords to check: try again in a second.\n",
                )),
            },
        }
    };
    let mut response = match refusal {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    for (name, value) in &rules.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

fn unauthorized() -> Response {
    let mut response = plain(StatusCode::UNAUTHORIZED, "Unauthorized\n");
    let wanted = HeaderValue::from_static("Basic realm=\"slicewatch\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, wanted);
    response
}

fn later(status: StatusCode, text: &'static str) -> Response {
    let mut response = plain(status, text);
    let second = HeaderValue::from_static("1");
    response.headers_mut().insert(RETRY_AFTER, second);
    response
}

/// A bucket that holds `burst` requests and gets one more each interval.
pub(super) struct Rate {
    interval: Duration,
    burst: u32,
    /// When the bucket is full again; each request puts it off by an interval.
    full: Mutex<Instant>,
}

impl Rate {
    pub(super) fn new((interval, burst): (Duration, u32)) -> Self {
        Self {
            interval,
            burst,
            full: Mutex::new(Instant::now()),
        }
    }

    fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let after = now.max(*full) + self.interval;
        let room = after.duration_since(now) <= self.interval.saturating_mul(self.burst);
        if room {
            *full = after;
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_an_interval() {
        let rate = Rate::new((Duration::from_secs(1), 3));
        let start = Instant::now() + Duration::from_secs(10);
        let at = |millis| rate.take_at(start + Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(999), at(1000), at(1000)], [false, true, false]);
        assert_eq!([at(3000), at(3000), at(3000)], [true, true, false]);
    }
}
