//! How far a check is, in a real terminal.

use super::*;

use super::gpu_cluster::time_sliced;
use crate::cluster::trials::Trials;
use crate::top::terminal::Terminal;

/// The check of a cluster whose nodes are not answered for two seconds.
fn slow(cluster: &Cluster, more: &[&str]) -> Terminal {
    cluster.fault("/nodes", 0, 1, Fault::Hang);
    let kubeconfig = cluster.kubeconfig();
    let kubeconfig = kubeconfig.to_str().unwrap();
    let arguments = ["check", "--kubeconfig", kubeconfig, "--timeout", "2s"];
    Terminal::start(BINARY, &[&arguments[..], more].concat(), (160, 40))
}

#[test]
fn a_check_says_how_far_it_is_on_a_line_that_goes() {
    let cluster = Cluster::of(time_sliced(2, 3));
    let terminal = slow(&cluster, &["--all-nodes"]);
    terminal.shows("reading nodes (");
    let (status, text) = terminal.ends();
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("not checked: nodes"), "{text}");
    assert!(!text.contains("reading nodes"), "{text}");
}

#[test]
fn a_trial_says_what_it_waits_for() {
    let cluster = Cluster::of(time_sliced(1, 0));
    let mut trials = Trials::on(vec!["GPU-00000000-0000-0000-0000-000000000001"]);
    trials.says = |_| None;
    cluster.api.script().trials = Some(trials);
    let kubeconfig = cluster.kubeconfig();
    let arguments = [
        "check",
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "--functional",
        "--image",
        "localhost/slicewatch:7",
        "--wait",
        "3s",
    ];
    let terminal = Terminal::start(BINARY, &arguments, (160, 40));
    terminal.shows("waiting up to 3 s for pods that say which GPU they have: 0 of 2 (");
    let (_, text) = terminal.ends();
    assert!(!text.contains("waiting up to"), "{text}");
}
