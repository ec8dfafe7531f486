//! What the ring's estimate of active and contended time comes to, against the simulation's truth.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::Moment;
use slicewatch::simulate::TenantKey;

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// Sums over seeds, in seconds.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    tenants: u32,
    gpu: f64,
    active_said: f64,
    active_true: f64,
    contended_said: f64,
    contended_true: f64,
}

/// By the name of the pod less what was drawn: one kind of tenant each.
type Kinds = BTreeMap<String, Sum>;

/// The kind of a pod: its name without ordinals and drawn suffixes.
fn kind(pod: &str) -> String {
    let parts: Vec<&str> = pod.split('-').collect();
    let plain = |part: &&&str| part.len() < 9 && part.bytes().all(|b| b.is_ascii_lowercase());
    let kept: Vec<&str> = parts.iter().take_while(plain).copied().collect();
    // A Deployment's last five letters are drawn.
    kept.join("-")
}

fn measure(scenario: &str, seeds: u64) -> (Kinds, Sum) {
    let start = Moment {
        monotonic: Duration::from_secs(100),
        unix: Duration::from_secs(1_790_000_000),
    };
    let mut kinds = Kinds::new();
    let mut card = Sum::default();
    for seed in 0..seeds {
        let mut agent = SimulatedAgent::new(scenario, seed, start, SamplerSettings::default())
            .expect("a known scenario");
        // Rows end 75 s after their pod: each tenant's last word is kept.
        let mut said = BTreeMap::new();
        let mut card_said = Duration::ZERO;
        agent.run(start.monotonic + TEN_MINUTES, |_, snapshot| {
            for gpu in &snapshot.gpus {
                card_said = gpu.contended.copied().unwrap_or(card_said);
                for row in &gpu.containers {
                    if let Some(pod_uid) = row.pod_uid.clone() {
                        let key = TenantKey {
                            gpu_uuid: gpu.identity.uuid.clone(),
                            pod_uid,
                            container: Arc::clone(&row.container),
                        };
                        said.insert(key, (row.active, row.contended));
                    }
                }
            }
        });
        let truth = agent.node().truth();
        for (key, tenant) in &truth.tenants {
            let sum = kinds.entry(kind(&tenant.pod)).or_default();
            let (active, contended) = said.get(key).copied().unwrap_or_default();
            sum.tenants += 1;
            sum.gpu += tenant.gpu_seconds.0;
            sum.active_said += active.as_secs_f64();
            sum.active_true += tenant.active.as_secs_f64();
            sum.contended_said += contended.as_secs_f64();
            sum.contended_true += tenant.contended.as_secs_f64();
        }
        for device in truth.devices.values() {
            card.tenants += 1;
            card.gpu += device.busy.0;
            card.contended_said += card_said.as_secs_f64();
            card.contended_true += device.contended.as_secs_f64();
        }
    }
    (kinds, card)
}

fn print(scenario: &str, (kinds, card): &(Kinds, Sum), seeds: u64) {
    let total = seeds as f64 * TEN_MINUTES.as_secs_f64();
    for (name, sum) in kinds.iter().chain([(&"card".to_owned(), card)]) {
        println!(
            "{scenario:16} {name:20} {:4} gpu {:6.3} %, active {:6.2} % said/true {:6.2}, contended {:6.2} % said/true {:6.2}",
            sum.tenants,
            sum.gpu / total * 100.0,
            sum.active_true / total * 100.0,
            sum.active_said / sum.active_true,
            sum.contended_true / total * 100.0,
            sum.contended_said / sum.contended_true,
        );
    }
}

#[test]
fn probe() {
    for (scenario, seeds) in [
        ("noisy-neighbour", 3),
        ("quiet", 5),
        ("memory-hog", 3),
        ("churn", 2),
    ] {
        let t = std::time::Instant::now();
        let measured = measure(scenario, seeds);
        print(scenario, &measured, seeds);
        println!("{:?}", t.elapsed());
    }
}
