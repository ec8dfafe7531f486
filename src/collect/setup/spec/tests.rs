use serde_json::{Value, json};

use super::*;

fn spec(value: Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

/// As the operator makes it: the volume has the ConfigMap's name.
fn of_operator() -> Value {
    let env = json!([{"name": "DEFAULT_CONFIG", "value": "any"}, {"name": "FALLBACK_STRATEGIES", "value": "empty"},
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]);
    let mounts = json!([{"name": "time-slicing-config", "mountPath": "/available-configs"}]);
    json!({
        "initContainers": [
            {"name": "toolkit-validation", "image": "x", "command": ["sh", "-c"]},
            {"name": "config-manager-init", "image": "x", "command": ["config-manager"], "env": env, "volumeMounts": mounts},
        ],
        "containers": [
            {"name": "nvidia-device-plugin", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0",
                "command": ["/bin/sh", "-c"], "args": ["/bin/entrypoint.sh"],
                "env": [{"name": "MIG_STRATEGY", "value": "single"}], "volumeMounts": mounts},
            {"name": "config-manager", "image": "x", "command": ["config-manager"], "env": env, "volumeMounts": mounts},
        ],
        "volumes": [{"name": "device-plugin", "hostPath": {"path": "/x"}},
            {"name": "time-slicing-config", "configMap": {"name": "time-slicing-config"}}],
    })
}

#[test]
fn the_wiring_of_the_operator() {
    let spec = spec(of_operator());
    assert_eq!(spec.main().unwrap().1, PluginRole::Plugin);
    assert_eq!(
        spec.wiring(),
        PluginWiring {
            config_map: Some("time-slicing-config".into()),
            default_config: Some("any".into()),
            fallbacks: Some("empty".into()),
            config_manager: true,
            mig_strategy: Some("single".into()),
        }
    );
}

#[test]
fn the_wiring_of_the_stand_alone_chart() {
    let manager = |name: &str| {
        json!({"name": name, "command": ["config-manager"], "env": [{"name": "DEFAULT_CONFIG"},
            {"name": "FALLBACK_STRATEGIES", "value": "named,single"}],
            "volumeMounts": [{"name": "available-configs", "mountPath": "/available-configs"}]})
    };
    for (program, role) in PROGRAMS {
        let spec = spec(json!({
            "initContainers": [manager(&format!("{program}-init"))],
            "containers": [manager(&format!("{program}-sidecar")), {"name": format!("{program}-ctr"),
                "command": [program], "env": [{"name": "CONFIG_FILE", "value": "/config/config.yaml"}]}],
            "volumes": [{"name": "available-configs", "configMap": {"name": "mine"}}, {"name": "config", "emptyDir": {}}],
        }));
        assert_eq!(spec.main().unwrap().1, role);
        assert_eq!(
            spec.wiring(),
            PluginWiring {
                config_map: Some("mine".into()),
                default_config: None,
                fallbacks: Some("named,single".into()),
                config_manager: true,
                mig_strategy: None,
            }
        );
    }
}

#[test]
fn a_file_that_is_named_leads_to_its_configmap_and_key() {
    let wiring = |main: Value, volume: Value| {
        let mut main = main;
        main["name"] = json!("nvidia-device-plugin-ctr");
        let spec =
            spec(json!({"containers": [main], "volumes": [{"name": "v", "configMap": volume}]}));
        let wiring = spec.wiring();
        (wiring.config_map, wiring.default_config)
    };
    let both = |name: &str, key: &str| (Some(name.to_owned()), Some(key.to_owned()));
    let mounts = json!([{"name": "v", "mountPath": "/etc/plugin/"}]);
    let volume = json!({"name": "cm"});
    for (main, volume, wanted) in [
        (
            json!({"env": [{"name": "CONFIG_FILE", "value": "/etc/plugin/any"}], "volumeMounts": mounts}),
            volume.clone(),
            both("cm", "any"),
        ),
        (
            json!({"args": ["--config-file=/etc/plugin/a.yaml"], "env": [{"name": "CONFIG_FILE", "value": "/x"}],
                "volumeMounts": mounts}),
            volume.clone(),
            both("cm", "a.yaml"),
        ),
        (
            json!({"args": ["--config-file", "/etc/plugin/a.yaml"], "volumeMounts": mounts}),
            json!({"name": "cm", "items": [{"key": "t4", "path": "a.yaml"}]}),
            both("cm", "t4"),
        ),
        (
            json!({"args": ["--config-file", "/etc/c.yaml"],
                "volumeMounts": [{"name": "v", "mountPath": "/etc/c.yaml", "subPath": "any"}]}),
            volume.clone(),
            both("cm", "any"),
        ),
        (
            json!({"args": ["--config-file", "/etc/pluginx/any"], "volumeMounts": mounts}),
            volume.clone(),
            (None, None),
        ),
        (json!({"volumeMounts": mounts}), volume, (None, None)),
    ] {
        assert_eq!(wiring(main.clone(), volume), wanted, "{main}");
    }
}

#[test]
fn containers_of_others_are_not_the_plugin() {
    let role = |container: Value| {
        let spec = spec(json!({"containers": [container]}));
        spec.main().map(|(_, role)| role)
    };
    let image = "registry.example/nvidia/k8s-device-plugin:v0.17.1";
    for (container, wanted) in [
        (
            json!({"name": "x", "image": image}),
            Some(PluginRole::Plugin),
        ),
        (
            json!({"name": "x", "image": image, "command": ["/usr/bin/gpu-feature-discovery"]}),
            Some(PluginRole::FeatureDiscovery),
        ),
        (
            json!({"name": "x", "image": image, "command": ["config-manager"]}),
            None,
        ),
        (json!({"name": "nvidia-dcgm-exporter", "image": "x"}), None),
        (json!({}), None),
    ] {
        assert_eq!(role(container.clone()), wanted, "{container}");
    }
}

#[test]
fn a_flag_wins_over_its_variable() {
    let spec = spec(
        json!({"containers": [{"name": "nvidia-device-plugin-ctr", "args": ["--mig-strategy=mixed"],
        "env": [{"name": "MIG_STRATEGY", "value": "single"}]}]}),
    );
    assert_eq!(spec.wiring().mig_strategy.as_deref(), Some("mixed"));
}
