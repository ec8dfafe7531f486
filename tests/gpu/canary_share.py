"""Whether tenants are told their GPU time with the canary as without it.

The driver's ring names the process whose work ran last: on a card that is idle between two kernels
of a tenant, a probe in between takes the tenant's sample.
"""

import time

import figures
import probing

# Tenants that leave the card idle in between: {pattern: {pod: load}}.
PATTERNS = {
    "gaps of 15 ms": {"third": {"kernel_ms": 8, "gap_ms": 15}},
    "gaps of 80 ms": {"fifth": {"kernel_ms": 20, "gap_ms": 80}},
    "two": {"rare": {"kernel_ms": 20, "gap_ms": 120}, "often": {"kernel_ms": 2, "gap_ms": 20}},
}
# Of the card's time.
ALONE_LIMIT = 0.02


def points(agent, rig, pods):
    """(unix time, {pod: GPU seconds}, the card's) at a drain of the ring."""
    def read():
        series = agent.metrics()
        said = {pod: figures.pick(series, "slicewatch_pod_gpu_seconds_total", gpu_uuid=rig.gpu_uuid, pod=pod)
                for pod in pods}
        return said, figures.pick(series, "slicewatch_gpu_busy_seconds_total", gpu_uuid=rig.gpu_uuid)

    before = read()
    deadline = time.time() + 10
    while time.time() < deadline:
        now = read()
        if now[1] != before[1]:
            return time.time(), *now
        time.sleep(0.2)
    return time.time(), *before


def phase(agent, rig, tenants, seconds):
    """What the agent says that tenants received in so long, and what they say."""
    begin, first, busy_first = points(agent, rig, tenants)
    time.sleep(seconds)
    end, last, busy_last = points(agent, rig, tenants)
    time.sleep(2)  # one more interim line of each tenant, to interpolate to the end
    elapsed = end - begin
    rows = {}
    for pod, tenant in tenants.items():
        line = figures.busy_points(tenant.lines())
        truth = (figures.interpolate(line, end) - figures.interpolate(line, begin)) / elapsed
        rows[pod] = {"truth": truth, "said": ((last[pod] or 0.0) - (first[pod] or 0.0)) / elapsed}
    return {"seconds": elapsed, "card": (busy_last - busy_first) / elapsed, "tenants": rows}


def check_canary_share(rig, limits):
    """Do tenants that leave the card idle in between get their GPU time beside a canary?"""
    seconds = max(probing.SHORTEST_SECONDS, probing.budget(rig, 360) / 6 - 10)
    seen = {}
    for number, (pattern, pods) in enumerate(PATTERNS.items()):
        loads = {pod: {**load, "gaps": "exponential", "report_every": 0.25, "seed": seed}
                 for seed, (pod, load) in enumerate(pods.items(), 1)}
        tenants = probing.start(rig, loads)
        alone = rig.agent(f"canary-share-off-{number}", *probing.OFF, number=0)
        probing.settle()
        seen[f"{pattern}, no canary"] = phase(alone, rig, tenants, seconds)
        alone.stop()
        canary = probing.Canary(rig, f"canary-share-{number}")
        canary.wait_running()
        probing.drain()
        told = seen[f"{pattern}, canary"] = phase(canary.agent, rig, tenants, seconds)
        canary.stop()
        rig.end(*pods)
        for pod, row in told["tenants"].items():
            # Alone, each sample's value is all its own: there is no chance in who wins it.
            samples = told["seconds"] * figures.SAMPLES_A_SECOND
            limit = ALONE_LIMIT if len(pods) == 1 else figures.share_limit(row["truth"], samples)
            limits.at_most(f"{pod}, {pattern}: share said, off its own {row['truth']:.3f}",
                           abs(row["said"] - row["truth"]), limit)
    notes = []
    for name, each in seen.items():
        rows = ", ".join(f"{pod} {100 * row['said']:.1f} % of {100 * row['truth']:.1f}"
                         for pod, row in each["tenants"].items())
        notes.append(f"{name}: card {100 * each['card']:.1f} %; {rows}")
    return {"phases": seen, "notes": notes}
