//! What is wrong from the start is named, and lived with.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::thread::scope;

use slicewatch::model::{Cause, Reading, Snapshot};

use super::*;
use crate::kubelet::fake::speak;

#[test]
fn a_driver_that_is_not_there_is_named_with_the_mend() {
    scope(|scope| {
        scope.spawn(|| {
            let host = Host::new(&Script::of(vec![Gpu::h200(0)]));
            let missing = host.text("libnvidia-ml.so.1");
            fs::remove_file(&missing).unwrap();
            let agent = host.agent();
            let health = agent.until_down(Source::Nvml, &[&missing, "--nvml-library"]);
            assert_eq!(health.up, Reading::Failed(Cause::NotFound));
            let metrics = agent.metrics();
            let finding = [("code", "nvml_library_missing")];
            assert_eq!(metrics.one("slicewatch_finding", &finding), Some(1.0));
            live_without_gpu(agent);
        });
        scope.spawn(|| {
            let host = Host::new(&Script::of(vec![Gpu::h200(0)]));
            let text = host.text("libnvidia-ml.so.1");
            fs::write(&text, "INPUT(-lnvidia-ml)").unwrap();
            let agent = host.agent();
            agent.until_down(Source::Nvml, &[&text, "--nvml-library"]);
            live_without_gpu(agent);
        });
        scope.spawn(|| {
            let mut script = Script::of(vec![Gpu::h200(0)]);
            script.unloaded = true;
            let host = Host::new(&script);
            let agent = host.agent();
            agent.until_down(Source::Nvml, &["NVML error 9", "load it"]);
            // And is taken up once it is there.
            script.unloaded = false;
            host.driver(&script);
            agent.until("the driver loaded", |snapshot| is_up(snapshot, 0));
            agent.end();
        });
        scope.spawn(|| {
            let host = Host::new(&Script::of(Vec::new()));
            let agent = host.agent();
            agent.until_down(Source::Nvml, &["shows no GPU", "NVIDIA_VISIBLE_DEVICES"]);
            live_without_gpu(agent);
        });
    });
}

fn live_without_gpu(agent: Agent) {
    assert!(agent.alive());
    assert_eq!(agent.get("/-/ready").0, 200);
    let snapshot = agent.snapshot().unwrap();
    assert!(snapshot.gpus.is_empty());
    let metrics = agent.metrics();
    assert!(
        !metrics
            .0
            .keys()
            .any(|name| name.starts_with("slicewatch_gpu_"))
    );
    assert!(agent.get("/").1.contains("GPU"));
    agent.end();
}

#[test]
fn a_kubelet_that_cannot_be_asked_is_named_with_the_mend() {
    let sick = |prepare: &dyn Fn(&Host), words: &[&str]| {
        let (host, kubelet) = Host::peopled();
        drop(kubelet);
        let _ = fs::remove_file(host.path("kubelet.sock"));
        prepare(&host);
        let agent = host.agent();
        let socket = host.text("kubelet.sock");
        let mut all = vec![socket.as_str()];
        all.extend(words);
        agent.until_down(Source::Kubelet, &all);
        live_by_residence(agent);
    };
    scope(|scope| {
        scope.spawn(|| sick(&|_| {}, &["no kubelet socket", "mount the host's folder"]));
        scope.spawn(|| {
            let file = |host: &Host| fs::write(host.path("kubelet.sock"), "").unwrap();
            sick(&file, &["is not a socket", "name the kubelet's"]);
        });
        scope.spawn(|| {
            let http = |host: &Host| {
                let words = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
                speak(&host.path("kubelet.sock"), words);
            };
            sick(&http, &["pod-resources"]);
        });
        scope.spawn(|| {
            let closed = |host: &Host| drop(host.kubelet(two_of_four()));
            sick(&closed, &["nobody listens", "systemctl status kubelet"]);
        });
    });
}

/// Without a grant known, who is resident is still told, and no share is made up.
fn live_by_residence(agent: Agent) {
    let snapshot = agent.until("both tenants by residence", |snapshot: &Snapshot| {
        is_resident(snapshot, &TRAINER) && is_resident(snapshot, &SERVER)
    });
    let gpu = &snapshot.gpus[0];
    assert_balanced(gpu);
    let trainer = row(gpu, &TRAINER).unwrap();
    assert!(trainer.replicas.value().is_none() && trainer.fair_share.value().is_none());
    assert!(gpu.replicas.value().is_none() && gpu.disagreements.value().is_none());
    let metrics = agent.metrics();
    assert_eq!(metrics.one("slicewatch_gpu_replicas", &[]), None);
    assert_eq!(metrics.of("slicewatch_pod_replicas", &TRAINER), None);
    assert_eq!(
        metrics.of("slicewatch_pod_framebuffer_bytes", &TRAINER),
        Some((1024 << 20) as f64)
    );
    assert!(agent.alive());
    agent.end();
}

#[test]
fn a_socket_that_may_not_be_opened_is_named_with_the_mend() {
    let (host, _kubelet) = Host::peopled();
    let mode = |name: &str, mode| {
        fs::set_permissions(host.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    mode("kubelet.sock", if is_root { 0o600 } else { 0 });
    mode("", 0o755);
    let mut command = host.command();
    if is_root {
        // Where root's own folders are closed to others, the binary must lie elsewhere.
        let copy = host.path("slicewatch");
        fs::copy(BINARY, &copy).unwrap();
        let mut other = Command::new(copy);
        other.args(command.get_args()).env_clear();
        other.env(SCRIPT_FILE, host.path("driver.json"));
        command = other;
        command.uid(65_534).gid(65_534);
    }
    let agent = Agent::start(command);
    let health = agent.until_down(
        Source::Kubelet,
        &["no permission", &host.text("kubelet.sock"), "user 0"],
    );
    assert_eq!(health.up, Reading::Failed(Cause::PermissionDenied));
    let finding = [("code", "kubelet_socket_refused")];
    assert_eq!(
        agent.metrics().one("slicewatch_finding", &finding),
        Some(1.0)
    );
    // SIGTERM comes from its parent, which may send it.
    live_by_residence(agent);
}

#[test]
fn a_port_in_use_ends_it_with_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for args in [
        vec!["agent", "--listen", &address, "--kubelet-socket", "none"],
        vec!["demo", "--listen", &address],
    ] {
        let ended = output(Command::new(BINARY).env_clear().args(args));
        assert_eq!(ended.status.code(), Some(1));
        let error = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.contains(&address) && error.contains("another address"),
            "{error}"
        );
    }
}
