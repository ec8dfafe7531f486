//! What leaves the program: metrics, HTTP, the page and tables, each made from one
//! [`Snapshot`](crate::model::Snapshot) and nothing else, but for the page, which has the last 15
//! minutes of them too; and what `check` found.

pub mod charts;
pub mod check;
mod escape;
pub mod history;
pub mod http;
pub mod metrics;
pub mod terminal;
pub mod web;
