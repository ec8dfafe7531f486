//! One pass over a snapshot, family by family, that every encoder consumes. It borrows from the
//! snapshot, and it alone decides which series there are: unknown gives none, and no two are
//! the same whatever the snapshot holds.

mod series;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::model::{
    ContainerDelay, ContainerView, DELAY_BOUNDS, DelayHistogram, GpuView, Snapshot,
};

use super::ProcessStats;
use super::table::{self, Metric, Scope};

/// A label's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Label<'a> {
    Text(&'a str),
    Number(u32),
}

impl<'a> From<&'a str> for Label<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

/// A plain value; integers stay exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Number {
    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Unsigned(value) => value as f64,
            Self::Signed(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Unsigned(value.into())
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Unsigned(value.into())
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Duration> for Number {
    fn from(value: Duration) -> Self {
        Self::Float(value.as_secs_f64())
    }
}

/// What a series says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(Number),
    Histogram(&'a DelayHistogram),
}

impl Value<'_> {
    /// A value that is no number is unknown.
    fn is_known(self) -> bool {
        match self {
            Self::Number(number) => number.as_f64().is_finite(),
            Self::Histogram(histogram) => histogram.sum.0.is_finite(),
        }
    }
}

impl<T: Into<Number>> From<T> for Value<'_> {
    fn from(number: T) -> Self {
        Self::Number(number.into())
    }
}

/// Upper bounds, infinity the last, and what each bucket has beyond the one before.
pub(super) fn buckets(histogram: &DelayHistogram) -> impl Iterator<Item = (f64, u64)> {
    DELAY_BOUNDS
        .into_iter()
        .chain([f64::INFINITY])
        .zip(histogram.counts)
}

/// Values of the scope's labels.
#[derive(Debug, Clone, Copy)]
enum Base<'a> {
    Node,
    Gpu(&'a str),
    Container(&'a str, &'a ContainerView),
}

/// One metric's series.
#[derive(Debug)]
pub(super) struct Family<'a> {
    pub(super) metric: &'static Metric,
    samples: Vec<(Base<'a>, Value<'a>)>,
    /// Values of the extra labels, sample by sample.
    extra: Vec<Label<'a>>,
}

impl<'a> Family<'a> {
    /// The series: each its labels and its value.
    pub(super) fn samples(&self) -> impl Iterator<Item = (Labels<'_, 'a>, Value<'a>)> {
        let width = self.metric.extra.len();
        self.samples
            .iter()
            .enumerate()
            .map(move |(index, &(base, value))| {
                let extra = &self.extra[index * width..(index + 1) * width];
                let metric = self.metric;
                (
                    Labels {
                        metric,
                        base,
                        extra,
                    },
                    value,
                )
            })
    }
}

/// The labels of one series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labels<'f, 'a> {
    metric: &'static Metric,
    base: Base<'a>,
    extra: &'f [Label<'a>],
}

impl<'f, 'a: 'f> Labels<'f, 'a> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.base, Base::Node) && self.extra.is_empty()
    }

    /// Names and values, in the table's order.
    pub(super) fn pairs(self) -> impl Iterator<Item = (&'static str, Label<'a>)> + 'f {
        let base: [&str; 4] = match self.base {
            Base::Node => [""; 4],
            Base::Gpu(uuid) => [uuid, "", "", ""],
            Base::Container(uuid, view) => [uuid, &view.namespace, &view.pod, &view.container],
        };
        let scope = self.metric.scope.labels().iter().copied();
        scope.zip(base.into_iter().map(Label::Text)).chain(
            self.metric
                .extra
                .iter()
                .copied()
                .zip(self.extra.iter().copied()),
        )
    }
}

/// A device that series are made of.
struct Device<'a> {
    uuid: &'a str,
    view: &'a GpuView,
    /// A MIG-enabled card: identity, health, XIDs and profiles alone.
    card_only: bool,
    containers: Vec<&'a ContainerView>,
}

/// Devices with distinct UUIDs, each with containers of distinct names.
fn devices(snapshot: &Snapshot) -> Vec<Device<'_>> {
    let mut seen = HashSet::new();
    let gpus = snapshot.gpus.iter().map(|view| (view, false));
    let cards = snapshot.mig_cards.iter().map(|view| (view, true));
    gpus.chain(cards)
        .filter(|(view, _)| seen.insert(view.identity.uuid.as_str()))
        .map(|(view, card_only)| Device {
            uuid: view.identity.uuid.as_str(),
            view,
            card_only,
            containers: containers(view),
        })
        .collect()
}

/// One view a name: a restarted pod's new container stands beside the one that is gone.
fn containers(view: &GpuView) -> Vec<&ContainerView> {
    let mut kept: Vec<&ContainerView> = Vec::with_capacity(view.containers.len());
    let mut places = HashMap::with_capacity(view.containers.len());
    for container in &view.containers {
        let name = (
            &*container.namespace,
            &*container.pod,
            &*container.container,
        );
        match places.get(&name) {
            None => {
                places.insert(name, kept.len());
                kept.push(container);
            }
            Some(&place) => {
                if container.present || !kept[place].present {
                    kept[place] = container;
                }
            }
        }
    }
    kept
}

/// Fills one family after the other and hands each that has a series to `emit`.
struct Pass<'a, F> {
    devices: Vec<Device<'a>>,
    family: Family<'a>,
    emit: F,
}

impl<'a, E, F: FnMut(&Family<'a>) -> Result<(), E>> Pass<'a, F> {
    fn start(&mut self, metric: &'static Metric) {
        self.family.metric = metric;
        self.family.samples.clear();
        self.family.extra.clear();
    }

    /// Adds a series, where its value is known.
    fn push<const N: usize>(&mut self, base: Base<'a>, extra: [Label<'a>; N], value: Value<'a>) {
        debug_assert_eq!(N, self.family.metric.extra.len());
        if value.is_known() {
            self.family.samples.push((base, value));
            self.family.extra.extend(extra);
        }
    }

    /// Emits the family, of series with the same labels the first.
    fn finish(&mut self) -> Result<(), E> {
        let family = &mut self.family;
        let width = family.metric.extra.len();
        if width > 0 {
            let mut seen = HashSet::with_capacity(family.samples.len());
            let twins: Vec<usize> = family
                .samples
                .iter()
                .enumerate()
                .filter(|&(index, &(base, _))| {
                    let key = match base {
                        Base::Node => ("", "", "", ""),
                        Base::Gpu(uuid) => (uuid, "", "", ""),
                        Base::Container(uuid, view) => {
                            (uuid, &*view.namespace, &*view.pod, &*view.container)
                        }
                    };
                    !seen.insert((key, &family.extra[index * width..(index + 1) * width]))
                })
                .map(|(index, _)| index)
                .collect();
            for index in twins.into_iter().rev() {
                family.samples.remove(index);
                family.extra.drain(index * width..(index + 1) * width);
            }
        }
        if family.samples.is_empty() {
            return Ok(());
        }
        (self.emit)(&self.family)
    }

    /// A family with a series a device, cards in MIG mode left out.
    fn gpus<V: Into<Value<'a>>>(
        &mut self,
        metric: &'static Metric,
        value: impl Fn(&'a GpuView) -> Option<V>,
    ) -> Result<(), E> {
        self.gpus_by(metric, |gpu| value(gpu).map(|value| ([], value)))
    }

    /// A family with any number of series a device, each with extra labels, cards in MIG mode
    /// left out.
    fn gpus_by<const N: usize, V: Into<Value<'a>>, I: IntoIterator<Item = ([Label<'a>; N], V)>>(
        &mut self,
        metric: &'static Metric,
        series: impl Fn(&'a GpuView) -> I,
    ) -> Result<(), E> {
        self.devices_by(metric, false, series)
    }

    /// The same with cards in MIG mode.
    fn cards_by<const N: usize, V: Into<Value<'a>>, I: IntoIterator<Item = ([Label<'a>; N], V)>>(
        &mut self,
        metric: &'static Metric,
        series: impl Fn(&'a GpuView) -> I,
    ) -> Result<(), E> {
        self.devices_by(metric, true, series)
    }

    fn devices_by<
        const N: usize,
        V: Into<Value<'a>>,
        I: IntoIterator<Item = ([Label<'a>; N], V)>,
    >(
        &mut self,
        metric: &'static Metric,
        cards: bool,
        series: impl Fn(&'a GpuView) -> I,
    ) -> Result<(), E> {
        self.start(metric);
        for index in 0..self.devices.len() {
            let Device {
                uuid,
                view,
                card_only,
                ..
            } = self.devices[index];
            if card_only && !cards {
                continue;
            }
            for (extra, value) in series(view) {
                self.push(Base::Gpu(uuid), extra, value.into());
            }
        }
        self.finish()
    }

    /// A family with at most one series a container, with extra labels.
    fn containers<const N: usize>(
        &mut self,
        metric: &'static Metric,
        series: impl Fn(&'a GpuView, &'a ContainerView) -> Option<([Label<'a>; N], Number)>,
    ) -> Result<(), E> {
        self.start(metric);
        for index in 0..self.devices.len() {
            let Device { uuid, view, .. } = self.devices[index];
            for place in 0..self.devices[index].containers.len() {
                let container = self.devices[index].containers[place];
                if let Some((extra, value)) = series(view, container) {
                    self.push(Base::Container(uuid, container), extra, value.into());
                }
            }
        }
        self.finish()
    }

    /// A gauge of the containers that are still there.
    fn gauge(
        &mut self,
        metric: &'static Metric,
        value: impl Fn(&'a GpuView, &'a ContainerView) -> Option<Number>,
    ) -> Result<(), E> {
        self.containers(metric, |gpu, container| {
            if container.present {
                Some(([], value(gpu, container)?))
            } else {
                None
            }
        })
    }

    /// A counter that means something only where shares of time can be measured.
    fn timed(
        &mut self,
        metric: &'static Metric,
        value: impl Fn(&'a ContainerView) -> Number,
    ) -> Result<(), E> {
        self.containers(metric, |_, container| {
            container.gpu_time.value().map(|_| ([], value(container)))
        })
    }

    /// A counter of what the canary found out about containers.
    fn delay(
        &mut self,
        metric: &'static Metric,
        value: impl Fn(&ContainerDelay) -> f64,
    ) -> Result<(), E> {
        self.containers(metric, |_, container| {
            Some(([], value(container.delay.value()?).into()))
        })
    }

    /// A family of the node.
    fn node<const N: usize>(
        &mut self,
        metric: &'static Metric,
        series: impl IntoIterator<Item = ([Label<'a>; N], Number)>,
    ) -> Result<(), E> {
        debug_assert_eq!(metric.scope, Scope::Node);
        self.start(metric);
        for (extra, value) in series {
            self.push(Base::Node, extra, value.into());
        }
        self.finish()
    }
}

/// Hands every family that has a series to `emit`, in the table's order.
pub(super) fn each<'a, E>(
    snapshot: &'a Snapshot,
    process: &ProcessStats,
    emit: impl FnMut(&Family<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let family = Family {
        metric: &table::GPU_INFO,
        samples: Vec::new(),
        extra: Vec::new(),
    };
    Pass {
        devices: devices(snapshot),
        family,
        emit,
    }
    .all(snapshot, process)
}
