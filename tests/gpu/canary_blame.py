"""Whether what a tenant is said to inflict is what goes away with it."""

import signal
import time

import figures
import probing

# Of the GPU's time, each of the two when both are there: with room left, so that one that goes does not
# make the other one busier.
WANTED_SHARE = 0.3
TUNING_ROUNDS = 4
# Probes a second.
BLAME_RATE = 100.0


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
        tenants = probing.start(rig, pods)
        probing.settle()
        shares = busy_shares(tenants, seconds)
        rig.end(*pods)
        words_of = ", ".join(f"{pod} {100 * share:.1f} %" for pod, share in shares.items())
        print(f"tuning {number}: {words_of}", flush=True)
        for (kind, load), share in zip(loads.items(), shares.values()):
            load["gap_ms"] = figures.next_gap(load["kernel_ms"], load["gap_ms"], share, want)
    return loads


def blame_window(canary, seconds):
    """What a probe waited on the mean, and what of it was put down to each pod."""
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
    total = probing.budget(rig, 540)
    phase = min(60.0, max(probing.SHORTEST_SECONDS, (total - 110) / 7))
    probing.idler(rig)
    # The falls are differences of means: more probes than usual, for their error.
    canary = probing.Canary(rig, "canary-blame", BLAME_RATE)
    canary.wait_running()
    loads = tune(rig, WANTED_SHARE, TUNING_ROUNDS, seconds=min(6.0, phase))
    probing.settle()
    # Each kind is one pod all through: what is learnt of it alone serves for the pair.
    seen = {"idle": blame_window(canary, phase / 4)}
    tenants = {}

    def one(kind):
        tenants[kind] = rig.tenant(kind, seconds=probing.FOREVER, **loads[kind])
        tenants[kind].wait_for_line("ready", 30)

    def phase_of(name):
        probing.drain()
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
    rig.end("heavy", "medium")
    crowd = blame_crowd(rig, canary, limits, phase)
    gaps = [abs(each["gap"]) for each in [*seen.values(), *crowd] if each["gap"] is not None]
    limits.at_most("inflicted and unattributed, off the histogram's sum", max(gaps, default=None), 0.001)
    notes = [f"{name}: {words(each)}" for name, each in seen.items()]
    notes += [f"one heavy, three light: {words(each)}" for each in crowd]
    return {"phase_seconds": phase, "loads": loads, "phases": seen, "falls": falls, "crowd": crowd, "notes": notes}


def words(window):
    """One window in a line: what a probe waited, because of whom, at which share of the GPU's time."""
    inflicted = sorted(window["inflicted"].items(), key=lambda item: -item[1])
    parts = [f"{pod} {1e6 * seconds:.0f} us ({window['pods'][pod]['weight']})" for pod, seconds in inflicted if seconds]
    shares = [f"{pod} {100 * share:.1f} %" for pod, share in window.get("shares", {}).items()]
    text = f"{window['probes']} probes, {1e6 * window['delay']:.0f} us each: {', '.join(parts) or 'nobody'}"
    return f"{text}; busy: {', '.join(shares)}" if shares else text


def blame_crowd(rig, canary, limits, phase):
    """One heavy tenant and three light ones: the heavy one must come first."""
    pods = {"culprit": {"kernel_ms": 8}}
    for number in range(3):
        pods[f"light-{number}"] = {"kernel_ms": 1, "gap_ms": 20, "gaps": "exponential", "seed": 10 + number}
    probing.start(rig, pods)
    probing.drain()
    windows = [blame_window(canary, phase) for _ in range(2)]
    rig.end(*pods)
    first = [max(window["inflicted"], key=window["inflicted"].get, default=None) for window in windows]
    limits.at_least("windows in which the heavy one of four comes first", first.count("culprit"), len(windows))
    return windows
