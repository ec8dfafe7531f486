"""What Prometheus answers over the history is what really happened on the simulated nodes."""

import math
import unittest

import fixture
import history

# Nodes whose GPU time the driver tells by process.
TIMED = ("quiet", "noisy-neighbour", "memory-hog", "slow-leak", "many-pods")
# One sample each 200 ms, won by one process.
SAMPLES_A_SECOND = 5


def of(instance):
    return f'job="{history.JOB}",instance="{instance}"'


def by_pod(vector):
    return {tuple(metric[name] for name in ("gpu_uuid", "namespace", "pod", "container")): value for metric, value in vector}


def pods(look, unproven=()):
    return {(pod["gpu_uuid"], pod["namespace"], pod["pod"], pod["container"]): pod
            for pod in look["pods"] if not pod["pod"].startswith(unproven or "\0")}


class Values(unittest.TestCase):
    def setUp(self):
        self.world = fixture.world()

    def each(self, check):
        for prometheus in self.world.servers:
            with self.subTest(version=prometheus.version.name):
                check(prometheus)

    def looks(self, instance, seconds=history.SHORT):
        """Looks at the truth, from a time on, and the scrape that is as old. Not the first of all: at its
        first scrape an agent has read little."""
        node = next(node for node in history.NODES if node.instance == instance)
        for look in self.world.truth(instance)["looks"]:
            at = round(look["at"] / node.step) * node.step
            if at > history.END - min(seconds, node.length) and abs(look["at"] - at) < 1.5:
                yield at, look

    def test_nodes_have_cards_of_their_own(self):
        seen = {}
        for node in history.NODES:
            for uuid in self.world.truth(node.instance)["looks"][0]["gpus"]:
                self.assertIsNone(seen.get(uuid), f"{uuid} is on {node.instance} and {seen.get(uuid)}")
                seen[uuid] = node.instance

    def test_memory_by_pod(self):
        """To the byte: of the flat ones at every look, of those that move where they stand still for a window."""
        def check(prometheus):
            exact = compared = 0
            for instance in ("quiet", "noisy-neighbour", "many-pods", "mig", "mps", "memory-hog", "slow-leak"):
                for at, look in self.looks(instance):
                    found = by_pod(prometheus.instant(f"slicewatch_pod_framebuffer_bytes{{{of(instance)}}}", at))
                    wanted = {key: pod["memory_bytes"] for key, pod in pods(look).items()}
                    self.assertFalse(set(found) ^ set(wanted), f"{instance} at {at}")
                    compared += len(wanted)
                    exact += sum(found[key] == value for key, value in wanted.items())
                    if instance in ("mig", "mps"):
                        self.assertEqual(found, wanted, f"{instance} at {at}")
            # The truth is of the instant of the snapshot, a list of up to a second before.
            self.assertGreater(exact / compared, 0.95)
            fixture.COUNTS["figures compared with the truth"] += compared
        self.each(check)

    def test_share_of_gpu_time_by_pod(self):
        """Within three standard errors of what its samples can tell, and the drain at both ends."""
        def check(prometheus):
            compared = far = 0
            for instance in TIMED:
                (first_at, first), *_, (last_at, last) = list(self.looks(instance))
                seconds = last_at - first_at
                found = by_pod(prometheus.instant(f"slicewatch_pod_gpu_seconds_total{{{of(instance)}}}", last_at))
                before = by_pod(prometheus.instant(f"slicewatch_pod_gpu_seconds_total{{{of(instance)}}}", first_at))
                began, ended = pods(first), pods(last)
                for key in set(began) & set(ended):
                    truth = (ended[key]["gpu_seconds"] - began[key]["gpu_seconds"]) / seconds
                    said = (found[key] - before[key]) / seconds
                    samples = seconds * SAMPLES_A_SECOND
                    error = max(math.sqrt(truth * (1 - truth) / samples), 1 / samples)
                    # A drain is up to 3 s old.
                    self.assertLess(abs(said - truth), 5 * error + 3 / seconds, f"{instance} {key}: {said} is not {truth}")
                    far += abs(said - truth) > 3 * error + 3 / seconds
                    compared += 1
            self.assertLessEqual(far, compared // 50)
            fixture.COUNTS["figures compared with the truth"] += compared
        self.each(check)

    def test_tenants_busy_time_and_pressure(self):
        def check(prometheus):
            for instance in ("quiet", "noisy-neighbour", "memory-hog", "slow-leak", "many-pods", "mig", "mps"):
                looks = list(self.looks(instance))
                (first_at, first), (last_at, last) = looks[0], looks[-1]
                seconds = last_at - first_at
                tenants = {metric["gpu_uuid"]: value for metric, value in prometheus.instant(f"slicewatch_gpu_tenants{{{of(instance)}}}", last_at)}
                for uuid, gpu in last["gpus"].items():
                    resident = {(pod["namespace"], pod["pod"]) for pod in last["pods"] if pod["gpu_uuid"] == uuid and pod["processes"]}
                    self.assertEqual(tenants[uuid], len(resident), f"{instance} {uuid}")
                for metric, total, slack in (("slicewatch_gpu_busy_seconds_total", "busy_seconds", 3 + 0.015 * seconds),
                                             ("slicewatch_gpu_framebuffer_pressure_seconds_total", "pressure_seconds", 1 + 0.01 * seconds)):
                    ended, began = ({m["gpu_uuid"]: v for m, v in prometheus.instant(f"{metric}{{{of(instance)}}}", at)} for at in (last_at, first_at))
                    for uuid, value in ended.items():
                        wanted = last["gpus"][uuid][total] - first["gpus"][uuid][total]
                        self.assertAlmostEqual(value - began[uuid], wanted, delta=slack, msg=f"{instance} {metric}")
                        fixture.COUNTS["figures compared with the truth"] += 1
        self.each(check)

    def test_the_delay_of_a_short_request_and_who_inflicted_it(self):
        """The mean within a tenth; each pod's part by its turns within a tenth of the whole."""
        def check(prometheus):
            (first_at, first), *_, (last_at, last) = list(self.looks("noisy-neighbour"))
            seconds = last_at - first_at
            at_end = f"[{seconds:.0f}s] @ {last_at:.0f}"
            [(_, mean)] = prometheus.instant(
                f'sum(increase(slicewatch_gpu_canary_delay_seconds_sum{{{of("noisy-neighbour")}}}{at_end}))'
                f' / sum(increase(slicewatch_gpu_canary_delay_seconds_count{{{of("noisy-neighbour")}}}{at_end}))')
            [(_, baseline)] = prometheus.instant(
                f'slicewatch_gpu_canary_baseline_seconds{{{of("noisy-neighbour")},statistic="mean"}}', last_at) or [({}, 7e-6)]
            [uuid] = last["gpus"]
            wanted = (last["gpus"][uuid]["expected_delay"] - first["gpus"][uuid]["expected_delay"]) / seconds
            self.assertAlmostEqual(mean - baseline, wanted, delta=0.1 * wanted)
            inflicted = by_pod(prometheus.instant(
                f'increase(slicewatch_pod_inflicted_delay_seconds_total{{{of("noisy-neighbour")}}}{at_end})'
                f' / on () group_left () sum(increase(slicewatch_gpu_canary_delay_seconds_count{{{of("noisy-neighbour")}}}{at_end}))'))
            began = pods(first)
            for key, pod in pods(last).items():
                part = (pod["turn_seconds"] - began[key]["turn_seconds"]) / 2 / seconds
                self.assertAlmostEqual(inflicted[key], part, delta=0.1 * wanted, msg=key)
                fixture.COUNTS["figures compared with the truth"] += 1
        self.each(check)

    def test_xid_errors(self):
        def check(prometheus):
            *_, (at, look) = list(self.looks("faults"))
            found = {(metric["gpu_uuid"], int(metric["xid"])): value for metric, value in
                     prometheus.instant(f'slicewatch_gpu_xid_errors_total{{{of("faults")}}} > 0', at)}
            wanted = {(uuid, int(xid)): total for uuid, gpu in look["gpus"].items() for xid, total in gpu["xids"].items()}
            # Half a second after its 79 the card is gone: whether somebody heard it is luck.
            self.assertEqual(set(found) | {key for key in wanted if key[1] == 79}, set(wanted))
            for key, total in found.items():
                self.assertAlmostEqual(total, wanted[key], delta=2, msg=key)
        self.each(check)

    def test_a_step_of_the_nodes_clock_makes_no_counter_fall_and_no_jump(self):
        def check(prometheus):
            names = prometheus.get("label/__name__/values", [("match[]", f'{{__name__=~"slicewatch_.+_total",{of("clock-step")}}}')])
            self.assertGreater(len(names), 10)
            for name in names:
                self.assertEqual(prometheus.instant(f'resets({name}{{{of("clock-step")}}}[3h]) > 0', history.END), [], name)
            # The whole of both steps, two minutes, would be a third of the window.
            jumps = prometheus.instant(f'max(max_over_time(rate(slicewatch_gpu_busy_seconds_total{{{of("clock-step")}}}[5m])[3h:30s]))', history.END)
            self.assertLess(jumps[0][1], 0.05)
        self.each(check)
