//! Of a pod, what the trial looks at.

use serde::Deserialize;
use serde_json::Value;

use super::{AgentPod, PodState};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    containers: Vec<SpecContainer>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SpecContainer {
    image: String,
    args: Vec<String>,
    ports: Vec<Port>,
    liveness_probe: Probe,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Probe {
    http_get: HttpGet,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HttpGet {
    scheme: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    name: String,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    reason: Option<String>,
    message: Option<String>,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    state: ContainerState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    running: Option<Value>,
    waiting: Option<Because>,
    terminated: Option<Because>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Because {
    reason: Option<String>,
    message: Option<String>,
}

/// `REASON: message`, or what there is of both.
fn words(reason: Option<String>, message: Option<String>) -> Option<String> {
    match (reason, message) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (reason, message) => reason.or(message),
    }
}

impl PodObject {
    pub(super) fn state(self) -> PodState {
        let Status {
            phase,
            reason,
            message,
            conditions,
            container_statuses,
        } = self.status;
        let state = container_statuses.into_iter().next().map(|it| it.state);
        let state = state.unwrap_or_default();
        let unscheduled = || {
            let mut conditions = conditions.into_iter();
            let found =
                conditions.find(|it| it.r#type == "PodScheduled" && it.status == "False")?;
            found.message
        };
        let because = |it: Option<Because>| it.and_then(|it| words(it.reason, it.message));
        PodState {
            phase,
            running: state.running.is_some(),
            why: words(reason, message)
                .or_else(|| because(state.terminated))
                .or_else(|| because(state.waiting))
                .or_else(unscheduled),
        }
    }

    pub(super) fn agent(self) -> Option<AgentPod> {
        let mut containers = self.spec.containers.into_iter();
        let container = containers.find(|it| it.args.first().is_some_and(|it| it == "agent"))?;
        let mut ports = container.ports.into_iter();
        let port = ports.find(|port| port.name == "metrics")?.container_port;
        Some(AgentPod {
            namespace: self.metadata.namespace,
            name: self.metadata.name,
            node: self.spec.node_name?,
            image: container.image,
            port,
            tls: container.liveness_probe.http_get.scheme == "HTTPS",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(status: &Value) -> PodState {
        let pod = json!({"metadata": {"name": "x"}, "status": status});
        serde_json::from_value::<PodObject>(pod).unwrap().state()
    }

    #[test]
    fn why_a_pod_does_not_run_is_said_by_whoever_knows() {
        let pending = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}]});
        assert_eq!(
            state(&pending).why.as_deref(),
            Some("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
        );
        let pull = json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting":
            {"reason": "ErrImagePull", "message": "not found"}}}]});
        assert_eq!(state(&pull).why.as_deref(), Some("ErrImagePull: not found"));
        let refused = json!({"phase": "Failed", "reason": "UnexpectedAdmissionError",
            "message": "Allocate failed due to …"});
        assert_eq!(
            state(&refused).why.as_deref(),
            Some("UnexpectedAdmissionError: Allocate failed due to …")
        );
        let runs = json!({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]});
        assert_eq!((state(&runs).running, state(&runs).why), (true, None));
    }

    #[test]
    fn an_agent_has_a_node_and_a_port() {
        let agent = |spec: Value| {
            let pod = json!({"metadata": {"namespace": "slicewatch", "name": "slicewatch-x"}, "spec": spec});
            serde_json::from_value::<PodObject>(pod).unwrap().agent()
        };
        let containers = json!([{"image": "localhost/slicewatch:1", "args": ["agent"], "ports": [{"name": "metrics", "containerPort": 9735}]}]);
        let found = agent(json!({"nodeName": "gpu-1", "containers": containers})).unwrap();
        assert_eq!((found.node.as_str(), found.port), ("gpu-1", 9735));
        assert_eq!(agent(json!({"containers": containers})), None);
        assert_eq!(
            agent(json!({"nodeName": "gpu-1", "containers": [{"image": "x"}]})),
            None
        );
    }
}
