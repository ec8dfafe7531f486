//! What leaves the agent, made from snapshots by hand.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

pub(crate) mod example;
mod hostile;
pub(crate) mod parse;
mod server;

use std::fmt::Write;
use std::sync::Arc;

use slicewatch::model::{CanaryReason, CanaryView, GpuSeconds, Reading, Snapshot};
use slicewatch::publish::metrics::{Format, Kind, TABLE, document, encode};
use slicewatch::publish::terminal;

fn body(snapshot: Snapshot, format: Format) -> Vec<u8> {
    encode(&Arc::new(snapshot), &example::process(), format)
}

fn text_body(snapshot: Snapshot, format: Format) -> String {
    String::from_utf8(body(snapshot, format)).unwrap()
}

#[test]
fn golden_text() {
    insta::assert_snapshot!(text_body(example::full(), Format::Text));
}

#[test]
fn golden_openmetrics() {
    insta::assert_snapshot!(text_body(example::full(), Format::OpenMetrics));
}

#[test]
fn golden_protobuf() {
    let mut out = String::new();
    for family in parse::messages(&body(example::full(), Format::Protobuf)).unwrap() {
        writeln!(out, "{} {:?} {:?}", family.name, family.kind(), family.unit).unwrap();
        for metric in &family.metric {
            let labels: Vec<_> = metric
                .label
                .iter()
                .map(|pair| format!("{}={:?}", pair.name, pair.value))
                .collect();
            write!(out, "  {}", labels.join(" ")).unwrap();
            match (metric.counter.or(metric.gauge), &metric.histogram) {
                (Some(value), None) => writeln!(out, " {}", value.value).unwrap(),
                (None, Some(histogram)) => writeln!(out, "\n{histogram:#?}").unwrap(),
                _ => panic!("{metric:?}"),
            }
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn native_buckets_come_back_and_a_false_count_leaves_them_out() {
    let histogram = |snapshot| {
        let families = parse::messages(&body(snapshot, Format::Protobuf)).unwrap();
        let family = families
            .into_iter()
            .find(|family| family.name == "slicewatch_gpu_canary_delay_seconds");
        family.unwrap().metric.swap_remove(0).histogram.unwrap()
    };
    let mut snapshot = example::full();
    let read = histogram(snapshot.clone());
    let Reading::Value(delays) = &mut snapshot.gpus[0].canary.delays else {
        panic!("the example has delays");
    };
    let wrote = delays.native.as_mut().unwrap();
    assert_eq!(
        (read.schema, read.zero_threshold, read.zero_count),
        (Some(wrote.schema), wrote.zero_threshold, wrote.zero_count)
    );
    let spans: Vec<_> = read
        .positive_span
        .iter()
        .map(|span| (span.offset, span.length))
        .collect();
    assert_eq!(spans, [(-32, 2), (8, 3), (27, 1)]);
    assert_eq!(parse::native(&read), Ok(Some(wrote.positive.clone())));

    wrote.zero_count += 1;
    assert_eq!(parse::native(&histogram(snapshot)), Ok(None));
}

#[test]
fn a_snapshot_without_canaries_says_nothing_of_delays() {
    let mut snapshot = example::full();
    for gpu in &mut snapshot.gpus {
        gpu.canary = CanaryView::off(CanaryReason::Disabled);
        for container in &mut gpu.containers {
            container.delay = Reading::Unsupported;
        }
    }
    snapshot.sources.clear();
    let text = terminal::table(&snapshot, None);
    for word in ["canary", "waits", "inflicted"] {
        assert!(!text.contains(word), "{text}");
    }
    let families = parse::text(&text_body(snapshot, Format::Text)).unwrap();
    let told: Vec<_> = families
        .keys()
        .filter(|name| name.contains("canary") || name.contains("delay"))
        .collect();
    assert_eq!(told, ["slicewatch_gpu_canary_state"]);
}

#[test]
fn golden_json() {
    insta::assert_json_snapshot!(example::full());
}

#[test]
fn golden_table() {
    insta::assert_snapshot!(terminal::table(&example::full(), Some(160)));
}

#[test]
fn golden_narrow_table_between_two_snapshots() {
    let earlier = example::full();
    let mut later = example::full();
    later.at = later.at.later(std::time::Duration::from_secs(10));
    // Ten more probes: they waited 20 ms more for this one, and those of it 30 ms for others.
    let Reading::Value(delays) = &mut later.gpus[0].canary.delays else {
        panic!("the example has delays");
    };
    delays.counts[6] += 10;
    let hostile = &mut later.gpus[0].containers[4];
    let Reading::Value(delay) = &mut hostile.delay else {
        panic!("the example's last container has delays");
    };
    delay.inflicted.0 += 0.020;
    delay.exposed.0 += 0.030;
    delay.exposed_probes += 6.0;
    let container = &mut later.gpus[0].containers[3];
    container.gpu_time = Reading::Value(GpuSeconds(4.0));
    container.gpu_samples += 20;
    // A counter that goes back: the agent was started anew.
    later.gpus[0].containers[2].gpu_samples = 0;
    let text = terminal::table_between(&earlier, &later, Some(100));
    assert!(text.contains("40.0 %"), "{text}");
    assert!(text.contains(" 2.00 ms    5.00 ms"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn golden_table_of_a_node_without_gpus() {
    insta::assert_snapshot!(terminal::table(&example::empty(), None));
}

#[test]
fn the_json_form_comes_back_as_it_was() {
    let snapshot = example::full();
    let json = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["at"]["unix_seconds"], 1_795_255_384.5);
}

#[test]
fn the_three_forms_say_the_same() {
    let text = parse::text(&text_body(example::full(), Format::Text)).unwrap();
    let open = parse::openmetrics(&text_body(example::full(), Format::OpenMetrics)).unwrap();
    let proto = parse::protobuf(&body(example::full(), Format::Protobuf)).unwrap();
    assert_eq!(text, open);
    assert_eq!(text, proto);
}

#[test]
fn every_metric_of_the_table_is_in_the_example_with_its_labels() {
    let families = parse::text(&text_body(example::full(), Format::Text)).unwrap();
    for metric in TABLE {
        // The example's process has no limit of descriptors.
        if metric.name == "process_max_fds" {
            assert!(!families.contains_key(metric.name));
            continue;
        }
        let (kind, series) = families
            .get(metric.name)
            .unwrap_or_else(|| panic!("{} has no series", metric.name));
        assert_eq!(kind, metric.kind.label());
        let mut wanted: Vec<_> = metric.labels().collect();
        wanted.sort_unstable();
        for labels in series.keys() {
            let mut labels = labels.clone();
            if metric.kind == Kind::Histogram {
                labels.remove(parse::SAMPLE);
                labels.remove("le");
            }
            assert!(labels.keys().eq(&wanted), "{}: {labels:?}", metric.name);
        }
    }
    assert_eq!(families.len(), TABLE.len() - 1);
}

#[test]
fn unknown_gives_no_series() {
    let families = parse::text(&text_body(example::full(), Format::Text)).unwrap();
    let count = |name: &str, label: &str, value: &str| {
        families[&format!("slicewatch_{name}")]
            .1
            .keys()
            .filter(|labels| labels.get(label).is_some_and(|have| have == value))
            .count()
    };
    // Family, label, its value, and how many series there are.
    let cases = [
        // Of a lost GPU: identity, its state, counters and what the kubelet says.
        ("gpu_info", "gpu_uuid", "GPU-1111", 1),
        ("gpu_up", "gpu_uuid", "GPU-1111", 1),
        ("gpu_framebuffer_used_bytes", "gpu_uuid", "GPU-1111", 0),
        (
            "gpu_framebuffer_unattributed_bytes",
            "gpu_uuid",
            "GPU-1111",
            0,
        ),
        ("gpu_tenants", "gpu_uuid", "GPU-1111", 0),
        ("gpu_busy_seconds_total", "gpu_uuid", "GPU-1111", 1),
        ("gpu_replicas", "gpu_uuid", "GPU-1111", 1),
        // Of a card in MIG mode: no more than identity, state and faults.
        ("gpu_info", "gpu_uuid", "GPU-2222", 1),
        ("gpu_up", "gpu_uuid", "GPU-2222", 1),
        ("gpu_xid_errors_total", "gpu_uuid", "GPU-2222", 2),
        (
            "gpu_framebuffer_pressure_seconds_total",
            "gpu_uuid",
            "GPU-2222",
            0,
        ),
        ("gpu_replicas", "gpu_uuid", "GPU-2222", 0),
        // Of an instance: memory, and no time; its kubelet was not heard.
        ("pod_framebuffer_bytes", "pod", "slice-0", 1),
        ("pod_gpu_seconds_total", "pod", "slice-0", 0),
        ("pod_gpu_samples_total", "pod", "slice-0", 0),
        ("pod_active_seconds_total", "pod", "slice-0", 0),
        ("pod_replicas", "pod", "slice-0", 0),
        ("pod_processes", "pod", "slice-0", 1),
        // Of a container that is gone: peak and counters.
        ("pod_framebuffer_bytes", "pod", "killed-0", 0),
        ("pod_info", "pod", "killed-0", 0),
        ("pod_processes", "pod", "killed-0", 0),
        ("pod_replicas", "pod", "killed-0", 0),
        ("pod_framebuffer_peak_bytes", "pod", "killed-0", 1),
        ("pod_gpu_seconds_total", "pod", "killed-0", 1),
        ("pod_exits_under_pressure_total", "pod", "killed-0", 1),
        ("pod_inflicted_delay_seconds_total", "pod", "killed-0", 1),
        // Of a canary: its state, why, and what it found out, also where it yielded.
        ("gpu_canary_state", "state", "running", 1),
        ("gpu_canary_state", "state", "yielded", 1),
        ("gpu_canary_state", "state", "stalled", 1),
        ("gpu_canary_state", "state", "off", 2),
        ("gpu_canary_state", "reason", "low_memory", 1),
        ("gpu_canary_state", "gpu_uuid", "GPU-2222", 0),
        ("gpu_canary_delay_seconds", "gpu_uuid", "GPU-0000", 18),
        ("gpu_canary_delay_seconds", "gpu_uuid", "GPU-3333", 18),
        ("gpu_canary_delay_seconds", "gpu_uuid", "GPU-4444", 0),
        ("gpu_canary_baseline_seconds", "gpu_uuid", "GPU-0000", 4),
        ("gpu_canary_baseline_seconds", "gpu_uuid", "GPU-3333", 0),
        ("gpu_canary_stall_seconds", "gpu_uuid", "GPU-0000", 1),
        ("gpu_canary_stall_seconds", "gpu_uuid", "GPU-3333", 0),
        ("gpu_canary_stall_seconds", "gpu_uuid", "GPU-4444", 1),
        ("gpu_canary_missed_probes_total", "gpu_uuid", "GPU-1111", 0),
        ("gpu_canary_missed_probes_total", "gpu_uuid", "GPU-3333", 1),
        ("gpu_canary_missed_probes_total", "gpu_uuid", "GPU-4444", 1),
        ("gpu_canary_clock_error_seconds", "gpu_uuid", "GPU-0000", 1),
        ("gpu_canary_clock_error_seconds", "gpu_uuid", "GPU-3333", 0),
        (
            "gpu_unattributed_delay_seconds_total",
            "gpu_uuid",
            "GPU-3333",
            4,
        ),
        (
            "gpu_unattributed_delay_seconds_total",
            "gpu_uuid",
            "GPU-4444",
            0,
        ),
        ("pod_exposed_probes_total", "pod", "slice-0", 0),
        // Memory that the driver does not tell; a container that is not known by name.
        ("pod_framebuffer_bytes", "pod", example::HOSTILE, 0),
        ("pod_gpu_seconds_total", "namespace", example::HOSTILE, 1),
    ];
    for (name, label, value, wanted) in cases {
        assert_eq!(count(name, label, value), wanted, "{name} {label}={value}");
    }
    let seconds = &families["slicewatch_pod_gpu_seconds_total"].1;
    let train: Vec<_> = seconds
        .iter()
        .filter(|(labels, _)| labels["pod"] == "train-0")
        .collect();
    assert_eq!(train.len(), 1, "one series for a restarted container");
    assert_eq!(*train[0].1, 123.4, "that of the one which is there");
    let up = &families["slicewatch_gpu_up"].1;
    let lost = up
        .iter()
        .find(|(labels, _)| labels["gpu_uuid"] == "GPU-1111");
    assert_eq!(lost.map(|(_, value)| *value), Some(0.0));
}

#[test]
fn tables_keep_their_width_and_names_stay_in_their_line() {
    for width in [60, 80, 100, 120, 200] {
        let text = terminal::table(&example::full(), Some(width));
        for line in text.lines() {
            let columns = unicode_width::UnicodeWidthStr::width(line);
            assert!(columns <= usize::from(width), "{columns} columns: {line}");
        }
    }
    let text = terminal::table(&example::full(), None);
    assert!(text.contains(r#"we"ird\\n<b>🦀"#), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    assert!(terminal::table(&example::empty(), None).contains("No GPU"));
}

#[test]
fn metrics_md_is_made_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/METRICS.md");
    let wanted = document::document();
    if std::env::var_os("SLICEWATCH_UPDATE").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let have = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        have == wanted,
        "dashboards/METRICS.md is not what the table says: run the command that stands in it"
    );
}
