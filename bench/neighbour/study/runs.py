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


def microseconds(rows):
    """Rows as [time, seconds, rest] in whole microseconds and nanoseconds: small in JSON."""
    return [[round(row[0] * 1e6), round(row[1] * 1e9), *row[2:]] for row in rows]


def series(rows):
    """Back to (time, seconds)."""
    return [(row[0] / 1e6, row[1] / 1e9) for row in rows]


def values(rows):
    """Back to seconds alone."""
    return [row[1] / 1e9 for row in rows]


class Runs:
    """A part of the study: one agent, one rate, one set of victims."""

    def __init__(self, rig, part, rate, waits, settle_seconds):
        self.rig, self.part, self.waits, self.settle_seconds = rig, part, waits, settle_seconds
        self.folder = rig.out / "runs"
        self.folder.mkdir(exist_ok=True)
        rig.check = part
        # Holds a context and does nothing: the canary stays up from one run to the next.
        rig.tenant("idler", "--idle", seconds=FOREVER).wait_for_line("ready", 30)
        self.canary = probing.Canary(rig, f"study-{part}", rate)
        self.canary.wait_running()
        self.idle, self.alone, self._started = None, {}, 0

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

    def victims(self):
        """The short-request tenants, one for each way of waiting."""
        return [(f"short-{wait}", {**mixes.SHORT, "wait": wait, "record": True}) for wait in self.waits]

    def measure_idle(self, seconds):
        """What a probe waits with nobody active."""
        time.sleep(self.settle_seconds)
        window = self.canary.window(seconds)
        self.idle = microseconds(window.probes())

    def measure_alone(self, seconds, pods=None):
        """What the victims' requests take without neighbours: each by itself, with no probe between.

        On an idle H200 a request that finds another context on the card, a probe's too, starts some
        130 us later than one that finds its own. What the canary says beside the victims is kept as well.
        """
        pods = pods or self.victims()
        self.alone = self._observe([], pods, seconds)
        for name, load in pods:
            tenants = self.start([(name, load)])
            try:
                time.sleep(self.settle_seconds)
                with self.canary.paused():
                    begin = time.monotonic()
                    time.sleep(seconds)
                    end = time.monotonic()
            finally:
                self.end(tenants)
            rows = probing.requests(tenants[name], begin, end)
            if not rows:
                raise Broken(f"{name} made no request alone in {seconds:.0f} s: see tenants.log")
            self.alone["victims"][name] = microseconds([row[:2] for row in rows])

    def measure(self, name, neighbours, seconds, pods=None, **more):
        """One run into its file."""
        begun = time.monotonic()
        outcome = {"name": name, "part": self.part, "rate": self.canary.rate, "neighbours": neighbours, **more}
        try:
            outcome.update(self._observe(neighbours, pods or self.victims(), seconds))
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
        began = {}
        for name, rows in records.items():
            if not rows:
                raise Broken(f"{name} made no request in {window.seconds:.0f} s: see tenants.log")
            found, error = delays.gpu_delays(rows, mixes.SHORT_OWN_SECONDS if name.startswith("short-") else 0.0)
            known = [delay for _, delay in found if delay is not None]
            began[name] = {"mean": delays.mean(known), "error": error} if known else None
        canary = window.gpu()["canary"]
        return {
            "window": [window.begin, window.end],
            "canary": microseconds(window.probes()),
            "victims": {name: microseconds([row[:2] for row in rows]) for name, rows in records.items()},
            "began": began,
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
    runs.measure_idle(arguments.baseline_seconds)
    runs.measure_alone(arguments.baseline_seconds)
    for mix in arguments.mixes:
        runs.measure(f"mix-{mix}", mixes.neighbours(mix), arguments.seconds, mix=mix)
    runs.close()


def precise_part(rig, arguments):
    """Some mixes with so many probes that the figures alone count."""
    runs = Runs(rig, "precise", arguments.precise_rate, arguments.waits, arguments.settle)
    runs.measure_idle(arguments.baseline_seconds)
    runs.measure_alone(arguments.baseline_seconds)
    # Arrivals are random: a little longer than the mean says.
    seconds = 1.03 * arguments.precise_probes / arguments.precise_rate
    for mix in arguments.precise_mixes:
        runs.measure(f"precise-{mix}", mixes.neighbours(mix), seconds, mix=mix)
    runs.close()


def lengths_part(rig, arguments):
    """Requests of more and more work, alone and beside heavy neighbours."""
    runs = Runs(rig, "lengths", arguments.rate, ["block"], min(2.0, arguments.settle))
    runs.measure_idle(arguments.baseline_seconds)
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
    runs.measure_idle(arguments.baseline_seconds)
    pods = [*runs.victims(), ("infer-graph", [*script, "infer", "--graph"]), ("infer-eager", [*script, "infer"])]
    runs.measure_alone(arguments.baseline_seconds, pods)
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
