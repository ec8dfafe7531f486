use super::*;
use crate::analyse::setup::tests::fixture::PROFILE;

const NAME: &str = "spec.devicePlugin.config.name";

#[test]
fn wiring_of_the_operator() {
    try_all(
        operator,
        &[
            (
                "the ConfigMap is gone",
                |it| it.maps().clear(),
                &["config_map_missing"],
            ),
            (
                "its default is no key",
                |it| {
                    it.policy().config_default = Some("anny".into());
                    it.wire(|wiring| wiring.default_config = Some("anny".into()));
                },
                &["default_names_missing_key"],
            ),
            (
                "default and ConfigMap taken out, and the nodes followed",
                |it| {
                    it.policy().config_name = None;
                    it.wire(|wiring| wiring.config_map = None);
                    it.offer("nvidia.com/gpu", 2);
                    it.label("nvidia.com/gpu.replicas", "1");
                    it.label("nvidia.com/gpu.product", "Tesla-T4");
                    it.label("nvidia.com/gpu.sharing-strategy", "none");
                },
                &["config_not_wired"],
            ),
            (
                "one more ConfigMap that nothing names",
                |it| {
                    let mut other = it.map().clone();
                    other.name = "time-slicing-config-fine".into();
                    it.maps().push(other);
                },
                &["config_not_wired"],
            ),
            (
                "an earlier content, kept by kustomize",
                |it| {
                    let mut other = it.map().clone();
                    other.name = "time-slicing-config-8c5tk2mgf4".into();
                    it.maps().push(other);
                },
                &[],
            ),
            (
                "an unnamed one without sharing",
                |it| {
                    let mut other = it.map().clone();
                    other.name = "whole".into();
                    other.data.remove("any");
                    it.maps().push(other);
                },
                &[],
            ),
            (
                "a name with a full stop",
                |it| {
                    it.policy().config_name = Some("time.slicing".into());
                    it.map().name = "time.slicing".into();
                    it.wire(|wiring| wiring.config_map = Some("time.slicing".into()));
                },
                &["config_map_name_unusable"],
            ),
            (
                "a name that the pods have",
                |it| {
                    it.policy().config_name = Some("config".into());
                    it.map().name = "config".into();
                    it.wire(|wiring| wiring.config_map = Some("config".into()));
                },
                &["config_map_name_unusable"],
            ),
            (
                "no key at all",
                |it| it.map().data.clear(),
                &["config_map_empty"],
            ),
            (
                "replicas as megabytes",
                |it| {
                    it.profile("replicas: 4", "replicas: 16384");
                    it.offer("nvidia.com/gpu", 32768);
                    it.label("nvidia.com/gpu.replicas", "16384");
                },
                &["replicas_look_like_megabytes"],
            ),
            (
                "mps beside time-slicing",
                |it| {
                    it.profile(
                        "sharing:\n",
                        "sharing:\n  mps:\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 4\n",
                    );
                    it.label("nvidia.com/gpu.sharing-strategy", "mps");
                },
                &["mps_wins"],
            ),
            (
                "a profile that the plugin refuses",
                |it| it.profile("version: v1", "version: v2"),
                &["unknown_version"],
            ),
        ],
    );
}

#[test]
fn wiring_of_the_plugin_alone() {
    try_all(
        alone,
        &[
            (
                "the ConfigMap is gone",
                |it| it.maps().clear(),
                &["config_map_missing"],
            ),
            (
                "its default is no key",
                |it| it.wire(|wiring| wiring.default_config = Some("anny".into())),
                &["default_names_missing_key"],
            ),
            (
                "two keys and no default: no fallback fits",
                |it| it.wire(|wiring| wiring.default_config = None),
                &["sharing_not_in_force"],
            ),
            (
                "one key and no default",
                |it| {
                    it.map().data.remove("whole");
                    it.wire(|wiring| wiring.default_config = None);
                },
                &[],
            ),
            (
                "no default, but a key of that name",
                |it| {
                    it.map().data.insert("default".into(), PROFILE.into());
                    it.wire(|wiring| wiring.default_config = Some(String::new()));
                },
                &[],
            ),
            (
                "a full stop does no harm here",
                |it| {
                    it.map().name = "time.slicing".into();
                    it.wire(|wiring| wiring.config_map = Some("time.slicing".into()));
                },
                &[],
            ),
        ],
    );
}

#[test]
fn mends_of_the_wiring_can_be_pasted() {
    let gone = |it: &mut World| it.maps().clear();
    let it = the_one(operator(), gone, "config_map_missing");
    assert_eq!(it.field.as_deref(), Some(NAME));
    assert_eq!(
        it.mend,
        [
            "kubectl -n gpu-operator create configmap time-slicing-config \
          --from-literal='any={version: v1, sharing: {timeSlicing: {failRequestsGreaterThanOne: true, \
          resources: [{name: nvidia.com/gpu, replicas: 4}]}}}'"
        ]
    );
    let renamed = |it: &mut World| it.map().name = "other".into();
    let it = the_one(operator(), renamed, "config_map_missing");
    assert_eq!(
        it.mend,
        [
            "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge -p \
          '{\"spec\":{\"devicePlugin\":{\"config\":{\"default\":\"any\",\"name\":\"other\"}}}}'"
        ]
    );
    let typo = |it: &mut World| it.policy().config_default = Some("anny".into());
    let it = the_one(operator(), typo, "default_names_missing_key");
    assert_eq!(
        (it.expected.as_deref(), it.found.as_deref()),
        (Some("one of any, whole"), Some("anny"))
    );
    assert_eq!(
        it.mend,
        [
            "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge -p \
          '{\"spec\":{\"devicePlugin\":{\"config\":{\"default\":\"any\"}}}}'"
        ]
    );
    let typo = |it: &mut World| it.wire(|wiring| wiring.default_config = Some("anny".into()));
    let it = the_one(alone(), typo, "default_names_missing_key");
    assert_eq!(
        it.mend,
        [
            "helm upgrade nvdp nvdp/nvidia-device-plugin -n nvidia-device-plugin --reuse-values --version 0.20.0 \
          --set config.default=any"
        ]
    );
    let dotted = |it: &mut World| {
        it.policy().config_name = Some("a.b".into());
        it.map().name = "a.b".into();
    };
    let it = the_one(operator(), dotted, "config_map_name_unusable");
    assert_eq!(
        it.mend,
        [
            r"kubectl -n gpu-operator get configmap a.b -o yaml | sed -e '/^  \(uid\|resourceVersion\|creationTimestamp\):/d' -e 's/^  name: a\.b$/  name: a-b-conf/' | kubectl -n gpu-operator apply -f -",
            "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge -p \
             '{\"spec\":{\"devicePlugin\":{\"config\":{\"name\":\"a-b-conf\"}}}}'",
        ]
    );
    let megabytes = |it: &mut World| it.profile("replicas: 4", "replicas: 16384");
    let it = the_one(operator(), megabytes, "replicas_look_like_megabytes");
    assert_eq!(
        it.field.as_deref(),
        Some("data.any.sharing.timeSlicing.resources[0].replicas")
    );
    assert!(
        it.words.starts_with("Line 10, column 17 of this key: "),
        "{}",
        it.words
    );
    assert_eq!(
        it.mend,
        [
            "kubectl -n gpu-operator edit configmap time-slicing-config",
            "kubectl -n gpu-operator rollout restart daemonset/nvidia-device-plugin-daemonset \
             daemonset/gpu-feature-discovery",
        ]
    );
}

#[test]
fn an_unwired_map_is_worse_where_nothing_is_wired() {
    let unwired = |it: &mut World| {
        it.policy().config_name = None;
        it.wire(|wiring| wiring.config_map = None);
    };
    let it = the_one(operator(), unwired, "config_not_wired");
    assert_eq!(it.severity, Severity::Warning);
    let beside = |it: &mut World| {
        let mut other = it.map().clone();
        other.name = "fine".into();
        it.maps().push(other);
    };
    let it = the_one(operator(), beside, "config_not_wired");
    assert_eq!(it.severity, Severity::Info);
    assert_eq!(it.object.name, "fine");
}
