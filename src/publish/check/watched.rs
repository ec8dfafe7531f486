//! What `check --watch` serves: the last look's findings, as metrics and JSON.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use super::Cluster;
use crate::model::setup::{ObjectRef, SetupFinding, SetupReport};
use crate::publish::metrics::Format;

type Labels = Vec<(&'static str, String)>;

/// The state of the watch after a look. Findings are those of the last look that was whole, which saw
/// at least what the one before it saw: who could not look has mended nothing.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    found: Option<Arc<Cluster>>,
    /// When that look ended, since 1970.
    found_at: Duration,
    /// Whether the last look was whole.
    whole: bool,
    /// How long the last look took; absent before the first.
    took: Option<Duration>,
}

impl Watched {
    /// After a look that was whole.
    #[must_use]
    pub fn found(found: Cluster, at: Duration, took: Duration) -> Self {
        Self {
            found: Some(Arc::new(found)),
            found_at: at,
            whole: true,
            took: Some(took),
        }
    }

    /// After one that could not see all.
    #[must_use]
    pub fn missed(&self, took: Duration) -> Self {
        Self {
            whole: false,
            took: Some(took),
            ..self.clone()
        }
    }

    /// What the last whole look could not see, for want of rights; `None` before there was one.
    pub fn unseen(&self) -> Option<BTreeSet<&str>> {
        let found = self.found.as_deref()?;
        Some(
            found
                .not_checked()
                .iter()
                .map(|it| it.what.as_str())
                .collect(),
        )
    }

    /// The findings, as their labels are: to tell what is new and what is gone.
    pub fn findings(&self) -> BTreeSet<(&'static str, &'static str, String, String)> {
        let report = self.found.as_deref().map(Cluster::report);
        let findings = report.into_iter().flat_map(|report| &report.findings);
        findings
            .map(|it| {
                let node = it.node.clone().unwrap_or_default();
                (it.code, it.severity.label(), subject(&it.object), node)
            })
            .collect()
    }

    /// OpenMetrics text.
    fn metrics(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        let whole: Gauge = Gauge::default();
        whole.set(self.whole.into());
        registry.register(
            "slicewatch_check_up",
            "1 where the last look at the cluster saw all it was to see",
            whole,
        );
        if let Some(took) = self.took {
            let seconds: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
            seconds.set(took.as_secs_f64());
            registry.register_with_unit(
                "slicewatch_check_duration",
                "How long the last look took",
                Unit::Seconds,
                seconds,
            );
        }
        if let Some(found) = &self.found {
            let at: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
            at.set(self.found_at.as_secs_f64());
            registry.register_with_unit(
                "slicewatch_check_last_success_timestamp",
                "When the last look that saw all ended, since 1970-01-01 UTC",
                Unit::Seconds,
                at,
            );
            findings(&mut registry, found.report());
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn findings(registry: &mut Registry, report: &SetupReport) {
    let family = Family::<Labels, Gauge>::default();
    for finding in &report.findings {
        family.get_or_create(&labels(finding)).set(1);
    }
    registry.register(
        "slicewatch_finding",
        "1 while something is so that a person should mend; absent otherwise",
        family,
    );
    let family = Family::<Labels, Gauge>::default();
    for (code, more) in &report.left_out {
        let more = i64::try_from(*more).unwrap_or(i64::MAX);
        family
            .get_or_create(&vec![("code", (*code).to_owned())])
            .set(more);
    }
    registry.register(
        "slicewatch_check_findings_left_out",
        "Findings of a code beyond those that have a series",
        family,
    );
}

fn labels(finding: &SetupFinding) -> Labels {
    let mut labels = vec![
        ("code", finding.code.to_owned()),
        ("severity", finding.severity.label().to_owned()),
        ("subject", subject(&finding.object)),
    ];
    labels.extend(finding.node.clone().map(|node| ("node", node)));
    labels
}

/// `ConfigMap gpu-operator/time-slicing-config`.
fn subject(object: &ObjectRef) -> String {
    let ObjectRef {
        kind,
        namespace,
        name,
    } = object;
    let name = match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.clone(),
    };
    format!("{kind} {name}").trim_end().to_owned()
}

type Latest = watch::Receiver<Watched>;

/// `/metrics`, `/api/v1/findings` and health.
pub fn pages(latest: Latest) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/findings", get(json))
        .route("/-/healthy", get(async || "The watch is running.\n"))
        .route("/-/ready", get(ready))
        .with_state(latest)
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response {
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}

const PLAIN: &str = "text/plain; charset=utf-8";
const NOT_YET: &str = "Not ready: the cluster was not seen whole yet.\n";

fn encoded<E: ToString>(kind: &'static str, text: Result<String, E>) -> Response {
    match text {
        Ok(text) => answer(StatusCode::OK, kind, text),
        Err(error) => answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            PLAIN,
            format!("The findings could not be encoded: {}\n", error.to_string()),
        ),
    }
}

async fn metrics(State(latest): State<Latest>) -> Response {
    let watched = latest.borrow().clone();
    encoded(Format::OpenMetrics.content_type(), watched.metrics())
}

async fn json(State(latest): State<Latest>) -> Response {
    let found = latest.borrow().found.clone();
    match found {
        Some(found) => encoded("application/json", serde_json::to_string(&*found)),
        None => answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, NOT_YET.to_owned()),
    }
}

async fn ready(State(latest): State<Latest>) -> Response {
    if latest.borrow().found.is_some() {
        answer(StatusCode::OK, PLAIN, "Ready.\n".to_owned())
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, NOT_YET.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    fn cluster(findings: Vec<SetupFinding>) -> Cluster {
        let report = SetupReport {
            findings,
            left_out: [("labels_out_of_date", 7)].into(),
            ..SetupReport::default()
        };
        Cluster::new("https://x".to_owned(), report, Vec::new(), true)
    }

    fn finding(node: Option<&str>) -> SetupFinding {
        SetupFinding {
            code: "config_edited_not_rolled_out",
            severity: Severity::Error,
            object: ObjectRef {
                kind: "ConfigMap".to_owned(),
                namespace: Some("gpu-operator".to_owned()),
                name: "a\"b".to_owned(),
            },
            node: node.map(str::to_owned),
            field: None,
            expected: None,
            found: None,
            words: String::new(),
            mend: Vec::new(),
        }
    }

    #[test]
    fn findings_are_series_while_they_are_true() {
        let at = Duration::from_secs(1_700_000_000);
        let took = Duration::from_millis(250);
        let first = Watched::found(
            cluster(vec![finding(None), finding(Some("gpu-1"))]),
            at,
            took,
        );
        let text = first.metrics().unwrap();
        let labels = r#"code="config_edited_not_rolled_out",severity="error",subject="ConfigMap gpu-operator/a\"b""#;
        assert!(
            text.contains(&format!("slicewatch_finding{{{labels}}} 1\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("{labels},node=\"gpu-1\"}} 1\n")),
            "{text}"
        );
        assert!(text.contains("slicewatch_check_up 1\n"), "{text}");
        assert!(
            text.contains("slicewatch_check_duration_seconds 0.25\n"),
            "{text}"
        );
        assert!(
            text.contains("left_out{code=\"labels_out_of_date\"} 7\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");

        // Who could not look has mended nothing.
        let blind = first.missed(took).metrics().unwrap();
        assert!(blind.contains("slicewatch_check_up 0\n"), "{blind}");
        assert_eq!(blind.matches("slicewatch_finding{").count(), 2);
        assert!(
            blind.contains("last_success_timestamp_seconds 1700000000.0\n"),
            "{blind}"
        );

        let mended = Watched::found(cluster(Vec::new()), at, took);
        assert!(!mended.metrics().unwrap().contains("slicewatch_finding{"));
        assert!(mended.findings().is_empty());
        assert_eq!(first.findings().len(), 2);
    }

    #[test]
    fn before_the_first_look_nothing_is_said_of_findings() {
        let text = Watched::default().metrics().unwrap();
        assert!(text.contains("slicewatch_check_up 0\n"), "{text}");
        assert!(!text.contains("finding"), "{text}");
        assert!(!text.contains("last_success"), "{text}");
        assert!(!text.contains("duration"), "{text}");
    }
}
