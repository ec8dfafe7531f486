//! GPU time by workload: it outlives the pods of short Jobs.
//!
//! Time is counted for the workload that its container had when the time was received, and is never
//! moved: where the API server is heard only later, what was counted for the guessed name (which has
//! no kind) stays there, and what comes after is the true workload's. So no counter falls and no
//! second counts twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{GpuSeconds, GpuUuid, Moment, Workload, WorkloadTotal};

/// Silence after which a workload is forgotten.
const KEPT: Duration = Duration::from_secs(6 * 3600);
/// Workloads kept at the most; the longest silent ones go first.
const MOST: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    gpu_uuid: GpuUuid,
    namespace: Arc<str>,
    workload: Workload,
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
        workload: Workload,
        time: GpuSeconds,
        at: Moment,
    ) {
        let key = Key {
            gpu_uuid: gpu.clone(),
            namespace: Arc::clone(namespace),
            workload,
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
                workload: Arc::clone(&key.workload.name),
                kind: Arc::clone(&key.workload.kind),
                gpu_time: *gpu_time,
            })
            .collect();
        all.sort_by(|a, b| {
            let a = (&a.gpu_uuid, &a.namespace, &a.workload, &a.kind);
            a.cmp(&(&b.gpu_uuid, &b.namespace, &b.workload, &b.kind))
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Workload {
        Workload {
            kind: "Job".into(),
            name: name.into(),
        }
    }

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
        for _ in ["train-0-bcdfg", "train-1-hjklm"] {
            let train = named("train");
            workloads.add(&gpu, &"ml".into(), train, GpuSeconds(2.0), at(0));
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
            let workload = named(&format!("pod{i}x"));
            workloads.add(
                &GpuUuid::new("GPU-1"),
                &"ml".into(),
                workload,
                GpuSeconds(1.0),
                at(0),
            );
        }
        workloads.expire(at(0));
        assert_eq!(workloads.view().len(), MOST);
    }
}
