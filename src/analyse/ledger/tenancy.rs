//! From a drain of the ring to the parts of time that tenants had, for the delays of its probes.

use std::collections::BTreeMap;

use crate::analyse::contention::{Tenancy, TenantId};
use crate::model::{Drain, GpuSeconds};

/// A card that is busy for less of the time is idle.
const IDLE: f64 = 0.01;

/// GPU time of a drain that is no container's.
#[derive(Debug, Default)]
pub(super) struct Rest {
    pub(super) canary: GpuSeconds,
    pub(super) host: GpuSeconds,
    pub(super) unknown: GpuSeconds,
}

/// Who had which part of the covered time. Time that no row claims, if it is more than one sample of
/// the ring can err by, is an unknown process's.
pub(super) fn tenancy(
    drain: &Drain,
    containers: impl Iterator<Item = (TenantId, GpuSeconds)>,
    rest: &Rest,
) -> Tenancy {
    let covered = drain.covered.as_secs_f64();
    let part = |time: f64| {
        let part = time / covered;
        if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        }
    };
    let mut shares: BTreeMap<TenantId, f64> = containers
        .map(|(tenant, time)| (tenant, part(time.0)))
        .filter(|(_, share)| *share > 0.0)
        .collect();
    let rows: f64 = drain.rows.iter().map(|row| row.time.0).sum();
    let unclaimed = drain.busy.0 - rows;
    let mut unknown = rest.unknown.0;
    if part(unclaimed) * f64::from(drain.samples) > 1.0 {
        unknown += unclaimed;
    }
    for (tenant, time) in [(TenantId::HOST, rest.host.0), (TenantId::UNKNOWN, unknown)] {
        if part(time) > 0.0 {
            shares.insert(tenant, part(time));
        }
    }
    let idle = shares.is_empty() && part(drain.busy.0 - rest.canary.0) < IDLE;
    Tenancy {
        covered: drain.covered,
        samples: drain.samples,
        idle,
        shares,
    }
}
