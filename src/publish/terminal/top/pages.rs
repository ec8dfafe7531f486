//! Pages about GPUs: all of them, one after another, and the neighbours of one pod.

use ratatui::style::Color;
use ratatui::text::{Line, Span};

use crate::model::{
    Bytes, CanaryReason, CanaryState, DelayPair, GpuView, Quantiles, Reading, Remainder,
};
use crate::publish::terminal::canary::{per_probe, seconds};
use crate::publish::terminal::cells::{printable, reading, signed, words};
use crate::publish::terminal::gpu::{card, title};

use super::look::Look;
use super::rows::{Choice, Key, Row, Section, Shown, Told};
use super::table::{Columns, bytes, percent, told};
use super::window::{HISTORY, Window};

/// From here on a bar in a GPU's heading is long.
const WIDE: usize = 100;
/// Pairs that the agent tells of a GPU.
const PAIRS: usize = 10;

/// Lines that are scrolled over.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) lines: Vec<Line<'static>>,
    /// The line that must be seen.
    pub(super) chosen: Option<usize>,
    /// By GPU.
    pub(super) sections: Vec<Heading>,
}

/// What stays on the screen while the rows of a GPU are scrolled over.
#[derive(Debug)]
pub(super) struct Heading {
    /// Where it stands: which GPU it is, and the header of its table.
    pub(super) places: [usize; 2],
    pub(super) lines: [Line<'static>; 2],
}

/// What a page is drawn with.
pub(super) struct Drawing<'a> {
    pub(super) look: Look,
    pub(super) width: usize,
    pub(super) window: &'a Window,
    pub(super) shown: &'a Shown,
    pub(super) choice: &'a Choice,
}

impl Drawing<'_> {
    /// All GPUs with their containers.
    pub(super) fn gpus(&self, chosen: Option<&Key>) -> Body {
        let mut body = Body::default();
        let columns = Columns::new(self.look, self.width);
        for section in &self.shown.sections {
            self.section(&mut body, section, &columns, chosen);
        }
        let Shown { snapshot, .. } = self.shown;
        for gpu in &snapshot.mig_cards {
            body.lines.push(self.plain(&card(gpu)));
        }
        if snapshot.gpus.is_empty() {
            let why = match snapshot.nvml_cause() {
                Some(cause) => format!("No GPU to show: {}; f shows the sources", words(cause)),
                None => "No GPU to show; f shows the sources".to_owned(),
            };
            body.lines.push(self.plain(&why));
        }
        body
    }

    fn section(&self, body: &mut Body, section: &Section, columns: &Columns, chosen: Option<&Key>) {
        let look = self.look;
        let gpu = self.shown.gpu(section);
        let heading = Line::styled(look.text(&title(gpu)).into_owned(), look.strong());
        let header = columns.header(self.choice);
        let begin = body.lines.len();
        body.lines.push(heading.clone());
        if let Reading::Failed(cause) = gpu.up {
            let text = format!("  does not answer: {}", words(cause));
            body.lines.push(Line::styled(text, look.tint(Color::Red)));
        }
        body.lines.push(self.plain(&sharing(gpu)));
        body.lines.push(self.memory(gpu));
        body.lines.push(self.time(section, gpu));
        body.lines.extend(self.delay(gpu));
        body.sections.push(Heading {
            places: [begin, body.lines.len()],
            lines: [heading, header.clone()],
        });
        body.lines.push(header);
        for row in &section.rows {
            let is_chosen = chosen == Some(&row.key);
            if is_chosen {
                body.chosen = Some(body.lines.len());
            }
            body.lines.push(columns.row(row, is_chosen));
        }
        match (section.rows.len(), section.hidden) {
            (0, 0) => body
                .lines
                .push(self.plain("  no container holds it or was granted it")),
            (_, 0) => {}
            (_, hidden) => body.lines.push(Line::styled(
                format!("  {hidden} more without the filter"),
                look.faint(),
            )),
        }
        self.rest(body, gpu, columns);
        body.lines.push(Line::default());
    }

    fn rest(&self, body: &mut Body, gpu: &GpuView, columns: &Columns) {
        match &gpu.unattributed {
            Reading::Value(remainders) => {
                let some = remainders.iter().filter(|(_, held)| **held > Bytes(0));
                body.lines
                    .extend(some.map(|(reason, held): (&Remainder, &Bytes)| {
                        let name = format!("(unattributed: {})", reason.label().replace('_', " "));
                        columns.rest(&name, &held.to_string())
                    }));
            }
            unknown => {
                let why = reading(&unknown.as_ref().map(|_| ""));
                body.lines.push(columns.rest("(unattributed)", &why));
            }
        }
        let unexplained = reading(&gpu.unexplained.map(signed));
        body.lines.push(columns.rest("(unexplained)", &unexplained));
    }

    fn memory(&self, gpu: &GpuView) -> Line<'static> {
        let Reading::Value(memory) = gpu.memory else {
            let why = reading(&gpu.memory.map(|memory| memory.used));
            return self.plain(&format!("  memory {why}"));
        };
        let used = memory.used.0 as f64 / memory.total.0.max(1) as f64;
        let text = format!(
            " {} of {} used, {} free, peak {}, {} reserved",
            memory.used,
            memory.total,
            memory.free,
            reading(&gpu.used_peak),
            reading(&memory.reserved),
        );
        Line::from(vec![
            Span::raw("  memory "),
            Span::styled(self.look.bar(used, self.bar()), self.look.level(used)),
            Span::raw(text),
        ])
    }

    fn time(&self, section: &Section, gpu: &GpuView) -> Line<'static> {
        let busy = match (gpu.busy, section.busy) {
            (Reading::Value(_), Some(busy)) => busy,
            (Reading::Value(_), None) => {
                return self.plain("  time   ? (two drains of the ring are not seen yet)");
            }
            (unknown, _) => {
                return self.plain(&format!("  time   {}", reading(&unknown.map(|_| ""))));
            }
        };
        let text = format!(
            " {} busy; {} of {} pods active",
            percent(busy),
            reading(&gpu.active_tenants),
            reading(&gpu.tenants)
        );
        Line::from(vec![
            Span::raw("  time   "),
            Span::styled(self.look.bar(busy, self.bar()), self.look.tint(Color::Cyan)),
            Span::raw(text),
        ])
    }

    /// How long a request waits, and did.
    fn delay(&self, gpu: &GpuView) -> Vec<Line<'static>> {
        let canary = &gpu.canary;
        let state = format!(
            "canary {} ({})",
            canary.state.label(),
            canary.reason.label().replace('_', " ")
        );
        if canary.delays.value().is_none() {
            let why = match &canary.delays {
                Reading::Failed(cause) => format!(", {}", words(*cause)),
                _ => String::new(),
            };
            return vec![self.plain(&format!("  delay  ? {state}{why}"))];
        }
        let recent = canary.recent.map(|quantiles| {
            let Quantiles { p50, p90, p99, .. } = quantiles;
            let [p50, p90, p99] = [p50, p90, p99].map(|delay| seconds(delay.as_secs_f64()));
            format!("p50 {p50}, p90 {p90}, p99 {p99}")
        });
        let alone = canary
            .baseline
            .map(|quantiles| seconds(quantiles.p50.as_secs_f64()));
        let mut text = format!(
            "  delay  {} in 60 s; alone {}",
            reading(&recent),
            reading(&alone)
        );
        if let Some(stall) = canary.stall.value().filter(|stall| stall.as_secs() >= 1) {
            text.push_str(&format!("; a probe waits for {:.0} s", stall.as_secs_f64()));
        }
        if (canary.state, canary.reason) != (CanaryState::Running, CanaryReason::Shared) {
            text.push_str(&format!("; {state}"));
        }
        let parts = self.width.saturating_sub(44).clamp(10, 90);
        let (delays, length) = self.window.delays(&gpu.identity.uuid, parts);
        let highest = delays
            .iter()
            .flatten()
            .copied()
            .fold(None, |highest, delay| {
                Some(f64::max(highest.unwrap_or(delay), delay))
            });
        let told = match highest {
            Some(highest) => format!(" mean up to {} in {}", seconds(highest), minutes(length)),
            None => " no probe since this view began".to_owned(),
        };
        vec![
            self.plain(&text),
            Line::from(vec![
                Span::raw("         "),
                Span::styled(self.look.sparkline(&delays), self.look.tint(Color::Magenta)),
                Span::raw(told),
            ]),
        ]
    }

    /// The neighbours of a pod, those that it waits for longest first.
    pub(super) fn neighbours(&self, key: &Key) -> Body {
        let mut body = Body::default();
        let look = self.look;
        let is_it = |section: &&Section| self.shown.gpu(section).identity.uuid == key.gpu;
        let section = self.shown.sections.iter().find(is_it);
        let found = section.and_then(|section| {
            let row = section.rows.iter().find(|row| row.key == *key)?;
            Some((section, row))
        });
        let Some((section, row)) = found else {
            let name = format!("{}/{}", printable(&key.namespace), printable(&key.pod));
            body.lines.push(self.plain(&format!(
                "{name} is not on its GPU any more; esc leads back"
            )));
            return body;
        };
        let gpu = self.shown.gpu(section);
        let heading = format!("Neighbours of {} on GPU {}", row.name, gpu.identity.index);
        body.lines.push(Line::styled(
            look.text(&heading).into_owned(),
            look.strong(),
        ));
        let facts = format!(
            "  holds {} of a fair share of {}; {} of the time; its requests wait {} because of others; others wait {} because of it",
            bytes(&row.memory),
            bytes(&row.fair_share),
            told(&row.time, percent),
            told(&row.waits, seconds),
            told(&row.inflicted, seconds),
        );
        body.lines
            .extend(super::notes::wrapped(look, &facts, self.width));
        body.lines.push(Line::default());
        self.ranked(&mut body, section, row, gpu);
        body
    }

    fn ranked(&self, body: &mut Body, section: &Section, row: &Row, gpu: &GpuView) {
        let look = self.look;
        let pairs: Vec<&DelayPair> = gpu
            .canary
            .pairs
            .iter()
            .filter(|pair| pair.victim == row.index)
            .collect();
        let mut ranked: Vec<(Option<f64>, &Row)> = section
            .rows
            .iter()
            .filter(|other| other.index != row.index)
            .map(|other| {
                let pair = pairs.iter().find(|pair| pair.aggressor == other.index);
                let delay = pair.and_then(|pair| per_probe(pair.delay.0, pair.probes));
                (delay, other)
            })
            .collect();
        ranked.sort_by(|one, other| {
            let [one, other] = [one, other].map(|(delay, _)| delay.unwrap_or(-1.0));
            other.total_cmp(&one)
        });
        let all: f64 = ranked.iter().filter_map(|(delay, _)| *delay).sum();
        let name = self.width.saturating_sub(48).clamp(16, 72);
        let header = format!(
            "  {} {} {} {} {}",
            look.start("neighbour", name),
            look.right("waits for it", 12),
            look.start("part of it", 10),
            look.right("time", 7),
            look.right("memory", 10),
        );
        body.lines.push(Line::styled(header, look.faint()));
        for (delay, other) in &ranked {
            let bar = match delay {
                Some(delay) if all > 0.0 => look.bar(delay / all, 10),
                _ => look.start("", 10),
            };
            let waits: Told = delay.ok_or_else(|| "-".to_owned());
            body.lines.push(Line::from(vec![
                Span::raw(format!(
                    "  {} {} ",
                    look.name(&other.name, name),
                    look.right(&told(&waits, seconds), 12)
                )),
                Span::styled(bar, look.tint(Color::Yellow)),
                Span::raw(format!(
                    " {} {}",
                    look.right(&told(&other.time, percent), 7),
                    look.right(&bytes(&other.memory), 10)
                )),
            ]));
        }
        body.lines.push(Line::default());
        let note = match (
            ranked.is_empty(),
            pairs.is_empty(),
            gpu.canary.delays.value(),
        ) {
            (true, ..) => "It has the GPU to itself.".to_owned(),
            (_, true, None) => format!(
                "Who makes it wait is not known: the canary is {} ({}).",
                gpu.canary.state.label(),
                gpu.canary.reason.label().replace('_', " ")
            ),
            (_, true, Some(_)) if gpu.canary.pairs.len() < PAIRS => {
                "It was not seen to wait for anybody in the last 10 min.".to_owned()
            }
            _ => format!(
                "Of requests in the last 10 min, on average. The agent tells the {PAIRS} longest waits of a GPU: - is none, or a shorter one."
            ),
        };
        body.lines
            .extend(super::notes::wrapped(look, &note, self.width));
    }

    /// How long a bar in a GPU's heading is.
    fn bar(&self) -> usize {
        if self.width < WIDE { 10 } else { 20 }
    }

    fn plain(&self, text: &str) -> Line<'static> {
        Line::raw(self.look.text(text).into_owned())
    }
}

fn sharing(gpu: &GpuView) -> String {
    let pressure = match gpu.pressure.as_secs_f64() {
        seconds if seconds > 0.0 => {
            format!("; free memory under the floor for {seconds:.0} s since start")
        }
        _ => String::new(),
    };
    format!(
        "  sharing {}; replicas granted {} of {}{pressure}",
        gpu.sharing.label(),
        reading(&gpu.replicas_allocated),
        reading(&gpu.replicas),
    )
}

/// `15 min`, or `42 s` where it is less than two.
fn minutes(length: std::time::Duration) -> String {
    match length.min(HISTORY).as_secs() {
        short @ ..120 => format!("{short} s"),
        long => format!("{} min", long / 60),
    }
}
