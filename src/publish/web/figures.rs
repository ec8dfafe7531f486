//! A device in three figures: its memory, its time, and what a short request waits there.

use std::fmt::{self, Write};

use super::card::{Card, highest, points, round_up};
use super::words::{
    bytes, delay, duration, reading, reason, rough_bytes, share, signed, tick, unknown, untold,
    words,
};
use crate::model::{Bytes, CanaryState, GpuView, Memory, Reading, Remainder};
use crate::publish::charts::{Axis, Curve, Label, Mark, Segment, lines, stack};
use crate::publish::escape::Escaped;
use crate::publish::history::{History, SPAN};

/// More replicas than this have no lines in the bar of memory: they would be all that is seen.
const MOST_MARKS: u32 = 16;

/// Writes the three.
pub(super) fn write(out: &mut String, card: &Card<'_>, history: &History) -> fmt::Result {
    let seen = history.length();
    let ends = if seen + seen / 20 >= SPAN {
        "15 min ago".to_owned()
    } else {
        format!("15 min ago (seen for {})", duration(seen.as_secs()))
    };
    out.write_str("<div class=\"figures\">\n")?;
    memory(out, card, &ends)?;
    busy(out, card, &ends)?;
    waiting(out, card, &ends)?;
    out.write_str("</div>\n")
}

fn memory(out: &mut String, card: &Card<'_>, start: &str) -> fmt::Result {
    let view = card.view;
    out.write_str("<div class=\"figure\"><h3>Memory</h3>")?;
    match &view.memory {
        Reading::Value(memory) => {
            write!(
                out,
                "<p class=\"big\">{} <small>of {}</small></p><p>{} free · peak {} in 60 s · {} reserved by the driver</p>",
                bytes(memory.used),
                bytes(memory.total),
                bytes(memory.free),
                reading(&view.used_peak, "not told", |peak| bytes(*peak)),
                reading(&memory.reserved, "what is used includes what is", |it| {
                    bytes(*it)
                }),
            )?;
        }
        other => write!(
            out,
            "<p class=\"big\">{}</p>",
            reading(other, "not told", |_| String::new())
        )?,
    }
    let gpu = &view.identity.index;
    let title = format!("Memory of GPU {gpu} by pod");
    let told = told_parts(card);
    let label = Label::Image {
        title: &title,
        description: &told,
    };
    out.write_str(&memory_bar(card, &label))?;
    if let Some(past) = card.past {
        let (used, peak) = (past.used(), past.peak());
        let top = match &view.memory {
            Reading::Value(memory) => memory.total.0 as f32,
            _ => round_up(highest(&peak).unwrap_or_default()),
        };
        let title = format!("Used memory of GPU {gpu} over the last 15 minutes");
        let description = highest(&used).map_or_else(
            || "Nothing is known of it.".to_owned(),
            |most| format!("At most {}.", rough_bytes(most.into())),
        );
        let [used, peak] = [used, peak].map(|series| points(&series));
        let curve = |class, points, area| Curve {
            class,
            points,
            area,
        };
        let ticks = [top / 2.0, top].map(|value| (value, rough_bytes(value.into())));
        out.write_str("<div>")?;
        out.write_str(&lines(
            &Label::Image {
                title: &title,
                description: &description,
            },
            &Axis {
                top,
                ticks: &ticks,
                ends: [start, "now"],
            },
            &[curve("memory", &used, true), curve("peak", &peak, false)],
            &[],
        ))?;
        out.write_str("<p class=\"key\"><i class=\"memory\"></i>used <i class=\"peak\"></i>peak of 60 s</p></div>")?;
    }
    out.write_str("</div>\n")
}

fn busy(out: &mut String, card: &Card<'_>, start: &str) -> fmt::Result {
    let gpu = &card.view.identity.index;
    write!(
        out,
        "<div class=\"figure\"><h3>Time</h3><p class=\"big\">{}{}</p><p>{}</p>",
        busy_words(card),
        card.view
            .busy
            .value()
            .map_or("", |_| " <small>busy</small>"),
        match (&card.view.busy, &card.view.contended) {
            (Reading::Value(busy), Reading::Value(contended)) if busy.0 > 0.0 => format!(
                "two or more pods at the same time for {} since the start",
                duration(contended.as_secs())
            ),
            (Reading::Value(_), _) => "no load since the start".to_owned(),
            _ => "whose time it is cannot be told".to_owned(),
        }
    )?;
    if let Some(past) = card.past.filter(|_| card.view.busy.value().is_some()) {
        let busy = past.busy();
        let title = format!("Share of GPU {gpu}'s time in use over the last 15 minutes");
        let description = highest(&busy).map_or_else(
            || "Nothing is known of it.".to_owned(),
            |most| format!("At most {}.", share(most)),
        );
        let points = points(&busy);
        out.write_str("<div>")?;
        out.write_str(&lines(
            &Label::Image {
                title: &title,
                description: &description,
            },
            &Axis {
                top: 1.0,
                ticks: &[0.5, 1.0].map(|value| (value, share(value))),
                ends: [start, "now"],
            },
            &[Curve {
                class: "busy",
                points: &points,
                area: true,
            }],
            &[],
        ))?;
        out.write_str("<p class=\"key\"><i class=\"busy\"></i>in use, over 15 s</p></div>")?;
    }
    out.write_str("</div>\n")
}

fn waiting(out: &mut String, card: &Card<'_>, start: &str) -> fmt::Result {
    let view = card.view;
    let canary = &view.canary;
    let gpu = &view.identity.index;
    write!(
        out,
        "<div class=\"figure\"><h3>Delay of a short request</h3><p class=\"big\">{}</p>",
        match &canary.recent {
            Reading::Value(recent) => format!(
                "{} <small>mean, p99 {}</small>",
                delay(recent.mean.as_secs_f64()),
                delay(recent.p99.as_secs_f64())
            ),
            _ => delay_words(view),
        }
    )?;
    let past = card.past.filter(|_| canary.delays.value().is_some());
    let mut facts = Vec::new();
    if past.is_some() || canary.baseline.value().is_some() {
        let alone = reading(&canary.baseline, "not told", |baseline| {
            delay(baseline.p50.as_secs_f64())
        });
        facts.push(format!("with nobody else {alone}"));
    }
    if let Some(ever) = past.and_then(|past| past.delay()) {
        facts.push(format!(
            "in 15 min mean {}, p99 {}",
            delay(ever.mean),
            delay(ever.p99)
        ));
    }
    if canary.state != CanaryState::Running {
        let state = canary.state.label();
        facts.push(format!("canary {state}: {}", reason(canary.reason)));
    }
    if let Some(stall) = canary.stall.value().filter(|stall| stall.as_secs() > 0) {
        let stall = duration(stall.as_secs());
        facts.push(format!(
            "<b class=\"bad\">a probe has waited for {stall}</b>"
        ));
    }
    write!(out, "<p>{}</p>", facts.join(" · "))?;
    if let Some(past) = past {
        let (mean, p99) = (past.delay_mean(), past.delay_p99());
        let baseline = canary.baseline.value().map(|it| it.p50.as_secs_f32());
        let most = highest(&p99)
            .into_iter()
            .chain(baseline)
            .fold(0.0, f32::max);
        let top = round_up(most);
        let title = format!("Delay of the canary on GPU {gpu} over the last 15 minutes");
        let description = highest(&p99).map_or_else(
            || "Nothing is known of it.".to_owned(),
            |most| format!("Its 99th percentile was at most {}.", delay(most.into())),
        );
        let [mean, p99] = [mean, p99].map(|series| points(&series));
        let curve = |class, points| Curve {
            class,
            points,
            area: false,
        };
        let marks = baseline.map(|value| Mark {
            class: "baseline",
            value,
        });
        out.write_str("<div>")?;
        out.write_str(&lines(
            &Label::Image {
                title: &title,
                description: &description,
            },
            &Axis {
                top,
                ticks: &[top / 2.0, top].map(|value| (value, tick(value))),
                ends: [start, "now"],
            },
            &[curve("p99", &p99), curve("mean", &mean)],
            marks.as_slice(),
        ))?;
        out.write_str(
            "<p class=\"key\"><i class=\"mean\"></i>mean <i class=\"p99\"></i>p99, over 15 s",
        )?;
        if baseline.is_some() {
            out.write_str(" <i class=\"baseline\"></i>with nobody else")?;
        }
        out.write_str("</p></div>")?;
    }
    out.write_str("</div>\n")
}

/// The device's memory, part by part; lines stand where one replica's fair share ends.
pub(super) fn memory_bar(card: &Card<'_>, label: &Label<'_>) -> String {
    let view = card.view;
    let Reading::Value(memory) = &view.memory else {
        return stack(label, 1.0, &[], &[]);
    };
    let parts = parts(card, memory);
    let segments: Vec<_> = parts
        .iter()
        .map(|(class, name, value)| Segment {
            class,
            name,
            value: value.0 as f64,
        })
        .collect();
    let usable = memory
        .total
        .saturating_sub(memory.reserved.copied().unwrap_or_default());
    let marks: Vec<f64> = match view.replicas {
        Reading::Value(replicas) if (2..=MOST_MARKS).contains(&replicas) => (1..replicas)
            .map(|replica| usable.0 as f64 / f64::from(replicas) * f64::from(replica))
            .collect(),
        _ => Vec::new(),
    };
    stack(label, memory.total.0 as f64, &segments, &marks)
}

fn parts<'a>(card: &Card<'a>, memory: &Memory) -> Vec<(&'static str, String, Bytes)> {
    let mut parts = Vec::new();
    for tenant in card.tenants.iter().filter(|tenant| tenant.view.present) {
        if let Reading::Value(held) = tenant.view.memory {
            let name = format!("{}: {}", card.name(tenant.view), bytes(held));
            parts.push((tenant.class, name, held));
        }
    }
    for (name, held) in others(card.view) {
        parts.push(("rest", format!("{name}: {}", bytes(held)), held));
    }
    if let Reading::Value(reserved) = memory.reserved {
        let name = format!("reserved by the driver: {}", bytes(reserved));
        parts.push(("reserved", name, reserved));
    }
    parts
}

/// What is no container's, where there is something.
fn others(view: &GpuView) -> impl Iterator<Item = (&'static str, Bytes)> {
    let named = view.unattributed.value().into_iter().flatten();
    let named = named.map(|(reason, held)| (remainder(*reason), *held));
    let unexplained = view
        .unexplained
        .copied()
        .and_then(|it| u64::try_from(it.0).ok())
        .map(|held| ("not explained", Bytes(held)));
    named.chain(unexplained).filter(|(_, held)| held.0 > 0)
}

/// The rows below the pods: what is no container's.
pub(super) fn rest_rows(view: &GpuView) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    match &view.unattributed {
        Reading::Value(named) => {
            let held = named.iter().filter(|(_, held)| held.0 > 0);
            rows.extend(held.map(|(reason, held)| (remainder(*reason), bytes(*held))));
        }
        Reading::Unsupported => rows.push(("processes of no pod", untold("not told"))),
        Reading::Failed(cause) => rows.push(("processes of no pod", unknown(&words(*cause)))),
    }
    rows.push((
        "not explained",
        reading(&view.unexplained, "not told", |difference| {
            signed(*difference)
        }),
    ));
    rows
}

const fn remainder(reason: Remainder) -> &'static str {
    match reason {
        Remainder::HostProcess => "processes of the host",
        Remainder::Canary => "the agent's canary",
        Remainder::UnknownPod => "pods whose names are not known",
        Remainder::ProcessGone => "processes that have ended",
        Remainder::Unreadable => "processes that cannot be read",
        Remainder::PidNamespace => "processes out of sight (hostPID)",
        Remainder::NoPid => "processes that the driver does not name",
    }
}

fn told_parts(card: &Card<'_>) -> String {
    match &card.view.memory {
        Reading::Value(memory) => {
            let parts = parts(card, memory).into_iter().map(|(_, name, _)| name);
            let free = format!("free: {}", bytes(memory.free));
            parts.chain([free]).collect::<Vec<_>>().join(", ")
        }
        Reading::Unsupported => "It is not told.".to_owned(),
        Reading::Failed(cause) => format!("It is not known: {}.", words(*cause)),
    }
}

pub(super) fn memory_share(view: &GpuView) -> String {
    reading(&view.memory, "no", |memory| {
        share(memory.used.0 as f32 / memory.total.0 as f32)
    })
}

/// The share of time in use, over the newest 15 s.
pub(super) fn busy_words(card: &Card<'_>) -> String {
    let newest = card.past.and_then(|past| past.busy().last()?.value);
    match (&card.view.busy, newest) {
        (Reading::Value(_), Some(busy)) => share(busy),
        (Reading::Value(_), None) => unknown("not yet"),
        (Reading::Unsupported, _) => untold("not told"),
        (Reading::Failed(cause), _) => unknown(&words(*cause)),
    }
}

/// The mean delay of the last minute, or why there is none.
pub(super) fn delay_words(view: &GpuView) -> String {
    let canary = &view.canary;
    match &canary.recent {
        Reading::Value(recent) => delay(recent.mean.as_secs_f64()),
        _ if canary.state == CanaryState::Off => untold("not measured"),
        Reading::Unsupported => unknown(reason(canary.reason)),
        Reading::Failed(cause) => unknown(&format!("{}: {}", words(*cause), reason(canary.reason))),
    }
}

/// Text that is already escaped where it needs to be.
pub(super) fn plain(text: &str) -> String {
    Escaped(text).to_string()
}
