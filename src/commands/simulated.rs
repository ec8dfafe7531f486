//! The agent's parts on a simulated node: what `demo`, `snapshot --scenario` and tests run.
//! Sampler, attribution, ledger and names are the agent's own; only the world is simulated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::collect::cluster::ClusterView;
use crate::collect::host::{NameBook, ProcessTable, prove_pid_namespace};
use crate::collect::sampler::{Sampler, SamplerSettings};
use crate::commands::pipeline::{Pipeline, PipelineSettings};
use crate::model::{
    Allocations, CanarySource, Cause, GpuError, GpuIdentity, GpuSource, GpuUuid, GpuWindow,
    HostFiles, Moment, NodeSample, Reading, Snapshot, Source, SourceHealth,
};
use crate::simulate::{CanarySettings, SimNode, UnknownScenario};

/// The sampler's beat.
const TICK: Duration = Duration::from_millis(100);
/// Between two snapshots.
const STEP: Duration = Duration::from_secs(1);
/// How long the kubelet's last answer is believed while it is silent.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// Between two tries to open a driver or card that is gone.
const RETRY: Duration = Duration::from_secs(1);

/// One card and its sampler, while it has one.
struct Card {
    identity: Arc<GpuIdentity>,
    sampler: Option<Sampler>,
    cause: Cause,
}

/// The agent on a simulated node, stepped by its caller.
pub struct SimulatedAgent {
    node: SimNode,
    files: Arc<dyn HostFiles>,
    namespace: Reading<()>,
    settings: SamplerSettings,
    cards: BTreeMap<GpuUuid, Card>,
    windows: Vec<GpuWindow>,
    canaries: Box<dyn CanarySource>,
    pipeline: Pipeline,
    kubelet: Option<(Arc<Allocations>, Moment)>,
    nvml_health: SourceHealth,
    kubelet_health: SourceHealth,
    next_open: Duration,
    next_step: Duration,
}

impl SimulatedAgent {
    /// The agent on the scenario's node, at `start`, with latency canaries where they are of use.
    ///
    /// # Errors
    /// [`UnknownScenario`], which lists the names there are.
    pub fn new(
        scenario: &str,
        seed: u64,
        start: Moment,
        settings: SamplerSettings,
    ) -> Result<Self, UnknownScenario> {
        Self::with(scenario, seed, start, settings, PipelineSettings::default())
    }

    /// The same, as the operator chose.
    ///
    /// # Errors
    /// As of [`SimulatedAgent::new`].
    pub fn with(
        scenario: &str,
        seed: u64,
        start: Moment,
        settings: SamplerSettings,
        pipeline: PipelineSettings,
    ) -> Result<Self, UnknownScenario> {
        let node = SimNode::new(scenario, seed, start)?;
        let files = node.host_files();
        let namespace = prove_pid_namespace(&*files, "/proc");
        let book = NameBook::new(Arc::clone(&files), "/var/log/pods", "/var/log/containers");
        Ok(Self {
            pipeline: Pipeline::new(Some("simulated".into()), book, namespace, pipeline),
            canaries: node.canary(CanarySettings {
                seed,
                ..CanarySettings::default()
            }),
            node,
            files,
            namespace,
            settings,
            cards: BTreeMap::new(),
            windows: Vec::new(),
            kubelet: None,
            nvml_health: health(Source::Nvml),
            kubelet_health: health(Source::Kubelet),
            next_open: start.monotonic,
            next_step: start.monotonic,
        })
    }

    /// The simulated node, for its truth.
    pub fn node(&self) -> &SimNode {
        &self.node
    }

    /// Runs the node and the agent up to `to`, tick by tick; each snapshot on the way is given to
    /// `seen`.
    pub fn run(&mut self, to: Duration, mut seen: impl FnMut(&SimNode, Arc<Snapshot>)) {
        loop {
            let mut next = self.node.now();
            next.monotonic += TICK;
            if next.monotonic > to {
                return;
            }
            self.node.advance(next);
            let now = self.node.now();
            self.sample(now);
            if now.monotonic >= self.next_step {
                self.next_step = now.monotonic + STEP;
                let snapshot = self.step(now);
                seen(&self.node, snapshot);
            }
        }
    }

    fn sample(&mut self, now: Moment) {
        if now.monotonic >= self.next_open && self.cards.values().any(|card| card.sampler.is_none())
            || self.cards.is_empty()
        {
            self.open(now);
        }
        for card in self.cards.values_mut() {
            let Some(sampler) = &mut card.sampler else {
                continue;
            };
            let poll = sampler.poll(now);
            self.windows.extend(poll.window);
            if let Some(cause) = poll.dead {
                card.sampler = None;
                card.cause = cause;
                self.next_open = now.monotonic + RETRY;
            }
        }
    }

    /// Opens the cards that have no sampler.
    fn open(&mut self, now: Moment) {
        self.next_open = now.monotonic + RETRY;
        let sources: Vec<Box<dyn GpuSource>> = match self.node.open() {
            Ok(sources) => {
                succeeded(&mut self.nvml_health, now);
                sources
            }
            Err(error) => {
                failed(&mut self.nvml_health, error.cause(), &error.to_string());
                if error == GpuError::DriverNotLoaded {
                    for card in self.cards.values_mut() {
                        card.cause = error.cause();
                    }
                }
                return;
            }
        };
        for source in sources {
            let identity = Arc::new(source.card().clone());
            let card = self
                .cards
                .entry(identity.uuid.clone())
                .or_insert_with(|| Card {
                    identity: Arc::clone(&identity),
                    sampler: None,
                    cause: Cause::NotYet,
                });
            if card.sampler.is_none() {
                let table =
                    ProcessTable::with_namespace(Arc::clone(&self.files), "/proc", self.namespace);
                card.sampler = Some(Sampler::new(source, table, self.settings.clone(), now));
            }
        }
    }

    fn step(&mut self, now: Moment) -> Arc<Snapshot> {
        match self.node.allocations() {
            Reading::Value(answer) => {
                succeeded(&mut self.kubelet_health, now);
                self.kubelet = Some((answer, now));
            }
            Reading::Failed(cause) => {
                failed(&mut self.kubelet_health, cause, "the kubelet is down")
            }
            Reading::Unsupported => {}
        }
        let allocations = match &self.kubelet {
            Some((answer, at)) if now.since(*at) <= STALE_AFTER => {
                Reading::Value(Arc::clone(answer))
            }
            Some(_) => Reading::Failed(Cause::Stale),
            None => Reading::Failed(Cause::NotYet),
        };
        let (canaries, canary_health) = self.canaries.collect(now);
        let sample = NodeSample {
            at: now,
            windows: std::mem::take(&mut self.windows),
            silent: self
                .cards
                .values()
                .filter(|card| card.sampler.is_none())
                .map(|card| (Arc::clone(&card.identity), card.cause))
                .collect(),
            canaries,
        };
        let health = vec![
            self.nvml_health.clone(),
            self.kubelet_health.clone(),
            canary_health,
        ];
        let cluster = ClusterView::absent("the simulated node has no API server");
        let step = self.pipeline.step(&sample, &allocations, health, cluster);
        self.canaries.steer(step.wishes);
        step.snapshot
    }
}

fn health(source: Source) -> SourceHealth {
    SourceHealth {
        source,
        up: Reading::Failed(Cause::NotYet),
        detail: "".into(),
        errors: BTreeMap::new(),
        duration: None,
        last_success: None,
    }
}

fn succeeded(health: &mut SourceHealth, now: Moment) {
    health.up = Reading::Value(());
    health.detail = "".into();
    health.last_success = Some(now.unix);
}

fn failed(health: &mut SourceHealth, cause: Cause, detail: &str) {
    health.up = Reading::Failed(cause);
    health.detail = detail.into();
    *health.errors.entry(cause.label().into()).or_insert(0) += 1;
}
