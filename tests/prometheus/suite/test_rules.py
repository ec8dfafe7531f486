"""Rules as both promtools see them, and alerts over history that has their causes."""

import unittest

import expected
import fixture
import history
import server


def longest(points, step):
    """The longest stretch without a gap, in seconds."""
    best = run = 0.0
    before = None
    for at, _ in points:
        run = run + step if before is not None and at - before <= step else 0.0
        best, before = max(best, run), at
    return best


class Rules(unittest.TestCase):
    def test_promtool_is_content(self):
        files = server.rule_files()
        self.assertTrue(files, f"no rules in {server.DASHBOARDS}/rules")
        tests = sorted((server.DASHBOARDS / "rules/tests").glob("*.yaml"))
        self.assertTrue(tests, "no tests of rules")
        for version in server.versions():
            for what, arguments in (("check", files), ("test", tests)):
                with self.subTest(f"promtool {what} rules", version=version.name):
                    content, said = version.tool(what, "rules", *arguments)
                    self.assertTrue(content, said)
            fixture.COUNTS[f"rule files and {len(tests)} files of tests pass promtool ({version.name})"] = len(files)

    def test_every_alert_is_in_the_table(self):
        names = {rule["name"] for rule in fixture.world().servers[0].rules() if rule["type"] == "alerting"}
        self.assertEqual(names, set(expected.ALERTS))

    def test_alerts_fire_where_they_have_a_cause_and_nowhere_else(self):
        def fired(prometheus):
            """Nodes on which each alert fires in the last three hours, as its rule says: long enough."""
            found = {}
            for rule in prometheus.rules():
                if rule["type"] == "alerting":
                    series = prometheus.range(rule["query"], history.END - history.SHORT, history.END, 30)
                    found[rule["name"]] = {metric.get("instance") or metric.get("node") for metric, points in series
                                           if points and longest(points, 30) >= rule["duration"]}
            return found

        for prometheus, found in zip(fixture.world().servers, fixture.on_both(fired)):
            for name, (causes, _) in expected.ALERTS.items():
                with self.subTest(name, version=prometheus.version.name):
                    nodes = found.get(name, set())
                    missing, more = causes - nodes, nodes - causes - expected.also(name)
                    self.assertFalse(missing, f"has a cause on {sorted(missing)} and does not fire")
                    self.assertFalse(more, f"fires without a cause on {sorted(more)}")
                    fixture.COUNTS[f"alerts that fire over the history ({prometheus.version.name})"] += bool(causes)

    def test_no_alert_fires_where_all_is_well(self):
        """Over a quiet day and a quiet week; of their last hours, and of the node whose clock is stepped, the
        test above says so."""
        def check(prometheus):
            failed = []
            for rule in prometheus.rules():
                if rule["type"] == "alerting":
                    for instance, seconds, step in (("quiet", history.DAY, 30), ("week", history.WEEK, 60)):
                        series = prometheus.range(rule["query"], history.END - seconds, history.END - history.SHORT + history.HOUR, step)
                        failed += [(rule["name"], metric) for metric, points in series
                                   if metric.get("instance") == instance and longest(points, step) >= rule["duration"]]
            return failed

        for prometheus, failed in zip(fixture.world().servers, fixture.on_both(check)):
            self.assertEqual(failed, [], prometheus.version.name)
            fixture.COUNTS[f"alerts silent over a quiet day and a quiet week ({prometheus.version.name})"] = len(expected.ALERTS)

    def test_what_the_newest_recorded_the_oldest_computes(self):
        """Recording rules say the same on both: what one wrote is compared with what the other computes, to
        a few percent where a series begins in the range, whose start 3.x tells otherwise."""
        oldest = fixture.world().servers[0]
        compared = equal = 0
        for rule in oldest.rules():
            if rule["type"] != "recording":
                continue
            with self.subTest(rule["name"]):
                # A group has its own place in the interval.
                [(_, at)] = oldest.instant(f'max(timestamp({rule["name"]}))', history.END - 5 * rule["interval"])
                # Since 3.0 a range is open at its left end: a millisecond later 2.42 has the same samples.
                wanted = dict(keyed(oldest.instant(rule["query"], at + 0.001)))
                found = dict(keyed(oldest.instant(rule["name"], at)))
                self.assertTrue(wanted, "has no series")
                missing = set(wanted) - set(found)
                self.assertFalse(missing, f"{len(missing)} of {len(wanted)} were not recorded, such as {next(iter(missing), None)}")
                for key, value in wanted.items():
                    self.assertAlmostEqual(value, found[key], delta=0.05 * abs(value) + 1e-6, msg=key)
                    equal += abs(value - found[key]) <= 1e-4 * abs(value) + 1e-9
                compared += len(wanted)
                fixture.COUNTS["recording rules that say the same on both"] += 1
        self.assertGreater(equal, 0.95 * compared)
        fixture.COUNTS["recorded series compared"] = compared


def keyed(vector):
    for metric, value in vector:
        yield tuple(sorted((name, text) for name, text in metric.items() if name != "__name__")), value
