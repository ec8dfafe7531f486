"""The chart on the real API server, and the pod as it really runs."""

import json
import pathlib
import tempfile

import node
from agent import CHART, NAMESPACE
from fixture import Case

DEPLOY = node.REPOSITORY / "deploy"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:slicewatch"


def operator_crds():
    """Applies the Prometheus operator's own definitions of its monitors and rules."""
    module = "github.com/prometheus-operator/prometheus-operator"
    folder = node.run("go", "list", "-C", str(node.SCRIPTS / "parts/operator-crds"), "-m", "-f", "{{.Dir}}", module).strip()
    for kind in ("podmonitors", "servicemonitors", "prometheusrules"):
        file = f"{folder}/example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        node.kubectl("apply", "--server-side", "-f", file)
        node.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{kind}.monitoring.coreos.com")


class Install(Case):
    def test_the_pod_runs_without_privilege(self):
        pod = self.agent.ready()
        self.assertTrue(pod["spec"]["hostPID"])
        for volume in pod["spec"]["volumes"]:
            for path in [volume.get("hostPath", {}).get("path", "")]:
                self.assertNotIn("docker.sock", path)
        uid = pod["metadata"]["uid"]
        [process] = [
            folder for folder in pathlib.Path("/proc").iterdir()
            if folder.name.isdigit() and uid in (folder / "cgroup").read_text()
            and (folder / "comm").read_text().strip() == "slicewatch"
        ]
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[capabilities], 16), 0, capabilities)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
        [root] = [mount for mount in mounts if mount[4] == "/"]
        self.assertIn("ro", root[5].split(","))
        for mount in mounts:
            if mount[4].startswith(("/var/lib/kubelet", "/var/log", "/driver")):
                self.assertIn("ro", mount[5].split(","), mount[4])

    def test_its_rights_are_pods_and_its_node_and_no_more(self):
        def may(*words):
            return node.kubectl("auth", "can-i", *words, f"--as={ACCOUNT}", check=False).returncode == 0

        for words in (("list", "pods", "-A"), ("watch", "pods", "-A"), ("get", f"nodes/{node.NAME}")):
            self.assertTrue(may(*words), words)
        for words in (
            ("get", "pods", "-A"), ("create", "pods", "-A"), ("get", "secrets", "-A"), ("list", "secrets", "-A"),
            ("list", "nodes"), ("watch", "nodes"), ("patch", "nodes"), ("get", "nodes", "--subresource=proxy"),
            ("create", "pods", "--subresource=exec", "-A"), ("create", "events", "-A"), ("list", "configmaps", "-A"),
        ):
            self.assertFalse(may(*words), words)

    def test_helm_test(self):
        address = self.agent.address()
        self.agent.install({"test": {"url": f"http://{address}"}})
        # The pod is the same: a test's address is no part of it.
        self.assertEqual(self.agent.address(), address)
        self.assertIn("Succeeded", node.run("helm", "test", "-n", NAMESPACE, "slicewatch"))

    def test_every_documented_form_is_accepted_by_the_api_server(self):
        operator_crds()
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "dry", "labels": {"resource.kubernetes.io/admin-access": "true"}}}
        node.apply(namespace)
        # Of the check's Roles.
        for name in ("gpu-operator", "nvidia-device-plugin"):
            node.kubectl("create", "namespace", name, check=False)
        strict = ("apply", "--dry-run=server", "--validate=strict", "-f", "-")
        sets = sorted((CHART / "ci").glob("*-values.yaml"))
        self.assertGreater(len(sets), 10)
        for values in sets:
            with self.subTest(values.name):
                words = ("helm", "template", "slicewatch", str(CHART), "-n", "dry", "-f", str(values))
                node.kubectl(*strict, stdin=node.run(*words))
        node.kubectl("create", "namespace", "slicewatch", check=False)
        node.kubectl(*strict, stdin=(DEPLOY / "slicewatch.yaml").read_text())
        folders = [DEPLOY / "kustomize/base", *sorted((DEPLOY / "kustomize/overlays").iterdir())]
        for folder in folders:
            with self.subTest(folder.name):
                node.kubectl(*strict, stdin=node.kubectl("kustomize", str(folder)))

    def test_monitors_are_never_both(self):
        words = ("helm", "template", "x", str(CHART), "--set", "podMonitor.enabled=true,serviceMonitor.enabled=true")
        done = node.run(*words, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, "podMonitor.*serviceMonitor|serviceMonitor.*podMonitor")

    def test_a_value_of_a_wrong_type_is_refused_by_name(self):
        for value, name in (
            ("port=many", "port"), ("hostPID=3", "hostPID"), ("nvml.mode=magic", "mode"),
            ("podMonitor.enbaled=true", "enbaled"), ("resources=none", "resources"),
        ):
            done = node.run("helm", "template", "x", str(CHART), "--set", value, check=False)
            self.assertNotEqual(done.returncode, 0, value)
            self.assertIn(name, done.stderr)
            self.assertIn("values don't meet the specifications of the schema", done.stderr)

    def test_the_image_has_what_it_should_and_no_more(self):
        reference = "slicewatch.test/agent:1"
        with tempfile.TemporaryDirectory() as folder:
            node.run("bash", "-c", f'. "{node.SCRIPTS}/env.sh"; ctr --address "$node/containerd.sock" -n k8s.io '
                     f'images export {folder}/image.tar {reference} && tar -xf {folder}/image.tar -C {folder}')
            index = json.loads((pathlib.Path(folder) / "index.json").read_text())
            read = lambda entry: json.loads((pathlib.Path(folder) / "blobs" / entry["digest"].replace(":", "/")).read_text())
            config = read(read(index["manifests"][0])["config"])["config"]
        self.assertEqual(config["Entrypoint"], ["/usr/bin/slicewatch"])
        for label in ("title", "description", "licenses", "version", "revision", "source", "base.name"):
            self.assertTrue(config["Labels"].get(f"org.opencontainers.image.{label}"), label)
        self.assertIn("NVIDIA_DRIVER_CAPABILITIES=compute,utility", config["Env"])
