//! Pure functions and state machines: no I/O, no clock, no randomness.

pub mod attribution;
pub mod contention;
pub mod events;
pub mod findings;
pub mod grants;
pub mod lease;
pub mod ledger;
pub mod names;
pub mod node;
pub mod plugin_config;
pub mod setup;
pub mod workload;
