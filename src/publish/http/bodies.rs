//! Bodies of the latest snapshot, each encoded and compressed at most once however many ask.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use axum::body::Bytes;

use super::page::LivePage;
use crate::model::Snapshot;
use crate::publish::metrics::{self, Format, ProcessStats};

/// What can be asked of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Metrics(Format),
    Json,
    Page,
}

/// Kinds.
const KINDS: usize = 5;

impl Kind {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Metrics(format) => format.content_type(),
            Self::Json => "application/json",
            Self::Page => "text/html; charset=utf-8",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Metrics(Format::Text) => 0,
            Self::Metrics(Format::OpenMetrics) => 1,
            Self::Metrics(Format::Protobuf) => 2,
            Self::Json => 3,
            Self::Page => 4,
        }
    }
}

/// A body, or why there is none, in words.
pub(super) type Made = Result<Bytes, String>;

/// The bodies of one snapshot that were asked for so far.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    plain: [OnceLock<Made>; KINDS],
    gzip: [OnceLock<Made>; KINDS],
}

impl Bodies {
    /// A body that is already there.
    pub(super) fn ready(&self, kind: Kind, gzip: bool) -> Option<Made> {
        let made = if gzip { &self.gzip } else { &self.plain };
        made[kind.place()].get().cloned()
    }

    /// The body, made now unless it is there or another thread is at it.
    pub(super) fn make(
        &self,
        kind: Kind,
        gzip: bool,
        snapshot: &Arc<Snapshot>,
        page: Option<&LivePage>,
    ) -> Made {
        let made = || match kind {
            Kind::Metrics(format) => {
                let process = ProcessStats::read();
                Ok(metrics::encode(snapshot, &process, format).into())
            }
            Kind::Json => serde_json::to_vec(snapshot)
                .map(Bytes::from)
                .map_err(|error| error.to_string()),
            Kind::Page => page
                .map(|page| page.render(snapshot))
                .ok_or_else(|| "the live page is off".to_owned()),
        };
        let plain = || self.plain[kind.place()].get_or_init(made).clone();
        if !gzip {
            return plain();
        }
        self.gzip[kind.place()]
            .get_or_init(|| {
                // Browsers take gzip: the plain page would only be kept for nobody.
                let plain = if kind == Kind::Page { made() } else { plain() };
                Ok(metrics::gzip(&plain?).into())
            })
            .clone()
    }
}

/// The bodies of the latest snapshot that was asked for.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Weak: an old snapshot is not kept for want of a scrape. While this lives, no other
    /// snapshot has its address.
    current: Mutex<Option<(Weak<Snapshot>, Arc<Bodies>)>>,
}

impl Cache {
    /// The bodies of `snapshot`. The lock is held for a comparison, and only requests take it.
    pub(super) fn of(&self, snapshot: &Arc<Snapshot>) -> Arc<Bodies> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((of, bodies)) if std::ptr::eq(of.as_ptr(), Arc::as_ptr(snapshot)) => {
                Arc::clone(bodies)
            }
            _ => {
                let bodies = Arc::<Bodies>::default();
                *current = Some((Arc::downgrade(snapshot), Arc::clone(&bodies)));
                bodies
            }
        }
    }
}
