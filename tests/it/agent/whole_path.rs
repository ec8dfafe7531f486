//! From the driver to a scrape, with nothing wrong.

use std::process::Command;

use slicewatch::model::snapshot::Owner;
use slicewatch::model::{Bytes, Evidence, Reading, Remainder, SignedBytes, Snapshot};

use super::*;

#[test]
fn two_pods_and_a_daemon_on_one_gpu_are_told_apart() {
    let (host, _kubelet) = Host::peopled();
    let agent = host.agent();
    let samples = |snapshot: &Snapshot, tenant| {
        let gpu = snapshot.gpus.first()?;
        Some(row(gpu, tenant)?.gpu_samples)
    };
    let snapshot = agent.until("three drains and the kubelet's answer", |snapshot| {
        samples(snapshot, &TRAINER) >= Some(10) && snapshot.gpus[0].replicas == Reading::Value(4)
    });
    let gpu = &snapshot.gpus[0];
    assert_balanced(gpu);
    assert_eq!(gpu.unexplained, Reading::Value(SignedBytes(16 << 20)));
    assert_eq!(gpu.replicas_allocated, Reading::Value(3));
    assert_eq!(gpu.tenants, Reading::Value(2));
    assert_eq!(gpu.disagreements, Reading::Value(0));
    assert_eq!(
        gpu.unattributed.value().unwrap()[&Remainder::HostProcess],
        Bytes::mib(3072)
    );
    let share = |replicas| Reading::Value(Bytes(((143_771 - 615) / 4 * replicas) << 20));
    for (tenant, mib, replicas) in [(&TRAINER, 1024, 1), (&SERVER, 2048, 2)] {
        let row = row(gpu, tenant).unwrap();
        assert_eq!(&*row.container, tenant.container);
        assert_eq!(row.pod_uid.as_ref().unwrap().as_str(), tenant.uid);
        assert_eq!(row.evidence, Evidence::ContainerLog);
        assert_eq!(row.memory, Reading::Value(Bytes::mib(mib)));
        assert_eq!(row.memory_peak, Reading::Value(Bytes::mib(mib)));
        assert_eq!(row.replicas, Reading::Value(replicas));
        assert_eq!(row.fair_share, share(u64::from(replicas)));
        assert_eq!(row.processes, 1);
        // One sample of 98 % is 196 ms.
        let seconds = row.gpu_time.copied().unwrap().0;
        let expected = row.gpu_samples as f64 * 0.196;
        assert!(
            (seconds / expected - 1.0).abs() < 0.02,
            "{seconds} {expected}"
        );
        let active = row.active.as_secs_f64();
        assert!(row.contended <= row.active && active >= seconds, "{row:#?}");
    }
    let (a, b) = (samples(&snapshot, &TRAINER), samples(&snapshot, &SERVER));
    let ratio = a.unwrap() as f64 / b.unwrap() as f64;
    assert!((1.3..=2.2).contains(&ratio), "5 to 3, and is {ratio}");
    let owners: Vec<Owner> = gpu.processes.iter().map(|process| process.owner).collect();
    assert!(owners.contains(&Owner::Unattributed(Remainder::HostProcess)));
    assert_eq!((snapshot.processes_attributed, owners.len()), (2, 3));

    let metrics = agent.metrics();
    let of = |name: &str| metrics.of(name, &TRAINER);
    assert_eq!(
        of("slicewatch_pod_framebuffer_bytes"),
        Some((1024 << 20) as f64)
    );
    assert_eq!(of("slicewatch_pod_replicas"), Some(1.0));
    assert!(of("slicewatch_pod_gpu_seconds_total") >= Some(1.9));
    assert_eq!(metrics.one("slicewatch_gpu_replicas", &[]), Some(4.0));
    for source in ["nvml", "kubelet", "host"] {
        let up = metrics.one("slicewatch_source_up", &[("source", source)]);
        assert_eq!(up, Some(1.0), "{source}");
    }
    assert!(!metrics.0.contains_key("slicewatch_finding"));
    for path in ["/-/healthy", "/-/ready", "/"] {
        assert_eq!(agent.get(path).0, 200, "{path}");
    }

    let url = format!("http://{}/", agent.address);
    let table = read(&["--url", &url, "--duration", "1100ms"]);
    for word in ["trainer-0", "server-7c9d", "team-a", "container log"] {
        assert!(table.contains(word), "no {word} in\n{table}");
    }
    let json = read(&["--url", &url, "--format", "json"]);
    let told: Snapshot = serde_json::from_str(&json).unwrap();
    assert_eq!(told.gpus[0].identity, gpu.identity);
    assert!(is_resident(&told, &TRAINER));
    let (_, log) = agent.end();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

fn read(args: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    let output = output(command.env_clear().arg("snapshot").args(args));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_bare_machine_without_a_kubelet_is_served_too() {
    let host = Host::new(&Script::of(vec![busy_card()]));
    for pid in [TRAINER.pid, SERVER.pid, DAEMON] {
        host.process(
            pid,
            "train",
            "0::/user.slice/user-1000.slice/session-2.scope\n",
        );
    }
    fs::remove_dir(host.path("pods")).unwrap();
    let agent = Agent::start(host.command_with_socket("none"));
    let snapshot = agent.until("a list", |snapshot| {
        snapshot
            .gpus
            .first()
            .is_some_and(|gpu| gpu.processes.len() == 3)
    });
    assert_balanced(&snapshot.gpus[0]);
    assert_eq!(
        snapshot.gpus[0].unattributed.value().unwrap()[&Remainder::HostProcess],
        Bytes::mib(6144)
    );
    assert_eq!(snapshot.gpus[0].replicas, Reading::Unsupported);
    assert!(snapshot.findings.is_empty());
    let (_, log) = agent.end();
    assert!(!log.contains("WARN"), "{log}");
}
