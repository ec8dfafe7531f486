"""Capacity: what was needed at most, how much of it at once, and what MIG would hold. For weeks, on recording rules."""

from .grafana import bars, colored, column, dashboard, line, now, of_query, query, row_of, series, stat, table, variable
from .queries import GPU_NAME, by_gpu

RATIO = "gpu_uuid:slicewatch_gpu_framebuffer_used_per_total:ratio{@}"
FULLEST = "gpu_uuid:slicewatch_gpu_framebuffer_used_peak_per_total:ratio_max1h{@}"
BUSY = "gpu_uuid:slicewatch_gpu_busy_seconds:rate5m{@}"
CONTENDED = "gpu_uuid:slicewatch_gpu_contended_seconds:rate5m{@}"
WHOSE = '{@, namespace=~"$namespace"}'
PEAK = f"namespace_workload:slicewatch_pod_framebuffer_peak_bytes:max1h{WHOSE}"
TIME = f"namespace_workload:slicewatch_workload_gpu_seconds:rate1h{WHOSE}"
# An agent that is scraped by two jobs counts once.
ONCE = "max by (cluster, instance, namespace, workload)"
COACTIVE = f"namespace_workload:slicewatch_pod_contended_per_active:ratio_rate1h{WHOSE}"
INSTANCE = 'max(slicewatch_gpu_mig_profile_memory_bytes{@, profile="$profile"})'
WORKLOAD = "{{namespace}}/{{workload}}"
EMPTY = "unknown: no rules"
NEEDS = "From slicewatch's recording rules: without them, and before they were loaded, there is nothing."


def workload(text, fold="max"):
    return f"{fold} by (namespace, workload) ({text})"


# No rule records more often: finer steps cost and show nothing.
MINUTE = "1m"


def stats():
    def mean(metric):
        return f"sum(max by (gpu_uuid) (avg_over_time({metric}[$__range])))"

    return [
        stat(
            "History here",
            f"Part of the chosen range of time that there is history of. Under 100 % every figure below is of a shorter time. {NEEDS}",
            [now(f"clamp_max(max(count_over_time((max by (gpu_uuid) ({RATIO}))[$__range:5m])) * 300 / $__range_s, 1)")],
            "percentunit",
            ((None, "red"), (0.5, "orange"), (0.95, "green")),
            decimals=0,
            empty=EMPTY,
        ),
        stat(
            "GPUs never half full",
            f"GPUs whose framebuffer was never over a half in use, not for a tenth of a second: room for more tenants. {NEEDS}",
            [now(f"sum(max by (gpu_uuid) (max_over_time({FULLEST}[$__range])) < bool 0.5)")],
            "none",
            empty=EMPTY,
        ),
        stat(
            "Busy",
            f"Mean share of time in use over all GPUs that can tell it. {NEEDS}",
            [now(f"avg(max by (gpu_uuid) (avg_over_time({BUSY}[$__range])))")],
            "percentunit",
            decimals=1,
            empty=EMPTY,
        ),
        stat(
            "Co-active, of busy time",
            f"""Of the time in use, that in which two or more pods were active at once: what sharing really costs, where co-allocation only
            says that it could. {NEEDS}""",
            [now(f"{mean(CONTENDED)} / ({mean(BUSY)} > 0)")],
            "percentunit",
            ((None, "green"), (0.25, "yellow"), (0.5, "orange")),
            decimals=1,
            empty=EMPTY,
        ),
        stat(
            "Replicas granted",
            "Replicas that the kubelets granted over those advertised, now. Without a figure no kubelet was heard.",
            [
                now(
                    "sum(max by (gpu_uuid) (slicewatch_gpu_replicas_allocated{@})) / sum(max by (gpu_uuid) (slicewatch_gpu_replicas{@}))"
                )
            ],
            "percentunit",
            decimals=0,
            empty="unknown",
        ),
        stat(
            "Memory of no pod",
            """Framebuffer in use that belongs to no known container, of all in use, now: how far the figures by workload can be trusted. The
            canary's is in it.""",
            [
                now(
                    "sum(max by (gpu_uuid, reason) (slicewatch_gpu_framebuffer_unattributed_bytes{@})) / sum(max by (gpu_uuid) (slicewatch_gpu_framebuffer_used_bytes{@}))"
                )
            ],
            "percentunit",
            ((None, "green"), (0.05, "yellow"), (0.2, "orange")),
            decimals=1,
            empty="unknown",
        ),
    ]


def workloads():
    def keyed(text):
        return f'max by (key) (label_join({text}, "key", "/", "namespace", "workload"))'

    peak = workload(f"max_over_time({PEAK}[$__range])")
    columns = {
        "namespace": "Namespace",
        "workload": "Workload",
        "Value #A": "Peak",
        "Value #B": "Of one instance",
        "Value #C": "GPUs, mean",
        "Value #D": "GPUs, p95",
        "Value #E": "Co-active, mean hour",
        "Value #F": "Co-active, worst hour",
        "Value #G": "Hours seen",
    }
    fits = colored((None, "green"), (0.9, "orange"), (1, "red"))
    return table(
        "Workloads, against one $profile",
        f"""Peak: most framebuffer that one pod of the workload held on one GPU. Of one instance: that peak over the memory of one MIG instance of the chosen profile;
        green fits with a tenth to spare, orange hardly, red not. GPUs: GPU time, 1 is one GPU all the time; near 0 with a peak is an idle holder.
        Co-active: of its active time, that with a neighbour active. {NEEDS}""",
        [
            row_of(f'max by (key, namespace, workload) (label_join({peak}, "key", "/", "namespace", "workload"))'),
            row_of(keyed(f"{peak} / on () group_left () {INSTANCE}")),
            row_of(keyed(workload(f"{ONCE} (avg_over_time({TIME}[$__range]))", "sum"))),
            row_of(keyed(workload(f"{ONCE} (quantile_over_time(0.95, {TIME}[$__range]))", "sum"))),
            row_of(keyed(workload(f"avg_over_time({COACTIVE}[$__range])"))),
            row_of(keyed(workload(f"max_over_time({COACTIVE}[$__range])"))),
            row_of(keyed(f"count_over_time(({workload(PEAK)})[$__range:1h])")),
        ],
        columns,
        height=11,
        join="key",
        sort="Peak",
        overrides=[
            column("Peak", "bytes"),
            column("Of one instance", "percentunit", ("decimals", 0), *fits),
            column("GPUs, mean", "none", ("decimals", 3)),
            column("GPUs, p95", "none", ("decimals", 3)),
            column("Co-active, mean hour", "percentunit", ("decimals", 0)),
            column("Co-active, worst hour", "percentunit", ("decimals", 0)),
            column("Hours seen", "none", ("decimals", 0)),
        ],
    )


def mig():
    sizes = "max by (profile) (slicewatch_gpu_mig_profile_memory_bytes{@})"
    columns = {
        "profile": "Profile",
        "Value #A": "Memory",
        "Value #B": "Multiprocessors",
        "Value #C": "Compute slices",
        "Value #D": "Instances a card",
    }
    return [
        series(
            "Peaks of workloads against MIG instances",
            f"""Each hour's peak of one pod of the workload; dashed, the memory of one instance of each MIG profile of these cards, by the driver's word. A workload
            fits in the instances whose lines it never meets. No dashed lines: the cards have no MIG. {NEEDS}""",
            [
                query(workload(f"max_over_time({PEAK}[$__interval]) or {PEAK}"), WORKLOAD),
                query(sizes, "one {{profile}}"),
            ],
            "bytes",
            width=16,
            height=11,
            min=0,
            overrides=[
                of_query(
                    "B",
                    ("custom.lineStyle", {"fill": "dash", "dash": [10, 6]}),
                    ("custom.fillOpacity", 0),
                    ("color", {"mode": "shades", "fixedColor": "#8e8e8e"}),
                )
            ],
            interval=MINUTE,
        ),
        bars(
            "Peak over one $profile",
            f"Peak of one pod of each workload over the memory of one instance; from 90 % on it hardly fits, over 100 % not. Empty: no MIG, or no history. {NEEDS}",
            [
                now(
                    f"sort_desc({workload(f'max_over_time({PEAK}[$__range])')} / on () group_left () {INSTANCE})",
                    WORKLOAD,
                )
            ],
            "percentunit",
            ((None, "green"), (0.9, "orange"), (1, "red")),
            width=8,
            height=11,
            maximum=1,
            empty=EMPTY,
        ),
        table(
            "MIG profiles of these cards",
            """What an instance really offers, by the driver's word; the card need not be in MIG mode. Mixed models show their profiles together.
            Empty: the cards have no MIG, the driver tells profiles only in MIG mode, or no agent is scraped.""",
            [
                row_of(sizes),
                row_of("max by (profile) (slicewatch_gpu_mig_profile_multiprocessors{@})"),
                row_of("max by (profile) (slicewatch_gpu_mig_profile_slices{@})"),
                row_of("max by (profile) (slicewatch_gpu_mig_profile_instances{@})"),
            ],
            columns,
            width=24,
            height=8,
            join="profile",
            sort="Memory",
            overrides=[column("Memory", "bytes")],
        ),
    ]


def gpus():
    return [
        series(
            "Fullest GPUs",
            f"The hour's highest framebuffer in use over the total, of readings made ten times a second; the 20 highest. {NEEDS}",
            [query(f"topk(20, {by_gpu(f'max_over_time({FULLEST}[$__interval]) or {FULLEST}')})", GPU_NAME)],
            "percentunit",
            min=0,
            max=1,
            interval=MINUTE,
        ),
        series(
            "Busy GPUs",
            f"""Share of time in use: the busiest GPU, the median and the mean over all that can tell it. A median far under the mean: few GPUs do the work.
            {NEEDS}""",
            [
                query(f"max({BUSY})", "busiest"),
                query(f"avg(max by (gpu_uuid) ({BUSY}))", "mean"),
                query(f"quantile(0.5, max by (gpu_uuid) ({BUSY}))", "median"),
            ],
            "percentunit",
            min=0,
            max=1,
            interval=MINUTE,
        ),
        series(
            "Co-active GPUs",
            f"Share of time in which two or more pods were active, the 20 highest. {NEEDS} GPUs under MIG and MPS cannot tell.",
            [query(f"topk(20, {by_gpu(CONTENDED)})", GPU_NAME)],
            "percentunit",
            min=0,
            max=1,
            interval=MINUTE,
        ),
        series(
            "Co-active by workload",
            f"Of the workload's active time, that in which a neighbour was active, the 20 highest. {NEEDS}",
            [query(f"topk(20, {workload(COACTIVE)})", WORKLOAD)],
            "percentunit",
            min=0,
            max=1,
            interval=MINUTE,
        ),
        series(
            "GPU time by workload",
            f"GPUs' worth of time that each workload received, the 20 highest; 1 is one GPU all the time. It outlives the pods of short Jobs. {NEEDS}",
            [query(f"topk(20, {workload(f'{ONCE} ({TIME})', 'sum')})", WORKLOAD)],
            "none",
            stack=True,
            min=0,
            interval=MINUTE,
        ),
        series(
            "Replicas",
            "Advertised, granted, and pods that really have a process on a GPU. Granted over pods: idle holders. Empty: no kubelet was heard.",
            [
                query("sum(max by (gpu_uuid) (slicewatch_gpu_replicas{@}))", "advertised"),
                query("sum(max by (gpu_uuid) (slicewatch_gpu_replicas_allocated{@}))", "granted"),
                query("sum(max by (gpu_uuid) (slicewatch_gpu_tenants{@}))", "pods with a process"),
            ],
            "none",
            min=0,
            decimals=0,
            overrides=[line("A", "orange")],
            interval=MINUTE,
        ),
    ]


def made():
    return dashboard(
        "capacity",
        "slicewatch / Capacity",
        "What workloads needed at most, how much of it at once, and which MIG instances would hold them.",
        [
            (None, stats()),
            ("Workloads", [workloads()]),
            ("MIG", mig()),
            ("GPUs", gpus()),
        ],
        [
            variable(
                "namespace", "Namespace", "label_values(slicewatch_pod_info{@}, namespace)", multi=True, everything=".+"
            ),
            variable("profile", "MIG profile", "label_values(slicewatch_gpu_mig_profile_memory_bytes{@}, profile)"),
        ],
        since="now-7d",
    )
