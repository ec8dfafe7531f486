"""The noisy-neighbour study on a real GPU, one command:

    python3 bench/neighbour/study --agent PATH --tenant PATH --out DIR

Starts neighbours, victims and the agent's canary side by side, and compares what the canary says
sharing adds to a request with what the victims measured themselves. Writes DIR/runs/*.json (all
probes and requests), results.csv, lengths.csv, results.md and three plots.

Needs root, cgroup v2, a GPU that nobody else uses, and Python's standard library (PyTorch for the
part `models`). --tables makes the tables and plots again from DIR/runs, without a GPU.
Exit status: 0 every mix holds, 1 one does not, 2 this machine cannot run it.
"""

import argparse
import os
import pathlib
import signal
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tests" / "gpu"))

import mixes  # noqa: E402
import plots  # noqa: E402
import runs  # noqa: E402
import tables  # noqa: E402
from rig import Broken, CannotRun, Rig  # noqa: E402


def names_of(known):
    """A list of names, each of them known."""

    def parse(text):
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no such name: {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return parse


def parse_arguments(words=None):
    """The command line."""

    def program(path):
        return str(pathlib.Path(path).resolve())

    parser = argparse.ArgumentParser(prog="study", description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--agent", type=program, help="the slicewatch binary")
    parser.add_argument("--tenant", type=program, help="the slicewatch-tenant binary")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of runs, tables and plots")
    parser.add_argument("--tables", action="store_true", help="measure nothing: tables and plots of DIR/runs")
    parser.add_argument("--parts", type=names_of(runs.PARTS), default=list(runs.PARTS), metavar="NAME,...")
    parser.add_argument("--mixes", type=names_of(mixes.MIXES), default=list(mixes.MIXES), metavar="NAME,...")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a mix")
    parser.add_argument("--rate", type=float, default=10.0, help="probes a second")
    parser.add_argument("--waits", type=names_of(["block", "spin", "yield"]), default=["block", "spin"],
                        metavar="NAME,...", help="how the victims wait; one victim each, at the same time")
    parser.add_argument("--precise-mixes", type=names_of(mixes.MIXES), default=mixes.PRECISE, metavar="NAME,...")
    parser.add_argument("--precise-rate", type=float, default=100.0, help="probes a second of the part `precise`")
    parser.add_argument("--precise-probes", type=int, default=20_000, help="probes of each of its mixes")
    parser.add_argument("--length-seconds", type=float, default=10.0, help="length of a run of the part `lengths`")
    parser.add_argument("--baseline-seconds", type=float, default=20.0, help="length of idle and of alone")
    parser.add_argument("--settle", type=float, default=4.0, help="seconds before a measurement")
    parser.add_argument("--python", default=sys.executable, help="a Python with PyTorch, for the part `models`")
    parser.add_argument("--port", type=int, default=9735, help="where the agent listens, on 127.0.0.1")
    parser.add_argument("--cgroup-root", default="/sys/fs/cgroup", help="where cgroup v2 is mounted")
    parser.add_argument("--agent-arg", action="append", default=[], metavar="ARG",
                        help="one more argument of the agent, as --agent-arg=--flag; again for more")
    arguments = parser.parse_args(words)
    if not arguments.tables and not (arguments.agent and arguments.tenant):
        parser.error("--agent and --tenant are needed (or --tables)")
    return arguments


def measure(arguments):
    """The parts that were asked for; what fails is said, and the others still run."""
    for name in ("agent", "tenant"):
        if not os.access(getattr(arguments, name), os.X_OK):
            raise CannotRun(f"--{name} {getattr(arguments, name)} is not a program: build it, or set its x bit")
    print(f"about {runs.expected_seconds(arguments) / 60:.0f} minutes", flush=True)
    whole = True
    rig = Rig(arguments, arguments.out)
    try:
        rig.calibrate()
        for part in arguments.parts:
            begun = time.monotonic()
            try:
                runs.PARTS[part](rig, arguments)
            except Broken as broken:
                whole = False
                print(f"{part}: not finished: {broken}", flush=True)
            except Exception:  # a fault of this script, or an answer that it does not understand
                whole = False
                print(f"{part}: not finished: {traceback.format_exc()}", flush=True)
            finally:
                rig.clear()
            print(f"part {part}: {time.monotonic() - begun:.0f} s", flush=True)
    finally:
        rig.close()
    return whole


def write_tables(out):
    """Tables and plots of all runs that are there; whether each mix holds."""
    every = tables.read(out / "runs")
    rows = {
        "mixes": tables.mix_rows(every, "mix-"),
        "precise": tables.mix_rows(every, "precise-"),
        "lengths": tables.length_rows(every),
    }
    compared = rows["mixes"] + rows["precise"]
    if compared:
        tables.write_csv(out / "results.csv", compared)
    if rows["lengths"]:
        tables.write_csv(out / "lengths.csv", rows["lengths"])
        (out / "lengths.svg").write_text(plots.lengths_plot(rows["lengths"]))
    if any("error" not in row for row in rows["mixes"]):
        (out / "mixes.svg").write_text(plots.mixes_plot(rows["mixes"]))
    some = [every[name] for name in ("mix-heavy-1", "mix-medium-2", "mix-fifth-3", "mix-models") if name in every]
    some = [run for run in some if not run["error"]]
    if some:
        (out / "delays.svg").write_text(plots.cdf_plot(some))
    text = tables.markdown(rows)
    (out / "results.md").write_text(text)
    print(text)
    return all(row["kept"] for row in compared)


def main():
    """Measures and writes."""
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    whole = True
    if not arguments.tables:
        try:
            whole = measure(arguments)
        except CannotRun as reason:
            print(f"study: {reason}", file=sys.stderr)
            return 2
    return 0 if write_tables(arguments.out) and whole else 1


if __name__ == "__main__":
    sys.exit(main())
