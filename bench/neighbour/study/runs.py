"""Runs of the study: neighbours, victims and the canary side by side; each run is one JSON file.

A file holds all that the tables are made of, the delays alone (its baseline) included, so that tables
can be made again, and runs of several sessions be put together, without a GPU.
"""

import json
import pathlib
import subprocess
import time

import delays
import mixes
import probing
from rig import Broken

FOREVER = 36000
MODELS = pathlib.Path(__file__).with_name("models.py")
SPINNER = "short-spin"


def microseconds(rows):
    """Rows as [time, seconds, rest] in whole microseconds and nanoseconds: small in JSON."""
    return [[round(row[0] * 1e6), round(row[1] * 1e9), *row[2:]] for row in rows]


def series(rows):
    """Back to (time, seconds)."""
    return [(row[0] / 1e6, row[1] / 1e9) for row in rows]


def values(rows):
    """Back to seconds alone."""
    return [row[1] / 1e9 for row in rows]


def started(records):
    """[time, seconds] from each request's asking to its kernel's start, of each victim, small in JSON."""
    found = delays.starts(records, SPINNER, mixes.SHORT_OWN_SECONDS)
    return {name: microseconds(rows) for name, rows in found.items()}


class Runs:
    """A part of the study: one agent, one rate, one set of victims."""

    def __init__(self, rig, part, rate, waits, settle_seconds):
        self.rig, self.part, self.rate, self.waits = rig, part, rate, waits
        self.settle_seconds = settle_seconds
        self.folder = rig.out / "runs"
        self.folder.mkdir(exist_ok=True)
        rig.check = part
        # Holds a context and does nothing: the canary stays up from one run to the next.
        rig.tenant("idler", "--idle", seconds=FOREVER).wait_for_line("ready", 30)
        self.canary, self.idle, self.alone, self._started = None, None, {}, 0

    def start_canary(self, seconds):
        """Starts the agent, and learns for so long what a probe waits with nobody active."""
        self.canary = probing.Canary(self.rig, f"study-{self.part}", self.rate)
        self.canary.wait_running()
        time.sleep(self.settle_seconds)
        self.idle = microseconds(self.canary.window(seconds).probes())

    def start(self, pods, seconds=90):
        """Starts tenants, (name, options) or (name, command), and waits for them all: {name: tenant}.

        Each is a new pod under a new name: the agent still shows the last run's for a while.
        """
        tenants = {}
        for name, load in pods:
            self._started += 1
            pod = f"{name}-n{self._started}"
            if isinstance(load, dict):
                load = dict(load)
                record = load.pop("record", False)
                tenants[name] = self.rig.tenant(pod, record=record, seconds=FOREVER, **load)
            else:
                tenants[name] = self.rig.program(pod, [*load, "--seconds", str(FOREVER)], record="infer" in load)
        for tenant in tenants.values():
            tenant.wait_for_line("ready", seconds)
        return tenants

    def end(self, tenants):
        """Ends them, all at once."""
        self.rig.end(*(tenant.pod for tenant in tenants.values()))

    def victims(self, gap_ms):
        """The short-request tenants, one for each way of waiting."""
        return [(f"short-{wait}", {**mixes.SHORT, "gap_ms": gap_ms, "wait": wait, "record": True})
                for wait in self.waits]

    def measure_alone(self, seconds, pods):
        """What the victims' requests take without neighbours: each by itself, before there is a canary.

        On an idle H200 a request that finds another context on the card, a probe's too, starts some
        130 us later than one that finds its own.
        """
        records = {}
        for name, load in pods:
            tenants = self.start([(name, load)])
            try:
                time.sleep(self.settle_seconds)
                begin = time.monotonic()
                time.sleep(seconds)
                end = time.monotonic()
            finally:
                self.end(tenants)
            records[name] = probing.requests(tenants[name], begin, end)
            if not records[name]:
                raise Broken(f"{name} made no request alone in {seconds:.0f} s: see tenants.log")
        # The one that spins tells when a kernel starts that need not wait; the others launch as it does.
        spinning = {name: rows for name, rows in records.items() if name == SPINNER}
        self.alone = {
            "victims": {name: microseconds([row[:2] for row in rows]) for name, rows in records.items()},
            "starts": started(spinning).get(SPINNER, []),
        }

    def measure_canary_beside(self, seconds, pods):
        """What the victims themselves make a probe wait, which is in what it says of a mix."""
        self.alone["canary"] = self._observe([], pods, seconds)["canary"]

    def measure(self, name, neighbours, seconds, pods, **more):
        """One run into its file."""
        begun = time.monotonic()
        outcome = {"name": name, "part": self.part, "rate": self.rate, "neighbours": neighbours, **more}
        try:
            outcome.update(self._observe(neighbours, pods, seconds))
            outcome.update(idle=self.idle, alone=self.alone, error=None)
        except Broken as broken:
            outcome["error"] = str(broken)
        (self.folder / f"{name}.json").write_text(json.dumps(outcome, separators=(",", ":")) + "\n")
        word = outcome["error"] or f"{len(outcome['canary'])} probes"
        print(f"{name}: {word} ({time.monotonic() - begun:.0f} s)", flush=True)
        return outcome

    def _observe(self, neighbours, pods, seconds):
        """Starts all of them, lets them settle, watches, ends them."""
        tenants = {}
        try:
            tenants.update(self.start(neighbours))
            victims = self.start(pods)
            tenants.update(victims)
            time.sleep(self.settle_seconds)
            window = self.canary.window(seconds)
            records = {name: probing.requests(tenant, window.begin, window.end) for name, tenant in victims.items()}
            return self._seen(window, records, {tenant.pod: name for name, tenant in tenants.items()})
        finally:
            self.end(tenants)

    def _seen(self, window, records, names):
        """All that the tables need of a window."""
        for name, rows in records.items():
            if not rows:
                raise Broken(f"{name} made no request in {window.seconds:.0f} s: see tenants.log")
        canary = window.gpu()["canary"]
        return {
            "window": [window.begin, window.end],
            "canary": microseconds(window.probes()),
            "victims": {name: microseconds([row[:2] for row in rows]) for name, rows in records.items()},
            "starts": started({name: rows for name, rows in records.items() if name.startswith("short-")}),
            "agent": {
                "histogram": window.histogram(),
                "pods": {names.get(pod, pod): rows for pod, rows in window.pods().items()},
                "unattributed_seconds": window.unattributed(),
                "gap": window.gap(),
                "recent": canary["recent"],
                "baseline": canary["baseline"],
                "missed": canary["missed"] - window.gpu(0)["canary"]["missed"],
                "clock_error_seconds": canary["clock_error_seconds"],
            },
        }

    def close(self):
        """Ends the agent and what is left."""
        self.rig.clear()


def mixes_part(rig, arguments):
    """Each mix at the default rate."""
    runs = Runs(rig, "mixes", arguments.rate, arguments.waits, arguments.settle)
    pods = runs.victims(mixes.SHORT_GAP_MS)
    runs.measure_alone(arguments.baseline_seconds, pods)
    runs.start_canary(arguments.baseline_seconds)
    runs.measure_canary_beside(arguments.baseline_seconds, pods)
    for mix in arguments.mixes:
        runs.measure(f"mix-{mix}", mixes.neighbours(mix), arguments.seconds, pods, mix=mix)
    runs.close()


def precise_part(rig, arguments):
    """Some mixes with so many probes that the figures alone count."""
    runs = Runs(rig, "precise", arguments.precise_rate, arguments.waits, arguments.settle)
    # As often as probes come: see mixes.SHORT_GAP_MS.
    pods = runs.victims(1000 / arguments.precise_rate)
    runs.measure_alone(arguments.baseline_seconds, pods)
    runs.start_canary(arguments.baseline_seconds)
    runs.measure_canary_beside(arguments.baseline_seconds, pods)
    # Arrivals are random: a little longer than the mean says.
    seconds = 1.03 * arguments.precise_probes / arguments.precise_rate
    for mix in arguments.precise_mixes:
        runs.measure(f"precise-{mix}", mixes.neighbours(mix), seconds, pods, mix=mix)
    runs.close()


def lengths_part(rig, arguments):
    """Requests of more and more work, alone and beside heavy neighbours."""
    runs = Runs(rig, "lengths", arguments.rate, ["block"], min(2.0, arguments.settle))
    runs.start_canary(arguments.baseline_seconds)
    for count in mixes.LENGTH_NEIGHBOURS:
        heavy = [(f"heavy-{number}", mixes.HEAVY) for number in range(count)]
        started = runs.start(heavy)
        for name, kernel_ms, kernels in mixes.LENGTHS:
            load = {"kernel_ms": kernel_ms, "kernels_per_request": kernels, "gap_ms": 5, "gaps": "exponential"}
            victim = [(f"length-{name}", {**load, "wait": "spin", "record": True})]
            run = f"length-{name}-beside-{count}"
            runs.measure(run, [], arguments.length_seconds, victim, length=name, work_ms=kernel_ms * kernels,
                         kernels=kernels, heavy=count)
        runs.end(started)
    runs.close()


def models_part(rig, arguments):
    """Inference beside training, in PyTorch."""
    asked = [arguments.python, "-c", "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)"]
    done = subprocess.run(asked, capture_output=True, text=True)
    if done.returncode != 0:
        why = "it cannot use a GPU" if done.returncode == 3 else "it is not there"
        print(f"models: skipped: PyTorch of {arguments.python}: {why} (see --python)", flush=True)
        return
    script = [arguments.python, str(MODELS)]
    runs = Runs(rig, "models", arguments.rate, arguments.waits, arguments.settle)
    infer = [*script, "infer", "--gap-ms", str(mixes.SHORT_GAP_MS)]
    pods = [*runs.victims(mixes.SHORT_GAP_MS), ("infer-graph", [*infer, "--graph"]), ("infer-eager", infer)]
    runs.measure_alone(arguments.baseline_seconds, pods)
    runs.start_canary(arguments.baseline_seconds)
    runs.measure_canary_beside(arguments.baseline_seconds, pods)
    runs.measure("mix-models", [("trainer", [*script, "train"])], arguments.seconds, pods, mix="models")
    runs.close()


PARTS = {"mixes": mixes_part, "precise": precise_part, "lengths": lengths_part, "models": models_part}


def expected_seconds(arguments):
    """About how long the parts take on the device."""
    each = 4 + arguments.settle
    start = 10 + arguments.settle + 2 * arguments.baseline_seconds + each
    lengths = len(mixes.LENGTHS) * len(mixes.LENGTH_NEIGHBOURS)
    takes = {
        "mixes": start + len(arguments.mixes) * (arguments.seconds + each),
        "precise": start
        + len(arguments.precise_mixes) * (1.03 * arguments.precise_probes / arguments.precise_rate + each),
        "lengths": start + lengths * (arguments.length_seconds + 6),
        "models": start + arguments.seconds + 60,
    }
    return sum(takes[part] for part in arguments.parts)
