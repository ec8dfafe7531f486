//! The table of a device's tenants.

use std::fmt::{self, Write};

use super::card::{Card, Tenant, points};
use super::figures::{plain, rest_rows};
use super::words::{bytes, delay, reading, share, unknown, untold};
use crate::model::{Bytes, Reading, Sharing};
use crate::publish::charts::{Curve, Label, Point, bar, spark};

/// The stylesheet repeats these for a narrow screen.
const COLUMNS: [&str; 6] = [
    "Pod",
    "Memory against fair share",
    "Share of time",
    "Slows others by",
    "Waits for others",
    "15 min of its time",
];

/// Points of a row's chart: one for four of the history. A chart of this size has no room for more.
const THINNED: usize = 4;

/// Writes the table. It tells its roles, as a narrow screen lays it out as cards.
pub(super) fn table(out: &mut String, card: &Card<'_>) -> fmt::Result {
    let gpu = plain(&card.view.identity.index);
    if card.tenants.is_empty() {
        let nobody = match card.view.tenants {
            Reading::Value(_) => "Nobody is on this GPU.".to_owned(),
            _ => format!("Who is on this GPU: {}.", unknown("see above")),
        };
        return writeln!(out, "<p class=\"empty\">{nobody}</p>");
    }
    write!(
        out,
        "<table class=\"tenants\" role=\"table\"><caption class=\"hidden\">Containers on GPU {gpu}: those with \
         most of its time first. Choose one to see whom it waits for.</caption>\
         <thead role=\"rowgroup\"><tr role=\"row\">"
    )?;
    for column in COLUMNS {
        write!(out, "<th role=\"columnheader\" scope=\"col\">{column}</th>")?;
    }
    out.write_str("</tr></thead>\n<tbody role=\"rowgroup\">\n")?;
    let most = largest(card);
    for tenant in &card.tenants {
        row(out, card, tenant, most)?;
    }
    for (name, memory) in rest_rows(card.view) {
        writeln!(
            out,
            "<tr class=\"rest\" role=\"row\"><th role=\"rowheader\" scope=\"row\">{name}</th>\
             <td role=\"cell\" colspan=\"5\">{memory}</td></tr>"
        )?;
    }
    out.write_str("</tbody></table>\n")
}

/// What the bars of memory are drawn against: the same for all, so that they compare.
fn largest(card: &Card<'_>) -> Bytes {
    let tenants = card.tenants.iter().map(|tenant| tenant.view);
    let held = tenants
        .flat_map(|view| [view.memory, view.fair_share])
        .filter_map(|reading| reading.copied());
    held.max().unwrap_or_default()
}

fn row(out: &mut String, card: &Card<'_>, tenant: &Tenant<'_>, most: Bytes) -> fmt::Result {
    let view = tenant.view;
    let id = &tenant.id;
    let gone = if view.present { "" } else { " gone" };
    write!(
        out,
        "<tr class=\"tenant{gone}\" id=\"r{id}\" role=\"row\"><th role=\"rowheader\" scope=\"row\">\
         <i class=\"swatch {}\"></i><a href=\"pod?id={id}\" data-pod=\"{id}\">{}</a><small>{}{}</small></th>",
        tenant.class,
        plain(&view.pod),
        tenant.subtitle(),
        if view.present { "" } else { " · gone" },
    )?;
    let cells = [
        memory(tenant, most),
        time(card, tenant),
        inflicted(card, tenant),
        waits(card, tenant),
        trend(tenant),
    ];
    for cell in cells {
        write!(out, "<td role=\"cell\">{cell}</td>")?;
    }
    out.write_str("</tr>\n")
}

fn memory(tenant: &Tenant<'_>, most: Bytes) -> String {
    let view = tenant.view;
    if !view.present {
        let peak = reading(&view.memory_peak, "not told", |peak| bytes(*peak));
        return format!("<span class=\"unknown\">peak was</span> {peak}");
    }
    let held = reading(&view.memory, "not told", |held| bytes(*held));
    let (Reading::Value(memory), fair) = (view.memory, view.fair_share) else {
        return held;
    };
    let (against, mark) = match fair {
        Reading::Value(fair) if fair.0 > 0 => {
            let part = memory.0 as f64 / fair.0 as f64 * 100.0;
            let over = if memory > fair { " class=\"bad\"" } else { "" };
            (
                format!("<small{over}>{part:.0}\u{a0}% of {}</small>", bytes(fair)),
                Some(fair.0 as f64),
            )
        }
        Reading::Failed(_) => (
            format!(
                "<small>fair share {}</small>",
                reading(&fair, "", |_| String::new())
            ),
            None,
        ),
        _ => ("<small>nothing granted</small>".to_owned(), None),
    };
    let bar = bar(&Label::Decoration, most.0 as f64, memory.0 as f64, mark);
    format!("{held} {against}{bar}")
}

fn time(card: &Card<'_>, tenant: &Tenant<'_>) -> String {
    match (
        &tenant.view.gpu_time,
        tenant.past.and_then(|past| past.share_now()),
    ) {
        _ if !tenant.view.present => String::new(),
        (Reading::Value(_), Some(part)) => format!(
            "{}{}",
            share(part),
            bar(&Label::Decoration, 1.0, part.into(), None)
        ),
        (Reading::Value(_), None) => unknown("not yet"),
        (Reading::Unsupported, _) if card.view.sharing == Sharing::Mps => {
            untold("not told under MPS")
        }
        (Reading::Unsupported, _) if card.view.identity.mig.is_some() => {
            untold("not told under MIG")
        }
        (unmeasured, _) => reading(unmeasured, "not told", |_| String::new()),
    }
}

fn inflicted(card: &Card<'_>, tenant: &Tenant<'_>) -> String {
    delays(
        card,
        tenant,
        tenant.past.and_then(|past| past.inflicted_now()),
        "not yet",
    )
}

fn waits(card: &Card<'_>, tenant: &Tenant<'_>) -> String {
    delays(
        card,
        tenant,
        tenant.past.and_then(|past| past.waited_now()),
        "not active",
    )
}

/// Delay of the last minute a short request.
fn delays(card: &Card<'_>, tenant: &Tenant<'_>, value: Option<f32>, missing: &str) -> String {
    let probed = card.view.canary.recent.value().is_some();
    match (&tenant.view.delay, value) {
        _ if !tenant.view.present => String::new(),
        (Reading::Value(_), Some(value)) => delay(value.into()),
        (Reading::Value(_), None) if probed => untold(missing),
        (Reading::Failed(_), _) => reading(&tenant.view.delay, "", |_| String::new()),
        _ => untold("not measured"),
    }
}

fn trend(tenant: &Tenant<'_>) -> String {
    let Some(past) = tenant
        .past
        .filter(|_| tenant.view.gpu_time.value().is_some())
    else {
        return String::new();
    };
    let points = thinned(&points(&past.share()));
    let curve = Curve {
        class: tenant.class,
        points: &points,
        area: true,
    };
    spark(&Label::Decoration, 1.0, &[curve])
}

/// One point for each few: their mean, or a gap where none is known.
pub(super) fn thinned(points: &[Point]) -> Vec<Point> {
    let few = points.rchunks(THINNED).rev();
    few.filter_map(|few| {
        let known: Vec<f32> = few.iter().filter_map(|point| point.value).collect();
        Some(Point {
            at: few.last()?.at,
            value: (!known.is_empty()).then(|| known.iter().sum::<f32>() / known.len() as f32),
        })
    })
    .collect()
}
