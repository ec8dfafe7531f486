#!/usr/bin/env python3
"""Acceptance of the agent on a real GPU, against tenants whose own GPU time and memory are known.

    python3 tests/gpu/accept.py --agent PATH --tenant PATH --overhead PATH --out DIR

Needs root, cgroup v2, a GPU that nobody else uses, and Python's standard library. Writes DIR/NAME.json
for each check, and DIR/summary.json and DIR/summary.md for the run.
Exit status: 0 every limit kept, 1 a limit broken, 2 this machine cannot run it.
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import sys
import time
import traceback

import figures
from checks import CHECKS
from rig import Broken, CannotRun, Rig


def run(name, rig):
    """One check and what came of it; what it started is ended whatever happens."""
    limits, begun, error, found = figures.Limits(), time.monotonic(), None, None
    rig.check = name
    print(f"{name}: {CHECKS[name].__doc__.splitlines()[0]}", flush=True)
    try:
        found = CHECKS[name](rig, limits)
    except Broken as broken:
        error = str(broken)
    except Exception:  # a fault of this script, or an answer that it does not understand
        error = traceback.format_exc()
    for seconds in rig.clear():
        limits.at_most("agent: from SIGTERM to its end", seconds, 2.0, "s")
    outcome = {
        "check": name,
        "passed": error is None and limits.all_kept(),
        "seconds": time.monotonic() - begun,
        "error": error,
        "limits": limits.rows,
        "figures": found,
    }
    (rig.out / f"{name}.json").write_text(json.dumps(outcome, indent=2) + "\n")
    print("\n".join(figures.section(outcome)), flush=True)
    return outcome


def environment(rig):
    """Where this ran."""
    driver = pathlib.Path("/proc/driver/nvidia/version")
    spread = rig.calibration["kernel_ms_p90"] / rig.calibration["kernel_ms_p10"]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "GPU": rig.calibration["model"],
        "driver": driver.read_text().splitlines()[0] if driver.exists() else "unknown",
        "kernel": platform.release(),
        "PID namespace": os.readlink("/proc/self/ns/pid"),
        "calibration": f"{rig.calibration['iterations_per_ms']:.1f} iterations/ms, p90/p10 {spread:.4f}",
    }


def parse_arguments(words=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    programs = {"agent": "slicewatch", "tenant": "slicewatch-tenant", "overhead": "slicewatch-overhead"}
    for name, program in programs.items():
        parser.add_argument(f"--{name}", required=True, type=lambda path: str(pathlib.Path(path).resolve()),
                            help=f"the {program} binary")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the figures and logs")
    parser.add_argument("--minutes", type=float, default=5.0, help="length of `share` (default 5)")
    parser.add_argument("--overhead-seconds", type=int, default=120,
                        help="length of each of the three phases of `overhead` (default 120)")
    parser.add_argument("--seconds", type=float, help="time for each `canary-` check (default: its own)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CHECKS), metavar="NAME,...",
                        help=f"of {', '.join(CHECKS)}")
    parser.add_argument("--port", type=int, default=9735, help="where the agent listens, on 127.0.0.1")
    parser.add_argument("--cgroup-root", default="/sys/fs/cgroup", help="where cgroup v2 is mounted")
    parser.add_argument("--agent-arg", action="append", default=[], metavar="ARG",
                        help="one more argument of the agent, as --agent-arg=--flag; again for more")
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.only if name not in CHECKS]
    if unknown:
        parser.error(f"no such check: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    return arguments


def main():
    """All checks that were asked for."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    # An end by signal still ends the tenants and removes the cgroups.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rig = None
    try:
        for name in ("agent", "tenant", "overhead"):
            if not os.access(getattr(arguments, name), os.X_OK):
                raise CannotRun(f"--{name} {getattr(arguments, name)} is not a program: build it, or set its x bit")
        rig = Rig(arguments, arguments.out)
        rig.calibrate()
        place, outcomes = environment(rig), []
        for name in arguments.only:
            outcomes.append(run(name, rig))
            # After each: a run that is cut off leaves what it had.
            summary = {"environment": place, "outcomes": outcomes}
            (rig.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
            (rig.out / "summary.md").write_text(figures.markdown(place, outcomes))
    except CannotRun as reason:
        print(f"accept.py: {reason}", file=sys.stderr)
        return 2
    finally:
        if rig:
            rig.close()
    return 0 if all(outcome["passed"] for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
