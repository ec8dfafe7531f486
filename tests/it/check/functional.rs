//! `check --functional` against a fake API server that schedules.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::gpu_cluster::{NODES, PODS, time_sliced};
use super::{Cluster, Said, check, command};
use crate::agent::output;
use crate::cluster::trials::Trials;

const GPU: &str = "GPU-00000000-0000-0000-0000-000000000001";
const OTHER: &str = "GPU-00000000-0000-0000-0000-000000000002";

/// A cluster with one node, its agent, and what becomes of the trial's pods.
fn cluster(trials: Trials) -> Cluster {
    let mut objects = time_sliced(1, 0);
    objects.add(
        PODS,
        &json!({"metadata": {"namespace": "slicewatch", "name": "slicewatch-x", "labels":
            {"app.kubernetes.io/name": "slicewatch", "app.kubernetes.io/component": "agent"}},
            "spec": {"nodeName": "gpu-00000", "containers": [{"name": "agent", "args": ["agent"], "image": "localhost/slicewatch:7",
                "ports": [{"name": "metrics", "containerPort": 9735}]}]},
            "status": {"phase": "Running"}}),
    );
    let cluster = Cluster::of(objects);
    cluster.api.script().trials = Some(trials);
    cluster
}

fn run(cluster: &Cluster, arguments: &[&str], status: i32) -> Value {
    let kubeconfig = cluster.kubeconfig();
    let with = [
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--functional",
        "--wait",
        "3s",
    ];
    let said = check(&[&with[..], arguments, &["--output", "json"]].concat());
    assert_eq!(said.status, Some(status), "{} {}", said.out, said.error);
    said.json()
}

fn left(cluster: &Cluster) -> usize {
    cluster.api.script().trials.as_ref().unwrap().pods.len()
}

/// A snapshot in which the agent shows each pod where it is.
fn truthful(pods: &BTreeMap<String, Option<&'static str>>) -> Value {
    snapshot(pods, |gpu| gpu)
}

fn snapshot(
    pods: &BTreeMap<String, Option<&'static str>>,
    shown: impl Fn(&'static str) -> &'static str,
) -> Value {
    static QUIET: OnceLock<Value> = OnceLock::new();
    let quiet = QUIET.get_or_init(|| {
        let mut command = std::process::Command::new(crate::agent::BINARY);
        command.args([
            "snapshot",
            "--scenario",
            "quiet",
            "--format",
            "json",
            "--duration",
            "10s",
        ]);
        Said::of(output(&mut command)).json()
    });
    let mut all = quiet.clone();
    let card = all["gpus"][0].clone();
    let row = card["containers"][0].clone();
    let cards = [GPU, OTHER].map(|uuid| {
        let mut card = card.clone();
        card["identity"]["uuid"] = json!(uuid);
        card["processes"] = json!([]);
        let on = pods.iter().filter(|(_, gpu)| gpu.map(&shown) == Some(uuid));
        let rows = on.map(|(name, _)| {
            let mut row = row.clone();
            row["namespace"] = json!("default");
            row["pod"] = json!(name);
            row
        });
        card["containers"] = rows.collect();
        card
    });
    all["gpus"] = json!(cards);
    all
}

#[test]
fn two_pods_on_one_gpu_pass_from_inside_and_from_the_agent() {
    let cluster = cluster(Trials {
        agent: Some(truthful),
        ..Trials::on(vec![GPU])
    });
    let found = run(&cluster, &[], 0);
    assert_eq!(found["outcome"], "shared", "{found:#}");
    assert_eq!(found["shared_gpu"], GPU);
    assert_eq!(found["agent_agrees"], true);
    assert_eq!(found["pods"].as_array().unwrap().len(), 2);
    assert_eq!(found["pods"][0]["told_by"], "driver");
    assert_eq!(left(&cluster), 0);
    let script = cluster.api.script();
    let pod = &script.trials.as_ref().unwrap().made[0];
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["image"], "localhost/slicewatch:7");
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "1");
    let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"];
    assert_eq!(terms[0]["matchFields"][0]["values"][0], "gpu-00000");
    // Where this program is killed they end by themselves.
    assert!(pod["spec"]["activeDeadlineSeconds"].as_u64().unwrap() < 600);
    drop(script);

    let kubeconfig = cluster.kubeconfig();
    let said = check(&["--kubeconfig", kubeconfig.to_str().unwrap(), "--functional"]);
    assert!(
        said.out.ends_with(&format!(
            "shared: two pods were on {GPU} at the same time\n"
        )),
        "{}",
        said.out
    );
}

#[test]
fn without_the_drivers_library_the_plugins_word_counts_and_without_the_agent_it_is_said() {
    let cluster = cluster(Trials {
        says: |gpu| Some(json!({"gpus": [], "driver_error": "no library", "visible_devices": gpu})),
        ..Trials::on(vec![GPU])
    });
    let found = run(&cluster, &[], 0);
    assert_eq!(
        found["pods"][1]["told_by"], "NVIDIA_VISIBLE_DEVICES",
        "{found:#}"
    );
    assert_eq!(found["agent_agrees"], Value::Null);
    assert!(
        found["words"][0]
            .as_str()
            .unwrap()
            .contains("get pods/proxy"),
        "{found:#}"
    );
}

#[test]
fn what_is_not_shared_fails_with_the_reason_and_leaves_nothing() {
    let waiting = cluster(Trials {
        room: 1,
        ..Trials::on(vec![GPU])
    });
    let found = run(&waiting, &[], 1);
    assert_eq!(found["outcome"], "not_shared");
    assert_eq!(found["code"], "functional_not_shared");
    let why = found["pods"][1]["why"].as_str().unwrap();
    assert!(why.contains("Insufficient nvidia.com/gpu"), "{why}");
    assert_eq!(left(&waiting), 0);

    let apart = cluster(Trials::on(vec![GPU, OTHER]));
    let found = run(&apart, &[], 1);
    assert!(
        found["words"].to_string().contains("gpu.count"),
        "{found:#}"
    );
    assert_eq!(left(&apart), 0);

    let silent = cluster(Trials {
        says: |_| {
            Some(json!({"gpus": [], "driver_error": "no library", "visible_devices": "void"}))
        },
        ..Trials::on(vec![GPU])
    });
    let found = run(&silent, &[], 1);
    assert!(
        found["words"].to_string().contains("--runtime-class"),
        "{found:#}"
    );

    let wrong: fn(&BTreeMap<_, _>) -> Value = |pods| snapshot(pods, |_| OTHER);
    let disagrees = cluster(Trials {
        agent: Some(wrong),
        ..Trials::on(vec![GPU])
    });
    let found = run(&disagrees, &[], 1);
    assert_eq!(
        (&found["outcome"], &found["agent_agrees"]),
        (&"shared".into(), &false.into())
    );
}

#[test]
fn what_may_not_be_tried_is_said_and_nothing_is_left() {
    let denied = cluster(Trials {
        denied: Some(("delete", "pods")),
        ..Trials::on(vec![GPU])
    });
    let found = run(&denied, &[], 2);
    let words = found["words"].to_string();
    assert!(
        words.contains("delete pods") && words.contains("default"),
        "{words}"
    );
    assert!(denied.api.script().trials.as_ref().unwrap().made.is_empty());

    let quota = cluster(Trials {
        quota: 1,
        ..Trials::on(vec![GPU])
    });
    let found = run(&quota, &[], 2);
    assert_eq!(found["code"], "functional_prevented");
    assert!(
        found["words"].to_string().contains("exceeded quota"),
        "{found:#}"
    );
    assert_eq!(left(&quota), 0);

    let mut objects = time_sliced(1, 0);
    objects.change(NODES, "gpu-00000", |node| {
        let labels = node["metadata"]["labels"].as_object_mut().unwrap();
        labels.remove("nvidia.com/gpu.count");
    });
    let uncounted = Cluster::of(objects);
    uncounted.api.script().trials = Some(Trials::on(vec![GPU]));
    let found = run(&uncounted, &["--image", "x"], 2);
    assert!(
        found["words"].to_string().contains("nvidia.com/gpu.count"),
        "{found:#}"
    );

    let no_agent = Cluster::of(time_sliced(1, 0));
    no_agent.api.script().trials = Some(Trials::on(vec![GPU]));
    let found = run(&no_agent, &[], 2);
    assert!(
        found["words"].to_string().contains("give --image"),
        "{found:#}"
    );
}

#[test]
fn a_node_that_takes_no_pods_is_passed_over_and_what_stays_is_named() {
    let cordoned = cluster(Trials::on(vec![GPU]));
    cordoned
        .api
        .script()
        .objects
        .as_mut()
        .unwrap()
        .change(NODES, "gpu-00000", |node| {
            node["spec"]["unschedulable"] = json!(true);
        });
    let found = run(&cordoned, &[], 2);
    assert!(found["words"].to_string().contains("cordoned"), "{found:#}");
}

#[test]
fn a_signal_ends_it_and_the_pods_while_they_are_made_too() {
    for made in [1, 2] {
        let cluster = cluster(Trials {
            room: 1,
            ..Trials::on(vec![GPU])
        });
        let kubeconfig = cluster.kubeconfig();
        let mut command = command(&["--kubeconfig", kubeconfig.to_str().unwrap(), "--functional"]);
        let child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while left(&cluster) < made {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_micros(100));
        }
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!(said.status, Some(2), "{}", said.error);
        assert!(said.out.contains("ended by a signal"), "{}", said.out);
        assert_eq!(left(&cluster), 0);
    }
}
