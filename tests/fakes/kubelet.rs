//! A kubelet's pod-resources service on a unix socket, as a script says.
//!
//! It runs in a thread and runtime of its own: stopping it closes its connections, as the end of
//! the kubelet's process does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use slicewatch::collect::kubelet::proto::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, PodResources,
};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use generated::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};

#[expect(
    unreachable_pub,
    clippy::allow_attributes,
    reason = "generated as for a library"
)]
mod generated {
    include!("kubelet/generated.rs");
}

/// What a call gets.
#[derive(Debug, Clone)]
pub(crate) enum Answer<T> {
    Give(T),
    Refuse(Code, String),
    /// The call is taken and never answered.
    Hang,
}

impl<T> Answer<T> {
    async fn play(self) -> Result<Response<T>, Status> {
        match self {
            Self::Give(message) => Ok(Response::new(message)),
            Self::Refuse(code, words) => Err(Status::new(code, words)),
            Self::Hang => std::future::pending().await,
        }
    }
}

/// What the kubelet answers from now on.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) list: Answer<ListPodResourcesResponse>,
    pub(crate) allocatable: Answer<AllocatableResourcesResponse>,
}

/// A running kubelet; it stops when dropped.
pub(crate) struct FakeKubelet {
    socket: PathBuf,
    shared: Arc<Shared>,
    servers: Vec<RunningServer>,
}

struct Shared {
    script: Mutex<Script>,
    lists: AtomicU64,
    allocatables: AtomicU64,
}

impl FakeKubelet {
    /// Listens on `socket`, in the place of what is there.
    pub(crate) fn start(socket: &Path, script: Script) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            lists: AtomicU64::new(0),
            allocatables: AtomicU64::new(0),
        });
        let server = RunningServer::start(socket, Arc::clone(&shared));
        Self {
            socket: socket.to_owned(),
            shared,
            servers: vec![server],
        }
    }

    /// Changes the script for calls from now on.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock().unwrap());
    }

    /// Ends as a process does: connections close, the socket's file stays.
    pub(crate) fn stop(&mut self) {
        self.servers.clear();
    }

    /// Listens again, on a new inode.
    pub(crate) fn start_again(&mut self) {
        self.stop();
        let server = RunningServer::start(&self.socket, Arc::clone(&self.shared));
        self.servers.push(server);
    }

    /// A new socket at the path, while the old one's connections still live and hang.
    pub(crate) fn put_another_socket_there(&mut self) {
        let server = RunningServer::start(&self.socket, Arc::clone(&self.shared));
        self.servers.push(server);
    }

    /// `List` calls so far.
    pub(crate) fn lists(&self) -> u64 {
        self.shared.lists.load(Ordering::SeqCst)
    }

    /// `GetAllocatableResources` calls so far.
    pub(crate) fn allocatables(&self) -> u64 {
        self.shared.allocatables.load(Ordering::SeqCst)
    }
}

struct RunningServer {
    /// Dropped to stop it.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningServer {
    fn start(socket: &Path, shared: Arc<Shared>) -> Self {
        let _ = fs::remove_file(socket);
        let socket = socket.to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, bound) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(&socket).unwrap();
                ready.send(()).unwrap();
                let serving = Server::builder()
                    .add_service(PodResourcesListerServer::new(Service(shared)))
                    .serve_with_incoming(UnixListenerStream::new(listener));
                tokio::select! {
                    served = serving => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        bound.recv().unwrap();
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let answer = self.0.script.lock().unwrap().list.clone();
        self.0.lists.fetch_add(1, Ordering::SeqCst);
        answer.play().await
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        let answer = self.0.script.lock().unwrap().allocatable.clone();
        self.0.allocatables.fetch_add(1, Ordering::SeqCst);
        answer.play().await
    }

    async fn get(
        &self,
        _: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        Err(Status::unimplemented("the fake has no Get"))
    }
}

/// Answers every connection on `socket` with `words`, whatever it says, until the test ends.
/// Without words it hangs up.
pub(crate) fn speak(socket: &Path, words: &'static [u8]) {
    let _ = fs::remove_file(socket);
    let listener = StdUnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut heard = [0; 1024];
            let _ = stream.read(&mut heard);
            let _ = stream.write_all(words);
            // Hung up at once, the client might meet a closed pipe before it reads the words.
            if !words.is_empty() {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    });
}

/// One row of a device list.
pub(crate) fn devices<'id>(
    resource: &str,
    ids: impl IntoIterator<Item = &'id str>,
) -> ContainerDevices {
    ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids: ids.into_iter().map(str::to_owned).collect(),
        topology: None,
    }
}

/// A pod of one container.
pub(crate) fn pod(
    namespace: &str,
    name: &str,
    container: &str,
    devices: Vec<ContainerDevices>,
) -> PodResources {
    PodResources {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        containers: vec![ContainerResources {
            name: container.to_owned(),
            devices,
            ..ContainerResources::default()
        }],
    }
}

/// A kubelet that says this, and has this to grant.
pub(crate) fn script(pods: Vec<PodResources>, allocatable: Vec<ContainerDevices>) -> Script {
    Script {
        list: Answer::Give(ListPodResourcesResponse {
            pod_resources: pods,
        }),
        allocatable: Answer::Give(AllocatableResourcesResponse {
            devices: allocatable,
            ..AllocatableResourcesResponse::default()
        }),
    }
}
