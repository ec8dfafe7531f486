"""Pod: one tenant's memory against its share, its time, what it waited and because of whom."""

from .gpu import GPU_REGEX, gpu_variable
from .grafana import (
    bars,
    column,
    dashboard,
    fixed,
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
)
from .queries import (
    CONTAINER,
    DEVICE,
    GPU_NAME,
    POD_NAME,
    STATES,
    STATES_HELP,
    beside,
    by_gpu,
    by_pod,
    comings_and_goings,
    identity as identity_of,
    states,
)

NAMED = ', namespace="$namespace", pod="$pod"'
MINE = f"{{@{NAMED}}}"
# The GPUs that the pod was on within the range of time.
THERE = ', gpu_uuid=~"$gpu_uuid"'
GPUS = f"{{@{THERE}}}"
WHILE_I_WAS_THERE = beside(NAMED[2:])
RATE = "[$__rate_interval]"
UNKNOWN = "unknown"


def total(metric):
    return f"sum(max by ({CONTAINER}) ({metric}{MINE}))"


def rate(metric):
    return f"sum(max by ({CONTAINER}) (rate({metric}{MINE}{RATE})))"


def named(text, also=""):
    return by_gpu(text, THERE, also)


def each_gpu(text):
    """One series a GPU, of the pod's containers together."""
    return named(f"sum by ({DEVICE}) ({text})")


def stats():
    return [
        stat(
            "Memory of fair share",
            """Framebuffer that this pod holds over what its replicas come to. Over 1 it holds what others were promised. Unknown: nothing is
            granted, or memory or the kubelet could not be read.""",
            [
                now(
                    f"{total('slicewatch_pod_framebuffer_bytes')} / {total('slicewatch_pod_framebuffer_fair_share_bytes')}"
                )
            ],
            "percentunit",
            ((None, "green"), (1, "orange"), (1.5, "red")),
            decimals=0,
            empty=UNKNOWN,
        ),
        stat(
            "Peak",
            "Most framebuffer that one container held on one GPU within the range of time, read each second and whenever memory moved.",
            [now(f"max(max_over_time(slicewatch_pod_framebuffer_peak_bytes{MINE}[$__range]))")],
            "bytes",
            empty=UNKNOWN,
        ),
        stat(
            "GPU time",
            "Share of a GPU's time that it receives. Unknown under MIG and MPS.",
            [now(rate("slicewatch_pod_gpu_seconds_total"))],
            "percentunit",
            decimals=1,
            empty=UNKNOWN,
        ),
        stat(
            "Contended",
            "Of the time in which it is active, the part in which others are too. Unknown under MIG and MPS, and while it is not active.",
            [
                now(
                    f"{rate('slicewatch_pod_contended_seconds_total')} / ({rate('slicewatch_pod_active_seconds_total')} > 0)"
                )
            ],
            "percentunit",
            ((None, "green"), (0.25, "yellow"), (0.75, "orange")),
            decimals=0,
            empty=UNKNOWN,
        ),
        stat(
            "Waits because of others",
            """What a short request of this pod waits for its turn because of the others, while it is active. Unknown: no canary probes, or
            the pod is not active.""",
            [
                now(
                    f"{rate('slicewatch_pod_exposed_delay_seconds_total')} / ({rate('slicewatch_pod_exposed_probes_total')} > 0)"
                )
            ],
            "s",
            ((None, "green"), (0.005, "yellow"), (0.05, "orange")),
            empty=UNKNOWN,
        ),
        stat(
            "Ended under pressure",
            "Its processes that ended while free framebuffer was under the floor, within the last minutes: mostly failed allocations.",
            [now(f"sum(max by ({CONTAINER}) (increase(slicewatch_pod_exits_under_pressure_total{MINE}{RATE})))")],
            "none",
            ((None, "green"), (0.5, "red")),
            decimals=0,
            empty=UNKNOWN,
        ),
    ]


def memory():
    return [
        series(
            "My memory",
            """What each container holds on each GPU, its highest within 60 s, and (dashed) the fair share that its replicas come to. Free: what
            anybody on the GPU can still allocate; where it meets 0, allocations fail. A missing line is unknown, not 0.""",
            [
                query(
                    named(f"slicewatch_pod_framebuffer_bytes{MINE}", ", container"), f"{{{{container}}}} on {GPU_NAME}"
                ),
                query(
                    named(f"slicewatch_pod_framebuffer_peak_bytes{MINE}", ", container"),
                    f"{{{{container}}}} peak on {GPU_NAME}",
                ),
                query(each_gpu(f"slicewatch_pod_framebuffer_fair_share_bytes{MINE}"), f"fair share on {GPU_NAME}"),
                query(named(f"slicewatch_gpu_framebuffer_free_bytes{GPUS} {WHILE_I_WAS_THERE}"), f"free on {GPU_NAME}"),
            ],
            "bytes",
            min=0,
            overrides=[
                of_query("A", ("custom.lineWidth", 2)),
                of_query("B", ("custom.drawStyle", "points"), ("custom.pointSize", 4)),
                line("C", "orange"),
                line("D", "#8e8e8e", dash=False),
            ],
        ),
        series(
            "Everybody's memory on my GPUs",
            "Stacked by pod over all GPUs that this pod is on. Click in the legend to see one alone. A pod that is missing is unknown or gone.",
            [query(by_pod(f"slicewatch_pod_framebuffer_bytes{GPUS} {WHILE_I_WAS_THERE}"), POD_NAME)],
            "bytes",
            stack=True,
            min=0,
        ),
    ]


def time():
    processes = (
        f"sum by ({DEVICE}) (slicewatch_pod_processes{MINE}) / sum by ({DEVICE}) (slicewatch_pod_processes{GPUS})"
    )
    return [
        series(
            "My GPU time",
            """Share of each GPU's time that this pod receives. Dashed: its processes over all on the GPU, which is what it would get if everybody
            always had work, for time is shared among processes. Empty under MIG and MPS.""",
            [
                query(each_gpu(f"rate(slicewatch_pod_gpu_seconds_total{MINE}{RATE})"), f"received on {GPU_NAME}"),
                query(named(processes), f"if all had work, {GPU_NAME}"),
            ],
            "percentunit",
            min=0,
            max=1,
            overrides=[line("B", "orange")],
        ),
        series(
            "Active and contended",
            "Share of time in which this pod was active, and of it that in which others were too: estimates. Empty under MIG and MPS.",
            [
                query(each_gpu(f"rate(slicewatch_pod_active_seconds_total{MINE}{RATE})"), f"active on {GPU_NAME}"),
                query(each_gpu(f"rate(slicewatch_pod_contended_seconds_total{MINE}{RATE})"), f"others too, {GPU_NAME}"),
            ],
            "percentunit",
            min=0,
            max=1,
        ),
    ]


def waiting():
    def mine(metric):
        return f"sum by ({DEVICE}) (rate({metric}{MINE}{RATE}))"

    waited = (
        f"{mine('slicewatch_pod_exposed_delay_seconds_total')} / ({mine('slicewatch_pod_exposed_probes_total')} > 0)"
    )
    probes = f"rate(slicewatch_gpu_canary_delay_seconds_count{GPUS}{RATE}) > 0"
    inflicted = (
        f"rate(slicewatch_pod_inflicted_delay_seconds_total{GPUS}{RATE}) / on ({DEVICE}) group_left () ({probes})"
    )
    others = f"({by_pod(f'({inflicted}) {WHILE_I_WAS_THERE}')}) unless on (namespace, pod) slicewatch_pod_info{MINE}"
    myself = f"({by_pod(f'({inflicted}) {WHILE_I_WAS_THERE}')}) and on (namespace, pod) slicewatch_pod_info{MINE}"
    return [
        series(
            "What I wait",
            """Seconds that a short request of this pod waits because of the others while it is active; dashed, the whole wait of a request on
            the idle GPU. Empty: no canary probes there, or the pod is not active.""",
            [
                query(named(waited), f"because of others, {GPU_NAME}"),
                query(
                    named(f'slicewatch_gpu_canary_baseline_seconds{{@{THERE}, statistic="mean"}} {WHILE_I_WAS_THERE}'),
                    f"idle {GPU_NAME}",
                ),
            ],
            "s",
            log=True,
            overrides=[of_query("A", ("custom.lineWidth", 2)), line("B", "#8e8e8e")],
        ),
        series(
            "Who makes requests wait on my GPUs",
            """Stacked: seconds that any short request on my GPUs waits because of each neighbour. Grey: because of this pod itself, which it does
            to others. Empty: no canary probes, or nobody else was here.""",
            [query(others, POD_NAME), query(myself, "this pod")],
            "s",
            stack=True,
            min=0,
            overrides=[of_query("B", fixed("#8e8e8e"))],
        ),
        bars(
            "Neighbours by what they inflict, now",
            "The ranking: seconds that a short request waits because of each. Empty: no canary probes, or there is no neighbour.",
            [now(f"sort_desc({others})", POD_NAME)],
            "s",
            ((None, "text"), (0.001, "yellow"), (0.01, "orange"), (0.1, "red")),
            width=24,
            height=7,
            empty=UNKNOWN,
        ),
    ]


def neighbours():
    return [
        timeline(
            "When each neighbour came",
            f"One row a pod on my GPUs, this one too. {STATES_HELP}",
            [query(states(THERE), POD_NAME)],
            STATES,
        )
    ]


def identity():
    columns = {
        "instance": "Instance",
        "gpu": "GPU",
        "model": "Model",
        "container": "Container",
        "workload": "Workload",
        "workload_kind": "Kind",
        "qos": "QoS",
        "pod_uid": "Pod UID",
        "gpu_uuid": "GPU UUID",
    }
    labels = ", ".join(columns)
    return [
        table(
            "Where it is",
            """Its containers on GPUs now. Click a GPU's UUID for its dashboard. Empty: it is gone, or its agent is not scraped. An empty kind or QoS:
            the agent did not hear the API server.""",
            [
                row_of(
                    f"max by ({labels}) (slicewatch_pod_info{MINE} * on ({DEVICE}) group_left (gpu, model) {identity_of('gpu, model', THERE)})"
                )
            ],
            columns,
            height=5,
            overrides=[
                column(
                    "GPU UUID",
                    None,
                    ("links", [link("This GPU", "slicewatch-gpu", gpu_uuid='${__data.fields["GPU UUID"]}')]),
                )
            ],
        )
    ]


def made():
    info = f"last_over_time(slicewatch_pod_info{MINE}[$__range])"
    device = f"max by ({DEVICE}, gpu) (last_over_time(slicewatch_gpu_info{{@}}[$__range]))"
    devices = gpu_variable(f"max by (instance, gpu, gpu_uuid) ({info} * on ({DEVICE}) group_left (gpu) {device})")
    return dashboard(
        "pod",
        "slicewatch / Pod",
        "One pod: its framebuffer against its fair share, its GPU time, what it waits, because of whom, and when they came.",
        [
            (None, [*stats(), *identity()]),
            ("Memory", memory()),
            ("Time", time()),
            ("Waiting", waiting()),
            ("Neighbours", neighbours()),
        ],
        [
            variable("namespace", "Namespace", "label_values(slicewatch_pod_info{@}, namespace)"),
            variable("pod", "Pod", 'label_values(slicewatch_pod_info{@, namespace="$namespace"}, pod)'),
            variable("gpu_uuid", "Its GPUs", devices, multi=True, everything="", regex=GPU_REGEX),
        ],
        comings_and_goings(THERE),
        since="now-1h",
    )
