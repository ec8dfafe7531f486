"""Every process in its pod and container, with the strongest evidence."""

import time

import node
from fixture import Case
from node import container, pod
from truth import MIB

STATUS = "container_status"


class Attribution(Case):
    def test_a_pod_with_one_container(self):
        with node.pods(pod("plain", container(work="512"))):
            uid = node.get("pod", "plain")["metadata"]["uid"]
            [row] = self.owned("plain")
            self.assertEqual(row["evidence"], STATUS)
            self.assertEqual(row["pod_uid"], uid)
            self.eventually("its grant", lambda: self.agent.container("plain")[0]["replicas"] == {"value": 1})
            if self.card:
                self.assertEqual(row["memory_bytes"], {"value": 512 * MIB})

    def test_four_pods_on_one_card_share_it(self):
        names = [f"four-{number}" for number in range(4)]
        with node.pods(*[pod(name) for name in names]):
            cards = {}
            for name in names:
                [row] = self.owned(name)
                self.assertEqual(row["evidence"], STATUS)
                cards.setdefault(row["gpu_uuid"], []).append(name)
            for gpu in self.agent.snapshot()["gpus"]:
                self.assertEqual(gpu["disagreements"], {"value": 0})
                self.assertEqual(gpu["tenants"], {"value": len(cards.get(gpu["identity"]["uuid"], []))})
            self.assertEqual(self.agent.snapshot()["processes_unattributed"], dict.fromkeys(
                self.agent.snapshot()["processes_unattributed"], 0))

    def test_init_sidecar_and_ephemeral_containers(self):
        seen = node.gpus()[:1]
        init = container("prepare", "128 seconds 6", gpus=0, visible=seen)
        sidecar = {**container("sidecar", "96", gpus=0, visible=seen), "restartPolicy": "Always"}
        together = pod("stages", container("main", "256"), initContainers=[sidecar, init])
        with node.pods(together, wait=False):
            [row] = self.owned("stages", "prepare")
            self.assertEqual(row["evidence"], STATUS)
            node.running("stages")
            for name in ("main", "sidecar"):
                rows = [row for row in self.owned("stages", name) if row["processes"]]
                self.assertEqual([row["evidence"] for row in rows], [STATUS], name)
            debug = {**container("debugger", "64", gpus=0, visible=seen), "targetContainerName": "main"}
            patch = node.json.dumps({"spec": {"ephemeralContainers": [debug]}})
            node.kubectl("patch", "pod", "stages", "--subresource=ephemeralcontainers", "-p", patch)
            [row] = self.owned("stages", "debugger")
            self.assertEqual(row["evidence"], STATUS)
            # Resident without a grant, and granted elsewhere: said, not hidden.
            self.assertGreater(sum(gpu["disagreements"].get("value", 0) for gpu in self.agent.snapshot()["gpus"]), 0)

    def test_containers_of_one_pod_that_share_a_card(self):
        with node.pods(pod("twins", container("left", "300"), container("right", "200 processes 3"))):
            [left] = self.owned("twins", "left")
            [right] = self.owned("twins", "right", processes=3)
            self.assertEqual({left["evidence"], right["evidence"]}, {STATUS})
            if self.card:
                self.assertEqual(left["memory_bytes"], {"value": 300 * MIB})
                self.assertEqual(right["memory_bytes"], {"value": 600 * MIB})

    def test_three_replicas_of_two_cards(self):
        if len(node.gpus()) < 2:
            self.skipTest("needs two cards")
        with node.pods(pod("wide", container(work="100", gpus=3))):
            self.owned("wide")

            def granted():
                rows = self.agent.container("wide")
                return rows if sorted(row["replicas"].get("value", 0) for row in rows) == [1, 2] else None

            rows = self.eventually("a card with one replica and one with two", granted)
            self.assertEqual({row["evidence"] for row in rows}, {STATUS})

    def test_a_container_that_restarts(self):
        with node.pods(pod("crashing", container(work="128 seconds 4 status 3")), wait=False):
            seen = set()

            def three():
                seen.update(one.pid for one in self.truth.of_pod("crashing"))
                return len(seen) >= 3

            self.eventually("three lives of the container", three, 90)
            [row] = self.owned("crashing", seconds=60)
            self.assertEqual(row["evidence"], STATUS)

    def test_a_process_that_outlives_the_deletion_of_its_pod(self):
        # The API forgets a pod that is deleted with force at once; its process lives on.
        with node.pods(pod("ghost", container(work="128 stubborn"), terminationGracePeriodSeconds=8)):
            self.owned("ghost")
            node.delete("ghost", wait=False, grace_period=8)
            self.eventually("the pod to be on its way out", lambda: "deletionTimestamp" in node.get("pod", "ghost")["metadata"])
            time.sleep(3)
            self.assertTrue(self.truth.of_pod("ghost"), "the process is to live on")
            [row] = self.agent.container("ghost")
            self.assertEqual((row["processes"], row["evidence"]), (1, STATUS))

    def test_a_static_pod(self):
        static = pod("static", container(work="96", gpus=0, visible=node.gpus()[:1]))
        file = node.STATE / "static-pods" / "static.json"
        file.write_text(node.json.dumps(static))
        name = f"static-{node.NAME}"
        try:
            node.running(name)
            mirror = node.get("pod", name)["metadata"]
            self.assertNotEqual(mirror["uid"], mirror["annotations"]["kubernetes.io/config.mirror"])
            [row] = self.owned(name)
            self.assertEqual(row["evidence"], STATUS)
        finally:
            file.unlink()
            node.wait_for("the static pod to be gone", 60, lambda: not self.truth.of_pod(name))

    def test_a_process_of_the_host_is_no_pods(self):
        if not self.card:
            self.skipTest("the made-up card lists it")
        program = node.STATE / "gpu-work"
        node.run("bash", "-c", f'. "{node.SCRIPTS}/env.sh"; cc -static -o {program} "$here/workload/gpu-work.c"')
        environment = {
            "POD_UID": "none", "POD_NAME": "host", "POD_NAMESPACE": "host", "CONTAINER_NAME": "host",
            "NVIDIA_VISIBLE_DEVICES": node.gpus()[0],
        }
        process = node.subprocess.Popen([program, "640"], env=environment)
        try:
            def named():
                remainders = self.agent.snapshot()["gpus"][0]["unattributed_bytes"].get("value", {})
                return remainders.get("host_process") == 640 * MIB
            self.eventually("the host's process as a remainder of its own", named)
        finally:
            process.kill()
            process.wait()
