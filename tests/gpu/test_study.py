"""The study and the checks of the canary from end to end, with stand-ins in place of GPU, tenant and agent.

What they find is the stand-ins' own truth: it shows that the scripts start, cut, compare, write and clean up.
"""

import contextlib
import csv
import io
import json
import os
import pathlib
import socket
import sys
import tempfile
import unittest
import xml.dom.minidom
from unittest import mock

import accept
import canary_blame
import canary_cost
import probing
import rig

HERE = pathlib.Path(__file__).resolve().parent
STUDY = HERE.parents[1] / "bench" / "neighbour" / "study"
sys.path.insert(0, str(STUDY))

import mixes  # noqa: E402
import plots  # noqa: E402
import runs  # noqa: E402
import tables  # noqa: E402

sys.path.insert(0, str(HERE))


def program(folder, role):
    """A stand-in as an executable."""
    path = folder / role
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "stand_in.py"} {role} "$@"\n')
    path.chmod(0o755)
    return str(path)


def free_port():
    """The first of some ports in a row that are likely free."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return min(listener.getsockname()[1], 60000)


# The stand-ins have no GPU to wait for.
QUICK = {
    "LATE_SECONDS": 0.2,
    "WINDOW_SECONDS": 0.3,
    "DRAIN_SECONDS": 0.3,
    "SETTLE_SECONDS": 0.3,
    "SHORTEST_SECONDS": 0.6,
}


class Stage(unittest.TestCase):
    """A folder with stand-ins, and a plain folder for cgroups."""

    def setUp(self):
        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        self.folder = pathlib.Path(held.name)
        for name in ("world", "cgroup"):
            (self.folder / name).mkdir()
        (self.folder / "cgroup" / "cgroup.controllers").touch()
        self.out = self.folder / "out"
        before = os.environ.get("STAND_IN")
        os.environ["STAND_IN"] = str(self.folder / "world")
        self.addCleanup(lambda: os.environ.pop("STAND_IN") if before is None else None)
        self.words = ["--agent", program(self.folder, "agent"), "--tenant", program(self.folder, "tenant"),
                      "--out", str(self.out), "--cgroup-root", str(self.folder / "cgroup"),
                      "--port", str(free_port())]
        for patch in (mock.patch.multiple(probing, **QUICK), mock.patch.object(canary_cost, "PAIRS", 2),
                      mock.patch.object(canary_blame, "TUNING_ROUNDS", 1),
                      mock.patch.object(mixes, "LENGTHS", [("0.1", 0.1, 1), ("12-by-24", 0.5, 24)])):
            patch.start()
            self.addCleanup(patch.stop)
        self.said = io.StringIO()
        for patch in (contextlib.redirect_stdout(self.said), contextlib.redirect_stderr(self.said)):
            patch.__enter__()
            self.addCleanup(patch.__exit__, None, None, None)

    def leftovers(self):
        """Tenants that were not ended."""
        import stand_in
        stand_in.WORLD = self.folder / "world"
        return stand_in.tenants()


class Study(Stage):
    def study(self, *words):
        """Runs the command in this process."""
        import importlib.util
        spec = importlib.util.spec_from_file_location("study_main", STUDY / "__main__.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        before, sys.argv = sys.argv, ["study", *words]
        try:
            return module.main()
        finally:
            sys.argv = before

    def test_every_part_from_one_command(self):
        status = self.study(
            *self.words, "--mixes", "heavy-1,fifth-3", "--seconds", "3", "--rate", "80", "--precise-mixes", "medium-1",
            "--precise-probes", "200", "--length-seconds", "1", "--baseline-seconds", "1", "--settle", "0.2",
            "--parts", "mixes,precise,lengths", "--waits", "block,spin",
        )
        said = self.said.getvalue()
        self.assertIn(status, (0, 1), said)  # whether the stand-ins agree within so short a time is chance
        self.assertNotIn("not finished", said)
        self.assertEqual(self.leftovers(), [])
        rows = list(csv.DictReader((self.out / "results.csv").open()))
        self.assertEqual([row["run"] for row in rows],
                         ["mix-heavy-1"] * 3 + ["mix-fifth-3"] * 3 + ["precise-medium-1"] * 3)
        self.assertEqual([(row["victim"], row["measure"]) for row in rows[:3]],
                         [("short-block", "request"), ("short-block", "start"), ("short-spin", "request")])
        for row in rows:
            # Both met the same neighbours: half the mean or twice would be a mistake of the scripts.
            self.assertAlmostEqual(float(row["mean_ratio"]), 1.0, delta=0.5, msg=row)
            self.assertAlmostEqual(float(row["histogram_mean_ratio"]), 1.0, delta=0.1)
            self.assertAlmostEqual(float(row["sum_gap"]), 0.0, delta=1e-6)
        lengths = list(csv.DictReader((self.out / "lengths.csv").open()))
        self.assertEqual(len(lengths), len(mixes.LENGTHS) * 2)
        self.assertEqual({row["rule"] for row in lengths if float(row["work_ms"]) == 12}, {"share"})
        for name in ("mixes.svg", "delays.svg", "lengths.svg"):
            xml.dom.minidom.parse(str(self.out / name))
        text = (self.out / "results.md").read_text()
        self.assertIn("| 1 heavy | block |", text)
        self.assertIn("| 1 heavy | block, its kernel's start |", text)
        self.assertIn("### Longer requests", text)
        # The same tables once more, from the files alone.
        before = (self.out / "results.csv").read_text()
        self.assertEqual(self.study("--tables", "--out", str(self.out)), status)
        self.assertEqual((self.out / "results.csv").read_text(), before)

    def test_what_cannot_run_here_is_said(self):
        words = [*self.words]
        words[words.index("--agent") + 1] = "/nowhere"
        self.assertEqual(self.study(*words), 2)
        self.assertIn("/nowhere", self.said.getvalue())

    def test_no_torch_is_a_clear_skip(self):
        # A program that is not a Python with PyTorch.
        self.assertIn(self.study(*self.words, "--parts", "models", "--python", "false"), (0, 1))
        self.assertIn("models: skipped", self.said.getvalue())


class Checks(Stage):
    def check(self, name, seconds):
        """One check, as accept.py runs it."""
        self.out.mkdir()
        words = [*self.words, "--overhead", "/bin/true", "--only", name, "--seconds", str(seconds)]
        arguments = accept.parse_arguments(words)
        place = rig.Rig(arguments, arguments.out)
        try:
            place.calibrate()
            outcome = accept.run(name, place)
        finally:
            place.close()
        self.assertEqual(self.leftovers(), [])
        self.assertIsNone(outcome["error"], outcome["error"])
        json.dumps(outcome)
        return outcome, {row["name"]: row for row in outcome["limits"]}

    def test_cost(self):
        outcome, limits = self.check("canary-cost", 10)
        self.assertEqual(len(outcome["figures"]["pairs"]), 2)
        self.assertEqual([len(outcome["figures"]["worker_memory_bytes"][name]) for name in ("one", "eight")], [1, 8])
        self.assertTrue(limits["framebuffer in use while there is no tenant"]["kept"])

    def test_memory(self):
        outcome, limits = self.check("canary-memory", 10)
        self.assertTrue(outcome["passed"], limits)
        steps = outcome["figures"]["steps"]
        self.assertLess(steps["beside_held"], steps["beside"])
        self.assertEqual(outcome["figures"]["jumps"]["past"]["taken"], 0)

    def test_blame(self):
        outcome, limits = self.check("canary-blame", 10)
        self.assertTrue(limits["inflicted and unattributed, off the histogram's sum"]["kept"])
        self.assertEqual(set(outcome["figures"]["falls"]), {"heavy", "medium"})

    def test_faults(self):
        outcome, limits = self.check("canary-faults", 10)
        self.assertTrue(limits["Xid 31 counted"]["kept"])
        self.assertTrue(limits["counters that went down"]["kept"])
        self.assertGreater(outcome["figures"]["fault"]["side_by_side"]["requests"], 0)


class Tables(unittest.TestCase):
    def test_a_mix_that_failed_stands_in_the_table(self):
        every = {"mix-heavy-2": {"name": "mix-heavy-2", "mix": "heavy-2", "error": "the agent ended"}}
        rows = tables.mix_rows(every, "mix-")
        self.assertFalse(rows[0]["kept"])
        self.assertIn("**not finished**: the agent ended", "\n".join(tables.mix_table(rows)))

    def test_every_mix_has_words_and_neighbours_of_its_own_seed(self):
        self.assertEqual(len(mixes.MIXES), 12)
        for mix in mixes.MIXES:
            self.assertIn(mix, mixes.WORDS)
            loads = mixes.neighbours(mix)
            self.assertEqual(len({pod for pod, _ in loads}), len(loads))
            self.assertEqual(len({load["seed"] for _, load in loads}), len(loads))

    def test_unknown_is_not_zero(self):
        self.assertEqual(tables.number(None), "unknown")
        self.assertEqual(tables.number(1234.5), "1,234")

    def test_rows_survive_the_way_through_a_file(self):
        rows = json.loads(json.dumps(runs.microseconds([(1.5, 0.000123, True)])))
        self.assertEqual(runs.series(rows), [(1.5, 0.000123)])

    def test_steps_of_a_scale_are_round_and_few(self):
        for top in (0.3, 1, 7, 12, 95, 1500, 4350, 99999):
            step = plots.step(top)
            self.assertTrue(2 <= top / step <= 10.5, (top, step))


if __name__ == "__main__":
    unittest.main()
