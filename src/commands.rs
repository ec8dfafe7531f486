//! One file a subcommand: composition of the floors, and nothing else.

pub mod options;
pub mod pipeline;

/// The program's own version and compiler.
pub fn build_info() -> crate::model::BuildInfo {
    crate::model::BuildInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        rustc: env!("CARGO_PKG_RUST_VERSION").into(),
    }
}
