//! What canaries found out.

use std::collections::BTreeMap;
use std::time::Duration;

use slicewatch::model::{
    CanaryReason, CanaryState, CanaryView, Cause, ContainerDelay, DelayHistogram, DelayPair,
    DelayRemainder, DelaySeconds, NativeBuckets, Quantiles, Reading, Weight,
};

/// What a container did to others and they to it, in seconds.
pub(super) fn delay(inflicted: f64, exposed: f64, exposed_probes: f64) -> Reading<ContainerDelay> {
    Reading::Value(ContainerDelay {
        inflicted: DelaySeconds(inflicted),
        exposed: DelaySeconds(exposed),
        exposed_probes,
        turn: Some(Duration::from_micros(1_750)),
        weight: Weight::Turn,
    })
}

fn quantiles(probes: u64, micros: [u64; 4]) -> Reading<Quantiles> {
    let [mean, p50, p90, p99] = micros.map(Duration::from_micros);
    Reading::Value(Quantiles {
        probes,
        mean,
        p50,
        p90,
        p99,
    })
}

/// A canary that found out about everybody: with what the containers of the shared GPU inflicted
/// its remainders add up to its sum.
pub(super) fn running() -> CanaryView {
    let delays = DelayHistogram {
        counts: [210, 90, 0, 0, 10, 40, 150, 88, 10, 0, 0, 0, 0, 1, 0, 1],
        sum: DelaySeconds(15.75),
        native: Some(NativeBuckets {
            schema: 1,
            zero_threshold: 1e-6,
            zero_count: 2,
            // Two runs with a gap between them, and one bucket far above.
            positive: BTreeMap::from([
                (-32, 208),
                (-31, 90),
                (-22, 50),
                (-21, 240),
                (-20, 9),
                (8, 1),
            ]),
        }),
    };
    CanaryView {
        state: CanaryState::Running,
        reason: CanaryReason::Shared,
        delays: Reading::Value(delays),
        recent: quantiles(600, [1_220, 410, 2_300, 2_900]),
        baseline: quantiles(900, [18, 17, 25, 39]),
        stall: Reading::Value(Duration::ZERO),
        missed: 4,
        clock_error: Some(Duration::from_micros(6)),
        unattributed: BTreeMap::from([
            (DelayRemainder::Baseline, DelaySeconds(0.25)),
            (DelayRemainder::HostProcess, DelaySeconds(2.0)),
        ]),
        pairs: vec![
            DelayPair {
                victim: 4,
                aggressor: 0,
                delay: DelaySeconds(0.78),
                probes: 600.0,
            },
            DelayPair {
                victim: 0,
                aggressor: 4,
                delay: DelaySeconds(0.25),
                probes: 500.0,
            },
            DelayPair {
                victim: 4,
                aggressor: 2,
                delay: DelaySeconds(0.072),
                probes: 600.0,
            },
        ],
    }
}

/// One that gave its memory back after some probes.
pub(super) fn yielded() -> CanaryView {
    CanaryView {
        state: CanaryState::Yielded,
        reason: CanaryReason::LowMemory,
        delays: Reading::Value(DelayHistogram {
            counts: [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            sum: DelaySeconds(0.0025),
            native: None,
        }),
        recent: Reading::Failed(Cause::Stale),
        baseline: Reading::Failed(Cause::NotYet),
        unattributed: BTreeMap::from([(DelayRemainder::NoShare, DelaySeconds(0.0025))]),
        ..CanaryView::off(CanaryReason::NotYet)
    }
}

/// One whose first probe never came back.
pub(super) fn stalled() -> CanaryView {
    CanaryView {
        state: CanaryState::Stalled,
        reason: CanaryReason::ProbeOutstanding,
        stall: Reading::Value(Duration::from_millis(12_500)),
        missed: 180,
        ..CanaryView::off(CanaryReason::NotYet)
    }
}
