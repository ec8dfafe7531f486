//! The agent's parts on a real node, put together: what `agent` and `snapshot` run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::analyse::events::Begun;
use crate::analyse::lease::CanaryMode;
use crate::collect::canary::{self, CUDA_LIBRARY, Canaries, CanarySettings};
use crate::collect::clock::Clock;
use crate::collect::cluster::events::{self, EventsHandle, EventsSettings};
use crate::collect::cluster::{self, Access, ClusterHandle, ClusterSettings, ClusterView};
use crate::collect::host::{NameBook, RealFiles, prove_pid_namespace};
use crate::collect::kubelet::{self, KubeletHandle, KubeletSettings, ResourceFilter};
use crate::collect::nvml::{self, NvmlHandle, NvmlSettings};
use crate::commands::options::{Cluster, Kubelet, Settings};
use crate::commands::pipeline::Pipeline;
use crate::model::{
    Allocations, CanarySource, CanaryWindow, CanaryWish, HostFiles, NodeSample, Reading, Snapshot,
    Source, SourceHealth,
};

/// The running parts of this node.
pub struct Node {
    clock: Clock,
    nvml: NvmlHandle,
    kubelet: Option<KubeletHandle>,
    cluster: Result<ClusterHandle, &'static str>,
    canaries: Option<Canaries>,
    /// Without canaries: why each device has none.
    told: Vec<CanaryWish>,
    pipeline: Pipeline,
    /// Where Events are asked for, and which findings were told of.
    events: Option<(Result<EventsHandle, &'static str>, Begun)>,
}

impl Node {
    /// Starts the sampler threads and the tasks of the kubelet and the API server on the current tokio
    /// runtime. Nothing is waited for: what is not there yet shows in the snapshots' health.
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
        let resources = ResourceFilter {
            names: settings.gpu_resources.iter().cloned().collect(),
            ..ResourceFilter::default()
        };
        let kubelet = match &settings.kubelet {
            Kubelet::None => None,
            Kubelet::Socket(socket) => Some(kubelet::start(KubeletSettings {
                socket: socket.clone(),
                period: settings.kubelet_period,
                resources: resources.clone(),
                ..KubeletSettings::default()
            })),
        };
        let access = match &settings.cluster {
            Cluster::None => Err("the API server is not asked, by --kubeconfig none"),
            Cluster::Kubeconfig(path) => Ok(Access::Kubeconfig(path.clone())),
            Cluster::OfEnvironment => match Access::of_environment() {
                None => Err("not in a cluster: neither a service account nor KUBECONFIG is there"),
                // A person's own shell has one too, which then is not meant for this.
                Some(Access::KubeconfigVariable) if settings.node_name.is_none() => {
                    Err("KUBECONFIG is not used without --node-name")
                }
                Some(access) => Ok(access),
            },
        };
        let events = settings.events.then(|| {
            let node = settings.node_name.clone();
            let access = access.clone();
            let handle = access.map(|access| events::start(EventsSettings::new(access, node)));
            (handle, Begun::default())
        });
        let cluster = access.map(|access| {
            cluster::start(ClusterSettings {
                resources,
                ..ClusterSettings::new(access, settings.node_name.clone())
            })
        });
        Self {
            clock,
            nvml,
            kubelet,
            cluster,
            canaries: canaries(settings),
            told: Vec::new(),
            pipeline: Pipeline::new(
                settings.node_name.clone(),
                book,
                namespace,
                settings.pipeline.clone(),
            ),
            events,
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
        let cluster = match &self.cluster {
            Ok(cluster) => cluster.current(),
            Err(why) => ClusterView::absent(why),
        };
        let (canaries, canary_health) = match &mut self.canaries {
            Some(canaries) => canaries.collect(now),
            None => (self.told.iter().map(without_probes).collect(), no_canary()),
        };
        let sample = NodeSample {
            at: now,
            windows: round.windows,
            silent: round.silent,
            canaries,
        };
        let mut health = vec![round.health, kubelet_health, canary_health];
        health.extend(self.events.as_ref().map(|(handle, _)| match handle {
            Ok(handle) => handle.health(),
            Err(why) => events::absent(why),
        }));
        let step = self.pipeline.step(&sample, &allocations, health, cluster);
        if step.ask_kubelet
            && let Some(kubelet) = &self.kubelet
        {
            kubelet.nudge();
        }
        if let Some((Ok(handle), begun)) = &mut self.events {
            for event in begun.events(&step.snapshot) {
                handle.tell(event);
            }
        }
        match &mut self.canaries {
            Some(canaries) => canaries.steer(step.wishes),
            None => self.told = step.wishes,
        }
        step.snapshot
    }

    /// Ends the threads, within half a second.
    pub fn stop(self) {
        self.nvml.stop();
    }
}

/// The canaries, unless they are switched off.
fn canaries(settings: &Settings) -> Option<Canaries> {
    if settings.pipeline.lease.mode == CanaryMode::Off {
        return None;
    }
    let beside_nvml = || {
        let folder = settings.nvml_library.as_ref()?.parent()?;
        Some(folder.join(CUDA_LIBRARY)).filter(|path| path.exists())
    };
    let settings = CanarySettings {
        library: settings.canary.library.clone().or_else(beside_nvml),
        ..settings.canary.clone()
    };
    match canary::start(settings) {
        Ok(canaries) => Some(canaries),
        Err(error) => {
            tracing::warn!(%error, "no latency canary: its thread did not start");
            None
        }
    }
}

/// What a device without a canary has to say of it.
fn without_probes(wish: &CanaryWish) -> CanaryWindow {
    CanaryWindow {
        gpu: wish.gpu.clone(),
        state: wish.state,
        reason: wish.reason,
        probes: Vec::new(),
        missed: 0,
        waiting: None,
        clock_error: None,
        workers: Vec::new(),
    }
}

/// Canaries that are switched off.
fn no_canary() -> SourceHealth {
    SourceHealth {
        source: Source::Canary,
        up: Reading::Unsupported,
        detail: "no latency canary, by --canary off".into(),
        errors: BTreeMap::new(),
        duration: None,
        last_success: None,
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
