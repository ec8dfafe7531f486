"""Series through change: nothing stale, nothing twice, nothing that jumps back."""

import itertools
import time

import node
from fixture import Case
from node import container, pod


def value(metrics, name, **labels):
    """The value of the one series of this name with these labels, or None."""
    found = [
        number for own, number in metrics.get(name, [])
        if all(own.get(key) == wanted for key, wanted in labels.items())
    ]
    if len(found) > 1:
        raise AssertionError(f"{name}{labels}: {len(found)} series")
    return found[0] if found else None


class Change(Case):
    def test_a_deleted_pods_gauges_end_at_once_and_its_counters_later(self):
        with node.pods(pod("brief")):
            self.owned("brief")
            self.eventually("GPU time", lambda: value(self.agent.metrics(), "slicewatch_pod_gpu_seconds_total", pod="brief"))
        gone = time.monotonic()
        self.eventually("its gauges to end", lambda: value(
            self.agent.metrics(), "slicewatch_pod_framebuffer_bytes", pod="brief") is None, 5)
        self.assertIsNotNone(value(self.agent.metrics(), "slicewatch_pod_gpu_seconds_total", pod="brief"))
        self.assertIsNotNone(value(self.agent.metrics(), "slicewatch_pod_framebuffer_peak_bytes", pod="brief"))
        self.eventually("its counters to end", lambda: not any(
            own.get("pod") == "brief" for rows in self.agent.metrics().values() for own, _ in rows), 100)
        self.assertGreater(time.monotonic() - gone, 60)

    def test_the_agent_restarts(self):
        with node.pods(pod("steady")):
            self.owned("steady")
            before = self.agent.pod()["metadata"]["name"]
            node.kubectl("delete", "pod", "-n", self.agent.namespace, before)
            after = self.agent.ready()["metadata"]["name"]
            self.assertNotEqual(before, after)
            [row] = self.owned("steady")
            self.assertEqual(row["evidence"], "container_status")

    def test_the_plugin_restarts_with_other_replicas(self):
        def replicas():
            return {gpu["replicas"].get("value") for gpu in self.agent.snapshot()["gpus"]}

        with node.pods(pod("tenant")):
            [row] = self.owned("tenant")
            try:
                node.share(7)
                self.eventually("seven replicas a card", lambda: replicas() == {7}, 75)
                [row] = self.owned("tenant")
                self.assertEqual(row["replicas"], {"value": 1})
                metrics = self.agent.metrics()
                self.assertEqual(value(metrics, "slicewatch_pod_replicas", pod="tenant"), 1)
                share = value(metrics, "slicewatch_pod_framebuffer_fair_share_bytes", pod="tenant")
                total = value(metrics, "slicewatch_gpu_framebuffer_total_bytes", gpu_uuid=row["gpu_uuid"])
                self.assertAlmostEqual(share / total, 1 / 7, delta=0.01)
            finally:
                node.share(4)
            self.eventually("four replicas a card", lambda: replicas() == {4}, 75)

    def test_the_nodes_label_chooses_another_configuration(self):
        (node.STATE / "config" / "two").write_text(
            '{"version": "v1", "sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 2}]}}}')
        label = "nvidia.com/device-plugin.config"
        try:
            node.kubectl("label", "node", node.NAME, f"{label}=two", "--overwrite")
            self.eventually("two replicas a card", lambda: {
                gpu["replicas"].get("value") for gpu in self.agent.snapshot()["gpus"]} == {2}, 75)

            def told():
                labels = self.agent.snapshot()["node_facts"].get("value", {}).get("labels", {})
                return labels.get(label) == "two"

            self.eventually("the node's label in the snapshot", told, 90)
        finally:
            node.kubectl("label", "node", node.NAME, f"{label}-")
            self.eventually("four replicas a card", lambda: {
                gpu["replicas"].get("value") for gpu in self.agent.snapshot()["gpus"]} == {4}, 75)

    def test_sixty_pods_come_and_go_within_a_minute(self):
        # The kubelet of two cores starts a pod in half a second: batches that come while others go.
        begun = time.monotonic()
        names = [f"crowd-{number}" for number in range(60)]
        batches = [names[at:at + 10] for at in range(0, 60, 10)]
        cards = itertools.cycle(node.gpus())
        for number, batch in enumerate([*batches, None]):
            if batch:
                node.apply(*[pod(name, container(work=f"{16 + number}", gpus=0, visible=[next(cards)])) for name in batch])
            time.sleep(5)
            if number:
                node.kubectl("delete", "pod", "--wait=false", "--grace-period=1", *batches[number - 1])
        print(f"\n60 pods came and went in {time.monotonic() - begun:.0f} s", flush=True)
        node.wait_for("the crowd to be gone", 120, lambda: not node.get("pods", "-l", "suite=slicewatch"))
        crowd = [one for one in self.truth.ended if one.pod.startswith("crowd-")]
        found = [one for one in crowd if one.resolved]
        print(f"\n{len(crowd)} processes of a crowd of 60 pods, {len(found)} seen in their pod, "
              f"{sum(1 for one in crowd if one.unresolved)} for a while in none", flush=True)
        self.assertGreater(len(crowd), 40)
        missed = [one for one in crowd if not one.resolved and self.watch.should_have_seen(one)]
        self.assertEqual(missed, [], f"{self.watch.missed} looks failed")
        self.assertGreater(sum(1 for one in crowd if self.watch.should_have_seen(one)), 30)
        self.eventually("no series of the crowd's present", lambda: not any(
            row["present"] and row["pod"].startswith("crowd-")
            for gpu in self.agent.snapshot()["gpus"] for row in gpu["containers"]))
