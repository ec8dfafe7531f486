"""What fails on a real node, and what the agent says meanwhile."""

import pathlib
import signal
import os
import time

import node
from agent import NVML, Agent
from fixture import Case
from node import container, pod

STATUS, LOG = "container_status", "container_log"


class Faults(Case):
    def test_the_api_server_stops_and_starts(self):
        with node.pods(pod("before"), pod("crash", container(work="128 seconds 12 status 1"))):
            self.owned("before")
            self.eventually("the API server as a source", lambda: self.agent.up("cluster"))
            address = self.agent.address()
            lives = {process.pid for process in self.truth.of_pod("crash")}
            node.stop("apiserver", "KILL")
            try:
                self.eventually("the source to be down", lambda: not self.agent.up("cluster"), 60)
                self.assertTrue(self.agent.source("cluster")["detail"])
                # Who was known stays known.
                [row] = self.owned("before")
                self.assertEqual(row["evidence"], STATUS)
                # A new container, of which the API server cannot tell: the logs' names do.
                self.eventually("the container's next life", lambda: {
                    process.pid for process in self.truth.of_pod("crash")} - lives, 60)
                self.eventually("the next life by its log's name", lambda: [
                    row["evidence"] for row in self.agent.container("crash") if row["processes"]] == [LOG], 20)
                self.assertEqual(self.agent.address(), address)
                self.agent.get("/-/ready")
                # The agent's own container begins while there is no API server.
                self.kill_agent()
                self.owned("before", seconds=60)
                self.assertEqual(self.agent.container("before")[0]["evidence"], LOG)
            finally:
                node.start("apiserver")
                node.wait_for("the API server", 60, node.api_answers)
            self.eventually("the source to be up", lambda: self.agent.up("cluster"), 60)
            self.eventually("status again", lambda: self.agent.container("before")[0]["evidence"] == STATUS, 30)
            self.agent.ready()

    def kill_agent(self):
        """Ends the agent's process; the kubelet begins another in the same pod."""
        address = self.agent.address()
        [pid] = [
            int(folder.name) for folder in pathlib.Path("/proc").iterdir()
            if folder.name.isdigit() and (folder / "comm").read_text().strip() == "slicewatch"
            and "kubepods" in (folder / "cgroup").read_text()
        ]
        os.kill(pid, signal.SIGKILL)
        self.eventually("the agent to be back at its address", lambda: self.agent.get("/-/ready"), 60)
        self.assertEqual(self.agent.address(), address)

    def test_rights_are_refused(self):
        binding = node.get("clusterrolebinding", "slicewatch")
        with node.pods(pod("refused")):
            node.kubectl("delete", "clusterrolebinding", "slicewatch")
            try:
                self.kill_agent()
                self.owned("refused")
                detail = self.eventually("the refusal", lambda: not self.agent.up("cluster")
                                         and self.agent.source("cluster")["detail"])
                self.assertRegex(detail, "pods")
                self.assertRegex(detail, "list|watch")
                self.assertEqual(self.agent.container("refused")[0]["evidence"], LOG)
            finally:
                for field in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
                    binding["metadata"].pop(field, None)
                node.apply(binding)
            self.eventually("the source to be up", lambda: self.agent.up("cluster"), 60)
            self.eventually("status", lambda: self.agent.container("refused")[0]["evidence"] == STATUS, 30)

    def test_the_token_is_no_longer_accepted(self):
        with node.pods(pod("token")):
            self.owned("token")
            keys = node.STATE / "pki"
            node.run("openssl", "genrsa", "-out", str(keys / "other.key"), "2048")
            (keys / "accounts.pub").rename(keys / "accounts.pub.kept")
            node.run("openssl", "rsa", "-in", str(keys / "other.key"), "-pubout", "-out", str(keys / "accounts.pub"))
            try:
                node.restart("apiserver")
                node.wait_for("the API server", 60, node.api_answers)
                self.eventually("the refusal of the token", lambda: not self.agent.up("cluster")
                                and "does not accept" in self.agent.source("cluster")["detail"], 60)
                self.assertEqual(self.owned("token")[0]["evidence"], STATUS)
            finally:
                (keys / "accounts.pub.kept").rename(keys / "accounts.pub")
                node.restart("apiserver")
                node.wait_for("the API server", 60, node.api_answers)
            self.eventually("the source to be up", lambda: self.agent.up("cluster"), 60)

    def test_the_kubelet_is_killed_and_starts_again(self):
        socket = pathlib.Path("/var/lib/kubelet/pod-resources/kubelet.sock")
        with node.pods(pod("kept")):
            self.owned("kept")
            inode = socket.stat().st_ino
            node.stop("kubelet", "KILL")
            try:
                self.eventually("the kubelet to be down", lambda: not self.agent.up("kubelet"), 30)
                self.assertEqual(self.owned("kept")[0]["evidence"], STATUS)
            finally:
                node.start("kubelet")
            self.eventually("the kubelet to be up", lambda: self.agent.up("kubelet"), 60)
            self.assertNotEqual(socket.stat().st_ino, inode)
            self.eventually("its grant", lambda: self.agent.container("kept")[0]["replicas"] == {"value": 1}, 30)
            self.agent.ready(90)
            node.wait_for("allocatable", 60, lambda: node.allocatable().get(node.GPU) == str(4 * len(node.gpus())))

    def test_containerd_restarts(self):
        with node.pods(pod("shimmed")):
            self.owned("shimmed")
            node.restart("containerd")
            time.sleep(3)
            self.assertEqual(self.owned("shimmed")[0]["evidence"], STATUS)
            with node.pods(pod("after")):
                self.assertEqual(self.owned("after")[0]["evidence"], STATUS)
            self.agent.ready()

    def test_without_the_hosts_process_ids_nothing_is_attributed(self):
        with node.pods(pod("unseen")):
            self.owned("unseen")
            try:
                self.agent.install({"hostPID": False})
                snapshot = self.eventually("a snapshot with processes", lambda: (
                    lambda found: found if any(gpu["processes"] for gpu in found["gpus"]) else None)(self.agent.snapshot()), 30)
                self.assertEqual(snapshot["processes_attributed"], 0)
                self.assertTrue(snapshot["processes_unattributed"]["pid_namespace"])
                self.assertIn("namespace", str(snapshot["findings"]))
                self.assertIn("hostPID", str(snapshot["findings"]) + str(snapshot["sources"]))
            finally:
                self.agent.install()
            self.owned("unseen")

    def test_web_configurations_that_cannot_be_used(self):
        tls = {"cert_file": "/etc/slicewatch/web/none.crt", "key_file": "/etc/slicewatch/web/none.key"}
        # The chart's schema refuses an unknown key; a Secret of one's own it does not read.
        node.kubectl("create", "namespace", "bad", check=False)
        node.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own", "namespace": "bad"},
                    "stringData": {"web-config.yaml": "tls_sever_config: {}\n"}})
        for web, words in (
            ({"configSecret": "own", "scheme": "http", "probe": "http"}, ["tls_sever_config"]),
            ({"config": {"tls_server_config": tls}}, ["none.crt"]),
            ({"config": {"basic_auth_users": {"ada": "lovelace"}}}, ["ada", "htpasswd"]),
        ):
            with self.subTest(words=words):
                bad = Agent("bad", "bad")
                try:
                    bad.install({"web": web}, wait=False)
                    line = node.wait_for("its words", 60, lambda: next(
                        (line for line in bad.logs().splitlines() if words[0] in line), None), 0.5)
                    for word in words:
                        self.assertIn(word, line)
                    self.assertNotIn("lovelace", bad.logs())
                finally:
                    bad.uninstall()
