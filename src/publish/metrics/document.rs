//! METRICS.md, made from the table.

use std::fmt::Write;

use super::table::{Metric, Scope, TABLE};

/// The whole file.
pub fn document() -> String {
    let mut out = String::from(INTRODUCTION);
    let parts = [
        ("GPUs", Scope::Gpu, "slicewatch_gpu_"),
        ("Containers", Scope::Container, "slicewatch_pod_"),
        ("Workloads", Scope::Gpu, "slicewatch_workload_"),
        ("The agent and its node", Scope::Node, ""),
    ];
    for (title, scope, prefix) in parts {
        let metrics: Vec<_> = TABLE
            .iter()
            .filter(|metric| metric.scope == scope && metric.name.starts_with(prefix))
            .collect();
        section(&mut out, title, &metrics);
    }
    out
}

const INTRODUCTION: &str = "\
# Metrics

Made from the table in `src/publish/metrics/table.rs` by
`SLICEWATCH_UPDATE=1 cargo test --test it publish::`; a test holds it.

What is unknown has no series: it is never 0. Units are bytes and seconds, never percent.
Counters and peaks of a container stay 75 s after it is gone, its gauges end at once.
`gpu_uuid` is the MIG instance's where there is one; `parent_gpu_uuid` on `slicewatch_gpu_info`
leads to the card. *Stable* names, labels and meanings change only with a new major version;
*evolving* ones may change with a minor one. All values are sampled in the background and belong
to one instant; a scrape reads no device. A histogram is `_bucket` (with `le`), `_sum` and `_count`;
with `--native-histograms` a scrape in protobuf has a native one as well.
";

fn section(out: &mut String, title: &str, metrics: &[&&Metric]) {
    // Writing to a String gives no error.
    let _ = write!(
        out,
        "\n## {title}\n\n\
         | metric | type | labels | stability | meaning | absent when |\n\
         |---|---|---|---|---|---|\n"
    );
    for metric in metrics {
        let labels: Vec<_> = metric.labels().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} |",
            metric.name,
            metric.kind.label(),
            labels.join(", "),
            metric.stability.label(),
            metric.help.replace('|', "\\|"),
            metric.absent,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_stands_in_the_document_once() {
        let text = document();
        for metric in TABLE {
            let cell = format!("| `{}` |", metric.name);
            assert_eq!(text.matches(&cell).count(), 1, "{}", metric.name);
        }
    }
}
