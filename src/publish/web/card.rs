//! One device with what is worked out of it once for all its parts of the page.

use std::cmp::Reverse;

use super::words::{anchor, count, duration, reading, words};
use crate::model::{ContainerView, GpuView, Reading, Sharing, Snapshot};
use crate::publish::charts::Point;
use crate::publish::escape::Escaped;
use crate::publish::history::{DeviceHistory, History, RowHistory, SPAN, Sample};

/// Colours of the stylesheet that tell tenants apart.
const COLOURS: usize = 8;

/// One device.
pub(super) struct Card<'a> {
    pub(super) view: &'a GpuView,
    pub(super) past: Option<DeviceHistory<'a>>,
    pub(super) id: String,
    /// Those who had most of the GPU's time first; those who are gone last.
    pub(super) tenants: Vec<Tenant<'a>>,
}

/// One container on it.
pub(super) struct Tenant<'a> {
    pub(super) view: &'a ContainerView,
    pub(super) past: Option<RowHistory<'a>>,
    pub(super) id: String,
    pub(super) class: &'static str,
}

impl<'a> Card<'a> {
    pub(super) fn new(view: &'a GpuView, history: &'a History) -> Self {
        let uuid = view.identity.uuid.as_str();
        let past = history.device(&view.identity.uuid);
        let mut tenants: Vec<Tenant<'a>> = Vec::with_capacity(view.containers.len());
        for (index, container) in view.containers.iter().enumerate() {
            let mut id = name_of(view, container);
            // One that was started anew has its names twice for a while.
            if tenants.iter().any(|tenant| tenant.id == id) {
                id = format!("{id}x{index}");
            }
            tenants.push(Tenant {
                view: container,
                past: past.and_then(|past| past.row(container)),
                id,
                class: colour(index),
            });
        }
        // Whole percents, so that the order does not follow every sample.
        let busiest = |tenant: &Tenant<'_>| {
            let share = tenant.past.and_then(|past| past.share_ever());
            share.map_or(0, |share| (share * 100.0).round() as u32)
        };
        tenants.sort_by_cached_key(|tenant| (!tenant.view.present, Reverse(busiest(tenant))));
        Self {
            view,
            past,
            id: anchor('g', [uuid]),
            tenants,
        }
    }

    /// The one that has a tenant of this name.
    pub(super) fn holding(snapshot: &'a Snapshot, history: &'a History, id: &str) -> Option<Self> {
        let holds = |view: &&GpuView| {
            let mut containers = view.containers.iter();
            containers.any(|container| id.starts_with(&name_of(view, container)))
        };
        Some(Self::new(snapshot.gpus.iter().find(holds)?, history))
    }

    /// How it is shared, and by how many.
    pub(super) fn tags(&self) -> Vec<String> {
        let view = self.view;
        let mut tags = vec![match view.sharing {
            Sharing::None => "not shared".to_owned(),
            Sharing::TimeSlicing => "time-slicing".to_owned(),
            Sharing::Mps => "MPS".to_owned(),
            Sharing::Unknown => "sharing unknown (no device plugin seen)".to_owned(),
        }];
        tags.push(match (view.replicas_allocated, view.replicas) {
            (Reading::Value(granted), Reading::Value(all)) => {
                format!("{granted} of {} granted", count(all.into(), "replica"))
            }
            (_, replicas) => format!(
                "replicas {}",
                reading(&replicas, "not told", |all| all.to_string())
            ),
        });
        tags.push(match view.tenants {
            Reading::Value(tenants) => count(tenants.into(), "pod"),
            Reading::Unsupported => "pods not told".to_owned(),
            Reading::Failed(cause) => format!("pods unknown ({})", words(cause)),
        });
        if let Reading::Value(active) = view.active_tenants {
            tags.push(format!("{active} active"));
        }
        let pressure = view.pressure.as_secs();
        if pressure > 0 {
            tags.push(format!("{} short of memory", duration(pressure)));
        }
        let xids = view.xids.iter().filter(|(_, count)| **count > 0);
        tags.extend(xids.map(|(xid, times)| format!("<b>XID {xid}</b> ×{times}")));
        tags
    }

    /// A container's pod for people, with the container where the pod has another one here.
    pub(super) fn name(&self, view: &ContainerView) -> String {
        let pod = format!("{}/{}", view.namespace, view.pod);
        let has_other = self.view.containers.iter().any(|other| {
            (&other.namespace, &other.pod) == (&view.namespace, &view.pod)
                && other.container != view.container
        });
        if has_other {
            format!("{pod}/{}", view.container)
        } else {
            pod
        }
    }
}

impl Tenant<'_> {
    /// The container's name where the pod's does not say enough.
    pub(super) fn subtitle(&self) -> String {
        let view = self.view;
        let namespace = Escaped(&view.namespace);
        if view.container.is_empty() {
            namespace.to_string()
        } else {
            format!("{namespace} · {}", Escaped(&view.container))
        }
    }
}

/// What a container is called in links.
fn name_of(view: &GpuView, container: &ContainerView) -> String {
    let uuid = view.identity.uuid.as_str();
    let names = [
        uuid,
        &container.namespace,
        &container.pod,
        &container.container,
    ];
    anchor('p', names)
}

fn colour(index: usize) -> &'static str {
    const CLASSES: [&str; COLOURS] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
    CLASSES[index % COLOURS]
}

/// A series as a chart of the last 15 minutes takes it.
pub(super) fn points(samples: &[Sample]) -> Vec<Point> {
    samples
        .iter()
        .map(|sample| Point {
            at: 1.0 - sample.age.as_secs_f32() / SPAN.as_secs_f32(),
            value: sample.value,
        })
        .collect()
}

/// The highest value of a series.
pub(super) fn highest(samples: &[Sample]) -> Option<f32> {
    samples
        .iter()
        .filter_map(|sample| sample.value)
        .reduce(f32::max)
}

/// The next of 1, 2, 5, 10, 20 … that is no less.
pub(super) fn round_up(value: f32) -> f32 {
    if !(value.is_finite() && value > 0.0) {
        return 1.0;
    }
    let power = 10f32.powf(value.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|step| step * power >= value * 0.999);
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        for (value, wanted) in [
            (0.0, 1.0),
            (f32::NAN, 1.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (0.0044, 0.005),
            (0.006, 0.01),
            (130.0, 200.0),
        ] {
            assert!((round_up(value) - wanted).abs() < wanted * 1e-3, "{value}");
        }
    }
}
