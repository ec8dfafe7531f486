//! GPU time by workload: it outlives the pods of short Jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::analyse::workload::workload_of;
use crate::model::{GpuSeconds, GpuUuid, Moment, WorkloadTotal};

/// Silence after which a workload is forgotten.
const KEPT: Duration = Duration::from_secs(6 * 3600);
/// Workloads kept at the most; the longest silent ones go first.
const MOST: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    gpu_uuid: GpuUuid,
    namespace: Arc<str>,
    workload: Arc<str>,
}

/// Totals by workload and device.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    totals: HashMap<Key, (GpuSeconds, Moment)>,
}

impl Workloads {
    /// Adds GPU time of a pod.
    pub(super) fn add(
        &mut self,
        gpu: &GpuUuid,
        namespace: &Arc<str>,
        pod: &str,
        time: GpuSeconds,
        at: Moment,
    ) {
        let key = Key {
            gpu_uuid: gpu.clone(),
            namespace: Arc::clone(namespace),
            workload: workload_of(pod).into(),
        };
        let total = self.totals.entry(key).or_insert((GpuSeconds(0.0), at));
        total.0 += time;
        total.1 = at;
    }

    /// Forgets silent workloads.
    pub(super) fn expire(&mut self, now: Moment) {
        self.totals.retain(|_, (_, last)| now.since(*last) < KEPT);
        while self.totals.len() > MOST {
            let oldest = self
                .totals
                .iter()
                .min_by_key(|(_, (_, last))| *last)
                .map(|(key, _)| key.clone());
            match oldest {
                Some(key) => self.totals.remove(&key),
                None => break,
            };
        }
    }

    /// All totals, sorted.
    pub(super) fn view(&self) -> Vec<WorkloadTotal> {
        let mut all: Vec<WorkloadTotal> = self
            .totals
            .iter()
            .map(|(key, (gpu_time, _))| WorkloadTotal {
                gpu_uuid: key.gpu_uuid.clone(),
                namespace: Arc::clone(&key.namespace),
                workload: Arc::clone(&key.workload),
                kind: "".into(),
                gpu_time: *gpu_time,
            })
            .collect();
        all.sort_by(|a, b| {
            (&a.gpu_uuid, &a.namespace, &a.workload).cmp(&(&b.gpu_uuid, &b.namespace, &b.workload))
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> Moment {
        Moment {
            monotonic: Duration::from_secs(3600 * hours),
            unix: Duration::ZERO,
        }
    }

    #[test]
    fn the_pods_of_one_job_add_up_and_are_forgotten_after_hours() {
        let mut workloads = Workloads::default();
        let gpu = GpuUuid::new("GPU-1");
        for pod in ["train-0-bcdfg", "train-1-hjklm"] {
            workloads.add(&gpu, &"ml".into(), pod, GpuSeconds(2.0), at(0));
        }
        let view = workloads.view();
        assert_eq!(view.len(), 1);
        assert_eq!(
            (&*view[0].workload, view[0].gpu_time),
            ("train", GpuSeconds(4.0))
        );
        workloads.expire(at(7));
        assert!(workloads.view().is_empty());
    }

    #[test]
    fn the_number_of_workloads_is_bounded() {
        let mut workloads = Workloads::default();
        for i in 0..MOST + 10 {
            let name = format!("pod{i}x");
            workloads.add(
                &GpuUuid::new("GPU-1"),
                &"ml".into(),
                &name,
                GpuSeconds(1.0),
                at(0),
            );
        }
        workloads.expire(at(0));
        assert_eq!(workloads.view().len(), MOST);
    }
}
