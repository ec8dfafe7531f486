//! The real binary as a process, with a scripted driver, a kubelet on a unix socket and a made
//! host tree, seen over HTTP as Prometheus sees it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod canary;
mod churn;
mod cluster;
mod faults;
mod host_tree;
mod hostile;
mod start;
mod whole_path;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fake_nvml::control::{Fake, SCRIPT_FILE, write};
use fake_nvml::script::{Gpu, Process, Sample, Script};
use slicewatch::model::{ContainerView, GpuView, Snapshot, Source, SourceHealth};
use tempfile::TempDir;

use crate::kubelet::fake::{FakeKubelet, Script as KubeletScript, devices, pod, script};
use crate::publish::parse::{self, Families};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_slicewatch");
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";
/// Long enough on a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pod of the made node.
#[derive(Clone, Copy)]
struct Tenant {
    namespace: &'static str,
    pod: &'static str,
    container: &'static str,
    uid: &'static str,
    /// One hex digit, which makes the whole container id.
    id: char,
    pid: u32,
}

const TRAINER: Tenant = Tenant {
    namespace: "team-a",
    pod: "trainer-0",
    container: "main",
    uid: "0e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b11",
    id: 'a',
    pid: 4101,
};
const SERVER: Tenant = Tenant {
    namespace: "team-b",
    pod: "server-7c9d",
    container: "cuda",
    uid: "1e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b22",
    id: 'b',
    pid: 4102,
};
const DAEMON: u32 = 900;

/// A made node in a folder.
struct Host {
    folder: TempDir,
}

impl Host {
    /// In the host's PID namespace, with a driver of these cards and no process.
    fn new(driver: &Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Self { folder };
        for name in ["proc/self/ns", "pods", "containers"] {
            fs::create_dir_all(host.path(name)).unwrap();
        }
        host.namespace(INITIAL_NAMESPACE);
        Fake::copy(host.folder.path(), &[]);
        host.driver(driver);
        host
    }

    /// With the two tenants and the daemon, each with 1, 2 and 3 GiB, on the first card.
    fn peopled() -> (Self, FakeKubelet) {
        let host = Self::new(&Script::of(vec![busy_card()]));
        host.move_in(&TRAINER);
        host.move_in(&SERVER);
        host.process(DAEMON, "nv-hostengine", "0::/system.slice/dcgm.service\n");
        let kubelet = host.kubelet(two_of_four());
        (host, kubelet)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn driver(&self, script: &Script) {
        write(&self.path("driver.json"), script);
    }

    fn kubelet(&self, script: KubeletScript) -> FakeKubelet {
        FakeKubelet::start(&self.path("kubelet.sock"), script)
    }

    fn namespace(&self, link: &str) {
        let path = self.path("proc/self/ns/pid");
        let _ = fs::remove_file(&path);
        symlink(link, path).unwrap();
    }

    fn process(&self, pid: u32, name: &str, cgroup: &str) {
        let folder = self.path(&format!("proc/{pid}"));
        fs::create_dir_all(&folder).unwrap();
        let stat = format!(
            "{pid} ({name}) S 1 1 1 0 -1 4194304 144 0 0 0 0 0 0 0 20 0 1 0 {} 2990080 411 0\n",
            269_000 + u64::from(pid)
        );
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("cgroup"), cgroup).unwrap();
    }

    fn end_process(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
    }

    fn logs(tenant: &Tenant) -> (String, String) {
        let Tenant {
            namespace,
            pod,
            container,
            uid,
            ..
        } = tenant;
        let id = tenant.container_id();
        (
            format!("pods/{namespace}_{pod}_{uid}"),
            format!("containers/{pod}_{namespace}_{container}-{id}.log"),
        )
    }

    /// A pod's process and its log folders.
    fn move_in(&self, tenant: &Tenant) {
        let uid = tenant.uid.replace('-', "_");
        let cgroup = format!(
            "0::/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{}.scope\n",
            tenant.container_id()
        );
        self.process(tenant.pid, "python3", &cgroup);
        let (pods, containers) = Self::logs(tenant);
        fs::create_dir_all(self.path(&pods)).unwrap();
        fs::write(self.path(&containers), "").unwrap();
    }

    fn move_out(&self, tenant: &Tenant) {
        self.end_process(tenant.pid);
        let (pods, containers) = Self::logs(tenant);
        fs::remove_dir_all(self.path(&pods)).unwrap();
        fs::remove_file(self.path(&containers)).unwrap();
    }

    /// The agent's command on this node, listening on a port of its own.
    fn command(&self) -> Command {
        self.command_with_socket(&self.text("kubelet.sock"))
    }

    fn command_with_socket(&self, socket: &str) -> Command {
        let mut command = Command::new(BINARY);
        command
            .env_clear()
            .env(SCRIPT_FILE, self.path("driver.json"))
            // Its own tests switch it on.
            .env("SLICEWATCH_CANARY", "off");
        command.args(["agent", "--listen", "127.0.0.1:0"]);
        for (flag, file) in [
            ("--nvml-library", "libnvidia-ml.so.1"),
            ("--proc-root", "proc"),
            ("--pod-log-dir", "pods"),
            ("--container-log-dir", "containers"),
        ] {
            command.args([flag, &self.text(file)]);
        }
        command.args(["--kubelet-socket", socket]);
        command.args(["--kubelet-period", "1s", "--drain-period", "1s"]);
        command.args(["--nvml-hang-after", "500ms"]);
        command
    }

    fn agent(&self) -> Agent {
        Agent::start(self.command())
    }
}

impl Tenant {
    fn container_id(&self) -> String {
        self.id.to_string().repeat(64)
    }
}

/// A card with both tenants and the daemon, 16 MiB that nobody explains, and a minute of ring: of
/// each ten samples five are the trainer's, three the server's, one the daemon's, one is idle.
fn busy_card() -> Gpu {
    let mut gpu = Gpu::h200(0);
    gpu.compute = vec![
        Process::mib(TRAINER.pid, 1024),
        Process::mib(SERVER.pid, 2048),
        Process::mib(DAEMON, 3072),
    ];
    gpu.memory.used = (1024 + 2048 + 3072 + 16) << 20;
    gpu.ring_in_time = true;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    gpu.ring = (0..400)
        .map(|i: u64| {
            let winner = match i % 10 {
                0 | 2 | 4 | 6 | 8 => Some(TRAINER.pid),
                1 | 5 | 9 => Some(SERVER.pid),
                3 => Some(DAEMON),
                _ => None,
            };
            Sample {
                // A little of the past: the first read of the ring is its anchor.
                at: now.as_micros() as u64 - 3_000_000 + i * 200_000,
                winner,
                percent: if winner.is_some() { 98 } else { 0 },
            }
        })
        .collect();
    gpu
}

/// The trainer has one of four replicas of the first card, the server two.
fn two_of_four() -> KubeletScript {
    let uuid = Gpu::h200(0).uuid;
    let row = |replicas: &[u32]| {
        let ids: Vec<String> = replicas.iter().map(|n| format!("{uuid}::{n}")).collect();
        devices("nvidia.com/gpu", ids.iter().map(String::as_str))
    };
    script(
        vec![
            pod("team-a", "trainer-0", "main", vec![row(&[0])]),
            pod("team-b", "server-7c9d", "cuda", vec![row(&[1, 2])]),
        ],
        vec![row(&[0, 1, 2, 3])],
    )
}

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Agent {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        let mut child = loop {
            match command.spawn() {
                Ok(child) => break child,
                // A fork of another test's still holds the copy open for writing.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("{error}"),
            }
        };
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap());
        let into = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.split(b'\n').map_while(Result::ok) {
                let mut log = into.lock().unwrap();
                log.push_str(&String::from_utf8_lossy(&line));
                log.push('\n');
            }
        });
        let mut agent = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
        };
        let address = agent.until_log("serving address=");
        let address = address.split("address=").nth(1).unwrap();
        agent.address = address.split_whitespace().next().unwrap().parse().unwrap();
        agent
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The first line of the log with these words.
    fn until_log(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line {words:?} in:\n{log}");
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn alive(&self) -> bool {
        self.get("/-/healthy").0 == 200
    }

    /// A scrape, read with a strict parser.
    fn metrics(&self) -> Metrics {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        Metrics(parse::text(&body).unwrap_or_else(|error| panic!("{error}\n{body}")))
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let (status, body) = self.get("/api/v1/snapshot");
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    /// Waits for a snapshot that is as wanted.
    fn until(&self, what: &str, mut wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.snapshot();
            if let Some(snapshot) = snapshot.as_ref().filter(|snapshot| wanted(snapshot)) {
                return snapshot.clone();
            }
            assert!(
                Instant::now() < deadline,
                "not {what}: {snapshot:#?}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a source is down with these words, which the log has too; gives its health.
    fn until_down(&self, source: Source, words: &[&str]) -> SourceHealth {
        let down = |health: &SourceHealth| {
            health.up.value().is_none() && words.iter().all(|word| health.detail.contains(word))
        };
        let snapshot = self.until(&format!("{source:?} down with {words:?}"), |snapshot| {
            snapshot.source(source).is_some_and(down)
        });
        let log = self.log();
        assert!(
            log.lines()
                .any(|line| line.contains("WARN") && words.iter().all(|word| line.contains(word))),
            "no one line with {words:?} in:\n{log}"
        );
        let up = self
            .metrics()
            .one("slicewatch_source_up", &[("source", source.label())]);
        assert_eq!(up, Some(0.0), "{source:?}");
        snapshot.source(source).unwrap().clone()
    }

    /// Sends SIGTERM; gives how long it took to end, how, and the log, in which nothing panicked.
    pub(crate) fn end(mut self) -> (Duration, String) {
        let sent = Instant::now();
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = wait(&mut self.child);
        let took = sent.elapsed();
        let log = self.log();
        assert!(status.success(), "{status}:\n{log}");
        assert!(!log.contains("panicked"), "{log}");
        assert!(
            took < Duration::from_secs(2),
            "it took {took:?} to end:\n{log}"
        );
        (took, log)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it does not end");
        }
        sleep(Duration::from_millis(5));
    }
}

/// One scrape.
struct Metrics(Families);

impl Metrics {
    /// The value of the one series with these labels among its own; `None` where there is none.
    fn one(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let (_, series) = self.0.get(name)?;
        let mut found = series.iter().filter(|(own, _)| {
            labels
                .iter()
                .all(|(label, value)| own.get(*label).is_some_and(|own| own == value))
        });
        let value = found.next().map(|(_, value)| *value);
        assert!(found.next().is_none(), "{name} {labels:?} more than once");
        value
    }

    fn of(&self, name: &str, tenant: &Tenant) -> Option<f64> {
        self.one(
            name,
            &[("namespace", tenant.namespace), ("pod", tenant.pod)],
        )
    }
}

/// The row of a tenant, present or not.
fn row<'gpu>(gpu: &'gpu GpuView, tenant: &Tenant) -> Option<&'gpu ContainerView> {
    gpu.containers
        .iter()
        .find(|row| &*row.namespace == tenant.namespace && &*row.pod == tenant.pod)
}

/// Whether the tenant has a process on the first card.
fn is_resident(snapshot: &Snapshot, tenant: &Tenant) -> bool {
    snapshot
        .gpus
        .first()
        .and_then(|gpu| row(gpu, tenant))
        .is_some_and(|row| row.processes > 0)
}

fn is_up(snapshot: &Snapshot, gpu: usize) -> bool {
    snapshot
        .gpus
        .get(gpu)
        .is_some_and(|gpu| gpu.up.value().is_some())
}

/// Rows, named remainders and the unexplained rest are what the device says is used.
fn assert_balanced(gpu: &GpuView) {
    let rows: u64 = gpu
        .containers
        .iter()
        .filter_map(|row| row.memory.copied())
        .map(|bytes| bytes.0)
        .sum();
    let named: u64 = gpu
        .unattributed
        .value()
        .unwrap_or_else(|| panic!("{gpu:#?}"))
        .values()
        .map(|bytes| bytes.0)
        .sum();
    let unexplained = gpu.unexplained.copied().unwrap();
    assert_eq!(
        i128::from(rows + named) + i128::from(unexplained.0),
        i128::from(gpu.memory.copied().unwrap().used.0),
        "{gpu:#?}"
    );
}

/// A command that is to end by itself.
pub(crate) fn output(command: &mut Command) -> Output {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}
