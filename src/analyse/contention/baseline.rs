//! What a probe waits with nobody else active.
//!
//! Learnt only from stretches of time in which the utilization ring shows no process but the
//! canary's own and a busy time of about nothing (measured on an idle H200: mean 18 us, p99 39 us).

use std::time::Duration;

use super::histogram::Sketch;
use crate::model::{Cause, Probe, Quantiles, Reading};

/// Probes before it is told.
const LEAST: u64 = 50;
/// Probes of one half of the memory: the newest one or two thousand count.
const HALF: u64 = 1000;
/// A longer delay met somebody, or a fault: one such would outweigh all others.
const LONGEST: Duration = Duration::from_millis(1);
/// Before it is learnt, it is taken to be at most this.
const PROVISIONAL: Duration = Duration::from_micros(50);

/// The newest probes that met nobody.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    newer: Sketch,
    /// The thousand before.
    older: Option<Sketch>,
}

impl Baseline {
    /// Takes in probes of an idle device.
    pub(super) fn learn(&mut self, probes: &[Probe]) {
        let met_nobody = |probe: &&Probe| probe.started && probe.delay <= LONGEST;
        for probe in probes.iter().filter(met_nobody) {
            self.newer.record(probe);
            if self.newer.probes() >= HALF {
                self.older = Some(std::mem::take(&mut self.newer));
            }
        }
    }

    fn all(&self) -> Sketch {
        let mut all = self.newer.clone();
        if let Some(older) = &self.older {
            all.add(older);
        }
        all
    }

    /// As the snapshot has it.
    pub(super) fn view(&self) -> Reading<Quantiles> {
        match self.all().quantiles() {
            Some(quantiles) if quantiles.probes >= LEAST => Reading::Value(quantiles),
            _ => Reading::Failed(Cause::NotYet),
        }
    }

    /// Seconds that a probe waits for nobody's sake. Until it is learnt: about the shortest of the
    /// last minute, which met nobody, unless the device was never free.
    pub(super) fn usual(&self, recent: impl FnOnce() -> Sketch) -> f64 {
        let learnt = self.all();
        match learnt.probes() >= LEAST {
            true => learnt.quantile(0.5).as_secs_f64(),
            false => recent().quantile(0.01).min(PROVISIONAL).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(micros: u64, count: usize) -> Vec<Probe> {
        let probe = Probe {
            launched: Duration::ZERO,
            delay: Duration::from_micros(micros),
            started: true,
        };
        vec![probe; count]
    }

    #[test]
    fn fifty_probes_make_a_baseline_and_the_newest_ones_count() {
        let mut baseline = Baseline::default();
        baseline.learn(&probes(18, 49));
        assert_eq!(baseline.view(), Reading::Failed(Cause::NotYet));
        baseline.learn(&probes(18, 1));
        let learnt = *baseline.view().value().unwrap();
        assert_eq!((learnt.probes, learnt.p99), (50, Duration::from_micros(18)));
        baseline.learn(&probes(30, 3000));
        let learnt = *baseline.view().value().unwrap();
        assert_eq!(learnt.mean, Duration::from_micros(30));
        assert!(learnt.probes <= 2 * HALF);
    }

    #[test]
    fn before_it_is_learnt_it_is_the_shortest_of_the_minute_but_never_long() {
        let baseline = Baseline::default();
        let mut recent = Sketch::default();
        assert_eq!(baseline.usual(|| recent.clone()), 0.0);
        probes(900, 50)
            .iter()
            .for_each(|probe| recent.record(probe));
        assert_eq!(baseline.usual(|| recent.clone()), 50e-6);
        probes(20, 10).iter().for_each(|probe| recent.record(probe));
        assert_eq!(baseline.usual(|| recent.clone()), 20e-6);
    }
}
