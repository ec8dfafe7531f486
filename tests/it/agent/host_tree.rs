//! A /proc that cannot be read as it should.

use std::thread::scope;

use slicewatch::model::{Bytes, Reading, Remainder};

use super::*;

/// Runs the agent on the peopled node, spoiled, until all three processes are listed.
fn spoiled(spoil: impl FnOnce(&Host)) -> (Agent, Host, FakeKubelet, Snapshot) {
    let (host, kubelet) = Host::peopled();
    spoil(&host);
    let agent = host.agent();
    let snapshot = agent.until("a list and a kubelet", |snapshot| {
        snapshot
            .source(Source::Kubelet)
            .is_some_and(|k| k.up.value().is_some())
            && snapshot
                .gpus
                .first()
                .is_some_and(|gpu| gpu.processes.len() == 3 && gpu.unexplained.value().is_some())
    });
    assert_balanced(&snapshot.gpus[0]);
    (agent, host, kubelet, snapshot)
}

fn held(snapshot: &Snapshot, reason: Remainder) -> Option<Bytes> {
    snapshot.gpus[0].unattributed.value()?.get(&reason).copied()
}

#[test]
fn processes_that_cannot_be_looked_up_are_a_named_remainder() {
    scope(|scope| {
        scope.spawn(|| {
            let cgroup = format!("proc/{}/cgroup", TRAINER.pid);
            let (agent, _host, _kubelet, snapshot) = spoiled(|host| {
                fs::remove_file(host.path(&cgroup)).unwrap();
                fs::create_dir(host.path(&cgroup)).unwrap();
            });
            unknown_trainer(agent, &snapshot, Remainder::Unreadable);
        });
        scope.spawn(|| {
            let cgroup = format!("proc/{}/cgroup", TRAINER.pid);
            let (agent, _host, _kubelet, snapshot) =
                spoiled(|host| fs::remove_file(host.path(&cgroup)).unwrap());
            unknown_trainer(agent, &snapshot, Remainder::Unreadable);
        });
        scope.spawn(|| {
            // hidepid: its folder is not there.
            let (agent, _host, _kubelet, snapshot) = spoiled(|host| host.end_process(TRAINER.pid));
            unknown_trainer(agent, &snapshot, Remainder::ProcessGone);
        });
        scope.spawn(|| {
            let stat = format!("proc/{}/stat", TRAINER.pid);
            let (agent, _host, _kubelet, snapshot) =
                spoiled(|host| fs::write(host.path(&stat), "\u{0}\u{1}(").unwrap());
            unknown_trainer(agent, &snapshot, Remainder::Unreadable);
        });
    });
}

/// The trainer's memory is the remainder's, not its own and not nobody's.
fn unknown_trainer(agent: Agent, snapshot: &Snapshot, reason: Remainder) {
    assert_eq!(held(snapshot, reason), Some(Bytes::mib(1024)), "{reason:?}");
    assert_eq!(snapshot.processes_unattributed[&reason], 1);
    assert!(is_resident(snapshot, &SERVER));
    // It was granted the device, and what it holds is not known: no 0.
    let trainer = row(&snapshot.gpus[0], &TRAINER).unwrap();
    assert_eq!(trainer.memory.value(), None);
    let metrics = agent.metrics();
    assert_eq!(
        metrics.of("slicewatch_pod_framebuffer_bytes", &TRAINER),
        None
    );
    assert_eq!(
        metrics.one(
            "slicewatch_gpu_framebuffer_unattributed_bytes",
            &[("reason", reason.label())]
        ),
        Some((1024 << 20) as f64)
    );
    assert_eq!(
        metrics.one(
            "slicewatch_processes",
            &[("state", "unattributed"), ("reason", reason.label())]
        ),
        Some(1.0)
    );
    agent.end();
}

#[test]
fn in_a_foreign_pid_namespace_nothing_is_attributed_and_a_finding_says_so() {
    let (agent, _host, _kubelet, snapshot) = spoiled(|host| host.namespace("pid:[4026532201]"));
    agent.until_down(Source::Host, &["PID namespace"]);
    assert_eq!(
        held(&snapshot, Remainder::PidNamespace),
        Some(Bytes::mib(6144))
    );
    assert_eq!(snapshot.processes_attributed, 0);
    let gpu = &snapshot.gpus[0];
    assert!(
        gpu.containers
            .iter()
            .all(|row| row.processes == 0 && row.memory.value().is_none())
    );
    let metrics = agent.metrics();
    let finding = [
        ("code", "host_pid_namespace_missing"),
        ("severity", "error"),
    ];
    assert_eq!(metrics.one("slicewatch_finding", &finding), Some(1.0));
    for name in [
        "slicewatch_pod_framebuffer_bytes",
        "slicewatch_pod_gpu_seconds_total",
    ] {
        let series = metrics.0.get(name).map(|(_, series)| series);
        assert!(
            series.is_none_or(|series| series.values().all(|value| *value == 0.0)),
            "{name}: {series:?}"
        );
    }
    assert!(agent.get("/").1.contains("hostPID"));
    agent.end();
}

#[test]
fn the_operators_word_for_the_namespace_is_taken() {
    let (host, _kubelet) = Host::peopled();
    host.namespace("pid:[4026532201]");
    let mut command = host.command();
    command.arg("--assume-host-pid-namespace");
    let agent = Agent::start(command);
    let snapshot = agent.until("the trainer", |snapshot| is_resident(snapshot, &TRAINER));
    assert_eq!(
        row(&snapshot.gpus[0], &TRAINER).unwrap().memory,
        Reading::Value(Bytes::mib(1024))
    );
    assert!(snapshot.findings.is_empty());
    agent.end();
}

#[test]
fn log_folders_that_are_not_there_leave_the_pods_unknown_and_are_named() {
    let (host, _kubelet) = Host::peopled();
    fs::remove_dir_all(host.path("pods")).unwrap();
    fs::remove_dir_all(host.path("containers")).unwrap();
    let agent = host.agent();
    agent.until_down(Source::Host, &["pod log folders", "--pod-log-dir"]);
    let snapshot = agent.until("a list", |snapshot| {
        snapshot
            .gpus
            .first()
            .is_some_and(|gpu| gpu.processes.len() == 3)
    });
    assert_balanced(&snapshot.gpus[0]);
    assert_eq!(
        held(&snapshot, Remainder::UnknownPod),
        Some(Bytes::mib(3072))
    );
    agent.end();
}
