#![doc = include_str!("ARCHITECTURE.md")]

pub mod analyse;
pub mod collect;
pub mod commands;
pub mod model;
pub mod publish;
pub mod simulate;
