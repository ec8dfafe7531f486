//! Who makes whom wait.

use super::*;
use crate::model::{ContainerDelay, DelayRemainder, DelaySeconds, Quantiles, Weight};

const CODE: &str = "noisy_neighbour";

/// What a pod suffers and inflicts in a second, in milliseconds, and its probes.
#[derive(Clone, Copy)]
struct Rate {
    exposed: f64,
    probes: f64,
    inflicted: f64,
}

const fn rate(exposed: f64, probes: f64, inflicted: f64) -> Rate {
    Rate {
        exposed,
        probes,
        inflicted,
    }
}

/// Counts on for so many seconds, one snapshot each.
fn count(watch: &mut Watch, seconds: u64, rates: &[Rate], by_nobody: f64) -> String {
    for _ in 0..seconds {
        let gpu = &mut watch.snapshot.gpus[0];
        for (row, rate) in gpu.containers.iter_mut().zip(rates) {
            let before = row.delay.copied().unwrap_or(ContainerDelay {
                inflicted: DelaySeconds(0.0),
                exposed: DelaySeconds(0.0),
                exposed_probes: 0.0,
                turn: None,
                weight: Weight::Turn,
            });
            row.delay = Reading::Value(ContainerDelay {
                inflicted: DelaySeconds(before.inflicted.0 + rate.inflicted / 1e3),
                exposed: DelaySeconds(before.exposed.0 + rate.exposed / 1e3),
                exposed_probes: before.exposed_probes + rate.probes,
                ..before
            });
        }
        let nobody = gpu.canary.unattributed.entry(DelayRemainder::HostProcess);
        nobody.or_default().0 += by_nobody / 1e3;
        watch.after(1);
    }
    let codes: Vec<&str> = watch.found.iter().map(|finding| &*finding.code).collect();
    codes.join(" ")
}

fn three() -> Watch {
    let mut watch = Watch::of([shared(["a/api", "a/batch", "a/trainer"].map(row))]);
    watch.snapshot.gpus[0].canary.baseline = baseline(18);
    watch
}

fn baseline(micros: u64) -> Reading<Quantiles> {
    let time = Duration::from_micros(micros);
    Reading::Value(Quantiles {
        probes: 100,
        mean: time,
        p50: time,
        p90: time,
        p99: time,
    })
}

/// The service waits 1.5 ms a probe, 80 % of it because of the trainer.
const NOISY: [Rate; 3] = [
    rate(6.0, 4.0, 1.0),
    rate(0.0, 0.0, 3.0),
    rate(3.0, 15.0, 12.0),
];
/// The same with the trainer gone quiet.
const CALM: [Rate; 3] = [
    rate(0.4, 4.0, 1.0),
    rate(0.0, 0.0, 3.0),
    rate(0.4, 15.0, 2.0),
];

#[test]
fn two_minutes_of_waiting_for_one_pod() {
    let mut watch = three();
    assert_eq!(count(&mut watch, 120, &NOISY, 0.0), "");
    assert_eq!(count(&mut watch, 60, &NOISY, 0.0), CODE);
    let words = [
        "a short request of a/api waits 1.50 ms",
        "baseline is 18 us",
        "80 % of what others",
        "put down to a/trainer",
    ];
    watch.assert_words(CODE, "a/trainer", &words);
    // Five quiet minutes take it back; less does not.
    assert_eq!(count(&mut watch, 200, &CALM, 0.0), CODE);
    assert_eq!(count(&mut watch, 120, &NOISY, 0.0), CODE);
    assert_eq!(count(&mut watch, 300, &CALM, 0.0), CODE);
    assert_eq!(count(&mut watch, 120, &CALM, 0.0), "");
    // One bad minute is none.
    assert_eq!(count(&mut watch, 60, &NOISY, 0.0), "");
    assert_eq!(count(&mut watch, 600, &CALM, 0.0), "");
}

#[test]
fn what_is_short_divided_unproven_or_unknown_is_none() {
    let quiet = |rates: [Rate; 3], by_nobody| count(&mut three(), WHILE, &rates, by_nobody);
    let with = |edit: fn(&mut [Rate; 3])| {
        let mut rates = NOISY;
        edit(&mut rates);
        rates
    };
    assert_eq!(quiet(NOISY, 0.0), CODE);
    assert_eq!(
        quiet(with(|rates| rates[0].exposed = 3.9), 0.0),
        "",
        "under 1 ms"
    );
    assert_eq!(
        quiet(with(|rates| rates[1].inflicted = 12.0), 1.0),
        "",
        "nobody has half"
    );
    assert_eq!(quiet(NOISY, 10.0), "", "half of it may be the host's");
    assert_eq!(
        quiet(with(|rates| rates[0].probes = 0.8), 0.0),
        "",
        "few probes"
    );
    assert_eq!(quiet([rate(0.0, 0.0, 0.0); 3], 0.0), "", "no probes");
    let mut slow = three();
    slow.snapshot.gpus[0].canary.baseline = baseline(200);
    assert_eq!(
        count(&mut slow, WHILE, &NOISY, 0.0),
        "",
        "not ten times the baseline"
    );
    assert_eq!(three().after(WHILE).join(" "), "", "no canary");
}

#[test]
fn it_stays_at_half_the_threshold_and_goes_with_the_pod() {
    let mut watch = three();
    assert_eq!(count(&mut watch, 200, &NOISY, 0.0), CODE);
    let mut milder = NOISY;
    milder[0].exposed = 2.4;
    assert_eq!(count(&mut watch, WHILE, &milder, 0.0), CODE);
    watch.assert_words(CODE, "a/trainer", &["waits 600 us"]);
    assert_eq!(count(&mut three(), WHILE, &milder, 0.0), "");
    watch.snapshot.gpus[0].containers.pop();
    assert_eq!(count(&mut watch, 1, &milder, 0.0), "");
}

#[test]
fn without_a_baseline_it_is_said_so_and_the_agents_of_one_pod_are_no_neighbours() {
    let mut watch = three();
    watch.snapshot.gpus[0].canary.baseline = Reading::Failed(Cause::NotYet);
    assert_eq!(count(&mut watch, 200, &NOISY, 0.0), CODE);
    watch.assert_words(CODE, "a/trainer", &["the baseline is not known yet"]);

    let mut pod = ["one", "two"].map(|name| ContainerView {
        container: name.into(),
        ..row("a/pod")
    });
    pod[1].replicas = Reading::Value(0);
    pod[1].processes = 0;
    let mut watch = Watch::of([shared(pod)]);
    let rates = [rate(6.0, 4.0, 1.0), rate(1.0, 15.0, 12.0)];
    assert_eq!(count(&mut watch, WHILE, &rates, 0.0), "");
}

#[test]
fn a_counter_that_begins_anew_is_another_containers() {
    let mut watch = three();
    count(&mut watch, 90, &NOISY, 0.0);
    for row in &mut watch.snapshot.gpus[0].containers {
        row.delay = Reading::Unsupported;
    }
    assert_eq!(count(&mut watch, 400, &CALM, 0.0), "");
    assert_eq!(count(&mut watch, 200, &NOISY, 0.0), CODE);
}

#[test]
fn a_wait_for_its_own_pods_other_container_is_none_of_the_neighbours() {
    let container = |name: &str| ContainerView {
        container: name.into(),
        ..row("a/api")
    };
    let found = |neighbour| {
        let rows = [container("server"), container("warmup"), row("a/small")];
        let mut watch = Watch::of([shared(rows)]);
        watch.snapshot.gpus[0].canary.baseline = baseline(18);
        let rates = [
            rate(6.0, 4.0, 0.0),
            rate(0.0, 0.0, 12.0),
            rate(0.0, 0.0, neighbour),
        ];
        let codes = count(&mut watch, WHILE, &rates, 0.0);
        let subjects = watch.found.iter().map(|finding| finding.subject.clone());
        let subjects: Vec<_> = subjects.filter(|_| codes.contains(CODE)).collect();
        (watch, subjects)
    };
    // Of 1.5 ms a tenth of a millisecond is the neighbour's, which is all that other pods inflict.
    assert!(found(0.9).1.is_empty());
    let (watch, subjects) = found(28.0);
    assert!(subjects.iter().any(|pod| &**pod == "a/small"));
    watch.assert_words(CODE, "a/small", &["waits 1.05 ms", "100 % of what others"]);
}

#[test]
fn a_life_that_was_not_known_is_not_of_the_minute_that_makes_it_known() {
    let mut watch = three();
    // Long ago the trainer was noisy.
    count(&mut watch, 90, &NOISY, 0.0);
    let known: Vec<_> = watch.snapshot.gpus[0].containers.clone();
    let mut watch = three();
    for _ in 0..10 {
        for row in &mut watch.snapshot.gpus[0].containers {
            row.delay = Reading::Failed(UNKNOWN);
        }
        watch.after(59);
        watch.snapshot.gpus[0].containers.clone_from(&known);
        assert!(watch.after(1).is_empty(), "{:?}", watch.found);
    }
    // What began to be known within the minute is a part of what was inflicted, all the same.
    let mut watch = three();
    assert_eq!(count(&mut watch, 240, &NOISY, 0.0), CODE);
    watch.snapshot.gpus[0].containers[1].delay = Reading::Unsupported;
    watch.after(1);
    assert_eq!(count(&mut watch, 60, &NOISY, 0.0), CODE);
    watch.assert_words(CODE, "a/trainer", &["80 % of what others"]);
}

#[test]
fn a_minute_of_few_probes_tells_nothing() {
    let mut few = CALM;
    few[0].probes = 0.4;
    let mut watch = three();
    assert_eq!(count(&mut watch, 240, &NOISY, 0.0), CODE);
    // Bridged by itself, and what lasts ends it, long before a quiet minute would.
    assert_eq!(count(&mut watch, 60, &few, 0.0), CODE);
    assert_eq!(count(&mut watch, 60, &NOISY, 0.0), CODE);
    assert_eq!(count(&mut watch, 220, &few, 0.0), "");
    // Nor does it break the two minutes in a row.
    let mut watch = three();
    assert_eq!(count(&mut watch, 61, &NOISY, 0.0), "");
    assert_eq!(count(&mut watch, 60, &few, 0.0), "");
    assert_eq!(count(&mut watch, 61, &NOISY, 0.0), CODE);
}
