"""What the canary costs the tenants, the host and the card."""

import subprocess
import time

import delays
import figures
import probing
from rig import Broken, cpu_seconds, descendants, proportional

# With and without the canary, by turns.
PAIRS = 6


class Power:
    """What the card draws, as nvidia-smi reads it twice a second."""

    def __init__(self, rig, name):
        self.path = rig.out / f"power-{name}.csv"
        query = ["nvidia-smi", "-i", rig.gpu_uuid, "--query-gpu=power.draw,clocks.sm"]
        with open(self.path, "wb") as output:
            try:
                self.process = subprocess.Popen(
                    [*query, "--format=csv,noheader,nounits", "-lms", "500"],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL,
                )
            except FileNotFoundError:
                self.process = None

    def stop(self):
        """Mean watts and megahertz; None where they could not be read."""
        if self.process:
            self.process.terminate()
            self.process.wait(10)
        return figures.power(self.path.read_text())


def tree_cpu(pid):
    """CPU of a process and of all that it started, by process: {pid: seconds}."""
    found = {}
    for each in (pid, *descendants(pid)):
        try:
            found[each] = cpu_seconds(each)
        except OSError:
            pass  # it ended meanwhile
    return found


def watch(rig, name, seconds, agent=None):
    """Power over so long, and the CPU of an agent with its workers, in percent of a core."""
    power = Power(rig, name)
    before, begin = tree_cpu(agent.process.pid) if agent else {}, time.monotonic()
    time.sleep(seconds)
    elapsed, after = time.monotonic() - begin, tree_cpu(agent.process.pid) if agent else {}
    used = {pid: after[pid] - before.get(pid, 0.0) for pid in after}
    found = {"elapsed_seconds": elapsed, **power.stop()}
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
    phases = {"nothing": watch(rig, "nothing", short)}
    canary = probing.Canary(rig, "canary-cost")
    probing.settle()
    phases["agent, no tenant"] = watch(rig, "no-tenant", short, canary.agent)
    held = canary.agent.gpu(rig.gpu_uuid)["memory_bytes"]["value"]["used"]
    limits.at_most("framebuffer in use while there is no tenant", held / figures.MIB, 16.0, "MiB")
    probing.idler(rig)
    canary.wait_running()
    probing.settle()
    phases["idle tenant, canary on"] = watch(rig, "idle-on", long, canary.agent)
    memory = worker_memory(rig, canary)
    fours = {f"medium-{number}": probing.MEDIUM for number in range(4)}
    probing.start(rig, fours)
    probing.settle()
    phases["four busy, canary on"] = watch(rig, "busy-on", long, canary.agent)
    canary.stop()
    agent = rig.agent("canary-cost-off", *probing.OFF)
    probing.settle()
    phases["four busy, canary off"] = watch(rig, "busy-off", long, agent)
    rig.end(*fours)
    probing.settle()
    phases["idle tenant, canary off"] = watch(rig, "idle-off", long, agent)
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
            f"throughput lost: {100 * lost:.3f} % +- {100 * error:.3f} (standard error); "
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
        mean = {field: delays.mean([row[field] or 0 for row in rows]) / figures.MIB for field in ("Rss", "Pss")} if rows else {}
        text = ", ".join(f"{field} {value:.1f} MiB" for field, value in mean.items()) or "no worker was seen"
        lines.append(f"{name} worker{'s, each' if name == 'eight' else ''}: {text}")
    return lines
