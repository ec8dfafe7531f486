"""The latency canary in the agent's unprivileged container."""

import os
import pathlib

import node
from fixture import Case
from node import pod

WORKER = b"slicewatch-cana"


def workers():
    """Folders in /proc of the workers of canaries in pods."""
    found = []
    for name in os.listdir("/proc"):
        folder = pathlib.Path("/proc") / name
        try:
            # Not those of other tests' agents on this machine.
            in_pod = name.isdigit() and (folder / "comm").read_bytes().strip() == WORKER and "kubepods" in (folder / "cgroup").read_text()
            if in_pod:
                found.append(folder)
        except OSError:
            pass  # it ended meanwhile
    return found


def status(folder):
    """/proc/PID/status as a dictionary."""
    lines = (folder / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


class Canary(Case):
    def canaries(self):
        return {gpu["identity"]["uuid"]: gpu["canary"] for gpu in self.agent.snapshot()["gpus"]}

    def test_it_probes_while_pods_share_a_card_and_is_nobodys_tenant(self):
        names = ["shared-0", "shared-1"]
        with node.pods(*[pod(name) for name in names]):
            rows = {name: self.owned(name)[0] for name in names}
            cards = {row["gpu_uuid"] for row in rows.values()}

            def probing():
                canaries = self.canaries()
                known = [canaries[card]["delays"].get("value") for card in cards if canaries[card]["delays"] != "unsupported"]
                return canaries if len(known) == len(cards) and all(sum(one["counts"]) > 20 for one in known) else None

            canaries = self.eventually("probes", probing, 30)
            for card in cards:
                self.assertEqual((canaries[card]["state"], canaries[card]["reason"]), ("running", "shared"))
            uid = self.agent.pod()["metadata"]["uid"]
            found = workers()
            self.assertEqual(len(found), len(cards))
            for folder in found:
                self.assertIn(uid.replace("-", "_"), (folder / "cgroup").read_text().replace("-", "_"))
                said = status(folder)
                self.assertEqual([said[name] for name in ("CapPrm", "CapEff", "CapBnd")], ["0" * 16] * 3)
                self.assertEqual((said["NoNewPrivs"], said["Seccomp"]), ("1", "2"))
            looks = [status(found[0])["State"][0] for _ in range(200)]
            self.assertGreater(looks.count("T"), 120, looks)
            for gpu in self.agent.snapshot()["gpus"]:
                self.assertNotIn("slicewatch", [row["container"] for row in gpu["containers"]])
        self.eventually("no worker without a tenant", lambda: not workers(), 40)
        self.eventually("the reason", lambda: {one["reason"] for one in self.canaries().values()} <= {"no_tenant"}, 10)
