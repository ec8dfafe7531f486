//! Framebuffer: who has more than its share, and who ended for want of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::code::{REPLICAS_TREATED_AS_ISOLATED, TENANT_OVER_FAIR_SHARE};
use super::held::{Seen, Verdict, Words};
use super::words::{listed, of_gpu, of_pod, pod, pods};
use crate::model::{Bytes, ContainerView, GpuUuid, GpuView, Reading, Snapshot};

/// This much over its share is more than a rounding of the share, or a context. In percent.
const OVER: u64 = 105;

const FAIR_SHARE_MEND: &str = "no set-up keeps it to its share: tell the program \
     (--gpu-memory-utilization of vLLM, torch.cuda.set_per_process_memory_fraction, \
     XLA_PYTHON_CLIENT_MEM_FRACTION, TF_FORCE_GPU_ALLOW_GROWTH=true), offer fewer replicas, or hold \
     memory by MPS or MIG";

/// What a pod holds of a device and what it should, where both are known.
struct Held {
    memory: Bytes,
    share: Bytes,
}

pub(super) fn look(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    for gpu in &snapshot.gpus {
        for rows in pods(gpu) {
            let Some(verdict) = over_share(gpu, rows) else {
                continue;
            };
            seen.push(Seen {
                code: &TENANT_OVER_FAIR_SHARE,
                subject: of_pod(&rows[0]),
                verdict,
            });
        }
    }
}

fn over_share(gpu: &GpuView, rows: &[ContainerView]) -> Option<Verdict> {
    let held = match held(rows)? {
        Reading::Value(held) => held,
        Reading::Unsupported | Reading::Failed(_) => return Some(Verdict::Unknown),
    };
    if held.memory <= held.share {
        return None;
    }
    let words = Words::new(
        format_args!(
            "holds {} of {}, its fair share is {}",
            held.memory, gpu.identity.uuid, held.share
        ),
        FAIR_SHARE_MEND,
    );
    Some(match is_over(held.memory, held.share) {
        true => Verdict::Holds(words),
        false => Verdict::Nearly(words),
    })
}

fn is_over(memory: Bytes, share: Bytes) -> bool {
    u128::from(memory.0) * 100 > u128::from(share.0) * u128::from(OVER)
}

/// `None` where nothing is granted: there is no share to be over.
fn held(rows: &[ContainerView]) -> Option<Reading<Held>> {
    let mut sum = Held {
        memory: Bytes(0),
        share: Bytes(0),
    };
    for row in rows.iter().filter(|row| row.present) {
        match (row.memory, row.fair_share) {
            (Reading::Failed(cause), _) | (_, Reading::Failed(cause)) => {
                return Some(Reading::Failed(cause));
            }
            (Reading::Unsupported, _) => return Some(Reading::Unsupported),
            (Reading::Value(memory), share) => {
                sum.memory += memory;
                sum.share += share.copied().unwrap_or_default();
            }
        }
    }
    (sum.share > Bytes(0)).then_some(Reading::Value(sum))
}

/// Looks for processes that ended while the framebuffer was under its floor and somebody had more
/// than its share of it.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    /// Exits under pressure of the snapshot before, where there were any.
    exits: HashMap<Row, u64>,
}

type Row = (GpuUuid, Arc<str>, Arc<str>, Arc<str>);

impl Isolation {
    pub(super) fn look(&mut self, snapshot: &Snapshot, seen: &mut Vec<Seen>) {
        let before = std::mem::take(&mut self.exits);
        for gpu in &snapshot.gpus {
            let mut ended: BTreeMap<String, u64> = BTreeMap::new();
            for row in gpu
                .containers
                .iter()
                .filter(|row| row.exits_under_pressure > 0)
            {
                let key: Row = (
                    gpu.identity.uuid.clone(),
                    Arc::clone(&row.namespace),
                    Arc::clone(&row.pod),
                    Arc::clone(&row.container),
                );
                let now = row.exits_under_pressure;
                // A counter that went back is a new container's of the same name.
                let counted = before.get(&key).filter(|before| **before <= now);
                let new = now - counted.copied().unwrap_or(0);
                if new > 0 {
                    *ended.entry(pod(row)).or_insert(0) += new;
                }
                self.exits.insert(key, now);
            }
            if ended.is_empty() {
                continue;
            }
            if let Some(words) = hogged(gpu, &ended) {
                seen.push(Seen {
                    code: &REPLICAS_TREATED_AS_ISOLATED,
                    subject: of_gpu(gpu),
                    verdict: Verdict::Holds(words),
                });
            }
        }
    }
}

/// Who had most more than its share in the last minute, against others that ended. Without one that
/// took more, the GPU was simply full: as many replicas as planned, each with its share, and a
/// process may end for many reasons.
fn hogged(gpu: &GpuView, ended: &BTreeMap<String, u64>) -> Option<Words> {
    let (memory, replicas) = (gpu.memory.copied()?, gpu.replicas.copied()?);
    let reserved = memory.reserved.copied().unwrap_or_default();
    let share = |row: &ContainerView| {
        let granted = u64::from(row.replicas.copied()?.max(1));
        let one = memory.total.saturating_sub(reserved).0 / u64::from(replicas.max(1));
        Some(Bytes(one.saturating_mul(granted)))
    };
    let over = |row: &&ContainerView| -> Option<Bytes> {
        let (peak, share) = (row.memory_peak.copied()?, share(row)?);
        is_over(peak, share).then(|| peak.saturating_sub(share))
    };
    let with_most = gpu
        .containers
        .iter()
        .filter(|row| over(row).is_some())
        .max_by_key(over)?;
    let hog = pod(with_most);
    let mut others = ended.iter().filter(|(pod, _)| **pod != hog).peekable();
    others.peek()?;
    let used = match gpu.used_peak {
        Reading::Value(used) => used.to_string(),
        Reading::Unsupported | Reading::Failed(_) => "nearly all".to_owned(),
    };
    Some(Words::new(
        format_args!(
            "{used} of {} was in use within the last minute; {hog} held up to {} then, its fair share \
             is {}; processes of others that ended while the rest was under the floor: {}",
            memory.total,
            with_most.memory_peak.copied()?,
            share(with_most)?,
            listed(others.map(|(pod, count)| format!("{count} of {pod}")))
        ),
        FAIR_SHARE_MEND,
    ))
}
