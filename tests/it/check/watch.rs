//! `check --watch`: findings as metrics while they are true.

use std::time::{Duration, Instant};

use serde_json::json;

use super::gpu_cluster::{CONFIG_MAPS, PODS, time_sliced};
use super::{Cluster, Fault, command};
use crate::agent::Agent;

const CONFIG_MAPS_OF: &str = "/namespaces/gpu-operator/configmaps";

fn watch(cluster: &Cluster) -> Agent {
    let kubeconfig = cluster.kubeconfig();
    let mut command = command(&["--kubeconfig", kubeconfig.to_str().unwrap(), "--watch"]);
    command.args([
        "--interval",
        "200ms",
        "--listen",
        "127.0.0.1:0",
        "--timeout",
        "1s",
    ]);
    Agent::start(command)
}

/// When the ConfigMap's data were changed last.
fn edited_at(cluster: &Cluster, time: &str) {
    let mut script = cluster.api.script();
    let objects = script.objects.as_mut().unwrap();
    let map = "gpu-operator/time-slicing-config";
    objects.change(CONFIG_MAPS, map, |map| {
        map["metadata"]["managedFields"][0]["time"] = json!(time);
    });
}

/// The metrics, once they have these words, or have them no more.
fn until(watch: &Agent, words: &str, there: bool) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let (status, text) = watch.get("/metrics");
        assert_eq!(status, 200, "{text}");
        if text.contains(words) == there {
            return text;
        }
        assert!(Instant::now() < until, "{words} {there}: {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_finding_comes_and_goes_and_a_blind_look_mends_nothing() {
    let cluster = Cluster::of(time_sliced(2, 1));
    let watch = watch(&cluster);
    let clean = until(&watch, "\nslicewatch_check_up 1\n", true);
    assert!(!clean.contains("slicewatch_finding{"), "{clean}");
    assert_eq!(watch.get("/-/ready").0, 200);

    edited_at(&cluster, "2026-11-20T11:00:00Z");
    let found = until(
        &watch,
        "code=\"config_edited_not_rolled_out\",severity=\"warning\"",
        true,
    );
    assert!(found.contains("node=\"gpu-00001\"} 1"), "{found}");
    let json = watch.get("/api/v1/findings").1;
    assert!(
        json.contains("kubectl -n gpu-operator rollout restart"),
        "{json}"
    );

    // A server that is gone has mended nothing.
    cluster.fault(PODS, 0, 60, Fault::Status(500));
    let blind = until(&watch, "\nslicewatch_check_up 0\n", true);
    assert!(
        blind.contains("code=\"config_edited_not_rolled_out\""),
        "{blind}"
    );
    cluster.api.script().object_faults.clear();
    until(&watch, "\nslicewatch_check_up 1\n", true);
    // Nor has who took a right away.
    cluster.fault(CONFIG_MAPS_OF, 0, 10_000, Fault::Status(403));
    let blind = until(&watch, "\nslicewatch_check_up 0\n", true);
    assert!(
        blind.contains("code=\"config_edited_not_rolled_out\""),
        "{blind}"
    );
    cluster.api.script().object_faults.clear();
    until(&watch, "\nslicewatch_check_up 1\n", true);

    edited_at(&cluster, "2026-11-20T09:00:00Z");
    until(&watch, "config_edited_not_rolled_out", false);
    cluster.api.assert_read_only();

    let (_, log) = watch.end();
    // A line for each that came or went, and none for those that stay.
    for words in [" found ", " no longer so "] {
        let lines = log.lines().filter(|line| line.contains(words)).count();
        assert_eq!(lines, 4, "{words}:\n{log}");
    }
}
