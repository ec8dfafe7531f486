//! What is shown of a chosen container: for whom it waits, and what is known of it.

use std::fmt::{self, Write};

use super::card::{Card, Tenant, highest, points, round_up};
use super::figures::plain;
use super::tenants::thinned;
use super::words::{bytes, count, delay, duration, reading, rough_bytes};
use crate::model::{Reading, Weight};
use crate::publish::charts::{Bar, Curve, Label, ranked, spark};
use crate::publish::history::Sample;

/// Pairs that the snapshot has of a device at most.
const PAIRS: usize = 10;

/// Writes it.
pub(super) fn write(out: &mut String, card: &Card<'_>, tenant: &Tenant<'_>) -> fmt::Result {
    let pod = plain(&tenant.view.pod);
    write!(
        out,
        "<section class=\"panel\" id=\"{}\" aria-label=\"{pod}\"><h3>{pod} <small>{} on GPU {}</small></h3>",
        tenant.id,
        tenant.subtitle(),
        plain(&card.view.identity.index),
    )?;
    neighbours(out, card, tenant)?;
    charts(out, tenant)?;
    facts(out, tenant)?;
    out.write_str("</section>\n")
}

/// Those that it waits for, the longest first.
fn neighbours(out: &mut String, card: &Card<'_>, tenant: &Tenant<'_>) -> fmt::Result {
    out.write_str("<div><h4>Waits for</h4>")?;
    let containers = &card.view.containers;
    let index = |view| {
        containers
            .iter()
            .position(|other| std::ptr::eq(other, view))
    };
    let this = index(tenant.view);
    let pairs = &card.view.canary.pairs;
    let mut waits: Vec<(String, &'static str, f64)> = pairs
        .iter()
        .filter(|pair| Some(pair.victim) == this && pair.probes > 0.0)
        .filter_map(|pair| {
            let aggressor = containers.get(pair.aggressor)?;
            let of = card
                .tenants
                .iter()
                .find(|it| std::ptr::eq(it.view, aggressor))?;
            let wait = pair.delay.0 / pair.probes;
            wait.is_finite()
                .then(|| (card.name(aggressor), of.class, wait))
        })
        .collect();
    waits.sort_by(|one, other| other.2.total_cmp(&one.2));
    if waits.is_empty() {
        let why = match &tenant.view.delay {
            Reading::Value(_) if pairs.len() >= PAIRS => {
                "It is in none of this GPU's ten longest waits of the last ten minutes."
            }
            Reading::Value(_) => "For nobody, in the last ten minutes.",
            Reading::Unsupported | Reading::Failed(_) => {
                "Not known: no canary has measured it on this GPU."
            }
        };
        return write!(out, "<p>{why}</p></div>");
    }
    let words: Vec<String> = waits.iter().map(|(_, _, wait)| delay(*wait)).collect();
    let bars: Vec<Bar<'_>> = waits
        .iter()
        .zip(&words)
        .map(|((name, class, wait), words)| Bar {
            class,
            name,
            words,
            value: *wait,
        })
        .collect();
    let title = format!("Neighbours that {} waits for", card.name(tenant.view));
    let told: Vec<String> = bars
        .iter()
        .map(|bar| format!("{} {}", bar.name, bar.words))
        .collect();
    let description = format!(
        "A short request, in the last ten minutes: {}.",
        told.join(", ")
    );
    let label = Label::Image {
        title: &title,
        description: &description,
    };
    write!(
        out,
        "{}<p><small>A short request, in the last ten minutes{}.</small></p></div>",
        ranked(&label, &bars),
        if pairs.len() >= PAIRS {
            "; of all pairs on this GPU the ten longest are told"
        } else {
            ""
        }
    )
}

fn charts(out: &mut String, tenant: &Tenant<'_>) -> fmt::Result {
    let Some(past) = tenant.past else {
        return out.write_str("<div><h4>Last 15 minutes</h4><p>Not kept.</p></div>");
    };
    let view = tenant.view;
    let tell_delay = |value: f32| delay(value.into());
    let tell_memory = |value: f32| rough_bytes(value.into());
    chart(
        out,
        "Memory in 15 min",
        tenant.class,
        &past.memory(),
        tell_memory,
    )?;
    if view.delay.value().is_some() {
        chart(
            out,
            "Slowed others by",
            tenant.class,
            &past.inflicted(),
            tell_delay,
        )?;
        chart(
            out,
            "Waited for others",
            tenant.class,
            &past.waited(),
            tell_delay,
        )?;
    }
    Ok(())
}

fn chart(
    out: &mut String,
    title: &str,
    class: &str,
    samples: &[Sample],
    tell: impl Fn(f32) -> String,
) -> fmt::Result {
    let most = highest(samples);
    let description = most.map_or_else(
        || "nothing is known".to_owned(),
        |most| format!("at most {}", tell(most)),
    );
    let points = thinned(&points(samples));
    let label = Label::Image {
        title,
        description: &description,
    };
    let curve = Curve {
        class,
        points: &points,
        area: true,
    };
    write!(
        out,
        "<div><h4>{title}</h4>{}<p><small>{description}</small></p></div>",
        spark(&label, round_up(most.unwrap_or_default()), &[curve])
    )
}

fn facts(out: &mut String, tenant: &Tenant<'_>) -> fmt::Result {
    let view = tenant.view;
    let uid = view
        .pod_uid
        .as_ref()
        .map_or("not known", |uid| uid.as_str());
    let workload = &view.workload;
    let owner = match (&*workload.kind, &*workload.name) {
        (_, "") => "not known".to_owned(),
        ("", name) => format!("{} (from its name)", plain(name)),
        (kind, name) => format!("{} {}", plain(kind), plain(name)),
    };
    let mut facts = vec![
        ("Workload", owner),
        ("Pod UID", format!("<code>{}</code>", plain(uid))),
        ("Proven by", view.evidence.label().to_owned()),
        (
            "Granted",
            reading(&view.replicas, "not told", |replicas| {
                count((*replicas).into(), "replica")
            }),
        ),
        ("Processes", view.processes.to_string()),
        (
            "Memory peak",
            format!(
                "{} in 60 s",
                reading(&view.memory_peak, "not told", |peak| bytes(*peak))
            ),
        ),
    ];
    if !view.qos.is_empty() {
        facts.push(("Quality of service", plain(&view.qos)));
    }
    if let Reading::Value(time) = view.gpu_time {
        let samples = count(view.gpu_samples, "sample");
        let time = duration(time.0.max(0.0) as u64);
        facts.push((
            "GPU time",
            format!("{time} since it was first seen, from {samples}"),
        ));
        facts.push((
            "Active",
            format!(
                "{}, of which {} with others",
                duration(view.active.as_secs()),
                duration(view.contended.as_secs())
            ),
        ));
    }
    if let Reading::Value(of_it) = &view.delay {
        let turn = match (of_it.turn, of_it.weight) {
            (Some(turn), Weight::Turn) => format!("{} a turn, learnt", delay(turn.as_secs_f64())),
            _ => "its share of time; how long its turns last is not learnt yet".to_owned(),
        };
        facts.push(("Charged by", turn));
    }
    if view.exits_under_pressure > 0 {
        let exits = view.exits_under_pressure.to_string();
        facts.push(("Ended while memory was short", exits));
    }
    out.write_str("<dl>")?;
    for (name, fact) in facts {
        write!(out, "<div><dt>{name}</dt><dd>{fact}</dd></div>")?;
    }
    out.write_str("</dl>")
}
