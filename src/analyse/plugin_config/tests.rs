mod any;
mod bad;

use super::*;

const ANY: &str = include_str!("../../../tests/fixtures/plugin-config/time-slicing-config.yaml");
const FINE: &str =
    include_str!("../../../tests/fixtures/plugin-config/time-slicing-config-fine.yaml");

/// A configuration that has nothing to mend, for edits.
const GOOD: &str = "\
version: v1
flags:
  migStrategy: none
sharing:
  timeSlicing:
    failRequestsGreaterThanOne: true
    resources:
    - name: nvidia.com/gpu
      replicas: 4
";

fn file(text: &str) -> Lint {
    lint(text, Input::File)
}

/// Code, line, column and path of everything that was found.
fn found(lint: &Lint) -> Vec<(&'static str, u32, u32, &str)> {
    lint.all()
        .map(|one| (one.code, one.line, one.column, one.path.as_str()))
        .collect()
}

fn parsed(text: &str) -> PluginConfig {
    let lint = file(text);
    let [one] = &lint.configurations[..] else {
        panic!("one configuration: {lint:?}");
    };
    one.config
        .clone()
        .unwrap_or_else(|| panic!("it parses: {lint:?}"))
}

/// A configuration as the key `any` of a ConfigMap: two columns to the right, six lines down.
fn wrapped(config: &str) -> String {
    let lines: String = config.lines().map(|line| format!("    {line}\n")).collect();
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  any: |\n{lines}")
}

#[test]
fn the_set_ups_config_maps_are_clean() {
    let any = file(ANY);
    assert_eq!(found(&any), []);
    let [one] = &any.configurations[..] else {
        panic!("{any:?}");
    };
    assert_eq!(one.key.as_deref(), Some("any"));
    let name = "gpu-operator/time-slicing-config";
    assert_eq!(one.config_map.as_deref(), Some(name));
    let config = one.config.as_ref().unwrap();
    assert_eq!(config.sharing(), Sharing::TimeSlicing);
    assert_eq!(config.sharing().label(), "time-slicing");
    assert_eq!(config.replicas_of("nvidia.com/gpu"), 4);
    assert_eq!(config.replicas_of("nvidia.com/mig-1g.10gb"), 1);
    assert_eq!(config.advertised_name("nvidia.com/gpu"), "nvidia.com/gpu");
    assert!(config.fails_requests_greater_than_one());
    assert_eq!(config.mig_strategy(), Some(MigStrategy::None));

    let fine = file(FINE);
    assert_eq!(found(&fine), []);
    let replicas: Vec<_> = fine
        .configurations
        .iter()
        .map(|one| {
            let config = one.config.as_ref().unwrap();
            (
                one.key.as_deref().unwrap(),
                config.replicas_of("nvidia.com/gpu"),
            )
        })
        .collect();
    assert_eq!(replicas, [("a100-40gb", 8), ("tesla-t4", 4)]);
    assert_eq!(fine.worst(), None);
}

#[test]
fn files_are_told_apart_and_refused_as_a_whole() {
    let cm = "apiVersion: v1\nkind: ConfigMap\n";
    for (text, expected) in [
        ("", &[("empty_configuration", 1, 1, "")][..]),
        ("# nothing\n\t", &[("tab_in_indentation", 2, 1, "")]),
        ("# nothing\n", &[("empty_configuration", 1, 1, "")]),
        ("---\n", &[("empty_configuration", 1, 4, "")]),
        ("hello", &[("wrong_type", 1, 1, "")]),
        ("- a\n", &[("wrong_type", 1, 1, "")]),
        ("{", &[("not_yaml", 1, 1, "")]),
        ("? [a]\n: b\n", &[("not_yaml", 1, 3, "")]),
        (
            "kind: Pod\napiVersion: v1\n",
            &[
                ("document_skipped", 1, 1, "kind"),
                ("no_config_map", 1, 1, ""),
            ],
        ),
        (cm, &[("config_map_empty", 1, 1, "data")]),
        // As kubectl get -o yaml writes several.
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  data:\n",
            &[("config_map_empty", 6, 3, "data")],
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n",
            &[
                ("document_skipped", 1, 1, "kind"),
                ("no_config_map", 1, 1, ""),
            ],
        ),
        (
            &format!("{cm}data:\n"),
            &[("config_map_empty", 3, 1, "data")],
        ),
        (
            &format!("{cm}data: x\n"),
            &[("data_not_text", 3, 7, "data")],
        ),
        (
            &format!("{cm}data:\n  a: \"\"\n"),
            &[("empty_configuration", 4, 3, "data.a")],
        ),
        (
            &format!("{cm}data:\n  a:\n"),
            &[("empty_configuration", 4, 3, "data.a")],
        ),
        (
            &format!("{cm}data:\n  a: |\n\n"),
            &[("empty_configuration", 4, 3, "data.a")],
        ),
        (
            &format!("{cm}data:\n  a:\n    version: v1\n"),
            &[("data_not_text", 4, 3, "data.a")],
        ),
        (
            &format!("{cm}data:\n  a: 4\n"),
            &[("data_not_text", 4, 3, "data.a")],
        ),
        (
            &format!("{cm}data:\n  a b: 'version: v1'\n"),
            &[("bad_key", 4, 3, "data[\"a b\"]")],
        ),
        (
            &format!("{cm}data:\n  a_: 'version: v1'\n"),
            &[("key_is_no_label_value", 4, 3, "data.a_")],
        ),
        (
            &format!("{cm}data:\n  a: 'version: v1'\n  a: 'version: v2'\n"),
            &[
                ("duplicate_key", 5, 3, "data.a"),
                ("unknown_version", 5, 3, "data.a.version"),
            ],
        ),
        (
            &format!("{cm}binaryData:\n  a: AAAA\n"),
            &[("binary_data", 3, 1, "binaryData")],
        ),
        (
            "apiVersion: v2\nkind: ConfigMap\ndata: {a: 'version: v1'}\n",
            &[("config_map_version", 1, 13, "apiVersion")],
        ),
        (
            &format!("{cm}dta:\n  a: ''\n"),
            &[
                ("config_map_empty", 1, 1, "data"),
                ("unknown_key", 3, 1, "dta"),
            ],
        ),
        (
            &format!("kind: Pod\n---\nx: [\n---\n{cm}data:\n  a: 'version: v2'\n"),
            &[
                ("document_skipped", 1, 1, "kind"),
                ("not_yaml", 3, 4, ""),
                ("unknown_version", 8, 3, "data.a.version"),
            ],
        ),
    ] {
        assert_eq!(found(&file(text)), expected, "{text}");
    }
}

#[test]
fn places_in_scalars_of_every_style() {
    let head = "apiVersion: v1\nkind: ConfigMap\ndata:\n  before: 'version: v1'\n";
    for (scalar, place) in [
        ("  a: |\n    version: v2\n", (6, 14)),
        ("  a: |-\n     version: v2\n", (6, 15)),
        ("  a: |+2\n    version: v2\n\n", (6, 14)),
        ("  a: |4\n      # c\n       x: 1\n       y: 2\n", (7, 8)),
        ("  a: |\n\n\n    # c\n\n    version: v2\n", (10, 14)),
        ("  a: >\n    # folded\n\n    version:\n    v2\n", (9, 5)),
        (
            "  a: >-\n    version: v1\n\n    flags: {é: 1,\n      verson: 2}\n",
            (8, 13),
        ),
        ("  a: \"version: v2\"\n", (5, 3)),
        ("  a: 'version: v2'\n", (5, 3)),
        ("  a:\n    version\n", (5, 3)),
    ] {
        let lint = file(&format!("{head}{scalar}"));
        let first = lint.all().next().unwrap();
        assert_eq!((first.line, first.column), place, "{scalar}{lint:#?}");
    }
}

#[test]
fn one_key_of_a_config_map_is_always_a_configuration() {
    let lint = lint("kind: ConfigMap\nversion: v2\n", Input::Key("a.yaml"));
    assert_eq!(
        found(&lint),
        [
            ("unknown_key", 1, 1, "data[\"a.yaml\"].kind"),
            ("unknown_version", 2, 10, "data[\"a.yaml\"].version"),
        ]
    );
    assert_eq!(lint.configurations[0].key.as_deref(), Some("a.yaml"));
}

#[test]
fn mends_name_the_right_key_and_place() {
    for (from, to, words) in [
        ("replicas: 4", "replicas: 4\n      replica: 4", "replicas"),
        ("migStrategy", "migStrategie", "migStrategy"),
        (
            "migStrategy: none",
            "renameByDefault: true",
            "sharing.timeSlicing (or sharing.mps)",
        ),
        ("version: v1", "migStrategy: none", "flags"),
        (
            "version: v1",
            "passDeviceSpec: true",
            "passDeviceSpecs of flags.plugin",
        ),
        (
            "version: v1",
            "frobnicate: 1",
            "version, flags, resources, sharing, imex",
        ),
    ] {
        let lint = file(&GOOD.replacen(from, to, 1));
        let first = lint.all().next().unwrap();
        assert!(first.mend.contains(words), "{first:?}");
    }
}

#[test]
fn what_the_plugin_takes_is_taken() {
    let text = GOOD
        .replace("replicas: 4", "replicas: 0x4")
        .replace("One: true", "One: yes")
        .replace("name: nvidia.com/gpu", "name: gpu\n      devices: all");
    assert_eq!(found(&file(&text)), []);
    assert_eq!(parsed(&text), parsed(GOOD));

    let json = r#"{"version":"v1","sharing":{"timeSlicing":{"failRequestsGreaterThanOne":true,
        "resources":[{"name":"nvidia.com/gpu","replicas":4}]}},"flags":{"migStrategy":"none"}}"#;
    assert_eq!(found(&file(json)), []);
    assert_eq!(parsed(json), parsed(GOOD));

    let merged =
        "a: &a {replicas: 4}\n".to_owned() + &GOOD.replace("      replicas: 4", "      <<: *a");
    assert_eq!(found(&file(&merged)), [("unknown_key", 1, 1, "a")]);
    assert_eq!(parsed(&merged), parsed(GOOD));
}

#[test]
fn devices_and_rename_are_read_though_ignored() {
    let text = GOOD.replace(
        "replicas: 4",
        "{replicas: 4, rename: gpu-x, devices: [0, '1:0', GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c]}",
    );
    let text = text.replace("- name: nvidia.com/gpu\n      {", "- {name: gpu, ");
    let config = parsed(&text);
    let shared = &config.time_slicing.as_ref().unwrap().resources[0];
    assert_eq!(shared.rename.as_deref(), Some("nvidia.com/gpu-x"));
    let uuid = "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c";
    assert_eq!(
        shared.devices,
        Devices::List(vec!["0".into(), "1:0".into(), uuid.into()])
    );
    assert_eq!(config.advertised_name("nvidia.com/gpu"), "nvidia.com/gpu");
}

#[test]
fn answers_follow_the_strategy_in_force() {
    let with = |sharing: &str| parsed(&format!("sharing: {sharing}"));
    let gpu = "resources: [{name: gpu, replicas: 2}]";

    let none = parsed("version: v1");
    assert_eq!(none, PluginConfig::default());
    assert_eq!(none.sharing(), Sharing::None);
    assert_eq!(none.replicas_of("nvidia.com/gpu"), 1);
    assert!(!none.fails_requests_greater_than_one());
    assert_eq!(none.mig_strategy(), None);

    let renamed = with(&format!(
        "{{timeSlicing: {{renameByDefault: true, {gpu}}}}}"
    ));
    assert_eq!(
        renamed.advertised_name("nvidia.com/gpu"),
        "nvidia.com/gpu.shared"
    );
    let other = "nvidia.com/mig-1g.10gb";
    assert_eq!(renamed.advertised_name(other), other);
    assert!(!renamed.fails_requests_greater_than_one());

    let mps = with(&format!("{{mps: {{{gpu}}}}}"));
    assert_eq!(mps.sharing(), Sharing::Mps);
    assert!(mps.fails_requests_greater_than_one());
    let open = with(&format!(
        "{{mps: {{failRequestsGreaterThanOne: false, {gpu}}}}}"
    ));
    assert!(!open.fails_requests_greater_than_one());

    let both = with(
        "{mps: {resources: [{name: gpu, replicas: 3}]}, \
         timeSlicing: {renameByDefault: true, resources: [{name: gpu, replicas: 5}]}}",
    );
    assert_eq!(both.sharing(), Sharing::Mps);
    assert_eq!(both.replicas_of("nvidia.com/gpu"), 3);
    assert_eq!(both.advertised_name("nvidia.com/gpu"), "nvidia.com/gpu");

    let twice =
        with("{timeSlicing: {resources: [{name: gpu, replicas: 5}, {name: gpu, replicas: 3}]}}");
    assert_eq!(twice.replicas_of("nvidia.com/gpu"), 5);
    let huge = with("{timeSlicing: {resources: [{name: gpu, replicas: 99999999999}]}}");
    assert_eq!(huge.replicas_of("nvidia.com/gpu"), u32::MAX);
    // A null under mps is a nil pointer of Go's, and no MPS.
    assert_eq!(with("{mps: null}").sharing(), Sharing::None);
}

#[test]
fn mig_names_are_right_under_mixed() {
    let text = GOOD
        .replace("none", "mixed")
        .replace("nvidia.com/gpu", "nvidia.com/mig-1g.10gb");
    assert_eq!(found(&file(&text)), []);
    assert_eq!(parsed(&text).replicas_of("nvidia.com/mig-1g.10gb"), 4);
}
