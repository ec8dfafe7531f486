//! What the pure parts cost: attribution, ledger, snapshot, encodings. `cargo bench --bench micro`.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

#[path = "../node.rs"]
mod node;

use std::collections::BTreeMap;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use slicewatch::analyse::attribution::{Context, attribute};
use slicewatch::analyse::grants::Grants;
use slicewatch::analyse::ledger::Ledger;
use slicewatch::model::{
    Allocations, BuildInfo, NodeSample, PodNames, ProcessList, Reading, Snapshot, Source,
    SourceHealth,
};
use slicewatch::publish::metrics::{Format, ProcessStats, encode, gzip};

use node::{Shape, TICK, TICKS_A_WINDOW};

fn main() {
    divan::main();
}

const fn shape(gpus: u32, pods: u32, processes: u32) -> Shape {
    Shape {
        gpus,
        pods,
        processes,
    }
}

/// The last one is more than a kubelet allows: it shows how cost grows.
const SHAPES: [Shape; 5] = [
    shape(1, 4, 4),
    shape(8, 512, 512),
    shape(8, 400, 400),
    shape(8, 512, 3200),
    shape(8, 3200, 3200),
];

/// A node that has run for a few windows.
struct Run {
    samples: Vec<NodeSample>,
    names: Arc<PodNames>,
    allocations: Reading<Arc<Allocations>>,
}

impl Run {
    fn new(shape: Shape) -> Self {
        let root = tempfile::tempdir().unwrap();
        shape.write_host(root.path()).unwrap();
        let mut now = node::start();
        let mut cards: Vec<_> = (0..shape.gpus)
            .map(|gpu| shape.card(gpu, root.path(), now))
            .collect();
        let samples = (0..9)
            .map(|_| {
                let mut windows = Vec::new();
                for _ in 0..TICKS_A_WINDOW {
                    now = now.later(TICK);
                    windows.extend(cards.iter_mut().filter_map(|card| card.poll(now)));
                }
                NodeSample {
                    at: now,
                    windows,
                    silent: Vec::new(),
                    canaries: Vec::new(),
                }
            })
            .collect();
        Self {
            samples,
            names: node::name_book(root.path()).refresh(now).0,
            allocations: Reading::Value(shape.allocations()),
        }
    }

    /// A ledger that has seen it all.
    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new();
        for sample in &self.samples {
            ledger.observe(sample, &self.allocations, &self.names);
        }
        ledger
    }

    fn snapshot(&self, ledger: &Ledger) -> Snapshot {
        let sources = [Source::Nvml, Source::Kubelet, Source::Host].map(|source| SourceHealth {
            source,
            up: Reading::Value(()),
            detail: "".into(),
            errors: BTreeMap::new(),
            duration: None,
            last_success: None,
        });
        let build = BuildInfo {
            version: "0".into(),
            rustc: "0".into(),
        };
        let now = self.samples.last().unwrap().at;
        ledger.snapshot(now, None, build, sources.into())
    }

    fn list(&self) -> &ProcessList {
        &self.samples.last().unwrap().windows[0].devices[0].lists[0]
    }
}

/// One list of one card.
#[divan::bench(args = [10, 50, 400, 3200])]
fn attribution(bencher: Bencher<'_, '_>, processes: u32) {
    let run = Run::new(shape(1, processes.min(512), processes));
    let grants = run.allocations.as_ref().map(|answer| Grants::new(answer));
    let context = Context {
        names: &run.names,
        grants: &grants,
        workers: &[],
    };
    bencher
        .counter(ItemsCount::new(processes))
        .bench(|| attribute(run.list(), context));
}

/// One window, of which one in three has a drain of the ring.
#[divan::bench(args = SHAPES)]
fn observe(bencher: Bencher<'_, '_>, shape: Shape) {
    let run = Run::new(shape);
    let mut ledger = run.ledger();
    let mut last = run.samples[run.samples.len() - 3..].iter().cycle();
    bencher
        .counter(ItemsCount::new(shape.processes))
        .bench_local(|| ledger.observe(last.next().unwrap(), &run.allocations, &run.names));
}

/// The kubelet's answer is another one: it is indexed anew.
#[divan::bench(args = SHAPES)]
fn index_of_grants(bencher: Bencher<'_, '_>, shape: Shape) {
    let answer = shape.allocations();
    bencher
        .counter(ItemsCount::new(shape.pods))
        .bench(|| Grants::new(&answer));
}

#[divan::bench(args = SHAPES)]
fn snapshot(bencher: Bencher<'_, '_>, shape: Shape) {
    let run = Run::new(shape);
    let ledger = run.ledger();
    bencher
        .counter(ItemsCount::new(shape.processes))
        .bench(|| run.snapshot(&ledger));
}

fn encoding(bencher: Bencher<'_, '_>, shape: Shape, format: Format) {
    let run = Run::new(shape);
    let snapshot = Arc::new(run.snapshot(&run.ledger()));
    let process = ProcessStats::read();
    let length = encode(&snapshot, &process, format).len();
    bencher
        .counter(BytesCount::new(length))
        .counter(ItemsCount::new(shape.pods))
        .bench(|| encode(&snapshot, &process, format));
}

#[divan::bench(args = SHAPES)]
fn encode_text(bencher: Bencher<'_, '_>, shape: Shape) {
    encoding(bencher, shape, Format::Text);
}

#[divan::bench(args = SHAPES)]
fn encode_openmetrics(bencher: Bencher<'_, '_>, shape: Shape) {
    encoding(bencher, shape, Format::OpenMetrics);
}

#[divan::bench(args = SHAPES)]
fn encode_protobuf(bencher: Bencher<'_, '_>, shape: Shape) {
    encoding(bencher, shape, Format::Protobuf);
}

/// Once a snapshot, however many scrapes ask.
#[divan::bench(args = SHAPES)]
fn gzip_openmetrics(bencher: Bencher<'_, '_>, shape: Shape) {
    let run = Run::new(shape);
    let snapshot = Arc::new(run.snapshot(&run.ledger()));
    let body = encode(&snapshot, &ProcessStats::read(), Format::OpenMetrics);
    bencher
        .counter(BytesCount::new(body.len()))
        .bench(|| gzip(&body));
}
