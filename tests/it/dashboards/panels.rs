//! What panels, variables and annotations say of the series that their queries give.

use std::collections::BTreeSet;

use promql_parser::parser::{self, Expr};
use serde_json::Value;

use super::labels::{Known, Labels};

/// Variables that Grafana has without a word of ours, with something of their form.
const BUILT_IN: [(&str, &str); 4] = [
    ("__rate_interval", "5m"),
    ("__interval", "1m"),
    ("__range", "1h"),
    ("__range_s", "3600"),
];

/// The variables in a text: `$name` or `${name}`, `${name:format}`.
pub(super) fn variables(text: &str) -> Vec<&str> {
    text.split('$')
        .skip(1)
        .map(|rest| {
            let rest = rest.strip_prefix('{').unwrap_or(rest);
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .filter(|name| !name.is_empty())
        .collect()
}

/// A query with something for each variable.
pub(super) fn filled(query: &str) -> String {
    let mut query = query.to_owned();
    let mut names: Vec<String> = variables(&query).iter().map(ToString::to_string).collect();
    // The longest first: one name may begin another.
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        let value = BUILT_IN
            .iter()
            .find_map(|(built_in, value)| (*built_in == name).then_some(*value));
        query = query.replace(&format!("${name}"), value.unwrap_or("x"));
    }
    query
}

pub(super) fn parse(query: &str) -> Result<Expr, String> {
    parser::parse(&filled(query)).map_err(|error| format!("does not parse: {error}: {query}"))
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The query inside `label_values(query, label)` or `query_result(query)`, and the label.
pub(super) fn asked_by_variable(query: &str) -> Option<(&str, Option<&str>)> {
    let (call, rest) = query.split_once('(')?;
    let inner = rest.strip_suffix(')')?;
    match call {
        "label_values" => {
            let (inner, label) = inner.rsplit_once(',')?;
            Some((inner, Some(label.trim())))
        }
        "query_result" => Some((inner, None)),
        _ => None,
    }
}

/// The labels in `{{label}}`.
fn braced(text: &str) -> Vec<&str> {
    text.split("{{")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}").map(|(label, _)| label))
        .collect()
}

/// What a dashboard names and nobody has.
pub(super) fn problems(dashboard: &Value, known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    let variables_there: BTreeSet<_> = list(&dashboard["templating"], "list")
        .iter()
        .map(|variable| text(variable, "name"))
        .chain(BUILT_IN.map(|(name, _)| name))
        .collect();
    let labels_of = |query: &str, place: &str, problems: &mut Vec<String>| {
        let mut found: Vec<String> = variables(query)
            .iter()
            .filter(|name| !variables_there.contains(*name))
            .map(|name| format!("there is no variable {name}"))
            .collect();
        let labels = match parse(query) {
            Ok(expr) => known.labels(&expr, &mut found),
            Err(error) => {
                found.push(error);
                Labels::new()
            }
        };
        problems.extend(found.iter().map(|problem| format!("{place}: {problem}")));
        labels
    };
    for variable in list(&dashboard["templating"], "list") {
        if text(variable, "type") != "query" {
            continue;
        }
        let place = format!("variable {}", text(variable, "name"));
        let Some((query, label)) = asked_by_variable(text(variable, "query")) else {
            problems.push(format!("{place}: neither label_values nor query_result"));
            continue;
        };
        let labels = labels_of(query, &place, &mut problems);
        // A regular expression of the form label="(?<text>...)": the labels that it names.
        let regex = text(variable, "regex");
        let named = regex.split("=\"").map(|before| {
            let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_');
            &before[start.map_or(0, |at| at + 1)..]
        });
        let named = named.take(regex.matches("=\"").count());
        for label in label.into_iter().chain(named) {
            if !labels.contains(label) {
                problems.push(format!("{place}: {label} is no label of its query"));
            }
        }
    }
    for annotation in list(&dashboard["annotations"], "list") {
        if let Some(query) = annotation["expr"].as_str() {
            let place = format!("annotation {}", text(annotation, "name"));
            let labels = labels_of(query, &place, &mut problems);
            for key in ["titleFormat", "textFormat"] {
                for label in braced(text(annotation, key)) {
                    if !labels.contains(label) {
                        problems.push(format!("{place}: {key} has {label}, the query has not"));
                    }
                }
            }
        }
    }
    for panel in list(dashboard, "panels") {
        let title = text(panel, "title");
        let mut fields = BTreeSet::new();
        let many = list(panel, "targets").len() > 1;
        for target in list(panel, "targets") {
            let place = format!("{title} {}", text(target, "refId"));
            let labels = labels_of(text(target, "expr"), &place, &mut problems);
            for label in braced(text(target, "legendFormat")) {
                if !labels.contains(label) {
                    problems.push(format!(
                        "{place}: the legend has {label}, the query has not"
                    ));
                }
            }
            if let Some(key) = transformation(panel, "joinByField")["byField"].as_str()
                && !labels.contains(key)
            {
                problems.push(format!("{place}: joined by {key}, which it has not"));
            }
            fields.extend(labels);
            fields.insert(if many {
                format!("Value #{}", text(target, "refId"))
            } else {
                "Value".to_owned()
            });
        }
        if text(panel, "type") == "table" {
            problems.extend(
                table(panel, &fields)
                    .iter()
                    .map(|problem| format!("{title}: {problem}")),
            );
        }
    }
    problems
}

fn transformation<'a>(panel: &'a Value, id: &str) -> &'a Value {
    list(panel, "transformations")
        .iter()
        .find(|one| text(one, "id") == id)
        .map_or(&Value::Null, |one| &one["options"])
}

/// A table's columns must be fields, and its overrides and links columns.
fn table(panel: &Value, fields: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    let organize = transformation(panel, "organize");
    let empty = serde_json::Map::new();
    let columns = organize["indexByName"].as_object().unwrap_or(&empty);
    let pattern = columns.keys().map(String::as_str).collect::<BTreeSet<_>>();
    let kept = text(
        &transformation(panel, "filterFieldsByName")["include"],
        "pattern",
    );
    let kept: BTreeSet<_> = kept
        .trim_start_matches("^(")
        .trim_end_matches(")$")
        .split('|')
        .collect();
    if kept != pattern {
        problems.push(format!("keeps {kept:?}, orders {pattern:?}"));
    }
    let mut headings = BTreeSet::new();
    for column in columns.keys() {
        if !fields.contains(column) {
            problems.push(format!("column {column} is no field: {fields:?}"));
        }
        headings.insert(organize["renameByName"][column].as_str().unwrap_or(column));
    }
    for override_ in list(&panel["fieldConfig"], "overrides") {
        let name = text(&override_["matcher"], "options");
        let by_regex = text(&override_["matcher"], "id") == "byRegexp";
        if !headings.contains(name) {
            problems.push(format!(
                "an override (a regex: {by_regex}) of {name}, no column"
            ));
        }
        for link in list(override_, "properties")
            .iter()
            .filter(|one| text(one, "id") == "links")
        {
            let url = text(&link["value"][0], "url");
            for used in url.split("${__data.fields").skip(1) {
                let used = used.split('}').next().unwrap_or_default();
                let used = used.trim_matches(|c| ".[]\"".contains(c));
                if !headings.contains(used) {
                    problems.push(format!("a link uses {used}, no column"));
                }
            }
        }
    }
    for sort in list(&panel["options"], "sortBy") {
        let name = text(sort, "displayName");
        if !headings.contains(name) {
            problems.push(format!("sorted by {name}, no column"));
        }
    }
    problems
}
