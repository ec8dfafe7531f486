//! Charges against the truth, on a simulated GPU that gives turns in a circle.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// A tenant with kernels back to back while it has work.
#[derive(Debug, Clone, Copy)]
struct Tenant {
    id: TenantId,
    /// Length of its turn, in seconds: twice what a probe waits for it.
    turn: f64,
    /// Part of the time in which it has work.
    duty: f64,
    /// Mean length of a burst of work.
    burst: f64,
}

/// Has work always.
fn steady(id: u32, turn_ms: f64) -> Tenant {
    bursty(id, turn_ms, 1.0, 1.0)
}

fn bursty(id: u32, turn_ms: f64, duty: f64, burst: f64) -> Tenant {
    Tenant {
        id: TenantId(id),
        turn: turn_ms * 1e-3,
        duty,
        burst,
    }
}

/// One GPU, its canary and its ring.
struct Gpu {
    rng: SmallRng,
    now: f64,
    /// Has work, and when that changes.
    work: BTreeMap<TenantId, (bool, f64)>,
    next_probe: f64,
    waiting: Vec<f64>,
}

/// What three seconds gave.
struct Stretch {
    probes: Vec<Probe>,
    tenancy: Tenancy,
}

const RATE: f64 = 15.0;
const SAMPLE: f64 = 0.2;

impl Gpu {
    fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            now: 0.0,
            work: BTreeMap::new(),
            next_probe: 0.0,
            waiting: Vec::new(),
        }
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.rng.random::<f64>()).ln()
    }

    fn has_work(&mut self, tenant: &Tenant) -> bool {
        if tenant.duty >= 1.0 {
            return true;
        }
        let rest = tenant.burst * (1.0 - tenant.duty) / tenant.duty;
        let (mut has, mut until) = match self.work.get(&tenant.id) {
            Some(state) => *state,
            None => (self.rng.random::<f64>() < tenant.duty, self.now),
        };
        while until <= self.now {
            has = !has;
            until += self.exponential(if has { tenant.burst } else { rest });
        }
        self.work.insert(tenant.id, (has, until));
        has
    }

    /// Time passes, and probes are launched in it.
    fn pass(&mut self, until: f64) {
        while self.next_probe <= until {
            self.waiting.push(self.next_probe);
            self.next_probe += self.exponential(1.0 / RATE);
        }
        self.now = until;
    }

    /// Three seconds of these tenants: turn after turn, and once around the canary's. Of each
    /// 200 ms the ring names one tenant, by chance in proportion to their times, and how busy it was.
    fn stretch(&mut self, tenants: &[Tenant]) -> Stretch {
        let from = self.now;
        let mut probes = Vec::new();
        let mut shares: BTreeMap<TenantId, f64> = BTreeMap::new();
        for sample in 0..15 {
            let end = from + SAMPLE * f64::from(sample + 1);
            let mut times: BTreeMap<TenantId, f64> = BTreeMap::new();
            while self.now < end {
                let mut idle = true;
                for tenant in tenants {
                    if self.has_work(tenant) {
                        idle = false;
                        self.pass(self.now + tenant.turn);
                        *times.entry(tenant.id).or_default() += tenant.turn;
                    }
                }
                for launched in std::mem::take(&mut self.waiting) {
                    probes.push(probe(launched, self.now - launched + 18e-6));
                }
                if idle {
                    let step = (self.now + 1e-3).min(end.max(self.now + 1e-6));
                    let launches_at = self.next_probe.max(self.now);
                    self.pass(step.min(launches_at + 1e-9));
                }
            }
            let busy: f64 = times.values().sum();
            let mut moment = busy * self.rng.random::<f64>();
            let winner = times.iter().find(|(_, time)| {
                moment -= **time;
                moment < 0.0
            });
            if let Some((winner, _)) = winner {
                let part = (busy / SAMPLE).min(0.98);
                *shares.entry(*winner).or_default() += part / 15.0;
            }
        }
        Stretch {
            probes,
            tenancy: Tenancy {
                covered: Duration::from_secs(3),
                samples: 15,
                idle: shares.is_empty(),
                shares,
            },
        }
    }
}

/// What was put down to whom in a phase, per probe.
#[derive(Debug, Default)]
struct Told {
    probes: f64,
    delay: f64,
    inflicted: BTreeMap<TenantId, f64>,
    weights: BTreeMap<TenantId, Weight>,
    /// Who was first in each whole minute.
    first: Vec<TenantId>,
}

impl Told {
    /// Mean milliseconds that a tenant inflicted on a probe.
    fn by(&self, tenant: Tenant) -> f64 {
        self.inflicted.get(&tenant.id).unwrap_or(&0.0) / self.probes * 1e3
    }

    /// Mean milliseconds that a probe waited.
    fn mean(&self) -> f64 {
        self.delay / self.probes * 1e3
    }
}

struct Bench {
    gpu: Gpu,
    contention: Contention,
    charged: f64,
}

impl Bench {
    /// With a minute of an idle card behind it.
    fn new(seed: u64) -> Self {
        let mut bench = Self {
            gpu: Gpu::new(seed),
            contention: Contention::new(false),
            charged: 0.0,
        };
        bench.run(60, &[]);
        bench
    }

    fn run(&mut self, seconds: u32, tenants: &[Tenant]) -> Told {
        let mut told = Told::default();
        let mut minute: BTreeMap<TenantId, f64> = BTreeMap::new();
        for drain in 1..=seconds / 3 {
            let Stretch { probes, tenancy } = self.gpu.stretch(tenants);
            told.probes += probes.len() as f64;
            told.delay += probes
                .iter()
                .map(|probe| probe.delay.as_secs_f64())
                .sum::<f64>();
            let now = at(self.gpu.now);
            self.contention.take(&window(probes), now);
            for charge in self.contention.drain(Some(&tenancy), now) {
                *told.inflicted.entry(charge.tenant).or_default() += charge.inflicted.0;
                *minute.entry(charge.tenant).or_default() += charge.inflicted.0;
                told.weights.insert(charge.tenant, charge.weight);
                self.charged += charge.inflicted.0;
            }
            self.contention.expire(now);
            let view = self.contention.view(now, nowhere);
            let named: f64 = view.unattributed.values().map(|delay| delay.0).sum();
            assert!((self.charged + named - sum(&view)).abs() < 1e-6 * sum(&view).max(1.0));
            if drain % 20 == 0 {
                let first = minute.iter().max_by(|a, b| a.1.total_cmp(b.1));
                told.first.extend(first.map(|(tenant, _)| *tenant));
                minute.clear();
            }
        }
        told
    }
}

fn within(said: f64, truth: f64, part: f64, what: &str) {
    assert!(
        (said - truth).abs() <= part * truth,
        "{what}: said {said} ms, true {truth} ms"
    );
}

#[test]
fn of_a_heavy_and_a_medium_tenant_with_equal_time_each_is_charged_for_what_its_end_saves() {
    // Turns of 3 and 1 ms; the heavy one has work two thirds of the time: both have half the GPU.
    let (heavy, medium) = (bursty(2, 3.0, 2.0 / 3.0, 0.5), steady(3, 1.0));
    for seed in 0..3 {
        let mut bench = Bench::new(seed);
        bench.run(60, &[heavy]);
        bench.run(60, &[medium]);
        let both = bench.run(600, &[heavy, medium]);
        let of = |told: &Told| (told.by(heavy), told.by(medium));
        let (without_heavy, without_medium) = {
            let mut truth = Bench::new(seed + 100);
            (truth.run(600, &[medium]), truth.run(600, &[heavy]))
        };
        let what = format!("seed {seed}, {:?}", of(&both));
        within(
            both.by(heavy),
            both.mean() - without_heavy.mean(),
            0.2,
            &what,
        );
        within(
            both.by(medium),
            both.mean() - without_medium.mean(),
            0.2,
            &what,
        );
        assert_eq!(both.weights[&heavy.id], Weight::Turn);
        let turn = bench.contention.turn_of(heavy.id).unwrap().as_secs_f64() * 1e3;
        within(turn, 1.5, 0.2, "half of the heavy one's turn");
    }
}

#[test]
fn one_heavy_tenant_among_three_light_ones_is_first_in_every_minute() {
    let heavy = steady(2, 3.0);
    let light: Vec<Tenant> = (3..6).map(|id| bursty(id, 0.4, 0.3, 0.2)).collect();
    for seed in 0..2 {
        let mut bench = Bench::new(seed);
        let tenants = [heavy, light[0], light[1], light[2]];
        let told = bench.run(300, &tenants);
        assert_eq!(told.first, [heavy.id; 5]);
        // And once the heavy one rests half the time, seen apart or not.
        let resting = bursty(2, 3.0, 0.5, 0.5);
        bench.run(60, &light);
        let told = bench.run(300, &[resting, light[0], light[1], light[2]]);
        assert_eq!(told.first, [heavy.id; 5], "{told:?}");
    }
}

#[test]
fn tenants_that_were_never_apart_are_weighed_by_share_and_it_says_so() {
    let (heavy, medium) = (bursty(2, 3.0, 2.0 / 3.0, 0.5), steady(3, 1.0));
    let mut bench = Bench::new(1);
    let told = bench.run(300, &[heavy, medium]);
    assert_eq!(told.weights[&heavy.id], Weight::Share);
    assert_eq!(bench.contention.turn_of(heavy.id), None);
    within(told.by(heavy), told.by(medium), 0.2, "equal time");
}

#[test]
fn a_newcomer_is_told_apart_by_what_it_adds() {
    let (heavy, medium) = (steady(2, 3.0), steady(3, 1.0));
    let mut bench = Bench::new(2);
    bench.run(120, &[heavy]);
    bench.run(60, &[heavy, medium]);
    let told = bench.run(300, &[heavy, medium]);
    within(told.by(heavy), 1.5, 0.2, "heavy");
    within(told.by(medium), 0.5, 0.2, "medium");
    assert_eq!(told.weights[&medium.id], Weight::Turn);
}

#[test]
fn tenants_that_rest_for_seconds_at_a_time_are_told_apart_without_being_removed() {
    let (heavy, medium) = (bursty(2, 3.0, 0.5, 8.0), bursty(3, 1.0, 0.6, 8.0));
    let mut bench = Bench::new(4);
    bench.run(300, &[heavy, medium]);
    let told = bench.run(1200, &[heavy, medium]);
    assert_eq!(told.weights[&heavy.id], Weight::Turn);
    for (tenant, turn) in [(heavy, 1.5), (medium, 0.5)] {
        let said = bench.contention.turn_of(tenant.id).unwrap().as_secs_f64() * 1e3;
        within(said, turn, 0.2, "half of the turn");
    }
    // How much of the time each had work, chance decides: their ratio is that of the model.
    let part = told.by(heavy) / (told.by(heavy) + told.by(medium));
    within(part, 0.75 / (0.75 + 0.3), 0.15, "the heavy one's part");
}

#[test]
fn six_bursty_tenants_that_come_one_after_the_other_are_told_apart() {
    let turns = [3.0, 2.5, 2.0, 1.0, 0.5, 0.5];
    let tenants: Vec<Tenant> = turns
        .iter()
        .enumerate()
        .map(|(i, turn)| bursty(2 + i as u32, *turn, 0.3, 0.4))
        .collect();
    let mut bench = Bench::new(3);
    for present in 1..=tenants.len() {
        bench.run(90, &tenants[..present]);
    }
    let told = bench.run(600, &tenants);
    for (tenant, turn) in tenants.iter().zip(turns).take(3) {
        within(told.by(*tenant), 0.3 * turn / 2.0, 0.35, "inflicted");
    }
    assert!(told.by(tenants[0]) > told.by(tenants[3]));
    assert!(told.by(tenants[2]) > told.by(tenants[4]));
}
