"""A 20 s kernel and an illegal access: what a neighbour measured, and what the agent said."""

import time

import delays
import figures
import probing
from rig import wait_for

SHORT = {"kernel_ms": 0.1, "gap_ms": 5, "gaps": "exponential", "wait": "spin"}


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
        "added_us": {
            name: {key: 1e6 * figure[key] for key in ("canary", "victim")} for name, figure in compared.items()
        },
        "compared": compared,
        "longest_us": {"canary": 1e6 * max(p[1] for p in probes), "victim": 1e6 * max(r[1] for r in requests)},
    }


def said(rows):
    """What the agent said over some moments, in short."""
    return {
        "states": list(dict.fromkeys(f"{row['state']}: {row['reason']}" for row in rows)),
        "longest_stall_seconds": max((row["stall_seconds"] or 0.0 for row in rows), default=None),
        "worst_recent_mean_us": max((1e6 * (row["recent_mean_seconds"] or 0.0) for row in rows), default=None),
        "first_pair": rows[-1]["pairs"][:1] if rows else [],
    }


def words(name, seen, agent):
    """Victim, canary and agent side by side, in a line."""
    if "longest_us" not in seen:
        return f"{name}: {seen['requests']} requests, {seen['probes']} probes: nothing to compare"
    parts = [f"{name}: victim / canary, us: "]
    added = seen["added_us"].items()
    parts.append(", ".join(f"added {key} {of['victim']:.0f} / {of['canary']:.0f}" for key, of in added))
    parts.append(f", longest {seen['longest_us']['victim']:.0f} / {seen['longest_us']['canary']:.0f}")
    parts.append(f"; {seen['given_up']} probes given up; longest stall told {agent['longest_stall_seconds']:.3f} s; ")
    return "".join(parts) + ", ".join(agent["states"])


def check_canary_faults(rig, limits):
    """A 20 s kernel and an illegal access: what a neighbour measured, and what the agent said."""
    total = probing.budget(rig, 120)
    kernel, calm = min(20.0, max(1.0, total / 5)), max(probing.SHORTEST_SECONDS, min(12.0, total / 10))
    probing.idler(rig)
    # Alone, with no probe between.
    victim = rig.tenant("alone", record=True, seconds=probing.FOREVER, **SHORT)
    victim.wait_for_line("ready", 30)
    probing.settle()
    begin = time.monotonic()
    time.sleep(calm)
    end = time.monotonic()
    rig.end("alone")
    alone = probing.seconds_of(probing.requests(victim, begin, end))
    canary = probing.Canary(rig, "canary-faults")
    canary.wait_running()
    probing.settle()
    idle = probing.seconds_of(canary.window(calm).probes())
    victim = rig.tenant("victim", record=True, seconds=probing.FOREVER, **SHORT)
    victim.wait_for_line("ready", 30)
    probing.settle()
    timeline = Timeline(rig, canary)
    to_monotonic = time.monotonic() - time.time()

    long = rig.tenant("long", kernel_ms=1000 * kernel, seconds=1)
    timeline.until(lambda: long.process.poll() is not None)
    last = long.wait_for_line("final", 1)
    begun, ended = last["started_unix"], last["unix"]
    time.sleep(probing.LATE_SECONDS)
    beside_long = side_by_side(canary, victim, begun + to_monotonic, ended + to_monotonic, idle, alone)
    during = timeline.between(begun, ended)
    after = time.time() + probing.DRAIN_SECONDS
    timeline.until(lambda: time.time() > after)

    faulty = rig.tenant("faulty", kernel_ms=2, gap_ms=2, seconds=60, fault_at_s=6)
    timeline.until(lambda: faulty.process.poll() is not None)
    fault = faulty.wait_for_line("fault", 1)
    after = time.time() + 2 * probing.DRAIN_SECONDS
    timeline.until(lambda: time.time() > after)
    canary.wait_running()
    at = fault["unix"] + to_monotonic
    beside_fault = side_by_side(canary, victim, at - 0.5, at + 2.0, idle, alone)

    figure = beside_long.get("compared", {}).get("mean")
    rule = figure and delays.judge(figure, 0.1)
    limits.at_least("20 s kernel: added mean, canary and victim agree (10 %, or the 99 % interval)", int(bool(rule)), 1)
    first, final = timeline.rows[0], timeline.rows[-1]
    told = final["gpu_seconds"].get("long")
    error = 3 * last["elapsed_seconds"] * figures.standard_error(
        min(1.0, last["busy_seconds"] / last["elapsed_seconds"]), last["elapsed_seconds"] * figures.SAMPLES_A_SECOND)
    limits.at_most(f"its GPU seconds, off its own {last['busy_seconds']:.1f}",
                   None if told is None else abs(told - last["busy_seconds"]), max(1.0, error), "s")
    limits.at_least("Xid 31 counted", final["xid_31"] - first["xid_31"], 1)
    limits.at_least("the victim's row is live in the end", int("victim" in final["live"]), 1)
    limits.at_most("the faulty one's row is live in the end", int("faulty" in final["live"]), 0)
    limits.at_most("counters that went down", figures.went_down(timeline.rows), 0)
    whole = [row["balance"] for row in timeline.rows if row["balance"]["whole"]]
    off = max((abs(each["difference_bytes"]) for each in whole), default=None)
    limits.at_most("memory: rows + remainders + unexplained, off used, through all of it", off, 0, "bytes")
    around = timeline.between(fault["unix"] - 2, fault["unix"] + 8)
    return {
        "notes": [
            words(f"{kernel:.0f} s kernel", beside_long, said(during)),
            words("illegal access, from 0.5 s before to 2 s after", beside_fault, said(around)),
        ],
        "kernel_seconds": kernel,
        "long": {"final": last, "side_by_side": beside_long, "rule": rule, "agent": during},
        "fault": {
            "line": fault,
            "side_by_side": beside_fault,
            "agent": around,
        },
        "windows": len(timeline.rows),
        "windows_whole": len(whole),
    }
