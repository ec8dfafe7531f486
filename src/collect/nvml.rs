//! NVML: the driver, its GPUs, one sampler thread each.
