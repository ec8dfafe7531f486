//! Which labels the series of a query have, told from the metric table and the recording rules.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::MatchOp;
use promql_parser::parser::{
    self, AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality,
    VectorSelector,
};
use serde::Deserialize;
use slicewatch::publish::metrics::{Kind, TABLE};

/// What a scrape adds: any series may have them.
const TARGET: [&str; 4] = ["cluster", "job", "instance", "node"];
/// What Prometheus itself says of a target.
const SCRAPE: [&str; 3] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
];

pub(super) type Labels = BTreeSet<String>;

fn of<'a>(labels: impl IntoIterator<Item = &'a str>) -> Labels {
    labels.into_iter().map(str::to_owned).collect()
}

/// The metrics there are, with their labels.
pub(super) struct Known(BTreeMap<String, Labels>);

#[derive(Deserialize)]
struct RuleFile {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    expr: String,
}

impl Known {
    pub(super) fn of_table() -> Self {
        let mut known = BTreeMap::new();
        for metric in TABLE {
            let labels = &of(metric.labels()) | &of(TARGET);
            if metric.kind == Kind::Histogram {
                known.insert(format!("{}_sum", metric.name), labels.clone());
                known.insert(format!("{}_count", metric.name), labels.clone());
                known.insert(format!("{}_bucket", metric.name), &labels | &of(["le"]));
            } else {
                known.insert(metric.name.to_owned(), labels);
            }
        }
        known.extend(SCRAPE.map(|name| (name.to_owned(), of(TARGET))));
        Self(known)
    }

    /// Adds what a file of rules records; alerts are not asked for by dashboards.
    pub(super) fn add_rules(&mut self, text: &str) -> Vec<String> {
        let file: RuleFile = serde_saphyr::from_str(text).unwrap();
        let mut problems = Vec::new();
        for rule in file.groups.into_iter().flat_map(|group| group.rules) {
            if let Some(record) = rule.record {
                let expr = parser::parse(&rule.expr).unwrap();
                let labels = self.labels(&expr, &mut problems);
                self.0.insert(record, labels);
            }
        }
        problems
    }

    /// The labels that series of an expression can have; every name that is nobody's is a problem.
    pub(super) fn labels(&self, expr: &Expr, problems: &mut Vec<String>) -> Labels {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector, problems),
            Expr::MatrixSelector(selector) => self.selector(&selector.vs, problems),
            Expr::Paren(inner) => self.labels(&inner.expr, problems),
            Expr::Unary(inner) => self.labels(&inner.expr, problems),
            Expr::Subquery(inner) => self.labels(&inner.expr, problems),
            Expr::Aggregate(inner) => self.aggregate(inner, problems),
            Expr::Binary(inner) => self.binary(inner, problems),
            Expr::Call(inner) => self.call(inner, problems),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Labels::new(),
        }
    }

    fn selector(&self, selector: &VectorSelector, problems: &mut Vec<String>) -> Labels {
        let name = selector.name.as_deref().unwrap_or_default();
        let Some(labels) = self.0.get(name) else {
            problems.push(format!("there is no metric {name}"));
            return Labels::new();
        };
        for matcher in &selector.matchers.matchers {
            if !labels.contains(&matcher.name) {
                problems.push(format!("{name} has no label {}", matcher.name));
            }
        }
        labels.clone()
    }

    fn aggregate(&self, aggregate: &AggregateExpr, problems: &mut Vec<String>) -> Labels {
        let inner = self.labels(&aggregate.expr, problems);
        let keeps = ["topk", "bottomk"].contains(&aggregate.op.to_string().as_str());
        let left = match &aggregate.modifier {
            None => Labels::new(),
            Some(LabelModifier::Include(by)) => {
                asked(&by.labels, &inner, problems);
                of(by.labels.iter().map(String::as_str))
            }
            Some(LabelModifier::Exclude(without)) => {
                asked(&without.labels, &inner, problems);
                &inner - &of(without.labels.iter().map(String::as_str))
            }
        };
        if keeps { inner } else { left }
    }

    fn binary(&self, binary: &BinaryExpr, problems: &mut Vec<String>) -> Labels {
        let left = self.labels(&binary.lhs, problems);
        let right = self.labels(&binary.rhs, problems);
        let scalar = |expr: &Expr| expr.value_type() == parser::value::ValueType::Scalar;
        if scalar(&binary.lhs) || scalar(&binary.rhs) {
            return &left | &right;
        }
        let operation = binary.op.to_string();
        let modifier = binary.modifier.as_ref();
        let matched = modifier.and_then(|modifier| modifier.matching.as_ref());
        if let Some(matched) = matched {
            for side in [&left, &right] {
                // What is ignored need not be on both sides.
                if matched.is_include() && !side.is_empty() {
                    asked(&matched.labels().labels, side, problems);
                }
            }
        }
        match operation.as_str() {
            "and" | "unless" => return left,
            "or" => return &left | &right,
            _ => {}
        }
        match modifier.map(|modifier| &modifier.card) {
            Some(VectorMatchCardinality::ManyToOne(more)) => {
                asked(&more.labels, &right, problems);
                &left | &of(more.labels.iter().map(String::as_str))
            }
            Some(VectorMatchCardinality::OneToMany(more)) => {
                asked(&more.labels, &left, problems);
                &right | &of(more.labels.iter().map(String::as_str))
            }
            _ => match matched {
                Some(LabelModifier::Include(on)) => of(on.labels.iter().map(String::as_str)),
                Some(LabelModifier::Exclude(ignored)) => {
                    &left - &of(ignored.labels.iter().map(String::as_str))
                }
                None => left,
            },
        }
    }

    fn call(&self, call: &Call, problems: &mut Vec<String>) -> Labels {
        let mut labels = Labels::new();
        for argument in &call.args.args {
            labels.extend(self.labels(argument, problems));
        }
        let text = |at: usize| match call.args.args.get(at).map(|argument| &**argument) {
            Some(Expr::StringLiteral(text)) => text.val.clone(),
            _ => String::new(),
        };
        match call.func.name {
            "absent" | "absent_over_time" => match call.args.args.first().map(|one| &**one) {
                Some(Expr::VectorSelector(one)) => of(one
                    .matchers
                    .matchers
                    .iter()
                    .filter(|matcher| matcher.op == MatchOp::Equal)
                    .map(|matcher| matcher.name.as_str())),
                _ => Labels::new(),
            },
            "histogram_quantile" => &labels - &of(["le"]),
            "scalar" | "time" | "vector" => Labels::new(),
            "label_replace" => {
                let from = text(3);
                if !from.is_empty() {
                    asked(&[from], &labels, problems);
                }
                labels.insert(text(1));
                labels
            }
            "label_join" => {
                let from: Vec<_> = (3..call.args.args.len()).map(text).collect();
                asked(&from, &labels, problems);
                labels.insert(text(1));
                labels
            }
            _ => labels,
        }
    }
}

/// Labels that a query names must be on the series that it names them for.
fn asked(names: &[String], there: &Labels, problems: &mut Vec<String>) {
    for name in names {
        if !there.contains(name) {
            problems.push(format!("nothing has the label {name}: {there:?}"));
        }
    }
}
