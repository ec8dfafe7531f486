//! Posture rules: what a person should mend, from what the agent itself can see.
//!
//! Each rule is a pure function of the snapshot, or keeps a few counters of the one before. A rule
//! says of a subject that something is so, that it is nearly so, or that it cannot be told; silence
//! is *not so*. [`Code`] says how long a thing must be so before it is a finding, and how long it
//! must not be so before it is none any more: see [`codes`]. What is not known is never a finding,
//! and ends one after [`BLIND`], or what [`Code`] says.
//!
//! The cost of a snapshot is linear in its rows.

use crate::model::{Finding, Snapshot};

mod code;
mod held;
mod memory;
mod neighbours;
mod node;
mod shares;
mod sources;
mod tenants;
mod words;

pub use code::{BLIND, Code, codes};
pub use held::MOST_OF_A_CODE;

/// The code of a GPU on which processes ended for want of memory.
pub const ENDED_UNDER_PRESSURE: &str = code::REPLICAS_TREATED_AS_ISOLATED.name;

use held::Holding;
use memory::Isolation;
use neighbours::Neighbours;

/// What is found, and what is remembered for it.
#[derive(Debug, Default)]
pub struct Findings {
    isolation: Isolation,
    neighbours: Neighbours,
    holding: Holding,
}

impl Findings {
    /// What holds at the snapshot's instant, sorted; at most [`MOST_OF_A_CODE`] of a code. What the
    /// snapshot itself says of findings is not read. Snapshots must come in order.
    pub fn judge(&mut self, snapshot: &Snapshot) -> Vec<Finding> {
        let mut seen = Vec::new();
        sources::look(snapshot, &mut seen);
        node::look(snapshot, &mut seen);
        shares::look(snapshot, &mut seen);
        tenants::look(snapshot, &mut seen);
        memory::look(snapshot, &mut seen);
        self.isolation.look(snapshot, &mut seen);
        self.neighbours.look(snapshot, &mut seen);
        self.holding.weigh(seen, snapshot)
    }
}

#[cfg(test)]
mod tests;
