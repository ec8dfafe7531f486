"""What the acceptance run needs of the machine: pods made of cgroups, tenants, the agent.

Every process started here is ended here, by its own handle; every cgroup made here is removed.
"""

import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid

import figures



class CannotRun(Exception):
    """This machine lacks something that the run needs: exit status 2."""


class Broken(Exception):
    """The agent or a tenant did not do what it must: the check fails."""


def wait_for(what, seconds, probe, pause=0.1):
    """The first true answer of `probe`; Broken where there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise Broken(f"waited {seconds:g} s for {what}")
        time.sleep(pause)


def cpu_seconds(pid):
    """CPU time of a process, all threads, ended ones too, by its own clock (nanoseconds)."""
    # clock_getcpuclockid(3): the clock of a process is ~pid << 3 | CPUCLOCK_SCHED.
    return time.clock_gettime((~pid << 3) | 2)


def cpu_seconds_by_stat(pid):
    """The same from /proc/PID/stat, in steps of a clock tick."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return figures.cpu_seconds_of_stat(stat, os.sysconf("SC_CLK_TCK"))


def descendants(pid):
    """The processes that a process started, and theirs."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it ended meanwhile
        children.setdefault(figures.parent_of_stat(text), []).append(int(stat.parent.name))
    found, look = [], [pid]
    while look:
        more = children.get(look.pop(), [])
        found += more
        look += more
    return found


def proportional(pid):
    """Memory of a process by /proc/PID/smaps_rollup in bytes: resident, its part of what is shared, its own."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    fields = ("Rss", "Pss", "Private_Clean", "Private_Dirty")
    return {field: figures.status_bytes(rollup, field) for field in fields}


def resident(pid):
    """Resident memory of a process in bytes."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = ("VmRSS", "RssAnon", "RssFile", "VmHWM")
    return {field: figures.status_bytes(status, field) for field in fields}


class Tenant:
    """A load in a pod of its own."""

    def __init__(self, pod, process, report, record=None):
        self.pod, self.process, self.report, self.record = pod, process, report, record

    def lines(self, kind=None):
        """What it reported so far."""
        try:
            lines = figures.json_lines(self.report.read_text())
        except FileNotFoundError:
            return []
        return [line for line in lines if kind in (None, line["kind"])]

    def wait_for_line(self, kind, seconds, count=1):
        """Its `count`th line of a kind; Broken where it ends without."""

        def probe():
            found = self.lines(kind)
            if len(found) >= count:
                return found[count - 1]
            if self.process.poll() is not None and len(self.lines(kind)) < count:
                status, why = self.process.returncode, self.lines("error")
                raise Broken(f"tenant {self.pod} ended with status {status}: {why}; see tenants.log")
            return None

        return wait_for(f"tenant {self.pod} to say {kind!r}", seconds, probe, 0.02)

    def finish(self, seconds):
        """Waits for its own end; the time at which it was gone, and its final figures."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"tenant {self.pod} did not end") from None
        return time.time(), self.wait_for_line("final", 1)

    def stop(self, sig=signal.SIGTERM):
        """Ends it now; the time at which it was gone."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            raise Broken(f"tenant {self.pod} (PID {self.process.pid}) does not end") from None
        return time.time()


class Agent:
    """The agent under test."""

    def __init__(self, process, log, port):
        self.process, self.log, self.port = process, log, port
        # From SIGTERM to its end; None while it was not asked, or had ended by itself.
        self.stop_seconds = None
        # No proxy, whatever the environment says.
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def _get(self, path, accept):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept})
        try:
            with self._http.open(request, timeout=5) as answer:
                return answer.read().decode()
        except (OSError, urllib.error.URLError) as error:
            ended = self.process.poll()
            words = f"it ended with status {ended}" if ended is not None else error
            raise Broken(f"the agent does not answer {path}: {words}; see {self.log}") from None

    def metrics(self):
        """One scrape, parsed."""
        return figures.parse_metrics(self._get("/metrics", "text/plain;version=0.0.4"))

    def snapshot(self):
        """The snapshot, with `unix` (its time) beside."""
        snapshot = json.loads(self._get("/api/v1/snapshot", "application/json"))
        snapshot["unix"] = snapshot["at"]["unix_seconds"]
        return snapshot

    def gpu(self, gpu_uuid, snapshot=None):
        """One device of the snapshot."""
        snapshot = snapshot or self.snapshot()
        for gpu in snapshot["gpus"]:
            if gpu["identity"]["uuid"] == gpu_uuid:
                return gpu
        there = [gpu["identity"]["uuid"] for gpu in snapshot["gpus"]]
        raise Broken(f"the snapshot has no {gpu_uuid}, only {there}")

    def stop(self):
        """Asks it to end, and waits; how long that took stays in `stop_seconds`."""
        if self.process.poll() is not None:
            return
        begun = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.stop_seconds = time.monotonic() - begun


class Rig:
    """The machine: cgroups, log folders, processes."""

    def __init__(self, arguments, out):
        self.arguments, self.out = arguments, out
        self.calibration = self.gpu_uuid = None
        self.check = "none"
        self._agents, self._tenants, self._folders, self._files = [], [], [], []
        self._host = pathlib.Path(tempfile.mkdtemp(prefix="slicewatch-accept-"))
        self.pod_logs, self.container_logs = self._host / "pods", self._host / "containers"
        self.pod_logs.mkdir()
        self.container_logs.mkdir()
        self._kubepods = pathlib.Path(arguments.cgroup_root) / "kubepods"
        try:
            self._check_cgroups()
        except BaseException:
            self.close()
            raise

    def _check_cgroups(self):
        root = self._kubepods.parent
        if not (root / "cgroup.controllers").exists():
            raise CannotRun(f"{root} is not a cgroup v2 hierarchy: mount one, or name it by --cgroup-root")
        try:
            self._make(self._kubepods / "besteffort" / "slicewatch-probe")
        except OSError as error:
            words = f"cannot make cgroups: {error}: be root, and have {root} mounted writable"
            raise CannotRun(words) from None

    def _make(self, folder):
        for parent in [*reversed(folder.parents), folder]:
            if not parent.exists():
                parent.mkdir()
                self._folders.append(parent)

    def _pod(self, pod):
        """A pod as the kubelet's files and the kernel's cgroups would show it; its cgroup.procs."""
        namespace, container, uid, cid = "bench", "main", str(uuid.uuid4()), secrets.token_hex(32)
        log = self.pod_logs / f"{namespace}_{pod}_{uid}" / container / "0.log"
        log.parent.mkdir(parents=True)
        log.touch()
        (self.container_logs / f"{pod}_{namespace}_{container}-{cid}.log").symlink_to(log)
        folder = self._kubepods / "besteffort" / f"pod{uid}" / cid
        self._make(folder)
        return folder / "cgroup.procs"

    def _open(self, name):
        file = open(self.out / name, "ab")
        self._files.append(file)
        return file

    def calibrate(self):
        """How fast the card is, alone; once a run."""
        command = [self.arguments.tenant, "--calibrate"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise CannotRun(f"the tenant cannot use the GPU: {done.stderr.strip()}")
        self.calibration = json.loads(done.stdout.splitlines()[-1])
        self.gpu_uuid = self.calibration["gpu_uuid"]

    def tenant(self, pod, *options, record=False, **more):
        """Starts a load in a new pod: `kernel_ms=8` is `--kernel-ms 8`; options as they are. With
        `record` it writes each request, one by one."""
        command = [self.arguments.tenant, *options]
        if "--idle" not in options:
            command += ["--iterations-per-ms", repr(self.calibration["iterations_per_ms"])]
        for key, value in more.items():
            command += [f"--{key.replace('_', '-')}", str(value)]
        return self.program(pod, command, record)

    def program(self, pod, command, record=False):
        """Starts any program that reports as a tenant does in a new pod."""
        report = self.out / f"tenant-{self.check}-{pod}.jsonl"
        report.unlink(missing_ok=True)
        command = [*command, "--report", str(report)]
        requests = report.with_suffix(".requests") if record else None
        if requests:
            requests.unlink(missing_ok=True)
            command += ["--record", str(requests)]
        # The shell moves itself into the pod's cgroup and then becomes the tenant, so that no
        # process of the GPU is ever seen outside.
        process = subprocess.Popen(
            ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._pod(pod)), *command],
            stdin=subprocess.DEVNULL,
            stdout=self._open("tenants.log"),
            stderr=subprocess.STDOUT,
        )
        tenant = Tenant(pod, process, report, requests)
        self._tenants.append(tenant)
        return tenant

    def agent(self, name, *options, number=0, environment=None):
        """Starts the agent, with more options and environment, and waits until it shows the GPU.
        Those that run beside one another have numbers: each has a port of its own."""
        port = self.arguments.port + number
        log = self.out / f"agent-{name}.log"
        command = [self.arguments.agent, "agent", "--listen", f"127.0.0.1:{port}", "--kubelet-socket", "none"]
        command += ["--pod-log-dir", str(self.pod_logs), "--container-log-dir", str(self.container_logs)]
        command += [*options, *self.arguments.agent_arg]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._open(log.name),
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        agent = Agent(process, log, port)
        self._agents.append(agent)

        def shows_memory():
            if process.poll() is not None:
                raise Broken(f"the agent ended with status {process.returncode}: see {log}")
            try:
                return figures.value_of(agent.gpu(self.gpu_uuid)["memory_bytes"])
            except (Broken, LookupError, TypeError, ValueError):
                return None  # no snapshot yet

        wait_for(f"the agent to show {self.gpu_uuid}; see {log}", 30, shows_memory)
        return agent

    def bare(self, name, seconds):
        """Starts the bare loop; its process and the file of its figures."""
        path = self.out / f"bare-{name}.json"
        with open(path, "wb") as output:
            command = [self.arguments.overhead, "--seconds", str(seconds)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output)
        self._tenants.append(Tenant(f"bare-{name}", process, path))
        return process, path

    def end(self, *pods):
        """Ends some tenants, all at once."""
        ending = [tenant for tenant in self._tenants if tenant.pod in pods]
        for tenant in ending:
            if tenant.process.poll() is None:
                tenant.process.terminate()
        for tenant in ending:
            tenant.stop()

    def clear(self):
        """Ends what a check started; how long each agent took to end (None: it had ended before)."""
        for agent in self._agents:
            agent.stop()
        for tenant in self._tenants:
            try:
                tenant.stop(signal.SIGKILL)
            except Broken as broken:
                print(broken)
        stopped = [agent.stop_seconds for agent in self._agents]
        for file in self._files:
            file.close()
        self._tenants, self._agents, self._files = [], [], []
        return stopped

    def close(self):
        """Ends everything and removes what was made on the machine."""
        self.clear()
        for folder in reversed(self._folders):
            try:
                folder.rmdir()
            except OSError as error:
                print(f"left behind: {folder}: {error}")
        shutil.rmtree(self._host, ignore_errors=True)
