//! What is on the screen, ready to be drawn: GPUs with their containers, filtered and sorted.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::{Bytes, ContainerView, GpuUuid, GpuView, Reading, Snapshot};
use crate::publish::terminal::canary::{name, waits};
use crate::publish::terminal::cells::reading;
use crate::publish::terminal::gpu::Rates;

use super::window::Window;

/// What rows are sorted by.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// What it holds, most first.
    #[default]
    Memory,
    /// Its share of GPU time, most first.
    Time,
    /// What others wait because of it, most first.
    Inflicted,
    /// By namespace and pod.
    Name,
}

impl Sort {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Memory => Self::Time,
            Self::Time => Self::Inflicted,
            Self::Inflicted => Self::Name,
            Self::Name => Self::Memory,
        }
    }

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Inflicted => "delay inflicted",
            Self::Name => "name",
        }
    }
}

/// Which rows are shown, and in which order.
#[derive(Debug, Default, Clone)]
pub(super) struct Choice {
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    /// Those with it in `namespace/pod/container`, whatever the case; empty for all.
    pub(super) filter: String,
}

/// A container on a GPU: what stays the same from one snapshot to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) gpu: GpuUuid,
    pub(super) namespace: Arc<str>,
    pub(super) pod: Arc<str>,
    pub(super) container: Arc<str>,
    pub(super) present: bool,
}

impl Key {
    pub(super) fn of(gpu: &GpuView, row: &ContainerView) -> Self {
        Self {
            gpu: gpu.identity.uuid.clone(),
            namespace: Arc::clone(&row.namespace),
            pod: Arc::clone(&row.pod),
            container: Arc::clone(&row.container),
            present: row.present,
        }
    }
}

/// A value, or the words for why there is none.
pub(super) type Told = Result<f64, String>;

/// A row of the table.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: Key,
    /// Its place in the device's containers.
    pub(super) index: usize,
    /// Namespace and pod, with the container where the pod has another one here.
    pub(super) name: String,
    pub(super) memory: Reading<Bytes>,
    pub(super) fair_share: Reading<Bytes>,
    pub(super) peak: Reading<Bytes>,
    /// Share of the GPU's time.
    pub(super) time: Told,
    /// Samples that say so.
    pub(super) samples: Option<u64>,
    /// Seconds that a request waits because of it.
    pub(super) inflicted: Told,
    /// Seconds that its own requests wait because of the others.
    pub(super) waits: Told,
    pub(super) evidence: &'static str,
}

impl Row {
    /// Memory by fair share.
    pub(super) fn of_share(&self) -> Option<f64> {
        let (memory, share) = (self.memory.value()?, self.fair_share.value()?);
        (share.0 > 0).then(|| memory.0 as f64 / share.0 as f64)
    }
}

/// One GPU and its rows.
#[derive(Debug, Clone)]
pub(super) struct Section {
    /// Its place in the snapshot.
    pub(super) gpu: usize,
    pub(super) rows: Vec<Row>,
    /// Share of its time that it was busy.
    pub(super) busy: Option<f64>,
    /// Rows that the filter leaves out.
    pub(super) hidden: usize,
}

/// A snapshot as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) sections: Vec<Section>,
}

impl Shown {
    /// The newest snapshot.
    pub(super) fn new(window: &Window) -> Option<Self> {
        let snapshot = Arc::clone(window.latest()?);
        let sections = (0..snapshot.gpus.len())
            .map(|gpu| section(window, &snapshot, gpu))
            .collect();
        Some(Self { snapshot, sections })
    }

    /// The rows that are wanted, in the wanted order.
    pub(super) fn chosen(&self, choice: &Choice) -> Self {
        let mut chosen = self.clone();
        let filter = choice.filter.to_lowercase();
        for section in &mut chosen.sections {
            let all = section.rows.len();
            section.rows.retain(|row| is_wanted(&row.key, &filter));
            section.hidden = all - section.rows.len();
            section.rows.sort_by(|one, other| order(one, other, choice));
        }
        chosen
    }

    /// The GPU of a section.
    pub(super) fn gpu(&self, section: &Section) -> &GpuView {
        &self.snapshot.gpus[section.gpu]
    }

    /// All rows, GPU after GPU.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }
}

fn section(window: &Window, snapshot: &Snapshot, gpu: usize) -> Section {
    let view_now = &snapshot.gpus[gpu];
    let times = window.rates(view_now);
    let ends = window.ends();
    let delays = ends.map(|(earlier, _)| Rates::new(earlier, snapshot.at, view_now));
    let rows = view_now.containers.iter().enumerate().map(|(index, row)| {
        let time = times.as_ref().and_then(|times| times.of(row));
        let why = match &row.gpu_time {
            Reading::Value(_) => "? (new)".to_owned(),
            unknown => reading(&unknown.map(|_| "")),
        };
        let unseen = || Err("? (new)".to_owned());
        let [inflicted, waits] = match &delays {
            Some(_) => waits(view_now, row, delays.as_ref()),
            // One snapshot says nothing of now.
            None => match row.delay {
                Reading::Value(_) => [unseen(), unseen()],
                _ => waits(view_now, row, None),
            },
        };
        let gone = |reading: Reading<Bytes>| match row.present {
            true => reading,
            false => Reading::Unsupported,
        };
        Row {
            key: Key::of(view_now, row),
            index,
            name: name(view_now, index),
            memory: gone(row.memory),
            fair_share: gone(row.fair_share),
            peak: row.memory_peak,
            time: time.map(|(share, _)| whole(share)).ok_or(why),
            samples: time.map(|(_, samples)| samples),
            inflicted,
            waits,
            evidence: row.evidence.label(),
        }
    });
    Section {
        gpu,
        rows: rows.collect(),
        busy: times.and_then(|times| times.busy()).map(whole),
        hidden: 0,
    }
}

/// A share of time: snapshots are not taken at the very moments of drains, and the sum may come out a
/// little over all there is.
fn whole(share: f64) -> f64 {
    share.min(1.0)
}

fn is_wanted(key: &Key, filter: &str) -> bool {
    let Key {
        namespace,
        pod,
        container,
        ..
    } = key;
    filter.is_empty()
        || format!("{namespace}/{pod}/{container}")
            .to_lowercase()
            .contains(filter)
}

/// What is not known comes last, whichever way round.
fn order(one: &Row, other: &Row, choice: &Choice) -> Ordering {
    let most_first = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) if choice.reversed => one.total_cmp(&other),
        (Some(one), Some(other)) => other.total_cmp(&one),
        (one, other) => other.is_some().cmp(&one.is_some()),
    };
    let bytes = |row: &Row| row.memory.value().map(|bytes| bytes.0 as f64);
    let told = |told: &Told| told.as_ref().ok().copied();
    let by_name = one.index.cmp(&other.index);
    let order = match choice.sort {
        Sort::Memory => most_first(bytes(one), bytes(other)),
        Sort::Time => most_first(told(&one.time), told(&other.time)),
        Sort::Inflicted => most_first(told(&one.inflicted), told(&other.inflicted)),
        Sort::Name if choice.reversed => by_name.reverse(),
        Sort::Name => by_name,
    };
    order.then(by_name)
}
