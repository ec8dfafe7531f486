"""Tests of what needs no GPU: python3 -m unittest discover -s tests/gpu"""

import json
import os
import time
import unittest

import accept
import checks
import figures
import rig

SCRAPE = r"""# HELP slicewatch_pod_gpu_seconds_total GPU time received.
# TYPE slicewatch_pod_gpu_seconds_total counter
slicewatch_pod_gpu_seconds_total{gpu_uuid="GPU-1",namespace="bench",pod="heavy",container="main"} 12.5
slicewatch_pod_gpu_seconds_total{gpu_uuid="GPU-1",namespace="bench",pod="heavy",container="side"} 0.5
slicewatch_pod_gpu_seconds_total{gpu_uuid="GPU-2",namespace="bench",pod="heavy",container="main"} 7 1700000000000
slicewatch_build_info{version="0.1.0",rustc="a \"b\", c=\"d\"} \\ \n",} 1

process_open_fds 17
slicewatch_gpu_canary_delay_seconds_bucket{le="+Inf"} +Inf
"""


def gpu(rows, unattributed, unexplained, used, processes=3):
    """A device of a snapshot, in the form of the agent's JSON."""
    return {
        "memory_bytes": {"value": {"total": 1000, "reserved": {"value": 10}, "used": used, "free": 0}},
        "containers": [
            {"pod": f"p{n}", "present": present, "memory_bytes": memory} for n, (present, memory) in enumerate(rows)
        ],
        "unattributed_bytes": unattributed,
        "unexplained_bytes": unexplained,
        "processes": [{}] * processes,
    }


class Parsing(unittest.TestCase):
    def test_a_scrape(self):
        series = figures.parse_metrics(SCRAPE)
        name = "slicewatch_pod_gpu_seconds_total"
        self.assertEqual(figures.pick(series, name, gpu_uuid="GPU-1", pod="heavy"), 13.0)
        self.assertEqual(figures.pick(series, name, gpu_uuid="GPU-2"), 7.0)
        self.assertEqual(figures.pick(series, "process_open_fds"), 17.0)

    def test_what_is_not_there_is_none_and_not_zero(self):
        series = figures.parse_metrics(SCRAPE)
        self.assertIsNone(figures.pick(series, "slicewatch_pod_gpu_seconds_total", pod="light"))
        self.assertIsNone(figures.pick(series, "slicewatch_nothing"))

    def test_escapes_in_labels(self):
        labels, value = figures.parse_metrics(SCRAPE)["slicewatch_build_info"][0]
        self.assertEqual(labels, {"version": "0.1.0", "rustc": 'a "b", c="d"} \\ \n'})
        self.assertEqual(value, 1.0)

    def test_nonsense_is_refused(self):
        for text in ("a b c d", 'a{b=c} 1', 'a{b="c"', "<html>"):
            with self.assertRaises(ValueError, msg=text):
                figures.parse_metrics(text)

    def test_readings(self):
        self.assertEqual(figures.value_of({"value": 0}), 0)
        for unknown in ("unsupported", {"failed": "torn"}, {"unsupported": True}):
            self.assertIsNone(figures.value_of(unknown))

    def test_a_line_under_way_is_left_out(self):
        self.assertEqual(figures.json_lines('{"kind":"ready"}\n{"ki'), [{"kind": "ready"}])

    def test_proc_files(self):
        stat = "77 (a) b) S 1 77 77 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 5 6 7"
        self.assertEqual(figures.cpu_seconds_of_stat(stat, 100), 3.0)
        status = "Name:\tx\nVmHWM:\t    4096 kB\nVmRSS:\t    2048 kB\n"
        self.assertEqual(figures.status_bytes(status, "VmRSS"), 2 * figures.MIB)
        self.assertIsNone(figures.status_bytes(status, "RssAnon"))

    def test_this_process(self):
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        self.assertAlmostEqual(rig.cpu_seconds(os.getpid()), time.process_time(), delta=0.02)
        self.assertAlmostEqual(rig.cpu_seconds_by_stat(os.getpid()), time.process_time(), delta=0.05)
        self.assertGreater(rig.resident(os.getpid())["VmRSS"], 0)


class Comparing(unittest.TestCase):
    def test_busy_time_between_two_reports(self):
        lines = [
            {"kind": "ready"},
            {"kind": "interim", "started_unix": 100.0, "unix": 110.0, "busy_seconds": 5.0},
            {"kind": "final", "started_unix": 100.0, "unix": 120.0, "busy_seconds": 15.0},
        ]
        points = figures.busy_points(lines)
        for at, busy in ((90, 0), (100, 0), (105, 2.5), (110, 5), (112, 7), (120, 15), (130, 15)):
            self.assertAlmostEqual(figures.interpolate(points, at), busy, msg=at)
        with self.assertRaises(figures.Malformed):
            figures.interpolate(figures.busy_points([{"kind": "ready"}]), 1.0)

    def test_the_limit_of_a_share(self):
        self.assertAlmostEqual(figures.standard_error(0.4, 1500), 0.01265, places=5)
        self.assertAlmostEqual(figures.share_limit(0.4, 1500), 0.03795, places=5)
        self.assertEqual(figures.share_limit(0.0, 1500), 0.02)
        self.assertEqual(figures.share_limit(1.2, 1500), 0.02)

    def test_a_balance_that_holds(self):
        rows = [(True, {"value": 100}), (True, {"value": 200}), (False, {"failed": "process_gone"})]
        outcome = figures.balance(gpu(rows, {"value": {"host_process": 30}}, {"value": -5}, used=325))
        self.assertTrue(outcome["whole"])
        self.assertEqual(outcome["difference_bytes"], 0)
        self.assertEqual(outcome["rows_unknown"], 0)
        self.assertEqual(outcome["limit_bytes"], 40 * figures.MIB)

    def test_a_balance_that_does_not(self):
        outcome = figures.balance(gpu([(True, {"value": 100})], {"value": {}}, {"value": 0}, used=101))
        self.assertEqual(outcome["difference_bytes"], 1)
        outcome = figures.balance(gpu([(True, {"failed": "not_available"})], {"value": {}}, {"value": 1}, used=1))
        self.assertEqual(outcome["rows_unknown"], 1)

    def test_a_torn_window_is_not_whole(self):
        self.assertFalse(figures.balance(gpu([], {"value": {}}, {"failed": "torn"}, used=1))["whole"])

    def test_a_live_row(self):
        card = gpu([(True, {"value": 0}), (False, {"value": 1}), (True, {"failed": "stale"})], {}, {}, 0)
        self.assertEqual([figures.row_is_live(card, f"p{n}") for n in range(4)], [True, False, False, False])

    def test_limits(self):
        limits = figures.Limits()
        self.assertFalse(limits.all_kept(), "nothing was compared")
        limits.at_most("a", 1.0, 1.0)
        limits.at_least("b", 3, 3)
        self.assertTrue(limits.all_kept())
        limits.at_most("unknown", None, 1.0)
        self.assertFalse(limits.all_kept())
        self.assertEqual([row["kept"] for row in limits.rows], [True, True, False])
        json.dumps(limits.rows)


class Writing(unittest.TestCase):
    def test_markdown(self):
        limits = figures.Limits()
        limits.at_most("off | by", 0.0123456, 0.02, "s")
        limits.at_least("seen", None, 10)
        outcome = {"check": "peak", "passed": False, "seconds": 61.2, "error": "why", "limits": limits.rows}
        text = figures.markdown({"GPU": "H200"}, [outcome])
        self.assertIn("- GPU: H200\n", text)
        self.assertIn("## peak: **failed** (61 s)\n", text)
        self.assertIn("| off \\| by | 0.01235 s | <= 0.02 s | ok |\n", text)
        self.assertIn("| seen | unknown | >= 10 | **broken** |\n", text)
        self.assertIn("```\nwhy\n```\n", text)


class CommandLine(unittest.TestCase):
    PROGRAMS = ["--agent", "a", "--tenant", "t", "--overhead", "o", "--out", "x"]

    def test_every_check_by_default_and_some_by_name(self):
        self.assertEqual(accept.parse_arguments(self.PROGRAMS).only, list(checks.CHECKS))
        some = accept.parse_arguments([*self.PROGRAMS, "--only", "peak,share", "--agent-arg=--x", "--agent-arg=1"])
        self.assertEqual((some.only, some.agent_arg), (["peak", "share"], ["--x", "1"]))

    def test_every_check_says_what_it_asks(self):
        for check in checks.CHECKS.values():
            self.assertTrue(check.__doc__.splitlines()[0])


if __name__ == "__main__":
    unittest.main()
