//! The latency canary: the real binary as its worker, on a scripted CUDA.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fake_cuda::{Fake, Script};
use slicewatch::collect::canary::{Canaries, CanarySettings, start};
use slicewatch::collect::clock::Clock;
use slicewatch::model::{
    CanaryReason, CanarySource, CanaryState, CanaryWindow, CanaryWish, Cause, GpuUuid, Probe,
    Reading, SourceHealth,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
/// Seconds of the real clock are short; probes need not be far apart.
const RATE: f64 = 200.0;

struct Bench {
    folder: TempDir,
    cuda: Fake,
    clock: Clock,
    canaries: Canaries,
    /// All that was collected since it was last taken.
    probes: Vec<Probe>,
    missed: u32,
}

impl Bench {
    fn new(script: &Script) -> Self {
        Self::with(script, &[], |_| {})
    }

    fn with(script: &Script, without: &[&str], change: impl FnOnce(&mut CanarySettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cuda = Fake::in_folder(folder.path(), without, script);
        let clock = Clock::new();
        let mut settings = CanarySettings {
            rate: RATE,
            program: crate::agent::BINARY.into(),
            library: Some(cuda.path().to_owned()),
            ..CanarySettings::default()
        };
        change(&mut settings);
        Self {
            folder,
            cuda,
            clock,
            canaries: start(settings).unwrap(),
            probes: Vec::new(),
            missed: 0,
        }
    }

    fn wish(&mut self, gpus: &[&str], state: CanaryState, reason: CanaryReason) {
        let wish = |gpu: &&str| CanaryWish {
            gpu: GpuUuid::new(*gpu),
            state,
            reason,
        };
        self.canaries.steer(gpus.iter().map(wish).collect());
    }

    fn run(&mut self) {
        self.wish(&["GPU-a"], CanaryState::Running, CanaryReason::Shared);
    }

    fn collect(&mut self) -> (Vec<CanaryWindow>, SourceHealth) {
        let (windows, health) = self.canaries.collect(self.clock.now());
        for window in &windows {
            self.probes.extend(&window.probes);
            self.missed += window.missed;
        }
        (windows, health)
    }

    /// Collects until one window is as wanted.
    fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&CanaryWindow, &SourceHealth) -> bool,
    ) -> (CanaryWindow, SourceHealth) {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < PATIENCE {
            let (windows, health) = self.collect();
            for window in windows {
                if wanted(&window, &health) {
                    return (window, health);
                }
                last = Some((window, health.clone()));
            }
            sleep(Duration::from_millis(20));
        }
        panic!("never {what}: {last:?}");
    }

    fn until_reason(
        &mut self,
        state: CanaryState,
        reason: CanaryReason,
    ) -> (CanaryWindow, SourceHealth) {
        self.until(reason.label(), |window, _| {
            (window.state, window.reason) == (state, reason)
        })
    }

    fn shared(&mut self) -> CanaryWindow {
        self.until_reason(CanaryState::Running, CanaryReason::Shared)
            .0
    }

    fn probes(&mut self, count: usize) -> Vec<Probe> {
        self.probes.clear();
        let started = Instant::now();
        while self.probes.len() < count {
            assert!(started.elapsed() < PATIENCE, "{} probes", self.probes.len());
            sleep(Duration::from_millis(50));
            self.collect();
        }
        std::mem::take(&mut self.probes)
    }
}

fn exists(pid: u32) -> bool {
    // A zombie is no process any more.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    })
}

fn gone(pid: u32) {
    let started = Instant::now();
    while exists(pid) {
        assert!(started.elapsed() < PATIENCE, "{pid} is still there");
        sleep(Duration::from_millis(10));
    }
}

fn state_of(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

fn micros(probes: &[Probe]) -> Vec<f64> {
    let mut all: Vec<f64> = probes
        .iter()
        .map(|probe| probe.delay.as_secs_f64() * 1e6)
        .collect();
    all.sort_by(f64::total_cmp);
    all
}

#[test]
fn delays_are_those_of_the_gpu_whatever_its_clock_says() {
    // Far from the host's clock, and running away from it faster than any crystal here.
    let mut bench = Bench::new(&Script {
        delays: vec![20, 1000],
        clock_offset: -77_000_000_000_000,
        clock_drift: 50_000.0,
        ..Script::default()
    });
    bench.run();
    let window = bench.shared();
    assert!(
        window.clock_error.unwrap() <= Duration::from_micros(500),
        "{window:?}"
    );
    assert!(window.waiting.is_some());
    let missed = bench.missed;
    let probes = bench.probes(300);
    let missed = bench.missed - missed;
    assert!(probes.iter().all(|probe| probe.started));
    let launches: Vec<Duration> = probes.iter().map(|probe| probe.launched).collect();
    assert!(launches.is_sorted());
    // Half of them each: far from 1 ms and near it.
    let micros = micros(&probes);
    let short = micros.iter().filter(|delay| **delay < 300.0).count() as f64;
    let long = micros
        .iter()
        .filter(|delay| (700.0..1300.0).contains(*delay))
        .count() as f64;
    let half = micros.len() as f64 / 2.0;
    // A busy machine may preempt a worker within its call.
    assert!(
        (short / half - 1.0).abs() < 0.2 && (long / half - 1.0).abs() < 0.2,
        "{short} {long} of {}",
        micros.len()
    );
    // Exponential gaps: their standard deviation is their mean.
    let gaps: Vec<f64> = launches
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    // Those for which a busy machine left no time are counted.
    let arrivals = (probes.len() as f64 + f64::from(missed)) / probes.len() as f64;
    let rate = arrivals / mean;
    assert!((rate / RATE - 1.0).abs() < 0.3, "{rate}, {missed} missed");
    assert!(
        (variance.sqrt() / mean - 1.0).abs() < 0.4,
        "{}",
        variance.sqrt() / mean
    );
}

#[test]
fn a_worker_is_stopped_between_probes_and_gone_when_it_shall_not_run() {
    let mut bench = Bench::with(&Script::default(), &[], |settings| settings.rate = 10.0);
    bench.run();
    let window = bench.shared();
    let [worker] = window.workers[..] else {
        panic!("{window:?}");
    };
    let stopped = (0..200)
        .filter(|_| {
            sleep(Duration::from_millis(2));
            state_of(worker.pid.0) == 'T'
        })
        .count();
    assert!(stopped > 120, "stopped in {stopped} of 200 looks");
    bench.wish(&["GPU-a"], CanaryState::Yielded, CanaryReason::LowMemory);
    let (window, _) = bench.until_reason(CanaryState::Yielded, CanaryReason::LowMemory);
    gone(worker.pid.0);
    assert_eq!(window.waiting, None);
    // Its last samples in the driver's ring are nobody's either.
    assert_eq!(window.workers, [worker]);
    bench.run();
    let window = bench.shared();
    assert_eq!(window.workers.len(), 2);
    assert_eq!(window.workers[0], worker);
}

#[test]
fn a_stall_is_a_reading_while_it_lasts_and_no_probe_is_lost() {
    let mut bench = Bench::with(&Script::default(), &[], |settings| settings.rate = 50.0);
    bench.run();
    bench.shared();
    bench.cuda.set(&Script {
        stalled: true,
        ..Script::default()
    });
    let (window, health) = bench.until("stalled for 1.5 s", |window, _| {
        window.state == CanaryState::Stalled && window.waiting > Some(Duration::from_millis(1500))
    });
    assert_eq!(window.reason, CanaryReason::ProbeOutstanding);
    // The source works: it is the GPU that does not.
    assert_eq!(health.up, Reading::Value(()));
    bench.probes.clear();
    bench.cuda.set(&Script::default());
    bench.shared();
    let longest = micros(&bench.probes).pop().unwrap();
    assert!(longest > 1.4e6, "{longest}");
}

#[test]
fn what_still_waits_when_a_worker_ends_counts_with_its_length_so_far() {
    let mut bench = Bench::new(&Script::default());
    bench.run();
    bench.shared();
    bench.probes(20);
    bench.cuda.set(&Script {
        stalled: true,
        ..Script::default()
    });
    bench.until("waiting", |window, _| {
        window.waiting > Some(Duration::from_millis(300))
    });
    bench.wish(&["GPU-a"], CanaryState::Off, CanaryReason::NoTenant);
    bench.until_reason(CanaryState::Off, CanaryReason::NoTenant);
    let given_up: Vec<&Probe> = bench.probes.iter().filter(|probe| !probe.started).collect();
    assert!(given_up.len() > 10, "{}", given_up.len());
    assert!(given_up[0].delay > Duration::from_millis(300));
}

#[test]
fn arrivals_for_which_there_is_no_room_are_counted() {
    let mut bench = Bench::with(&Script::default(), &[], |settings| settings.rate = 1000.0);
    bench.run();
    bench.shared();
    bench.cuda.set(&Script {
        stalled: true,
        ..Script::default()
    });
    bench.until_reason(CanaryState::Stalled, CanaryReason::ProbeOutstanding);
    let before = bench.missed;
    sleep(Duration::from_millis(500));
    bench.collect();
    assert!(bench.missed - before > 300, "{}", bench.missed - before);
}

#[test]
fn a_library_that_is_not_there_or_too_old_is_told_and_is_no_fault_of_the_card() {
    let mut bench = Bench::with(&Script::default(), &[], |settings| {
        settings.library = Some("/nowhere/libcuda.so.1".into());
    });
    bench.run();
    let (_, health) = bench.until_reason(CanaryState::Off, CanaryReason::NoLibrary);
    assert_eq!(health.up, Reading::Failed(Cause::NotFound));
    assert!(
        health.detail.contains("NVIDIA_DRIVER_CAPABILITIES"),
        "{}",
        health.detail
    );
    assert_eq!(health.errors["no_library"], 1);

    let mut bench = Bench::with(&Script::default(), &["cuMemHostRegister_v2"], |_| {});
    bench.run();
    let (_, health) = bench.until_reason(CanaryState::Off, CanaryReason::OldDriver);
    assert_eq!(health.up, Reading::Failed(Cause::Malformed));
    // It is wanted no more: then nothing is wrong.
    bench.wish(&["GPU-a"], CanaryState::Off, CanaryReason::NoTenant);
    let (_, health) = bench.until_reason(CanaryState::Off, CanaryReason::NoTenant);
    assert_eq!(health.up, Reading::Unsupported);
}

#[test]
fn a_full_framebuffer_is_the_tenants_right() {
    let script = Script {
        fails: Some(("cuCtxCreate_v2".into(), 2)),
        ..Script::default()
    };
    let mut bench = Bench::new(&script);
    bench.run();
    let (_, health) = bench.until_reason(CanaryState::Yielded, CanaryReason::OutOfMemory);
    assert_eq!(health.up, Reading::Unsupported);
    // Tried again when there may be room.
    bench.cuda.set(&Script::default());
    bench.shared();
}

#[test]
fn faults_restart_the_worker() {
    let mut bench = Bench::new(&Script::default());
    bench.run();
    let first = bench.shared().workers[0];
    for (script, label) in [
        (
            Script {
                fails: Some(("cuLaunchKernel".into(), 700)),
                ..Script::default()
            },
            "cuda_error",
        ),
        (
            Script {
                dies: true,
                ..Script::default()
            },
            "worker_died",
        ),
    ] {
        bench.cuda.set(&script);
        let (_, health) = bench.until(label, |window, health| {
            window.reason == CanaryReason::Failed && health.errors.contains_key(label)
        });
        assert_eq!(health.up, Reading::Failed(Cause::Other), "{label}");
        bench.cuda.set(&Script::default());
        let window = bench.shared();
        assert_ne!(window.workers.last(), Some(&first));
        assert!(!exists(first.pid.0));
    }
    let killed = bench.shared().workers.last().unwrap().pid.0;
    std::process::Command::new("kill")
        .args(["-9", &killed.to_string()])
        .status()
        .unwrap();
    bench.until("another worker", |window, _| {
        window.reason == CanaryReason::Shared && window.workers.last().unwrap().pid.0 != killed
    });
}

#[test]
fn a_call_that_never_returns_is_told_and_its_worker_killed() {
    let mut bench = Bench::with(&Script::default(), &[], |settings| {
        settings.hung_after = Duration::from_secs(3);
        settings.rate = 15.0;
    });
    bench.run();
    let worker = bench.shared().workers[0];
    bench.cuda.set(&Script {
        hangs: Some("cuLaunchKernel".into()),
        ..Script::default()
    });
    let (window, _) = bench.until_reason(CanaryState::Stalled, CanaryReason::CallHung);
    assert!(window.waiting > Some(Duration::from_millis(900)));
    bench.until("killed", |_, health| {
        health.errors.contains_key("call_hung")
    });
    gone(worker.pid.0);
    bench.cuda.set(&Script::default());
    bench.shared();
}

#[test]
fn sixteen_cards_have_a_worker_each_and_all_end_with_the_agent() {
    let names: Vec<String> = (0..16).map(|card| format!("GPU-{card:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::with(&Script::default(), &[], |settings| settings.rate = 20.0);
    bench.wish(&names, CanaryState::Running, CanaryReason::Forced);
    let started = Instant::now();
    let workers: Vec<u32> = loop {
        let (windows, _) = bench.collect();
        if windows.len() == 16 && windows.iter().all(|w| w.reason == CanaryReason::Forced) {
            break windows
                .iter()
                .map(|window| window.workers[0].pid.0)
                .collect();
        }
        assert!(started.elapsed() < PATIENCE, "{windows:?}");
        sleep(Duration::from_millis(50));
    };
    // One card's fault is not the others'.
    std::process::Command::new("kill")
        .args(["-9", &workers[3].to_string()])
        .status()
        .unwrap();
    gone(workers[3]);
    assert!(workers.iter().filter(|pid| exists(**pid)).count() >= 15);
    // One that nobody names any more ends, the others go on.
    bench.wish(&names[..15], CanaryState::Running, CanaryReason::Forced);
    gone(workers[15]);
    drop(bench);
    for pid in workers {
        assert!(!exists(pid));
    }
}

#[test]
fn a_worker_that_no_agent_started_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let cuda = Fake::in_folder(folder.path(), &[], &Script::default());
    let page: PathBuf = folder.path().join("page");
    fs::write(&page, b"no page").unwrap();
    let output = std::process::Command::new(crate::agent::BINARY)
        .args(["canary", "--parent", "1", "--cuda-library"])
        .arg(cuda.path())
        .output()
        .unwrap();
    // Its parent is another one: it ends by itself, in peace.
    assert!(output.status.success(), "{output:?}");
    let output = std::process::Command::new(crate::agent::BINARY)
        .args(["canary", "--parent", &std::process::id().to_string()])
        .stdin(fs::File::open(&page).unwrap())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("slicewatch agent"), "{words}");
}

#[test]
fn a_clock_that_is_set_puts_no_delay_into_the_books() {
    for step in [3_000_000_000, -3_000_000_000, -20_000_000] {
        let mut bench = Bench::with(&Script::default(), &[], |settings| settings.rate = 50.0);
        bench.run();
        bench.shared();
        bench.probes(100);
        bench.cuda.set(&Script {
            clock_offset: step,
            ..Script::default()
        });
        let probes = bench.probes(100);
        let longest = micros(&probes).pop().unwrap();
        // A busy machine may wake a fake GPU late; the step would be twenty times that.
        assert!(longest < 15_000.0, "{longest} us after a step of {step} ns");
        bench.shared();
    }
}

#[test]
fn each_probe_can_be_traced() {
    let trace = tempfile::tempdir().unwrap();
    let path = trace.path().join("probes");
    let mut bench = Bench::with(&Script::default(), &[], |settings| {
        settings.trace = Some(path.clone());
    });
    bench.run();
    let probes = bench.probes(50);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert!(lines.len() >= probes.len());
    assert_eq!(lines[0][0], "GPU-a");
    assert_eq!(lines[0][3], "1");
    let delay: f64 = lines[0][2].parse().unwrap();
    assert!((delay - probes[0].delay.as_secs_f64()).abs() < 1e-8);
    assert!(bench.folder.path().exists());
}
