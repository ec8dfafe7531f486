"""Stand-ins of slicewatch-tenant and of the agent for the tests of the scripts: no GPU, no figures.

The world is a folder ($STAND_IN): a file a tenant with its load and memory, and the canary's memory. A
request or probe waits, for each neighbour that is on the GPU, a random part of its turn.
"""

import argparse
import http.server
import json
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import threading
import time

UUID = "GPU-stand-in"
MIB = 1 << 20
TOTAL, CONTEXT, CANARY = 40_000 * MIB, 500 * MIB, 250 * MIB
RUNS = ("canary-cost-", "canary-memory-", "canary-blame-", "canary-faults-", "mixes-", "precise-", "lengths-")
FLOOR = TOTAL // 20
WORLD = pathlib.Path(os.environ.get("STAND_IN", "."))


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def tenants():
    """What every living tenant says of itself."""
    found = []
    for path in WORLD.glob("tenant-*.json"):
        try:
            said = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if alive(said["pid"]):
            found.append(said)
    return found


def canary_memory():
    """What canaries hold."""
    held = 0
    for path in WORLD.glob("canary-*"):
        pid = int(path.name.split("-")[1])
        held += CANARY if alive(pid) else 0
    return held


def free():
    """Free framebuffer."""
    return TOTAL - sum(each["memory"] for each in tenants()) - canary_memory()


def publish(path, said):
    """In one piece."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(said))
    part.replace(path)


def stopped(pid):
    """Stopped by a signal?"""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
    except OSError:
        return True


def waits(source, but=None):
    """What each neighbour makes one request wait: {pod: seconds}."""
    found = {}
    for each in tenants():
        if each["pid"] != but and each["share"] > 0 and not stopped(each["pid"]) and source.random() < each["share"]:
            found[each["pod"]] = source.uniform(0, 2) * min(each["kernel"], 0.0016)
    return found


def tenant(words):
    """slicewatch-tenant."""
    parser = argparse.ArgumentParser()
    for flag in ("calibrate", "idle"):
        parser.add_argument(f"--{flag}", action="store_true")
    for name in ("iterations-per-ms", "gap-ms", "burst-on-ms", "burst-off-ms", "seconds", "kernel-ms",
                 "report-every", "fault-at-s", "grow-at-s", "grow-every-ms"):
        parser.add_argument(f"--{name}", type=float)
    for name in ("kernels-per-request", "grow-mib", "grow-steps", "memory-mib", "seed"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("gaps", "wait", "report", "record"):
        parser.add_argument(f"--{name}")
    given = parser.parse_args(words)
    if given.calibrate:
        spread = {"kernel_ms_p10": 3.0, "kernel_ms_p50": 3.0, "kernel_ms_p90": 3.01}
        said = {"kind": "calibration", "gpu_uuid": UUID, "model": "none", "iterations_per_ms": 5e4}
        print(json.dumps({**said, **spread}))
        return 0
    pid, out = os.getpid(), open(given.report, "w", encoding="utf-8")
    pod = pathlib.Path(given.report).stem.removeprefix("tenant-")
    pod = next(pod.removeprefix(run) for run in RUNS if pod.startswith(run))
    kernel, number = (given.kernel_ms or 1) / 1000, given.kernels_per_request or 1
    gap = (given.gap_ms or 0) / 1000
    duty = given.burst_on_ms / (given.burst_on_ms + given.burst_off_ms) if given.burst_on_ms else 1.0
    own = kernel * number
    share = 0.0 if given.idle else duty * own / (own + gap + 1e-5)
    memory = CONTEXT + (given.memory_mib or 0) * MIB
    path = WORLD / f"tenant-{pid}.json"

    def say(kind, **fields):
        out.write(json.dumps({"kind": kind, "pid": pid, "unix": time.time(), **fields}) + "\n")
        out.flush()

    def show(memory):
        publish(path, {"pid": pid, "pod": pod, "kernel": kernel, "share": share, "memory": memory,
                       "begun": time.monotonic()})

    show(memory)
    say("ready", held_bytes=memory - CONTEXT)
    begun, begun_unix, source = time.monotonic(), time.time(), random.Random(pid)
    record = open(given.record, "wb", buffering=0) if given.record else None
    taken, due = 0, begun + (given.grow_at_s or 0) / 10
    reported, requests = begun, 0

    def totals():
        now = time.monotonic()
        return {"started_unix": begun_unix, "elapsed_seconds": now - begun, "requests": requests,
                "busy_seconds": share * (now - begun)}

    try:
        while time.monotonic() < begun + (given.seconds or 10):
            if given.fault_at_s is not None and time.monotonic() > begun + given.fault_at_s / 10:
                (WORLD / "xid").touch()
                say("fault", seconds=0.01, error="CUDA_ERROR_ILLEGAL_ADDRESS")
                return 0
            if given.grow_mib and time.monotonic() > due and taken < (given.grow_steps or 1 << 40):
                if free() >= given.grow_mib * MIB:
                    taken += 1
                    show(memory + taken * given.grow_mib * MIB)
                    say("memory", reason="grow", change_bytes=given.grow_mib * MIB)
                else:
                    say("refused", reason="grow", number=taken + 1, requested_bytes=given.grow_mib * MIB,
                        held_bytes=taken * given.grow_mib * MIB)
                due += (given.grow_every_ms or 100) / 1000
            if given.report_every and time.monotonic() > reported + given.report_every:
                reported = time.monotonic()
                say("interim", **totals())
            requests += 1
            if record:
                others = waits(source, but=pid)
                took = own * (1 + (len(others) if own > 0.0015 else 0)) + 5e-5 * source.uniform(0.9, 1.1)
                took += sum(others.values()) if own <= 0.0015 else 0
                asked = time.monotonic_ns()
                time.sleep(took)
                gpu = asked + int(1e9 * sum(others.values())) + 10**18
                record.write(struct.pack("<QQQ", asked, asked + int(took * 1e9), gpu))
                time.sleep(source.expovariate(1 / gap) if gap else 0.002)
            else:
                time.sleep(kernel if kernel > 0.5 and not given.idle else 0.01)
        say("final", **totals())
    finally:
        path.unlink(missing_ok=True)
    return 0


class Canary(threading.Thread):
    """Probes, and keeps the agent's account of them."""

    def __init__(self, rate, on):
        super().__init__(daemon=True)
        self.rate, self.on, self.source = rate, on, random.Random(1)
        self.counts, self.sum, self.inflicted, self.base = [0, 0], 0.0, {}, 0.0
        self.seen, self.gpu_seconds, self.lock = time.monotonic(), {}, threading.Lock()
        self.start_time = time.monotonic()
        self.held = WORLD / f"canary-{os.getpid()}"
        self.state = ("off", "disabled")

    def run(self):
        trace = os.environ.get("SLICEWATCH_CANARY_TRACE")
        while True:
            self.account()
            self.decide()
            time.sleep(self.source.expovariate(self.rate))
            if self.state[0] != "running":
                continue
            parts, base = waits(self.source), 18e-6
            delay = base + sum(parts.values())
            with self.lock:
                self.counts[0] += 1
                self.sum += delay
                self.base += base
                for pod, part in parts.items():
                    self.inflicted[pod] = self.inflicted.get(pod, 0.0) + part
            if trace:
                with open(trace, "a", encoding="utf-8") as file:
                    file.write(f"{UUID}\t{time.monotonic() - self.start_time:.9f}\t{delay:.9f}\ttrue\n")

    def account(self):
        now = time.monotonic()
        for each in tenants():
            self.gpu_seconds[each["pod"]] = self.gpu_seconds.get(each["pod"], 0.0) + each["share"] * (now - self.seen)
        self.seen = now

    def decide(self):
        if not self.on:
            self.state = ("off", "disabled")
        elif not tenants():
            self.state = ("off", "no_tenant")
        elif free() < FLOOR + (0 if self.state[0] == "running" else CANARY * 2):
            self.state = ("yielded", "low_memory")
        else:
            self.state = ("running", "forced")
        if self.state[0] == "running":
            self.held.touch()
        else:
            self.held.unlink(missing_ok=True)

    def snapshot(self):
        """In the form of the agent's."""
        with self.lock:
            counts, total, base, inflicted = list(self.counts), self.sum, self.base, dict(self.inflicted)
        living = {each["pod"]: each for each in tenants()}
        pods = sorted({*living, *inflicted})
        rows, held = [], 0
        for pod in pods:
            memory = living[pod]["memory"] if pod in living else None
            held += memory or 0
            rows.append({
                "pod": pod,
                "present": pod in living,
                "memory_bytes": {"failed": "process_gone"} if memory is None else {"value": memory},
                "gpu_seconds": {"value": self.gpu_seconds.get(pod, 0.0)},
                "delay": {"value": {
                    "inflicted_seconds": inflicted.get(pod, 0.0),
                    "exposed_seconds": total - inflicted.get(pod, 0.0),
                    "exposed_probes": float(sum(counts)),
                    "turn_seconds": None,
                    "weight": "share",
                }},
            })
        canary = canary_memory()
        quantiles = {"value": {"probes": 9, "mean_seconds": 18e-6}}
        return {
            "at": {"monotonic_seconds": time.monotonic() - self.start_time, "unix_seconds": time.time()},
            "gpus": [{
                "identity": {"uuid": UUID},
                "memory_bytes": {"value": {"total": TOTAL, "used": held + canary, "free": TOTAL - held - canary}},
                "unattributed_bytes": {"value": {"canary": canary}},
                "unexplained_bytes": {"value": 0},
                "processes": [],
                "xids": {"31": int((WORLD / "xid").exists())},
                "containers": rows,
                "canary": {
                    "state": self.state[0],
                    "reason": self.state[1],
                    "delays": {"value": {"counts": counts, "sum_seconds": total}},
                    "recent": quantiles,
                    "baseline": quantiles,
                    "stall_seconds": {"value": 0.0},
                    "missed": 0,
                    "clock_error_seconds": 5e-6,
                    "unattributed_seconds": {"baseline": base},
                    "pairs": [],
                },
            }],
        }


def agent(words):
    """slicewatch agent."""
    given = dict(zip(words, words[1:]))
    canary = Canary(float(given.get("--canary-rate", 20)), given["--canary"] == "always")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(canary.snapshot()).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    # A worker, for those who look for one; it ends with this process.
    worker = subprocess.Popen(["sh", "-c", "read line"], stdin=subprocess.PIPE) if canary.on else None
    canary.start()
    host, port = given["--listen"].split(":")

    def end(*_):
        canary.held.unlink(missing_ok=True)
        if worker:
            worker.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.exit(tenant(sys.argv[2:]) if sys.argv[1] == "tenant" else agent(sys.argv[3:]))
