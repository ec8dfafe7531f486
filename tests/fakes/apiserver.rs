//! The part of an API server that the agent talks to, as a script says: pods and a node, lists in
//! pages, watches with bookmarks and a history that can be forgotten, and faults.
//!
//! It runs in a thread and runtime of its own: stopping it closes its connections. Whatever else is
//! asked of it is refused, and kept for [`FakeApi::assert_least_rights`].

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, mpsc as std_mpsc};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::objects::Objects;
use super::pod_events::Events;
use super::trials::Trials;

/// The node that the agent is told to be on.
pub(crate) const NODE: &str = "gpu-node-1";

/// What kind of request a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    List,
    Watch,
    Node,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Status(u16),
    /// 200, and no JSON of Kubernetes.
    Garbage,
    /// 200, and JSON that is no object of Kubernetes.
    OtherJson,
    /// Taken, and never answered.
    Hang,
    /// The head is sent, the body never ends.
    HangInBody,
    /// The connection ends in the middle of the body.
    Cut,
    /// One object of so many bytes.
    Huge(usize),
    /// A body that ends at once.
    Empty,
}

/// What the server has and does from now on.
pub(crate) struct Script {
    pods: Vec<Value>,
    node: Option<Value>,
    version: u64,
    /// Events after the oldest version that a watch may go on from.
    history: Vec<(u64, String)>,
    oldest: u64,
    /// Objects in a page; all where `None`.
    pub(crate) page: Option<usize>,
    pub(crate) token: Option<String>,
    pub(crate) faults: HashMap<Ask, Fault>,
    watches: Vec<mpsc::UnboundedSender<Result<Bytes, Infallible>>>,
    requests: Vec<String>,
    counts: HashMap<Ask, usize>,
    /// A whole cluster, in the place of the pods and the node.
    pub(crate) objects: Option<Objects>,
    /// What goes wrong with its lists and objects.
    pub(crate) object_faults: Vec<ObjectFault>,
    /// What becomes of pods that are made.
    pub(crate) trials: Option<Trials>,
    /// Events that were asked for; `None`: there are no rights for them.
    pub(crate) events: Option<Events>,
}

/// What goes wrong with one kind of objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectFault {
    /// Part of the path.
    pub(crate) path: &'static str,
    /// Requests that are answered before …
    pub(crate) after: usize,
    /// … those that are not.
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

/// A running server; it stops when dropped.
pub(crate) struct FakeApi {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    server: Option<Running>,
}

struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeApi {
    pub(crate) fn start() -> Self {
        let script = Arc::new(Mutex::new(Script {
            pods: Vec::new(),
            node: Some(json!({
                "kind": "Node",
                "metadata": {"name": NODE, "labels": {
                    "nvidia.com/gpu.sharing-strategy": "time-slicing",
                    "kubernetes.io/hostname": NODE,
                }},
                "status": {"capacity": {"cpu": "8", "nvidia.com/gpu": "4"},
                    "allocatable": {"cpu": "8", "nvidia.com/gpu": "4"}},
            })),
            version: 100,
            history: Vec::new(),
            oldest: 100,
            page: None,
            token: None,
            faults: HashMap::new(),
            watches: Vec::new(),
            requests: Vec::new(),
            counts: HashMap::new(),
            objects: None,
            object_faults: Vec::new(),
            trials: None,
            events: None,
        }));
        let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            address,
            server: Some(Running::start(listener, Arc::clone(&script))),
            script,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Ends as a process does: connections close, and new ones are refused.
    pub(crate) fn stop(&mut self) {
        self.server = None;
        self.script().watches.clear();
    }

    pub(crate) fn start_again(&mut self) {
        self.stop();
        let listener = StdTcpListener::bind(self.address).unwrap();
        self.server = Some(Running::start(listener, Arc::clone(&self.script)));
    }

    /// Adds a pod, or puts it in the place of the one with its UID.
    pub(crate) fn apply(&self, mut pod: Value) {
        let mut script = self.script();
        script.version += 1;
        pod["metadata"]["resourceVersion"] = json!(script.version.to_string());
        let uid = pod["metadata"]["uid"].clone();
        let place = script.pods.iter().position(|p| p["metadata"]["uid"] == uid);
        let word = match place {
            Some(at) => {
                script.pods[at] = pod.clone();
                "MODIFIED"
            }
            None => {
                script.pods.push(pod.clone());
                "ADDED"
            }
        };
        script.event(&json!({"type": word, "object": pod}));
    }

    pub(crate) fn delete(&self, uid: &str) {
        let mut script = self.script();
        script.version += 1;
        let at = script.pods.iter().position(|p| p["metadata"]["uid"] == uid);
        let mut pod = script.pods.remove(at.unwrap());
        pod["metadata"]["resourceVersion"] = json!(script.version.to_string());
        script.event(&json!({"type": "DELETED", "object": pod}));
    }

    /// Moves the version on, without a pod.
    pub(crate) fn bookmark(&self) {
        let mut script = self.script();
        script.version += 1;
        let version = script.version.to_string();
        script.event(&json!({"type": "BOOKMARK", "object": {
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"resourceVersion": version, "creationTimestamp": null},
            "spec": {"containers": null}, "status": {},
        }}));
    }

    /// Sends watchers a line as it is.
    pub(crate) fn line(&self, line: &str) {
        self.script().send(line.to_owned());
    }

    /// Ends all watches, as the server does every few minutes.
    pub(crate) fn end_watches(&self) {
        self.script().watches.clear();
    }

    /// Forgets all versions but the newest.
    pub(crate) fn forget(&self) {
        let mut script = self.script();
        script.version += 1;
        script.oldest = script.version;
        script.history.clear();
    }

    pub(crate) fn set_node(&self, node: Option<Value>) {
        self.script().node = node;
    }

    pub(crate) fn count(&self, ask: Ask) -> usize {
        self.script().counts.get(&ask).copied().unwrap_or(0)
    }

    /// Nothing was asked but what list and watch on pods (of this node alone) and get on this node
    /// allow: the whole of the chart's ClusterRole.
    pub(crate) fn assert_least_rights(&self) {
        for request in &self.script().requests {
            let (path, query) = request.split_once('?').unwrap_or((request, ""));
            let allowed = match path {
                "GET /api/v1/pods" => {
                    query.contains(&format!("fieldSelector=spec.nodeName%3D{NODE}"))
                }
                path => path == format!("GET /api/v1/nodes/{NODE}"),
            };
            assert!(allowed, "asked {request}");
        }
    }

    /// Puts a whole cluster in the place of the pods and the node.
    pub(crate) fn set_objects(&self, objects: Objects) {
        self.script().objects = Some(objects);
    }

    /// Nothing was asked but what the verbs get and list allow.
    pub(crate) fn assert_read_only(&self) {
        for request in &self.script().requests {
            let is_read = request.starts_with("GET ") && !request.contains("watch=");
            assert!(is_read, "asked {request}");
        }
    }

    /// What was asked, as method and URI.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.script().requests.clone()
    }

    /// A kubeconfig for this server in the folder.
    pub(crate) fn kubeconfig(&self, folder: &Path) -> PathBuf {
        kubeconfig(folder, &format!("http://{}", self.address), &json!({}))
    }
}

/// A kubeconfig for any server.
pub(crate) fn kubeconfig(folder: &Path, server: &str, user: &Value) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "c", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

impl Script {
    fn event(&mut self, event: &Value) {
        let line = event.to_string();
        self.history.push((self.version, line.clone()));
        self.send(line);
    }

    fn send(&mut self, line: String) {
        let bytes = Bytes::from(line + "\n");
        self.watches
            .retain(|watch| watch.send(Ok(bytes.clone())).is_ok());
    }

    fn list(&self, query: &HashMap<String, String>) -> Value {
        let from: usize = query.get("continue").map_or(0, |at| at.parse().unwrap());
        let to = self
            .page
            .map_or(self.pods.len(), |page| (from + page).min(self.pods.len()));
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if to < self.pods.len() {
            metadata["continue"] = json!(to.to_string());
        }
        // The order of keys in which a real server writes them.
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata,
            "items": self.pods[from..to]})
    }

    /// Of the whole cluster.
    fn answer(&mut self, path: &str, query: &HashMap<String, String>) -> Result<Response, Fault> {
        for fault in &mut self.object_faults {
            if !path.contains(fault.path) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(fault.fault);
            }
        }
        let objects = self.objects.as_mut().unwrap();
        let (code, body) = objects.answer(path, query);
        Ok(match code {
            404 => status(404),
            code => (StatusCode::from_u16(code).unwrap(), body).into_response(),
        })
    }

    fn watch(&mut self, query: &HashMap<String, String>) -> Response {
        let version: u64 = query["resourceVersion"].parse().unwrap();
        if version < self.oldest {
            return status(410);
        }
        let (watch, lines) = mpsc::unbounded_channel();
        for (_, line) in self.history.iter().filter(|(at, _)| *at > version) {
            let _ = watch.send(Ok(Bytes::from(line.clone() + "\n")));
        }
        self.watches.push(watch);
        Body::from_stream(UnboundedReceiverStream::new(lines)).into_response()
    }
}

impl Running {
    fn start(listener: StdTcpListener, script: Arc<Mutex<Script>>) -> Self {
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, serving) = std_mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let app = Router::new().fallback(answer).with_state(script);
                ready.send(()).unwrap();
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        serving.recv().unwrap();
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let (request, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let fault = 'fault: {
        let mut script = script.lock().unwrap();
        script
            .requests
            .push(format!("{} {}", request.method, request.uri));
        if let Some(trials) = &mut script.trials {
            let answer = trials.answer(request.method.as_str(), request.uri.path(), &body);
            if let Some((code, body)) = answer {
                return (StatusCode::from_u16(code).unwrap(), body).into_response();
            }
        }
        if let Some(events) = &mut script.events
            && request.uri.path().starts_with("/apis/events.k8s.io/")
        {
            match events.answer(request.method.as_str(), request.uri.path(), &body) {
                None => break 'fault Fault::Hang,
                Some(201) => return (StatusCode::CREATED, "{}").into_response(),
                Some(code) => return status(code),
            }
        }
        if script.objects.is_some() {
            match script.answer(request.uri.path(), &query) {
                Ok(response) => return response,
                Err(fault) => break 'fault fault,
            }
        }
        let ask = match (request.uri.path(), query.get("watch")) {
            ("/api/v1/pods", None) => Ask::List,
            ("/api/v1/pods", Some(_)) => Ask::Watch,
            (path, _) if path == format!("/api/v1/nodes/{NODE}") => Ask::Node,
            _ => return status(403),
        };
        *script.counts.entry(ask).or_default() += 1;
        let said = request.headers.get("authorization");
        let wanted = script.token.as_ref().map(|token| format!("Bearer {token}"));
        if wanted.is_some_and(|wanted| said.is_none_or(|said| said != &*wanted)) {
            return status(401);
        }
        match (script.faults.get(&ask), ask) {
            (Some(fault), _) => *fault,
            (None, Ask::List) => return script.list(&query).to_string().into_response(),
            (None, Ask::Watch) => return script.watch(&query),
            (None, Ask::Node) => {
                return match &script.node {
                    Some(node) => node.to_string().into_response(),
                    None => status(404),
                };
            }
        }
    };
    faulty(fault).await
}

/// What goes wrong, as an answer.
async fn faulty(fault: Fault) -> Response {
    let lines = |lines: Vec<Result<Bytes, std::io::Error>>, open: bool| {
        let (sender, body) = mpsc::unbounded_channel();
        for line in lines {
            let _ = sender.send(line);
        }
        if open {
            std::mem::forget(sender);
        }
        Body::from_stream(UnboundedReceiverStream::new(body)).into_response()
    };
    match fault {
        Fault::Status(code) => status(code),
        Fault::Garbage => "<html>welcome\n</html>\n".into_response(),
        Fault::OtherJson => {
            "{\"kind\":5,\"metadata\":7,\"type\":[],\"object\":8}\n".into_response()
        }
        Fault::Empty => "".into_response(),
        Fault::Hang => std::future::pending().await,
        Fault::HangInBody => lines(vec![Ok("{\"kind\":".into())], true),
        Fault::Cut => lines(
            vec![Ok("{\"kind\":".into()), Err(std::io::Error::other("cut"))],
            false,
        ),
        Fault::Huge(bytes) => {
            let text = "x".repeat(bytes);
            json!({"items": [{"metadata": {"name": text}}], "metadata": {"labels": {"a": text}}})
                .to_string()
                .into_response()
        }
    }
}

/// An error as the API server words it.
fn status(code: u16) -> Response {
    let message = match code {
        401 => "Unauthorized",
        403 => "pods is forbidden: User \"system:serviceaccount:gpu:slicewatch\" cannot do this",
        410 => "too old resource version: 1 (100)",
        _ => "said the fake",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "code": code});
    (StatusCode::from_u16(code).unwrap(), body.to_string()).into_response()
}

/// A running pod of one container, named `main`.
pub(crate) fn pod(namespace: &str, name: &str, uid: &str, container: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"namespace": namespace, "name": name, "uid": uid,
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}]},
        "spec": {"nodeName": NODE, "containers": [
            {"name": "main", "env": [{"name": "PASSWORD", "value": "s3cr3t"}]},
        ]},
        "status": {"phase": "Running", "qosClass": "Burstable", "containerStatuses": [
            {"name": "main", "containerID": format!("containerd://{container}")},
        ]},
    })
}

/// A pod of a Deployment.
pub(crate) fn of_deployment(mut pod: Value, deployment: &str, hash: &str) -> Value {
    pod["metadata"]["labels"] = json!({"pod-template-hash": hash});
    pod["metadata"]["ownerReferences"] = json!([
        {"kind": "ReplicaSet", "name": format!("{deployment}-{hash}"), "controller": true},
    ]);
    pod
}
