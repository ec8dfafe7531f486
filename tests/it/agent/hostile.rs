//! Answers and names that nobody should give.

use slicewatch::model::Reading;

use super::*;
use crate::kubelet::fake;

#[test]
fn hostile_names_leave_the_scrape_readable() {
    let (host, kubelet) = Host::peopled();
    let uuid = Gpu::h200(0).uuid;
    let long = "x".repeat(253);
    let names = [
        "quo\"te",
        "new\nline",
        "back\\slash\\n",
        "\u{1F4A3}\u{202E}bomb",
        "",
        "\u{0}nul\u{7}",
        "{le=\"+Inf\"} 1\n# TYPE slicewatch_gpu_up counter",
        &long,
    ];
    kubelet.script(|script| {
        let mut pods = vec![];
        for (i, name) in names.iter().enumerate() {
            let id = format!("{uuid}::{i}");
            let row = || vec![devices("nvidia.com/gpu", [&*id])];
            pods.push(pod(name, name, name, row()));
            // The same name twice, and one that differs only in what escaping could lose.
            pods.push(pod(name, name, name, row()));
            pods.push(pod(name, &name.replace('\n', "\\n"), name, row()));
        }
        let odd = [
            "GPU-who?",
            "\"}\n",
            "nvidia99/vgpu0",
            "",
            "::",
            "MIG-GPU-/1/",
            "\u{1F4A3}::7",
        ];
        pods.push(pod(
            "odd",
            "devices",
            "c",
            vec![devices("nvidia.com/gpu", odd)],
        ));
        pods.push(pod(
            "odd",
            "other",
            "c",
            vec![devices("nvidia.com/gpu\"\n", odd)],
        ));
        *script = fake::script(pods, vec![devices("nvidia.com/gpu", odd)]);
    });
    let uid = "2e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b33";
    for name in names.iter().filter(|name| !name.contains('\0')) {
        let name = name.replace('/', "-");
        // Longer than a file's name may be, some are not there: the kernel refuses them too.
        let _ = fs::create_dir(host.path(&format!("pods/ns_{name}_{uid}")));
        let _ = fs::create_dir(host.path(&format!("pods/{name}")));
        let log = format!("containers/{name}_ns_c-{}.log", "c".repeat(64));
        let _ = fs::write(host.path(&log), "");
    }
    // A process that names itself so, in a cgroup that does.
    host.process(
        TRAINER.pid,
        "a) R \"\n\u{1F4A3}",
        "0::/kubepods/pod\"\n\u{1F4A3}/..\n",
    );
    let agent = host.agent();
    let snapshot = agent.until("the names", |snapshot| {
        snapshot.gpus.first().is_some_and(|gpu| {
            gpu.processes.len() == 3 && gpu.containers.iter().any(|row| &*row.pod == "quo\"te")
        })
    });
    assert_balanced(&snapshot.gpus[0]);
    assert!(is_resident(&snapshot, &SERVER));
    let metrics = agent.metrics();
    for name in names
        .iter()
        .filter(|name| !name.is_empty() && !name.contains('\0'))
    {
        let labels = [("namespace", *name), ("pod", *name)];
        let replicas = metrics.one("slicewatch_pod_replicas", &labels);
        assert!(replicas.is_some(), "{name:?}");
    }
    for path in ["/", "/metrics", "/-/healthy"] {
        assert_eq!(agent.get(path).0, 200, "{path}");
    }
    assert!(
        !agent
            .get("/")
            .1
            .contains("\n# TYPE slicewatch_gpu_up counter\n")
    );
    agent.end();
}

#[test]
fn a_device_that_nobody_knows_and_an_answer_of_any_size_are_lived_with() {
    let (host, kubelet) = Host::peopled();
    let agent = host.agent();
    let granted = |snapshot: &Snapshot, wanted: u32| {
        snapshot
            .gpus
            .first()
            .and_then(|gpu| row(gpu, &TRAINER))
            .is_some_and(|row| row.replicas == Reading::Value(wanted))
    };
    agent.until("one replica", |snapshot| granted(snapshot, 1));
    let uuid = Gpu::h200(0).uuid;
    let stranger = "GPU-99999999-0000-0000-0000-000000000000";
    // 72 bytes each on the wire, with tag and length: 220,000 of them are 15.1 MiB.
    let ids = |count: usize| -> Vec<String> {
        (0..count)
            .map(|n| format!("{stranger}-padded-to-seventy::{n:012}"))
            .collect()
    };
    let answer = |count: usize, replicas: u32| {
        let own: Vec<String> = (0..replicas).map(|n| format!("{uuid}::{n}")).collect();
        let own = devices("nvidia.com/gpu", own.iter().map(String::as_str));
        let many = ids(count);
        let many = devices("nvidia.com/gpu", many.iter().map(String::as_str));
        fake::script(
            vec![
                pod("team-a", "trainer-0", "main", vec![own]),
                pod("team-z", "stranger", "main", vec![many]),
            ],
            vec![],
        )
    };
    kubelet.script(|script| *script = answer(220_000, 2));
    let snapshot = agent.until("the large answer", |snapshot| granted(snapshot, 2));
    // A grant of a device that is not on this node makes no row on one that is.
    assert!(
        !snapshot.gpus[0]
            .containers
            .iter()
            .any(|row| &*row.pod == "stranger")
    );
    assert_balanced(&snapshot.gpus[0]);

    kubelet.script(|script| *script = answer(260_000, 3));
    agent.until_down(
        Source::Kubelet,
        &["larger than 16 MiB", "lower the replicas"],
    );
    assert!(
        granted(&agent.snapshot().unwrap(), 2),
        "the last answer is believed for a while"
    );

    kubelet.script(|script| *script = answer(3, 1));
    agent.until("small again", |snapshot| granted(snapshot, 1));
    agent.metrics();
    agent.end();
}
