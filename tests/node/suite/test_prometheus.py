"""The real Prometheus, oldest and newest, scrapes the agent as the chart's PodMonitor says."""

import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request

import agent
import node
from fixture import Case
from node import pod
from test_install import operator_crds

# As the Prometheus operator makes a scrape configuration of a PodMonitor's endpoint, before the
# endpoint's own relabelling.
OPERATOR = [
    {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "action": "keep", "regex": "metrics"},
    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
    {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
    {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    {"target_label": "endpoint", "replacement": "metrics"},
]


def snake(name):
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


class Prometheus:
    """A Prometheus beside the node, with one job."""

    def __init__(self, program, folder, job, port):
        self.address = f"127.0.0.1:{port}"
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}))
        self.log = open(folder / "log", "w")
        self.process = subprocess.Popen([
            program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={self.address}"], stdout=self.log, stderr=subprocess.STDOUT)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def query(self, expression):
        """The instant vector: label sets and values."""
        query = urllib.parse.urlencode({"query": expression})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.address}/api/v1/query?{query}", timeout=5) as answer:
            return [(one["metric"], float(one["value"][1])) for one in json.load(answer)["data"]["result"]]


class Scrape(Case):
    # The agent's scheme changes under way.
    watched = False

    def test_the_shipped_relabelling(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            folder.chmod(0o755)
            operator_crds()
            self.certificate()
            bcrypt = node.run("htpasswd", "-nbBC", "10", "prometheus", "open sesame").strip().split(":", 1)[1]
            try:
                self.agent.install({
                    "web": {"tlsSecret": "slicewatch-tls", "config": {"basic_auth_users": {"prometheus": bcrypt}}},
                })
                self.agent.trust(node.STATE / "pki/ca.crt", "prometheus:open sesame")
                with node.pods(pod("scraped"), pod("neighbour")):
                    self.owned("scraped")
                    self.owned("neighbour")
                    # Debian's 2.42 is built without discovery: it is told what discovery tells.
                    for number, (program, discovery) in enumerate((
                        ("/usr/bin/prometheus", self.discovered()), ("prometheus3", self.discovery()),
                    )):
                        with self.subTest(program):
                            self.check(program, discovery, folder / str(number), 19090 + number)
            finally:
                self.agent.scheme, self.agent.user, self.agent.context = "http", None, None
                self.agent.install()

    def certificate(self):
        """A certificate of the node's CA, as a Secret of the kind that cert-manager makes."""
        node.run("bash", "-ec", f'''
            . "{node.SCRIPTS}/env.sh"; cd "$node/pki"
            openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=slicewatch -keyout web.key -out web.csr
            openssl x509 -req -in web.csr -days 2 -CA ca.crt -CAkey ca.key -CAcreateserial -out web.crt \
                -extfile <(echo subjectAltName=DNS:slicewatch.{agent.NAMESPACE}.svc)
            kubectl create secret tls -n {agent.NAMESPACE} slicewatch-tls --cert web.crt --key web.key --dry-run=client -o json | kubectl apply -f -
        ''')

    def endpoint(self):
        """What the chart's PodMonitor says of the scrape."""
        rendered = node.run("helm", "template", "slicewatch", str(agent.CHART), "-n", agent.NAMESPACE,
                            "--set", "podMonitor.enabled=true", "--show-only", "templates/podmonitor.yaml")
        found = json.loads(node.kubectl("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", stdin=rendered))
        return found["spec"]["podMetricsEndpoints"][0]

    def discovery(self):
        return {"kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(node.STATE / "admin.kubeconfig"),
                                           "namespaces": {"names": [agent.NAMESPACE]}}]}

    def discovered(self):
        """The agent's pod with the labels that discovery gives it."""
        pod = self.agent.pod()
        [container] = pod["spec"]["containers"]
        labels = {
            "namespace": pod["metadata"]["namespace"], "pod_name": pod["metadata"]["name"],
            "pod_node_name": pod["spec"]["nodeName"], "pod_container_name": container["name"],
            "pod_container_port_name": container["ports"][0]["name"],
            "pod_label_app_kubernetes_io_name": pod["metadata"]["labels"]["app.kubernetes.io/name"],
        }
        meta = {f"__meta_kubernetes_{name}": value for name, value in labels.items()}
        return {"static_configs": [{"targets": [self.agent.address()], "labels": meta}]}

    def check(self, program, discovery, folder, port):
        folder.mkdir()
        endpoint = self.endpoint()
        self.assertTrue(endpoint["honorLabels"])
        own = [{snake(key): value for key, value in one.items()} for one in endpoint["relabelings"]]
        job = {
            "job_name": "slicewatch", "honor_labels": endpoint["honorLabels"], "scheme": "https",
            **discovery,
            "relabel_configs": OPERATOR + own,
            "tls_config": {"ca_file": str(node.STATE / "pki/ca.crt"), "server_name": f"slicewatch.{agent.NAMESPACE}.svc"},
            "basic_auth": {"username": "prometheus", "password": "open sesame"},
        }
        prometheus = Prometheus(shutil.which(program), folder, job, port)
        try:
            try:
                node.wait_for(f"{program} to have scraped", 30, lambda: prometheus.query('up{job="slicewatch"} == 1'), 0.5)
            except node.Failed as failed:
                raise node.Failed(f"{failed}; its log:\n{(folder / 'log').read_text()[-2000:]}") from None
            pods = node.wait_for("series of the pods", 20, lambda: prometheus.query('slicewatch_pod_framebuffer_bytes{pod="scraped"}'))
            [(labels, _)] = pods
            self.assertEqual((labels["namespace"], labels["container"], labels["node"], labels["instance"]),
                             ("default", "main", node.NAME, node.NAME))
            exported = prometheus.query('{__name__=~".+", exported_pod!=""} or {__name__=~".+", exported_namespace!=""} '
                                        'or {__name__=~".+", exported_container!=""}')
            self.assertEqual(exported, [])
            agents = self.agent.pod()["metadata"]["name"]
            self.assertEqual(prometheus.query(f'{{__name__=~"slicewatch_.+", pod="{agents}"}}'), [])
            devices = prometheus.query("slicewatch_gpu_framebuffer_used_bytes")
            self.assertEqual(len(devices), len(node.gpus()))
            for labels, _ in devices:
                self.assertFalse({"pod", "namespace", "container", "endpoint", "service"} & set(labels), labels)
            # Joins that users write.
            joined = prometheus.query("sum by (gpu_uuid, namespace, pod) (slicewatch_pod_framebuffer_bytes) "
                                      "* on (gpu_uuid) group_left (model) slicewatch_gpu_info")
            self.assertGreaterEqual(len(joined), 2)
            time.sleep(2)
            self.assertTrue(prometheus.query('rate(slicewatch_gpu_busy_seconds_total[10s])'))
        finally:
            prometheus.close()
