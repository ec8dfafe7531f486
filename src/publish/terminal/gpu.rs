//! One GPU: what it is, then its pods, the named remainders and what nobody explains.

use std::time::Duration;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};

use crate::model::{Bytes, ContainerDelay, ContainerView, GpuView, Moment, Reading, Snapshot};

use super::canary;
use super::cells::{RULED, printable, reading, short, signed, words};

/// What the same GPU said earlier.
pub(super) struct Rates<'a> {
    earlier: Option<&'a GpuView>,
    now: &'a GpuView,
    span: Duration,
}

impl<'a> Rates<'a> {
    /// `at` is when what the GPU says now of time was so: the ring is drained now and then.
    pub(super) fn new(earlier: &'a Snapshot, at: Moment, now: &'a GpuView) -> Self {
        Self {
            earlier: earlier
                .gpus
                .iter()
                .find(|before| before.identity.uuid == now.identity.uuid),
            now,
            span: at.since(earlier.at),
        }
    }

    /// The same container earlier. A container that was started anew has its name twice for a
    /// while, and then nothing can be said of either.
    fn before(&self, container: &ContainerView) -> Option<&'a ContainerView> {
        let is_it = |other: &&ContainerView| {
            other.namespace == container.namespace
                && other.pod == container.pod
                && other.container == container.container
        };
        if self.now.containers.iter().filter(is_it).count() > 1 {
            return None;
        }
        let mut found = self.earlier?.containers.iter().filter(is_it);
        let before = found.next().filter(|_| found.next().is_none())?;
        let same = match (&before.pod_uid, &container.pod_uid) {
            (Some(before), Some(now)) => before == now,
            // Only granted then, with a process now, or the other way round.
            _ => true,
        };
        same.then_some(before)
    }

    /// The container's share of the GPU's time and the samples that say so.
    pub(super) fn of(&self, container: &ContainerView) -> Option<(f64, u64)> {
        let before = self.before(container)?;
        let (then, now) = (before.gpu_time.value()?, container.gpu_time.value()?);
        let samples = container.gpu_samples.checked_sub(before.gpu_samples)?;
        let share = (now.0 - then.0) / self.span.as_secs_f64();
        (share.is_finite() && share >= 0.0).then_some((share, samples))
    }

    /// The share of its time that the GPU was busy.
    pub(super) fn busy(&self) -> Option<f64> {
        let (then, now) = (self.earlier?.busy.value()?, self.now.busy.value()?);
        let share = (now.0 - then.0) / self.span.as_secs_f64();
        (share.is_finite() && share >= 0.0).then_some(share)
    }

    /// What the container had inflicted and waited, and the probes that there had been. Where the
    /// canary had not probed yet all of that was nothing; where that is not known, `None`.
    pub(super) fn delays_before(
        &self,
        container: &ContainerView,
    ) -> Option<(Option<&'a ContainerDelay>, u64)> {
        let before = self.before(container)?;
        let probes = match &self.earlier?.canary.delays {
            Reading::Value(delays) => delays.count(),
            Reading::Unsupported => 0,
            Reading::Failed(_) => return None,
        };
        match &before.delay {
            Reading::Value(delay) => Some((Some(delay), probes)),
            Reading::Unsupported => Some((None, probes)),
            Reading::Failed(_) => None,
        }
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
        "  memory {memory}; peak {} in 60 s; under pressure {:.1} s since start",
        reading(&gpu.used_peak),
        gpu.pressure.as_secs_f64()
    ));
    lines.push(format!(
        "  sharing {}; replicas granted {} of {}; pods resident {}, active {}",
        gpu.sharing.label(),
        reading(&gpu.replicas_allocated),
        reading(&gpu.replicas),
        reading(&gpu.tenants),
        reading(&gpu.active_tenants),
    ));
    lines.extend(canary::heading(gpu));
    lines
}

/// Which GPU it is.
pub(super) fn title(gpu: &GpuView) -> String {
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

/// Header, the least width that a column keeps (with a blank each side), and when a terminal that
/// is too narrow does without: those with the lowest number go first, with 0 none.
const COLUMNS: [(&str, u16, u8); 11] = [
    ("pod", 17, 0),
    ("container", 11, 0),
    ("memory", 11, 0),
    ("fair share", 12, 1),
    ("of share", 10, 4),
    ("peak", 11, 1),
    ("GPU time", 10, 0),
    ("samples", 9, 3),
    ("inflicted", 11, 0),
    ("waits", 10, 0),
    ("evidence", 12, 2),
];
const LAST_DROP: u8 = 4;
const FIRST_NUMBER: usize = 2;
const TIME: usize = 6;
/// What the canary says: left out where it says nothing.
const DELAYS: [usize; 2] = [8, 9];
const EVIDENCE: usize = 10;

/// The table of one GPU.
pub(super) fn pods(gpu: &GpuView, rates: Option<&Rates<'_>>, width: Option<u16>) -> Table {
    let told = canary::is_told(gpu);
    let kept = |dropped: u8| {
        (0..COLUMNS.len()).filter(move |index| {
            let drop = COLUMNS[*index].2;
            (drop == 0 || drop > dropped) && (told || !DELAYS.contains(index))
        })
    };
    // A blank stands between two columns.
    let needed = |dropped: u8| -> u16 {
        let columns = kept(dropped).map(|index| COLUMNS[index].1 + 1);
        columns.sum::<u16>() - 1
    };
    let fits = |dropped: &u8| width.is_none_or(|width| width >= needed(*dropped));
    let dropped = (0..LAST_DROP).find(fits).unwrap_or(LAST_DROP);
    let places: Vec<usize> = kept(dropped).collect();
    let mut table = Table::new();
    table.load_preset(RULED);
    if let Some(width) = width {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
    table.set_header(places.iter().map(|&index| match (index, rates) {
        (TIME, Some(_)) => "share of time",
        _ => COLUMNS[index].0,
    }));
    for cells in rows(gpu, rates) {
        table.add_row(places.iter().map(|&index| cells[index].as_str()));
    }
    let roomy = fits(&dropped);
    for (place, &index) in places.iter().enumerate() {
        let Some(column) = table.column_mut(place) else {
            continue;
        };
        if (FIRST_NUMBER..EVIDENCE).contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if roomy {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(
                COLUMNS[index].1,
            )));
        }
    }
    table
}

fn rows(gpu: &GpuView, rates: Option<&Rates<'_>>) -> Vec<[String; COLUMNS.len()]> {
    let mut rows: Vec<_> = gpu
        .containers
        .iter()
        .map(|container| row(gpu, container, rates))
        .collect();
    let mut rest = |name: &str, reason: &str, memory: String| {
        let mut cells = <[String; COLUMNS.len()]>::default();
        cells[0] = name.to_owned();
        cells[1] = reason.to_owned();
        cells[2] = memory;
        rows.push(cells);
    };
    match &gpu.unattributed {
        Reading::Value(remainders) => {
            for (reason, bytes) in remainders {
                if *bytes > Bytes(0) {
                    let reason = reason.label().replace('_', " ");
                    rest("(unattributed)", &reason, bytes.to_string());
                }
            }
        }
        unknown => rest("(unattributed)", "", reading(&unknown.as_ref().map(|_| ""))),
    }
    rest("(unexplained)", "", reading(&gpu.unexplained.map(signed)));
    rows
}

fn row(
    gpu: &GpuView,
    container: &ContainerView,
    rates: Option<&Rates<'_>>,
) -> [String; COLUMNS.len()] {
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
        delay: _,
        claims: _,
        qos: _,
        workload: _,
    } = container;
    let gone = if *present { "" } else { " (gone)" };
    let pod = format!("{}/{}{gone}", short(namespace), short(pod));
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
    let [inflicted, waits] = canary::cells(gpu, container, rates);
    [
        pod,
        short(name).into_owned(),
        memory,
        fair_share,
        of_share,
        reading(memory_peak),
        time,
        samples,
        inflicted,
        waits,
        evidence.label().to_owned(),
    ]
}
