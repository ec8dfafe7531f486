//! Every metric of the agent, declared once: the encoders, METRICS.md, the dashboards and the
//! rules stand on this table.

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while its subject lives.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Counts of what fell into each bucket, with their sum and number: all only grow.
    Histogram,
}

impl Kind {
    /// The word in TYPE lines.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The unit of a value; it stands in the name too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A plain count, or an identity that is always 1.
    Count,
    Bytes,
    Seconds,
}

impl Unit {
    /// The suffix in a name, without its underscore; empty for counts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

/// What a series is about: it gives the labels every such series has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This node's agent.
    Node,
    /// One device: a card, or a MIG instance.
    Gpu,
    /// One container on one device.
    Container,
}

impl Scope {
    /// Labels of every series of this scope, in order.
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Node => &[],
            Self::Gpu => &["gpu_uuid"],
            Self::Container => &["gpu_uuid", "namespace", "pod", "container"],
        }
    }
}

/// What a user may build on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// Name, labels and meaning change only with a new major version.
    Stable,
    /// The estimate behind it, or its labels, may still change with a minor version.
    Evolving,
}

impl Stability {
    /// The word in METRICS.md.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Evolving => "evolving",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As Prometheus stores it, prefix, unit and `_total` included.
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub scope: Scope,
    /// Labels beyond those of the scope.
    pub extra: &'static [&'static str],
    pub stability: Stability,
    /// One sentence, with what a reader must know of how it is sampled.
    pub help: &'static str,
    /// When there is no series, though its subject is there. Empty: never.
    pub absent: &'static str,
}

impl Metric {
    /// All label names, in the order of series.
    pub fn labels(&self) -> impl Iterator<Item = &'static str> {
        self.scope
            .labels()
            .iter()
            .copied()
            .chain(self.extra.iter().copied())
    }

    /// The name without `_total`: the family's name in OpenMetrics.
    pub fn family_name(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }
}

macro_rules! metrics {
    ($($id:ident = $name:literal, $kind:ident, $unit:ident, $scope:ident $([$($extra:literal),+])?, $stability:ident, $help:literal, $absent:literal;)+) => {
        $(pub(super) static $id: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            scope: Scope::$scope,
            extra: &[$($($extra),+)?],
            stability: Stability::$stability,
            help: $help,
            absent: $absent,
        };)+

        /// Every metric, in the order of the scrape.
        pub static TABLE: &[&Metric] = &[$(&$id),+];
    };
}

metrics! {
    GPU_INFO = "slicewatch_gpu_info", Gauge, Count, Gpu ["parent_gpu_uuid", "gpu", "model", "pci_bus_id", "driver_version", "sharing", "mig"], Stable,
        "Identity of a device, always 1: join it by gpu_uuid. parent_gpu_uuid is empty unless this is a MIG instance; mig is enabled, disabled, the profile of an instance, or empty where the card has no MIG.",
        "";
    GPU_UP = "slicewatch_gpu_up", Gauge, Count, Gpu, Stable,
        "1 while the driver answers for the device, 0 for one that was seen and is lost or silent.",
        "the device was not asked yet";
    GPU_TOTAL = "slicewatch_gpu_framebuffer_total_bytes", Gauge, Bytes, Gpu, Stable,
        "Framebuffer of the device, by its own word.",
        "memory could not be read";
    GPU_RESERVED = "slicewatch_gpu_framebuffer_reserved_bytes", Gauge, Bytes, Gpu, Stable,
        "Framebuffer that driver and firmware keep for themselves; not part of used.",
        "memory could not be read, or the driver counts it as used";
    GPU_USED = "slicewatch_gpu_framebuffer_used_bytes", Gauge, Bytes, Gpu, Stable,
        "Framebuffer in use, by the device's own word: containers, named remainders and the unexplained rest add up to it.",
        "memory could not be read";
    GPU_FREE = "slicewatch_gpu_framebuffer_free_bytes", Gauge, Bytes, Gpu, Stable,
        "Framebuffer that can still be allocated.",
        "memory could not be read";
    GPU_USED_PEAK = "slicewatch_gpu_framebuffer_used_peak_bytes", Gauge, Bytes, Gpu, Stable,
        "Highest framebuffer in use over the trailing 60 s, of readings made ten times a second.",
        "no memory was read in that time";
    GPU_PRESSURE = "slicewatch_gpu_framebuffer_pressure_seconds_total", Counter, Seconds, Gpu, Stable,
        "Time with free framebuffer under the floor, 5 % of the total unless set otherwise.",
        "";
    GPU_UNATTRIBUTED = "slicewatch_gpu_framebuffer_unattributed_bytes", Gauge, Bytes, Gpu ["reason"], Stable,
        "Framebuffer of processes that belong to no known container, by reason.",
        "the process list could not be read";
    GPU_UNEXPLAINED = "slicewatch_gpu_framebuffer_unexplained_bytes", Gauge, Bytes, Gpu, Stable,
        "Used framebuffer minus that of every process, with its sign: it belongs to nobody and is never spread.",
        "no process list young enough was read while memory stood still";
    GPU_TORN = "slicewatch_gpu_framebuffer_torn_windows_total", Counter, Count, Gpu, Evolving,
        "Process lists that memory moved under while they were read; such a list is read again or left out of the balance.",
        "";
    GPU_REPLICAS = "slicewatch_gpu_replicas", Gauge, Count, Gpu, Stable,
        "Replicas of the device that the device plugin advertises.",
        "the kubelet was not heard";
    GPU_REPLICAS_ALLOCATED = "slicewatch_gpu_replicas_allocated", Gauge, Count, Gpu, Stable,
        "Replicas of the device that the kubelet granted to containers.",
        "the kubelet was not heard";
    GPU_TENANTS = "slicewatch_gpu_tenants", Gauge, Count, Gpu, Stable,
        "Pods with a process on the device.",
        "the process list could not be read";
    GPU_ACTIVE_TENANTS = "slicewatch_gpu_active_tenants", Gauge, Count, Gpu, Evolving,
        "Pods that received GPU time in the last read of the utilization ring, 2 to 5 s long.",
        "the ring cannot be read, as under MIG";
    GPU_DISAGREEMENTS = "slicewatch_gpu_disagreements", Gauge, Count, Gpu, Evolving,
        "Containers whose grant and residence differ: granted this device and resident only elsewhere, or resident here without a grant.",
        "the kubelet was not heard or the process list could not be read";
    GPU_BUSY = "slicewatch_gpu_busy_seconds_total", Counter, Seconds, Gpu, Stable,
        "GPU time in use, integrated from the driver's ring of five samples a second.",
        "the ring cannot be read, as under MIG";
    GPU_CONTENDED = "slicewatch_gpu_contended_seconds_total", Counter, Seconds, Gpu, Evolving,
        "Time with two or more pods active, told by reads of the utilization ring: an estimate.",
        "the ring cannot be read, as under MIG";
    GPU_CANARY_DELAY = "slicewatch_gpu_canary_delay_seconds", Histogram, Seconds, Gpu, Evolving,
        "How long a kernel of one thread waited from its launch to its start, by the GPU's clock: above the baseline, what sharing adds to a short request. A probe that was given up counts with what it had waited.",
        "its canary never probed";
    GPU_CANARY_BASELINE = "slicewatch_gpu_canary_baseline_seconds", Gauge, Seconds, Gpu ["statistic"], Evolving,
        "The same delay with nobody else active, as mean, p50, p90 and p99.",
        "the device was not seen with nobody active";
    GPU_CANARY_STALL = "slicewatch_gpu_canary_stall_seconds", Gauge, Seconds, Gpu, Evolving,
        "Age of the oldest probe that has not started; 0 without one.",
        "the canary does not probe";
    GPU_CANARY_STATE = "slicewatch_gpu_canary_state", Gauge, Count, Gpu ["state", "reason"], Evolving,
        "1 for what the canary is doing, and why: running, yielded (it gave its memory back), stalled or off. Other states have no series.",
        "";
    GPU_CANARY_MISSED = "slicewatch_gpu_canary_missed_probes_total", Counter, Count, Gpu, Evolving,
        "Probes that could not be launched at their time, because the one before was still being launched or too many had not come back, or whose start no clock can tell.",
        "its canary never probed and missed none";
    GPU_CANARY_CLOCK_ERROR = "slicewatch_gpu_canary_clock_error_seconds", Gauge, Seconds, Gpu, Evolving,
        "How much too long delays may be told, because the GPU's clock is tied to the host's no closer: the width of the bounds. Mostly they are exact.",
        "the clocks are not tied yet, or the canary does not probe";
    GPU_UNATTRIBUTED_DELAY = "slicewatch_gpu_unattributed_delay_seconds_total", Counter, Seconds, Gpu ["reason"], Evolving,
        "Delay of probes that no container is charged for, by reason: with what the containers inflicted, those gone by now too, it adds up to the histogram's sum.",
        "its canary never probed";
    GPU_XIDS = "slicewatch_gpu_xid_errors_total", Counter, Count, Gpu ["xid"], Stable,
        "XID errors that the driver reported for the card, by number: its tenants share one fault domain. Well-known numbers start at 0.",
        "";
    MIG_MEMORY = "slicewatch_gpu_mig_profile_memory_bytes", Gauge, Bytes, Gpu ["profile"], Evolving,
        "Memory that an instance of this MIG profile really offers, by the driver's word; the card need not be in MIG mode.",
        "the card has no MIG, or its driver tells profiles only in MIG mode";
    MIG_MULTIPROCESSORS = "slicewatch_gpu_mig_profile_multiprocessors", Gauge, Count, Gpu ["profile"], Evolving,
        "Multiprocessors of an instance of this MIG profile.",
        "as for the profile's memory";
    MIG_SLICES = "slicewatch_gpu_mig_profile_slices", Gauge, Count, Gpu ["profile"], Evolving,
        "Compute slices of an instance of this MIG profile.",
        "as for the profile's memory";
    MIG_INSTANCES = "slicewatch_gpu_mig_profile_instances", Gauge, Count, Gpu ["profile"], Evolving,
        "Instances of this MIG profile that an empty card holds.",
        "as for the profile's memory";
    POD_INFO = "slicewatch_pod_info", Gauge, Count, Container ["pod_uid", "qos", "workload", "workload_kind"], Evolving,
        "Identity and owner of a container on a device, always 1. pod_uid is empty where only the kubelet's grant is known. Where the API server was not heard, qos and workload_kind are empty and workload is guessed from the pod's name. All runs of a CronJob are one workload, of kind Job.",
        "the container is gone";
    POD_MEMORY = "slicewatch_pod_framebuffer_bytes", Gauge, Bytes, Container, Stable,
        "Framebuffer that the container's processes hold; 0 where the device was granted and is known to hold none.",
        "unknown, or the container is gone";
    POD_PEAK = "slicewatch_pod_framebuffer_peak_bytes", Gauge, Bytes, Container, Stable,
        "Highest framebuffer of the container in one process list over the trailing 60 s; it stays 75 s after the container is gone.",
        "no list was read in that time";
    POD_FAIR_SHARE = "slicewatch_pod_framebuffer_fair_share_bytes", Gauge, Bytes, Container, Stable,
        "What the container's grant comes to: (total - reserved) / replicas x replicas granted.",
        "nothing is granted, the kubelet was not heard, or the container is gone";
    POD_REPLICAS = "slicewatch_pod_replicas", Gauge, Count, Container, Stable,
        "Replicas of the device granted to the container; 0: it is resident without a grant.",
        "the kubelet was not heard, or the container is gone";
    POD_PROCESSES = "slicewatch_pod_processes", Gauge, Count, Container, Stable,
        "The container's processes with a context on the device: the GPU shares time among processes, not pods.",
        "the process list could not be read, or the container is gone";
    POD_GPU_SECONDS = "slicewatch_pod_gpu_seconds_total", Counter, Seconds, Container, Stable,
        "GPU time that the container received, integrated from the driver's ring of five samples a second, each won by the process that ran last: where several pods leave the card idle in between, one that runs often reads high and one that runs long reads low.",
        "a share of time cannot be measured, as under MIG and MPS";
    POD_GPU_SAMPLES = "slicewatch_pod_gpu_samples_total", Counter, Count, Container, Stable,
        "Ring samples that the container won: a share p over n samples has a standard error of sqrt(p(1-p)/n).",
        "as for its GPU seconds";
    POD_ACTIVE = "slicewatch_pod_active_seconds_total", Counter, Seconds, Container, Evolving,
        "Time in which the container was active on the device, told by reads of the utilization ring: an estimate.",
        "as for its GPU seconds";
    POD_CONTENDED = "slicewatch_pod_contended_seconds_total", Counter, Seconds, Container, Evolving,
        "Of its active time, that in which other pods or processes of the host were active too: an estimate.",
        "as for its GPU seconds";
    POD_INFLICTED = "slicewatch_pod_inflicted_delay_seconds_total", Counter, Seconds, Container, Evolving,
        "Delay of the canary's probes that is put down to the container, by its share of the GPU's time and how long its turns last. Its rate over the rate of the delay histogram's count is what a short request waits because of it.",
        "the device's canary never probed";
    POD_EXPOSED = "slicewatch_pod_exposed_delay_seconds_total", Counter, Seconds, Container, Evolving,
        "Delay that the others inflicted on probes made while the container was active. Over its exposed probes: what a short request of it waits because of them.",
        "the device's canary never probed";
    POD_EXPOSED_PROBES = "slicewatch_pod_exposed_probes_total", Counter, Count, Container, Evolving,
        "Probes made while the container was active: an estimate, so no whole number.",
        "the device's canary never probed";
    POD_EXITS = "slicewatch_pod_exits_under_pressure_total", Counter, Count, Container, Evolving,
        "Processes of the container that ended while free framebuffer was under the floor.",
        "";
    WORKLOAD_GPU_SECONDS = "slicewatch_workload_gpu_seconds_total", Counter, Seconds, Gpu ["namespace", "workload", "workload_kind"], Evolving,
        "GPU time of a workload's pods together; it outlives them, so that short Jobs are not lost. Time received before the API server was heard stays with the workload guessed from the pod's name, whose kind is empty.",
        "";
    FINDING = "slicewatch_finding", Gauge, Count, Node ["code", "severity", "subject"], Evolving,
        "1 while something should be mended; the landing page and the snapshot have evidence and mend. At most 20 subjects a code: too_many_findings has the codes of which more are left out.",
        "nothing is found";
    SOURCE_UP = "slicewatch_source_up", Gauge, Count, Node ["source"], Stable,
        "1 while a part of the world that the agent reads answers, else 0.",
        "it was not tried yet, or this set-up has none";
    SOURCE_ERRORS = "slicewatch_source_errors_total", Counter, Count, Node ["source", "reason"], Stable,
        "Failed reads of a source by reason; row_... are rows of the utilization ring that were not believed.",
        "no error of that reason was seen";
    SOURCE_DURATION = "slicewatch_source_duration_seconds", Gauge, Seconds, Node ["source"], Stable,
        "How long the last round of reads of a source took.",
        "there was none";
    SOURCE_LAST_SUCCESS = "slicewatch_source_last_success_timestamp_seconds", Gauge, Seconds, Node ["source"], Stable,
        "When a round of reads of a source last went well, since 1970.",
        "none ever did";
    PROCESSES = "slicewatch_processes", Gauge, Count, Node ["state", "reason"], Stable,
        "Processes on the node's GPUs: attributed to a container, or unattributed and why.",
        "";
    BUILD_INFO = "slicewatch_build_info", Gauge, Count, Node ["version", "rustc"], Stable,
        "The agent's build, always 1.",
        "";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, Seconds, Node, Stable,
        "CPU time of the agent itself, user and system.",
        "/proc/self cannot be read";
    PROCESS_RESIDENT = "process_resident_memory_bytes", Gauge, Bytes, Node, Stable,
        "Resident memory of the agent itself.",
        "/proc/self cannot be read";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", Gauge, Bytes, Node, Stable,
        "Virtual memory of the agent itself.",
        "/proc/self cannot be read";
    PROCESS_START = "process_start_time_seconds", Gauge, Seconds, Node, Stable,
        "When the agent started, since 1970.",
        "/proc cannot be read";
    PROCESS_OPEN_FDS = "process_open_fds", Gauge, Count, Node, Stable,
        "File descriptors that the agent has open.",
        "/proc/self cannot be read";
    PROCESS_MAX_FDS = "process_max_fds", Gauge, Count, Node, Stable,
        "File descriptors that the agent may have open.",
        "/proc/self cannot be read, or there is no limit";
    PROCESS_THREADS = "process_threads", Gauge, Count, Node, Stable,
        "Threads of the agent itself.",
        "/proc/self cannot be read";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Labels that scrape configurations set: a series that has one of its own clashes.
    const TARGET_LABELS: [&str; 9] = [
        "job", "instance", "cluster", "region", "zone", "env", "service", "type", "owner",
    ];

    #[test]
    fn every_name_follows_the_naming_rules_of_prometheus() {
        let mut names = BTreeSet::new();
        for metric in TABLE {
            let name = metric.name;
            assert!(names.insert(name), "{name} twice");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            assert!(
                name.starts_with("slicewatch_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}"
            );
            assert!(
                metric.family_name().ends_with(metric.unit.label()),
                "{name} lacks its unit"
            );
            assert!(
                metric.help.ends_with('.') && !metric.help.contains('\n'),
                "{name}"
            );
            let labels: Vec<_> = metric.labels().collect();
            assert_eq!(
                labels.iter().collect::<BTreeSet<_>>().len(),
                labels.len(),
                "{name}"
            );
            for label in labels {
                assert!(
                    label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "{label}"
                );
                assert!(!TARGET_LABELS.contains(&label), "{name}: {label}");
            }
        }
    }
}
