//! What the API server says of the node, where nothing nearer tells.

use std::sync::Arc;

use crate::model::{NodeFacts, Reading, Sharing, Snapshot};

/// Set by NVIDIA's GPU feature discovery from the device plugin's configuration.
const STRATEGY: &str = "nvidia.com/gpu.sharing-strategy";

/// Puts the node's facts into the snapshot, and the sharing that its labels tell of where neither
/// the processes nor the kubelet tell.
pub fn complete(snapshot: &mut Snapshot, facts: Reading<Arc<NodeFacts>>) {
    let sharing = facts.value().map_or(Sharing::Unknown, |facts| {
        match facts.labels.get(STRATEGY).map(AsRef::as_ref) {
            Some("none") => Sharing::None,
            Some("time-slicing") => Sharing::TimeSlicing,
            Some("mps") => Sharing::Mps,
            _ => Sharing::Unknown,
        }
    });
    for gpu in &mut snapshot.gpus {
        if gpu.sharing == Sharing::Unknown {
            gpu.sharing = sharing;
        }
    }
    snapshot.node_facts = facts;
}
