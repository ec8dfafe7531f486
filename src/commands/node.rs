//! The agent's parts on a real node, put together: what `agent` and `snapshot` run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::collect::clock::Clock;
use crate::collect::host::{NameBook, RealFiles, prove_pid_namespace};
use crate::collect::kubelet::{self, KubeletHandle, KubeletSettings, ResourceFilter};
use crate::collect::nvml::{self, NvmlHandle, NvmlSettings};
use crate::commands::options::{Kubelet, Settings};
use crate::commands::pipeline::Pipeline;
use crate::model::{Allocations, HostFiles, NodeSample, Reading, Snapshot, Source, SourceHealth};

/// The running parts of this node.
pub struct Node {
    clock: Clock,
    nvml: NvmlHandle,
    kubelet: Option<KubeletHandle>,
    pipeline: Pipeline,
}

impl Node {
    /// Starts the sampler threads and the kubelet's task on the current tokio runtime. Nothing is
    /// waited for: what is not there yet shows in the snapshots' health.
    pub fn start(settings: &Settings) -> Self {
        let clock = Clock::new();
        let files: Arc<dyn HostFiles> = Arc::new(RealFiles::new("/"));
        let namespace = if settings.assume_host_pid_namespace {
            Reading::Value(())
        } else {
            prove_pid_namespace(&*files, &settings.proc_root)
        };
        let book = NameBook::new(
            Arc::clone(&files),
            &settings.pod_log_dir,
            &settings.container_log_dir,
        );
        let nvml = nvml::start(
            NvmlSettings {
                library: settings.nvml_library.clone(),
                sampler: settings.sampler.clone(),
                hang_after: settings.nvml_hang_after,
                clock,
                pid_namespace: namespace,
                ..NvmlSettings::default()
            },
            files,
            settings.proc_root.clone(),
        );
        let kubelet = match &settings.kubelet {
            Kubelet::None => None,
            Kubelet::Socket(socket) => Some(kubelet::start(KubeletSettings {
                socket: socket.clone(),
                period: settings.kubelet_period,
                resources: ResourceFilter {
                    names: settings.gpu_resources.iter().cloned().collect(),
                    ..ResourceFilter::default()
                },
                ..KubeletSettings::default()
            })),
        };
        Self {
            clock,
            nvml,
            kubelet,
            pipeline: Pipeline::new(settings.node_name.clone(), book, namespace),
        }
    }

    /// Takes in what the parts have delivered since the last step. Never blocks.
    pub fn step(&mut self) -> Arc<Snapshot> {
        let now = self.clock.now();
        let round = self.nvml.collect(now);
        let (allocations, kubelet_health) = match &self.kubelet {
            Some(kubelet) => kubelet.current(),
            None => no_kubelet(),
        };
        let sample = NodeSample {
            at: now,
            windows: round.windows,
            silent: round.silent,
        };
        let step = self
            .pipeline
            .step(&sample, &allocations, round.health, kubelet_health);
        if step.ask_kubelet
            && let Some(kubelet) = &self.kubelet
        {
            kubelet.nudge();
        }
        step.snapshot
    }

    /// Ends the threads, within half a second.
    pub fn stop(self) {
        self.nvml.stop();
    }
}

/// A machine that was said to have no kubelet.
fn no_kubelet() -> (Reading<Arc<Allocations>>, SourceHealth) {
    (
        Reading::Unsupported,
        SourceHealth {
            source: Source::Kubelet,
            up: Reading::Unsupported,
            detail: "no kubelet on this machine, by --kubelet-socket none".into(),
            errors: BTreeMap::new(),
            duration: None,
            last_success: None,
        },
    )
}
