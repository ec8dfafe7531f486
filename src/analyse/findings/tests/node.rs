//! Labels against what is offered.

use super::*;
use crate::model::{DraClaim, MigInstance};

type Labels = &'static [(&'static str, &'static str)];

const COUNT: (&str, &str) = ("nvidia.com/gpu.count", "1");

/// One card of which the plugin offers so many replicas, and the node's labels.
fn node(replicas: u32, labels: &[(&str, &str)]) -> Watch {
    let mut watch = Watch::of([GpuView {
        replicas: Reading::Value(replicas),
        sharing: match replicas {
            1 => Sharing::None,
            _ => Sharing::TimeSlicing,
        },
        ..gpu("GPU-0")
    }]);
    watch.snapshot.node_facts = facts(labels, &[("nvidia.com/gpu", replicas.into())]);
    watch
}

/// The names in a command are the operator's.
const ELSEWHERE: [&str; 2] = [
    "with the operator: kubectl ",
    "slicewatch check --node node-1 tells the exact one elsewhere",
];

#[test]
fn labels_against_what_the_plugin_offers() {
    const REPLICAS: &str = "nvidia.com/gpu.replicas";
    const PRODUCT: &str = "nvidia.com/gpu.product";
    const STRATEGY: &str = "nvidia.com/gpu.sharing-strategy";
    const FORCE: &str = "sharing_not_in_force";
    const DATE: &str = "labels_out_of_date";
    let cases: [(u32, Labels, Option<&str>, &str); 16] = [
        (
            1,
            &[(REPLICAS, "4")],
            Some(FORCE),
            "gpu.replicas=4, and the plugin offers 1 of each of 1",
        ),
        (
            1,
            &[(PRODUCT, "NVIDIA-H100-SHARED")],
            Some(FORCE),
            "product=NVIDIA-H100-SHARED",
        ),
        (
            1,
            &[(STRATEGY, "time-slicing")],
            Some(FORCE),
            "the plugin shares none; allocatable nvidia.com/gpu=1",
        ),
        (1, &[(STRATEGY, "mps")], Some(FORCE), "rollout restart"),
        (
            1,
            &[
                (REPLICAS, "1"),
                (PRODUCT, "NVIDIA-H100"),
                (STRATEGY, "none"),
            ],
            None,
            "",
        ),
        (
            4,
            &[(REPLICAS, "8")],
            Some(DATE),
            "gpu.replicas=8, and the plugin offers 4",
        ),
        (4, &[(REPLICAS, "1")], Some(DATE), "gpu.replicas=1"),
        (
            4,
            &[(PRODUCT, "NVIDIA-H100")],
            Some(DATE),
            "product=NVIDIA-H100",
        ),
        (
            4,
            &[(STRATEGY, "none")],
            Some(DATE),
            "sharing-strategy=none",
        ),
        (4, &[(REPLICAS, "4"), (STRATEGY, "time-slicing")], None, ""),
        (4, &[(STRATEGY, "mps")], None, ""),
        // Not told, or told in words that are not understood.
        (4, &[(REPLICAS, "0")], None, ""),
        (4, &[(REPLICAS, "many"), (STRATEGY, "else")], None, ""),
        (4, &[], None, ""),
        // Not offered at all: the GPU is unhealthy, or there is no plugin.
        (0, &[(REPLICAS, "4"), (STRATEGY, "time-slicing")], None, ""),
        (
            4,
            &[("nvidia.com/gpu.count", "2")],
            Some(DATE),
            "gpu.count=2, and the driver shows 1",
        ),
    ];
    for (replicas, labels, code, words) in cases {
        let mut all = vec![COUNT];
        all.extend(labels);
        let mut watch = node(replicas, &all);
        assert!(watch.after(180).is_empty(), "not before it has settled");
        let found = watch.after(30).join(" ");
        assert_eq!(found, code.unwrap_or_default(), "{replicas} {labels:?}");
        if let Some(code) = code {
            watch.assert_words(code, "node-1", &[words, "allocatable"]);
            watch.assert_words(code, "node-1", &ELSEWHERE);
            watch.snapshot.node_facts = facts(&[COUNT], &[]);
            assert!(watch.after(1).is_empty(), "mended");
        }
    }
}

#[test]
fn a_renamed_resource_has_no_suffix() {
    let product = ("nvidia.com/gpu.product", "NVIDIA-H100");
    let mut watch = node(4, &[]);
    let resources = [("nvidia.com/gpu", 0), ("nvidia.com/gpu.shared", 4)];
    watch.snapshot.node_facts = facts(&[COUNT, product], &resources);
    assert!(watch.after(WHILE).is_empty());
}

#[test]
fn without_feature_discovery_or_an_answer_there_is_nothing_to_compare() {
    let replicas = ("nvidia.com/gpu.replicas", "4");
    assert!(node(1, &[replicas]).after(WHILE).is_empty());
    let mut watch = node(1, &[COUNT, replicas]);
    assert_eq!(watch.after(200), ["sharing_not_in_force"]);
    watch.snapshot.node_facts = Reading::Failed(UNKNOWN);
    assert_eq!(
        watch.after(29),
        ["sharing_not_in_force"],
        "a moment's silence"
    );
    assert!(watch.after(5).is_empty(), "unknown is no finding");
}

#[test]
fn without_the_kubelet_capacity_by_cards_tells() {
    let replicas = ("nvidia.com/gpu.replicas", "4");
    let two = || ["GPU-0", "GPU-1"].map(gpu);
    let blind = |gpu| GpuView {
        replicas: Reading::Unsupported,
        ..gpu
    };
    let count = ("nvidia.com/gpu.count", "2");
    for (resources, code) in [
        (&[("nvidia.com/gpu", 2)][..], "sharing_not_in_force"),
        (&[("nvidia.com/gpu", 4)], "labels_out_of_date"),
        (&[("nvidia.com/gpu", 8)], ""),
        (&[("nvidia.com/gpu", 3)], ""),
        (&[("nvidia.com/gpu", 2), ("nvidia.com/gpu.shared", 8)], ""),
        (&[], ""),
    ] {
        let mut watch = Watch::of(two().map(blind));
        watch.snapshot.node_facts = facts(&[count, replicas], resources);
        assert_eq!(watch.after(WHILE).join(" "), code, "{resources:?}");
    }
}

/// A card in MIG mode with one instance, of which so many replicas are offered.
fn mig(replicas: Reading<u32>, labels: &[(&str, &str)]) -> Watch {
    let card = GpuIdentity {
        mig_enabled: Some(true),
        ..GpuIdentity::clone(&gpu("GPU-7").identity)
    };
    let instance = GpuIdentity {
        uuid: GpuUuid::new("MIG-1"),
        parent: Some(card.uuid.clone()),
        mig: Some(MigInstance {
            profile: "1g.10gb+me".into(),
            gpu_instance: 1,
            compute_instance: 0,
        }),
        ..card.clone()
    };
    let of = |identity, replicas| GpuView {
        identity: Arc::new(identity),
        replicas,
        ..gpu("GPU-7")
    };
    let mut watch = Watch::of([of(instance, replicas)]);
    watch.snapshot.gpus[0].sharing = Sharing::None;
    watch.snapshot.mig_cards = vec![of(card, Reading::Unsupported)];
    let mut all = vec![COUNT];
    all.extend(labels);
    watch.snapshot.node_facts = facts(&all, &[("nvidia.com/gpu", 1)]);
    watch
}

#[test]
fn mig_mode_against_the_strategy() {
    const STRATEGY: &str = "nvidia.com/mig.strategy";
    const CODE: &str = "mig_with_strategy_none";
    let (not, one) = (Reading::Unsupported, Reading::Value(1));
    let cases: [(Reading<u32>, Labels, &str); 8] = [
        // The kubelet does not say, and no label does: behind, or of strategy none.
        (Reading::Failed(UNKNOWN), &[], ""),
        (not, &[], CODE),
        (not, &[(STRATEGY, "none")], CODE),
        (Reading::Failed(UNKNOWN), &[(STRATEGY, "none")], CODE),
        (not, &[(STRATEGY, "mixed")], ""),
        (not, &[(STRATEGY, "single")], ""),
        // The plugin offers the instance: it is the label that is behind.
        (one, &[], ""),
        (not, &[("nvidia.com/mig.config.state", "pending")], ""),
    ];
    for (replicas, labels, code) in cases {
        let mut watch = mig(replicas, labels);
        assert_eq!(watch.after(200).join(" "), code, "{replicas:?} {labels:?}");
        if code == CODE {
            let words = [
                "MIG mode of GPU-7 is on, with 1 instances",
                "strategy",
                "clusterpolicies",
            ];
            watch.assert_words(CODE, "GPU-7", &words);
            watch.assert_words(CODE, "GPU-7", &ELSEWHERE);
            assert_eq!(watch.one(CODE).severity, Severity::Error);
        }
    }
}

#[test]
fn an_instances_labels_are_those_of_its_profile() {
    let mixed = ("nvidia.com/mig.strategy", "mixed");
    let replicas = ("nvidia.com/mig-1g.10gb.me.replicas", "2");
    let mut watch = mig(Reading::Value(1), &[mixed, replicas]);
    watch.after(200);
    watch.assert_words(
        "sharing_not_in_force",
        "node-1",
        &["mig-1g.10gb.me.replicas=2"],
    );
    let single = ("nvidia.com/mig.strategy", "single");
    let replicas = ("nvidia.com/gpu.replicas", "4");
    let mut watch = mig(Reading::Value(2), &[single, replicas]);
    assert_eq!(watch.after(200), ["labels_out_of_date"]);
}

#[test]
fn instances_that_dra_serves_need_no_strategy() {
    const CODE: &str = "mig_with_strategy_none";
    let claim = DraClaim {
        namespace: "a".into(),
        name: "claim".into(),
        devices: Vec::new(),
    };
    let mut watch = mig(Reading::Unsupported, &[]);
    watch.snapshot.gpus[0].containers = vec![ContainerView {
        replicas: Reading::Value(0),
        claims: vec![claim],
        ..row("a/claimant")
    }];
    assert!(watch.after(WHILE).is_empty(), "{:?}", watch.found);
    // Nor does a node whose plugin is gone; Kubernetes leaves the name of its resource behind.
    for resources in [&[][..], &[("nvidia.com/gpu", 0)]] {
        let mut watch = mig(Reading::Unsupported, &[]);
        watch.snapshot.node_facts = facts(&[COUNT], resources);
        assert!(watch.after(WHILE).is_empty(), "{:?}", watch.found);
    }
    let mut watch = mig(Reading::Unsupported, &[]);
    assert_eq!(watch.after(WHILE), [CODE]);
    watch.snapshot.gpus[0].replicas = Reading::Failed(UNKNOWN);
    assert_eq!(watch.after(30), [CODE], "a moment's silence");
    assert!(watch.after(1).is_empty());
}

#[test]
fn what_a_gpu_or_a_kubelet_that_is_silent_offers_is_unknown() {
    let down = |gpu: &mut GpuView| {
        gpu.up = Reading::Failed(Cause::GpuLost);
        gpu.replicas = Reading::Unsupported;
    };
    let silent = |gpu: &mut GpuView| gpu.replicas = Reading::Failed(UNKNOWN);
    for (replicas, says, code) in [
        (1, "4", "sharing_not_in_force"),
        (4, "8", "labels_out_of_date"),
    ] {
        for blind in [&down as &dyn Fn(&mut GpuView), &silent] {
            let labels = [COUNT, ("nvidia.com/gpu.replicas", says)];
            let mut watch = node(replicas, &labels);
            assert_eq!(watch.after(200), [code]);
            blind(&mut watch.snapshot.gpus[0]);
            watch.snapshot.node_facts = facts(&labels, &[]);
            assert_eq!(watch.after(30), [code]);
            assert!(watch.after(1).is_empty(), "{:?}", watch.found);
        }
    }
}
