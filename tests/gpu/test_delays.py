"""Tests of the comparisons of delays: python3 -m unittest discover -s tests/gpu"""

import math
import random
import struct
import unittest

import delays
import figures


def world(seed, seconds, rate, factor=1.0, offset=0.0):
    """A series whose delays follow a common weather: a random level a second."""
    weather, source = random.Random(7), random.Random(seed)
    levels = [weather.uniform(0.2, 1.8) for _ in range(seconds)]
    rows, at = [], source.expovariate(rate)
    while at < seconds:
        rows.append((at, offset + factor * source.expovariate(1 / (0.001 * levels[int(at)]))))
        at += source.expovariate(rate)
    return rows


class Reading(unittest.TestCase):
    def test_requests(self):
        record = struct.pack("<QQQ", 10**9, 10**9 + 300_000, 0) + struct.pack("<QQQ", 2 * 10**9, 2 * 10**9 + 1, 5)
        rows = delays.requests(record + b"half")
        self.assertEqual([len(rows), rows[0][2]], [2, None])
        self.assertAlmostEqual(rows[0][0], 1.0)
        self.assertAlmostEqual(rows[0][1], 300e-6)
        self.assertAlmostEqual(rows[1][2], 5e-9)
        self.assertEqual(delays.requests(b""), [])

    def test_probes(self):
        text = "GPU-1\t1.5\t0.002\ttrue\nGPU-2\t1.6\t0.003\ttrue\nGPU-1\t1.7\t0.004\tfalse\nGPU-1\t1.8"
        self.assertEqual(delays.probes(text, "GPU-1"), [(1.5, 0.002, True), (1.7, 0.004, False)])
        for text in ("GPU-1 1 2 true\n", "GPU-1\t1\t2\tmaybe\n"):
            with self.assertRaises(ValueError, msg=text):
                delays.probes(text, "GPU-1")

    def test_the_trace_is_of_the_hosts_clock_or_of_the_agents(self):
        self.assertEqual(delays.shift([5000.0, 5009.0], now=5010.0, agent_now=60.0), 0.0)
        self.assertEqual(delays.shift([50.0, 59.0], now=5010.0, agent_now=60.0), 4950.0)
        with self.assertRaises(delays.TooFew):
            delays.shift([], 1.0, 1.0)


class Statistics(unittest.TestCase):
    def test_quantiles_by_nearest_rank(self):
        values = list(range(1, 101))
        self.assertEqual([delays.quantile(values, share) for share in (0.01, 0.5, 0.99, 1.0)], [1, 50, 99, 100])
        self.assertEqual(delays.quantile([7], 0.99), 7)
        for function in (delays.mean, lambda values: delays.quantile(values, 0.5)):
            with self.assertRaises(delays.TooFew):
                function([])

    def test_what_is_added_is_beyond_an_ordinary_request_alone(self):
        alone = [0.0003] * 99 + [0.0009]
        found = delays.added([0.0013] * 98 + [0.0053] * 2, alone)
        self.assertAlmostEqual(found["mean"], 0.00138 - 0.000306)
        self.assertAlmostEqual(found["p99"], 0.005)

    def test_blocks_taken_once_are_the_series(self):
        series = world(1, 20, 50)
        blocks, values = delays.Blocks(series, 0, 20), [value for _, value in series]
        self.assertEqual(blocks.count, 20)
        self.assertAlmostEqual(blocks.mean([1] * 20), delays.mean(values))
        for share in (0.5, 0.9, 0.99):
            self.assertEqual(blocks.quantile([1] * 20, share), delays.quantile(values, share))

    def test_blocks_taken_twice_count_twice(self):
        blocks = delays.Blocks([(0.5, 1.0), (1.5, 4.0)], 0, 2)
        self.assertAlmostEqual(blocks.mean([2, 1]), 2.0)
        self.assertEqual([blocks.quantile([2, 1], share) for share in (0.5, 0.99)], [1.0, 4.0])
        self.assertEqual(blocks.quantile([2, 0], 0.99), 1.0)
        with self.assertRaises(delays.TooFew):
            blocks.mean([0, 0])

    def test_a_bootstrap_of_two_that_agree_and_of_two_that_do_not(self):
        idle, alone = [18e-6] * 9, [3e-4] * 9
        canary = world(1, 60, 20, offset=18e-6)
        same = delays.compare(canary, idle, world(2, 60, 150, offset=3e-4), alone, 0, 60, resamples=400)
        for name in ("mean", "p99"):
            self.assertLess(same[name]["low"], 1.0, name)
            self.assertGreater(same[name]["high"], 1.0, name)
        other = delays.compare(canary, idle, world(2, 60, 150, factor=1.5, offset=3e-4), alone, 0, 60, resamples=400)
        self.assertLess(other["mean"]["high"], 1.0)

    def test_the_interval_covers_as_often_as_it_says(self):
        # 99 %, with some loss as every bootstrap has: of 60 worlds at most 4 may miss.
        missed = 0
        for seed in range(60):
            found = delays.compare(
                world(1000 + seed, 60, 20), [0.0], world(2000 + seed, 60, 150), [0.0], 0, 60, resamples=300, seed=seed
            )["mean"]
            missed += not found["low"] <= 1 <= found["high"]
        self.assertLessEqual(missed, 4)

    def test_the_rules(self):
        narrow, wide = {"low": 0.98, "high": 1.04}, {"low": 0.9, "high": 1.12}
        for ratio, interval, alone, rule in (
            (1.03, narrow, False, "figure"),
            (1.06, narrow, False, None),
            (1.06, wide, False, "interval"),
            (1.06, wide, True, None),
            (1.06, {"low": 1.01, "high": 1.2}, False, None),
            (0.951, narrow, True, "figure"),
            (math.inf, wide, True, None),
        ):
            self.assertEqual(delays.judge({"ratio": ratio, **interval}, 0.05, alone), rule, (ratio, interval))

    def test_paired_differences(self):
        self.assertEqual(delays.paired([1.0]), (1.0, None))
        middle, error = delays.paired([1.0, 2.0, 3.0])
        self.assertAlmostEqual(middle, 2.0)
        self.assertAlmostEqual(error, 1 / math.sqrt(3))

    def test_a_cdf_is_thinned_and_rises_to_one(self):
        curve = delays.cdf(list(range(1000)), points=11)
        self.assertEqual((len(curve), curve[-1]), (11, (999, 1.0)))
        self.assertEqual(delays.cdf([]), [])
        self.assertEqual(delays.cdf([5]), [(5, 1.0)])


class Clocks(unittest.TestCase):
    def rows(self, seed, back):
        """Requests of a tenant that learns of an answer so late, and what each waited for its start."""
        source, rows, truth = random.Random(seed), [], []
        for number in range(3000):
            at, waited = number * 0.02, source.choice((0.0, source.uniform(0, 0.002)))
            launch = source.uniform(8e-6, 12e-6)
            drift = 1e6 + 8e-6 * at
            rows.append((at, launch + waited + 1e-4 + source.uniform(*back), at + launch + waited + drift))
            truth.append(launch + waited)
        return rows, truth

    def test_who_spins_ties_the_gpus_clock_for_all(self):
        spins, blocks = self.rows(3, (3e-6, 6e-6)), self.rows(4, (5e-5, 3e-4))
        found = delays.starts({"spin": spins[0], "block": blocks[0]}, "spin", 1e-4)
        for name, (rows, truth) in {"spin": spins, "block": blocks}.items():
            self.assertEqual(len(found[name]), len(rows))
            off = [said - true for (_, said), true in zip(found[name], truth)]
            self.assertLess(max(map(abs, off)), 12e-6, name)

    def test_without_a_tie_nothing_is_said(self):
        rows, _ = self.rows(3, (3e-6, 6e-6))
        self.assertEqual(delays.starts({"block": rows}, "spin", 1e-4), {"block": []})
        self.assertEqual(delays.starts({"spin": [(1.0, 0.1, None)]}, "spin", 0.0), {"spin": []})
        # The one that spins was silent for a while.
        late = [row for row in rows if row[0] > 2.0]
        found = delays.starts({"spin": late, "block": rows}, "spin", 1e-4)
        self.assertGreaterEqual(min(at for at, _ in found["block"]), 2.0)


class Rules(unittest.TestCase):
    def test_a_short_request_waits_once_and_a_long_one_shares(self):
        short = delays.which_rule(alone=0.3, with_neighbours=1.5, said_added=1.22, neighbours=1)
        self.assertEqual(short["rule"], "delay")
        self.assertAlmostEqual(short["slowdown"], 5.0)
        long = delays.which_rule(alone=12.2, with_neighbours=24.9, said_added=1.4, neighbours=1)
        self.assertEqual(long["rule"], "share")
        self.assertAlmostEqual(long["off_by_share"], 24.4 / 24.9 - 1)


class Checks(unittest.TestCase):
    def test_the_gap_that_gives_a_share(self):
        # 8 ms took 10 and rested 10: 40 %. At 32 % a cycle is 25 ms.
        self.assertAlmostEqual(figures.next_gap(8, 10, 0.4, 0.32), 15.0)
        self.assertEqual(figures.next_gap(0.5, 0.1, 0.2, 0.9), 0.0)
        self.assertEqual(figures.next_gap(0.5, 0.1, 0.0, 0.9), 0.1)

    def test_pairs_have_names(self):
        gpu = {
            "containers": [{"pod": "a"}, {"pod": "b"}],
            "canary": {"pairs": [{"victim": 1, "aggressor": 0, "delay_seconds": 2.0, "probes": 3.0}]},
        }
        self.assertEqual(figures.pairs(gpu)[0]["victim"], "b")
        self.assertEqual(figures.pairs(gpu)[0]["aggressor"], "a")

    def test_counters_that_went_down(self):
        row = lambda probes, seconds: {"probes": probes, "xid_31": 0, "gpu_seconds": {"a": seconds}}
        self.assertEqual(figures.went_down([row(1, 1.0), row(2, 1.0), row(None, 1.5), row(3, None)]), 0)
        self.assertEqual(figures.went_down([row(2, 1.0), row(1, 0.5)]), 2)
        gone = {"probes": 3, "xid_31": 0, "gpu_seconds": {}}
        self.assertEqual(figures.went_down([row(2, 1.0), gone]), 0)

    def test_parents(self):
        self.assertEqual(figures.parent_of_stat("77 (a) b) S 12 77 77 0 -1"), 12)


if __name__ == "__main__":
    unittest.main()
