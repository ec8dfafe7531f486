//! What the tenants of one GPU wait, and for whom.

use std::collections::BTreeMap;

use crate::model::{CanaryReason, CanaryState, ContainerView, GpuView, Quantiles, Reading};

use super::cells::{reading, short};
use super::gpu::Rates;

/// A stall is told from here on: shorter ones are in the quantiles.
const STALL_SECONDS: f64 = 1.0;

/// The canary's line above the table, where one is wanted.
pub(super) fn heading(gpu: &GpuView) -> Option<String> {
    let canary = &gpu.canary;
    if (canary.state, canary.reason) == (CanaryState::Off, CanaryReason::Disabled) {
        return None;
    }
    let reason = canary.reason.label().replace('_', " ");
    let mut text = format!("  canary {} ({reason})", canary.state.label());
    if canary.delays.value().is_some() {
        let recent = canary.recent.map(|quantiles| {
            let Quantiles { mean, p50, p99, .. } = quantiles;
            let [mean, p50, p99] = [mean, p50, p99].map(|delay| seconds(delay.as_secs_f64()));
            format!("mean {mean}, p50 {p50}, p99 {p99}")
        });
        let alone = canary
            .baseline
            .map(|quantiles| format!("p50 {}", seconds(quantiles.p50.as_secs_f64())));
        text.push_str(&format!(
            "; delay {} in 60 s; alone {}",
            reading(&recent),
            reading(&alone)
        ));
    }
    if let Some(stall) = canary.stall.value()
        && stall.as_secs_f64() > STALL_SECONDS
    {
        text.push_str(&format!("; a probe waits for {:.1} s", stall.as_secs_f64()));
    }
    Some(text)
}

/// Whether there is anything to say of this GPU's containers.
pub(super) fn is_told(gpu: &GpuView) -> bool {
    let mut delays = gpu.containers.iter().map(|container| container.delay);
    delays.any(|delay| delay.value().is_some())
}

/// What a request waits because of the container, and what its own requests wait because of the
/// others, in seconds: since both were first seen, or since the earlier snapshot. Or the words for
/// what is not known.
pub(super) fn waits(
    gpu: &GpuView,
    container: &ContainerView,
    rates: Option<&Rates<'_>>,
) -> [Result<f64, String>; 2] {
    let now = match &container.delay {
        Reading::Value(delay) => delay,
        unknown => return [(); 2].map(|()| Err(reading(&unknown.map(|_| "")))),
    };
    let probes = gpu.canary.delays.value().map(|delays| delays.count());
    let [mut inflicted, mut exposed] = [now.inflicted.0, now.exposed.0];
    let [mut probes, mut own_probes] = [probes.unwrap_or(0) as f64, now.exposed_probes];
    if let Some(rates) = rates {
        let Some((before, probes_before)) = rates.delays_before(container) else {
            return ["? (new)", "-"].map(|words| Err(words.to_owned()));
        };
        probes -= probes_before as f64;
        if let Some(before) = before {
            inflicted -= before.inflicted.0;
            exposed -= before.exposed.0;
            own_probes -= before.exposed_probes;
        }
    }
    [per_probe(inflicted, probes), per_probe(exposed, own_probes)]
        .map(|delay| delay.ok_or_else(|| "-".to_owned()))
}

/// [`waits`] as words.
pub(super) fn cells(
    gpu: &GpuView,
    container: &ContainerView,
    rates: Option<&Rates<'_>>,
) -> [String; 2] {
    waits(gpu, container, rates).map(|delay| delay.map_or_else(|words| words, seconds))
}

/// Neighbours of each container, those that it waits for longest first; the container that waits
/// longest comes first.
pub(super) fn neighbours(gpu: &GpuView) -> Vec<String> {
    let mut waits: Vec<(usize, usize, f64)> = gpu
        .canary
        .pairs
        .iter()
        .filter(|pair| pair.victim.max(pair.aggressor) < gpu.containers.len())
        .filter_map(|pair| {
            let delay = per_probe(pair.delay.0, pair.probes)?;
            Some((pair.victim, pair.aggressor, delay))
        })
        .collect();
    waits.sort_by(|one, other| other.2.total_cmp(&one.2));
    let mut totals: BTreeMap<usize, f64> = BTreeMap::new();
    for &(victim, _, delay) in &waits {
        *totals.entry(victim).or_default() += delay;
    }
    let mut victims: Vec<_> = totals.into_iter().collect();
    victims.sort_by(|one, other| other.1.total_cmp(&one.1));
    let lines = victims.into_iter().map(|(victim, total)| {
        let of_it = waits.iter().filter(|wait| wait.0 == victim);
        let parts: Vec<_> = of_it
            .map(|&(_, aggressor, delay)| format!("{} {}", seconds(delay), name(gpu, aggressor)))
            .collect();
        format!(
            "  {} waits {} a request in 10 min: {}",
            name(gpu, victim),
            seconds(total),
            parts.join(", ")
        )
    });
    lines.collect()
}

/// Namespace and pod, with the container where the pod has another one here.
pub(super) fn name(gpu: &GpuView, index: usize) -> String {
    let this = &gpu.containers[index];
    let pod = format!("{}/{}", short(&this.namespace), short(&this.pod));
    let has_other = gpu.containers.iter().any(|other| {
        (&other.namespace, &other.pod) == (&this.namespace, &this.pod)
            && other.container != this.container
    });
    if has_other {
        format!("{pod}/{}", short(&this.container))
    } else {
        pod
    }
}

/// Nothing where there was no probe, or a counter went back.
pub(super) fn per_probe(delay: f64, probes: f64) -> Option<f64> {
    let mean = delay / probes;
    (probes > 0.0 && mean.is_finite() && mean >= 0.0).then_some(mean)
}

/// A length of time in the unit that suits it.
pub(super) fn seconds(delay: f64) -> String {
    if delay < 1.0 {
        format!("{:.2} ms", delay * 1e3)
    } else {
        format!("{delay:.1} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_show_in_the_unit_that_suits_them() {
        let cases = [
            (0.0, "0.00 ms"),
            (18e-6, "0.02 ms"),
            (1.424e-3, "1.42 ms"),
            (0.25, "250.00 ms"),
            (20.25, "20.2 s"),
        ];
        for (delay, wanted) in cases {
            assert_eq!(seconds(delay), wanted);
        }
    }

    #[test]
    fn what_cannot_be_divided_is_not_told() {
        assert_eq!(per_probe(1.0, 4.0), Some(0.25));
        assert_eq!(per_probe(0.0, 4.0), Some(0.0));
        for (delay, probes) in [
            (1.0, 0.0),
            (0.0, 0.0),
            (-1.0, 4.0),
            (1.0, -4.0),
            (-1.0, -4.0),
            (f64::NAN, 1.0),
            (1.0, f64::NAN),
            (f64::MAX, f64::MIN_POSITIVE),
        ] {
            assert_eq!(per_probe(delay, probes), None, "{delay} / {probes}");
        }
    }
}
