"""On a real GPU: CUDA pods on one card come, crash and go, and every process is in its pod.

Run by itself, on a node that `up --real` raised; not part of the suites without a GPU.
"""

import json
import os
import random
import statistics
import time

import node
from fixture import Case
from node import container, pod

MINUTES = float(os.environ.get("SLICEWATCH_GPU_MINUTES", "5"))
# Turns of the kernel's loop in a millisecond: slicewatch-tenant --calibrate tells it of a card.
CALIBRATION = os.environ.get("SLICEWATCH_GPU_CALIBRATION", "20000")
# Between two lists of the driver's processes.
LIST_PERIOD = 1.0


def tenant(name, *options, gpus=1, seconds=36_000):
    command = ["/bin/slicewatch-tenant", "--iterations-per-ms", CALIBRATION, "--seconds", str(seconds), *options]
    return pod(name, container(command=command, gpus=gpus), terminationGracePeriodSeconds=1)


class Gpu(Case):
    def test_every_process_is_in_its_pod_while_pods_come_and_go(self):
        steady = {
            "heavy": ("--kernel-ms", "2", "--memory-mib", "4096"),
            "light": ("--kernel-ms", "0.5", "--gap-ms", "20", "--gaps", "exponential", "--memory-mib", "1024"),
            "steps": ("--kernel-ms", "1", "--gap-ms", "50", "--step-mib", "1024", "--step-hold-ms", "700", "--step-period-ms", "1500"),
        }
        [card] = node.gpus()
        rng = random.Random(4)
        crowd = 0
        with node.pods(*[tenant(name, *options) for name, options in steady.items()]):
            for name in steady:
                [row] = self.owned(name, seconds=60)
                self.assertEqual((row["gpu_uuid"], row["evidence"]), (card, "container_status"))
            self.eventually("grants and residence to agree", lambda: self.agent.gpu_row()["disagreements"] == {"value": 0})
            end = time.monotonic() + MINUTES * 60
            while time.monotonic() < end:
                crowd += 1
                name = f"brief-{crowd}"
                kind = rng.choice(["ends", "crashes", "deleted", "killed"])
                seconds = {"ends": 2, "crashes": 1.5}.get(kind, 600)
                one = tenant(name, "--kernel-ms", "1", "--gap-ms", "2", "--memory-mib", str(rng.randint(64, 4096)), seconds=seconds)
                one["spec"]["restartPolicy"] = "Never" if kind != "crashes" else "Always"
                node.apply(one)
                self.eventually(f"{name} to have a process", lambda: self.truth.of_pod(name) or self.finished(name), 40)
                time.sleep(rng.uniform(0.5, 4))
                if kind == "killed":
                    for process in self.truth.of_pod(name):
                        os.kill(process.pid, 9)
                how = rng.choice([{"grace_period": 1}, {"grace_period": 0, "force": "true"}])
                node.delete(name, wait=True, **how)
            for name in steady:
                [row] = self.owned(name)
                self.assertEqual(row["evidence"], "container_status")
            self.eventually("grants and residence to agree", lambda: self.agent.gpu_row()["disagreements"] == {"value": 0})
        self.report(crowd)

    def test_the_trial_finds_two_pods_on_the_card_and_the_agent_agrees(self):
        status, said = self.tried()
        self.assertEqual((status, said["outcome"], said["agent_agrees"]), (0, "shared", True), said)
        self.assertEqual(said["shared_gpu"], node.gpus()[0])
        self.tell("the trial", {name: said[name] for name in ("outcome", "agent_agrees", "shared_gpu", "pods")})

    def test_a_tenant_that_takes_the_framebuffer_of_the_others(self):
        total = self.agent.gpu_row()["memory_bytes"]["value"]["total"]
        hog = tenant("hog", "--idle", "--memory-mib", str(int(total * 0.94) >> 20))
        starved = tenant("starved", "--memory-mib", "2048", "--kernel-ms", "0.5", "--gap-ms", "10",
                         "--step-mib", "8192", "--step-period-ms", "8000", "--step-hold-ms", "1000")
        starved["spec"]["restartPolicy"] = "Never"
        with node.pods(hog, starved):
            code = "replicas_treated_as_isolated"
            found = self.eventually("the finding", lambda: self.agent_finds(code), 90)
            [finding] = found.values()
            for word in ("default/hog held up to", "default/starved"):
                self.assertIn(word, finding["evidence"])
            self.tell("out of memory", finding)

    def test_a_noisy_neighbour(self):
        heavy = ["/bin/slicewatch-tenant", "--iterations-per-ms", CALIBRATION, "--seconds", "36000", "--kernel-ms", "8"]
        noisy = pod("noisy", container(command=heavy), container("second", command=heavy), terminationGracePeriodSeconds=1)
        service = tenant("service", "--kernel-ms", "0.1", "--gap-ms", "20", "--gaps", "exponential")
        with node.pods(noisy, service):
            found = self.eventually("the finding", lambda: self.agent_finds("noisy_neighbour"), 200)
            self.assertEqual(list(found), ["default/noisy"])
            self.assertIn("a short request of default/service waits", found["default/noisy"]["evidence"])
            self.tell("noisy neighbour", found)

    def tell(self, what, said):
        print(f"\n{what}: {json.dumps(said, indent=1)}", flush=True)

    def finished(self, name):
        return any(process.pod == name for process in self.truth.ended)

    def report(self, crowd):
        every = [*self.truth.alive.values(), *self.truth.ended]
        brief = [one for one in every if one.pod.startswith("brief-")]
        unresolved = [one for one in every if not one.resolved]
        listed = [one for one in every if one.resolved or one.unresolved]
        figures = {
            "pods that came and went": crowd,
            "their processes": len(brief),
            "their lives in seconds, median": round(statistics.median(one.lived() for one in brief), 2) if brief else None,
            "rows of processes looked at": self.watch.seen,
            "rows in a wrong pod": len(self.watch.wrong),
            "rows by evidence": self.watch.evidence,
            "rows without an owner, by reason": self.watch.reasons,
            "processes that were listed": len(listed),
            "processes never resolved": len(unresolved),
            "of them listed by the driver": sum(1 for one in unresolved if one.unresolved),
            "longest life of one never resolved": round(max((one.lived() for one in unresolved), default=0), 2),
        }
        print("\n" + json.dumps(figures, indent=1), flush=True)
        out = os.environ.get("SLICEWATCH_GPU_REPORT")
        if out:
            with open(out, "w") as file:
                json.dump(figures, file, indent=1)
        self.assertGreater(self.watch.seen, 100)
        self.assertEqual([one for one in unresolved if one.unresolved and one.lived() > 2 * LIST_PERIOD + 1], [])
