//! One GPU: what it is, then its pods, the named remainders and what nobody explains.

use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::model::{Bytes, ContainerView, GpuView, Moment, Reading, Snapshot};

use super::cells::{printable, reading, signed, words};

/// What the same GPU said earlier.
pub(super) struct Rates<'a> {
    earlier: Option<&'a GpuView>,
    span: Duration,
}

impl<'a> Rates<'a> {
    pub(super) fn new(earlier: &'a Snapshot, now: Moment, gpu: &GpuView) -> Self {
        Self {
            earlier: earlier
                .gpus
                .iter()
                .find(|before| before.identity.uuid == gpu.identity.uuid),
            span: now.since(earlier.at),
        }
    }

    fn before(&self, container: &ContainerView) -> Option<&'a ContainerView> {
        self.earlier?.containers.iter().find(|before| {
            before.namespace == container.namespace
                && before.pod == container.pod
                && before.container == container.container
                && before.pod_uid == container.pod_uid
        })
    }

    /// The container's share of the GPU's time and the samples that say so.
    fn of(&self, container: &ContainerView) -> Option<(f64, u64)> {
        let before = self.before(container)?;
        let (then, now) = (before.gpu_time.value()?, container.gpu_time.value()?);
        let samples = container.gpu_samples.checked_sub(before.gpu_samples)?;
        let share = (now.0 - then.0) / self.span.as_secs_f64();
        (share.is_finite() && share >= 0.0).then_some((share, samples))
    }
}

/// The lines above the table.
pub(super) fn heading(gpu: &GpuView) -> Vec<String> {
    let mut lines = vec![title(gpu)];
    if let Reading::Failed(cause) = gpu.up {
        lines.push(format!("  does not answer: {}", words(cause)));
    }
    let memory = match gpu.memory {
        Reading::Value(memory) => format!(
            "{} of {} used, {} free, {} reserved",
            memory.used,
            memory.total,
            memory.free,
            reading(&memory.reserved)
        ),
        other => reading(&other.map(|memory| memory.used)),
    };
    lines.push(format!(
        "  memory {memory}; peak {} in 60 s; under pressure for {:.1} s",
        reading(&gpu.used_peak),
        gpu.pressure.as_secs_f64()
    ));
    lines.push(format!(
        "  sharing {}; {} of {} replicas granted; {} pods resident, {} active",
        gpu.sharing.label(),
        reading(&gpu.replicas_allocated),
        reading(&gpu.replicas),
        reading(&gpu.tenants),
        reading(&gpu.active_tenants),
    ));
    lines
}

fn title(gpu: &GpuView) -> String {
    let identity = &*gpu.identity;
    let mut text = format!(
        "GPU {}  {}  {}",
        printable(&identity.index),
        printable(&identity.model),
        printable(identity.uuid.as_str()),
    );
    if let Some(mig) = &identity.mig {
        text.push_str(&format!("  MIG {}", printable(&mig.profile)));
    }
    text
}

/// A card in MIG mode: its instances have tables of their own.
pub(super) fn card(gpu: &GpuView) -> String {
    let state = match gpu.up {
        Reading::Value(()) => "its instances stand above".to_owned(),
        Reading::Unsupported => "-".to_owned(),
        Reading::Failed(cause) => format!("does not answer: {}", words(cause)),
    };
    format!("{}  MIG mode; {state}", title(gpu))
}

/// The table of one GPU.
pub(super) fn pods(gpu: &GpuView, rates: Option<&Rates<'_>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    let time = if rates.is_some() {
        "share of time"
    } else {
        "GPU time"
    };
    table.set_header([
        "pod",
        "container",
        "memory",
        "fair share",
        "of it",
        "peak",
        time,
        "samples",
        "evidence",
    ]);
    for container in &gpu.containers {
        table.add_row(row(container, rates));
    }
    match &gpu.unattributed {
        Reading::Value(remainders) => {
            for (reason, bytes) in remainders {
                if *bytes > Bytes(0) {
                    let name = reason.label().replace('_', " ");
                    table.add_row(["(unattributed)", &name, &bytes.to_string()]);
                }
            }
        }
        unknown => {
            let why = reading(&unknown.as_ref().map(|_| ""));
            table.add_row(["(unattributed)", "", &why]);
        }
    }
    let unexplained = reading(&gpu.unexplained.map(signed));
    table.add_row(["(unexplained)", "", &unexplained]);
    for index in 2..8 {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row(container: &ContainerView, rates: Option<&Rates<'_>>) -> Vec<Cell> {
    let ContainerView {
        namespace,
        pod,
        container: name,
        pod_uid: _,
        evidence,
        present,
        memory,
        memory_peak,
        fair_share,
        replicas: _,
        processes: _,
        gpu_time,
        gpu_samples,
        active: _,
        contended: _,
        exits_under_pressure: _,
        claims: _,
    } = container;
    let gone = if *present { "" } else { " (gone)" };
    let pod = format!("{}/{}{gone}", printable(namespace), printable(pod));
    let of_share = match (memory.value(), fair_share.value()) {
        (Some(memory), Some(share)) if *present && share.0 > 0 => {
            format!("{:.0} %", memory.0 as f64 / share.0 as f64 * 100.0)
        }
        _ => "-".to_owned(),
    };
    let (memory, fair_share) = if *present {
        (reading(memory), reading(fair_share))
    } else {
        ("-".to_owned(), "-".to_owned())
    };
    let (time, samples) = match (gpu_time, rates) {
        (Reading::Value(time), None) => (format!("{:.1} s", time.0), gpu_samples.to_string()),
        (Reading::Value(_), Some(rates)) => match rates.of(container) {
            Some((share, samples)) => (format!("{:.1} %", share * 100.0), samples.to_string()),
            None => ("? (new)".to_owned(), "-".to_owned()),
        },
        // Without a time the count of its samples says nothing.
        (unknown, _) => (reading(&unknown.map(|_| "")), "-".to_owned()),
    };
    let cells = [
        pod,
        printable(name).into_owned(),
        memory,
        fair_share,
        of_share,
        reading(memory_peak),
        time,
        samples,
        evidence.label().to_owned(),
    ];
    cells.map(Cell::new).into()
}
