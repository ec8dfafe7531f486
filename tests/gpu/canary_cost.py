"""What the canary costs the tenants, the host and the card."""

import ctypes
import time

import delays
import figures
import probing
from rig import Broken, cpu_seconds, descendants, proportional

# With and without the canary, by turns.
PAIRS = 6


class Power:
    """What the card draws, by NVML: this script's own client, beside the agent's."""

    SM_CLOCK = 1

    def __init__(self, gpu_uuid):
        self._nvml = self._card = None
        try:
            self._nvml = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        self._card = ctypes.c_void_p()
        found = self._nvml.nvmlInit_v2() or self._nvml.nvmlDeviceGetHandleByUUID(
            gpu_uuid.encode(), ctypes.byref(self._card))
        if found != 0:
            self._card = None

    def read(self):
        """Watts and megahertz; None where they cannot be read."""
        if self._card is None:
            return None
        milliwatts, megahertz = ctypes.c_uint(), ctypes.c_uint()
        refused = self._nvml.nvmlDeviceGetPowerUsage(self._card, ctypes.byref(milliwatts))
        refused = refused or self._nvml.nvmlDeviceGetClockInfo(self._card, self.SM_CLOCK, ctypes.byref(megahertz))
        return None if refused else (milliwatts.value / 1000, megahertz.value)

    def over(self, seconds):
        """Means of two readings a second over so long."""
        readings, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            readings.append(self.read())
            time.sleep(max(0.0, min(0.5, end - time.monotonic())))
        readings = [reading for reading in readings if reading]
        means = [delays.mean(column) for column in zip(*readings)] or [None, None]
        return {"watts": means[0], "sm_mhz": means[1], "power_readings": len(readings)}


def tree_cpu(pid):
    """CPU of a process and of all that it started: {pid: seconds}."""
    found = {}
    for each in (pid, *descendants(pid)):
        try:
            found[each] = cpu_seconds(each)
        except OSError:
            pass  # it ended meanwhile
    return found


def watch(power, seconds, agent=None):
    """Power over so long, and the CPU of an agent with its workers, in percent of a core."""
    before, begin = tree_cpu(agent.process.pid) if agent else {}, time.monotonic()
    drawn = power.over(seconds)
    elapsed, after = time.monotonic() - begin, tree_cpu(agent.process.pid) if agent else {}
    used = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
    found = {"elapsed_seconds": elapsed, **drawn}
    if agent:
        found["core_percent"] = 100 * sum(used.values()) / elapsed
        found["core_percent_agent"] = 100 * used.get(agent.process.pid, 0.0) / elapsed
        found["workers"] = len(after) - 1
    return found


def worker_memory(rig, first):
    """Memory of one worker, and of each of eight: those of eight agents on the one card."""
    one = [proportional(pid) for pid in first.workers()]
    canaries = [first]
    for number in range(1, 8):
        # A port of its own each; one tenant is enough to keep them all up.
        canaries.append(probing.Canary(rig, f"canary-cost-{number}", number=number))
    for canary in canaries:
        canary.wait_running()
    every = [proportional(pid) for canary in canaries for pid in canary.workers()]
    for canary in canaries[1:]:
        canary.stop()
    return {"one": one, "eight": every}


def cost_pairs(rig, pairs, seconds):
    """A victim's throughput and p99 with and without the canary, by turns."""
    victim = rig.tenant("victim", record=True, seconds=probing.FOREVER, wait="spin", **probing.MEDIUM)
    victim.wait_for_line("ready", 30)
    rows = []
    for number in range(pairs):
        # Which comes first changes from pair to pair: what drifts does not count for either.
        turns = ("on", "off") if number % 2 == 0 else ("off", "on")
        found = {turn: cost_turn(rig, victim, turn, f"pair-{number}-{turn}", seconds) for turn in turns}
        lost = 1 - found["on"]["rate"] / found["off"]["rate"]
        rows.append({**found, "lost": lost, "p99_change": found["on"]["p99"] / found["off"]["p99"] - 1})
        print(f"pair {number}: throughput lost {100 * lost:+.3f} %", flush=True)
    rig.end("victim")
    return rows


def cost_turn(rig, victim, turn, name, seconds):
    """One side of a pair."""
    if turn == "on":
        canary = probing.Canary(rig, name)
        canary.wait_running()
        agent = canary.agent
    else:
        agent = rig.agent(name, *probing.OFF)
        probing.settle()
    begin = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    agent.stop()
    time.sleep(probing.LATE_SECONDS)
    took = [row[1] for row in delays.cut(delays.requests(victim.record.read_bytes()), begin, end)]
    if not took:
        raise Broken(f"the victim made no request in {seconds:.0f} s: see tenants.log")
    return {"rate": len(took) / (end - begin), "mean": delays.mean(took), "p99": delays.quantile(took, 0.99)}


def check_canary_cost(rig, limits):
    """What the canary costs the tenants, the host and the card."""
    total = probing.budget(rig, 420)
    short, long = max(probing.SHORTEST_SECONDS, total * 0.03), max(2 * probing.SHORTEST_SECONDS, total * 0.06)
    power = Power(rig.gpu_uuid)
    phases = {"nothing": watch(power, short)}
    canary = probing.Canary(rig, "canary-cost")
    probing.settle()
    phases["agent, no tenant"] = watch(power, short, canary.agent)
    held = canary.agent.gpu(rig.gpu_uuid)["memory_bytes"]["value"]["used"]
    limits.at_most("framebuffer in use while there is no tenant", held / figures.MIB, 16.0, "MiB")
    probing.idler(rig)
    canary.wait_running()
    probing.settle()
    phases["idle tenant, canary on"] = watch(power, long, canary.agent)
    memory = worker_memory(rig, canary)
    fours = {f"medium-{number}": probing.MEDIUM for number in range(4)}
    probing.start(rig, fours)
    probing.settle()
    phases["four busy, canary on"] = watch(power, long, canary.agent)
    canary.stop()
    agent = rig.agent("canary-cost-off", *probing.OFF)
    probing.settle()
    phases["four busy, canary off"] = watch(power, long, agent)
    rig.end(*fours)
    probing.settle()
    phases["idle tenant, canary off"] = watch(power, long, agent)
    rig.end("idler")
    agent.stop()
    for load in ("idle tenant", "four busy"):
        with_it, without = (phases[f"{load}, canary {turn}"]["core_percent"] for turn in ("on", "off"))
        limits.at_most(f"{load}: CPU of the canary, the parent's share included", with_it - without, 0.5,
                       "% of a core")
    each = max(probing.SHORTEST_SECONDS, total * 0.4 / (2 * PAIRS) - 4)
    rows = cost_pairs(rig, PAIRS, each)
    lost, error = delays.paired([row["lost"] for row in rows])
    change, noise = delays.paired([row["p99_change"] for row in rows])
    limits.at_most("a victim's throughput lost (mean of pairs)", 100 * lost, 0.5, "%")
    limits.at_most("change of its p99, off 0 (limit: three standard errors, or 1 %)", 100 * abs(change),
                   max(1.0, 300 * noise), "%")
    return {
        "phases": phases,
        "worker_memory_bytes": memory,
        "pairs": rows,
        "throughput_lost": {"mean": lost, "standard_error": error},
        "p99_change": {"mean": change, "standard_error": noise},
        "notes": [phase_words(name, phase) for name, phase in phases.items()] + memory_words(memory) + [
            f"throughput lost: {100 * lost:.3f} % +- {100 * error:.3f} (standard error of {len(rows)} pairs); "
            f"p99: {100 * change:+.2f} % +- {100 * noise:.2f}"
        ],
    }


def phase_words(name, phase):
    """One phase in a line."""
    watts, clock = phase["watts"], phase["sm_mhz"]
    text = "power unknown" if watts is None else f"{watts:.1f} W at {clock:.0f} MHz"
    if "core_percent" in phase:
        text += f"; {phase['core_percent']:.3f} % of a core, {phase['core_percent_agent']:.3f} of it the agent's"
    return f"{name}: {text}"


def memory_words(memory):
    """One worker's memory beside that of eight."""
    lines = []
    for name, rows in memory.items():
        parts = []
        for field in ("Rss", "Pss", "Private_Dirty") if rows else ():
            known = [row[field] for row in rows if row[field] is not None]
            parts.append(f"{field} {delays.mean(known) / figures.MIB:.1f} MiB" if known else f"{field} unknown")
        lines.append(f"memory of {name} worker(s), each of {len(rows)} seen: {', '.join(parts) or 'none'}")
    return lines
