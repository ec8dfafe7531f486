"""The checks of the latency canary: what it costs, gives back, puts down to whom, and says in a fault.

Each can be run alone, and fits its phases into the time it is given (`--seconds`).
"""

import signal
import subprocess
import time

import delays
import figures
import probing
from rig import Broken, cpu_seconds, descendants, proportional, wait_for

FOREVER = 36000
MEDIUM = {"kernel_ms": 0.5}
SHORT = {"kernel_ms": 0.1, "gap_ms": 5, "gaps": "exponential", "wait": "spin"}
# Lists are read once a second and published with the window.
WINDOW_SECONDS = 2.5
OFF = ("--kubeconfig", "none", "--assume-host-pid-namespace", "--canary", "off")


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
    """A tenant that holds a context and does nothing."""
    return rig.tenant("idler", "--idle", seconds=FOREVER).wait_for_line("ready", 30)


# Cost.


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
    victim = rig.tenant("victim", record=True, seconds=FOREVER, wait="spin", **MEDIUM)
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
        agent = rig.agent(name, *OFF)
        time.sleep(2)
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
    total = budget(rig, 420)
    short, long, pairs = max(4, total * 0.03), max(8, total * 0.06), 6
    phases = {"nothing": watch(rig, "nothing", short)}
    canary = probing.Canary(rig, "canary-cost")
    time.sleep(3)
    phases["agent, no tenant"] = watch(rig, "no-tenant", short, canary.agent)
    limits.at_most("workers while there is no tenant", phases["agent, no tenant"]["workers"], 0)
    idler(rig)
    canary.wait_running()
    time.sleep(3)
    phases["idle tenant, canary on"] = watch(rig, "idle-on", long, canary.agent)
    memory = worker_memory(rig, canary)
    fours = {f"medium-{number}": MEDIUM for number in range(4)}
    start(rig, fours)
    time.sleep(3)
    phases["four busy, canary on"] = watch(rig, "busy-on", long, canary.agent)
    canary.stop()
    agent = rig.agent("canary-cost-off", *OFF)
    time.sleep(3)
    phases["four busy, canary off"] = watch(rig, "busy-off", long, agent)
    rig.end(*fours)
    time.sleep(3)
    phases["idle tenant, canary off"] = watch(rig, "idle-off", long, agent)
    rig.end("idler")
    agent.stop()
    for load in ("idle tenant", "four busy"):
        with_it, without = (phases[f"{load}, canary {turn}"]["core_percent"] for turn in ("on", "off"))
        limits.at_most(f"{load}: CPU of the canary, the parent's share included", with_it - without, 0.5,
                       "% of a core")
    each = max(4, total * 0.4 / (2 * pairs) - 4)
    rows = cost_pairs(rig, pairs, each)
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
    }


# Memory.


def grow(rig, pod, limits_seconds, **load):
    """A tenant that grows until two steps in a row were refused, or there are no more steps."""
    tenant = rig.tenant(pod, "--idle", seconds=FOREVER, **load)
    tenant.wait_for_line("ready", 30)
    wanted = load.get("grow_steps")

    def done():
        taken, refused = grown(tenant)
        return len(refused) >= 2 or (wanted is not None and len(taken) >= wanted)

    wait_for(f"{pod} to have grown", limits_seconds, done, 0.05)
    return tenant


def grown(tenant):
    """Steps taken and steps refused."""
    taken = [line for line in tenant.lines("memory") if line["reason"] == "grow"]
    return taken, tenant.lines("refused")


def free_bytes(agent, rig):
    """Free framebuffer and the canary's part of what is used, of one snapshot."""
    gpu = agent.gpu(rig.gpu_uuid)
    memory, rest = figures.value_of(gpu["memory_bytes"]), figures.value_of(gpu["unattributed_bytes"])
    if memory is None:
        raise Broken(f"the agent does not know the card's memory: {gpu['memory_bytes']}")
    return {"total": memory["total"], "free": memory["free"], "canary": (rest or {}).get("canary", 0)}


def wait_state(canary, state, seconds):
    """Seconds until the canary is in a state; None where it is not in time."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        if canary.view()["state"] == state:
            return time.monotonic() - begun
        time.sleep(0.05)
    return None


def check_canary_memory(rig, limits):
    """Is its memory given back before a tenant needs it, and what does a tenant get that jumps?"""
    patience = max(20.0, budget(rig, 240) / 6)
    plain = rig.agent("canary-memory-off", *OFF)
    idler(rig)
    time.sleep(WINDOW_SECONDS)
    room = free_bytes(plain, rig)
    # All but twice the floor of 5 % is taken at once; the rest by steps smaller than the canary is.
    step, hold = 64, int(room["free"] - 0.1 * room["total"]) // figures.MIB
    load = {"memory_mib": hold, "grow_mib": step, "grow_at_s": 4, "grow_every_ms": 40}

    def steps_of(pod):
        tenant = grow(rig, pod, patience + 40, **load)
        taken, refused = grown(tenant)
        time.sleep(WINDOW_SECONDS)
        return tenant, len(taken), refused

    tenant, without, _ = steps_of("alone")
    own = room["free"] - free_bytes(plain, rig)["free"] - (hold + step * without) * figures.MIB
    tenant.stop()
    plain.stop()

    canary = probing.Canary(rig, "canary-memory")
    canary.wait_running()
    time.sleep(WINDOW_SECONDS)
    before = free_bytes(canary.agent, rig)
    tenant, with_it, refused = steps_of("grower")
    full = free_bytes(canary.agent, rig)
    at_full = canary.view()
    early = [line for line in refused if line["number"] <= with_it]
    tenant.stop()
    back = wait_state(canary, "running", patience + 60)
    canary.wait_running()

    # The same with an agent that is stopped, and so cannot give way: what would have been.
    canary.agent.process.send_signal(signal.SIGSTOP)
    try:
        tenant, held, _ = steps_of("beside-held")
    finally:
        canary.agent.process.send_signal(signal.SIGCONT)
    tenant.stop()
    canary.wait_running(patience + 60)
    time.sleep(WINDOW_SECONDS)

    size = before["canary"]
    limits.at_least("the canary's own memory", size, 1, "bytes")
    limits.at_least("steps taken beside the canary (alone, less one)", with_it, without - 1)
    limits.at_most("steps refused before the last one taken", len(early), 0)
    limits.at_most("steps taken beside a canary that could not leave", held, with_it - 1)
    limits.at_least("it was yielded when the card was full", int(at_full["state"] == "yielded"), 1)
    limits.at_most("from the tenant's end to running again", back, 120.0, "s")
    jumps = {name: jump(rig, canary, name, size, own, patience) for name in ("fits", "past")}
    limits.at_most("a jump under the floor that fits: steps refused", jumps["fits"]["refused"], 0)
    limits.at_most("the same: until the canary was gone", jumps["fits"]["yielded_after_seconds"], 5.0, "s")
    return {
        "step_mib": step,
        "room": room,
        "own_context_bytes": own,
        "canary_bytes": size,
        "steps": {"alone": without, "beside": with_it, "beside_held": held},
        "free_when_full": full,
        "running_again_after_seconds": back,
        "jumps": jumps,
    }


def jump(rig, canary, name, size, own, patience):
    """One step from plenty to almost nothing: what fits beside the canary, or only without it."""
    free = free_bytes(canary.agent, rig)["free"] - own
    # "past" needs half of what the canary holds.
    bytes_ = free - size // 2 - 32 * figures.MIB if name == "fits" else free + size // 2
    load = {"grow_mib": bytes_ // figures.MIB, "grow_steps": 1, "grow_at_s": 3, "grow_every_ms": 500}
    tenant = rig.tenant(f"jump-{name}", "--idle", seconds=FOREVER, **load)
    tenant.wait_for_line("ready", 30)
    wait_for(f"jump-{name} to have tried", 20, lambda: any(grown(tenant)), 0.02)
    after = wait_state(canary, "yielded", 5)
    time.sleep(2)
    taken, refused = grown(tenant)
    tenant.stop()
    again = wait_state(canary, "running", patience + 60)
    canary.wait_running()
    time.sleep(WINDOW_SECONDS)
    return {
        "asked_bytes": bytes_,
        "free_before_bytes": free,
        "taken": len(taken),
        "refused": len(refused),
        "seconds_until_taken": taken[0]["unix"] - refused[0]["unix"] if taken and refused else None,
        "yielded_after_seconds": after,
        "running_again_after_seconds": again,
    }


# Blame.


def busy_shares(tenants, seconds):
    """Share of the GPU's time of each tenant over so long, by its own count."""
    begin = time.time()
    time.sleep(seconds + 1)
    shares = {}
    for pod, tenant in tenants.items():
        points = figures.busy_points(tenant.lines())
        shares[pod] = (figures.interpolate(points, begin + seconds) - figures.interpolate(points, begin)) / seconds
    return shares


def tune(rig, want, rounds, seconds):
    """Gaps with which a heavy and a medium tenant get the same share of the GPU's time."""
    loads = {
        "heavy": {"kernel_ms": 8, "gap_ms": 12.0, "gaps": "exponential", "report_every": 0.25, "seed": 1},
        "medium": {"kernel_ms": 0.5, "gap_ms": 0.7, "gaps": "exponential", "report_every": 0.25, "seed": 2},
    }
    for number in range(rounds):
        pods = {f"{kind}-tune{number}": load for kind, load in loads.items()}
        tenants = start(rig, pods)
        time.sleep(1)
        shares = busy_shares(tenants, seconds)
        rig.end(*pods)
        print(f"tuning {number}: " + ", ".join(f"{pod} {100 * share:.1f} %" for pod, share in shares.items()), flush=True)
        for (kind, load), share in zip(loads.items(), shares.values()):
            load["gap_ms"] = figures.next_gap(load["kernel_ms"], load["gap_ms"], share, want)
    return loads


def blame_window(canary, seconds):
    """Delay a probe above the idle baseline, and what was put down to each pod a probe."""
    window = canary.window(seconds)
    histogram = window.histogram()
    probes = max(1, histogram["probes"])
    return {
        "probes": histogram["probes"],
        "delay": histogram["sum_seconds"] / probes,
        "inflicted": {pod: seconds / probes for pod, seconds in window.inflicted().items()},
        "pods": window.pods(),
        "unattributed": {reason: seconds / probes for reason, seconds in window.unattributed().items()},
        "gap": window.gap(),
    }


def check_canary_blame(rig, limits):
    """Is what a tenant is said to inflict what goes away with it, and is the worst one said to be?"""
    total = budget(rig, 540)
    phase = min(60.0, max(4.0, (total - 110) / 7))
    idler(rig)
    canary = probing.Canary(rig, "canary-blame")
    canary.wait_running()
    loads = tune(rig, 0.3, rounds=4, seconds=min(6.0, phase))
    time.sleep(2)
    # Each kind is one pod all through: what is learnt of it alone serves for the pair.
    seen = {"idle": blame_window(canary, phase / 4)}
    tenants = {}

    def one(kind):
        tenants[kind] = rig.tenant(kind, seconds=FOREVER, **loads[kind])
        tenants[kind].wait_for_line("ready", 30)

    def phase_of(name):
        time.sleep(4)  # a drain of the ring, so that the ledger knows of the change
        seen[name] = {**blame_window(canary, phase), "shares": busy_shares(tenants, 1)}
        print(f"{name}: {1e6 * seen[name]['delay']:.0f} us a probe", flush=True)

    def pause(kind, sig):
        # Stopped between two requests, it keeps its context: the same pod comes back.
        tenants[kind].process.send_signal(sig)

    one("heavy")
    phase_of("heavy alone")
    one("medium")
    pause("heavy", signal.SIGSTOP)
    phase_of("medium alone")
    pause("heavy", signal.SIGCONT)
    phase_of("both")
    pause("medium", signal.SIGSTOP)
    phase_of("medium removed")
    pause("medium", signal.SIGCONT)
    pause("heavy", signal.SIGSTOP)
    phase_of("heavy removed")
    pause("heavy", signal.SIGCONT)
    falls = {}
    for kind in ("heavy", "medium"):
        fall = seen["both"]["delay"] - seen[f"{kind} removed"]["delay"]
        said = seen["both"]["inflicted"].get(kind)
        off = None if said is None or fall <= 0 else abs(said / fall - 1)
        falls[kind] = {"fall_us": 1e6 * fall, "said_us": None if said is None else 1e6 * said, "off": off}
        limits.at_most(f"{kind}: delay put down to it, off the fall of delay without it", off, 0.2)
    gap = max((abs(each["gap"]) for each in seen.values() if each["gap"] is not None), default=None)
    rig.end("heavy", "medium")
    crowd = blame_crowd(rig, canary, limits, phase)
    gap = max([gap, *(abs(each["gap"]) for each in crowd if each["gap"] is not None)])
    limits.at_most("inflicted and unattributed, off the histogram's sum", gap, 0.001)
    return {"phase_seconds": phase, "loads": loads, "phases": seen, "falls": falls, "crowd": crowd}


def blame_crowd(rig, canary, limits, phase):
    """One heavy tenant and three light ones: the heavy one must come first."""
    pods = {"culprit": {"kernel_ms": 8}}
    for number in range(3):
        pods[f"light-{number}"] = {"kernel_ms": 1, "gap_ms": 20, "gaps": "exponential", "seed": 10 + number}
    start(rig, pods)
    time.sleep(6)
    windows = [blame_window(canary, phase) for _ in range(2)]
    rig.end(*pods)
    first = [max(window["inflicted"], key=window["inflicted"].get, default=None) for window in windows]
    limits.at_least("windows in which the heavy one of four comes first", first.count("culprit"), len(windows))
    return windows


# Faults.


class Timeline:
    """What the agent said from moment to moment."""

    def __init__(self, rig, canary):
        self.rig, self.canary, self.rows = rig, canary, []

    def look(self):
        """One more snapshot, where there is a new one."""
        snapshot = self.canary.agent.snapshot()
        if self.rows and self.rows[-1]["unix"] == snapshot["unix"]:
            return
        gpu = self.canary.agent.gpu(self.rig.gpu_uuid, snapshot)
        canary = gpu["canary"]
        recent, counts = figures.value_of(canary["recent"]), figures.value_of(canary["delays"])
        self.rows.append({
            "unix": snapshot["unix"],
            "state": canary["state"],
            "reason": canary["reason"],
            "stall_seconds": figures.value_of(canary["stall_seconds"]),
            "recent_mean_seconds": recent and recent["mean_seconds"],
            "probes": counts and sum(counts["counts"]),
            "xid_31": gpu["xids"].get("31", 0),
            "pairs": figures.pairs(gpu),
            "gpu_seconds": {row["pod"]: figures.value_of(row["gpu_seconds"]) for row in gpu["containers"]},
            "live": [row["pod"] for row in gpu["containers"] if figures.row_is_live(gpu, row["pod"])],
            "balance": figures.balance(gpu),
        })

    def until(self, end, seconds=120):
        """Looks until something is true."""
        wait_for("the end of the fault", seconds, lambda: (self.look(), end())[1], 0.2)

    def between(self, begin, end):
        """The rows of a stretch of time (unix)."""
        return [row for row in self.rows if begin <= row["unix"] <= end]


def side_by_side(canary, victim, begin, end, idle, alone):
    """What the victim measured itself in a stretch of time (monotonic), and what the canary's probes did."""
    requests = delays.cut(delays.requests(victim.record.read_bytes()), begin, end)
    probes = delays.cut(canary.probes(), begin, end)
    if not requests or not probes:
        return {"requests": len(requests), "probes": len(probes)}
    compared = delays.compare(probing.series(probes), idle, probing.series(requests), alone, begin, end)
    return {
        "requests": len(requests),
        "probes": len(probes),
        "given_up": sum(1 for probe in probes if not probe[2]),
        "added_us": {name: {key: 1e6 * figure[key] for key in ("canary", "victim")} for name, figure in compared.items()},
        "compared": compared,
        "longest_us": {"canary": 1e6 * max(p[1] for p in probes), "victim": 1e6 * max(r[1] for r in requests)},
    }


def check_canary_faults(rig, limits):
    """A 20 s kernel and an illegal access: what a neighbour measured, and what the agent said."""
    total = budget(rig, 120)
    kernel, calm = min(20.0, max(1.0, total / 5)), min(12.0, max(2.0, total / 10))
    idler(rig)
    canary = probing.Canary(rig, "canary-faults")
    canary.wait_running()
    time.sleep(3)
    idle = probing.seconds_of(canary.window(calm).probes())
    victim = rig.tenant("victim", record=True, seconds=FOREVER, **SHORT)
    victim.wait_for_line("ready", 30)
    time.sleep(2)
    alone = probing.seconds_of(probing.requests(victim, canary.window(calm)))
    timeline = Timeline(rig, canary)
    to_monotonic = time.monotonic() - time.time()

    long = rig.tenant("long", kernel_ms=1000 * kernel, seconds=1)
    timeline.until(lambda: long.process.poll() is not None)
    last = long.wait_for_line("final", 1)
    begun, ended = last["started_unix"], last["unix"]
    time.sleep(probing.LATE_SECONDS)
    beside_long = side_by_side(canary, victim, begun + to_monotonic, ended + to_monotonic, idle, alone)
    during = timeline.between(begun, ended)
    after = time.time() + 5
    timeline.until(lambda: time.time() > after)

    faulty = rig.tenant("faulty", kernel_ms=2, gap_ms=2, seconds=60, fault_at_s=6)
    timeline.until(lambda: faulty.process.poll() is not None)
    fault = faulty.wait_for_line("fault", 1)
    after = time.time() + 8
    timeline.until(lambda: time.time() > after)
    canary.wait_running()
    at = fault["unix"] + to_monotonic
    beside_fault = side_by_side(canary, victim, at - 0.5, at + 2.0, idle, alone)

    figure = beside_long.get("compared", {}).get("mean")
    rule = figure and delays.judge(figure, 0.1)
    limits.at_least("20 s kernel: added mean, canary and victim agree (10 %, or the 99 % interval)", int(bool(rule)), 1)
    said = timeline.rows[-1]["gpu_seconds"].get("long") or timeline.between(ended, ended + 10)[-1]["gpu_seconds"].get("long")
    error = 3 * last["elapsed_seconds"] * figures.standard_error(
        min(1.0, last["busy_seconds"] / last["elapsed_seconds"]), last["elapsed_seconds"] * figures.SAMPLES_A_SECOND)
    limits.at_most(f"its GPU seconds, off its own {last['busy_seconds']:.1f}",
                   None if said is None else abs(said - last["busy_seconds"]), max(1.0, error), "s")
    first, final = timeline.rows[0], timeline.rows[-1]
    limits.at_least("Xid 31 counted", final["xid_31"] - first["xid_31"], 1)
    limits.at_least("the victim's row is live in the end", int("victim" in final["live"]), 1)
    limits.at_most("the faulty one's row is live in the end", int("faulty" in final["live"]), 0)
    limits.at_most("counters that went down", figures.went_down(timeline.rows), 0)
    whole = [row["balance"] for row in timeline.rows if row["balance"]["whole"]]
    off = max((abs(each["difference_bytes"]) for each in whole), default=None)
    limits.at_most("memory: rows + remainders + unexplained, off used, through all of it", off, 0, "bytes")
    return {
        "kernel_seconds": kernel,
        "long": {"final": last, "side_by_side": beside_long, "rule": rule, "agent": during},
        "fault": {
            "line": fault,
            "side_by_side": beside_fault,
            "agent": timeline.between(fault["unix"] - 2, fault["unix"] + 8),
        },
        "windows": len(timeline.rows),
        "windows_whole": len(whole),
    }


CANARY_CHECKS = {
    "canary-cost": check_canary_cost,
    "canary-memory": check_canary_memory,
    "canary-blame": check_canary_blame,
    "canary-faults": check_canary_faults,
}
