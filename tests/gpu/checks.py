"""The checks of the acceptance run: each starts what it needs, compares, and hands back figures."""

import json
import signal
import time

import figures
from canary_blame import check_canary_blame
from canary_cost import check_canary_cost
from canary_faults import check_canary_faults
from canary_memory import check_canary_memory
from canary_share import check_canary_share
from rig import cpu_seconds, cpu_seconds_by_stat, resident, wait_for

GIB_IN_MIB = 1024
# The agent drains the ring every 3 s and publishes within a second: after this, all is counted.
SETTLE_SECONDS = 6.0
# Lists are read once a second and published with the window.
WINDOW_SECONDS = 2.2
FOREVER = 3600


def gpu_seconds(series, rig, pod):
    """A pod's counter, None where it has none yet."""
    return figures.pick(series, "slicewatch_pod_gpu_seconds_total", gpu_uuid=rig.gpu_uuid, pod=pod)


def mark(agent, rig, pod):
    """A scrape just after the ring was drained: (unix time, series).

    The counters trail by up to a drain. Two marks trail by the same, so a difference of marks is
    of just the time between them.
    """
    before = gpu_seconds(agent.metrics(), rig, pod)

    def moved():
        series = agent.metrics()
        return (time.time(), series) if gpu_seconds(series, rig, pod) not in (None, before) else None

    return wait_for(f"pod_gpu_seconds_total of {pod} to move", 10, moved, 0.2)


def scrape_until(agent, end):
    """Scrapes each 15 s, as Prometheus would, until then."""
    due = time.time() + 15
    while time.time() < end:
        time.sleep(max(0.0, min(due, end) - time.time()))
        if time.time() >= due:
            agent.metrics()
            due += 15


def check_share(rig, limits):
    """GPU time of three tenants against what they know of themselves."""
    seconds = rig.arguments.minutes * 60
    agent = rig.agent("share")
    start = time.time() + 8
    common = {"start_at": start, "seconds": seconds + 120, "report_every": 1}
    tenants = [
        rig.tenant("heavy", kernel_ms=8, **common),
        rig.tenant("medium", kernel_ms=4, gap_ms=16, **common),
        rig.tenant("light", kernel_ms=2, gap_ms=6, gaps="exponential", seed=1, **common),
    ]
    for tenant in tenants:
        tenant.wait_for_line("ready", 30)
    time.sleep(max(0.0, start + 10 - time.time()))
    begin, first = mark(agent, rig, "heavy")
    scrape_until(agent, begin + seconds)
    end, last = mark(agent, rig, "heavy")
    time.sleep(2)  # one more interim line of each tenant, to interpolate to the end
    elapsed = end - begin
    samples = elapsed * figures.SAMPLES_A_SECOND
    rows = {}
    for tenant in tenants:
        pod, lines = tenant.pod, tenant.lines()
        points = figures.busy_points(lines)
        truth = (figures.interpolate(points, end) - figures.interpolate(points, begin)) / elapsed
        before, after = gpu_seconds(first, rig, pod), gpu_seconds(last, rig, pod)
        said = None if after is None else (after - (before or 0.0)) / elapsed
        off = None if said is None else abs(said - truth)
        limit = figures.share_limit(truth, samples)
        limits.at_most(f"{pod}: share said, off its own busy time's {truth:.3f}", off, limit)
        rows[pod] = {
            "share_said": said,
            "share_truth": truth,
            "standard_error": figures.standard_error(truth, samples),
            "totals": [line for line in lines if line["kind"] == "interim"][-1],
        }
    busy = [figures.pick(s, "slicewatch_gpu_busy_seconds_total", gpu_uuid=rig.gpu_uuid) for s in (first, last)]
    return {
        "elapsed_seconds": elapsed,
        "ring_samples": samples,
        "gpu_busy_share_said": None if None in busy else (busy[1] - busy[0]) / elapsed,
        "gpu_busy_share_truth": sum(row["share_truth"] for row in rows.values()),
        "tenants": rows,
    }


def check_memory(rig, limits):
    """Does memory add up while a tenant takes and gives back 1 GiB all the time?"""
    agent = rig.agent("memory")
    light = {"kernel_ms": 1, "gap_ms": 20, "seconds": FOREVER}
    tenants = [
        rig.tenant("holder-a", memory_mib=4 * GIB_IN_MIB, **light),
        rig.tenant("holder-b", memory_mib=2 * GIB_IN_MIB, **light),
        rig.tenant("stepper", step_mib=GIB_IN_MIB, step_hold_ms=700, step_period_ms=1500, **light),
    ]
    for tenant in tenants:
        tenant.wait_for_line("ready", 30)
    time.sleep(2 * WINDOW_SECONDS)
    windows, begin = {}, time.monotonic()
    while time.monotonic() < begin + 60:
        snapshot = agent.snapshot()
        windows[snapshot["unix"]] = agent.gpu(rig.gpu_uuid, snapshot)
        time.sleep(0.5)
    gpus = list(windows.values())
    balances = [figures.balance(gpu) for gpu in gpus]
    whole = [balance for balance in balances if balance["whole"]]
    worst = max((abs(b["unexplained_bytes"]) / b["limit_bytes"] for b in whole), default=None)
    limits.at_least("whole windows", len(whole), 10)
    limits.at_most("largest |unexplained| over 16 MiB + 8 MiB a process", worst, 1.0)
    off = max((abs(b["difference_bytes"]) for b in whole), default=None)
    limits.at_most("rows + remainders + unexplained, off used", off, 0, "bytes")
    unknown = max((b["rows_unknown"] for b in whole), default=None)
    limits.at_most("rows without memory in a whole window", unknown, 0)
    fewest = min((b["processes"] for b in whole), default=None)
    limits.at_least("processes in the smallest whole window", fewest, len(tenants))
    unexplained = [b["unexplained_bytes"] for b in whole]
    return {
        "windows": len(balances),
        "windows_whole": len(whole),
        "windows_without_unexplained": len(balances) - len(whole),
        "torn_lists": gpus[-1]["torn_windows"] - gpus[0]["torn_windows"],
        "steps": sum(1 for line in tenants[2].lines("memory") if line["change_bytes"] > 0),
        "unexplained_bytes_smallest": min(unexplained, default=None),
        "unexplained_bytes_largest": max(unexplained, default=None),
    }


def check_peak(rig, limits):
    """Is a peak that is held for 250 ms seen, on the card and on the pod?"""
    agent = rig.agent("peak")
    rig.tenant("holder", "--idle", memory_mib=2 * GIB_IN_MIB, seconds=FOREVER).wait_for_line("ready", 30)
    slack, repetitions = 64 * figures.MIB, []
    for repetition in range(10):
        pod = f"peak-{repetition}"
        # Each is 1 GiB above the last: the card's peak is that of 60 s, and must be this one's.
        size = (8 + repetition) * GIB_IN_MIB
        tenant = rig.tenant(pod, "--idle", seconds=60, peak_mib=size, peak_at_s=3.5, peak_hold_ms=250)
        tenant.wait_for_line("ready", 30)
        time.sleep(WINDOW_SECONDS)
        before = agent.metrics()
        taken = tenant.wait_for_line("memory", 20)
        given = tenant.wait_for_line("memory", 20, count=2)
        time.sleep(WINDOW_SECONDS)
        after = agent.metrics()
        tenant.stop()
        row = {"peak_bytes": size * figures.MIB, "held_seconds": given["unix"] - taken["unix"]}
        for where, base, peak, labels in (
            ("card", "gpu_framebuffer_used_bytes", "gpu_framebuffer_used_peak_bytes", {}),
            ("pod", "pod_framebuffer_bytes", "pod_framebuffer_peak_bytes", {"pod": pod}),
        ):
            base = figures.pick(before, f"slicewatch_{base}", gpu_uuid=rig.gpu_uuid, **labels)
            said = figures.pick(after, f"slicewatch_{peak}", gpu_uuid=rig.gpu_uuid, **labels)
            off = None if None in (base, said) else said - base - size * figures.MIB
            row[where] = {"base_bytes": base, "said_bytes": said, "off_bytes": off}
        repetitions.append(row)
    for where in ("card", "pod"):
        offs = [row[where]["off_bytes"] for row in repetitions]
        seen = sum(1 for off in offs if off is not None and abs(off) <= slack)
        limits.at_least(f"peaks of 250 ms seen on the {where} (within 64 MiB)", seen, len(repetitions))
    return {"repetitions": repetitions}


def check_killed(rig, limits):
    """Are a killed tenant's gauges gone in the next snapshot, and its peak still there?"""
    agent = rig.agent("killed")
    rig.tenant("survivor", "--idle", memory_mib=GIB_IN_MIB, seconds=FOREVER).wait_for_line("ready", 30)
    repetitions = []
    for repetition in range(5):
        pod = f"victim-{repetition}"
        tenant = rig.tenant(pod, "--idle", memory_mib=2 * GIB_IN_MIB, seconds=FOREVER)
        tenant.wait_for_line("ready", 30)
        wait_for(f"{pod} in the snapshot", 10, lambda: figures.row_is_live(agent.gpu(rig.gpu_uuid), pod))
        time.sleep(1 + 0.3 * repetition)  # another moment of the window each time
        asked = time.time()
        gone = tenant.stop(signal.SIGKILL)  # when the kernel, and with it the driver, was done with it
        # Snapshots of a time after its end that still show it.
        stale, deadline = set(), time.time() + 15
        while True:
            snapshot = agent.snapshot()
            if not figures.row_is_live(agent.gpu(rig.gpu_uuid, snapshot), pod):
                break
            if snapshot["unix"] > gone:
                stale.add(snapshot["unix"])
            if time.time() > deadline:
                break
            time.sleep(0.02)
        free = time.time()
        repetitions.append({
            "pod": pod,
            "milliseconds_to_die": 1000 * (gone - asked),
            "milliseconds_to_leave": 1000 * (free - gone),
            "stale_snapshots": len(stale),
            "stale_milliseconds": 1000 * (max(stale) - gone) if stale else 0.0,
        })
    time.sleep(16)
    series = agent.metrics()
    pods = [row["pod"] for row in repetitions]
    peaks, gauges = (
        [figures.pick(series, f"slicewatch_{name}", gpu_uuid=rig.gpu_uuid, pod=pod) for pod in pods]
        for name in ("pod_framebuffer_peak_bytes", "pod_framebuffer_bytes")
    )
    # A snapshot of the window in which it ended may still show it; the next must not.
    latest = max(row["stale_milliseconds"] for row in repetitions)
    limits.at_most("time of the last snapshot that showed a killed tenant, after its end", latest, 1100.0, "ms")
    limits.at_most("gauges left in /metrics", sum(1 for gauge in gauges if gauge is not None), 0)
    held = sum(1 for peak in peaks if peak is not None and peak >= 2 * GIB_IN_MIB * figures.MIB)
    limits.at_least("peaks still there 16 s later", held, len(repetitions))
    return {"repetitions": repetitions, "peaks_bytes": peaks}


def measure(processes, seconds, agent=None):
    """CPU of processes over the same seconds, while the agent is scraped each 15 s."""
    begin = time.monotonic()
    first = {name: (cpu_seconds(pid), cpu_seconds_by_stat(pid)) for name, pid in processes.items()}
    if agent:
        scrape_until(agent, time.time() + seconds)
    else:
        time.sleep(seconds)
    last = {name: (cpu_seconds(pid), cpu_seconds_by_stat(pid)) for name, pid in processes.items()}
    elapsed = time.monotonic() - begin
    return {
        name: {
            "elapsed_seconds": elapsed,
            "cpu_seconds": last[name][0] - first[name][0],
            "cpu_seconds_by_proc_stat": last[name][1] - first[name][1],
            "core_percent": 100 * (last[name][0] - first[name][0]) / elapsed,
        }
        for name in processes
    }


def check_overhead(rig, limits):
    """What the agent costs beside a bare loop of the NVML calls it cannot do without."""
    seconds = rig.arguments.overhead_seconds
    heavy = rig.tenant("heavy", kernel_ms=8, seconds=FOREVER)
    light = [
        rig.tenant(f"light-{n}", kernel_ms=1, gap_ms=20, gaps="exponential", seed=n, seconds=FOREVER)
        for n in range(3)
    ]
    for tenant in [heavy, *light]:
        tenant.wait_for_line("ready", 30)
    # Both at once, then the agent alone, then the bare loop alone. Starting is nobody's cost here.
    # The canary has a check of its own.
    agent = rig.agent("overhead", "--canary", "off")
    bare, bare_file = rig.bare("together", seconds + 15)
    time.sleep(8)
    together = measure({"agent": agent.process.pid, "bare": bare.pid}, seconds, agent)
    bare.wait(60)
    agent_alone = measure({"agent": agent.process.pid}, seconds, agent)["agent"]
    memory = resident(agent.process.pid)
    agent.stop()
    bare, bare_alone_file = rig.bare("alone", seconds + 15)
    time.sleep(8)
    bare_alone = measure({"bare": bare.pid}, seconds)["bare"]
    bare.wait(60)
    loops = [json.loads(path.read_text()) for path in (bare_file, bare_alone_file)]
    ratio = together["agent"]["cpu_seconds"] / together["bare"]["cpu_seconds"]
    limits.at_most("CPU of the agent over that of the bare loop, both at once", ratio, 1.2)
    limits.at_most("agent, both at once", together["agent"]["core_percent"], 0.5, "% of a core")
    limits.at_most("agent, alone", agent_alone["core_percent"], 0.5, "% of a core")
    limits.at_most("agent, resident (VmRSS)", memory["VmRSS"] / figures.MIB, 24.0, "MiB")
    limits.at_most("calls of the bare loop that failed", sum(loop["errors"] for loop in loops), 0)
    return {
        "ratio_together": ratio,
        "ratio_apart": agent_alone["cpu_seconds"] / bare_alone["cpu_seconds"],
        "together": together,
        "agent_alone": agent_alone,
        "bare_alone": bare_alone,
        "agent_resident_bytes": memory,
        "bare_loop_together": loops[0],
        "bare_loop_alone": loops[1],
    }


def check_drain(rig, limits):
    """Does a process that ends between two drains get its time, and do short jobs get theirs?"""
    agent = rig.agent("drain")
    rig.tenant("bystander", "--idle", memory_mib=256, seconds=FOREVER).wait_for_line("ready", 30)

    def live(pod, **load):
        tenant = rig.tenant(pod, report_every=1, **load)
        tenant.wait_for_line("ready", 30)
        return tenant.finish(load["seconds"] + 20)[1]["busy_seconds"]

    lives = []
    for pod, neighbour in (("alone-0", False), ("alone-1", False), ("beside", True)):
        if neighbour:
            load = {"kernel_ms": 2, "gap_ms": 18, "gaps": "exponential", "seed": 3, "seconds": FOREVER}
            rig.tenant("neighbour", **load).wait_for_line("ready", 30)
        truth = live(pod, kernel_ms=8, seconds=20)
        time.sleep(SETTLE_SECONDS)
        said = gpu_seconds(agent.metrics(), rig, pod)
        # Alone the ring has nothing to guess. Beside another it has: three standard errors.
        error = 20 * figures.standard_error(truth / 20, 20 * figures.SAMPLES_A_SECOND)
        limit = max(0.6, 3 * error) if neighbour else 0.6
        off = None if said is None else abs(said - truth)
        limits.at_most(f"{pod}: GPU seconds said, off its busy {truth:.2f} s", off, limit, "s")
        lives.append({"pod": pod, "busy_seconds": truth, "said_seconds": said})
        if neighbour:
            rig.end("neighbour")

    jobs = []
    for number, duty in enumerate((1.0, 0.5, 0.75, 0.6, 0.9, 0.55, 0.8, 0.7, 0.65, 0.95)):
        pod = f"job-{number}"
        truth = live(pod, kernel_ms=2, gap_ms=round(2 / duty - 2, 3), seconds=1)
        jobs.append({"pod": pod, "duty": duty, "busy_seconds": truth})
    time.sleep(SETTLE_SECONDS)
    series = agent.metrics()
    for job in jobs:
        job["said_seconds"] = gpu_seconds(series, rig, job["pod"])
    truth = sum(job["busy_seconds"] for job in jobs)
    said = sum(job["said_seconds"] or 0.0 for job in jobs)
    # Ours to choose: what one life of 20 s may be off, or a tenth.
    limit = max(0.6, 0.1 * truth)
    limits.at_most(f"ten jobs: GPU seconds said, off their busy {truth:.2f} s", abs(said - truth), limit, "s")
    limits.at_most("jobs without a counter", sum(1 for job in jobs if job["said_seconds"] is None), 0)
    return {"lives": lives, "jobs": jobs, "jobs_busy_seconds": truth, "jobs_said_seconds": said}


CHECKS = {
    "share": check_share,
    "memory": check_memory,
    "peak": check_peak,
    "killed": check_killed,
    "drain": check_drain,
    "overhead": check_overhead,
    "canary-cost": check_canary_cost,
    "canary-memory": check_canary_memory,
    "canary-blame": check_canary_blame,
    "canary-faults": check_canary_faults,
    "canary-share": check_canary_share,
}
