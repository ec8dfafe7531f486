//! One integration binary: the agent's parts against fakes of what they talk to.

mod agent;
mod canary;
mod check;
mod cli;
mod cluster;
mod contention;
mod dashboards;
mod estimator;
mod findings;
mod host;
mod house;
mod kubelet;
mod nvml;
mod page;
mod publish;
mod setup;
mod simulate;
mod top;
mod truth;
mod web;
