//! The live page: its history, its HTML, and its paths over HTTP.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod history;
mod html;
mod http;

use std::sync::Arc;
use std::time::Duration;

use slicewatch::model::{
    Bytes, CanaryReason, CanaryState, CanaryView, ContainerDelay, ContainerView, DELAY_BOUNDS,
    DelayHistogram, DelaySeconds, GpuSeconds, GpuView, Memory, Moment, Reading, Snapshot, Weight,
};
use slicewatch::publish::history::History;

use crate::publish::example;

/// An instant, so many seconds after the start on both clocks.
fn at(seconds: f64) -> Moment {
    let passed = Duration::from_secs_f64(seconds);
    Moment {
        monotonic: Duration::from_secs(1000) + passed,
        unix: Duration::from_secs(1_795_000_000) + passed,
    }
}

/// A node whose load is known: each card is half busy, its first pod has 30 % of the time and the
/// others share 20 %; ten probes a second wait 2 ms each, half of it because of the first pod.
/// `seconds` after the start; the ring was last drained at a whole multiple of 3 s.
fn node(gpus: usize, pods: usize, seconds: f64) -> Snapshot {
    let drained = (seconds / 3.0).floor() * 3.0;
    let probes = (seconds * 10.0).floor();
    let gpus = (0..gpus).map(|gpu| {
        let containers = (0..pods).map(|pod| pod_of(gpu, pod, pods, drained, probes));
        GpuView {
            up: Reading::Value(()),
            memory: Reading::Value(Memory {
                total: Bytes::gib(80),
                reserved: Reading::Value(Bytes::gib(1)),
                used: Bytes::gib(40),
                free: Bytes::gib(39),
            }),
            used_peak: Reading::Value(Bytes::gib(50)),
            busy: Reading::Value(GpuSeconds(0.5 * drained)),
            canary: canary(probes),
            containers: containers.collect(),
            ..example::silent(
                example::identity(&gpu.to_string(), &format!("GPU-{gpu:032}")),
                slicewatch::model::Cause::NotYet,
            )
        }
    });
    Snapshot {
        at: at(seconds),
        gpus: gpus.collect(),
        ..example::empty()
    }
}

fn canary(probes: f64) -> CanaryView {
    let mut counts = [0; DELAY_BOUNDS.len() + 1];
    // 1.6 to 3.2 ms.
    counts[7] = probes as u64;
    CanaryView {
        state: CanaryState::Running,
        reason: CanaryReason::Shared,
        delays: Reading::Value(DelayHistogram {
            counts,
            sum: DelaySeconds(probes * 2e-3),
            native: None,
        }),
        stall: Reading::Value(Duration::ZERO),
        ..CanaryView::off(CanaryReason::Shared)
    }
}

fn pod_of(gpu: usize, pod: usize, pods: usize, drained: f64, probes: f64) -> ContainerView {
    let share = if pod == 0 {
        0.3
    } else {
        0.2 / (pods - 1) as f64
    };
    let inflicted = if pod == 0 { 1e-3 } else { 0.0 };
    ContainerView {
        pod_uid: None,
        memory: Reading::Value(Bytes::gib(1)),
        gpu_time: Reading::Value(GpuSeconds(share * drained)),
        delay: Reading::Value(ContainerDelay {
            inflicted: DelaySeconds(inflicted * probes),
            exposed: DelaySeconds(probes * 0.5e-3),
            exposed_probes: probes * 0.5,
            turn: None,
            weight: Weight::Share,
        }),
        ..example::container(
            &format!("inference-{gpu}-{pod:03}-7c9d8f6b5d-abcde"),
            "server",
        )
    }
}

/// A history that has seen a node each second for so long.
fn seen(gpus: usize, pods: usize, seconds: u32) -> (History, Snapshot) {
    let mut history = History::new();
    for second in 0..seconds {
        history.observe(&node(gpus, pods, second.into()));
    }
    (history, node(gpus, pods, f64::from(seconds - 1)))
}

/// The example that has everything in it, seen for a minute in which its counters moved.
fn full() -> (History, Arc<Snapshot>) {
    let mut history = History::new();
    let mut snapshot = example::full();
    for _ in 0..60 {
        history.observe(&snapshot);
        snapshot.at = snapshot.at.later(Duration::from_secs(1));
        for gpu in &mut snapshot.gpus {
            if let Reading::Value(busy) = &mut gpu.busy {
                busy.0 += 0.75;
            }
            for container in &mut gpu.containers {
                if let Reading::Value(time) = &mut container.gpu_time {
                    time.0 += 0.25;
                }
            }
        }
    }
    (history, Arc::new(snapshot))
}
