//! Pods that end, restart and come back under their names.

use super::*;

#[test]
fn a_deleted_pods_gauges_end_at_once_and_its_counters_and_peak_stay() {
    let (host, kubelet) = Host::peopled();
    let agent = host.agent();
    agent.until("its time", |snapshot| {
        is_resident(snapshot, &TRAINER)
            && row(&snapshot.gpus[0], &TRAINER).is_some_and(|row| row.gpu_samples > 4)
    });
    // Order of a real end: the process, then the kubelet's answer, then its logs.
    let mut card = busy_card();
    card.compute.remove(0);
    card.memory.used -= 1024 << 20;
    card.exited = vec![TRAINER.pid];
    card.ring
        .retain(|sample| sample.winner != Some(TRAINER.pid));
    host.driver(&Script::of(vec![card]));
    host.end_process(TRAINER.pid);
    kubelet.script(|script| {
        let uuid = Gpu::h200(0).uuid;
        *script = crate::kubelet::fake::script(
            vec![pod(
                "team-b",
                "server-7c9d",
                "cuda",
                vec![devices("nvidia.com/gpu", [&*format!("{uuid}::1")])],
            )],
            vec![],
        );
    });
    agent.until("gone", |snapshot| {
        !is_resident(snapshot, &TRAINER)
            && row(&snapshot.gpus[0], &TRAINER).is_some_and(|row| !row.present)
    });
    let metrics = agent.metrics();
    for gauge in [
        "slicewatch_pod_framebuffer_bytes",
        "slicewatch_pod_framebuffer_fair_share_bytes",
        "slicewatch_pod_replicas",
        "slicewatch_pod_processes",
    ] {
        assert_eq!(metrics.of(gauge, &TRAINER), None, "{gauge}");
        assert!(metrics.of(gauge, &SERVER).is_some(), "{gauge}");
    }
    assert_eq!(
        metrics.of("slicewatch_pod_framebuffer_peak_bytes", &TRAINER),
        Some((1024 << 20) as f64)
    );
    for counter in [
        "slicewatch_pod_gpu_seconds_total",
        "slicewatch_pod_gpu_samples_total",
    ] {
        assert!(metrics.of(counter, &TRAINER) > Some(0.0), "{counter}");
    }
    assert_balanced(&agent.snapshot().unwrap().gpus[0]);
    agent.end();
}

/// Replaces the trainer's process by another one of `tenant`.
fn replace(host: &Host, tenant: &Tenant) {
    let mut card = busy_card();
    card.compute[0] = Process::mib(tenant.pid, 512);
    card.memory.used -= 512 << 20;
    card.ring.iter_mut().for_each(|sample| {
        if sample.winner == Some(TRAINER.pid) {
            sample.winner = Some(tenant.pid);
        }
    });
    host.move_out(&TRAINER);
    host.move_in(tenant);
    host.driver(&Script::of(vec![card]));
}

#[test]
fn a_container_that_restarts_goes_on_counting_and_a_pod_that_comes_anew_does_not() {
    let watch = |tenant: Tenant| {
        let (host, kubelet) = Host::peopled();
        let agent = host.agent();
        let before = agent.until("its time", |snapshot| {
            is_resident(snapshot, &TRAINER)
                && row(&snapshot.gpus[0], &TRAINER).is_some_and(|row| row.gpu_samples > 10)
        });
        let samples = row(&before.gpus[0], &TRAINER).unwrap().gpu_samples;
        replace(&host, &tenant);
        let after = agent.until("the new process", |snapshot| {
            snapshot.gpus[0]
                .processes
                .iter()
                .any(|process| process.pid.0 == tenant.pid)
                && is_resident(snapshot, &tenant)
        });
        // One row of the name, never two.
        let rows: Vec<_> = after.gpus[0]
            .containers
            .iter()
            .filter(|row| &*row.pod == tenant.pod)
            .collect();
        assert_eq!(rows.len(), 1, "{rows:#?}");
        assert_eq!(rows[0].pod_uid.as_ref().unwrap().as_str(), tenant.uid);
        assert_balanced(&after.gpus[0]);
        let metrics = agent.metrics();
        assert_eq!(
            metrics.of("slicewatch_pod_framebuffer_bytes", &tenant),
            Some((512 << 20) as f64)
        );
        let info = [("pod", tenant.pod), ("pod_uid", tenant.uid)];
        assert_eq!(metrics.one("slicewatch_pod_info", &info), Some(1.0));
        let peak = metrics
            .of("slicewatch_pod_framebuffer_peak_bytes", &tenant)
            .unwrap();
        agent.end();
        drop(kubelet);
        (samples, rows[0].gpu_samples, peak)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (before, after, peak) = watch(Tenant {
                id: 'd',
                pid: 4111,
                ..TRAINER
            });
            assert!(after >= before, "{after} < {before}");
            assert_eq!(
                peak,
                (1024 << 20) as f64,
                "the pod's peak is its first container's"
            );
        });
        scope.spawn(|| {
            let (before, after, peak) = watch(Tenant {
                uid: "9e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b99",
                id: 'e',
                pid: 4112,
                ..TRAINER
            });
            assert!(
                after < before,
                "{after} >= {before}: it was the older pod's"
            );
            assert_eq!(
                peak,
                (512 << 20) as f64,
                "the older pod's peak is not its own"
            );
        });
    });
}
