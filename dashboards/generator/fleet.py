"""Fleet: which GPUs are contended, where memory runs out, what was found."""

from .grafana import bars, colored, column, dashboard, link, now, override, query, row_of, series, stat, table
from .queries import DEVICE, GPU_NAME, by_gpu, or_why_not

RATIO = "gpu_uuid:slicewatch_gpu_framebuffer_used_per_total:ratio"
BUSY = "gpu_uuid:slicewatch_gpu_busy_seconds:rate5m"
CONTENDED = "gpu_uuid:slicewatch_gpu_contended_seconds:rate5m"
PRESSURE = "gpu_uuid:slicewatch_gpu_framebuffer_pressure_seconds:rate5m"
DELAY = "gpu_uuid:slicewatch_gpu_canary_delay_seconds:mean5m"
BASELINES = "gpu_uuid:slicewatch_gpu_canary_delay_per_baseline:ratio5m"
P99 = "gpu_uuid:slicewatch_gpu_canary_delay_seconds:p99_5m"
MEMORY = "namespace_pod_gpu_uuid:slicewatch_pod_framebuffer_bytes:sum"
SHARE = "namespace_pod_gpu_uuid:slicewatch_pod_framebuffer_fair_share_bytes:sum"

HIGH = ((None, "green"), (0.8, "yellow"), (0.9, "orange"), (0.95, "red"))
SOME = ((None, "text"), (0.1, "yellow"), (0.5, "orange"))
SLOWER = ((None, "text"), (10, "yellow"), (50, "orange"), (200, "red"))
ANY = ((None, "green"), (1, "red"))
UNKNOWN = "unknown: no agent"
UNRECORDED = "unknown: no rules"

RECORDED = "From slicewatch's recording rules."
# No rule records more often: finer steps cost and show nothing.
MINUTE = "1m"


def stats():
    return [
        stat(
            "Cards",
            "Physical GPUs whose agent is scraped. Without a figure no agent is.",
            [now('count(count by (gpu_uuid) (slicewatch_gpu_info{@, parent_gpu_uuid=""}))')],
            "none",
            empty=UNKNOWN,
        ),
        stat(
            "Cards that do not answer",
            "GPUs that were seen and are lost or silent. Without a figure nothing is known of any GPU.",
            [now("sum(1 - min by (gpu_uuid) (slicewatch_gpu_up{@}))")],
            "none",
            ANY,
            empty=UNKNOWN,
        ),
        stat(
            "Agents that are down",
            """Targets of the agents' jobs that Prometheus could not scrape. Without a figure none of these jobs was ever
            scraped in this range of time. An agent that Prometheus does not know of is not counted.""",
            [now("sum(1 - up{@} and on (cluster, job) last_over_time(slicewatch_build_info{@}[$__range]))")],
            "none",
            ANY,
            empty=UNKNOWN,
        ),
        stat(
            "Contended GPUs",
            f"""GPUs on which two or more pods were active for over a tenth of the last five minutes. {RECORDED} Without a
            figure the rules are not loaded, or no GPU can tell (MIG, MPS).""",
            [now(f"sum(max by (gpu_uuid) ({CONTENDED}{{@}}) > bool 0.1)")],
            "none",
            ((None, "green"), (1, "orange")),
            empty=UNRECORDED,
        ),
        stat(
            "GPUs short of memory",
            f"""GPUs whose free framebuffer was under the floor (5 % unless set otherwise) at any moment of the last five minutes. {RECORDED}
            Without a figure the rules are not loaded.""",
            [now(f"sum(max by (gpu_uuid) ({PRESSURE}{{@}}) > bool 0)")],
            "none",
            ANY,
            empty=UNRECORDED,
        ),
        stat(
            "Errors found",
            "Findings of severity error, told by agents and by the check. Without a figure nobody was asked.",
            [
                now(
                    'count(max by (code, subject) (slicewatch_finding{@, severity="error"})) or 0 * count(slicewatch_build_info{@})'
                )
            ],
            "none",
            ANY,
            empty=UNKNOWN,
        ),
    ]


def gpus():
    one = "max by (gpu_uuid)"
    columns = {
        "instance": "Instance",
        "gpu": "GPU",
        "model": "Model",
        "sharing": "Sharing",
        "Value #B": "Contended",
        "Value #C": "Busy",
        "Value #D": "Active pods",
        "Value #E": "Granted",
        "Value #F": "Replicas",
        "Value #G": "Memory",
        "Value #H": "Delay / idle",
        "Value #I": "Delay p99",
        "Value #A": "Answers",
        "gpu_uuid": "UUID",
    }
    return table(
        "GPUs",
        f"""One row a GPU, the most contended first; click a UUID for its dashboard. Contended: the share of the last five minutes in
        which two or more pods were active. Delay / idle: how many times longer a short request waits than on the idle GPU. An
        empty cell is unknown: not measurable under MIG and MPS, or the GPU was never seen idle. {RECORDED}""",
        [
            row_of(
                f"max by (instance, gpu_uuid, gpu, model, sharing) (slicewatch_gpu_info{{@}} * on ({DEVICE}) group_left () slicewatch_gpu_up{{@}})"
            ),
            row_of(f"{one} ({CONTENDED}{{@}})"),
            row_of(f"{one} ({BUSY}{{@}})"),
            row_of(f"{one} (slicewatch_gpu_active_tenants{{@}})"),
            row_of(f"{one} (slicewatch_gpu_replicas_allocated{{@}})"),
            row_of(f"{one} (slicewatch_gpu_replicas{{@}})"),
            row_of(f"{one} ({RATIO}{{@}})"),
            row_of(f"{one} ({BASELINES}{{@}})"),
            row_of(f"{one} ({P99}{{@}})"),
        ],
        columns,
        height=10,
        join="gpu_uuid",
        sort="Contended",
        overrides=[
            column("Contended", "percentunit", ("decimals", 0), *colored(*SOME)),
            column("Busy", "percentunit", ("decimals", 0)),
            column("Memory", "percentunit", ("decimals", 0), *colored(*HIGH)),
            column("Delay / idle", "none", ("decimals", 1), *colored(*SLOWER)),
            column("Delay p99", "s"),
            column(
                "Answers",
                None,
                (
                    "mappings",
                    [
                        {
                            "type": "value",
                            "options": {
                                "0": {"text": "no", "color": "red", "index": 0},
                                "1": {"text": "yes", "color": "green", "index": 1},
                            },
                        }
                    ],
                ),
                *colored((None, "text")),
            ),
            column(
                "UUID",
                None,
                ("custom.width", 330),
                ("links", [link("This GPU", "slicewatch-gpu", gpu_uuid="${__data.fields.UUID}")]),
            ),
        ],
    )


def contention():
    return [
        series(
            "Contended time, the 20 highest",
            f"Share of time in which two or more pods were active on a GPU. {RECORDED} Empty: the rules are not loaded, or no GPU can tell.",
            [query(f"topk(20, {by_gpu(CONTENDED + '{@}')})", GPU_NAME)],
            "percentunit",
            width=8,
            min=0,
            max=1,
            interval=MINUTE,
        ),
        series(
            "Delay of short requests, the 20 highest",
            f"""Mean wait of the canary's kernel from launch to start. {RECORDED} A GPU is missing while its canary does not probe, as under
            MIG and MPS.""",
            [query(f"topk(20, {by_gpu(DELAY + '{@}')})", GPU_NAME)],
            "s",
            width=8,
            log=True,
            interval=MINUTE,
        ),
        series(
            "Delay over the idle baseline, the 20 highest",
            f"""Mean wait of a short request over the same GPU's mean when idle: 1 is as if alone. {RECORDED} A GPU is missing while its
            canary does not probe, and until it was seen idle once.""",
            [query(f"topk(20, {by_gpu(BASELINES + '{@}')})", GPU_NAME)],
            "none",
            width=8,
            log=True,
            interval=MINUTE,
        ),
    ]


def memory():
    return [
        bars(
            "Fullest GPUs",
            f"Framebuffer in use over the total, now; the reserve of the driver is not in use. {RECORDED} Empty: the rules are not loaded.",
            [now(f"sort_desc(topk(15, {by_gpu(RATIO + '{@}')}))", GPU_NAME)],
            "percentunit",
            HIGH,
            maximum=1,
            empty=UNRECORDED,
        ),
        series(
            "Framebuffer in use, the 20 highest",
            f"Framebuffer in use over the total. {RECORDED} Empty: the rules are not loaded.",
            [query(f"topk(20, {by_gpu(RATIO + '{@}')})", GPU_NAME)],
            "percentunit",
            min=0,
            max=1,
            interval=MINUTE,
        ),
        series(
            "Time short of memory",
            f"""Share of time in which free framebuffer was under the floor (5 % unless set otherwise): allocations of any tenant may fail
            then. The sum over all GPUs is drawn always, a GPU only where it was short. {RECORDED} Empty: the rules are not loaded.""",
            [
                query(f"sum(max by (gpu_uuid) ({PRESSURE}{{@}}))", "all GPUs together"),
                query(f"topk(20, {by_gpu(PRESSURE + '{@}')} > 0)", GPU_NAME),
            ],
            "percentunit",
            min=0,
            interval=MINUTE,
        ),
        table(
            "Pods by fair share",
            """Framebuffer that a pod holds over the share that its replicas come to, now; over 1 it holds what others were promised.
            Click a pod for its dashboard. Empty: the rules are not loaded, or nothing is granted.""",
            [
                row_of(
                    f"topk(50, max by (namespace, pod, gpu_uuid) ({MEMORY}{{@}}) / max by (namespace, pod, gpu_uuid) ({SHARE}{{@}}))"
                ),
            ],
            {"namespace": "Namespace", "pod": "Pod", "Value": "Of fair share", "gpu_uuid": "GPU"},
            width=12,
            sort="Of fair share",
            overrides=[
                column(
                    "Of fair share",
                    "percentunit",
                    ("decimals", 0),
                    *colored((None, "text"), (1, "orange"), (1.5, "red")),
                ),
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
                column("GPU", None, ("links", [link("This GPU", "slicewatch-gpu", gpu_uuid="${__data.fields.GPU}")])),
            ],
        ),
    ]


def found():
    severity = override(
        "Severity",
        (
            "mappings",
            [
                {
                    "type": "value",
                    "options": {
                        "error": {"color": "red", "index": 0},
                        "warning": {"color": "orange", "index": 1},
                        "info": {"color": "blue", "index": 2},
                    },
                }
            ],
        ),
        ("custom.cellOptions", {"type": "color-text"}),
    )
    return [
        table(
            "Findings by kind",
            """How many subjects each kind of finding has. The agent's page and `slicewatch check` have evidence and the command that
            mends. A row always stands here: it says so if nothing was found, and if nobody was asked.""",
            [
                row_of(
                    or_why_not(
                        "count by (code, severity) (max by (code, severity, subject) (slicewatch_finding{@}))",
                        "slicewatch_finding{@}",
                        "nothing found; agents asked:",
                    )
                )
            ],
            {"severity": "Severity", "code": "Finding", "Value": "Subjects"},
            width=9,
            sort="Subjects",
            overrides=[severity],
        ),
        table(
            "Errors and warnings",
            """What should be mended, one row a subject: a node, a GPU, a container or an object of the set-up. A row always stands here:
            it says so if there is none, and if nobody was asked.""",
            [
                row_of(
                    or_why_not(
                        'max by (severity, code, subject, instance) (slicewatch_finding{@, severity=~"error|warning"})',
                        'slicewatch_finding{@, severity=~"error|warning"}',
                        "no errors or warnings",
                    )
                )
            ],
            {"severity": "Severity", "code": "Finding", "subject": "Subject", "instance": "Instance"},
            width=15,
            overrides=[severity],
        ),
    ]


def made():
    return dashboard(
        "fleet",
        "slicewatch / Fleet",
        "Which shared GPUs are contended, where framebuffer runs out, and what is set up wrongly.",
        [
            (None, stats()),
            ("GPUs", [gpus()]),
            ("Contention", contention()),
            ("Memory", memory()),
            ("Findings", found()),
        ],
    )
