//! NVML through the real loader, against a scripted driver.

#![expect(clippy::expect_used, reason = "helpers of tests, which may panic")]

mod mig;
mod ring;
mod threads;

use std::path::Path;

use fake_nvml::control::Fake;
use fake_nvml::script::{Gpu, Process, Script, What};
use slicewatch::collect::nvml::gpu::NvmlGpu;
use slicewatch::collect::nvml::library::{self, LibraryError};
use slicewatch::model::{
    Bytes, Cause, ContextKind, GpuError, GpuSource, HostPid, RawProcess, Reading,
};
use tempfile::TempDir;

/// A driver with this script, and its first card.
struct Bench {
    fake: Fake,
    gpu: NvmlGpu,
    _folder: TempDir,
}

fn bench(script: &Script) -> Bench {
    bench_without(script, &[])
}

fn bench_without(script: &Script, symbols: &[&str]) -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::without(folder.path(), symbols);
    fake.set(script);
    let session = library::open(Some(fake.path())).expect("it opens");
    Bench {
        gpu: NvmlGpu::open(session, 0).expect("it has a card"),
        fake,
        _folder: folder,
    }
}

fn listed(gpu: &mut NvmlGpu) -> (Vec<RawProcess>, bool) {
    let mut rows = Vec::new();
    let complete = gpu.processes(0, &mut rows).expect("the list answers");
    (rows, complete)
}

const fn row(pid: u32, kind: ContextKind, used: Reading<Bytes>) -> RawProcess {
    RawProcess {
        pid: HostPid(pid),
        kind,
        used,
    }
}

#[test]
fn a_card_says_who_it_is() {
    let mut card = Gpu::h200(3);
    card.compute_mode = 3;
    let mut bench = bench(&Script::of(vec![card]));
    let identity = bench.gpu.card().clone();
    assert_eq!(
        identity.uuid.as_str(),
        "GPU-00000000-0000-0000-0000-000000000003"
    );
    assert_eq!(&*identity.index, "0");
    assert_eq!(&*identity.model, "NVIDIA H200");
    assert_eq!(identity.minor, Some(3));
    assert_eq!(&*identity.pci_bus_id, "00000000:1E:00.0");
    assert_eq!(&*identity.driver_version, "580.159.04");
    assert_eq!(identity.mig_enabled, Some(false));
    assert!(identity.exclusive_process);
    assert_eq!(bench.gpu.devices(), Ok(vec![identity]));
}

#[test]
fn a_card_without_mig_has_no_mig_mode() {
    let mut card = Gpu::h200(0);
    card.mig = None;
    let mut bench = bench(&Script::of(vec![card]));
    assert_eq!(bench.gpu.card().mig_enabled, None);
    assert_eq!(bench.gpu.mig_profiles(), Err(GpuError::Unsupported));
}

#[test]
fn memory_is_without_the_reserve_and_one_call() {
    let mut card = Gpu::h200(0);
    card.memory.used = 1 << 30;
    let mut bench = bench(&Script::of(vec![card]));
    let memory = bench.gpu.memory(0).expect("it answers");
    assert_eq!(memory.total, Bytes::mib(143_771));
    assert_eq!(memory.reserved, Reading::Value(Bytes::mib(615)));
    assert_eq!(memory.used, Bytes::gib(1));
    assert_eq!(memory.free, Bytes::mib(143_771 - 615 - 1024));
    assert_eq!(bench.fake.calls("nvmlDeviceGetMemoryInfo_v2"), 1);
    assert_eq!(bench.fake.calls("nvmlDeviceGetMemoryInfo"), 0);
}

#[test]
fn without_the_second_memory_call_the_reserve_is_unknown() {
    let mut card = Gpu::h200(0);
    card.memory.used = 1 << 30;
    let script = Script::of(vec![card]);
    let lacking = bench_without(&script, &["nvmlDeviceGetMemoryInfo_v2"]);
    // 25: NVML_ERROR_ARGUMENT_VERSION_MISMATCH.
    let refusing = bench(&script.with("nvmlDeviceGetMemoryInfo_v2", None, What::Code(25)));
    for mut bench in [lacking, refusing] {
        for _ in 0..3 {
            let memory = bench.gpu.memory(0).expect("the first version answers");
            assert_eq!(memory.reserved, Reading::Unsupported);
            assert_eq!(memory.used, Bytes::mib(1024 + 615));
        }
        assert!(bench.fake.calls("nvmlDeviceGetMemoryInfo_v2") <= 1);
        assert_eq!(bench.fake.calls("nvmlDeviceGetMemoryInfo"), 3);
    }
}

#[test]
fn lists_keep_kinds_and_what_the_driver_does_not_know() {
    let mut card = Gpu::h200(0);
    card.compute = vec![
        Process::mib(100, 512),
        Process {
            pid: 101,
            used: None,
        },
        Process::mib(0, 9),
    ];
    card.graphics = vec![Process::mib(100, 512)];
    card.mps = vec![Process::mib(102, 300)];
    let mut bench = bench(&Script::of(vec![card]));
    let (rows, complete) = listed(&mut bench.gpu);
    assert!(complete);
    assert_eq!(
        rows,
        [
            row(100, ContextKind::Compute, Reading::Value(Bytes::mib(512))),
            row(
                101,
                ContextKind::Compute,
                Reading::Failed(Cause::NotAvailable)
            ),
            row(0, ContextKind::Compute, Reading::Value(Bytes::mib(9))),
            row(100, ContextKind::Graphics, Reading::Value(Bytes::mib(512))),
            row(102, ContextKind::Mps, Reading::Value(Bytes::mib(300))),
        ]
    );
    for name in ["Compute", "Graphics", "MPSCompute"] {
        let symbol = format!("nvmlDeviceGet{name}RunningProcesses_v3");
        assert_eq!(
            bench.fake.calls(&symbol),
            1,
            "{symbol}: one call, no count first"
        );
    }
}

#[test]
fn a_short_buffer_is_asked_once_more_and_keeps_its_length() {
    let mut card = Gpu::h200(0);
    card.compute = (1..=200).map(|pid| Process::mib(pid, 1)).collect();
    let mut bench = bench(&Script::of(vec![card]));
    let symbol = "nvmlDeviceGetComputeRunningProcesses_v3";
    let (rows, complete) = listed(&mut bench.gpu);
    assert_eq!((rows.len(), complete), (200, true));
    assert_eq!(bench.fake.calls(symbol), 2);
    let (rows, complete) = listed(&mut bench.gpu);
    assert_eq!((rows.len(), complete), (200, true));
    assert_eq!(bench.fake.calls(symbol), 3, "the longer buffer was kept");
}

#[test]
fn a_list_that_stays_too_long_is_told_as_incomplete() {
    let mut card = Gpu::h200(0);
    card.compute = vec![Process::mib(100, 1), Process::mib(101, 1)];
    let script = Script::of(vec![card]);
    let symbol = "nvmlDeviceGetComputeRunningProcesses_v3";
    let mut once = bench(&script.clone().with(symbol, None, What::Short(1)));
    assert!(listed(&mut once.gpu).1);
    let mut always = bench(&script.with(symbol, None, What::Short(9)));
    let (rows, complete) = listed(&mut always.gpu);
    assert!(!complete);
    assert_eq!(rows.len(), 2, "what came is kept, no row is made up");
    assert_eq!(always.fake.calls(symbol), 2, "and it is retried once");
}

#[test]
fn older_list_calls_are_used_where_the_newer_are_missing() {
    let mut card = Gpu::h200(0);
    card.compute = vec![
        Process::mib(100, 512),
        Process {
            pid: 101,
            used: None,
        },
    ];
    card.graphics = vec![Process::mib(102, 8)];
    let script = Script::of(vec![card]);
    let v3 = [
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    ];
    let v2 = [
        "nvmlDeviceGetComputeRunningProcesses_v2",
        "nvmlDeviceGetGraphicsRunningProcesses_v2",
        "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    ];
    let mut second = bench_without(&script, &v3);
    assert_eq!(listed(&mut second.gpu).0.len(), 3);
    assert_eq!(second.fake.calls(v2[0]), 1);
    // The fake has no first version of the graphics list: that kind is then missing, no error.
    let mut first = bench_without(&script, &[v3, v2].concat());
    let (rows, complete) = listed(&mut first.gpu);
    assert!(complete);
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1].used, Reading::Failed(Cause::NotAvailable));
}

#[test]
fn errors_have_their_meaning() {
    let script = Script::of(vec![Gpu::h200(0)]);
    for (code, meaning) in [
        (1, GpuError::DriverNotLoaded),
        (3, GpuError::Unsupported),
        (4, GpuError::PermissionDenied),
        (9, GpuError::DriverNotLoaded),
        (10, GpuError::Timeout),
        (13, GpuError::Unsupported),
        (15, GpuError::Lost),
        (16, GpuError::Lost),
        (18, GpuError::DriverNotLoaded),
        (999, GpuError::Code(999)),
    ] {
        let mut bench = bench(&script.clone().with(
            "nvmlDeviceGetComputeRunningProcesses_v3",
            None,
            What::Code(code),
        ));
        let answer = bench.gpu.processes(0, &mut Vec::new());
        assert_eq!(answer, Err(meaning), "code {code}");
    }
    assert_eq!(
        bench(&script).gpu.memory(1),
        Err(GpuError::Code(2)),
        "a device that is not there"
    );
}

#[test]
fn a_failing_lesser_list_makes_the_list_incomplete_and_a_lost_card_an_error() {
    let script = Script::of(vec![Gpu::h200(0)]);
    let symbol = "nvmlDeviceGetGraphicsRunningProcesses_v3";
    for (code, expected) in [(3, Ok(true)), (999, Ok(false)), (15, Err(GpuError::Lost))] {
        let mut bench = bench(&script.clone().with(symbol, None, What::Code(code)));
        assert_eq!(bench.gpu.processes(0, &mut Vec::new()), expected);
    }
}

#[test]
fn xids_come_once_in_order_and_few_at_a_time() {
    let mut card = Gpu::h200(0);
    card.xids = (0..20).map(|i| 31 + i).collect();
    let mut bench = bench(&Script::of(vec![Gpu::h200(0)]));
    assert_eq!(bench.gpu.xids(), Ok(Vec::new()));
    bench.fake.set(&Script::of(vec![card]));
    let first = bench.gpu.xids().expect("it answers");
    assert_eq!(first.len(), 16);
    assert_eq!((first[0].xid, first[15].xid), (31, 46));
    assert_eq!(bench.gpu.xids().expect("it answers").len(), 4);
    assert_eq!(bench.gpu.xids(), Ok(Vec::new()));
    let mut none = bench_without(&Script::of(vec![Gpu::h200(0)]), &["nvmlEventSetCreate"]);
    assert_eq!(none.gpu.xids(), Err(GpuError::Unsupported));
}

#[test]
fn nvml_is_shut_down_with_the_last_card() {
    let bench = bench(&Script::of(vec![Gpu::h200(0)]));
    assert_eq!(bench.fake.opened(), 1);
    drop(bench.gpu);
    assert_eq!(bench.fake.opened(), 0);
    assert_eq!(bench.fake.calls("nvmlEventSetFree"), 1);
}

#[test]
fn a_library_that_will_not_do_is_named_with_the_mend() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("no-such.so");
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").expect("written");
    let old = Fake::copy(folder.path(), &["nvmlInit_v2"]);
    let cases: [(&Path, Cause, &str); 3] = [
        (&missing, Cause::NotFound, "--nvml-library"),
        (&text, Cause::Malformed, "--nvml-library"),
        (&old, Cause::Malformed, "nvmlInit_v2"),
    ];
    for (path, cause, words) in cases {
        let error = library::open(Some(path)).expect_err("it is no driver library");
        assert_eq!(error.cause(), cause, "{error}");
        let text = error.to_string();
        assert!(text.contains(&*path.to_string_lossy()), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_driver_that_is_not_loaded_is_told_apart_from_no_library() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::in_folder(folder.path());
    fake.set(&Script {
        unloaded: true,
        ..Script::default()
    });
    let error = library::open(Some(fake.path())).expect_err("there is no driver");
    assert!(matches!(error, LibraryError::Init { code: 9, .. }));
    assert_eq!(error.cause(), Cause::DriverNotLoaded);
    assert!(error.to_string().contains("not loaded"), "{error}");
}
