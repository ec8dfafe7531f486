"""What all suites share: the look at the processes, the card where it is made up, the agent."""

import json
import shutil
import subprocess
import unittest

import node
from agent import Agent, Watch
from truth import Card, Truth

PROGRAM = node.REPOSITORY / "target" / "release" / "slicewatch"


class Fixture:
    """Made once a run of the suites."""

    _only = None

    def __init__(self):
        self.card = None
        if not node.real_gpu():
            # The driver is the fake, in the folder that the agent's pod mounts.
            driver = node.STATE / "driver"
            driver.mkdir(exist_ok=True)
            shutil.copy(node.REPOSITORY / "target/release/libfake_nvml.so", driver / "libnvidia-ml.so.1")
            # Found beside the driver's: its kernels start after 10 us.
            shutil.copy(node.REPOSITORY / "target/release/libfake_cuda.so", driver / "libcuda.so.1")
            self.card = Card(node.STATE / "card", node.gpus())
        self.truth = Truth(self.card)
        self.truth.start()
        self.agent = Agent().install()

    @classmethod
    def get(cls):
        if cls._only is None:
            cls._only = cls()
        return cls._only


class Case(unittest.TestCase):
    """A test against the node; at its end nothing was wrong in anything the agent said."""

    maxDiff = None
    # Errors that a test makes itself.
    watched = True

    @classmethod
    def setUpClass(cls):
        fixture = Fixture.get()
        cls.agent, cls.truth, cls.card = fixture.agent, fixture.truth, fixture.card

    def setUp(self):
        self.watch = Watch(self.agent, self.truth)
        if self.watched:
            self.watch.start()

    def tearDown(self):
        if self.watched:
            self.watch.__exit__()
            self.assertEqual(self.watch.wrong, [])

    def eventually(self, what, probe, seconds=15):
        return node.wait_for(what, seconds, probe)

    def owned(self, pod, container="main", namespace="default", processes=1, seconds=20):
        """Waits until so many processes of a container are known as its own; its rows."""

        def probe():
            rows = self.agent.container(pod, container, namespace)
            return rows if rows and all(row["processes"] == processes for row in rows) else None

        return self.eventually(f"{processes} processes of {namespace}/{pod}/{container}", probe, seconds)

    def agent_finds(self, code):
        """Subjects of the agent's findings of a code, with what it says of them."""
        found = self.agent.snapshot()["findings"]
        return {finding["subject"]: finding for finding in found if finding["code"] == code}

    def tried(self, *words):
        """Status and words of `check --functional`, which leaves nothing behind."""
        words = [str(PROGRAM), "check", "--functional", "--output", "json", *words]
        done = subprocess.run(words, text=True, capture_output=True, timeout=180)
        self.assertTrue(done.stdout, done.stderr)
        said = json.loads(done.stdout)
        self.assertEqual(said["left_behind"], [], said)
        self.assertEqual(node.get("pods", "-A", "-l", "app.kubernetes.io/name=slicewatch-check-functional"), [])
        return done.returncode, said
