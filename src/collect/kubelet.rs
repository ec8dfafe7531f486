//! The kubelet pod-resources API.

pub mod proto;
