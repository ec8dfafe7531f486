//! What goes wrong while the agent runs.

use fake_nvml::script::What;
use slicewatch::model::{Cause, Reading};

use super::*;

const MEMORY: &str = "nvmlDeviceGetMemoryInfo_v2";

fn uuid(card: u32) -> String {
    Gpu::h200(card).uuid
}

fn gpu_up(agent: &Agent, card: u32) -> Option<f64> {
    agent
        .metrics()
        .one("slicewatch_gpu_up", &[("gpu_uuid", &uuid(card))])
}

#[test]
fn a_hanging_card_is_told_in_time_alone_and_comes_back() {
    let two = Script::of(vec![busy_card(), Gpu::h200(1)]);
    let (host, _kubelet) = Host::peopled();
    host.driver(&two);
    let agent = host.agent();
    agent.until("both cards", |snapshot| {
        is_up(snapshot, 0) && is_up(snapshot, 1) && is_resident(snapshot, &TRAINER)
    });
    let hung = two.clone().with(MEMORY, Some(0), What::Hang);
    host.driver(&hung);
    let began = Instant::now();
    let told = agent.until("told as hung", |snapshot| !is_up(snapshot, 0));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(told.gpus[0].up, Reading::Failed(Cause::Hung));
    assert!(told.gpus[0].memory.value().is_none());
    assert!(agent.alive());
    assert_eq!(gpu_up(&agent, 0), Some(0.0));
    let line = agent.until_log("GPU is silent");
    assert!(line.contains(&uuid(0)) && line.contains("hung"), "{line}");
    // The other goes on: its windows move.
    let later = agent.until("another step", |snapshot| {
        snapshot.at.monotonic > told.at.monotonic + Duration::from_secs(1)
    });
    assert!(is_up(&later, 1) && !is_up(&later, 0));
    assert_eq!(gpu_up(&agent, 1), Some(1.0));
    // Gauges of the hung card end, what was counted stays.
    let metrics = agent.metrics();
    assert_eq!(
        metrics.of("slicewatch_pod_framebuffer_bytes", &TRAINER),
        None
    );
    assert!(
        metrics
            .of("slicewatch_pod_gpu_samples_total", &TRAINER)
            .is_some()
    );
    let errors = [("source", "nvml"), ("reason", "hung")];
    assert!(metrics.one("slicewatch_source_errors_total", &errors) >= Some(1.0));

    host.driver(&two);
    agent.until("back", |snapshot| {
        is_up(snapshot, 0) && is_resident(snapshot, &TRAINER)
    });
    assert_eq!(gpu_up(&agent, 0), Some(1.0));

    host.driver(&two.clone().with(MEMORY, None, What::Hang));
    agent.until("both hung", |snapshot| {
        !is_up(snapshot, 0) && !is_up(snapshot, 1)
    });
    let up = agent
        .metrics()
        .one("slicewatch_source_up", &[("source", "nvml")]);
    assert_eq!(up, Some(0.0));
    assert!(agent.alive());
    // A call that never returns does not hold the end up.
    agent.end();
}

#[test]
fn initialising_that_hangs_is_told_and_does_not_hold_the_end_up() {
    let script = Script::of(vec![Gpu::h200(0)]);
    let host = Host::new(&script.clone().with("nvmlInit_v2", None, What::Hang));
    let agent = host.agent();
    agent.until("told", |snapshot| {
        let nvml = snapshot.source(Source::Nvml).unwrap();
        nvml.up == Reading::Failed(Cause::Hung) && !nvml.detail.is_empty()
    });
    assert!(agent.alive());
    agent.end();
}

#[test]
fn a_lost_card_and_an_unloaded_driver_come_back_without_a_restart() {
    let (host, _kubelet) = Host::peopled();
    let whole = Script::of(vec![busy_card(), Gpu::h200(1)]);
    host.driver(&whole);
    let agent = host.agent();
    agent.until("both cards", |snapshot| {
        is_up(snapshot, 0) && is_up(snapshot, 1) && is_resident(snapshot, &TRAINER)
    });
    let mut lost = whole.clone();
    lost.gpus[0].lost = true;
    lost.gpus[0].xids = vec![79];
    host.driver(&lost);
    let told = agent.until("told as lost", |snapshot| {
        snapshot.gpus[0].up == Reading::Failed(Cause::GpuLost)
    });
    assert!(told.gpus[0].memory.value().is_none() && is_up(&told, 1));
    assert_eq!(gpu_up(&agent, 0), Some(0.0));
    let line = agent.until_log("GPU is silent");
    assert!(
        line.contains(&uuid(0)) && line.contains("gpu_lost"),
        "{line}"
    );
    let before = row(&told.gpus[0], &TRAINER).map_or(0, |row| row.gpu_samples);

    host.driver(&whole);
    let back = agent.until("back", |snapshot| {
        is_up(snapshot, 0) && is_resident(snapshot, &TRAINER)
    });
    assert!(row(&back.gpus[0], &TRAINER).unwrap().gpu_samples >= before);

    let mut unloaded = whole.clone();
    unloaded.unloaded = true;
    host.driver(&unloaded);
    agent.until_down(Source::Nvml, &["driver"]);
    assert!(agent.alive());
    assert_eq!(
        (gpu_up(&agent, 0), gpu_up(&agent, 1)),
        (Some(0.0), Some(0.0))
    );
    host.driver(&whole);
    let back = agent.until("back from the reload", |snapshot| {
        is_up(snapshot, 0) && is_up(snapshot, 1) && is_resident(snapshot, &TRAINER)
    });
    assert_balanced(&back.gpus[0]);
    agent.end();
}

#[test]
fn a_kubelet_that_restarts_with_other_replicas_is_followed() {
    let (host, mut kubelet) = Host::peopled();
    let agent = host.agent();
    let replicas = |agent: &Agent, wanted: u32| {
        agent.until(&format!("{wanted} replicas"), |snapshot| {
            let gpu = snapshot.gpus.first();
            gpu.is_some_and(|gpu| gpu.replicas == Reading::Value(wanted))
        })
    };
    replicas(&agent, 4);
    kubelet.stop();
    let socket = host.text("kubelet.sock");
    agent.until_down(Source::Kubelet, &[&socket]);
    assert!(agent.alive());
    // Its last answer is believed for half a minute.
    assert!(
        row(&agent.snapshot().unwrap().gpus[0], &TRAINER)
            .unwrap()
            .replicas
            .value()
            .is_some()
    );
    kubelet.script(|script| {
        let ids: Vec<String> = (0..10).map(|n| format!("{}::{n}", uuid(0))).collect();
        *script = crate::kubelet::fake::script(
            vec![pod(
                "team-a",
                "trainer-0",
                "main",
                vec![devices("nvidia.com/gpu", [&*ids[0], &*ids[1]])],
            )],
            vec![devices("nvidia.com/gpu", ids.iter().map(String::as_str))],
        );
    });
    kubelet.start_again();
    let snapshot = replicas(&agent, 10);
    let gpu = &snapshot.gpus[0];
    assert_eq!(gpu.replicas_allocated, Reading::Value(2));
    assert_eq!(row(gpu, &TRAINER).unwrap().replicas, Reading::Value(2));
    // The server is there without a grant now.
    assert_eq!(row(gpu, &SERVER).unwrap().replicas, Reading::Value(0));
    assert_eq!(gpu.disagreements, Reading::Value(1));
    let metrics = agent.metrics();
    assert_eq!(metrics.one("slicewatch_gpu_replicas", &[]), Some(10.0));
    assert_eq!(
        metrics.one("slicewatch_source_up", &[("source", "kubelet")]),
        Some(1.0)
    );
    agent.end();
}
