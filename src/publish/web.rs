//! The live page: one snapshot and the last 15 minutes as HTML, whole without a script.
//!
//! The script (`web/page.js`) fetches the same page again when there is a new snapshot and takes over
//! what differs. The page's policy lets it load nothing but that script, its stylesheet and its icon,
//! all from this program, and there is neither style nor script in the page itself.

mod card;
mod figures;
mod notes;
mod panel;
mod tenants;
mod words;

use std::fmt::{self, Write};

use crate::model::{GpuView, Reading, Snapshot};
use crate::publish::escape::Escaped;
use crate::publish::history::{History, PERIOD};

use card::{Card, Tenant};
use words::Utc;

/// The page's stylesheet.
pub const STYLE: &str = include_str!("web/page.css");
/// The page's script.
pub const SCRIPT: &str = include_str!("web/page.js");
/// The page's icon.
pub const ICON: &str = include_str!("web/icon.svg");

/// The page of this snapshot, or of an agent that has none yet.
pub fn page(snapshot: Option<&Snapshot>, history: &History) -> String {
    let mut out = String::with_capacity(16 << 10);
    let done = write_page(&mut out, snapshot, history);
    // Writing to a String gives no error.
    debug_assert!(done.is_ok());
    out
}

/// What is known of one container on one device, by the name that the page's links have for it. A page
/// of its own for those without a script; the script takes what it shows into the table. `None` where
/// it is not on the node.
pub fn pod(snapshot: &Snapshot, history: &History, id: &str) -> Option<String> {
    let card = Card::holding(snapshot, history, id)?;
    let tenant = card.tenants.iter().find(|tenant| tenant.id == id)?;
    let mut out = String::with_capacity(8 << 10);
    let done = write_pod(&mut out, snapshot, &card, tenant);
    debug_assert!(done.is_ok());
    Some(out)
}

fn write_page(out: &mut String, snapshot: Option<&Snapshot>, history: &History) -> fmt::Result {
    top(out, snapshot)?;
    match snapshot {
        None => out.write_str(
            "<main id=\"main\"><p class=\"empty\">The agent has taken no snapshot yet: it has just \
             started. This page follows by itself.</p></main>\n",
        )?,
        Some(snapshot) => body(out, snapshot, history)?,
    }
    write!(
        out,
        "<footer><p><a href=\"metrics\">Metrics</a> <a href=\"api/v1/snapshot\">Snapshot as JSON</a> \
         <a href=\"-/healthy\">Health</a> <a href=\"-/ready\">Readiness</a></p>\
         <p>slicewatch {}. One point each {} s, kept in memory for 15 minutes; shares of time and delays of \
         pods are those of the last minute, from five samples of time a second. A gap is what was not known.</p>\
         </footer>\n</body>\n</html>\n",
        Escaped(version(snapshot)),
        PERIOD.as_secs(),
    )
}

fn write_pod(
    out: &mut String,
    snapshot: &Snapshot,
    card: &Card<'_>,
    tenant: &Tenant<'_>,
) -> fmt::Result {
    top(out, Some(snapshot))?;
    writeln!(
        out,
        "<main id=\"main\"><p class=\"back\"><a href=\"./#{}\">All of GPU {}</a></p>",
        card.id,
        Escaped(&card.view.identity.index)
    )?;
    panel::write(out, card, tenant)?;
    out.write_str("</main>\n</body>\n</html>\n")
}

fn version(snapshot: Option<&Snapshot>) -> &str {
    snapshot.map_or(env!("CARGO_PKG_VERSION"), |snapshot| {
        &snapshot.build.version
    })
}

/// All up to the content.
fn top(out: &mut String, snapshot: Option<&Snapshot>) -> fmt::Result {
    let node = snapshot.and_then(|snapshot| snapshot.node.as_deref());
    let at = snapshot.map(|snapshot| Utc(snapshot.at).to_string());
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}slicewatch</title>\n\
         <link rel=\"stylesheet\" href=\"page.css\">\n\
         <link rel=\"icon\" href=\"icon.svg\" type=\"image/svg+xml\">\n\
         <script src=\"page.js\" defer></script>\n\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n</head>\n\
         <body data-version=\"{}\" data-at=\"{}\">\n\
         <a class=\"skip\" href=\"#main\">Skip to the GPUs</a>\n\
         <header class=\"top\"><p class=\"brand\"><svg aria-hidden=\"true\" viewBox=\"0 0 16 16\">\
         <rect x=\"1\" y=\"1\" width=\"14\" height=\"4\" rx=\"1\"/><rect x=\"1\" y=\"6\" width=\"9\" height=\"4\" rx=\"1\"/>\
         <rect x=\"1\" y=\"11\" width=\"5\" height=\"4\" rx=\"1\"/></svg>slicewatch</p>\
         <h1>{}</h1>\
         <p class=\"state\" id=\"state\" data-keep data-state=\"still\"><span class=\"dot\"></span><span>{}</span></p>\
         </header>\n<p class=\"hidden\" id=\"announce\" role=\"status\" data-keep></p>\n\
         <p class=\"notice\" id=\"gone\" data-keep hidden>The chosen pod is not on this node any more.</p>\n",
        node.map(|node| format!("{} · ", Escaped(node)))
            .unwrap_or_default(),
        Escaped(version(snapshot)),
        at.as_deref().unwrap_or_default(),
        Escaped(node.unwrap_or("this node")),
        at.as_deref().map_or_else(
            || "No snapshot yet".to_owned(),
            |at| format!("Snapshot of {at}")
        ),
    )
}

fn body(out: &mut String, snapshot: &Snapshot, history: &History) -> fmt::Result {
    let cards: Vec<Card<'_>> = snapshot
        .gpus
        .iter()
        .map(|view| Card::new(view, history))
        .collect();
    if cards.len() > 1 {
        overview(out, &cards)?;
    }
    out.write_str("<main id=\"main\">\n")?;
    if cards.is_empty() {
        let why = match snapshot.nvml_cause() {
            Some(cause) => format!("No GPU to show: {}.", words::words(cause)),
            None => "No GPU to show.".to_owned(),
        };
        writeln!(out, "<p class=\"empty\">{why}</p>")?;
    }
    notes::findings(out, &snapshot.findings)?;
    if history.is_full() {
        out.write_str(
            "<p class=\"notice\">So many containers are on this node that the agent keeps the last 15 \
             minutes of some of them only.</p>\n",
        )?;
    }
    for card in &cards {
        section(out, card, history)?;
    }
    for view in &snapshot.mig_cards {
        mig_card(out, view)?;
    }
    notes::sources(out, snapshot)?;
    // What the script puts below the line of a chosen pod.
    out.write_str(
        "</main>\n<template id=\"details\"><tr class=\"chosen\" role=\"row\"><td role=\"cell\" colspan=\"6\">\
         <button type=\"button\" class=\"close\">Close</button></td></tr></template>\n",
    )
}

/// A line a GPU, where there are several.
fn overview(out: &mut String, cards: &[Card<'_>]) -> fmt::Result {
    out.write_str("<nav class=\"overview\" aria-label=\"GPUs\"><ul>\n")?;
    for card in cards {
        let view = card.view;
        write!(
            out,
            "<li><a href=\"#{}\"><b>GPU {}</b>{}",
            card.id,
            Escaped(&view.identity.index),
            figures::memory_bar(card, &crate::publish::charts::Label::Decoration),
        )?;
        if let Reading::Failed(cause) = view.up {
            write!(out, "<span>{}</span>", words::unknown(&words::words(cause)))?;
        } else {
            write!(
                out,
                "<span>memory {}</span><span>busy {}</span><span>delay {}</span>",
                figures::memory_share(view),
                figures::busy_words(card),
                figures::delay_words(view),
            )?;
        }
        out.write_str("</a></li>\n")?;
    }
    out.write_str("</ul></nav>\n")
}

fn section(out: &mut String, card: &Card<'_>, history: &History) -> fmt::Result {
    let view = card.view;
    let identity = &*view.identity;
    write!(
        out,
        "<section class=\"gpu\" id=\"{id}\" aria-labelledby=\"{id}h\"><header>\
         <h2 id=\"{id}h\">GPU {} <span>{}{}</span></h2><code>{}</code><ul class=\"tags\">",
        Escaped(&identity.index),
        Escaped(&identity.model),
        identity
            .mig
            .as_ref()
            .map(|mig| format!(", MIG {}", Escaped(&mig.profile)))
            .unwrap_or_default(),
        Escaped(identity.uuid.as_str()),
        id = card.id,
    )?;
    for tag in card.tags() {
        write!(out, "<li>{tag}</li>")?;
    }
    out.write_str("</ul></header>\n")?;
    if let Reading::Failed(cause) = view.up {
        writeln!(
            out,
            "<p class=\"notice bad\">This GPU does not answer: {}. What follows was seen before.</p>",
            words::words(cause)
        )?;
    }
    figures::write(out, card, history)?;
    tenants::table(out, card)?;
    out.write_str("</section>\n")
}

/// A card whose instances have sections of their own.
fn mig_card(out: &mut String, view: &GpuView) -> fmt::Result {
    let state = match view.up {
        Reading::Failed(cause) => words::unknown(&words::words(cause)),
        Reading::Value(()) | Reading::Unsupported => "its instances stand above".to_owned(),
    };
    writeln!(
        out,
        "<section class=\"gpu\"><header><h2>GPU {} <span>{}, MIG mode</span></h2><code>{}</code></header>\
         <p class=\"empty\">{state}</p></section>",
        Escaped(&view.identity.index),
        Escaped(&view.identity.model),
        Escaped(view.identity.uuid.as_str()),
    )
}
