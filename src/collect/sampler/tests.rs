use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Mutex;

use super::*;
use crate::model::{GpuUuid, HostFiles, HostPid, RingRead, RingRow, RingSample};

mod ring;

/// A GPU whose next answers are written down beforehand.
#[derive(Default)]
struct Script {
    used: u64,
    /// Used memory of the readings that follow a process list, one each.
    after_list: VecDeque<u64>,
    listed: bool,
    rows: Vec<RawProcess>,
    truncated: bool,
    error: Option<GpuError>,
    ring: RingRead,
    ring_unsupported: bool,
    calls: HashMap<&'static str, u32>,
}

#[derive(Clone, Default)]
struct Gpu(Arc<Mutex<Script>>, Option<GpuIdentity>);

fn identity() -> GpuIdentity {
    GpuIdentity {
        uuid: GpuUuid::new("GPU-1"),
        parent: None,
        index: "0".into(),
        model: "Test".into(),
        minor: None,
        pci_bus_id: "".into(),
        driver_version: "".into(),
        mig_enabled: None,
        mig: None,
        exclusive_process: false,
    }
}

impl Gpu {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    fn call(&self, name: &'static str) -> Result<std::sync::MutexGuard<'_, Script>, GpuError> {
        let mut script = self.script();
        *script.calls.entry(name).or_insert(0) += 1;
        match script.error {
            Some(error) => Err(error),
            None => Ok(script),
        }
    }

    fn calls(&self, name: &str) -> u32 {
        self.script().calls.get(name).copied().unwrap_or(0)
    }

    fn holds(&self, pid: u32, mib: u64) {
        let mut script = self.script();
        script.rows.push(RawProcess {
            pid: HostPid(pid),
            kind: ContextKind::Compute,
            used: Reading::Value(Bytes::mib(mib)),
        });
        script.used += mib << 20;
    }
}

impl GpuSource for Gpu {
    fn card(&self) -> &GpuIdentity {
        self.1.as_ref().unwrap()
    }

    fn devices(&mut self) -> Result<Vec<GpuIdentity>, GpuError> {
        self.call("devices").map(|_| vec![identity()])
    }

    fn memory(&mut self, _: usize) -> Result<Memory, GpuError> {
        let mut script = self.call("memory")?;
        if std::mem::take(&mut script.listed)
            && let Some(used) = script.after_list.pop_front()
        {
            script.used = used;
        }
        Ok(Memory {
            total: Bytes::mib(1000),
            reserved: Reading::Value(Bytes(0)),
            used: Bytes(script.used),
            free: Bytes::mib(1000).saturating_sub(Bytes(script.used)),
        })
    }

    fn processes(&mut self, _: usize, into: &mut Vec<RawProcess>) -> Result<bool, GpuError> {
        let mut script = self.call("processes")?;
        script.listed = true;
        into.extend(script.rows.iter().copied());
        Ok(!script.truncated)
    }

    fn ring(&mut self, after: Duration) -> Result<RingRead, GpuError> {
        let script = self.call("ring")?;
        if script.ring_unsupported {
            return Err(GpuError::Unsupported);
        }
        let mut read = script.ring.clone();
        read.samples.retain(|sample| sample.at > after);
        read.rows.retain(|row| row.last_won > after);
        Ok(read)
    }

    fn xids(&mut self) -> Result<Vec<XidEvent>, GpuError> {
        Err(GpuError::Unsupported)
    }

    fn mig_profiles(&mut self) -> Result<Vec<MigProfile>, GpuError> {
        Err(GpuError::Unsupported)
    }
}

struct NoFiles;

impl HostFiles for NoFiles {
    fn read(&self, _: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    fn read_link(&self, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

fn at(millis: u64) -> Moment {
    Moment {
        monotonic: Duration::from_millis(millis),
        unix: Duration::from_millis(1_000_000 + millis),
    }
}

fn sampler() -> (Gpu, Sampler) {
    let gpu = Gpu(Arc::default(), Some(identity()));
    let table = ProcessTable::new(Arc::new(NoFiles), "/proc");
    let sampler = Sampler::new(
        Box::new(gpu.clone()),
        table,
        SamplerSettings::default(),
        at(0),
    );
    (gpu, sampler)
}

/// Polls each 100 ms from `from` up to and with `to`; the windows that closed.
fn run(sampler: &mut Sampler, from: u64, to: u64) -> Vec<GpuWindow> {
    (from..=to)
        .step_by(100)
        .filter_map(|millis| sampler.poll(at(millis)).window)
        .collect()
}

#[test]
fn a_quiet_second_costs_ten_readings_one_list_and_no_drain() {
    let (gpu, mut sampler) = sampler();
    run(&mut sampler, 0, 1000);
    let (memory, lists, rings) = (
        gpu.calls("memory"),
        gpu.calls("processes"),
        gpu.calls("ring"),
    );
    let windows = run(&mut sampler, 1100, 2000);
    assert_eq!(windows.len(), 1);
    assert_eq!(windows[0].to.since(windows[0].from), Duration::from_secs(1));
    assert_eq!(gpu.calls("memory") - memory, 11);
    assert_eq!(gpu.calls("processes") - lists, 1);
    assert_eq!(gpu.calls("ring") - rings, 0);
}

#[test]
fn a_quiet_minute_costs_the_calls_of_the_bare_loop() {
    // What bench/overhead makes in a minute: ten readings of memory a second and one more after each
    // list, a list a second, the ring each three seconds.
    let (gpu, mut sampler) = sampler();
    gpu.holds(7, 10);
    run(&mut sampler, 0, 3000);
    let count = || ["memory", "processes", "ring"].map(|call| gpu.calls(call));
    let before = count();
    run(&mut sampler, 3100, 63_000);
    let after = count();
    let calls: Vec<u32> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(calls, [660, 60, 20]);
}

#[test]
fn polls_before_their_time_read_nothing() {
    let (gpu, mut sampler) = sampler();
    let next = sampler.poll(at(0)).next;
    assert_eq!(next, Duration::from_millis(100));
    let before = gpu.calls("memory");
    sampler.poll(at(50));
    assert_eq!(gpu.calls("memory"), before);
}

#[test]
fn the_beat_is_kept_after_a_late_poll_and_restarted_after_a_pause() {
    let (_, mut sampler) = sampler();
    sampler.poll(at(0));
    assert_eq!(sampler.poll(at(130)).next, Duration::from_millis(200));
    assert_eq!(sampler.poll(at(900)).next, Duration::from_millis(1000));
}

#[test]
fn a_peak_of_250_ms_is_seen_on_the_card_and_in_a_list() {
    for start in (2000..3000).step_by(100) {
        let (gpu, mut sampler) = sampler();
        gpu.holds(7, 10);
        let mut windows = run(&mut sampler, 0, start);
        gpu.holds(8, 500);
        windows.extend(run(&mut sampler, start + 100, start + 200));
        gpu.script().rows.pop();
        gpu.script().used = Bytes::mib(10).0;
        windows.extend(run(&mut sampler, start + 300, start + 1500));
        let card = windows
            .iter()
            .filter_map(|w| w.devices[0].used_peak.copied())
            .max();
        assert_eq!(card, Some(Bytes::mib(510)), "started at {start}");
        let seen = windows
            .iter()
            .flat_map(|w| &w.devices[0].lists)
            .any(|list| list.processes.len() == 2);
        assert!(seen, "no list of the peak that started at {start}");
    }
}

#[test]
fn a_beat_that_comes_a_little_early_does_not_lose_a_peak() {
    for jitter in [1, 3, 30, 60] {
        let (gpu, mut sampler) = sampler();
        gpu.holds(7, 10);
        run(&mut sampler, 0, 1000);
        let mut lists = Vec::new();
        for beat in 11..=20u64 {
            if beat == 12 {
                gpu.holds(8, 500);
            }
            if beat == 15 {
                gpu.script().rows.pop();
                gpu.script().used = Bytes::mib(10).0;
            }
            let early = if beat % 2 == 0 { jitter } else { 0 };
            let window = sampler.poll(at(beat * 100 + early)).window;
            lists.extend(
                window
                    .into_iter()
                    .flat_map(|mut window| window.devices.remove(0).lists),
            );
        }
        assert!(
            lists.iter().any(|list| list.processes.len() == 2),
            "jitter {jitter} ms"
        );
    }
}

#[test]
fn moving_memory_asks_for_at_most_five_lists_a_second_beside_the_regular_one() {
    let (gpu, mut sampler) = sampler();
    run(&mut sampler, 0, 1000);
    let before = gpu.calls("processes");
    for millis in (1100..=2000).step_by(100) {
        gpu.script().used = millis;
        sampler.poll(at(millis));
    }
    assert!(
        gpu.calls("processes") - before <= 6,
        "{}",
        gpu.calls("processes") - before
    );
}

#[test]
fn a_torn_list_is_read_again_and_counted() {
    let (gpu, mut sampler) = sampler();
    gpu.script().after_list = [500].into();
    let window = run(&mut sampler, 0, 1000).remove(0);
    let device = &window.devices[0];
    assert_eq!((device.torn, device.lists.len()), (1, 1));
    assert!(!device.lists[0].torn);
    assert_eq!(device.lists[0].memory.used, Bytes(500));
}

#[test]
fn a_list_torn_twice_is_told_from_a_whole_one() {
    let (gpu, mut sampler) = sampler();
    gpu.script().after_list = [500, 600].into();
    let window = run(&mut sampler, 0, 1000).remove(0);
    assert_eq!(window.devices[0].torn, 2);
    assert!(window.devices[0].lists[0].torn);
}

#[test]
fn time_under_the_floor_is_counted_and_a_sleep_invents_none() {
    let (gpu, mut sampler) = sampler();
    gpu.script().used = Bytes::mib(960).0;
    let under: Duration = run(&mut sampler, 0, 2000)
        .iter()
        .map(|w| w.devices[0].under_floor)
        .sum();
    assert_eq!(under, Duration::from_millis(2100));
    let window = sampler.poll(at(60_000)).window.unwrap();
    assert!(window.devices[0].under_floor <= Duration::from_millis(200));
}

#[test]
fn contexts_of_one_process_are_merged_and_pid_zero_rows_are_not() {
    let (gpu, mut sampler) = sampler();
    let row = |pid, kind, used| RawProcess {
        pid: HostPid(pid),
        kind,
        used,
    };
    gpu.script().rows = vec![
        row(7, ContextKind::Compute, Reading::Value(Bytes(10))),
        row(0, ContextKind::Compute, Reading::Value(Bytes(1))),
        row(
            7,
            ContextKind::Graphics,
            Reading::Failed(Cause::NotAvailable),
        ),
        row(0, ContextKind::Graphics, Reading::Value(Bytes(2))),
        row(8, ContextKind::Mps, Reading::Value(Bytes(3))),
    ];
    let window = run(&mut sampler, 0, 1000).remove(0);
    let listed: Vec<_> = window.devices[0].lists[0]
        .processes
        .iter()
        .map(|process| {
            (
                process.pid.0,
                process.kind,
                process.used.copied().map(|used| used.0),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            (0, ContextKind::Compute, Some(1)),
            (0, ContextKind::Graphics, Some(2)),
            (7, ContextKind::Compute, Some(10)),
            (8, ContextKind::Mps, Some(3)),
        ]
    );
}

#[test]
fn a_lost_gpu_closes_its_window_and_says_so() {
    let (gpu, mut sampler) = sampler();
    run(&mut sampler, 0, 500);
    gpu.script().error = Some(GpuError::Lost);
    let poll = sampler.poll(at(600));
    assert_eq!(poll.dead, Some(Cause::GpuLost));
    assert_eq!(poll.window.unwrap().up, Reading::Failed(Cause::GpuLost));
}

#[test]
fn a_passing_error_fails_its_readings_alone() {
    let (gpu, mut sampler) = sampler();
    run(&mut sampler, 0, 1000);
    gpu.script().error = Some(GpuError::Timeout);
    let windows = run(&mut sampler, 1100, 2000);
    assert_eq!(windows[0].up, Reading::Value(()));
    assert_eq!(
        windows[0].devices[0].memory,
        Reading::Failed(Cause::Timeout)
    );
    assert_eq!(windows[0].devices[0].lists_failed, Some(Cause::Timeout));
    gpu.script().error = None;
    assert!(
        run(&mut sampler, 2100, 3000)[0].devices[0]
            .memory
            .value()
            .is_some()
    );
}

#[test]
fn a_cut_list_ends_nobody() {
    let (gpu, mut sampler) = sampler();
    gpu.holds(7, 10);
    run(&mut sampler, 0, 1000);
    gpu.script().rows.clear();
    gpu.script().truncated = true;
    let windows = run(&mut sampler, 1100, 2000);
    assert!(!windows[0].devices[0].lists[0].complete);
    assert!(windows[0].drain.is_none());
}
