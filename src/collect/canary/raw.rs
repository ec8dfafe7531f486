//! The unsafe half of the canary: CUDA's calls and the memory that two processes and a GPU share.

pub(super) mod cuda;
pub(super) mod page;
