//! `check` on clusters: what is said, how it is said, and the exit status.

use std::fs;

use serde_json::{Value, json};

use super::gpu_cluster::{
    CONFIG_MAPS, DAEMON_SETS, NAMESPACE, NODES, PODS, POLICIES, config_map, node, tenant_pod,
    time_sliced,
};
use super::{Cluster, Fault, Objects, Said, check, command};
use crate::agent::output;
use crate::cluster::fake::kubeconfig;

const EDITED: &str = "2026-11-20T11:00:00Z";

impl Cluster {
    fn check(&self, arguments: &[&str]) -> Said {
        let kubeconfig = self.kubeconfig();
        let with = ["--kubeconfig", kubeconfig.to_str().unwrap()];
        let said = check(&[&with[..], arguments].concat());
        self.api.assert_read_only();
        for text in [&said.out, &said.error] {
            assert!(!text.contains("s3cr3t"), "{text}");
        }
        said
    }

    fn json(&self, arguments: &[&str], status: i32) -> Value {
        let said = self.check(&[arguments, &["--output", "json"]].concat());
        assert_eq!(
            said.status,
            Some(status),
            "{:.2000} {}",
            said.out,
            said.error
        );
        said.json()
    }
}

fn codes(json: &Value) -> Vec<&str> {
    let findings = json["findings"].as_array().unwrap();
    let mut codes: Vec<_> = findings
        .iter()
        .map(|it| it["code"].as_str().unwrap())
        .collect();
    codes.dedup();
    codes
}

/// Somebody wrote 8 replicas, and restarted nothing.
fn edited(objects: &mut Objects) {
    let map = "gpu-operator/time-slicing-config";
    objects.change(CONFIG_MAPS, map, |map| {
        map["metadata"]["managedFields"][0]["time"] = json!(EDITED);
        let text = map["data"]["any"].as_str().unwrap();
        map["data"]["any"] = json!(text.replace("replicas: 4", "replicas: 8"));
    });
}

#[test]
fn a_clean_cluster_gives_no_finding_and_what_is_in_force() {
    let cluster = Cluster::of(time_sliced(4, 2));
    let json = cluster.json(&[], 0);
    assert_eq!(codes(&json), [] as [&str; 0], "{json:#}");
    assert_eq!(json["verdict"], "clean");
    assert_eq!(
        (&json["nodes_read"], &json["pods_read"]),
        (&4.into(), &8.into())
    );
    let node = &json["nodes"][0];
    assert_eq!(
        (&node["key"], &node["from"]),
        (&"any".into(), &"default".into())
    );
    assert_eq!(
        (&node["expected"], &node["allocatable"]),
        (&4.into(), &4.into())
    );

    let said = cluster.check(&["--all-nodes"]);
    assert_eq!(said.status, Some(0));
    let rows: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let row = "gpu-00000, gpu-00001, gpu-00002 and 1 more time-slicing any of \
               gpu-operator/time-slicing-config default nvidia.com/gpu 1 x 4 4 4";
    let row: Vec<&str> = row.split_whitespace().collect();
    assert!(rows.contains(&row), "{}", said.out);
    assert!(said.out.ends_with("\nnothing found\n"), "{}", said.out);
    assert!(said.error.is_empty(), "{}", said.error);
}

#[test]
fn a_finding_has_its_object_both_values_and_a_command_to_paste() {
    let mut objects = time_sliced(2, 1);
    edited(&mut objects);
    let cluster = Cluster::of(objects);
    let json = cluster.json(&[], 1);
    assert_eq!(codes(&json), ["config_edited_not_rolled_out"], "{json:#}");
    let mend = json["findings"][0]["mend"][0].as_str().unwrap();
    assert!(
        mend.starts_with("kubectl -n gpu-operator rollout restart "),
        "{mend}"
    );

    let said = cluster.check(&[]);
    assert_eq!(said.status, Some(1));
    assert!(
        said.out.contains("error config_edited_not_rolled_out: "),
        "{}",
        said.out
    );
    assert!(
        said.out.contains(&format!("\n    $ {mend}\n")),
        "{}",
        said.out
    );
    assert!(said.out.contains(EDITED), "{}", said.out);
    // What differs in its object alone is said once.
    let heads = said
        .out
        .lines()
        .filter(|it| it.starts_with("error "))
        .count();
    assert_eq!(heads, 2, "{}", said.out);
    let same = "    the same: Pod gpu-operator/nvidia-device-plugin-daemonset-gpu-00001, on node gpu-00001\n";
    assert!(said.out.contains(same), "{}", said.out);
    assert!(said.out.ends_with("\n4 errors\n"), "{}", said.out);
}

#[test]
fn a_node_is_looked_at_alone_and_several_are() {
    let mut objects = time_sliced(3, 1);
    objects.change(NODES, "gpu-00002", |node| {
        node["metadata"]["labels"]["nvidia.com/device-plugin.config"] = json!("missing");
    });
    let cluster = Cluster::of(objects);
    assert_eq!(cluster.json(&["--node", "gpu-00001"], 0)["nodes_read"], 1);
    let json = cluster.json(&["--node", "gpu-00001", "--node", "gpu-00002"], 1);
    assert_eq!(json["nodes_read"], 2);
    assert!(
        codes(&json).contains(&"node_label_names_missing_key"),
        "{json:#}"
    );

    let json = cluster.json(&["--node", "gpu-00009"], 2);
    assert_eq!(json["verdict"], "incomplete");
    let why = json["not_checked"][0]["why"].as_str().unwrap();
    assert!(why.contains("no node \"gpu-00009\""), "{why}");
}

#[test]
fn two_plugins_are_told() {
    let mut objects = time_sliced(1, 0);
    let set = json!({"metadata": {"namespace": "kube-system", "name": "nvidia-device-plugin-daemonset"},
        "spec": {"selector": {"matchLabels": {"name": "nvidia-device-plugin-ds"}}, "template": {"spec": {"containers":
            [{"name": "nvidia-device-plugin-ctr", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.1"}]}}},
        "status": {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1}});
    objects.add(DAEMON_SETS, &set);
    objects.add(PODS, &json!({"metadata": {"namespace": "kube-system", "name": "nvidia-device-plugin-daemonset-x",
            "labels": {"name": "nvidia-device-plugin-ds"},
            "ownerReferences": [{"kind": "DaemonSet", "name": "nvidia-device-plugin-daemonset", "controller": true}]},
        "spec": {"nodeName": "gpu-00000", "containers": [{"name": "nvidia-device-plugin-ctr"}]},
        "status": {"phase": "Running", "startTime": EDITED, "conditions": [{"type": "Ready", "status": "True"}]}}));
    let json = Cluster::of(objects).json(&[], 1);
    assert!(codes(&json).contains(&"two_plugins"), "{json:#}");
}

#[test]
fn a_cluster_with_nothing_of_nvidia_is_told_or_clean_by_its_nodes() {
    let empty = || {
        let mut objects = time_sliced(0, 0);
        objects.forget_kind(POLICIES);
        for set in ["nvidia-device-plugin-daemonset", "gpu-feature-discovery"] {
            objects.remove(DAEMON_SETS, &format!("{NAMESPACE}/{set}"));
        }
        objects.remove(super::gpu_cluster::DEPLOYMENTS, "gpu-operator/gpu-operator");
        objects.know(NODES);
        objects
    };
    let json = Cluster::of(empty()).json(&[], 0);
    assert_eq!(codes(&json), [] as [&str; 0], "{json:#}");
    let mut objects = empty();
    let mut bare = node("gpu-0");
    bare["status"]["allocatable"] = json!({"cpu": "64"});
    bare["status"]["capacity"] = json!({"cpu": "64"});
    objects.add(NODES, &bare);
    let json = Cluster::of(objects).json(&[], 1);
    assert!(codes(&json).contains(&"plugin_missing"), "{json:#}");
}

#[test]
fn a_missing_right_is_a_finding_that_names_verb_and_resource() {
    let mut objects = time_sliced(1, 1);
    edited(&mut objects);
    let cluster = Cluster::of(objects);
    cluster.fault("runtimeclasses", 0, usize::MAX, Fault::Status(403));
    let json = cluster.json(&[], 1);
    let findings = json["findings"].as_array().unwrap();
    let rights = findings.iter().find(|it| it["code"] == "rights_missing");
    let rights = rights.unwrap_or_else(|| panic!("{json:#}"));
    assert_eq!(rights["severity"], "warning");
    assert!(
        rights
            .to_string()
            .contains("list runtimeclasses.node.k8s.io"),
        "{rights}"
    );
    assert!(
        codes(&json).contains(&"config_edited_not_rolled_out"),
        "{json:#}"
    );
    assert_eq!(json["not_checked"][0]["what"], "runtimeclasses.node.k8s.io");

    // What cannot be read is not taken for missing.
    for path in ["daemonsets", "clusterpolicies", "deployments", "configmaps"] {
        let cluster = Cluster::of(time_sliced(1, 1));
        cluster.fault(path, 0, usize::MAX, Fault::Status(403));
        let json = cluster.json(&[], 0);
        assert_eq!(codes(&json), ["rights_missing"], "{path}: {json:#}");
        assert_eq!(json["verdict"], "warnings");
    }

    // Without the nodes nothing can be said to be well.
    let cluster = Cluster::of(time_sliced(1, 1));
    cluster.fault("/nodes", 0, usize::MAX, Fault::Status(403));
    let json = cluster.json(&[], 2);
    assert_eq!(codes(&json), ["rights_missing"], "{json:#}");

    // With no right at all there is nothing but findings of rights.
    let cluster = Cluster::of(time_sliced(1, 1));
    cluster.fault("/", 0, usize::MAX, Fault::Status(403));
    let json = cluster.json(&[], 2);
    assert_eq!(codes(&json), ["rights_missing"], "{json:#}");
}

#[test]
fn what_was_found_before_the_server_went_is_told_with_what_was_not_checked() {
    let mut objects = time_sliced(1, 1);
    edited(&mut objects);
    let cluster = Cluster::of(objects);
    cluster.fault("/pods?", 0, 0, Fault::Cut);
    cluster.fault("/api/v1/pods", 0, usize::MAX, Fault::Cut);
    let said = cluster.check(&[]);
    assert_eq!(said.status, Some(2), "{} {}", said.out, said.error);
    assert!(
        said.out.contains("error config_edited_not_rolled_out: "),
        "{}",
        said.out
    );
    let last: Vec<_> = said
        .out
        .lines()
        .filter(|it| it.starts_with("not checked: "))
        .collect();
    assert_eq!(last.len(), 1, "{}", said.out);
    assert!(
        last[0].starts_with("not checked: pods: the connection"),
        "{last:?}"
    );
}

#[test]
fn a_server_that_does_not_answer_is_told_once() {
    let cluster = Cluster::of(time_sliced(1, 1));
    cluster.fault("/", 0, usize::MAX, Fault::Hang);
    let said = cluster.check(&["--timeout", "300ms"]);
    assert_eq!(said.status, Some(2), "{} {}", said.out, said.error);
    let last: Vec<_> = said
        .out
        .lines()
        .filter(|it| it.starts_with("not checked: "))
        .collect();
    assert_eq!(last.len(), 1, "{}", said.out);
    for word in [
        "clusterpolicies.nvidia.com, ",
        "nodes, pods: ",
        "within 300ms",
        "--timeout",
    ] {
        assert!(last[0].contains(word), "no {word:?} in {last:?}");
    }
}

#[test]
fn credentials_that_are_refused_are_told() {
    let cluster = Cluster::of(time_sliced(1, 1));
    cluster.fault("/", 0, usize::MAX, Fault::Status(401));
    let said = cluster.check(&[]);
    assert_eq!(said.status, Some(2));
    assert!(
        said.out.contains("does not accept the credentials"),
        "{}",
        said.out
    );
    assert!(said.out.contains("log in again"), "{}", said.out);
}

/// Nothing could be asked: one line with the mend, and status 2.
fn cannot(said: &Said, words: &[&str]) {
    assert_eq!(said.status, Some(2), "{} {}", said.out, said.error);
    assert!(said.out.is_empty(), "{}", said.out);
    assert_eq!(said.error.lines().count(), 1, "{}", said.error);
    for word in words {
        assert!(said.error.contains(word), "no {word:?} in {}", said.error);
    }
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_named_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let missing = missing.to_str().unwrap();
    cannot(
        &check(&["--kubeconfig", missing]),
        &[missing, "No such file", "--kubeconfig another"],
    );
    let path = kubeconfig(
        folder.path(),
        "http://127.0.0.1:1",
        &json!({"token": "s3cr3t"}),
    );
    let path = path.to_str().unwrap();
    cannot(
        &check(&["--kubeconfig", path, "--context", "prod"]),
        &[path, "no context \"prod\", but [\"c\"]", "--context"],
    );
    let broken = folder.path().join("broken");
    fs::write(&broken, "users: [{name: a, user: {token: s3cr3t}}\n").unwrap();
    let said = check(&["--kubeconfig", broken.to_str().unwrap()]);
    cannot(&said, &["not YAML of a kubeconfig"]);
    assert!(!said.error.contains("s3cr3t"), "{}", said.error);
    fs::write(&broken, "apiVersion: v1\nkind: Config\n").unwrap();
    cannot(
        &check(&["--kubeconfig", broken.to_str().unwrap()]),
        &["no current-context, but no context at all"],
    );
    let home = tempfile::tempdir().unwrap();
    let said = Said::of(output(command(&[]).env("HOME", home.path())));
    cannot(&said, &["no cluster to ask", "--kubeconfig"]);
    let said = Said::of(output(
        command(&["--kubeconfig", path]).env("HTTPS_PROXY", "http://127.0.0.1:1"),
    ));
    cannot(&said, &["HTTPS_PROXY", "not supported"]);
    for flag in ["--node", "--namespace"] {
        cannot(
            &check(&["--kubeconfig", path, flag, "../pods"]),
            &[flag, "\"../pods\"", "metadata.name"],
        );
    }
}

#[test]
fn the_kubeconfig_is_that_of_the_variable_or_of_the_home_folder() {
    let cluster = Cluster::of(time_sliced(1, 0));
    let path = cluster.kubeconfig();
    let said = Said::of(output(command(&[]).env("KUBECONFIG", &path)));
    assert_eq!(said.status, Some(0), "{} {}", said.out, said.error);
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".kube")).unwrap();
    fs::copy(&path, home.path().join(".kube/config")).unwrap();
    let said = Said::of(output(command(&[]).env("HOME", home.path())));
    assert_eq!(said.status, Some(0), "{} {}", said.out, said.error);
}

#[test]
fn a_server_that_is_not_there_is_told_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = kubeconfig(folder.path(), "http://127.0.0.1:1", &json!({}));
    let said = check(&["--kubeconfig", path.to_str().unwrap(), "--output", "json"]);
    assert_eq!(said.status, Some(2));
    let json = said.json();
    assert_eq!(json["verdict"], "incomplete");
    let why = json["not_checked"][0]["why"].as_str().unwrap();
    assert!(
        why.contains("127.0.0.1:1") && why.contains("--context"),
        "{why}"
    );
}

/// The configuration that is wired is linted like a file; bad ones do not end the check.
#[test]
fn configmaps_that_break_readers_are_findings() {
    for (text, code) in [
        ("version: [v1".to_owned(), "not_yaml"),
        (
            "version: v1\n\tflags: {}\n".to_owned(),
            "tab_in_indentation",
        ),
        (String::new(), "empty_configuration"),
        ("x".repeat(1 << 20), ""),
    ] {
        let mut objects = time_sliced(1, 0);
        objects.add(CONFIG_MAPS, &config_map("time-slicing-config", &text));
        let said = Cluster::of(objects).check(&["--output", "json"]);
        assert_ne!(said.status, Some(2), "{} {}", said.out, said.error);
        let json = said.json();
        assert!(said.out.contains(code), "no {code} in {json:#}");
    }
}

#[test]
fn names_of_objects_cannot_steer_the_terminal() {
    let mut objects = time_sliced(1, 0);
    let mut pod = tenant_pod("gpu-00000", 0);
    pod["status"] = json!({"phase": "Failed", "reason": "UnexpectedAdmissionError",
        "message": "\u{1b}[2Jrequest for 'nvidia.com/gpu: 2' too large: maximum request size for shared resources is 1"});
    pod["spec"]["containers"][0]["resources"] =
        json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2"}});
    objects.add(PODS, &pod);
    let said = Cluster::of(objects).check(&[]);
    assert!(
        said.out.contains("request_greater_than_one"),
        "{}",
        said.out
    );
    assert!(!said.out.contains('\u{1b}'), "{:?}", said.out);
}

#[test]
fn many_nodes_are_read_in_pages() {
    let mut objects = time_sliced(1_500, 1);
    edited(&mut objects);
    let cluster = Cluster::of(objects);
    let json = cluster.json(&["--all-nodes"], 1);
    assert_eq!(
        (&json["nodes_read"], &json["pods_read"]),
        (&1_500.into(), &1_500.into())
    );
    let listed = json["findings"].as_array().unwrap().len();
    assert!((1..=200).contains(&listed), "{listed}");
}
