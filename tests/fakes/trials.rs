//! Pods that are made at the fake API server: a scheduler, a device plugin and a kubelet in one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Pods by name, and the GPU of each that runs.
pub(crate) type Placed = BTreeMap<String, Option<&'static str>>;

/// What the pods of a trial meet.
pub(crate) struct Trials {
    /// UUIDs of the node's GPUs, which are given in turn.
    pub(crate) gpus: Vec<&'static str>,
    /// Pods that find a replica; the others stay Pending.
    pub(crate) room: usize,
    /// Pods that the quota lets be.
    pub(crate) quota: usize,
    /// A verb and a resource that may not be used.
    pub(crate) denied: Option<(&'static str, &'static str)>,
    /// Whether pods stay when they are deleted.
    pub(crate) stuck: bool,
    /// The pods' own words: `None` where they say nothing.
    pub(crate) says: fn(&str) -> Option<Value>,
    /// What the agent shows, of the pods and their GPUs; `None`: it may not be asked.
    pub(crate) agent: Option<fn(&Placed) -> Value>,
    /// The pods that are there, and the GPUs of those that run.
    pub(crate) pods: Placed,
    /// Objects as they were asked for.
    pub(crate) made: Vec<Value>,
}

impl Trials {
    /// On a node that shares these GPUs, by pods in which the driver says so.
    pub(crate) fn on(gpus: Vec<&'static str>) -> Self {
        Self {
            gpus,
            room: usize::MAX,
            quota: usize::MAX,
            denied: None,
            stuck: false,
            says: |gpu| Some(json!({"gpus": [gpu], "driver_error": null, "visible_devices": null})),
            agent: None,
            pods: BTreeMap::new(),
            made: Vec::new(),
        }
    }

    /// Status and body; `None` for what is not of a trial.
    pub(crate) fn answer(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Option<(u16, String)> {
        if path.ends_with("/selfsubjectaccessreviews") {
            return Some((201, self.review(&serde_json::from_slice(body).unwrap())));
        }
        if path.ends_with("/proxy/api/v1/snapshot") {
            return Some(match self.agent {
                Some(agent) => (200, agent(&self.pods).to_string()),
                None => (
                    403,
                    error(
                        403,
                        "pods \"slicewatch-x\" is forbidden: cannot get pods/proxy",
                    ),
                ),
            });
        }
        let rest = path
            .strip_prefix("/api/v1/namespaces/")?
            .split_once("/pods")?
            .1;
        match (method, rest.trim_start_matches('/').split_once('/')) {
            ("POST", _) => Some(self.create(serde_json::from_slice(body).unwrap())),
            ("GET", Some((name, "log"))) => Some(self.log(name)),
            ("GET", None) if !rest.is_empty() => Some(self.state(rest.trim_start_matches('/'))),
            ("DELETE", None) => {
                if !self.stuck {
                    self.pods.remove(rest.trim_start_matches('/'));
                }
                Some((
                    200,
                    json!({"kind": "Status", "status": "Success"}).to_string(),
                ))
            }
            _ => None,
        }
    }

    fn review(&self, review: &Value) -> String {
        let asked = &review["spec"]["resourceAttributes"];
        let denied = self.denied.is_some_and(|(verb, resource)| {
            asked["verb"] == verb && asked["resource"] == resource && asked["subresource"] == ""
        });
        json!({"kind": "SelfSubjectAccessReview", "status": {"allowed": !denied}}).to_string()
    }

    fn create(&mut self, pod: Value) -> (u16, String) {
        if self.pods.len() >= self.quota {
            let words = "pods \"x\" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1";
            return (403, error(403, words));
        }
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        let number = self.pods.len();
        let gpu = (number < self.room).then(|| self.gpus[number % self.gpus.len()]);
        self.pods.insert(name, gpu);
        let text = pod.to_string();
        self.made.push(pod);
        (201, text)
    }

    fn state(&self, name: &str) -> (u16, String) {
        let status = match self.pods.get(name) {
            None => return (404, error(404, "pods not found")),
            Some(Some(_)) => {
                json!({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]})
            }
            Some(None) => json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
                "status": "False", "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}]}),
        };
        (
            200,
            json!({"metadata": {"name": name, "namespace": "default"}, "status": status})
                .to_string(),
        )
    }

    fn log(&self, name: &str) -> (u16, String) {
        match self.pods.get(name) {
            Some(Some(gpu)) => {
                let said = (self.says)(gpu).map_or(String::new(), |said| format!("{said}\n"));
                (200, said)
            }
            _ => (400, error(400, "container \"witness\" is waiting to start")),
        }
    }
}

fn error(code: u16, words: &str) -> String {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": words, "code": code})
    .to_string()
}
