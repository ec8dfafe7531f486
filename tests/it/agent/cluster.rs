//! With an API server, that comes, goes, refuses, or never was.

use std::process::Command;

use serde_json::json;
use slicewatch::model::{Evidence, PodUid, Reading, Sharing, Snapshot};

use super::*;
use crate::cluster::fake::{self, Ask, FakeApi, Fault, NODE, of_deployment};

impl Host {
    /// With the API server, and told which node this is.
    fn agent_of(&self, api: &FakeApi) -> Agent {
        Agent::start(self.command_of(api))
    }

    fn command_of(&self, api: &FakeApi) -> Command {
        let mut command = self.command();
        command.args(["--node-name", NODE, "--kubeconfig"]);
        command.arg(api.kubeconfig(self.folder.path()));
        command
    }

    fn forget_logs(&self, tenant: &Tenant) {
        let (pods, containers) = Self::logs(tenant);
        fs::remove_dir_all(self.path(&pods)).unwrap();
        fs::remove_file(self.path(&containers)).unwrap();
    }
}

/// Both tenants, the server as a pod of the Deployment `server`.
fn told() -> FakeApi {
    let api = FakeApi::start();
    for tenant in [&TRAINER, &SERVER] {
        let Tenant {
            namespace,
            pod,
            uid,
            ..
        } = *tenant;
        let mut pod = fake::pod(namespace, pod, uid, &tenant.container_id());
        pod["status"]["containerStatuses"][0]["name"] = json!(tenant.container);
        if tenant.uid == SERVER.uid {
            pod = of_deployment(pod, "server", "7c9d");
        }
        api.apply(pod);
    }
    api
}

fn evidence(snapshot: &Snapshot, tenant: &Tenant) -> Option<Evidence> {
    Some(row(snapshot.gpus.first()?, tenant)?.evidence)
}

fn by_status(snapshot: &Snapshot) -> bool {
    [&TRAINER, &SERVER]
        .iter()
        .all(|tenant| evidence(snapshot, tenant) == Some(Evidence::ContainerStatus))
}

fn up(agent: &Agent) -> Option<f64> {
    let of = [("source", "cluster")];
    agent.metrics().one("slicewatch_source_up", &of)
}

/// GPU seconds of a workload, where it has a series.
fn workload(agent: &Agent, name: &str, kind: &str) -> Option<f64> {
    let of = [("workload", name), ("workload_kind", kind)];
    agent
        .metrics()
        .one("slicewatch_workload_gpu_seconds_total", &of)
}

#[test]
fn statuses_name_pods_that_no_log_names_and_stay_when_the_api_server_goes() {
    let (host, _kubelet) = Host::peopled();
    host.forget_logs(&SERVER);
    let mut api = told();
    let agent = host.agent_of(&api);
    let snapshot = agent.until("named by statuses", |snapshot| {
        by_status(snapshot) && snapshot.workloads.len() == 2
    });
    assert_eq!(snapshot.gpus[0].sharing, Sharing::TimeSlicing);
    assert!(snapshot.node_facts.value().is_some());
    assert_eq!(up(&agent), Some(1.0));
    let info = [
        ("pod", SERVER.pod),
        ("container", SERVER.container),
        ("pod_uid", SERVER.uid),
        ("qos", "Burstable"),
        ("workload", "server"),
        ("workload_kind", "Deployment"),
    ];
    assert_eq!(agent.metrics().one("slicewatch_pod_info", &info), Some(1.0));
    assert!(workload(&agent, "server", "Deployment").is_some());
    assert!(workload(&agent, TRAINER.pod, "Pod").is_some());

    api.stop();
    let down = agent.until_down(
        Source::Cluster,
        &["cannot be reached", &api.address().to_string()],
    );
    assert!(down.last_success.is_some());
    let snapshot = agent.snapshot().unwrap();
    assert!(by_status(&snapshot) && agent.alive());
    let later = agent.until("more time", |later| {
        later.at.monotonic > snapshot.at.monotonic + Duration::from_secs(2)
    });
    assert!(by_status(&later));
    assert_eq!(later.workloads.len(), 2);
    api.start_again();
    agent.until("up again", |snapshot| {
        snapshot.source(Source::Cluster).unwrap().up == Reading::Value(())
    });
    assert_eq!(up(&agent), Some(1.0));
    api.assert_least_rights();
    agent.end();
}

#[test]
fn an_api_server_that_comes_late_moves_no_counter() {
    let (host, _kubelet) = Host::peopled();
    let mut api = told();
    api.stop();
    let agent = host.agent_of(&api);
    agent.until("named by logs, with time", |snapshot| {
        evidence(snapshot, &SERVER) == Some(Evidence::ContainerLog) && snapshot.workloads.len() == 2
    });
    assert_eq!(up(&agent), Some(0.0));
    let guessed = workload(&agent, SERVER.pod, "").unwrap();
    api.start_again();
    agent.until("named by statuses, with time", |snapshot| {
        by_status(snapshot) && snapshot.workloads.len() == 4
    });
    let metrics = agent.metrics();
    let of = |name, kind| {
        let of = [("workload", name), ("workload_kind", kind)];
        metrics
            .one("slicewatch_workload_gpu_seconds_total", &of)
            .unwrap()
    };
    let (guess, owner) = (of(SERVER.pod, ""), of("server", "Deployment"));
    assert!(guess >= guessed);
    let container = metrics
        .of("slicewatch_pod_gpu_seconds_total", &SERVER)
        .unwrap();
    assert!(
        (guess + owner - container).abs() < 1e-6,
        "{guess} + {owner} is not {container}"
    );
    // What was guessed has ended: it does not grow any more.
    agent.until("more time", |snapshot| {
        row(&snapshot.gpus[0], &SERVER)
            .unwrap()
            .gpu_time
            .value()
            .unwrap()
            .0
            > container
    });
    assert_eq!(workload(&agent, SERVER.pod, ""), Some(guess));
    agent.end();
}

#[test]
fn a_refused_api_server_is_a_finding_and_logs_name_the_pods() {
    let (host, _kubelet) = Host::peopled();
    let api = told();
    for ask in [Ask::List, Ask::Node] {
        api.script().faults.insert(ask, Fault::Status(403));
    }
    let agent = host.agent_of(&api);
    agent.until_down(Source::Cluster, &["list pods", "ClusterRole"]);
    let snapshot = agent.until("named by logs", |snapshot| {
        evidence(snapshot, &SERVER) == Some(Evidence::ContainerLog)
    });
    let finding = |code| {
        snapshot
            .findings
            .iter()
            .any(|finding| &*finding.code == code)
    };
    assert!(finding("cluster_access_refused"), "{:?}", snapshot.findings);
    assert_eq!(
        snapshot.node_facts,
        Reading::Failed(slicewatch::model::Cause::PermissionDenied)
    );
    let errors = [("source", "cluster"), ("reason", "forbidden")];
    assert!(
        agent
            .metrics()
            .one("slicewatch_source_errors_total", &errors)
            >= Some(2.0)
    );
    assert_eq!(agent.get("/-/ready").0, 200);
    let refused = agent.log().matches("let the agent").count();
    assert!(
        refused <= 3,
        "one line a change, and the finding:\n{}",
        agent.log()
    );
    api.script().faults.clear();
    agent.until("granted after all", by_status);
    api.assert_least_rights();
    agent.end();
}

#[test]
fn a_log_that_names_another_pod_than_the_status_is_not_believed() {
    let (host, _kubelet) = Host::peopled();
    let api = told();
    // The server's container, said to be the trainer's.
    let (_, log) = Host::logs(&SERVER);
    fs::remove_file(host.path(&log)).unwrap();
    let (_, lie) = Host::logs(&Tenant {
        id: SERVER.id,
        ..TRAINER
    });
    fs::write(host.path(&lie), "").unwrap();
    let agent = host.agent_of(&api);
    let snapshot = agent.until("named by statuses", by_status);
    let server = row(&snapshot.gpus[0], &SERVER).unwrap();
    assert_eq!(server.pod_uid, Some(PodUid::new(SERVER.uid)));
    let disputed = [("source", "host"), ("reason", "name_disputed")];
    let times = || {
        agent
            .metrics()
            .one("slicewatch_source_errors_total", &disputed)
    };
    agent.until("counted", |_| times() == Some(1.0));
    agent.end();
}

#[test]
fn a_static_pod_and_a_recreated_one_are_themselves() {
    const HASH: &str = "8d4a0b6a5c0d4f0e9a7b1c2d3e4f5a6b";
    let host = Host::new(&Script::of(vec![busy_card()]));
    let id = |digit: char| digit.to_string().repeat(64);
    let cgroup = |uid: &str, id: &str| {
        let uid = uid.replace('-', "_");
        format!("0::/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{id}.scope\n")
    };
    host.process(TRAINER.pid, "python3", &cgroup(HASH, &id('1')));
    host.process(SERVER.pid, "python3", &cgroup(SERVER.uid, &id('2')));
    let api = FakeApi::start();
    let mirror = |uid: &str| {
        let mut pod = fake::pod("kube-system", &format!("dcgm-{NODE}"), uid, &id('1'));
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": HASH});
        pod["metadata"]["ownerReferences"] =
            json!([{"kind": "Node", "name": NODE, "controller": true}]);
        pod
    };
    api.apply(mirror(TRAINER.uid));
    api.apply(fake::pod("team-b", "db-0", SERVER.uid, &id('2')));
    let agent = host.agent_of(&api);
    let pods = |snapshot: &Snapshot| -> Vec<(String, Option<PodUid>)> {
        let rows = snapshot.gpus.iter().flat_map(|gpu| &gpu.containers);
        rows.filter(|row| row.present)
            .map(|row| (row.pod.to_string(), row.pod_uid.clone()))
            .collect()
    };
    let dcgm = (format!("dcgm-{NODE}"), Some(PodUid::new(TRAINER.uid)));
    let db = ("db-0".to_owned(), Some(PodUid::new(SERVER.uid)));
    agent.until("both", |snapshot| {
        pods(snapshot) == [dcgm.clone(), db.clone()]
    });
    let info = [("workload", "dcgm"), ("workload_kind", "StaticPod")];
    assert_eq!(agent.metrics().one("slicewatch_pod_info", &info), Some(1.0));

    // The pod is deleted and its process lives on: still its own.
    api.delete(SERVER.uid);
    let snapshot = agent.snapshot().unwrap();
    let later = agent.until("later", |later| {
        later.at.monotonic > snapshot.at.monotonic + Duration::from_secs(2)
    });
    assert_eq!(pods(&later), [dcgm.clone(), db]);
    // Another pod takes its name: the old one's process is nobody's, never the new one's.
    let newer = "3e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b33";
    api.apply(fake::pod("team-b", "db-0", newer, &id('3')));
    let snapshot = agent.until("nobody's", |snapshot| pods(snapshot) == [dcgm.clone()]);
    let unknown = slicewatch::model::Remainder::UnknownPod;
    assert_eq!(snapshot.processes_unattributed[&unknown], 1);
    agent.end();
}

#[test]
fn outside_a_cluster_there_is_no_such_source_and_without_a_node_name_a_mend() {
    let host = Host::new(&Script::of(vec![Gpu::h200(0)]));
    let agent = host.agent();
    agent.until("running", |snapshot| {
        let cluster = snapshot.source(Source::Cluster).unwrap();
        is_up(snapshot, 0) && cluster.up == Reading::Unsupported
    });
    assert_eq!(up(&agent), None);
    agent.end();

    let mut command = host.command();
    command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    let agent = Agent::start(command);
    agent.until_down(Source::Cluster, &["SLICEWATCH_NODE_NAME", "spec.nodeName"]);
    let found = agent.snapshot().unwrap().findings;
    assert!(
        found
            .iter()
            .any(|finding| &*finding.code == "cluster_not_asked")
    );
    agent.end();

    let mut command = host.command();
    command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    command.env("KUBERNETES_SERVICE_PORT", "443");
    command.env("SLICEWATCH_NODE_NAME", NODE);
    let agent = Agent::start(command);
    agent.until_down(Source::Cluster, &["automountServiceAccountToken"]);
    agent.end();

    let mut command = host.command();
    command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    command.args(["--kubeconfig", "none"]);
    let agent = Agent::start(command);
    agent.until("not asked", |snapshot| {
        snapshot.source(Source::Cluster).unwrap().up == Reading::Unsupported
    });
    agent.end();
}

#[test]
fn events_without_an_api_server_are_told_as_a_source_that_is_down() {
    let (host, _kubelet) = Host::peopled();
    let mut command = host.command();
    command.args(["--kubeconfig", "none", "--events"]);
    let agent = Agent::start(command);
    let snapshot = agent.until("with Events", |snapshot| {
        snapshot.source(Source::Events).is_some()
    });
    let health = snapshot.source(Source::Events).unwrap();
    assert!(health.up.value().is_none());
    for words in ["--events", "--kubeconfig none"] {
        assert!(health.detail.contains(words), "{}", health.detail);
    }
    agent.end();

    let api = told();
    api.script().events = Some(crate::cluster::pod_events::Events::default());
    let mut command = host.command_of(&api);
    command.env("SLICEWATCH_EVENTS", "true");
    let agent = Agent::start(command);
    agent.until("followed, with Events", |snapshot| {
        let up = |source| {
            snapshot
                .source(source)
                .is_some_and(|health| health.up.value().is_some())
        };
        up(Source::Cluster) && up(Source::Events)
    });
    // Nothing is found in the first seconds, and nothing else is asked.
    api.assert_least_rights();
    agent.end();
    let agent = host.agent_of(&api);
    let snapshot = agent.until("followed", by_status);
    assert!(
        snapshot.source(Source::Events).is_none(),
        "nobody asked for it"
    );
}
