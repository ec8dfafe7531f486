//! A cluster with NVIDIA's operator and time-slicing, as its API server has it: nothing is wrong
//! with it. Objects are of about the size that they really are.

use serde_json::{Value, json};

use super::objects::Objects;

pub(crate) const POLICIES: &str = "/apis/nvidia.com/v1/clusterpolicies";
pub(crate) const DAEMON_SETS: &str = "/apis/apps/v1/daemonsets";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/configmaps";
pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const RUNTIME_CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
pub(crate) const NAMESPACE: &str = "gpu-operator";

const PLUGIN: &str = "nvidia-device-plugin-daemonset";
const DISCOVERY: &str = "gpu-feature-discovery";
const IMAGE: &str = "nvcr.io/nvidia/k8s-device-plugin:v0.18.0";
/// When what is made by hand was made …
const MADE: &str = "2026-11-20T09:00:00Z";
/// … and when pods started.
const STARTED: &str = "2026-11-20T10:00:00Z";

const PROFILE: &str = "\
version: v1
flags:
  migStrategy: none
sharing:
  timeSlicing:
    renameByDefault: false
    failRequestsGreaterThanOne: true
    resources:
      - name: nvidia.com/gpu
        replicas: 4
";

/// The operator with its operands on nodes of one GPU, each shared by four, on which `tenants` pods
/// run each.
pub(crate) fn time_sliced(nodes: usize, tenants: usize) -> Objects {
    let mut objects = Objects::default();
    objects.add(POLICIES, &policy());
    objects.add(DEPLOYMENTS, &deployment());
    objects.add(CONFIG_MAPS, &config_map("time-slicing-config", PROFILE));
    objects.add(
        CONFIG_MAPS,
        &config_map("kube-root-ca.crt", "-----BEGIN CERTIFICATE-----"),
    );
    for (name, container) in [(PLUGIN, "nvidia-device-plugin"), (DISCOVERY, DISCOVERY)] {
        objects.add(DAEMON_SETS, &daemon_set(name, container, nodes));
    }
    objects.add(
        DAEMON_SETS,
        &json!({"metadata": {"namespace": "kube-system", "name": "kube-proxy"}, "spec": {"selector":
            {"matchLabels": {"k8s-app": "kube-proxy"}}, "template": {"spec": {"containers":
            [{"name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.36.3"}]}}}}),
    );
    objects.add(
        RUNTIME_CLASSES,
        &json!({"metadata": {"name": "nvidia"}, "handler": "nvidia"}),
    );
    objects.know(PODS);
    for index in 0..nodes {
        let name = format!("gpu-{index:05}");
        objects.add(NODES, &node(&name));
        objects.add(PODS, &plugin_pod(PLUGIN, "nvidia-device-plugin", &name));
        objects.add(PODS, &plugin_pod(DISCOVERY, DISCOVERY, &name));
        for tenant in 0..tenants {
            objects.add(PODS, &tenant_pod(&name, tenant));
        }
        objects.add(PODS, &other_pod(&name));
    }
    objects
}

fn policy() -> Value {
    json!({
        "apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"},
        "spec": {"devicePlugin": {"enabled": true, "config": {"name": "time-slicing-config", "default": "any"}},
            "gfd": {"enabled": true}, "mig": {"strategy": "none"}, "daemonsets": {"updateStrategy": "RollingUpdate"},
            "operator": {"runtimeClass": "nvidia"}, "cdi": {"enabled": true}},
        "status": {"state": "ready", "namespace": NAMESPACE, "conditions": [
            {"type": "Ready", "status": "True", "reason": "Reconciled", "lastTransitionTime": STARTED},
            {"type": "Error", "status": "False", "reason": "Ready", "lastTransitionTime": STARTED}]},
    })
}

fn deployment() -> Value {
    let labels = json!({"app": "gpu-operator", "app.kubernetes.io/component": "gpu-operator"});
    json!({
        "metadata": {"namespace": NAMESPACE, "name": "gpu-operator", "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"spec": {"containers": [
            {"name": "gpu-operator", "image": "nvcr.io/nvidia/gpu-operator:v26.3.0", "command": ["gpu-operator"]}]}}},
        "status": {"replicas": 1, "readyReplicas": 1},
    })
}

pub(crate) fn config_map(name: &str, profile: &str) -> Value {
    json!({
        "metadata": {"namespace": NAMESPACE, "name": name, "resourceVersion": "7", "managedFields": [
            {"manager": "kubectl-create", "operation": "Update", "time": MADE, "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {".": {}, "f:any": {}}}}]},
        "data": {"any": profile},
    })
}

/// The specification of an operand's pods.
fn operand(container: &str) -> Value {
    let env = json!([{"name": "NODE_LABEL", "value": "nvidia.com/device-plugin.config"},
        {"name": "DEFAULT_CONFIG", "value": "any"}, {"name": "FALLBACK_STRATEGIES", "value": "empty"}]);
    let mounts = json!([{"name": "time-slicing-config", "mountPath": "/available-configs"},
        {"name": "config", "mountPath": "/config"}]);
    json!({
        "initContainers": [{"name": "config-manager-init", "image": IMAGE, "command": ["config-manager"],
            "env": env, "volumeMounts": mounts}],
        "containers": [
            {"name": container, "image": IMAGE, "command": ["/bin/sh", "-c"], "args": ["/bin/entrypoint.sh"],
                "env": [{"name": "CONFIG_FILE", "value": "/config/config.yaml"}], "volumeMounts": mounts},
            {"name": "config-manager", "image": IMAGE, "command": ["config-manager"], "env": env, "volumeMounts": mounts}],
        "volumes": [{"name": "time-slicing-config", "configMap": {"name": "time-slicing-config"}},
            {"name": "config", "emptyDir": {}}],
        "nodeSelector": {"nvidia.com/gpu.deploy.device-plugin": "true"},
    })
}

fn daemon_set(name: &str, container: &str, nodes: usize) -> Value {
    json!({
        "metadata": {"namespace": NAMESPACE, "name": name, "generation": 2,
            "annotations": {"deprecated.daemonset.template.generation": "2", "nvidia.com/last-applied-hash": "1234"},
            "ownerReferences": [{"kind": "ClusterPolicy", "name": "cluster-policy", "controller": true}]},
        "spec": {"selector": {"matchLabels": {"app": name}}, "updateStrategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": {"app": name}}, "spec": operand(container)}},
        "status": {"observedGeneration": 2, "desiredNumberScheduled": nodes, "updatedNumberScheduled": nodes,
            "numberReady": nodes},
    })
}

fn plugin_pod(set: &str, container: &str, node: &str) -> Value {
    let mut spec = operand(container);
    spec["nodeName"] = json!(node);
    let status = |name: &str| {
        json!({"name": name, "image": IMAGE, "ready": true, "restartCount": 0,
            "containerID": format!("containerd://{}", "c".repeat(64)), "state": {"running": {"startedAt": STARTED}}})
    };
    json!({
        "metadata": {"namespace": NAMESPACE, "name": format!("{set}-{node}"), "uid": uid(),
            "labels": {"app": set, "pod-template-generation": "2", "controller-revision-hash": "7c9d"},
            "ownerReferences": [{"kind": "DaemonSet", "name": set, "controller": true}], "managedFields": managed(12)},
        "spec": spec,
        "status": {"phase": "Running", "startTime": STARTED,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": STARTED}],
            "containerStatuses": [status(container), status("config-manager")],
            "initContainerStatuses": [{"name": "config-manager-init", "image": IMAGE, "ready": true,
                "restartCount": 0, "state": {"terminated": {"exitCode": 0, "finishedAt": STARTED}}}]},
    })
}

pub(crate) fn node(name: &str) -> Value {
    let images: Vec<Value> = (0..50)
        .map(|image| {
            json!({"names": [format!("registry.example/team/image-{image}@sha256:{}", "d".repeat(64))],
                "sizeBytes": 100_000_000})
        })
        .collect();
    let amounts =
        json!({"cpu": "64", "memory": "528174064Ki", "pods": "110", "nvidia.com/gpu": "4"});
    json!({
        "metadata": {"name": name, "uid": uid(), "managedFields": managed(30),
            "annotations": {"nfd.node.kubernetes.io/feature-labels": "nvidia.com/gpu.count,".repeat(40)},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": "g4dn.xlarge",
                "nvidia.com/gpu.present": "true", "nvidia.com/gpu.deploy.device-plugin": "true",
                "nvidia.com/gpu.count": "1", "nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.product": "Tesla-T4-SHARED",
                "nvidia.com/gpu.sharing-strategy": "time-slicing", "nvidia.com/mig.capable": "false",
                "nvidia.com/mig.strategy": "none", "nvidia.com/gpu.memory": "15360",
                "nvidia.com/gfd.timestamp": "1763632800"}},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"capacity": amounts, "allocatable": amounts, "images": images,
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}]},
    })
}

/// A pod that has a replica.
pub(crate) fn tenant_pod(node: &str, tenant: usize) -> Value {
    json!({
        "metadata": {"namespace": format!("team-{tenant}"), "name": format!("server-7c9d-{node}"), "uid": uid(),
            "labels": {"app": "server", "pod-template-hash": "7c9d"}, "managedFields": managed(15),
            "ownerReferences": [{"kind": "ReplicaSet", "name": "server-7c9d", "controller": true}]},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "registry.example/server:1",
            "env": [{"name": "PASSWORD", "value": "s3cr3t"}],
            "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "8Gi"}, "requests": {"nvidia.com/gpu": "1", "cpu": "4"}}}]},
        "status": {"phase": "Running", "startTime": STARTED, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A pod that has nothing to do with GPUs.
fn other_pod(node: &str) -> Value {
    json!({
        "metadata": {"namespace": "kube-system", "name": format!("kube-proxy-{node}"), "uid": uid(),
            "managedFields": managed(15)},
        "spec": {"nodeName": node, "containers": [{"name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.36.3"}]},
        "status": {"phase": "Running"},
    })
}

fn uid() -> &'static str {
    "0e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b11"
}

/// What is most of a real object.
fn managed(fields: usize) -> Value {
    let fields: serde_json::Map<String, Value> = (0..fields)
        .map(|field| {
            (
                format!("f:field-{field}"),
                json!({".": {}, "f:value": {}, "f:type": {}}),
            )
        })
        .collect();
    json!([{"manager": "kubelet", "operation": "Update", "time": STARTED, "fieldsV1": {"f:status": fields}}])
}
