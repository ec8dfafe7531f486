//! One pass over a cluster: what is read is judged as it comes.

use std::time::Duration;

use crate::analyse::setup::Check;
use crate::collect::setup::{SetupError, SetupReader, SetupSettings};
use crate::model::setup::{Asked, Setup, SetupReport};
use crate::publish::check::NotChecked;
use crate::publish::terminal::progress::Progress;

/// What a pass came to.
#[derive(Debug)]
pub struct Pass {
    /// The API server's address.
    pub server: String,
    pub report: SetupReport,
    /// What was not answered, by the API server or for want of rights.
    pub not_checked: Vec<NotChecked>,
    /// Whether nodes were read, and nothing went wrong. A right that is missing is a finding, and
    /// the pass is complete without it.
    pub complete: bool,
}

/// Reads a cluster once, and says how far it is.
///
/// # Errors
/// Where it cannot be asked at all: a kubeconfig or credentials that cannot be used.
pub async fn pass(
    settings: &SetupSettings,
    settling: Duration,
    progress: &mut Progress,
) -> Result<Pass, SetupError> {
    progress.begin("opening the cluster");
    let mut reader = SetupReader::open(settings).await?;
    progress.begin(format_args!("asking {} for the set-up", reader.server()));
    let setup = reader.setup().await;
    let mut unanswered = Unanswered::default();
    unanswered.of(&setup);

    let mut check = Check::new(setup, reader.now(), settling);
    progress.begin("reading nodes");
    let mut nodes_read = 0u64;
    let nodes = reader.nodes(|node| {
        check.node(&node);
        nodes_read += 1;
        progress.say(format_args!("reading nodes: {nodes_read}"));
    });
    let nodes = nodes.await;
    let mut check = check.pods(&nodes);
    progress.begin(format_args!("nodes: {nodes_read}; reading pods"));
    let mut pods_read = 0u64;
    let pods = reader.pods(|pod| {
        check.pod(&pod);
        pods_read += 1;
        progress.say(format_args!(
            "nodes: {nodes_read}; reading pods: {pods_read}"
        ));
    });
    let pods = pods.await;
    unanswered.add(&nodes);
    unanswered.add(&pods);
    Ok(Pass {
        server: reader.server().to_owned(),
        report: check.finish(&pods),
        complete: !unanswered.failed && !matches!(nodes, Asked::Refused(_)),
        not_checked: unanswered.all,
    })
}

/// Questions without an answer.
#[derive(Debug, Default)]
struct Unanswered {
    all: Vec<NotChecked>,
    /// Whether one has none for another reason than rights.
    failed: bool,
}

impl Unanswered {
    fn of(&mut self, setup: &Setup) {
        let Setup {
            operator_namespace: _,
            only_nodes: _,
            policies,
            operators,
            daemon_sets,
            plugin_pods,
            config_maps,
            runtime_classes,
        } = setup;
        self.add(policies);
        self.add(operators);
        self.add(daemon_sets);
        self.add(plugin_pods);
        for maps in config_maps.values() {
            self.add(maps);
        }
        self.add(runtime_classes);
    }

    fn add<T>(&mut self, asked: &Asked<T>) {
        let (group, resource, namespace, words) = match asked {
            Asked::Read(_) | Asked::Absent => return,
            Asked::Refused(it) => (&it.group, &it.resource, &it.namespace, &it.words),
            Asked::Failed(it) => {
                self.failed = true;
                (&it.group, &it.resource, &it.namespace, &it.words)
            }
        };
        let dot = if group.is_empty() { "" } else { "." };
        let place = match namespace {
            Some(namespace) => format!(" in {namespace}"),
            None => String::new(),
        };
        self.all.push(NotChecked {
            what: format!("{resource}{dot}{group}{place}"),
            why: words.clone(),
        });
    }
}
