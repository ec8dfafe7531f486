mod fixture;
mod install;
mod mig;
mod nodes;
mod wiring;
mod workloads;

use super::*;
use crate::model::Severity;
use crate::model::setup::{ConfigMapRead, Failed, Refused, SetupFinding};
use fixture::{World, alone, operator};

/// One case: what is changed in a clean set-up, and the codes that are found then.
type Case = (&'static str, fn(&mut World), &'static [&'static str]);

fn try_all(world: fn() -> World, cases: &[Case]) {
    for (what, change, codes) in cases {
        let mut world = world();
        change(&mut world);
        let report = world.report();
        let mut found: Vec<_> = report.findings.iter().map(|it| it.code).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, *codes, "{what}: {:#?}", report.findings);
        for finding in &report.findings {
            assert!(
                !finding.words.is_empty() && !finding.words.contains("  "),
                "{finding:?}"
            );
        }
    }
}

/// The findings of one code after a change.
fn of_code(mut world: World, change: impl FnOnce(&mut World), code: &str) -> Vec<SetupFinding> {
    change(&mut world);
    let mut findings = world.report().findings;
    findings.retain(|it| it.code == code);
    findings
}

/// The only finding of a code after a change.
fn the_one(world: World, change: impl FnOnce(&mut World), code: &str) -> SetupFinding {
    let mut found = of_code(world, change, code);
    assert_eq!(found.len(), 1, "{code}: {found:#?}");
    found.remove(0)
}

#[test]
fn clean_set_ups_have_no_findings() {
    for (what, world) in [("operator", operator()), ("alone", alone())] {
        let report = world.report();
        assert_eq!(report.findings, [], "{what}");
        assert!(report.left_out.is_empty());
        assert_eq!(report.nodes_read, 2);
    }
    // The usual chart's strategy beside the usual profile's is no finding without MIG.
    assert_eq!(operator().policy().mig_strategy.as_deref(), Some("single"));
}

#[test]
fn what_is_in_force_is_told_by_node() {
    let mut world = operator();
    world
        .node(1)
        .labels
        .insert(told::CONFIG_LABEL.into(), "whole".into());
    let report = world.report();
    let told: Vec<_> = report
        .nodes
        .iter()
        .map(|it| {
            let key = it.key.as_deref().unwrap_or_default();
            (
                it.node.as_str(),
                key,
                it.from,
                it.sharing,
                it.expected,
                it.allocatable,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "gpu-1",
                "any",
                Some(KeyFrom::Default),
                Some("time-slicing"),
                Some(8),
                Some(8)
            ),
            (
                "gpu-2",
                "whole",
                Some(KeyFrom::Label),
                Some("none"),
                Some(2),
                Some(8)
            ),
        ]
    );
    // Unwired, the numbers are told as they are, and nothing is expected of them.
    let mut unwired = operator();
    unwired.wire(|wiring| wiring.config_map = None);
    let one = &unwired.report().nodes[0];
    assert_eq!(
        (one.from, one.sharing, one.expected),
        (Some(KeyFrom::Unwired), None, None)
    );
    assert_eq!(
        (one.resource.as_deref(), one.allocatable),
        (Some("nvidia.com/gpu"), Some(8))
    );
    let map = "gpu-operator/time-slicing-config";
    assert_eq!(report.nodes[0].config_map.as_deref(), Some(map));
}

#[test]
fn what_could_not_be_read_is_a_finding_and_the_rest_goes_on() {
    let refused = |group: &str, resource: &str, namespace: Option<&str>| Refused {
        verb: "list".into(),
        group: group.into(),
        resource: resource.into(),
        namespace: namespace.map(str::to_owned),
        words: format!("{resource} is forbidden: User \"it's me\" cannot list resource"),
    };
    // The policy's wrong default is found whatever else is refused.
    let broken = || {
        let mut world = operator();
        world.policy().config_default = Some("anny".into());
        world
    };
    let default = "default_names_missing_key";
    let mut world = broken();
    world.setup.daemon_sets = Asked::Refused(refused("apps", "daemonsets", None));
    let report = world.report();
    let codes: Vec<_> = report.findings.iter().map(|it| it.code).collect();
    assert_eq!(codes, [default, "rights_missing"]);
    assert_eq!(
        report.findings[1].mend,
        [
            "kubectl create clusterrole slicewatch-check-list-daemonsets --verb=list \
             --resource=daemonsets.apps",
            r"kubectl create clusterrolebinding slicewatch-check-list-daemonsets --clusterrole=slicewatch-check-list-daemonsets --user='it'\''s me'",
        ]
    );
    assert_eq!(report.findings[1].severity, Severity::Warning);

    let mut world = operator();
    let space = Some("gpu-operator");
    let maps = Asked::Refused(refused("", "configmaps", space));
    world.setup.config_maps.insert("gpu-operator".into(), maps);
    let it = the_one(world, |_| {}, "rights_missing");
    assert_eq!(it.object.namespace.as_deref(), space);
    assert!(
        it.mend[0].starts_with("kubectl -n gpu-operator create role "),
        "{:?}",
        it.mend
    );

    // Each of the others alone: nothing is made up in its place.
    let all: [fn(&mut World, Refused); 4] = [
        |world, it| world.setup.policies = Asked::Refused(it),
        |world, it| world.setup.operators = Asked::Refused(it),
        |world, it| world.setup.plugin_pods = Asked::Refused(it),
        |world, it| world.setup.runtime_classes = Asked::Refused(it),
    ];
    for refuse in all {
        let mut world = operator();
        refuse(&mut world, refused("g", "things", None));
        let report = world.report();
        let codes: Vec<_> = report.findings.iter().map(|it| it.code).collect();
        assert_eq!(codes, ["rights_missing"], "{:#?}", report.findings);
    }
    let mut world = operator();
    world.nodes_asked = Asked::Refused(refused("", "nodes", None));
    world.pods_asked = Asked::Failed(Failed {
        group: String::new(),
        resource: "pods".into(),
        namespace: None,
        words: "no answer".into(),
    });
    let codes: Vec<_> = world.report().findings.iter().map(|it| it.code).collect();
    assert_eq!(codes, ["api_unavailable", "rights_missing"]);
}

#[test]
fn one_node_is_looked_at_alone() {
    let mut world = operator();
    world.setup.only_nodes = vec!["gpu-2".into()];
    world
        .node(0)
        .labels
        .insert(told::CONFIG_LABEL.into(), "gone".into());
    let report = world.report();
    assert_eq!((report.findings.len(), report.nodes_read), (0, 1));
}

#[test]
fn too_many_of_a_code_are_counted() {
    let mut world = operator();
    let one = world.nodes[0].clone();
    let pods = world.setup.plugin_pods.read().cloned().unwrap();
    for number in 0..MAX_OF_A_CODE + 20 {
        let name = format!("more-{number:03}");
        let mut node = one.clone();
        node.name.clone_from(&name);
        node.labels.insert(told::CONFIG_LABEL.into(), "gone".into());
        world.nodes.push(node);
        for pod in pods
            .iter()
            .filter(|pod| pod.node.as_deref() == Some("gpu-1"))
        {
            let mut pod = pod.clone();
            pod.name = format!("{}-{name}", pod.name);
            pod.node = Some(name.clone());
            world.pods_of_plugin().push(pod);
        }
    }
    let report = world.report();
    assert_eq!(report.findings.len(), MAX_OF_A_CODE);
    assert_eq!(
        report.left_out,
        [("node_label_names_missing_key", 20)].into()
    );
    assert_eq!(report.findings[0].node.as_deref(), Some("more-000"));
}

#[test]
fn profiles_that_are_made_are_clean() {
    let map = ConfigMapRead {
        data: [("any".to_owned(), wiring_profile())].into(),
        ..ConfigMapRead::default()
    };
    let profiles = profiles::Profiles::new([(String::new(), Asked::Read(vec![map]))].into());
    let (_, _, map) = profiles.all().next().unwrap();
    assert!(map.shares());
    assert!(map.profiles.values().all(|profile| profile.lint.is_empty()));
}

fn wiring_profile() -> String {
    super::wiring::FOUR.to_owned()
}
