"""NVIDIA's GPU operator, as far as `slicewatch check` and a person see it: it makes the device plugin's
DaemonSet of what its ClusterPolicy says (controllers/object_controls.go, `handleDevicePluginConfig`). The
plugin in it is the node's own, with config-manager beside it as in the operator's manifest.

GPU feature discovery is off, as an operator can have it: the plugin of this node labels the node itself.
"""

import json
import time

import node

NAMESPACE = "gpu-operator"
POLICY = "cluster-policy"
PLUGIN = "nvidia-device-plugin-daemonset"
FILES = node.SCRIPTS / "operator"
SHIPPED = node.REPOSITORY / "deploy" / "time-slicing"
CONFIG_LABEL = "nvidia.com/device-plugin.config"
DEPLOY_LABEL = "nvidia.com/gpu.deploy.device-plugin"
# What the operator puts on a node with a GPU, and its plugin on the way.
LABELS = {"nvidia.com/gpu.present": "true", DEPLOY_LABEL: "true"}
# Environment of both config-managers.
MANAGER = {
    "NODE_LABEL": CONFIG_LABEL,
    "CONFIG_FILE_SRCDIR": "/available-configs",
    "CONFIG_FILE_DST": "/config/config.yaml",
    "FALLBACK_STRATEGIES": "empty",
    "SEND_SIGNAL": "true",
    "SIGNAL": "1",
    "PROCESS_TO_SIGNAL": "nvidia-device-plugin",
}


def parts():
    """The folder of the node's programs on this machine."""
    return node.run("bash", "-c", f'. "{node.SCRIPTS}/env.sh"; realpath "$parts"').strip()


class Operator:
    """Installed in the place of the node's plugin, until `remove`."""

    def __init__(self):
        # MIG devices that the driver would show: `UUID=PROFILE@GPU`.
        self.migs = []
        self._made = None
        self._parts = parts()

    def install(self):
        node.stop("device-plugin")
        node.kubectl("apply", "-f", str(FILES / "crd.yaml"))
        node.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/clusterpolicies.nvidia.com")
        node.kubectl("apply", "-f", str(FILES / "objects.yaml"))
        # By Helm, so that an overlay, which names a few fields, leaves the others alone.
        policy = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": POLICY}, "spec": {
            "devicePlugin": {"enabled": True}, "gfd": {"enabled": False}, "mig": {"strategy": "none"},
            "daemonsets": {"updateStrategy": "RollingUpdate"}, "operator": {"runtimeClass": "nvidia"}}}
        node.kubectl("create", "--field-manager=helm", "-f", "-", stdin=json.dumps(policy))
        status = {"status": {"state": "ready", "namespace": NAMESPACE}}
        node.kubectl("patch", "clusterpolicy", POLICY, "--subresource=status", "--type=merge", "-p", json.dumps(status))
        node.kubectl("label", "node", node.NAME, *[f"{key}={value}" for key, value in LABELS.items()])
        self.overlay("any")
        node.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/gpu-operator", "--timeout=60s")

    def overlay(self, name, folder=SHIPPED):
        """Applies a set-up as it is shipped, as its README says."""
        node.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(folder / "overlays" / name))
        self.rolled_out()

    def remove(self):
        node.kubectl("label", "node", node.NAME, f"{CONFIG_LABEL}-", *[f"{key}-" for key in LABELS], check=False)
        node.kubectl("delete", "--ignore-not-found", "-f", str(FILES / "crd.yaml"), "-f", str(FILES / "objects.yaml"))
        node.start("device-plugin")

    def reconcile(self):
        """What the operator does when its ClusterPolicy was changed."""
        policy = node.get("clusterpolicy", POLICY)
        config = policy["spec"]["devicePlugin"].get("config", {})
        wanted = (config.get("name", ""), config.get("default", ""), policy["spec"]["mig"]["strategy"], tuple(self.migs))
        if wanted != self._made:
            words = ("apply", "--server-side", "--force-conflicts", "--field-manager=gpu-operator", "-f", "-")
            node.kubectl(*words, stdin=json.dumps(self.daemon_set(policy["metadata"]["uid"], *wanted)))
            self._made = wanted

    def rolled_out(self):
        """Reconciles; waits until the plugin's pod is of the newest template and runs."""
        self.reconcile()
        node.kubectl("-n", NAMESPACE, "rollout", "status", f"daemonset/{PLUGIN}", "--timeout=120s")

    def restart(self):
        """Has the plugin begin anew; waits until the node's numbers are of this plugin."""
        node.kubectl("-n", NAMESPACE, "delete", "pod", "-l", f"app={PLUGIN}")
        node.wait_for("the plugin's next pod", 90, lambda: self.pod()["status"].get("containerStatuses") and all(
            one["ready"] for one in self.pod()["status"]["containerStatuses"]), 0.5)
        # Longer than the kubelet's nodeStatusUpdateFrequency here: until then they may be those of before.
        time.sleep(7)

    def pod(self):
        """The plugin's one pod that is not on its way out."""
        found = node.get("pods", "-n", NAMESPACE, "-l", f"app={PLUGIN}")
        living = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        if len(living) != 1:
            raise node.Failed(f"{len(living)} pods of the plugin")
        return living[0]

    def daemon_set(self, policy, config, default, strategy, migs):
        command = [
            "exec /parts/device-plugin --node-name $NODE_NAME --node-labels --mig-strategy $MIG_STRATEGY",
            "${CONFIG_FILE:+--config-file $CONFIG_FILE}",
            *[f"--gpu {line}" for line in (node.STATE / "gpus").read_text().split()],
            *[f"--mig-device {mig}" for mig in migs],
        ]
        plugin = container("nvidia-device-plugin", ["sh", "-c", " ".join(command)], MIG_STRATEGY=strategy)
        mount(plugin, "device-plugin", "/var/lib/kubelet/device-plugins")
        pod = {
            "serviceAccountName": "nvidia-device-plugin",
            "runtimeClassName": "nvidia",
            "terminationGracePeriodSeconds": 5,
            "nodeSelector": {DEPLOY_LABEL: "true"},
            "containers": [plugin],
            "volumes": [
                host_path("device-plugin", "/var/lib/kubelet/device-plugins"),
                host_path("parts", self._parts),
                host_path("operator", str(FILES)),
            ],
        }
        if config:
            init = container("config-manager-init", ["/operator/config-manager"], DEFAULT_CONFIG=default, ONESHOT="true", **MANAGER)
            manager = container("config-manager", ["/operator/config-manager"], DEFAULT_CONFIG=default, ONESHOT="false", **MANAGER)
            plugin["env"].append({"name": "CONFIG_FILE", "value": MANAGER["CONFIG_FILE_DST"]})
            for one in (init, manager, plugin):
                # The operator makes the ConfigMap's name that of the volume.
                mount(one, config, "/available-configs")
                mount(one, "config", "/config")
            pod["volumes"] += [{"name": config, "configMap": {"name": config}}, {"name": "config", "emptyDir": {}}]
            pod["containers"].append(manager)
            pod["initContainers"] = [init]
            # For the signal.
            pod["shareProcessNamespace"] = True
        labels = {"app": PLUGIN}
        return {
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {
                "name": PLUGIN, "namespace": NAMESPACE, "labels": {**labels, "app.kubernetes.io/part-of": "nvidia-gpu"},
                "ownerReferences": [{"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "name": POLICY, "uid": policy,
                                     "controller": True, "blockOwnerDeletion": True}],
            },
            "spec": {
                "selector": {"matchLabels": labels},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }


def container(name, command, **env):
    env = [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
           *[{"name": key, "value": value} for key, value in env.items()]]
    one = {"name": name, "image": node.WORKLOAD, "imagePullPolicy": "Never", "command": command, "env": env, "volumeMounts": []}
    mount(one, "parts", "/parts")
    mount(one, "operator", "/operator")
    return one


def mount(container, volume, path):
    container["volumeMounts"].append({"name": volume, "mountPath": path})


def host_path(name, path):
    return {"name": name, "hostPath": {"path": path, "type": "Directory"}}
