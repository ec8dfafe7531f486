//! Objects of a cluster as an API server lists them: by namespace and selectors, in pages, whose
//! tokens can be forgotten.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

/// What is kept of an object to select it by, and its text.
struct Object {
    head: Value,
    text: String,
}

/// All objects, by the path of their list over all namespaces and by `namespace/name`.
#[derive(Default)]
pub(crate) struct Objects {
    lists: BTreeMap<String, BTreeMap<String, Object>>,
    /// Tokens of older epochs are forgotten.
    epoch: usize,
    /// Tokens are forgotten each time so many were given.
    pub(crate) forget_every: Option<usize>,
    given: usize,
    /// Whether nothing is said of how to go on.
    pub(crate) forgets_wholly: bool,
}

impl Objects {
    /// Adds an object, or puts it in the place of the one with its name. `list` is such as
    /// `/apis/apps/v1/daemonsets`.
    pub(crate) fn add(&mut self, list: &str, object: &Value) {
        let meta = &object["metadata"];
        let head = json!({
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "labels": meta["labels"]},
            "spec": {"nodeName": object["spec"]["nodeName"]},
            "status": {"phase": object["status"]["phase"]},
        });
        let text = object.to_string();
        let key = match meta["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{}", meta["name"].as_str().unwrap()),
            None => meta["name"].as_str().unwrap().to_owned(),
        };
        let list = self.lists.entry(list.to_owned()).or_default();
        list.insert(key, Object { head, text });
    }

    /// A kind that is known, of which there is nothing.
    pub(crate) fn know(&mut self, list: &str) {
        self.lists.entry(list.to_owned()).or_default();
    }

    /// A kind that is not known.
    pub(crate) fn forget_kind(&mut self, list: &str) {
        self.lists.remove(list);
    }

    /// Changes one object.
    pub(crate) fn change(&mut self, list: &str, key: &str, change: impl FnOnce(&mut Value)) {
        let text = &self.lists[list][key].text;
        let mut object: Value = serde_json::from_str(text).unwrap();
        change(&mut object);
        self.lists.get_mut(list).unwrap().remove(key);
        self.add(list, &object);
    }

    pub(crate) fn remove(&mut self, list: &str, key: &str) {
        self.lists.get_mut(list).unwrap().remove(key).unwrap();
    }

    /// Status and body of the answer to a GET.
    pub(crate) fn answer(&mut self, path: &str, query: &HashMap<String, String>) -> (u16, String) {
        let (list, namespace) = match path.split_once("/namespaces/") {
            Some((base, rest)) => {
                let (namespace, kind) = rest.split_once('/').unwrap();
                (format!("{base}/{kind}"), Some(namespace))
            }
            None => (path.to_owned(), None),
        };
        if let Some(objects) = self.lists.get(&list) {
            let token = query
                .get("continue")
                .map(|token| token.split_once(':').unwrap());
            let after = token.map_or("", |(_, key)| key);
            if token.is_some_and(|(epoch, _)| epoch != self.epoch.to_string()) {
                let mut body = json!({"kind": "Status", "code": 410, "reason": "Expired", "metadata": {},
                    "message": "The provided continue parameter is too old"});
                if !self.forgets_wholly {
                    body["metadata"]["continue"] = json!(format!("{}:{after}", self.epoch));
                }
                return (410, body.to_string());
            }
            let limit = query
                .get("limit")
                .map_or(usize::MAX, |it| it.parse().unwrap());
            let mut selected = objects
                .iter()
                .filter(|(key, _)| key.as_str() > after)
                .filter(|(_, object)| is_selected(&object.head, namespace, query));
            let page: Vec<_> = selected.by_ref().take(limit).collect();
            let mut metadata = json!({"resourceVersion": "100"});
            if let (Some((last, _)), Some(_)) = (page.last(), selected.next()) {
                metadata["continue"] = json!(format!("{}:{last}", self.epoch));
                self.given += 1;
                if self
                    .forget_every
                    .is_some_and(|every| self.given.is_multiple_of(every))
                {
                    self.epoch += 1;
                }
            }
            let items: Vec<&str> = page
                .iter()
                .map(|(_, object)| object.text.as_str())
                .collect();
            let body = format!(
                r#"{{"kind":"List","apiVersion":"v1","metadata":{metadata},"items":[{}]}}"#,
                items.join(",")
            );
            return (200, body);
        }
        let single = list.rsplit_once('/');
        let found = single.and_then(|(list, name)| self.lists.get(list)?.get(name));
        match found {
            Some(object) => (200, object.text.clone()),
            None => (
                404,
                "the server could not find the requested resource".to_owned(),
            ),
        }
    }
}

fn is_selected(head: &Value, namespace: Option<&str>, query: &HashMap<String, String>) -> bool {
    if namespace.is_some_and(|namespace| head["metadata"]["namespace"] != namespace) {
        return false;
    }
    let labels = terms(query, "labelSelector");
    let fields = terms(query, "fieldSelector");
    labels
        .iter()
        .all(|(name, is, value)| (head["metadata"]["labels"][name] == *value) == *is)
        && fields.iter().all(|(path, is, value)| {
            let field = head.pointer(&format!("/{}", path.replace('.', "/")));
            let there = field.and_then(Value::as_str).unwrap_or_default();
            (there == value) == *is
        })
}

/// Name, whether it is to be equal, and value.
fn terms(query: &HashMap<String, String>, selector: &str) -> Vec<(String, bool, String)> {
    let text = query.get(selector).map_or("", String::as_str);
    text.split(',')
        .filter(|term| !term.is_empty())
        .map(|term| match term.split_once("!=") {
            Some((name, value)) => (name.to_owned(), false, value.to_owned()),
            None => {
                let (name, value) = term.split_once('=').unwrap();
                (name.to_owned(), true, value.to_owned())
            }
        })
        .collect()
}
