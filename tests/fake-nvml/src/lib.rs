//! A scripted `libnvidia-ml.so.1`.
//!
//! As a cdylib it exports the C symbols of NVML that slicewatch calls, answers them from a
//! [`script::Script`], and obeys what was measured on a real card. As an rlib it gives tests that
//! script's types and [`control::Fake`], which copies the library, loads the copy and scripts it.

pub mod control;
mod exports;
mod lists;
mod mig;
pub mod script;
mod state;
