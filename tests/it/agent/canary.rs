//! The agent with its latency canary, on a scripted driver and CUDA.

use fake_cuda::{Fake as Cuda, Script as CudaScript};
use slicewatch::model::{CanaryReason, CanaryState, GpuView, Reading};

use super::*;

/// A node with both tenants, CUDA beside the driver, and an agent that probes a hundred times a
/// second.
fn probed(script: &CudaScript) -> (Host, FakeKubelet, Cuda, Agent) {
    let (host, kubelet) = Host::peopled();
    let cuda = Cuda::in_folder(host.folder.path(), &[], script);
    let mut command = host.command();
    command
        .env("SLICEWATCH_CANARY", "auto")
        .args(["--canary-rate", "100"]);
    (host, kubelet, cuda, Agent::start(command))
}

fn is(gpu: &GpuView, state: CanaryState, reason: CanaryReason) -> bool {
    (gpu.canary.state, gpu.canary.reason) == (state, reason)
}

fn canary(snapshot: &Snapshot) -> Option<&GpuView> {
    snapshot.gpus.first()
}

/// PIDs of the agent's children.
fn children(agent: &Agent) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap();
    let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
    let all: String = tasks.flatten().flat_map(children).collect();
    all.split_whitespace().flat_map(str::parse).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn delays_of_a_shared_card_are_put_down_to_its_pods_and_add_up() {
    let (_host, _kubelet, _cuda, agent) = probed(&CudaScript {
        delays: vec![15, 1485, 1500],
        ..CudaScript::default()
    });
    let snapshot = agent.until("charges", |snapshot| {
        canary(snapshot).is_some_and(|gpu| {
            is(gpu, CanaryState::Running, CanaryReason::Shared)
                && [&TRAINER, &SERVER].iter().all(|tenant| {
                    row(gpu, tenant).is_some_and(|row| {
                        row.delay
                            .value()
                            .is_some_and(|delay| delay.inflicted.0 > 0.01)
                    })
                })
        })
    });
    let gpu = canary(&snapshot).unwrap();
    let delays = gpu.canary.delays.value().unwrap();
    let charged: f64 = [&TRAINER, &SERVER]
        .iter()
        .map(|tenant| row(gpu, tenant).unwrap().delay.value().unwrap().inflicted.0)
        .sum();
    let named: f64 = gpu.canary.unattributed.values().map(|delay| delay.0).sum();
    assert!((charged + named - delays.sum.0).abs() < 1e-6 * delays.sum.0);
    let recent = gpu.canary.recent.value().unwrap();
    let micros = recent.mean.as_micros();
    assert!((850..1300).contains(&micros), "{micros} us");
    // The trainer had five of ten samples, the server three, the host's daemon one.
    let inflicted = |tenant| row(gpu, tenant).unwrap().delay.value().unwrap().inflicted.0;
    assert!(inflicted(&TRAINER) > inflicted(&SERVER));
    let metrics = agent.metrics();
    let of = |name: &str, tenant| metrics.of(name, tenant);
    assert!(
        of("slicewatch_pod_inflicted_delay_seconds_total", &TRAINER) >= Some(inflicted(&TRAINER))
    );
    assert!(of("slicewatch_pod_exposed_probes_total", &SERVER) > Some(0.0));
    let canary = snapshot.source(Source::Canary).unwrap();
    assert_eq!(canary.up, Reading::Value(()));
}

#[test]
fn a_worker_that_is_stopped_dies_with_an_agent_that_is_killed() {
    let (_host, _kubelet, _cuda, mut agent) = probed(&CudaScript::default());
    agent.until("probes", |snapshot| {
        canary(snapshot).is_some_and(|gpu| gpu.canary.delays.value().is_some())
    });
    let workers = children(&agent);
    assert!(!workers.is_empty());
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    wait_until("stopped", || {
        workers.iter().all(|pid| stat(*pid).contains(") T "))
    });
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    wait_until("dead", || {
        workers
            .iter()
            .all(|pid| stat(*pid).is_empty() || stat(*pid).contains(") Z "))
    });
}

#[test]
fn a_canary_goes_with_its_tenants_and_gives_its_memory_back_before_it_is_needed() {
    let (host, _kubelet, _cuda, agent) = probed(&CudaScript::default());
    agent.until("probes", |snapshot| {
        canary(snapshot).is_some_and(|gpu| is(gpu, CanaryState::Running, CanaryReason::Shared))
    });
    // A tenant grows to where the floor and the canary's own 254 MiB meet.
    let mut card = busy_card();
    let total = 143_771 - 615;
    card.compute[0] = Process::mib(TRAINER.pid, total * 95 / 100 - 2048 - 3072);
    card.memory.used = (total * 95 / 100) << 20;
    host.driver(&Script::of(vec![card]));
    agent.until("yielded", |snapshot| {
        canary(snapshot).is_some_and(|gpu| is(gpu, CanaryState::Yielded, CanaryReason::LowMemory))
    });
    wait_until("no worker", || children(&agent).is_empty());
    // It shrinks, and all end: there is nobody to probe for.
    let mut card = busy_card();
    card.compute.clear();
    card.memory.used = 0;
    host.driver(&Script::of(vec![card]));
    agent.until("off", |snapshot| {
        canary(snapshot).is_some_and(|gpu| is(gpu, CanaryState::Off, CanaryReason::NoTenant))
    });
}

#[test]
fn without_cuda_everything_else_goes_on_and_the_agent_says_what_to_do() {
    let (host, _kubelet) = Host::peopled();
    let mut command = host.command();
    command
        .env("SLICEWATCH_CANARY", "auto")
        .args(["--cuda-library", "/nowhere/libcuda.so.1"]);
    let agent = Agent::start(command);
    let snapshot = agent.until("no library", |snapshot| {
        canary(snapshot).is_some_and(|gpu| {
            is(gpu, CanaryState::Off, CanaryReason::NoLibrary)
                && row(gpu, &TRAINER).is_some_and(|row| row.gpu_samples > 5)
        })
    });
    let gpu = canary(&snapshot).unwrap();
    assert_balanced(gpu);
    assert_eq!(gpu.canary.delays, Reading::Unsupported);
    let source = snapshot.source(Source::Canary).unwrap();
    assert!(source.detail.contains("--canary off"), "{}", source.detail);
    agent.until_log("NVIDIA_DRIVER_CAPABILITIES");
}
