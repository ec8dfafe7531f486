"""A week that ended long ago, as Prometheus would have recorded it, with the truth beside it.

Nodes are simulated in virtual time by slicewatch-backfill; some more are made of their lines: scraped by
two jobs, gone, with hostile names. Blocks are kept in the cache, by everything that they depend on.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import server
from grafana import Range

# 2026-01-08 00:00 UTC: the same in every run, so that every figure is.
END = 1_767_830_400
HOUR = 3600
DAY = 24 * HOUR
WEEK = 7 * DAY
# What Grafana shows unless asked otherwise: every node has history there.
SHORT = 3 * HOUR
JOB = "slicewatch"
CACHE = pathlib.Path(os.environ.get("SLICEWATCH_PROMETHEUS_CACHE")
                     or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "slicewatch-prometheus")


@dataclasses.dataclass(frozen=True)
class Node:
    """A simulated node whose history ends at END."""

    instance: str
    scenario: str
    length: int
    step: int = 30
    seed: int = 0
    more: tuple = ()

    def build(self, folder):
        """Simulates it; gives how long that took."""
        began = time.monotonic()
        subprocess.run([
            server.BINARIES / "slicewatch-backfill", "--scenario", self.scenario, "--seed", str(self.seed),
            "--start", str(END - self.length), "--length", f"{self.length + 1}s", "--step", f"{self.step}s",
            "--label", f"job={JOB}", "--label", f"instance={self.instance}", "--label", f"node={self.instance}",
            "--output", folder / f"{self.instance}.txt", "--truth", folder / f"{self.instance}.json", *self.more,
        ], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - began


# Each has a seed of its own, and so cards of its own.
NODES = (
    Node("quiet", "quiet", DAY, seed=1),
    Node("week", "quiet", WEEK, 60, seed=2),
    Node("noisy-neighbour", "noisy-neighbour", 2 * SHORT, seed=3),
    Node("now-and-then", "now-and-then", SHORT, seed=4),
    Node("memory-hog", "memory-hog", SHORT, seed=5),
    Node("slow-leak", "slow-leak", SHORT, seed=6),
    Node("faults", "faults", SHORT, seed=7),
    Node("mig", "mig", SHORT, seed=8),
    Node("mps", "mps", SHORT, seed=9),
    Node("churn", "churn", HOUR, seed=10),
    Node("many-pods", "many-pods", HOUR // 3, seed=11),
    # Its clock is put back by two minutes, and right again.
    Node("clock-step", "quiet", SHORT, seed=12, more=("--clock-step", "3600:-120", "--clock-step", "7200:120")),
)
# Of the agent that is scraped by two jobs.
TWIN, SECOND_JOB = "twin", "slicewatch-again"
HOSTILE_NODE = "hostile"
HOSTILE = ('a "quoted" {pod="x"} $job', "back\\slash\\d+\\", "<img src=x onerror=alert(1)>&amp;'", ("long." * 51)[:252] + "x")
GONE, GONE_SINCE = "gone", END - HOUR
# A node with GPUs that never had an agent, by kube-state-metrics.
BARE = "without-agent"
# What looks for what is wrong with the cluster's set-up, and found something.
CHECK, CHECK_JOB = "check", "slicewatch-check"

# Scrape intervals as the data source would have them.
LAST_HOURS = Range("3 h", END - SHORT, END, 30)
LAST_DAY = Range("1 d", END - DAY, END, 30)
LAST_WEEK = Range("7 d", END - WEEK, END, 60)
LAST_QUARTER = Range("90 d", END - 90 * DAY, END, 60)
BEFORE_ALL = Range("before there was anything", END - 60 * DAY, END - 50 * DAY, 60)


def escaped(value):
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def lines_of(folder, instance, since=0):
    """The lines of a node from a time on, with their times."""
    with open(folder / f"{instance}.txt", encoding="utf-8") as text:
        for line in text:
            if not line.startswith("#") and (at := float(line[line.rindex(" "):])) >= since:
                yield at, line


def renamed(line, instance, job=JOB):
    return re.sub(r'job="[^"]*",instance="[^"]*",node="[^"]*"', f'job="{job}",instance="{instance}",node="{instance}"', line, count=1)


def twins(folder):
    """The same agent, scraped by two jobs."""
    for _, line in lines_of(folder, "noisy-neighbour", END - SHORT):
        line = other_gpu(line, "7717")
        yield renamed(line, TWIN)
        yield renamed(line, TWIN, SECOND_JOB)


def other_gpu(line, digits):
    """Another card: no two nodes have the same."""
    return re.sub(r'gpu_uuid="GPU-[0-9a-f]{4}', f'gpu_uuid="GPU-{digits}', line)


def hostile(folder):
    """Pods with names that try to break out of whatever shows them."""
    names = {}
    for _, line in lines_of(folder, "noisy-neighbour", END - SHORT):
        def name(match):
            return f'{match[1]}pod="{escaped(names.setdefault(match[2], HOSTILE[len(names) % len(HOSTILE)]))}"'
        yield re.sub(r'([{,])pod="([^"]*)"', lambda match: name(match), renamed(other_gpu(line, "6666"), HOSTILE_NODE))


def gone(folder):
    """An agent that does not answer any more."""
    ups = set()
    for at, line in lines_of(folder, "noisy-neighbour", END - SHORT):
        if at < GONE_SINCE:
            yield renamed(other_gpu(line, "dead"), GONE)
        elif at not in ups:
            ups.add(at)
            yield f'up{{job="{JOB}",instance="{GONE}",node="{GONE}"}} 0 {at:.3f}\n'


def kube_state_metrics(_):
    """What kube-state-metrics says of the nodes: all have GPUs, one has no agent."""
    target = 'job="kube-state-metrics",instance="kube-state-metrics:8080"'
    since = {node.instance: END - node.length for node in NODES} | dict.fromkeys((TWIN, HOSTILE_NODE, GONE, BARE), 0)
    for at in range(END - SHORT, END + 1, 30):
        yield f"up{{{target}}} 1 {at}\n"
        for name in (name for name, began in since.items() if began <= at):
            for resource in ("nvidia_com_gpu", "nvidia_com_gpu_shared"):
                if (resource == "nvidia_com_gpu_shared") == (name == "churn"):
                    for kind in ("allocatable", "capacity"):
                        yield f'kube_node_status_{kind}{{{target},node="{name}",resource="{resource}",unit="integer"}} 4 {at}\n'
            yield f'kube_node_info{{{target},node="{name}"}} 1 {at}\n'


def setup_check(_):
    """What `slicewatch check` publishes where time-slicing was asked for and is not there."""
    target = f'job="{CHECK_JOB}",instance="{CHECK}"'
    for at in range(END - HOUR, END + 1, 30):
        yield f"up{{{target}}} 1 {at}\n"
        yield f'slicewatch_finding{{{target},code="sharing_not_in_force",severity="error",subject="Node gpu-7"}} 1 {at}\n'


def digest(*parts):
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part if isinstance(part, bytes) else str(part).encode())
        whole.update(b"\0")
    return whole.hexdigest()[:16]


def note(text):
    print(text, file=sys.stderr, flush=True)


def kept(kind, key, make):
    """A folder of the cache, made if it is not there; others of its kind go."""
    folder = CACHE / kind / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as new:
            new = pathlib.Path(new) / "new"
            new.mkdir()
            make(new)
            new.rename(folder)
    for old in folder.parent.iterdir():
        if old != folder and not old.name.startswith("."):
            shutil.rmtree(old, ignore_errors=True)
    return folder


def simulated(oldest):
    """The folder with blocks/ and truth/ of every node, without recorded series."""
    program = (server.BINARIES / "slicewatch-backfill").read_bytes()
    key = digest(program, pathlib.Path(__file__).read_bytes(), pathlib.Path(oldest.promtool).stat().st_size)

    def make(folder):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as texts, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            texts = pathlib.Path(texts)
            longest_first = sorted(NODES, key=lambda node: node.length, reverse=True)
            taken = dict(zip(longest_first, pool.map(lambda node: node.build(texts), longest_first)))
            for node, seconds in taken.items():
                note(f"history of {node.instance}: {node.length / HOUR:g} h of {node.scenario} at {node.step} s in {seconds:.1f} s")
            (folder / "truth").mkdir()
            with open(texts / "all", "w", encoding="utf-8") as whole:
                for node in NODES:
                    shutil.copy(texts / f"{node.instance}.json", folder / "truth")
                    with open(texts / f"{node.instance}.txt", encoding="utf-8") as text:
                        shutil.copyfileobj(text, whole, 1 << 20)
                    whole.seek(whole.tell() - len("# EOF\n"))
                    whole.truncate()
                for maker in (twins, hostile, gone, kube_state_metrics, setup_check):
                    whole.writelines(maker(texts))
                whole.write("# EOF\n")
            size = (texts / "all").stat().st_size
            simulated_in = time.monotonic() - began
            (folder / "blocks").mkdir()
            content, said = oldest.tool("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=168h",
                                        texts / "all", folder / "blocks")
            if not content:
                raise RuntimeError(f"promtool refuses the history:\n{said[-2000:]}")
        note(f"history: simulated in {simulated_in:.1f} s, {size / 1e6:.0f} MB made blocks in {time.monotonic() - began - simulated_in:.1f} s")

    return kept("simulated", key, make), key


def truth(folder, instance):
    return json.loads((folder / "truth" / f"{instance}.json").read_text())


def take(blocks, data):
    """Puts blocks into a server's data, as links where that can be."""
    for block in blocks.iterdir():
        def link(source, target):
            try:
                os.link(source, target)
            except OSError:
                shutil.copy2(source, target)
        shutil.copytree(block, data / block.name, copy_function=link, dirs_exist_ok=True)
