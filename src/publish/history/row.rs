//! One container's part of the history.

use std::sync::Arc;

use super::columns::Columns;
use super::device::{DeviceHistory, gain};
use super::{POINTS, SMOOTH, Sample};
use crate::model::{ContainerView, PodUid};

const MEMORY: usize = 0;
const TIME: usize = 1;
const INFLICTED: usize = 2;
/// Not a sum: what a request waited, of the probes of its point.
const EXPOSED: usize = 3;
const SERIES: usize = 4;

/// Points of the last minute.
const MINUTE: usize = 12;

/// Counters at the last point; each may be unknown.
#[derive(Debug, Default)]
struct Before {
    time: Option<f64>,
    inflicted: Option<f64>,
    exposed: Option<f64>,
    exposed_probes: Option<f64>,
}

#[derive(Debug)]
pub(super) struct Row {
    /// The snapshot's own strings.
    namespace: Arc<str>,
    pod: Arc<str>,
    container: Arc<str>,
    uid: Option<PodUid>,
    series: Columns<SERIES>,
    before: Before,
    /// Points since it was last there.
    absent: usize,
}

impl Row {
    pub(super) fn new(view: &ContainerView) -> Self {
        Self {
            namespace: Arc::clone(&view.namespace),
            pod: Arc::clone(&view.pod),
            container: Arc::clone(&view.container),
            uid: view.pod_uid.clone(),
            series: Columns::new(),
            before: Before::default(),
            absent: 0,
        }
    }

    /// The same container: by its names, and by the pod's UID where both are known.
    pub(super) fn is(&self, view: &ContainerView) -> bool {
        let same = match (&self.uid, &view.pod_uid) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same && self.pod == view.pod
            && self.container == view.container
            && self.namespace == view.namespace
    }

    pub(super) fn is_remembered(&self) -> bool {
        self.absent < POINTS
    }

    pub(super) fn bytes(&self) -> usize {
        // An Arc of a string has two counts before it.
        const COUNTS: usize = 2 * size_of::<usize>();
        let names = [&self.namespace, &self.pod, &self.container];
        let uid = self
            .uid
            .as_ref()
            .map_or(0, |uid| COUNTS + uid.as_str().len());
        let names = names.iter().map(|name| COUNTS + name.len());
        size_of::<Self>() + Columns::<SERIES>::BYTES + names.sum::<usize>() + uid
    }

    pub(super) fn interrupt(&mut self) {
        self.before = Before::default();
    }

    pub(super) fn blank(&mut self, slot: usize) {
        self.absent += 1;
        self.series.blank(slot);
    }

    pub(super) fn point(&mut self, view: &ContainerView, slot: usize) {
        if self.uid.is_none() {
            self.uid.clone_from(&view.pod_uid);
        }
        if !view.present {
            self.interrupt();
            return;
        }
        // What was absent for a while gained nothing that this point could tell.
        if self.absent > 1 {
            self.interrupt();
        }
        self.absent = 0;
        let delay = view.delay.value();
        let now = Before {
            time: view.gpu_time.value().map(|time| time.0),
            inflicted: delay.map(|delay| delay.inflicted.0),
            exposed: delay.map(|delay| delay.exposed.0),
            exposed_probes: delay.map(|delay| delay.exposed_probes),
        };
        let before = &self.before;
        let exposed = gain(before.exposed, now.exposed);
        let probes = gain(before.exposed_probes, now.exposed_probes);
        let waited = exposed
            .zip(probes)
            .and_then(|(exposed, probes)| (probes > 0.0).then(|| exposed / probes));
        let memory = view.memory.value().map(|memory| memory.0 as f64);
        self.series.set(MEMORY, slot, memory);
        self.series.set(TIME, slot, gain(before.time, now.time));
        self.series
            .set(INFLICTED, slot, gain(before.inflicted, now.inflicted));
        self.series.set(EXPOSED, slot, waited);
        self.before = now;
    }
}

/// What is known of one container on one device.
#[derive(Debug, Clone, Copy)]
pub struct RowHistory<'a> {
    device: DeviceHistory<'a>,
    row: &'a Row,
}

impl<'a> RowHistory<'a> {
    pub(super) fn new(device: DeviceHistory<'a>, row: &'a Row) -> Self {
        Self { device, row }
    }

    /// Memory in bytes.
    pub fn memory(&self) -> Vec<Sample> {
        self.raw(MEMORY)
    }

    /// Share of the GPU's time, over 15 s.
    pub fn share(&self) -> Vec<Sample> {
        let series = &self.row.series;
        self.device
            .history()
            .series(|slots| self.device.share(series, TIME, slots, SMOOTH))
    }

    /// What a short request waited because of it, in seconds, over 15 s.
    pub fn inflicted(&self) -> Vec<Sample> {
        let series = &self.row.series;
        self.device
            .history()
            .series(|slots| self.device.per_probe(series, INFLICTED, slots, SMOOTH))
    }

    /// What a short request of it waited for the others, in seconds. A gap while it was not active.
    pub fn waited(&self) -> Vec<Sample> {
        self.raw(EXPOSED)
    }

    /// Share of the GPU's time over the last minute.
    pub fn share_now(&self) -> Option<f32> {
        let slots = &mut self.device.history().slots().rev();
        self.device.share(&self.row.series, TIME, slots, MINUTE)
    }

    /// Share of the GPU's time over the whole history.
    pub fn share_ever(&self) -> Option<f32> {
        let slots = &mut self.device.history().slots().rev();
        self.device.share(&self.row.series, TIME, slots, POINTS)
    }

    /// What a short request waited because of it, in seconds, over the last minute.
    pub fn inflicted_now(&self) -> Option<f32> {
        let slots = &mut self.device.history().slots().rev();
        self.device
            .per_probe(&self.row.series, INFLICTED, slots, MINUTE)
    }

    /// What a short request of it waited for the others, in seconds, over those points of the last
    /// minute in which it was active.
    pub fn waited_now(&self) -> Option<f32> {
        let slots = self.device.history().slots().rev().take(MINUTE);
        let (mut sum, mut known) = (0.0, 0.0);
        for waited in slots.filter_map(|slot| self.row.series.get(EXPOSED, slot)) {
            sum += waited;
            known += 1.0;
        }
        (known > 0.0).then(|| sum / known)
    }

    fn raw(&self, column: usize) -> Vec<Sample> {
        let value = |slot| self.row.series.get(column, slot);
        self.device.history().series(|slots| value(slots.next()?))
    }
}
