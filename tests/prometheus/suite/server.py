"""A real Prometheus, and its HTTP interface as Grafana uses it."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
DASHBOARDS = pathlib.Path(os.environ.get("SLICEWATCH_DASHBOARDS") or REPOSITORY / "dashboards")
BINARIES = pathlib.Path(os.environ.get("SLICEWATCH_BINARIES") or REPOSITORY / "target/release")

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    """Prometheus answered a query with an error."""


class Version:
    """One version of Prometheus on this machine."""

    def __init__(self, name, prometheus, promtool):
        self.name, self.prometheus, self.promtool = name, str(prometheus), str(promtool)

    def tool(self, *arguments, cwd=None):
        """Runs promtool; gives whether it was content, and what it printed."""
        done = subprocess.run([self.promtool, *map(str, arguments)], cwd=cwd, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode == 0, done.stdout


def versions():
    """The oldest and the newest that dashboards and rules must run on."""
    newest = os.environ.get("SLICEWATCH_PROMETHEUS_NEWEST")
    if not newest:
        raise RuntimeError("run tests/prometheus/run: it says where the newest Prometheus is")
    oldest = [shutil.which(name) for name in ("prometheus", "promtool")]
    return [Version("oldest", *oldest),
            Version("newest", *(pathlib.Path(newest) / name for name in ("prometheus", "promtool")))]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, seconds, tried, every=0.1):
    """The first true answer of `tried` within the time."""
    end = time.monotonic() + seconds
    while True:
        answer = tried()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(every)


class Prometheus:
    """One server with a folder of its own for its configuration, its log and its data."""

    def __init__(self, version, folder, configuration):
        self.version, self.folder = version, pathlib.Path(folder)
        self.data = self.folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        (self.folder / "prometheus.yml").write_text(json.dumps(configuration))
        self.process = None
        self.address = f"127.0.0.1:{free_port()}"
        self.queries, self.seconds = 0, 0.0

    def start(self):
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen([
                self.version.prometheus, f"--config.file={self.folder}/prometheus.yml",
                f"--storage.tsdb.path={self.data}", f"--web.listen-address={self.address}",
                # The history is of a day long ago, and stays.
                "--storage.tsdb.retention.time=100y", "--log.level=warn",
            ], stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(f"{self.version.name} Prometheus to be ready", 120, self.is_ready)
        except TimeoutError as late:
            self.stop()
            raise RuntimeError(f"{late}; its log:\n{(self.folder / 'log').read_text()[-2000:]}") from None
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"Prometheus ended:\n{(self.folder / 'log').read_text()[-2000:]}")
        try:
            with OPENER.open(f"http://{self.address}/-/ready", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self.process = None

    def restart(self):
        self.stop()
        return self.start()

    def get(self, path, parameters=()):
        """The `data` of an answer. Raises Refused with Prometheus' own words."""
        parameters = list(dict(parameters).items()) if isinstance(parameters, dict) else list(parameters)
        began = time.monotonic()
        request = urllib.request.Request(f"http://{self.address}/api/v1/{path}",
                                         data=urllib.parse.urlencode(parameters).encode() if path.startswith("query") else None)
        if request.data is None and parameters:
            request.full_url += "?" + urllib.parse.urlencode(parameters)
        try:
            with OPENER.open(request, timeout=300) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise Refused(f"{error.code}: {json.loads(error.read()).get('error')}: {dict(parameters)}") from None
        finally:
            self.queries += 1
            self.seconds += time.monotonic() - began

    def instant(self, query, at=None):
        """Label sets with their values."""
        data = self.get("query", {"query": query, **({} if at is None else {"time": f"{at:.3f}"})})
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def range(self, query, start, end, step):
        """Label sets with their points."""
        data = self.get("query_range", {"query": query, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"})
        return [(one["metric"], [(float(at), float(value)) for at, value in one.get("values", [])]) for one in data["result"]]

    def rules(self):
        """Every rule that is loaded, with the name of its group."""
        return [{**rule, "group": group["name"], "interval": group["interval"]}
                for group in self.get("rules")["groups"] for rule in group["rules"]]


def rule_files():
    """The rule files that are there; none while nobody has written one."""
    return sorted((DASHBOARDS / "rules").glob("*.yaml"))
