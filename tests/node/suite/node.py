"""The node under test: its API, its processes, its pods."""

import contextlib
import json
import os
import pathlib
import subprocess
import time

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent
REPOSITORY = SCRIPTS.parent.parent
STATE = pathlib.Path(os.environ.get("SLICEWATCH_NODE_DIR", "/run/slicewatch-node"))
NAME = "slicewatch-test"
WORKLOAD = "slicewatch.test/workload:1"
GPU = "nvidia.com/gpu"


class Failed(AssertionError):
    """A command or a wait that did not come to what the test needs."""


def run(*words, stdin=None, check=True, timeout=180):
    """The output of a command; Failed with its words where it fails."""
    done = subprocess.run(words, input=stdin, text=True, capture_output=True, timeout=timeout)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout if check else done


def kubectl(*words, **more):
    return run("kubectl", *words, **more)


def get(*words):
    """An object, or a list's objects."""
    found = json.loads(kubectl("get", *words, "-o", "json"))
    return found["items"] if found["kind"].endswith("List") else found


def apply(*objects):
    kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def wait_for(what, seconds, probe, every=0.1):
    """The first truthy answer of `probe`; Failed with its last word after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        try:
            answer, word = probe(), ""
        except (Failed, OSError, KeyError, IndexError) as error:
            answer, word = None, f": {error}"
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}{word}")
        time.sleep(every)


def gpus():
    """The cards that the device plugin shares."""
    return [line.split("=")[0] for line in (STATE / "gpus").read_text().split()]


def real_gpu():
    return (STATE / "real").exists()


# --- processes of the node -------------------------------------------------------------------


def pid_of(part):
    return int((STATE / "pid" / part).read_text())


def stop(part, signal="TERM"):
    run("bash", "-c", f'. "{SCRIPTS}/env.sh"; finish {part} {signal}')


def start(part):
    """One of the parts that have a script of their own to start them."""
    run(str(SCRIPTS / part))


def restart(part, signal="TERM"):
    stop(part, signal)
    start(part)


def api_answers():
    return kubectl("get", "--raw", "/readyz", check=False, timeout=20).returncode == 0


def share(replicas, **more):
    """Changes the plugin's configuration and restarts it; waits until the kubelet has heard."""
    sharing = {"resources": [{"name": GPU, "replicas": replicas}], **more}
    config = {"version": "v1", "sharing": {"timeSlicing": sharing}}
    (STATE / "config" / "default").write_text(json.dumps(config))
    restart("device-plugin")
    count = str(replicas * len(gpus()))
    wait_for(f"{count} allocatable replicas", 30, lambda: allocatable().get(GPU) == count)


def allocatable():
    return get("node", NAME)["status"]["allocatable"]


# --- pods --------------------------------------------------------------------------------------


def container(name="main", work="256", gpus=1, command=None, visible=None):
    """A container that holds framebuffer. `work`: words of gpu-work. `visible`: cards that it sees
    without having been granted them."""
    if command is None:
        command = ["/bin/gpu-work", *work.split()]
    env = [
        {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "CONTAINER_NAME", "value": name},
    ]
    if visible:
        env.append({"name": "NVIDIA_VISIBLE_DEVICES", "value": ",".join(visible)})
    resources = {"resources": {"limits": {GPU: str(gpus)}}} if gpus else {}
    return {
        "name": name,
        "image": WORKLOAD,
        "imagePullPolicy": "Never",
        "command": command,
        "env": env,
        **resources,
    }


def pod(name, *containers, namespace="default", labels=None, **spec):
    """A pod of these containers; one that holds 256 MiB where none is given."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"suite": "slicewatch", **(labels or {})}},
        "spec": {
            "containers": list(containers) or [container()],
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": "Always",
            "automountServiceAccountToken": False,
            **spec,
        },
    }


def running(name, namespace="default", seconds=60):
    """The pod, once it runs and all its containers are ready."""

    def probe():
        found = get("pod", "-n", namespace, name)
        status = found["status"]
        ready = [one.get("ready") for one in status.get("containerStatuses", [])]
        return found if status.get("phase") == "Running" and ready and all(ready) else None

    return wait_for(f"pod {namespace}/{name} to run", seconds, probe, 0.3)


def delete(name, namespace="default", wait=True, **more):
    words = [f"--{key.replace('_', '-')}={value}" for key, value in more.items()]
    kubectl("delete", "pod", "-n", namespace, name, "--ignore-not-found", f"--wait={str(wait).lower()}", *words)


@contextlib.contextmanager
def pods(*objects, wait=True):
    """These pods, running, for the length of a test."""
    apply(*objects)
    try:
        if wait:
            for one in objects:
                running(one["metadata"]["name"], one["metadata"]["namespace"])
        yield
    finally:
        for one in objects:
            delete(one["metadata"]["name"], one["metadata"]["namespace"], wait=False)
        for one in objects:
            delete(one["metadata"]["name"], one["metadata"]["namespace"])
