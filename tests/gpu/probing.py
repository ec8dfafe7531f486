"""The agent with its canary, and what it says of a stretch of time."""

import time

import delays
import figures
from rig import Broken, descendants, wait_for

# The default rate of the canary, a second.
RATE = 10.0
# A worker's context, its clock and the first window.
START_SECONDS = 40
# Probes come to the trace, and a tenant's requests to its record, at most so late.
LATE_SECONDS = 1.5
# Lists are read once a second and published with the window.
WINDOW_SECONDS = 2.5
# The ring is drained every 3 s: after this, the ledger knows of a change.
DRAIN_SECONDS = 5.0
# Clocks and caches after a start.
SETTLE_SECONDS = 3.0
# A phase that is shorter says nothing.
SHORTEST_SECONDS = 4.0
FOREVER = 36000
MEDIUM = {"kernel_ms": 0.5}
# An agent that does not probe.
OFF = ("--kubeconfig", "none", "--assume-host-pid-namespace", "--canary", "off")


def window():
    """Until a snapshot shows what is there now."""
    time.sleep(WINDOW_SECONDS)


def drain():
    """Until the ledger knows of a change."""
    time.sleep(DRAIN_SECONDS)


def settle():
    """Until what was started runs evenly."""
    time.sleep(SETTLE_SECONDS)


def budget(rig, usual):
    """Seconds that a check may take."""
    return rig.arguments.seconds or usual


def start(rig, pods):
    """Starts tenants, {pod: options}, and waits for them all."""
    tenants = {pod: rig.tenant(pod, seconds=FOREVER, **load) for pod, load in pods.items()}
    for tenant in tenants.values():
        tenant.wait_for_line("ready", 30)
    return tenants


def idler(rig):
    """A tenant that holds a context and does nothing: it keeps the canary up."""
    rig.tenant("idler", "--idle", seconds=FOREVER).wait_for_line("ready", 30)


def host_time(snapshot):
    """A snapshot's instant on the host's CLOCK_MONOTONIC."""
    return time.monotonic() - (time.time() - snapshot["unix"])


class Window:
    """What the agent said at both ends of a stretch of time, and the probes in it."""

    def __init__(self, canary, begin, end):
        self._canary = canary
        self._ends = [(snapshot, canary.agent.gpu(canary.gpu_uuid, snapshot)) for snapshot in (begin, end)]
        self.begin, self.end = host_time(begin), host_time(end)
        self.seconds = end["at"]["monotonic_seconds"] - begin["at"]["monotonic_seconds"]

    def gpu(self, end=1):
        """The device at the end, or at the beginning (0)."""
        return self._ends[end][1]

    def histogram(self):
        """Probes and their delay in seconds, from the agent's histogram."""
        first, last = (figures.value_of(gpu["canary"]["delays"]) for _, gpu in self._ends)
        if last is None:
            raise Broken(f"the agent has no histogram of delays: {self.gpu()['canary']}")
        first = first or {"counts": [0], "sum_seconds": 0.0}
        return {
            "probes": sum(last["counts"]) - sum(first["counts"]),
            "sum_seconds": last["sum_seconds"] - first["sum_seconds"],
        }

    def inflicted(self):
        """{pod: seconds} put down to each pod in this time."""
        return {pod: rows["inflicted_seconds"] for pod, rows in self.pods().items()}

    def pods(self):
        """{pod: what its counters of delay moved by, and its turn and weight at the end}."""
        counters = ("inflicted_seconds", "exposed_seconds", "exposed_probes")
        first, last = (
            {row["pod"]: figures.value_of(row["delay"]) for row in gpu["containers"] if figures.value_of(row["delay"])}
            for _, gpu in self._ends
        )
        return {
            pod: {
                **{name: delay[name] - first.get(pod, {}).get(name, 0.0) for name in counters},
                "turn_seconds": delay.get("turn_seconds"),
                "weight": delay.get("weight"),
            }
            for pod, delay in last.items()
        }

    def unattributed(self):
        """{reason: seconds} put down to no pod in this time."""
        first, last = (gpu["canary"]["unattributed_seconds"] for _, gpu in self._ends)
        return {reason: seconds - first.get(reason, 0.0) for reason, seconds in last.items()}

    def gap(self):
        """Inflicted and unattributed, less the histogram's sum, as a share of that."""
        sum_seconds = self.histogram()["sum_seconds"]
        parts = sum(self.inflicted().values()) + sum(self.unattributed().values())
        return (parts - sum_seconds) / sum_seconds if sum_seconds > 0 else None

    def probes(self):
        """[(launched, delay, started)] in this time, on the host's CLOCK_MONOTONIC."""
        return delays.cut(self._canary.probes(), self.begin, self.end)


class Canary:
    """An agent whose canary probes whenever a tenant is there."""

    def __init__(self, rig, name, rate=RATE, number=0):
        self.rig, self.gpu_uuid, self.rate = rig, rig.gpu_uuid, rate
        self.trace = (rig.out / f"canary-{name}.tsv").resolve()
        self.trace.unlink(missing_ok=True)
        self.agent = rig.agent(
            name,
            *("--kubeconfig", "none", "--assume-host-pid-namespace"),
            *("--canary", "always", "--canary-rate", f"{rate:g}"),
            number=number,
            environment={"SLICEWATCH_CANARY_TRACE": str(self.trace)},
        )

    def view(self):
        """What the agent says of it now."""
        return self.agent.gpu(self.gpu_uuid)["canary"]

    def wait_running(self, seconds=START_SECONDS):
        """Until it probes; Broken where it does not, with what the agent says instead."""
        said = {}

        def probes():
            said.update(self.view())
            probing = said["state"] == "running" and said["reason"] in ("shared", "forced")
            return probing and figures.value_of(said["delays"])

        try:
            wait_for("the canary to probe", seconds, probes, 0.2)
        except Broken as broken:
            words = f"it is {said.get('state')}, because of {said.get('reason')}"
            raise Broken(f"{broken}: {words}; see {self.agent.log}") from None

    def window(self, seconds, while_waiting=None):
        """Waits so long, between two snapshots; `while_waiting` is called about five times a second."""
        begin = self.agent.snapshot()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if while_waiting:
                while_waiting()
            time.sleep(max(0.0, min(0.2, end - time.monotonic())))
        last = self.agent.snapshot()
        time.sleep(LATE_SECONDS)
        return Window(self, begin, last)

    def probes(self):
        """Every probe so far, on the host's CLOCK_MONOTONIC."""
        try:
            rows = delays.probes(self.trace.read_text(), self.gpu_uuid)
        except FileNotFoundError:
            words = "the agent does not know SLICEWATCH_CANARY_TRACE, or its worker never probed"
            raise Broken(f"there is no {self.trace}: {words}; see {self.agent.log}") from None
        snapshot = self.agent.snapshot()
        agent_now = snapshot["at"]["monotonic_seconds"] + time.time() - snapshot["unix"]
        by = delays.shift([launched for launched, _, _ in rows], time.monotonic(), agent_now)
        return [(launched + by, delay, started) for launched, delay, started in rows]

    def workers(self):
        """Processes that the agent started."""
        return descendants(self.agent.process.pid)

    def stop(self):
        """Ends the agent, and with it the canary."""
        self.agent.stop()


def requests(tenant, begin, end):
    """[(asked, took, GPU's start)] of a tenant between two times of CLOCK_MONOTONIC."""
    try:
        rows = delays.requests(tenant.record.read_bytes())
    except FileNotFoundError:
        raise Broken(f"tenant {tenant.pod} wrote no record: see tenants.log") from None
    return delays.cut(rows, begin, end)


def series(rows):
    """The time and the seconds of requests or probes."""
    return [(row[0], row[1]) for row in rows]


def seconds_of(rows):
    """The seconds alone."""
    return [row[1] for row in rows]
