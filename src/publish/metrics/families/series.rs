//! Which series there are, metric by metric, and when one is left out.

use crate::model::{
    Cause, DelayRemainder, MigProfile, Quantiles, Reading, Refusal, Snapshot, Source,
};

use super::super::ProcessStats;
use super::super::table::{self, Metric};
use super::{Base, Family, Label, Number, Pass, Value};

impl<'a, E, F: FnMut(&Family<'a>) -> Result<(), E>> Pass<'a, F> {
    /// Every family, in the table's order.
    pub(super) fn all(&mut self, snapshot: &'a Snapshot, process: &ProcessStats) -> Result<(), E> {
        self.devices_part()?;
        self.containers_part()?;
        self.workloads(snapshot)?;
        self.health(snapshot)?;
        self.agent(snapshot, process)
    }

    fn devices_part(&mut self) -> Result<(), E> {
        self.cards_by(&table::GPU_INFO, |gpu| {
            let identity = &*gpu.identity;
            let mig = match (&identity.mig, identity.mig_enabled) {
                (Some(instance), _) => &*instance.profile,
                (None, Some(true)) => "enabled",
                (None, Some(false)) => "disabled",
                (None, None) => "",
            };
            let labels: [&str; 7] = [
                identity.parent.as_ref().map_or("", |uuid| uuid.as_str()),
                &identity.index,
                &identity.model,
                &identity.pci_bus_id,
                &identity.driver_version,
                gpu.sharing.label(),
                mig,
            ];
            [(labels.map(Label::Text), true)]
        })?;
        self.cards_by(&table::GPU_UP, |gpu| is_up(gpu.up).map(|up| ([], up)))?;
        self.gpus(&table::GPU_TOTAL, |gpu| Some(gpu.memory.value()?.total.0))?;
        self.gpus(&table::GPU_RESERVED, |gpu| {
            Some(gpu.memory.value()?.reserved.value()?.0)
        })?;
        self.gpus(&table::GPU_USED, |gpu| Some(gpu.memory.value()?.used.0))?;
        self.gpus(&table::GPU_FREE, |gpu| Some(gpu.memory.value()?.free.0))?;
        self.gpus(&table::GPU_USED_PEAK, |gpu| Some(gpu.used_peak.value()?.0))?;
        self.gpus(&table::GPU_PRESSURE, |gpu| Some(gpu.pressure))?;
        self.gpus_by(&table::GPU_UNATTRIBUTED, |gpu| {
            let remainders = gpu.unattributed.value().into_iter().flatten();
            remainders.map(|(reason, bytes)| ([reason.label().into()], bytes.0))
        })?;
        self.gpus(&table::GPU_UNEXPLAINED, |gpu| {
            Some(gpu.unexplained.value()?.0)
        })?;
        self.gpus(&table::GPU_TORN, |gpu| Some(gpu.torn_windows))?;
        self.gpus(&table::GPU_REPLICAS, |gpu| gpu.replicas.copied())?;
        self.gpus(&table::GPU_REPLICAS_ALLOCATED, |gpu| {
            gpu.replicas_allocated.copied()
        })?;
        self.gpus(&table::GPU_TENANTS, |gpu| gpu.tenants.copied())?;
        self.gpus(&table::GPU_ACTIVE_TENANTS, |gpu| {
            gpu.active_tenants.copied()
        })?;
        self.gpus(&table::GPU_DISAGREEMENTS, |gpu| gpu.disagreements.copied())?;
        self.gpus(&table::GPU_BUSY, |gpu| Some(gpu.busy.value()?.0))?;
        self.gpus(&table::GPU_CONTENDED, |gpu| gpu.contended.copied())?;
        self.canaries()?;
        self.cards_by(&table::GPU_XIDS, |gpu| {
            let counts = gpu.xids.iter();
            counts.map(|(&xid, &count)| ([Label::Number(xid)], count))
        })?;
        self.profiles(&table::MIG_MEMORY, |profile| profile.memory.0.into())?;
        self.profiles(&table::MIG_MULTIPROCESSORS, |profile| {
            profile.multiprocessors.into()
        })?;
        self.profiles(&table::MIG_SLICES, |profile| profile.slices.into())?;
        self.profiles(&table::MIG_INSTANCES, |profile| profile.instances.into())
    }

    fn canaries(&mut self) -> Result<(), E> {
        self.gpus(&table::GPU_CANARY_DELAY, |gpu| {
            gpu.canary.delays.value().map(Value::Histogram)
        })?;
        self.gpus_by(&table::GPU_CANARY_BASELINE, |gpu| {
            let baseline = gpu.canary.baseline.value();
            baseline.into_iter().flat_map(|&quantiles| {
                let Quantiles {
                    probes: _,
                    mean,
                    p50,
                    p90,
                    p99,
                } = quantiles;
                [("mean", mean), ("p50", p50), ("p90", p90), ("p99", p99)]
                    .map(|(statistic, delay)| ([statistic.into()], delay))
            })
        })?;
        self.gpus(&table::GPU_CANARY_STALL, |gpu| gpu.canary.stall.copied())?;
        self.gpus_by(&table::GPU_CANARY_STATE, |gpu| {
            let canary = &gpu.canary;
            let labels = [canary.state.label(), canary.reason.label()];
            [(labels.map(Label::Text), true)]
        })?;
        // A probe that never came back misses those after it, though none was counted yet.
        self.gpus(&table::GPU_CANARY_MISSED, |gpu| {
            let canary = &gpu.canary;
            (canary.delays.value().is_some() || canary.missed > 0).then_some(canary.missed)
        })?;
        self.gpus(&table::GPU_CANARY_CLOCK_ERROR, |gpu| gpu.canary.clock_error)?;
        self.gpus_by(&table::GPU_UNATTRIBUTED_DELAY, |gpu| {
            let canary = &gpu.canary;
            // Known in advance, hence there from the first probe on.
            canary.delays.value().into_iter().flat_map(|_| {
                DelayRemainder::ALL.map(|reason| {
                    let delay = canary.unattributed.get(&reason).copied();
                    ([reason.label().into()], delay.unwrap_or_default().0)
                })
            })
        })
    }

    fn profiles(
        &mut self,
        metric: &'static Metric,
        value: fn(&MigProfile) -> Number,
    ) -> Result<(), E> {
        self.cards_by(metric, |gpu| {
            let profiles = gpu.mig_profiles.value().map_or(&[][..], |all| all);
            profiles
                .iter()
                .map(move |profile| ([Label::Text(&profile.profile)], value(profile)))
        })
    }

    fn containers_part(&mut self) -> Result<(), E> {
        self.containers(&table::POD_INFO, |_, container| {
            let uid = container.pod_uid.as_ref().map_or("", |uid| uid.as_str());
            let workload = &container.workload;
            let labels: [&str; 4] = [uid, &container.qos, &workload.name, &workload.kind];
            container
                .present
                .then(|| (labels.map(Label::Text), 1u64.into()))
        })?;
        self.gauge(&table::POD_MEMORY, |_, container| {
            Some(container.memory.value()?.0.into())
        })?;
        self.containers(&table::POD_PEAK, |_, container| {
            Some(([], container.memory_peak.value()?.0.into()))
        })?;
        self.gauge(&table::POD_FAIR_SHARE, |_, container| {
            Some(container.fair_share.value()?.0.into())
        })?;
        self.gauge(&table::POD_REPLICAS, |_, container| {
            Some(container.replicas.copied()?.into())
        })?;
        // A plain number in the view: what says whether it is known is that the process list was
        // read.
        self.gauge(&table::POD_PROCESSES, |gpu, container| {
            gpu.tenants.value().map(|_| container.processes.into())
        })?;
        self.containers(&table::POD_GPU_SECONDS, |_, container| {
            Some(([], container.gpu_time.value()?.0.into()))
        })?;
        self.timed(&table::POD_GPU_SAMPLES, |container| {
            container.gpu_samples.into()
        })?;
        self.timed(&table::POD_ACTIVE, |container| container.active.into())?;
        self.timed(&table::POD_CONTENDED, |container| {
            container.contended.into()
        })?;
        self.delay(&table::POD_INFLICTED, |delay| delay.inflicted.0)?;
        self.delay(&table::POD_EXPOSED, |delay| delay.exposed.0)?;
        self.delay(&table::POD_EXPOSED_PROBES, |delay| delay.exposed_probes)?;
        self.containers(&table::POD_EXITS, |_, container| {
            Some(([], container.exits_under_pressure.into()))
        })
    }

    fn workloads(&mut self, snapshot: &'a Snapshot) -> Result<(), E> {
        self.start(&table::WORKLOAD_GPU_SECONDS);
        for total in &snapshot.workloads {
            let labels: [&str; 3] = [&total.namespace, &total.workload, &total.kind];
            self.push(
                Base::Gpu(total.gpu_uuid.as_str()),
                labels.map(Label::Text),
                total.gpu_time.0.into(),
            );
        }
        self.finish()
    }

    fn health(&mut self, snapshot: &'a Snapshot) -> Result<(), E> {
        self.node(
            &table::FINDING,
            snapshot.findings.iter().map(|finding| {
                let labels: [&str; 3] = [&finding.code, finding.severity.label(), &finding.subject];
                (labels.map(Label::Text), 1u64.into())
            }),
        )?;
        let sources = &snapshot.sources;
        self.node(
            &table::SOURCE_UP,
            sources
                .iter()
                .filter_map(|health| Some(([health.source.label().into()], is_up(health.up)?))),
        )?;
        let nvml = Source::Nvml.label();
        let errors = sources.iter().flat_map(|health| {
            let source = health.source.label();
            health
                .errors
                .iter()
                .map(move |(reason, &count)| ([source.into(), Label::Text(reason)], count.into()))
        });
        let refused = &snapshot.refused_rows;
        let refusals = refused
            .iter()
            .map(move |(reason, &count)| ([nvml.into(), Label::Text(reason)], count.into()));
        // Known in advance, hence there from the start.
        let zeros = Refusal::ALL.map(|reason| ([nvml.into(), reason.label().into()], 0u64.into()));
        self.node(&table::SOURCE_ERRORS, refusals.chain(errors).chain(zeros))?;
        self.node(
            &table::SOURCE_DURATION,
            sources.iter().filter_map(|health| {
                Some(([health.source.label().into()], health.duration?.into()))
            }),
        )?;
        self.node(
            &table::SOURCE_LAST_SUCCESS,
            sources.iter().filter_map(|health| {
                Some(([health.source.label().into()], health.last_success?.into()))
            }),
        )?;
        let attributed = [(
            ["attributed".into(), "".into()],
            snapshot.processes_attributed.into(),
        )];
        let unattributed = snapshot.processes_unattributed.iter();
        self.node(
            &table::PROCESSES,
            attributed
                .into_iter()
                .chain(unattributed.map(|(reason, &count)| {
                    (["unattributed".into(), reason.label().into()], count.into())
                })),
        )
    }

    fn agent(&mut self, snapshot: &'a Snapshot, process: &ProcessStats) -> Result<(), E> {
        let build: [&str; 2] = [&snapshot.build.version, &snapshot.build.rustc];
        self.node(&table::BUILD_INFO, [(build.map(Label::Text), 1u64.into())])?;
        let ProcessStats {
            cpu,
            resident,
            virtual_memory,
            started,
            open_fds,
            max_fds,
            threads,
        } = *process;
        self.own(&table::PROCESS_CPU, cpu)?;
        self.own(&table::PROCESS_RESIDENT, resident.map(|bytes| bytes.0))?;
        self.own(&table::PROCESS_VIRTUAL, virtual_memory.map(|bytes| bytes.0))?;
        self.own(&table::PROCESS_START, started)?;
        self.own(&table::PROCESS_OPEN_FDS, open_fds)?;
        self.own(&table::PROCESS_MAX_FDS, max_fds)?;
        self.own(&table::PROCESS_THREADS, threads)
    }

    fn own(&mut self, metric: &'static Metric, value: Option<impl Into<Number>>) -> Result<(), E> {
        self.node(metric, value.map(|value| ([], value.into())))
    }
}

/// 1 or 0; nothing where it was not tried, or there is no such thing here.
fn is_up(up: Reading<()>) -> Option<Number> {
    match up {
        Reading::Value(()) => Some(true.into()),
        Reading::Failed(Cause::NotYet) | Reading::Unsupported => None,
        Reading::Failed(_) => Some(false.into()),
    }
}
