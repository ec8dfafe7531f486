//! The page's HTML, from snapshots by hand.

use std::fs;
use std::path::Path;

use slicewatch::model::{Cause, Reading, Severity};
use slicewatch::publish::charts::{
    Axis, Bar, Curve, Label, Mark, Point, Segment, bar, lines, ranked, stack,
};
use slicewatch::publish::history::History;
use slicewatch::publish::web;

use super::{full, seen};

use crate::publish::example::{self, HOSTILE};

/// Names of links to pods.
fn pods(page: &str) -> Vec<&str> {
    let links = page.split("data-pod=\"").skip(1);
    links.map(|rest| rest.split('"').next().unwrap()).collect()
}

#[test]
fn golden_page() {
    let (history, snapshot) = full();
    insta::assert_snapshot!(web::page(Some(&snapshot), &history).replace("><", ">\n<"));
}

#[test]
fn golden_charts() {
    let label = Label::Image {
        title: "Memory",
        description: "At most 12 GiB.",
    };
    let points = [Some(0.2), Some(0.8), None, Some(0.5)].map(|value| value);
    let points: Vec<Point> = (0..)
        .zip(points)
        .map(|(index, value)| Point {
            at: index as f32 / 3.0,
            value,
        })
        .collect();
    let axis = Axis {
        top: 1.0,
        ticks: &[(0.5, "50 %".to_owned()), (1.0, "100 %".to_owned())],
        ends: ["15 min ago", "now"],
    };
    let curve = Curve {
        class: "busy",
        points: &points,
        area: true,
    };
    let mark = Mark {
        class: "baseline",
        value: 0.25,
    };
    let segment = |class, value| Segment {
        class,
        value,
        name: "a/b: 1 GiB",
    };
    let row = |name, value| Bar {
        class: "c0",
        name,
        words: "1.2 ms",
        value,
    };
    let charts = [
        lines(&label, &axis, &[curve], &[mark]),
        stack(
            &label,
            4.0,
            &[segment("c0", 1.0), segment("rest", 2.0)],
            &[2.0],
        ),
        bar(&Label::Decoration, 4.0, 3.0, Some(1.0)),
        ranked(&label, &[row("shop/search", 2.0), row("<b>", 1.0)]),
    ];
    insta::assert_snapshot!(charts.join("\n").replace("><", ">\n<"));
}

/// What tests/page shows to a real browser.
#[test]
fn the_pages_that_the_browser_looks_at_are_what_is_made() {
    let (history, snapshot) = full();
    let page = web::page(Some(&snapshot), &history);
    let hostile = snapshot.gpus.iter().flat_map(|gpu| &gpu.containers);
    assert!(
        hostile
            .into_iter()
            .any(|container| &*container.pod == HOSTILE)
    );
    let ids = pods(&page);
    let panel = web::pod(&snapshot, &history, ids[ids.len() - 1]).unwrap();
    for (name, made) in [("hostile.html", page), ("hostile-pod.html", panel)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/page")
            .join(name);
        if std::env::var_os("SLICEWATCH_UPDATE").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == made,
            "{} is not what is made: SLICEWATCH_UPDATE=1 cargo test --test it page::",
            path.display()
        );
    }
}

#[test]
fn names_stay_text_wherever_they_stand() {
    const MARKUP: &str = "</title></script><script>alert(1)</script>\"'><img src=x>";
    let (history, snapshot) = full();
    let mut snapshot = (*snapshot).clone();
    snapshot.node = Some(MARKUP.into());
    snapshot.build.version = MARKUP.into();
    for gpu in snapshot.gpus.iter_mut().chain(&mut snapshot.mig_cards) {
        let mut identity = (*gpu.identity).clone();
        identity.index = MARKUP.into();
        identity.model = MARKUP.into();
        if let Some(mig) = &mut identity.mig {
            mig.profile = MARKUP.into();
        }
        gpu.identity = identity.into();
        for container in &mut gpu.containers {
            container.namespace = MARKUP.into();
            container.container = MARKUP.into();
            container.workload.name = MARKUP.into();
            container.workload.kind = MARKUP.into();
            container.qos = MARKUP.into();
        }
    }
    for finding in &mut snapshot.findings {
        finding.code = MARKUP.into();
        finding.subject = MARKUP.into();
        finding.evidence = MARKUP.into();
        finding.mend = MARKUP.into();
    }
    for source in &mut snapshot.sources {
        source.detail = MARKUP.into();
    }
    let page = web::page(Some(&snapshot), &history);
    let mut all = vec![page.clone()];
    all.extend(
        pods(&page)
            .into_iter()
            .filter_map(|id| web::pod(&snapshot, &history, id)),
    );
    assert!(all.len() > 3, "each pod has a page");
    for page in all {
        assert_eq!(page.matches("<script").count(), 1, "the page's own");
        assert_eq!(
            page.matches("<title>").count() - page.matches("</title>").count(),
            0
        );
        for forbidden in [
            "<img",
            "alert(1)</script>",
            " style=",
            " onload=",
            "javascript:",
        ] {
            assert!(!page.contains(forbidden), "{forbidden} in {page}");
        }
    }
}

#[test]
fn unknown_is_said_and_why() {
    let (history, mut snapshot) = seen(1, 2, 60);
    let cause = Cause::GpuLost;
    let gpu = &mut snapshot.gpus[0];
    gpu.up = Reading::Failed(cause);
    gpu.memory = Reading::Failed(cause);
    gpu.busy = Reading::Failed(cause);
    gpu.canary.recent = Reading::Failed(Cause::Stale);
    gpu.containers[0].memory = Reading::Failed(cause);
    gpu.containers[0].gpu_time = Reading::Failed(cause);
    let page = web::page(Some(&snapshot), &history);
    assert!(
        page.contains("This GPU does not answer: gpu lost"),
        "{page}"
    );
    assert!(page.contains("unknown (gpu lost)"), "{page}");
    assert!(page.contains("unknown (stale"), "{page}");
    assert!(!page.contains(">0\u{a0}B<"), "{page}");
}

#[test]
fn a_node_without_anything_says_why() {
    let page = web::page(None, &History::new());
    assert!(page.contains("no snapshot yet"), "{page}");
    assert!(page.contains("data-at=\"\""), "{page}");
    let mut snapshot = example::empty();
    for source in &mut snapshot.sources {
        source.up = Reading::Failed(Cause::DriverNotLoaded);
    }
    let page = web::page(Some(&snapshot), &History::new());
    assert!(page.contains("No GPU to show"), "{page}");
    assert!(
        page.contains("Nothing to mend") || !snapshot.findings.is_empty(),
        "{page}"
    );
}

#[test]
fn sixteen_gpus_have_an_overview_and_links_that_lead_somewhere() {
    let (history, snapshot) = seen(16, 4, 30);
    let page = web::page(Some(&snapshot), &history);
    let targets: Vec<_> = page
        .split("href=\"#")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(
        targets
            .iter()
            .filter(|target| target.starts_with('g'))
            .count(),
        16
    );
    let mut ids: Vec<_> = page
        .split(" id=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    for target in targets {
        assert!(ids.contains(&target), "{target}");
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "no name is there twice");
    for id in pods(&page) {
        assert!(web::pod(&snapshot, &history, id).is_some(), "{id}");
    }
    assert!(web::pod(&snapshot, &history, "p0").is_none());
    assert!(web::pod(&snapshot, &history, "").is_none());
}

#[test]
fn errors_are_open_and_notes_folded() {
    let (history, snapshot) = full();
    let mut snapshot = (*snapshot).clone();
    snapshot.findings.truncate(1);
    snapshot.findings[0].severity = Severity::Error;
    let page = web::page(Some(&snapshot), &history);
    assert!(
        page.contains("\" open><summary><span class=\"severity\">error"),
        "{page}"
    );
    snapshot.findings[0].severity = Severity::Info;
    let page = web::page(Some(&snapshot), &history);
    assert!(
        page.contains("Nothing to mend") && page.contains("for information"),
        "{page}"
    );
}
