//! The pod-resources client against a kubelet on a unix socket.

#[path = "../fakes/kubelet.rs"]
mod fake;
mod generated;
