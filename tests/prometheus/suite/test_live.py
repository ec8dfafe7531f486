"""Live agents, scraped by both versions under the shipped rules. Last of the suites: by now there are minutes of them."""

import time
import unittest

import expected
import fixture
import grafana
import history
import server
from server import Refused

# Scraped for so long at least before anything is looked at.
SCRAPED = 60


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = fixture.world()
        time.sleep(max(0.0, cls.world.since + SCRAPED - time.time()))

    def span(self):
        now = time.time()
        return grafana.Range("live", self.world.since, now, fixture.SCRAPE)

    def each(self, check):
        for prometheus in self.world.servers:
            with self.subTest(version=prometheus.version.name):
                check(prometheus)

    def test_1_every_agent_is_scraped_and_every_rule_evaluated(self):
        def check(prometheus):
            up = {metric["instance"]: value for metric, value in prometheus.instant(f'up{{job="{history.JOB}"}}', time.time())}
            self.assertEqual(up, {f"live-{scenario}": 1.0 for scenario, _ in fixture.LIVE})
            for rule in prometheus.rules():
                self.assertEqual((rule["health"], rule.get("lastError")), ("ok", None), rule["name"])
            fixture.COUNTS[f"live series of the agents ({prometheus.version.name})"] = int(
                prometheus.instant('count({__name__=~"slicewatch_.+|process_.+",instance=~"live-.*"})', time.time())[0][1])
        self.each(check)

    def test_2_every_query_of_every_dashboard_over_live_agents(self):
        def check(prometheus):
            for dashboard in grafana.dashboards():
                picks = dict(expected.VIEWS[dashboard.uid].get("noisy-neighbour") or {}, instance="live-noisy-neighbour")
                if dashboard.uid == "slicewatch-agent":
                    picks = {}
                choices, options = dashboard.choose(prometheus, self.span(), picks)
                for target in dashboard.targets:
                    try:
                        _, answer = dashboard.ask(prometheus, target, self.span(), choices, options)
                    except Refused as refused:
                        self.fail(f"{dashboard.uid}: {target.panel!r}: {refused}")
                    fixture.COUNTS[f"panel queries answered live ({prometheus.version.name})"] += 1
                    fixture.COUNTS[f"panel queries that show something live ({prometheus.version.name})"] += bool(answer)
        self.each(check)

    def test_3_live_values_are_the_agents_own(self):
        """What a scrape of the agent says is what Prometheus has, and twice scraped is the same twice."""
        def check(prometheus):
            with server.OPENER.open(f"http://{self.world.demo('quiet').address}/metrics", timeout=5) as answer:
                text = answer.read().decode()
            own = {line.split(" ")[0] for line in text.splitlines() if line.startswith("slicewatch_pod_framebuffer_fair_share_bytes{")}
            found = prometheus.instant('slicewatch_pod_framebuffer_fair_share_bytes{instance="live-quiet"}', time.time())
            self.assertEqual(len(found), len(own))
            by_job = {}
            for metric, value in prometheus.instant('sum by (job) (slicewatch_gpu_framebuffer_total_bytes{instance="live-noisy-neighbour"})', time.time()):
                by_job[metric["job"]] = value
            self.assertEqual(set(by_job), {history.JOB, history.SECOND_JOB})
            self.assertEqual(len(set(by_job.values())), 1)
        self.each(check)

    def test_4_alerts_without_a_wait_fire_live_and_quiet_stays_quiet(self):
        def check(prometheus):
            instant = [rule["name"] for rule in prometheus.rules() if rule["type"] == "alerting" and rule["duration"] < 60]
            for name in instant:
                causes = {f"live-{node}" for node in expected.ALERTS[name][0]}
                server.wait_for(f"{name} to fire", 30, lambda: causes & {
                    alert["labels"].get("instance") for alert in prometheus.get("alerts")["alerts"]
                    if alert["labels"]["alertname"] == name and alert["state"] == "firing"})
                fixture.COUNTS[f"alerts that fire live ({prometheus.version.name})"] += 1
            self.assertEqual([alert for alert in prometheus.get("alerts")["alerts"] if alert["labels"].get("instance") == "live-quiet"], [])
        self.each(check)

    def test_5_prometheus_restarted(self):
        """What was before is there afterwards, no counter jumps, no rule fails."""
        def check(prometheus):
            before = time.time()
            had = prometheus.instant('count(slicewatch_pod_info{instance="live-quiet"})', before)
            prometheus.restart()
            # Only what was scraped since then ends with its target.
            server.wait_for("scrapes after the restart", 30, lambda: time.time() - before > 4 * fixture.SCRAPE and prometheus.instant(
                f'count(count_over_time(up{{job="{history.JOB}",instance=~"live-.*"}}[{2 * fixture.SCRAPE}s])) == {len(fixture.LIVE)}', time.time()))
            self.assertEqual(prometheus.instant('count(slicewatch_pod_info{instance="live-quiet"})', before), had)
            self.assertTrue(prometheus.instant('slicewatch_gpu_up{instance="quiet"}', history.END))
            [(_, busiest)] = prometheus.instant('max(rate(slicewatch_gpu_busy_seconds_total{instance=~"live-(quiet|noisy-neighbour)"}[1m]))', time.time())
            self.assertLess(busiest, 1.1)
            self.assertEqual(prometheus.instant('resets(slicewatch_gpu_busy_seconds_total{instance="live-quiet"}[5m]) > 0', time.time()), [])
            server.wait_for("rules after the restart", 30, lambda: all(rule["health"] == "ok" for rule in prometheus.rules()))
            fixture.COUNTS[f"restarts survived ({prometheus.version.name})"] += 1
        self.each(check)

    def test_6_an_agent_that_goes_is_told(self):
        """Its series end at the next scrape; the alert begins its wait."""
        self.world.demo("mps").stop()

        def check(prometheus):
            server.wait_for("the alert to be pending", 30, lambda: [
                alert for alert in prometheus.get("alerts")["alerts"]
                if alert["labels"]["alertname"] == "SlicewatchAgentDown" and alert["labels"]["instance"] == "live-mps"])
            server.wait_for("its series to end", 10, lambda: not prometheus.instant('slicewatch_gpu_up{instance="live-mps"}', time.time()))
        try:
            self.each(check)
        finally:
            self.world.demo("mps").start()
