"""What all suites stand on: both servers with the history, scraping live agents of several scenarios."""

import atexit
import collections
import concurrent.futures
import functools
import pathlib
import re
import subprocess
import tempfile
import time

import history
import recorded
import server

# Scenario and speed. A speed other than 1 is for gauges and faults: rates are that many times too high.
LIVE = (("noisy-neighbour", 1), ("quiet", 1), ("mig", 1), ("mps", 1), ("many-pods", 1), ("memory-hog", 10), ("faults", 10))
# In seconds: between live scrapes, and between two looks at the rules.
SCRAPE, RULES = 2, 5
COUNTS = collections.Counter()
BEGAN = time.monotonic()


class Demo:
    """One live agent on a simulated node."""

    def __init__(self, scenario, speed):
        self.scenario, self.speed = scenario, speed
        self.address = f"127.0.0.1:{server.free_port()}"
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [server.BINARIES / "slicewatch", "demo", "--scenario", self.scenario, "--speed", str(self.speed), "--listen", self.address],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def configuration(folder, demos):
    """Scrapes every live agent, one by two jobs, under rules that are looked at often."""
    rules = folder / "rules"
    rules.mkdir()
    for path in server.rule_files():
        text = re.sub(r"^(\s+interval:) \S+$", rf"\1 {RULES}s", path.read_text(), flags=re.M)
        (rules / path.name).write_text(text)

    def job(name, demos):
        return {"job_name": name, "honor_labels": True, "static_configs": [
            {"targets": [demo.address], "labels": {"instance": f"live-{demo.scenario}", "node": f"live-{demo.scenario}"}} for demo in demos]}

    return {
        "global": {"scrape_interval": f"{SCRAPE}s", "scrape_timeout": f"{SCRAPE}s", "evaluation_interval": f"{RULES}s"},
        "rule_files": [f"{rules}/*.yaml"],
        "scrape_configs": [job(history.JOB, demos), job(history.SECOND_JOB, [demo for demo in demos if demo.scenario == "noisy-neighbour"])],
    }


class World:
    """The history, the live agents, and a server of each version over both."""

    def __init__(self):
        self.versions = server.versions()
        oldest, newest = self.versions
        self.simulated, key = history.simulated(oldest)
        recorded_blocks = recorded.recorded(newest, self.simulated, key)
        self.folder = tempfile.TemporaryDirectory(prefix="slicewatch-prometheus-")
        atexit.register(self.close)
        self.demos = [Demo(scenario, speed) for scenario, speed in LIVE]
        self.servers = []
        self.since = time.time()
        for version in self.versions:
            folder = pathlib.Path(self.folder.name) / version.name
            folder.mkdir()
            prometheus = server.Prometheus(version, folder, configuration(folder, self.demos))
            self.servers.append(prometheus)
            for blocks in (self.simulated / "blocks", recorded_blocks):
                history.take(blocks, prometheus.data)
            prometheus.start()

    def demo(self, scenario):
        return next(demo for demo in self.demos if demo.scenario == scenario)

    @functools.cache
    def truth(self, instance):
        return history.truth(self.simulated, instance)

    def close(self):
        for prometheus in self.servers:
            prometheus.stop()
        for demo in self.demos:
            demo.stop()
        self.folder.cleanup()
        queries, seconds = (sum(getattr(one, name) for one in self.servers) for name in ("queries", "seconds"))
        history.note(f"{queries} requests of {len(self.servers)} versions of Prometheus in {seconds:.0f} s of waiting, "
                     f"{time.monotonic() - BEGAN:.0f} s in all:")
        for what, number in sorted(COUNTS.items()):
            history.note(f"  {number:6} {what}")


@functools.cache
def attempt():
    try:
        return World(), None
    except Exception as failure:
        return None, failure


def world():
    """Made once; what cannot be made is not tried again."""
    made, failure = attempt()
    if failure:
        raise RuntimeError("what the tests stand on could not be made") from failure.with_traceback(None)
    return made


def on_both(check):
    """Runs a check of a server on both versions at once; what it raises comes out."""
    servers = world().servers
    with concurrent.futures.ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(check, servers))
