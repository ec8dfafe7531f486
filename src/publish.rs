//! What leaves the agent: metrics, HTTP and tables, each made from one
//! [`Snapshot`](crate::model::Snapshot) and nothing else.

pub mod http;
pub mod metrics;
pub mod terminal;
