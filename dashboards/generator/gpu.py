"""GPU: who shares one device, and what it costs them."""

from .grafana import (
    bars,
    column,
    dashboard,
    fixed,
    heatmap,
    line,
    link,
    now,
    of_query,
    query,
    row_of,
    series,
    stat,
    table,
    timeline,
    variable,
    words,
)
from .queries import CONTAINER, POD_NAME, STATES, STATES_HELP, by_pod, comings_and_goings, states

HERE = ', gpu_uuid="$gpu_uuid"'
GPU = f"{{@{HERE}}}"
RATE = "[$__rate_interval]"
PROBES = f"sum(max by (gpu_uuid) (rate(slicewatch_gpu_canary_delay_seconds_count{GPU}{RATE}))) > 0"
UNKNOWN = "unknown"


def one(metric):
    return f"max by (gpu_uuid) ({metric}{GPU})"


def rate(metric):
    return f"max by (gpu_uuid) (rate({metric}{GPU}{RATE}))"


def stats():
    return [
        stat(
            "Answers",
            "Whether the driver answers for this GPU. Unknown: its agent is not scraped.",
            [now(f"min by (gpu_uuid) (slicewatch_gpu_up{GPU})")],
            "none",
            width=3,
            mappings=words((0, "no", "red"), (1, "yes", "green")),
            empty=UNKNOWN,
        ),
        stat(
            "Tenants",
            "Pods with a process here, and how many replicas are granted of those that are advertised.",
            [
                now(one("slicewatch_gpu_tenants"), "pods"),
                now(one("slicewatch_gpu_replicas_allocated"), "granted"),
                now(one("slicewatch_gpu_replicas"), "replicas"),
            ],
            "none",
            width=6,
            empty=UNKNOWN,
        ),
        stat(
            "Busy",
            "Share of the GPU's time in use. Unknown under MIG, where no time is told.",
            [now(rate("slicewatch_gpu_busy_seconds_total"))],
            "percentunit",
            width=3,
            decimals=0,
            empty=UNKNOWN,
        ),
        stat(
            "Contended",
            "Share of time in which two or more pods were active. Unknown under MIG and MPS.",
            [now(rate("slicewatch_gpu_contended_seconds_total"))],
            "percentunit",
            ((None, "green"), (0.1, "yellow"), (0.5, "orange")),
            width=3,
            decimals=0,
            empty=UNKNOWN,
        ),
        stat(
            "Memory",
            "Framebuffer in use, of the total.",
            [now(f"{one('slicewatch_gpu_framebuffer_used_bytes')} / {one('slicewatch_gpu_framebuffer_total_bytes')}")],
            "percentunit",
            ((None, "green"), (0.8, "yellow"), (0.9, "orange"), (0.95, "red")),
            width=3,
            decimals=0,
            empty=UNKNOWN,
        ),
        stat(
            "Delay of a short request",
            "Mean wait of the canary's kernel from launch to start. Unknown while no canary probes.",
            [
                now(
                    f"{rate('slicewatch_gpu_canary_delay_seconds_sum')} / ({rate('slicewatch_gpu_canary_delay_seconds_count')} > 0)"
                )
            ],
            "s",
            width=3,
            empty=UNKNOWN,
        ),
        stat(
            "Canary",
            "What the latency canary does here and why; without it nothing below is known of delay.",
            [now(f"max by (state, reason) (slicewatch_gpu_canary_state{GPU})", "{{state}}: {{reason}}")],
            "none",
            width=3,
            text="name",
            empty=UNKNOWN,
        ),
    ]


def sharing():
    return [
        timeline(
            "Who shares this GPU",
            f"One row a pod. {STATES_HELP} Nothing at all: nobody had this GPU, or its agent was not scraped.",
            [query(states(HERE), POD_NAME)],
            STATES,
        ),
        series(
            "Tenants",
            """Replicas advertised and granted, pods with a process here, and pods that had GPU time. Granted over pods: idle holders.
            A line is missing while its source (kubelet, process list, utilization ring) does not answer.""",
            [
                query(one("slicewatch_gpu_replicas"), "replicas advertised"),
                query(one("slicewatch_gpu_replicas_allocated"), "replicas granted"),
                query(one("slicewatch_gpu_tenants"), "pods with a process"),
                query(one("slicewatch_gpu_active_tenants"), "pods with GPU time"),
                query(one("slicewatch_gpu_disagreements"), "containers whose grant and residence differ"),
            ],
            "none",
            width=8,
            min=0,
            decimals=0,
            overrides=[of_query("A", ("custom.lineStyle", {"fill": "dash", "dash": [10, 6]}))],
        ),
        containers(),
    ]


def containers():
    def sole(query_text):
        return row_of(
            f'max by (container_key) (label_join({query_text}, "container_key", "/", "namespace", "pod", "container"))'
        )

    per_probe = f"max by ({CONTAINER}) (rate(slicewatch_pod_inflicted_delay_seconds_total{GPU}{RATE})) / on () group_left () ({PROBES})"
    # Counters of containers that are gone stay a while.
    here = f"and on ({CONTAINER}) slicewatch_pod_info{GPU}"
    columns = {
        "namespace": "Namespace",
        "pod": "Pod",
        "container": "Container",
        "workload": "Workload",
        "Value #B": "Replicas",
        "Value #C": "Processes",
        "Value #D": "Memory",
        "Value #E": "Fair share",
        "Value #F": "GPU time",
        "Value #G": "Inflicts",
    }
    identity = f'max by (container_key, namespace, pod, container, workload) (label_join(slicewatch_pod_info{GPU}, "container_key", "/", "namespace", "pod", "container"))'
    return table(
        "Containers",
        """Who is on this GPU now. Click a pod for its dashboard. The GPU shares its time among processes, not pods. Inflicts: seconds that
        a short request waits because of it. An empty cell is unknown, never 0.""",
        [
            row_of(identity),
            sole(f"slicewatch_pod_replicas{GPU}"),
            sole(f"slicewatch_pod_processes{GPU}"),
            sole(f"slicewatch_pod_framebuffer_bytes{GPU}"),
            sole(f"slicewatch_pod_framebuffer_fair_share_bytes{GPU}"),
            sole(f"rate(slicewatch_pod_gpu_seconds_total{GPU}{RATE}) {here}"),
            sole(f"({per_probe}) {here}"),
        ],
        columns,
        width=16,
        join="container_key",
        sort="Inflicts",
        overrides=[
            column("Memory", "bytes"),
            column("Fair share", "bytes"),
            column("GPU time", "percentunit", ("decimals", 1)),
            column("Inflicts", "s"),
            column(
                "Pod",
                None,
                (
                    "links",
                    [
                        link(
                            "This pod",
                            "slicewatch-pod",
                            namespace="${__data.fields.Namespace}",
                            pod="${__data.fields.Pod}",
                        )
                    ],
                ),
            ),
        ],
    )


def memory():
    return [
        series(
            "Framebuffer by pod",
            """Stacked: what each pod holds, then what belongs to no pod by reason, then what no process explains (it can be negative for
            a moment). White: in use by the device's own word; the stack ends there, or something is unknown. Red: the total. Orange:
            the total less the driver's reserve. A pod that is missing while it has a process is unknown.""",
            [
                query(by_pod(f"slicewatch_pod_framebuffer_bytes{GPU}"), POD_NAME),
                query(f"max by (reason) (slicewatch_gpu_framebuffer_unattributed_bytes{GPU})", "no pod: {{reason}}"),
                query(one("slicewatch_gpu_framebuffer_unexplained_bytes"), "unexplained"),
                query(one("slicewatch_gpu_framebuffer_used_bytes"), "in use, by the device"),
                query(one("slicewatch_gpu_framebuffer_total_bytes"), "total"),
                query(
                    f"{one('slicewatch_gpu_framebuffer_total_bytes')} - {one('slicewatch_gpu_framebuffer_reserved_bytes')}",
                    "total less reserve",
                ),
            ],
            "bytes",
            width=16,
            height=11,
            stack=True,
            overrides=[
                of_query("B", fixed("#8e8e8e")),
                of_query("C", fixed("purple")),
                line("D", "text", dash=False, width=2),
                line("E", "red"),
                line("F", "orange"),
            ],
        ),
        series(
            "Peaks and pressure",
            """Highest use within 60 s, read ten times a second: what a scrape between two peaks does not see. Free: what any tenant can
            still allocate.""",
            [
                query(one("slicewatch_gpu_framebuffer_used_peak_bytes"), "peak of 60 s"),
                query(one("slicewatch_gpu_framebuffer_used_bytes"), "in use"),
                query(one("slicewatch_gpu_framebuffer_free_bytes"), "free"),
                query(one("slicewatch_gpu_framebuffer_total_bytes"), "total"),
            ],
            "bytes",
            width=8,
            height=11,
            min=0,
            overrides=[line("D", "red")],
        ),
    ]


def time():
    return [
        series(
            "GPU time by pod",
            """Stacked: the share of the GPU's time that each pod received. White: time in use. What is between is of processes that
            belong to no pod. Empty under MIG and MPS, where a share of time cannot be measured.""",
            [
                query(by_pod(f"rate(slicewatch_pod_gpu_seconds_total{GPU}{RATE})"), POD_NAME),
                query(rate("slicewatch_gpu_busy_seconds_total"), "in use"),
            ],
            "percentunit",
            width=16,
            stack=True,
            min=0,
            max=1,
            overrides=[line("B", "text", dash=False, width=2)],
        ),
        series(
            "Busy and contended",
            "Share of time in use, and with two or more pods active: an estimate from reads of the utilization ring. Empty under MIG.",
            [
                query(rate("slicewatch_gpu_busy_seconds_total"), "in use"),
                query(rate("slicewatch_gpu_contended_seconds_total"), "two or more pods active"),
            ],
            "percentunit",
            width=8,
            min=0,
            max=1,
        ),
    ]


def delay():
    buckets = f"sum by (le) (max by (gpu_uuid, le) (rate(slicewatch_gpu_canary_delay_seconds_bucket{GPU}{RATE})))"
    baseline = f"max by (statistic) (slicewatch_gpu_canary_baseline_seconds{GPU})"
    return [
        heatmap(
            "Delay of short requests",
            """How many of the canary's probes waited how long from launch to start, by the GPU's clock. A dark band low down: the GPU is
            free when asked. A second band is the length of a neighbour's turns. Empty: no canary probes; its state is below.""",
            [
                query(
                    f"sum by (le) (max by (gpu_uuid, le) (increase(slicewatch_gpu_canary_delay_seconds_bucket{GPU}{RATE})))",
                    "{{le}}",
                    format="heatmap",
                )
            ],
            "s",
        ),
        series(
            "Quantiles against the idle GPU",
            """Waits of short requests; dashed, the same with nobody else active. Quantiles are read off buckets that double, so they are
            coarse; the mean is exact. No dashed line: the GPU was never seen idle. Nothing: no canary probes.""",
            [
                query(f"histogram_quantile(0.5, {buckets})", "p50"),
                query(f"histogram_quantile(0.9, {buckets})", "p90"),
                query(f"histogram_quantile(0.99, {buckets})", "p99"),
                query(
                    f"{rate('slicewatch_gpu_canary_delay_seconds_sum')} / ({rate('slicewatch_gpu_canary_delay_seconds_count')} > 0)",
                    "mean",
                ),
                query(baseline, "idle {{statistic}}"),
            ],
            "s",
            log=True,
            overrides=[of_query("E", ("custom.lineStyle", {"fill": "dash", "dash": [10, 6]}))],
        ),
        series(
            "Who makes short requests wait",
            """Stacked: seconds of a probe's wait that are put down to each pod, by its share of the GPU's time and the length of its turns,
            and what nobody is charged for, by reason. The stack is the mean delay. Empty: no canary probes.""",
            [
                query(
                    f"{by_pod(f'rate(slicewatch_pod_inflicted_delay_seconds_total{GPU}{RATE})')} / on () group_left () ({PROBES})",
                    POD_NAME,
                ),
                query(
                    f"max by (reason) (rate(slicewatch_gpu_unattributed_delay_seconds_total{GPU}{RATE})) / on () group_left () ({PROBES})",
                    "nobody: {{reason}}",
                ),
            ],
            "s",
            stack=True,
            overrides=[of_query("B", fixed("#8e8e8e"))],
        ),
        timeline(
            "What the canary does",
            """Running, yielded (it gave its memory back), stalled or off, and why. A gap: the agent was not scraped. Off under MIG and MPS
            unless asked for.""",
            [query(f"max by (state, reason) (slicewatch_gpu_canary_state{GPU})", "{{state}}: {{reason}}")],
            words((1, "", "#5794f2")),
            width=12,
            height=9,
        ),
    ]


def faults():
    exits = by_pod(f"increase(slicewatch_pod_exits_under_pressure_total{GPU}{RATE})")
    return [
        bars(
            "XID errors since the agent started",
            """Errors by number that the driver reported for the card; its tenants share one fault domain, so one pod's fault can end all.
            Only numbers that occurred have a bar; `none` is a known 0. Empty: no agent was scraped. On a MIG instance, see its card.""",
            [
                now(f"sort_desc(max by (xid) (slicewatch_gpu_xid_errors_total{GPU}) > 0)", "XID {{xid}}"),
                now(f"sum(max by (xid) (slicewatch_gpu_xid_errors_total{GPU})) == 0", "none"),
            ],
            "none",
            ((None, "green"), (1, "red")),
            width=8,
            height=8,
            empty=UNKNOWN,
        ),
        series(
            "Processes that ended under pressure",
            """Processes that ended while free framebuffer was under its floor: mostly failed allocations. The sum over all pods is drawn
            always, a pod only where there were any. Empty: no pod is here, or no agent was scraped.""",
            [query(f"sum({exits})", "all pods"), query(f"({exits}) > 0", POD_NAME)],
            "none",
            width=8,
            height=8,
            min=0,
        ),
        series(
            "How well it is measured",
            """Process lists torn by moving memory, probes that could not be launched, each a second; and the age of a probe that has not
            started, in seconds. All near 0 on a healthy GPU.""",
            [
                query(rate("slicewatch_gpu_framebuffer_torn_windows_total"), "torn lists a second"),
                query(rate("slicewatch_gpu_canary_missed_probes_total"), "missed probes a second"),
                query(one("slicewatch_gpu_canary_stall_seconds"), "oldest unanswered probe, s"),
            ],
            "none",
            width=8,
            height=8,
            min=0,
        ),
    ]


def gpu_variable(text):
    """GPUs under the name that people know: node and number. The value is the UUID."""
    named = f'label_join({text}, "gpu_name", " GPU ", "instance", "gpu")'
    return f"query_result({named})"


GPU_REGEX = '/gpu_name="(?<text>[^"]*)",gpu_uuid="(?<value>[^"]*)"/'


def made():
    devices = gpu_variable("max by (instance, gpu, gpu_uuid) (last_over_time(slicewatch_gpu_info{@}[$__range]))")
    return dashboard(
        "gpu",
        "slicewatch / GPU",
        "Who shares one GPU, what memory and time each has, and how long short requests wait because of whom.",
        [
            (None, stats()),
            ("Who shares it", sharing()),
            ("Memory", memory()),
            ("Time", time()),
            ("Delay", delay()),
            ("Faults", faults()),
        ],
        [variable("gpu_uuid", "GPU", devices, regex=GPU_REGEX)],
        comings_and_goings(HERE),
        since="now-1h",
    )
