"""The agent as users install it: by Helm, seen through its own HTTP."""

import base64
import json
import pathlib
import ssl
import sys
import tempfile
import threading
import time
import urllib.request

import node

sys.path.insert(0, str(node.REPOSITORY / "tests" / "gpu"))
import figures  # noqa: E402

# Not the one of the plain manifests, which are tried beside it.
NAMESPACE = "monitoring"
CHART = node.REPOSITORY / "deploy" / "chart"
NVML = "slicewatch.test/nvml"


def base_values():
    """The chart on this node: its image, and how the driver's library reaches the container."""
    values = {
        "image": {"repository": "slicewatch.test/agent", "tag": "1", "pullPolicy": "Never"},
        "nvml": {"mode": "custom"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]},
        ]}}},
        "log": {"level": "info,slicewatch=debug"},
    }
    if node.real_gpu():
        # The plugin of this node hands out the driver's devices and files with this resource.
        values["resources"] = {"limits": {NVML: "1"}}
    else:
        values["config"] = {"nvml-library": "/driver/libnvidia-ml.so.1"}
        values["extraEnv"] = [{"name": "FAKE_NVML_SCRIPT", "value": "/card/script.json"}]
        values["extraVolumes"] = [
            {"name": "driver", "hostPath": {"path": str(node.STATE / "driver"), "type": "Directory"}},
            {"name": "card", "hostPath": {"path": str(node.STATE / "card"), "type": "Directory"}},
        ]
        values["extraVolumeMounts"] = [
            {"name": "driver", "mountPath": "/driver", "readOnly": True},
            {"name": "card", "mountPath": "/card", "readOnly": True},
        ]
    return values


def merged(values, more):
    """Values over values, as Helm merges files: maps by key, all else replaced."""
    result = dict(values)
    for key, value in more.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


class Agent:
    """A release of the chart."""

    def __init__(self, name="slicewatch", namespace=NAMESPACE):
        self.name, self.namespace = name, namespace
        self.scheme, self.user, self.context = "http", None, None
        self._address, self._doubted = None, True

    def install(self, values=None, wait=True):
        """Installs or upgrades; waits until its pod is Ready."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(merged(base_values(), values or {}), file)
            file.flush()
            node.run(
                "helm", "upgrade", "--install", "--create-namespace", "-n", self.namespace, self.name,
                str(CHART), "-f", file.name,
            )
        if wait:
            self.ready()
        return self

    def uninstall(self):
        node.run("helm", "uninstall", "-n", self.namespace, self.name, "--ignore-not-found", "--wait")
        node.wait_for("the agent's pods to be gone", 60, lambda: not self.pods())

    @property
    def fullname(self):
        """What the chart calls its objects."""
        return self.name if "slicewatch" in self.name else f"{self.name}-slicewatch"

    def pods(self):
        return node.get("pods", "-n", self.namespace, "-l", f"app.kubernetes.io/instance={self.name},app.kubernetes.io/name=slicewatch",
                        "--field-selector", f"spec.nodeName={node.NAME}")

    def pod(self):
        """The one pod that is not on its way out."""
        living = [pod for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]]
        if len(living) != 1:
            raise node.Failed(f"{len(living)} agent pods on the node")
        return living[0]

    def ready(self, seconds=60):
        """Its pod, once Ready and of the newest template."""

        def probe():
            wanted = node.get("daemonset", "-n", self.namespace, self.fullname)
            status = wanted["status"]
            if status.get("observedGeneration") != wanted["metadata"]["generation"]:
                return None
            if status.get("updatedNumberScheduled") != 1 or status.get("numberReady") != 1:
                return None
            pod = self.pod()
            conditions = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
            return pod if conditions.get("Ready") == "True" else None

        return node.wait_for("the agent to be Ready", seconds, probe, 0.3)

    def logs(self, *words):
        return node.kubectl("logs", "-n", self.namespace, f"daemonset/{self.fullname}", *words)

    def get(self, path, accept="*/*", timeout=5):
        """An answer of the pod at its own address."""
        request = urllib.request.Request(f"{self.scheme}://{self.address()}{path}", headers={"Accept": accept})
        if self.user:
            request.add_header("Authorization", "Basic " + base64.b64encode(self.user.encode()).decode())
        handlers = [urllib.request.ProxyHandler({})]
        if self.context:
            handlers.append(urllib.request.HTTPSHandler(context=self.context))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
                return answer.read().decode()
        except OSError:
            self._doubted = True
            raise

    def address(self):
        """Where the pod listens: as it was, until a request to it failed; and while the API server
        does not answer."""
        if self._doubted:
            try:
                self._address, self._doubted = self.pod()["status"]["podIP"], False
            except (node.Failed, KeyError):
                if self._address is None or node.api_answers():
                    raise node.Failed("the agent's pod has no address") from None
        return f"{self._address}:9735"

    def trust(self, authority, user=None):
        """Speaks TLS from now on."""
        self.scheme, self.user = "https", user
        self.context = ssl.create_default_context(cafile=str(authority))
        self.context.check_hostname = False

    def snapshot(self):
        return json.loads(self.get("/api/v1/snapshot"))

    def gpu_row(self, number=0):
        """One card of the snapshot."""
        return self.snapshot()["gpus"][number]

    def metrics(self):
        return figures.parse_metrics(self.get("/metrics", "text/plain;version=0.0.4"))

    def source(self, name, snapshot=None):
        """Health of a source, as the snapshot has it."""
        for source in (snapshot or self.snapshot())["sources"]:
            if source["source"] == name:
                return source
        return None

    def up(self, name):
        source = self.source(name)
        return source is not None and "value" in source["up"]

    def container(self, pod, container="main", namespace="default", snapshot=None):
        """What is said of a container that is there, one row a card."""
        return [
            dict(row, gpu_uuid=gpu["identity"]["uuid"])
            for gpu in (snapshot or self.snapshot())["gpus"]
            for row in gpu["containers"]
            if row["present"] and (row["namespace"], row["pod"], row["container"]) == (namespace, pod, container)
        ]


def processes(snapshot):
    """Every process of a snapshot: PID, its owner (namespace, pod, container) and evidence, or None
    and the reason."""
    for gpu in snapshot["gpus"]:
        for process in gpu["processes"]:
            owner = process["owner"]
            if "container" in owner:
                row = gpu["containers"][owner["container"]]
                yield process["pid"], (row["namespace"], row["pod"], row["container"]), row
            else:
                yield process["pid"], None, owner


class Watch(threading.Thread):
    """Looks at the agent all the time, and writes down each thing that must never be seen."""

    PERIOD = 0.4
    # A process that a snapshot shows was in a list not longer ago than this.
    LIST_AGE = 2.5

    def __init__(self, agent, truth):
        super().__init__(daemon=True)
        self.agent, self.truth = agent, truth
        self.wrong, self.seen, self.evidence, self.reasons = [], 0, {}, {}
        self.scrapes, self.missed = 0, 0
        # Instants of the snapshots that were looked at.
        self.looks = []
        self._counters, self._began, self._address, self._last = {}, None, None, None
        self._done = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self.join()

    def run(self):
        while not self._done.wait(self.PERIOD):
            try:
                self.look()
                self.scrapes += 1
            except (OSError, node.Failed):
                self.missed += 1

    def look(self):
        snapshot = self.agent.snapshot()
        at = snapshot["at"]["unix_seconds"]
        if at != self._last:
            self._last = at
            self.check_owners(snapshot, at)
            self.looks.append(at)
        self.check_series(self.agent.get("/metrics", "text/plain;version=0.0.4"))

    def should_have_seen(self, process):
        """Whether two snapshots that were looked at are of its life, its first moments apart: a machine
        that stands still for some seconds shows nobody anything."""
        return sum(1 for at in self.looks if process.first + self.LIST_AGE < at < process.ended) >= 2

    def check_owners(self, snapshot, at):
        for pid, owner, row in processes(snapshot):
            known = self.truth.at(pid, at - self.LIST_AGE, time.time())
            if not known:
                # Of no workload: the agent must not give it to one.
                if owner is not None and owner[0] == "default":
                    self.wrong.append(f"PID {pid} is nobody's, and given to {owner}")
                continue
            self.seen += 1
            if owner is None:
                reason = str(row.get("remainder", row))
                self.reasons[reason] = self.reasons.get(reason, 0) + 1
                for process in known:
                    process.unresolved.add(reason)
            elif all(process.owner != owner for process in known):
                self.wrong.append(f"PID {pid} is of {[process.owner for process in known]}, and given to {owner}")
            else:
                self.evidence[row["evidence"]] = self.evidence.get(row["evidence"], 0) + 1
                for process in known:
                    process.resolved = process.resolved or process.owner == owner

    def check_series(self, text):
        seen, counters, began = set(), {}, None
        kinds = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                kinds[name] = kind
            if line.startswith("#") or not line:
                continue
            series, value = line.rsplit(" ", 1)
            if series in seen:
                self.wrong.append(f"twice in one scrape: {series}")
            seen.add(series)
            name = series.split("{", 1)[0]
            if name == "process_start_time_seconds":
                began = float(value)
            if kinds.get(name) == "counter":
                counters[series] = float(value)
        if began == self._began:
            for series, value in counters.items():
                before = self._counters.get(series)
                if before is not None and value < before:
                    self.wrong.append(f"fell from {before} to {value} without a restart: {series}")
        self._counters, self._began = counters, began
