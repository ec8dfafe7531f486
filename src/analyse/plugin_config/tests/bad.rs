//! Configurations with one thing wrong each.

use super::*;
use crate::model::Severity;

/// What is edited in [`GOOD`], what is then found in the raw configuration, and whether the plugin
/// would take it.
type Bad = (
    &'static str,
    &'static str,
    &'static [(&'static str, u32, u32, &'static str)],
    bool,
);

#[rustfmt::skip]
const BAD: &[Bad] = &[
    ("version: v1", "version: v2", &[("unknown_version", 1, 10, "version")], false),
    ("version: v1", "version: 1", &[("unknown_version", 1, 10, "version")], false),
    ("version: v1", "version: v1\nverson: v1", &[("unknown_key", 2, 1, "verson")], true),
    ("migStrategy: none", "migStrategy: multi", &[("unknown_value", 3, 16, "flags.migStrategy")], false),
    ("migStrategy: none", "migStrategy: off", &[("unknown_value", 3, 16, "flags.migStrategy")], false),
    ("migStrategy: none", "migstrategy: none", &[("key_case", 3, 3, "flags.migstrategy")], true),
    ("migStrategy: none", "renameByDefault: true", &[("misplaced_key", 3, 3, "flags.renameByDefault")], true),
    ("migStrategy: none", "failOnInitError: \"no\"", &[("wrong_type", 3, 20, "flags.failOnInitError")], false),
    ("migStrategy: none", "gfd: {sleepInterval: 60}", &[("duration_without_unit", 3, 24, "flags.gfd.sleepInterval")], true),
    ("migStrategy: none", "gfd: {sleepInterval: 1 min}", &[("unknown_value", 3, 24, "flags.gfd.sleepInterval")], false),
    ("migStrategy: none", "plugin: {deviceListStrategy: [envvar, cdi]}", &[("unknown_value", 3, 41, "flags.plugin.deviceListStrategy")], false),
    ("migStrategy: none", "plugin: {deviceIDStrategy: name}", &[("unknown_value", 3, 30, "flags.plugin.deviceIDStrategy")], false),
    ("flags:\n  migStrategy: none", "flags: [migStrategy]", &[("wrong_type", 2, 8, "flags")], false),
    ("flags:\n  migStrategy: none\nsharing:\n  timeSlicing:", "flags:\n  migStrategy: none\ntimeSlicing:\n  any:", &[("misplaced_key", 4, 1, "timeSlicing")], true),
    ("sharing:", "shared:", &[("unknown_key", 4, 1, "shared")], true),
    ("timeSlicing:", "timeslicing:", &[("key_case", 5, 3, "sharing.timeslicing")], true),
    ("timeSlicing:", "timeSlice:", &[("unknown_key", 5, 3, "sharing.timeSlice")], true),
    ("  timeSlicing:", "  mps: {resources: [{name: gpu, replicas: 2}]}\n  timeSlicing:", &[("mps_wins", 6, 3, "sharing.timeSlicing")], true),
    ("failRequestsGreaterThanOne: true", "failRequestsGreaterThanOne: false", &[("requests_greater_than_one_allowed", 6, 33, "sharing.timeSlicing.failRequestsGreaterThanOne")], true),
    ("    failRequestsGreaterThanOne: true\n", "", &[("requests_greater_than_one_allowed", 5, 3, "sharing.timeSlicing.failRequestsGreaterThanOne")], true),
    ("failRequestsGreaterThanOne: true", "failRequestsGreaterThanOne: \"true\"", &[("wrong_type", 6, 33, "sharing.timeSlicing.failRequestsGreaterThanOne")], false),
    ("failRequestsGreaterThanOne: true", "failrequestsgreaterthanone: true", &[
        ("requests_greater_than_one_allowed", 5, 3, "sharing.timeSlicing.failRequestsGreaterThanOne"),
        ("unknown_key", 6, 5, "sharing.timeSlicing.failrequestsgreaterthanone"),
    ], true),
    ("    resources:\n    - name: nvidia.com/gpu\n      replicas: 4\n", "", &[("no_resources", 5, 3, "sharing.timeSlicing.resources")], false),
    ("    resources:\n    - name: nvidia.com/gpu\n      replicas: 4\n", "    resources: []\n", &[("no_resources", 7, 16, "sharing.timeSlicing.resources")], false),
    ("    failRequestsGreaterThanOne: true\n    resources:\n    - name: nvidia.com/gpu\n      replicas: 4\n", "", &[("no_resources", 5, 3, "sharing.timeSlicing.resources")], false),
    ("    - name: nvidia.com/gpu\n      replicas: 4\n", "      name: nvidia.com/gpu\n", &[("wrong_type", 8, 7, "sharing.timeSlicing.resources")], false),
    ("    - name: nvidia.com/gpu\n      replicas: 4\n", "    - replicas: 4\n", &[("no_resource_name", 8, 7, "sharing.timeSlicing.resources[0].name")], false),
    ("name: nvidia.com/gpu", "name:", &[("bad_resource_name", 8, 7, "sharing.timeSlicing.resources[0].name")], false),
    ("name: nvidia.com/gpu", "name: amd.com/gpu", &[("bad_resource_name", 8, 13, "sharing.timeSlicing.resources[0].name")], false),
    ("name: nvidia.com/gpu", "name: 4", &[("wrong_type", 8, 13, "sharing.timeSlicing.resources[0].name")], false),
    ("name: nvidia.com/gpu", "name: nvidia.com/gpu.shared", &[("resource_matches_nothing", 8, 13, "sharing.timeSlicing.resources[0].name")], true),
    ("name: nvidia.com/gpu", "name: nvidia.com/mig-1g.10gb", &[("mig_without_mixed", 8, 13, "sharing.timeSlicing.resources[0].name")], true),
    ("      replicas: 4\n", "", &[("no_replicas", 8, 7, "sharing.timeSlicing.resources[0].replicas")], false),
    ("replicas: 4", "replicas: 1", &[("too_few_replicas", 9, 17, "sharing.timeSlicing.resources[0].replicas")], false),
    ("replicas: 4", "replicas: -4", &[("too_few_replicas", 9, 17, "sharing.timeSlicing.resources[0].replicas")], false),
    ("replicas: 4", "replicas:", &[("too_few_replicas", 9, 7, "sharing.timeSlicing.resources[0].replicas")], false),
    ("replicas: 4", "replicas: '4'", &[("wrong_type", 9, 17, "sharing.timeSlicing.resources[0].replicas")], false),
    ("replicas: 4", "replicas: 4.5", &[("wrong_type", 9, 17, "sharing.timeSlicing.resources[0].replicas")], false),
    ("replicas: 4", "replicas: 4Gi", &[("wrong_type", 9, 17, "sharing.timeSlicing.resources[0].replicas")], false),
    ("replicas: 4", "replicas: 16384", &[("replicas_look_like_megabytes", 9, 17, "sharing.timeSlicing.resources[0].replicas")], true),
    ("replicas: 4", "replica: 4", &[
        ("no_replicas", 8, 7, "sharing.timeSlicing.resources[0].replicas"),
        ("unknown_key", 9, 7, "sharing.timeSlicing.resources[0].replica"),
    ], false),
    ("replicas: 4", "replicas: 4\n      replicas: 8", &[("duplicate_key", 10, 7, "sharing.timeSlicing.resources[0].replicas")], true),
    ("replicas: 4", "replicas: 4\n      devices: 2", &[("devices_ignored", 10, 7, "sharing.timeSlicing.resources[0].devices")], true),
    ("replicas: 4", "replicas: 4\n      devices: some", &[("bad_devices", 10, 16, "sharing.timeSlicing.resources[0].devices")], false),
    ("replicas: 4", "replicas: 4\n      devices: [0, GPU-x]", &[("bad_devices", 10, 16, "sharing.timeSlicing.resources[0].devices")], false),
    ("replicas: 4", "replicas: 4\n      rename: gpu-shared", &[("rename_ignored", 10, 7, "sharing.timeSlicing.resources[0].rename")], true),
    ("replicas: 4", "replicas: 4\n    - name: gpu\n      replicas: 8", &[("duplicate_resource", 10, 7, "sharing.timeSlicing.resources[1]")], true),
    ("sharing:", "resources: {gpus: [{pattern: '*', name: a100}]}\nsharing:", &[("resources_ignored", 4, 1, "resources")], true),
    ("sharing:", "resources: [{name: gpu, replicas: 4}]\nsharing:", &[("wrong_type", 4, 12, "resources")], false),
    ("sharing:", "imex: {channelIDs: [1]}\nsharing:", &[("unknown_value", 4, 20, "imex.channelIDs")], false),
    ("      replicas: 4", "\t  replicas: 4", &[("tab_in_indentation", 9, 1, "")], false),
    ("sharing:", "\t\nsharing:", &[("tab_in_indentation", 4, 1, "")], false),
    ("sharing:", "  \t# shared\nsharing:", &[("tab_in_indentation", 4, 3, "")], false),
    ("name: nvidia.com/gpu", "name: [nvidia.com/gpu", &[("not_yaml", 9, 15, "")], false),
    ("replicas: 4", "replicas: *four", &[("not_yaml", 9, 17, "")], false),
    ("replicas: 4\n", "replicas: 4\n---\nversion: v1\n", &[("documents_ignored", 10, 1, "")], true),
];

#[test]
fn each_bad_variant_has_its_code_at_its_place() {
    for (from, to, expected, taken) in BAD {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let lint = file(&text);
        assert_eq!(found(&lint), *expected, "{to}\n{lint:#?}");
        assert_eq!(lint.configurations[0].config.is_some(), *taken, "{to}");
        let error = lint.worst() == Some(Severity::Error);
        assert_eq!(error, !taken, "an error is what is refused: {to}");
        for finding in lint.all() {
            assert!(!finding.message.is_empty() && !finding.mend.is_empty());
        }
    }
}

/// The same in a ConfigMap, with Unix and with Windows line ends: all moves with the text.
#[test]
fn bad_variants_in_a_config_map_keep_their_places() {
    for (from, to, expected, _) in BAD {
        let inner = GOOD.replacen(from, to, 1);
        let expected: Vec<_> = expected
            .iter()
            .map(|(code, line, column, path)| {
                let path = match *path {
                    "" => "data.any".to_owned(),
                    path => format!("data.any.{path}"),
                };
                (*code, line + 6, column + 4, path)
            })
            .collect();
        let unix = wrapped(&inner);
        for text in [unix.clone(), unix.replace('\n', "\r\n")] {
            let lint = file(&text);
            let found: Vec<_> = found(&lint)
                .into_iter()
                .map(|(code, line, column, path)| (code, line, column, path.to_owned()))
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}

#[test]
fn every_code_is_in_the_modules_documentation() {
    let documented = include_str!("../../plugin_config.rs");
    let mut codes = 0;
    for source in [
        include_str!("../decode.rs"),
        include_str!("../fault.rs"),
        include_str!("../flags.rs"),
        include_str!("../keys.rs"),
        include_str!("../lint.rs"),
        include_str!("../report.rs"),
        include_str!("../shared.rs"),
    ] {
        // A code is a word of its own in quotes, with an underscore, at the end of its line.
        let quoted = source.lines().filter_map(|line| {
            let word = line.trim().strip_prefix("code: ").unwrap_or(line.trim());
            word.strip_prefix('"')?.strip_suffix("\",")
        });
        for code in quoted.filter(|word| word.contains('_') && !word.contains([' ', '.'])) {
            assert!(documented.contains(&format!("`{code}`")), "{code}");
            codes += 1;
        }
    }
    assert!(codes > 30, "{codes}");
}
