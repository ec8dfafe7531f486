//! A snapshot as the lines that a scrape of it comes to, with timestamps and the target's labels.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use slicewatch::model::{Bytes, Moment, Snapshot};
use slicewatch::publish::metrics::{Format, ProcessStats, encode};

/// Of the agent's own process: what was measured on a real node.
const CPU_SHARE: f64 = 0.003;
const RESIDENT: Bytes = Bytes::mib(23);

/// Who is scraped.
pub(crate) struct Target {
    /// `name="value",...`, as it stands between braces.
    labels: String,
}

impl Target {
    /// Of `NAME=VALUE` pairs.
    ///
    /// # Errors
    /// One without `=`, or with a value that would have to be escaped.
    pub(crate) fn new(pairs: &[String]) -> anyhow::Result<Self> {
        let mut labels = Vec::new();
        for pair in pairs {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("--label {pair:?}: write NAME=VALUE"))?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
            ensure!(
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                "--label {pair:?}: not a label's name"
            );
            ensure!(
                value.chars().all(plain),
                "--label {pair:?}: a value of letters, digits and _-.:/ only"
            );
            labels.push(format!("{name}=\"{value}\""));
        }
        Ok(Self {
            labels: labels.join(","),
        })
    }

    /// Writes a scrape made at `at` and says of how many samples.
    ///
    /// # Errors
    /// Whatever `out` refuses.
    pub(crate) fn write(
        &self,
        snapshot: &Arc<Snapshot>,
        begin: Moment,
        at: Duration,
        out: &mut impl Write,
    ) -> io::Result<u64> {
        let body = encode(snapshot, &process(snapshot.at, begin), Format::OpenMetrics);
        let body = String::from_utf8(body).map_err(io::Error::other)?;
        let mut samples = 0;
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            // A name has neither brace nor blank.
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            let (name, rest) = line.split_at(end);
            match rest.strip_prefix('{') {
                Some(rest) => write!(out, "{name}{{{},{rest}", self.labels)?,
                None => write!(out, "{name}{{{}}}{rest}", self.labels)?,
            }
            stamp(at, out)?;
            samples += 1;
        }
        // What Prometheus itself adds to a scrape.
        for (name, value) in [
            ("up", 1.0),
            ("scrape_duration_seconds", 0.002),
            ("scrape_samples_scraped", samples as f64),
            ("scrape_samples_post_metric_relabeling", samples as f64),
            ("scrape_series_added", 0.0),
        ] {
            write!(out, "{name}{{{}}} {value}", self.labels)?;
            stamp(at, out)?;
        }
        Ok(samples)
    }
}

fn stamp(at: Duration, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, " {}.{:03}", at.as_secs(), at.subsec_millis())
}

fn process(now: Moment, begin: Moment) -> ProcessStats {
    ProcessStats {
        cpu: Some(now.since(begin).mul_f64(CPU_SHARE)),
        resident: Some(RESIDENT),
        virtual_memory: Some(Bytes::mib(160)),
        started: Some(begin.unix),
        open_fds: Some(20),
        max_fds: Some(1 << 20),
        threads: Some(6),
    }
}
