//! What leaves the program: metrics, HTTP and tables, each made from one
//! [`Snapshot`](crate::model::Snapshot) and nothing else; and what `check` found.

pub mod check;
pub mod http;
pub mod metrics;
pub mod terminal;
