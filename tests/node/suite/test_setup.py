"""`slicewatch check` and the agent on each of the ways in which time-slicing fails people, made to happen
on a real API server and kubelet. What NVIDIA's operator does is done by operator_standin."""

import calendar
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

import node
from fixture import PROGRAM, Case
from node import container, pod
from operator_standin import CONFIG_LABEL, NAMESPACE, PLUGIN, POLICY, SHIPPED, Operator
from test_change import value
from truth import MIB

CONFIG_MAP = "time-slicing-config"
# So long after the plugin's start a node's numbers may be those of before: here all is near.
SETTLING = 20
SHARED_GPU = f"{node.GPU}.shared"
ACCOUNT = "system:serviceaccount:default:looks"


class Checked:
    """What one run of the command said."""

    def __init__(self, *words, kubeconfig=None):
        environment = dict(os.environ, **({"KUBECONFIG": kubeconfig} if kubeconfig else {}))
        words = [str(PROGRAM), "check", "--output", "json", "--settling", f"{SETTLING}s", *words]
        done = subprocess.run(words, env=environment, text=True, capture_output=True, timeout=60)
        if done.returncode not in (0, 1, 2) or not done.stdout:
            raise node.Failed(f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}")
        self.status, self.said = done.returncode, json.loads(done.stdout)
        self.findings = self.said["findings"]

    def codes(self):
        return sorted({finding["code"] for finding in self.findings})

    def of(self, code):
        return [finding for finding in self.findings if finding["code"] == code]

    def __repr__(self):
        return json.dumps(self.said, indent=1)


def paste(finding):
    """Types what mends a finding, as it is printed."""
    for command in finding["mend"]:
        print(f"\n$ {command}", flush=True)
        done = subprocess.run(["sh", "-c", command], text=True, capture_output=True, timeout=180)
        if done.returncode:
            raise node.Failed(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")


def deployment(name, resource=node.GPU, count=1):
    """One whose pods ask for so many of a resource, and hold no framebuffer."""
    one = pod(name, {**container(command=["/bin/sleep", "infinity"], gpus=0),
                     "resources": {"limits": {resource: str(count)}}}, labels={"app": name})
    template = {"metadata": {"labels": one["metadata"]["labels"]}, "spec": one["spec"]}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def labelled(key):
    """Chooses a profile for the node; none takes the label away."""
    node.kubectl("label", "node", node.NAME, f"{CONFIG_LABEL}={key}" if key else f"{CONFIG_LABEL}-", "--overwrite")


def profiles(**texts):
    """Adds profiles to the ConfigMap, or replaces them."""
    node.kubectl("-n", NAMESPACE, "patch", "configmap", CONFIG_MAP, "--type=merge", "-p", json.dumps({"data": texts}))


def profile(replicas, **more):
    sharing = {"failRequestsGreaterThanOne": True, **more, "resources": [{"name": node.GPU, "replicas": replicas}]}
    return json.dumps({"version": "v1", "sharing": {"timeSlicing": sharing}})


class Setup(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.operator = Operator()
        cls.addClassCleanup(cls.operator.remove)
        cls.operator.install()
        cls.operator.restart()

    def setUp(self):
        super().setUp()
        self.addCleanup(self.restore)
        self.offers(4)

    def restore(self):
        """The set-up as it is shipped."""
        labelled(None)
        node.kubectl("-n", NAMESPACE, "delete", "configmap", CONFIG_MAP, "--ignore-not-found")
        self.operator.migs = []
        policy = {"spec": {"mig": {"strategy": "none"}}}
        node.kubectl("patch", "clusterpolicy", POLICY, "--type=merge", "-p", json.dumps(policy))
        self.operator.overlay("any")
        self.operator.restart()
        self.offers(4)

    def offers(self, replicas, name=node.GPU):
        """Waits until the node offers its cards so often each."""
        count = str(replicas * len(node.gpus()))
        self.reconciled(f"{count} of {name}", lambda: node.allocatable().get(name) == count, 90)

    def reconciled(self, what, probe, seconds):
        """Waits for what comes of the operator's doing."""

        def look():
            self.operator.reconcile()
            return probe()

        return node.wait_for(what, seconds, look, 0.5)

    def finds(self, code, seconds=30):
        """Waits until the check has findings of this code; they, and all that it said."""

        def probe():
            checked = Checked()
            return (checked.of(code), checked) if checked.of(code) else None

        return node.wait_for(f"a finding {code}", seconds, probe, 1)

    def no_more(self, code, seconds=60):
        self.reconciled(f"no finding {code}", lambda: not Checked().of(code), seconds)

    def nothing_found(self, seconds=90):
        """Waits until the check has nothing to say."""

        def probe():
            checked = Checked()
            if checked.findings:
                raise node.Failed(str(checked.findings))
            return checked

        return self.reconciled("nothing to find", probe, seconds)

    def settled(self):
        """Waits until the plugin runs for so long that its node's numbers count."""
        node.wait_for("the plugin to have settled", 2 * SETTLING, lambda: all(
            time.time() - seconds(status["state"]["running"]["startedAt"]) > SETTLING + 2
            for status in self.operator.pod()["status"]["containerStatuses"]), 1)

    # --- as it should be ----------------------------------------------------------------------

    def test_a_clean_set_up_has_no_finding(self):
        self.settled()
        for _ in range(3):
            checked = Checked()
            self.assertEqual((checked.findings, checked.status, checked.said["verdict"]), ([], 0, "clean"), checked)
            time.sleep(2)
        self.assertEqual(checked.said["not_checked"], [])
        [there] = checked.said["nodes"]
        count = 4 * len(node.gpus())
        wanted = {
            "node": node.NAME, "config_map": f"{NAMESPACE}/{CONFIG_MAP}", "key": "any", "from": "default",
            "sharing": "time-slicing", "resource": node.GPU, "gpus": len(node.gpus()), "replicas": 4,
            "expected": count, "allocatable": count,
        }
        self.assertEqual({key: there.get(key) for key in wanted}, wanted)
        for words in (("--all-nodes",), ("--node", node.NAME), ("--namespace", NAMESPACE)):
            with self.subTest(words):
                checked = Checked(*words)
                self.assertEqual((checked.findings, checked.status), ([], 0), checked)
        table = node.run(str(PROGRAM), "check")
        self.assertIn("time-slicing", table)

    # --- of configuration: gone when the printed command was typed ------------------------------

    def test_a_config_map_that_was_edited_and_not_rolled_out(self):
        time.sleep(2)  # the API server's times are whole seconds
        profiles(any=profile(6))
        [finding], checked = self.finds("config_edited_not_rolled_out")
        self.assertEqual((finding["severity"], checked.status), ("error", 1))
        self.assertEqual(finding["object"]["kind"], "Pod")
        self.assertEqual(finding["node"], node.NAME)
        self.assertIn(f"kubectl -n {NAMESPACE} rollout restart daemonset/{PLUGIN}", finding["mend"])
        self.assertEqual(node.allocatable()[node.GPU], str(4 * len(node.gpus())), "nobody watches the ConfigMap")
        paste(finding)
        self.offers(6)
        self.nothing_found()

    def test_a_default_that_is_not_set(self):
        unset = {"spec": {"devicePlugin": {"config": {"default": ""}}}}
        node.kubectl("patch", "clusterpolicy", POLICY, "--type=merge", "-p", json.dumps(unset))
        self.operator.rolled_out()
        self.offers(1)
        [finding], checked = self.finds("sharing_not_in_force", SETTLING + 60)
        self.assertEqual((finding["severity"], checked.status), ("error", 1))
        [there] = checked.said["nodes"]
        self.assertEqual((there["key"], there["from"], there["sharing"]), (None, "empty", "none"))
        paste(finding)
        self.offers(4)
        self.settled()
        self.nothing_found()

    def test_a_label_that_names_a_missing_key(self):
        labelled("tesla-t5")

        def waits(init):
            status = self.operator.pod()["status"]
            statuses = status.get("initContainerStatuses" if init else "containerStatuses", [])
            return any(one["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" for one in statuses)

        # A plugin that runs keeps its profile, beside a config-manager that fails.
        node.wait_for("config-manager to fail", 120, lambda: waits(init=False), 1)
        [finding], checked = self.finds("node_label_names_missing_key")
        self.assertEqual((finding["severity"], checked.status, checked.codes()), ("error", 1, [finding["code"]]))
        self.assertEqual((finding["object"]["kind"], finding["found"]), ("Node", "tesla-t5"))
        self.assertEqual(node.allocatable()[node.GPU], str(4 * len(node.gpus())))
        # One that starts does not.
        node.kubectl("-n", NAMESPACE, "delete", "pod", self.operator.pod()["metadata"]["name"])
        node.wait_for("config-manager-init to fail", 120, lambda: waits(init=True), 1)
        [finding], checked = self.finds("node_label_names_missing_key")
        self.assertEqual(checked.codes(), [finding["code"]])
        paste(finding)
        self.offers(4)
        self.nothing_found()

    def test_pods_that_ask_for_a_resource_that_was_renamed(self):
        profiles(renamed=profile(4, renameByDefault=True))
        labelled("renamed")
        # The kubelet brings a changed ConfigMap to a pod that runs within a minute or two.
        self.operator.restart()
        self.offers(4, SHARED_GPU)
        bare = pod("bare", {**container(command=["/bin/sleep", "infinity"], gpus=0), "resources": {"limits": {node.GPU: "1"}}})
        node.apply(deployment("asks"), bare)
        self.addCleanup(node.kubectl, "delete", "deployment/asks", "pod/bare", "--ignore-not-found")

        def both():
            checked = Checked()
            return checked if len(checked.of("pending_on_zero_resource")) == 2 else None

        checked = node.wait_for("two findings", 60, both, 1)
        self.assertEqual(checked.status, 1)
        found = {finding["object"]["kind"]: finding for finding in checked.of("pending_on_zero_resource")}
        self.assertEqual(sorted(found), ["Deployment", "Pod"])
        for finding in found.values():
            self.assertEqual((finding["severity"], finding["expected"], finding["found"]), ("error", SHARED_GPU, node.GPU))
            paste(finding)
        node.running("bare")
        node.kubectl("rollout", "status", "deployment/asks", "--timeout=60s")
        self.no_more("pending_on_zero_resource")
        self.nothing_found()

    def test_pods_that_ask_for_two(self):
        node.apply(deployment("greedy", count=2))
        self.addCleanup(node.kubectl, "delete", "deployment/greedy", "--ignore-not-found")
        found, checked = self.finds("request_greater_than_one", 60)
        # Pods that were refused by now are found as well.
        [finding] = [finding for finding in found if finding["object"]["kind"] == "Deployment"]
        self.assertEqual((finding["severity"], checked.status), ("error", 1))
        self.assertEqual(finding["object"]["name"], "greedy")
        paste(finding)
        node.kubectl("rollout", "status", "deployment/greedy", "--timeout=60s")
        # Those of the old template that failed while the commands were typed are found, and mended, too.
        def rest():
            for finding in Checked().of("request_greater_than_one"):
                paste(finding)
            return not Checked().of("request_greater_than_one")

        node.wait_for("no pod that was refused", 60, rest, 2)
        self.nothing_found()

    def test_cards_in_mig_mode_with_strategy_none(self):
        first, second = node.gpus()[:2]
        name = "1g.18gb"
        instances = {gpu: f"MIG-{number}0000000-0000-0000-0000-000000000000" for number, gpu in enumerate((first, second))}
        # The driver, and MIG manager, which restarts the plugin.
        for gpu, uuid in instances.items():
            self.card.mig[gpu] = [{
                "uuid": uuid, "name": f"NVIDIA H200 MIG {name}", "gpu_instance": 1, "compute_instance": 0, "slices": 1,
                "memory": {"total": 16384 * MIB, "reserved": 0, "used": 0}, "compute": []}]
        self.addCleanup(self.card.mig.clear)
        mig = {"nvidia.com/mig.config": "all-1g.18gb", "nvidia.com/mig.config.state": "success"}
        node.kubectl("label", "node", node.NAME, *[f"{key}={value}" for key, value in mig.items()])
        self.addCleanup(node.kubectl, "label", "node", node.NAME, *[f"{key}-" for key in mig])
        self.operator.migs = [f"{uuid}={name}@{gpu}" for gpu, uuid in instances.items()]
        self.operator.rolled_out()
        [finding], checked = self.finds("mig_with_strategy_none", 90)
        self.assertEqual((finding["severity"], checked.status), ("error", 1))
        # The agent tells it by itself, of the driver's word, for each card.
        self.eventually("the agent's findings", lambda: set(instances) <= set(self.agent_finds("mig_with_strategy_none")), 300)
        paste(finding)
        self.reconciled("instances offered", lambda: node.allocatable().get(f"nvidia.com/mig-{name}") == "2", 90)
        self.no_more("mig_with_strategy_none")
        self.assertNotIn("error", {finding["severity"] for finding in Checked().findings})
        self.eventually("the agent's findings to end", lambda: not self.agent_finds("mig_with_strategy_none"), 120)

    def test_an_edit_that_cannot_be_missed(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "time-slicing"
            shutil.copytree(SHIPPED, copy)
            self.operator.overlay("hashed", copy)
            self.addCleanup(lambda: node.kubectl("-n", NAMESPACE, "delete", *[
                f"configmap/{one['metadata']['name']}" for one in node.get("configmaps", "-n", NAMESPACE)
                if one["metadata"]["name"].startswith(f"{CONFIG_MAP}-")]))
            self.offers(4)
            self.nothing_found()
            edited = copy / "overlays" / "hashed" / "profiles" / "any.yaml"
            edited.write_text(edited.read_text().replace("replicas: 4", "replicas: 5"))
            self.operator.overlay("hashed", copy)
        # Nobody restarts anything.
        self.offers(5)
        self.nothing_found()

    # --- of tenants: no set-up mends them, and the agent tells ------------------------------------

    def together(self, first, second):
        """Two pods on one card: the plugin spreads them, so between them comes one for each other card."""
        names = [first["metadata"]["name"], second["metadata"]["name"]]
        idle = {**container(command=["/bin/sleep", "infinity"])}
        spacers = [pod(f"spacer-{number}", idle) for number in range(len(node.gpus()) - 1)]
        for one in (first, *spacers, second):
            node.apply(one)
            self.addCleanup(node.delete, one["metadata"]["name"], wait=False)
            node.wait_for("its place", 60, lambda: node.get("pod", one["metadata"]["name"])["status"]["phase"] != "Pending", 0.3)
        [card], [other] = ([row["gpu_uuid"] for row in self.eventually(
            f"the card of {name}", lambda: self.agent.container(name))] for name in names)
        self.assertEqual(card, other)
        return card

    def test_a_tenant_that_takes_the_framebuffer_of_the_others(self):
        code = "replicas_treated_as_isolated"
        self.assertEqual(self.agent_finds(code), {})
        card = self.together(
            pod("hog", container(work="133500")),
            pod("starved", container(work="4096 seconds 15 status 1"), restartPolicy="Never"))
        found = self.eventually("the finding", lambda: self.agent_finds(code), 60)
        self.assertEqual(set(found), {card})
        self.assertEqual(found[card]["severity"], "warning")
        for word in ("default/hog held up to", "default/starved"):
            self.assertIn(word, found[card]["evidence"])
        self.assertIn("torch.cuda.set_per_process_memory_fraction", found[card]["mend"])
        self.eventually("the series", lambda: value(
            self.agent.metrics(), "slicewatch_finding", code=code, severity="warning", subject=card) == 1)
        # Who has more than its share is told as well, once it lasts.
        self.eventually("the one who has it", lambda: "default/hog" in self.agent_finds("tenant_over_fair_share"), 90)

    def test_a_noisy_neighbour(self):
        # Kernels of the canary start late, as beside one that computes without a pause.
        script = node.STATE / "driver" / "libcuda.so.json"
        script.write_text(json.dumps({"delays": [3000]}))
        self.addCleanup(script.unlink)
        self.together(pod("noisy", container(work="512 processes 4")), pod("service", container(work="512")))
        found = self.eventually("the finding", lambda: self.agent_finds("noisy_neighbour"), 360)
        self.assertEqual(list(found), ["default/noisy"])
        self.assertIn("a short request of default/service waits", found["default/noisy"]["evidence"])
        self.assertIn("keep the two apart", found["default/noisy"]["mend"])

    # --- tried -----------------------------------------------------------------------------------

    def test_the_trial_finds_two_pods_on_one_card_and_the_agent_agrees(self):
        status, said = self.tried()
        self.assertEqual((status, said["outcome"], said["agent_agrees"], said["code"]), (0, "shared", True, None), said)
        self.assertEqual(len(said["pods"]), len(node.gpus()) + 1)
        self.assertIn(said["shared_gpu"], node.gpus())

    def test_a_trial_whose_second_pod_waits_says_why(self):
        everything = deployment("everything")
        everything["spec"]["replicas"] = 4 * len(node.gpus()) - 1
        node.apply(everything)
        self.addCleanup(node.kubectl, "delete", "deployment/everything", "--wait=true", "--cascade=foreground")
        node.kubectl("rollout", "status", "deployment/everything", "--timeout=120s")
        status, said = self.tried("--wait", "15s")
        self.assertEqual((status, said["outcome"], said["code"]), (1, "not_shared", "functional_not_shared"), said)
        self.assertIn(f"Insufficient {node.GPU}", str([one["why"] for one in said["pods"]]))
        self.assertEqual([one["running"] for one in said["pods"]].count(True), 1)

    def test_a_trial_that_a_quota_prevents_says_so(self):
        node.kubectl("create", "namespace", "tight")
        self.addCleanup(node.kubectl, "delete", "namespace", "tight")
        node.kubectl("-n", "tight", "create", "quota", "none", "--hard=pods=1")
        status, said = self.tried("--functional-namespace", "tight")
        self.assertEqual((status, said["outcome"], said["code"]), (2, "not_tried", "functional_prevented"), said)
        self.assertIn("exceeded quota: none", str(said["words"]))

    # --- who may not look, and who looks for ever ---------------------------------------------------

    def test_rights_that_are_missing_are_findings(self):
        node.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "looks", "namespace": "default"}},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "looks"}, "rules": [
                {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list"]},
                {"apiGroups": ["apps"], "resources": ["daemonsets", "deployments"], "verbs": ["list"]}]},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "looks"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "looks"},
             "subjects": [{"kind": "ServiceAccount", "name": "looks", "namespace": "default"}]})
        self.addCleanup(node.kubectl, "delete", "clusterrolebinding/looks", "clusterrole/looks")
        self.addCleanup(node.kubectl, "-n", "default", "delete", "serviceaccount/looks")
        with tempfile.NamedTemporaryFile("w", suffix=".kubeconfig") as file:
            config = json.loads(node.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
            config["users"][0]["user"] = {"token": node.kubectl("create", "token", "looks").strip()}
            json.dump(config, file)
            file.flush()
            checked = Checked(kubeconfig=file.name)
            refused = {finding["field"]: finding for finding in checked.findings}
            wanted = {"list clusterpolicies.nvidia.com", "list runtimeclasses.node.k8s.io", "list configmaps"}
            self.assertEqual(set(refused), wanted, checked)
            self.assertEqual((checked.codes(), checked.status), (["rights_missing"], 0))
            self.assertIn(ACCOUNT, refused["list configmaps"]["words"])
            self.assertEqual(refused["list configmaps"]["object"]["namespace"], NAMESPACE)
            self.assertEqual(len(checked.said["not_checked"]), 3)
            for finding in refused.values():
                paste(finding)
            for kind in ("clusterpolicies", "runtimeclasses"):
                name = f"slicewatch-check-list-{kind}"
                self.addCleanup(node.kubectl, "delete", f"clusterrole/{name}", f"clusterrolebinding/{name}")
            name = "slicewatch-check-list-configmaps"
            self.addCleanup(node.kubectl, "-n", NAMESPACE, "delete", f"role/{name}", f"rolebinding/{name}")

            def allowed():
                checked = Checked(kubeconfig=file.name)
                return checked if not checked.findings else None

            self.assertEqual(node.wait_for("nothing to find", 30, allowed, 1).status, 0)
            # Not so much as a node: then nothing was checked.
            node.kubectl("delete", "clusterrolebinding/looks")
            node.wait_for("nothing checked", 30, lambda: Checked(kubeconfig=file.name).status == 2, 1)
            node.kubectl("create", "clusterrolebinding", "looks", "--clusterrole=looks", f"--serviceaccount=default:looks")

    def test_the_watch_serves_its_findings(self):
        self.agent.install({"check": {"enabled": True, "interval": "5s"}})
        self.addCleanup(self.agent.install)
        name = f"{self.agent.fullname}-check"
        words = ("-n", self.agent.namespace, "rollout", "status", f"deployment/{name}", "--timeout=90s")
        node.kubectl(*words)
        [watch] = [one for one in node.get("pods", "-n", self.agent.namespace, "-l", f"app.kubernetes.io/name={name}")
                   if "deletionTimestamp" not in one["metadata"]]
        address = f"http://{watch['status']['podIP']}:9736"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def get(path):
            with opener.open(address + path, timeout=5) as answer:
                return answer.read().decode()

        def findings():
            lines = get("/metrics").splitlines()
            return [line for line in lines if line.startswith("slicewatch_finding{") and line.endswith(" 1")]

        for path in ("/-/healthy", "/-/ready"):
            get(path)
        # Its own rights are enough: no rights_missing.
        self.assertEqual(findings(), [])
        labelled("tesla-t5")
        self.eventually("the finding", lambda: any(
            'code="node_label_names_missing_key"' in line and 'severity="error"' in line for line in findings()), 30)
        labelled(None)
        self.eventually("its end", lambda: not findings(), 120)
        # Nobody takes it for an agent.
        self.agent.ready()
        self.assertEqual(len(node.get("pods", "-n", self.agent.namespace, "-l", "app.kubernetes.io/name=slicewatch")), 1)
        uid = watch["metadata"]["uid"]
        [process] = [
            folder for folder in os.listdir("/proc") if folder.isdigit()
            and uid in read(f"/proc/{folder}/cgroup") and read(f"/proc/{folder}/comm").strip() == "slicewatch"]
        status = dict(line.split(":\t", 1) for line in read(f"/proc/{process}/status").splitlines() if ":\t" in line)
        self.assertEqual(status["Uid"].split(), ["65532"] * 4)
        self.assertEqual((int(status["CapBnd"], 16), status["NoNewPrivs"], status["Seccomp"]), (0, "1", "2"))


def seconds(text):
    """A time of the API server's since 1970."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
