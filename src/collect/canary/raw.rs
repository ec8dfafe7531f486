//! The unsafe half of the canary: CUDA's calls, the memory that two processes and a GPU share, and
//! a count of the system's.

pub(super) mod cuda;
pub(super) mod page;
pub(super) mod switches;
