//! When the kubelet should be asked before its time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Reading, Snapshot};

/// So many steps in a row the kubelet is asked of a granted container that has just lost its last
/// process: its pod may be ending, and the kubelet gives back the grant a little later.
const ENDING_LOOKS: u32 = 10;

/// What was seen of the containers in the step before.
#[derive(Debug, Default)]
pub(super) struct Curiosity {
    seen: HashMap<Container, Seen>,
}

type Container = (Arc<str>, Arc<str>, Arc<str>);

/// One container, on all its devices.
#[derive(Debug, Default)]
struct Seen {
    processes: u32,
    granted: bool,
    looks: u32,
}

impl Curiosity {
    /// True where the snapshot has a container that came without a grant since the last one, or that
    /// has a grant and lost its last process a few steps ago. Remembers no container that is gone.
    pub(super) fn is_roused(&mut self, snapshot: &Snapshot) -> bool {
        let mut now: HashMap<Container, Seen> = HashMap::new();
        for container in snapshot.gpus.iter().flat_map(|gpu| &gpu.containers) {
            if !container.present {
                continue;
            }
            let key = (
                Arc::clone(&container.namespace),
                Arc::clone(&container.pod),
                Arc::clone(&container.container),
            );
            let seen = now.entry(key).or_default();
            seen.processes += container.processes;
            seen.granted |= matches!(container.replicas, Reading::Value(1..));
        }
        let mut roused = false;
        for (key, seen) in &mut now {
            let before = self.seen.get(key);
            if seen.processes > 0 {
                seen.looks = ENDING_LOOKS;
                roused |= !seen.granted
                    && before.is_none_or(|before| before.granted || before.processes == 0);
            } else if seen.granted {
                let left = before.map_or(0, |before| before.looks);
                seen.looks = left.saturating_sub(1);
                roused |= left > 0;
            }
        }
        self.seen = now;
        roused
    }
}

#[cfg(test)]
mod tests;
