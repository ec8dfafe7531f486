"""Agent: is it well, what does it cost, what could it not read."""

from .grafana import dashboard, line, now, of_query, query, row_of, series, stat, table, timeline, words
from .queries import or_why_not

RATE = "[$__rate_interval]"
# With the job left at All, names that others have too are of our targets only.
OURS = "and on (cluster, job, instance) slicewatch_build_info{@}"
TARGETS = "and on (cluster, job) last_over_time(slicewatch_build_info{@}[$__range])"
UNKNOWN = "unknown: no agent"
ANY = ((None, "green"), (1, "red"))
EACH = "max by (instance)"


def stats():
    return [
        stat(
            "Agents",
            "Agents, and checks of the set-up, that answer.",
            [now("count(slicewatch_build_info{@})")],
            "none",
            empty=UNKNOWN,
        ),
        stat(
            "Down",
            "Targets of their jobs that could not be scraped. Without a figure none of these jobs was scraped in this range of time.",
            [now(f"sum(1 - up{{@}} {TARGETS})")],
            "none",
            ANY,
            empty=UNKNOWN,
        ),
        stat(
            "Sources down",
            "Parts of the world that an agent reads (driver, kubelet, API server, host, canary) and that do not answer.",
            [now("sum(1 - slicewatch_source_up{@})")],
            "none",
            ANY,
            empty=UNKNOWN,
        ),
        stat(
            "Processes without a pod",
            "Processes on GPUs that belong to no known container, our own canary left out. The reasons are below.",
            [now('sum(slicewatch_processes{@, state="unattributed", reason!="canary"})')],
            "none",
            ((None, "green"), (1, "orange")),
            empty=UNKNOWN,
        ),
        stat(
            "Highest memory",
            "Resident memory of the largest agent. The budget is 24 MiB, most of which is the driver's library.",
            [now(f"max(process_resident_memory_bytes{{@}} {OURS})")],
            "bytes",
            ((None, "green"), (24 * 1024 * 1024, "orange"), (48 * 1024 * 1024, "red")),
            empty=UNKNOWN,
        ),
        stat(
            "Highest CPU",
            "CPU of the busiest agent, in cores. The budget is half a percent of one.",
            [now(f"max(rate(process_cpu_seconds_total{{@}}{RATE}) {OURS})")],
            "percentunit",
            ((None, "green"), (0.005, "orange"), (0.02, "red")),
            decimals=2,
            empty=UNKNOWN,
        ),
    ]


def health():
    sources = words((0, "down", "red"), (1, "up", "green"))
    return [
        timeline(
            "Targets",
            "Whether Prometheus could scrape each agent. A gap: it did not know of the target. Choose instances above where there are many.",
            [query(f"min by (instance) (up{{@}} {TARGETS})", "{{instance}}")],
            sources,
            width=12,
        ),
        timeline(
            "Sources, the worst of all instances",
            "Red while at least one chosen instance has the source down. Down and long: the table beside names it. A gap: nobody was scraped, or this set-up has none.",
            [query("min by (source) (slicewatch_source_up{@})", "{{source}}")],
            sources,
            width=12,
        ),
        table(
            "Sources that are down",
            "Which agents cannot read what. A row always stands here: it says so if all answer, and if no agent was scraped.",
            [
                row_of(
                    or_why_not(
                        "max by (instance, source) (slicewatch_source_up{@} == 0)",
                        "slicewatch_source_up{@} == 0",
                        "every source answers",
                    ).replace('"code"', '"source"')
                )
            ],
            {"instance": "Instance", "source": "Source"},
            width=8,
            height=8,
        ),
        series(
            "Failed reads",
            "Failed reads a second by source and reason; row_... are rows of the utilization ring that were not believed. Only reasons that were ever seen have a line; a line at 0 is good.",
            [
                query(
                    f"sum by (source, reason) (rate(slicewatch_source_errors_total{{@}}{RATE}))",
                    "{{source}}: {{reason}}",
                )
            ],
            "none",
            width=8,
            height=8,
            min=0,
        ),
        series(
            "Age of the last good read",
            "Seconds since the last round that went well, of the oldest instance. Growing: the source fails. Empty: it never went well, or no agent was scraped.",
            [query("max by (source) (time() - slicewatch_source_last_success_timestamp_seconds{@})", "{{source}}")],
            "s",
            width=8,
            height=8,
        ),
    ]


def cost():
    return [
        series(
            "CPU of the agents",
            "In cores; the 20 highest and the mean. Dashed: the budget. Empty: no agent was scraped.",
            [
                query(f"topk(20, {EACH} (rate(process_cpu_seconds_total{{@}}{RATE}) {OURS}))", "{{instance}}"),
                query(f"avg(rate(process_cpu_seconds_total{{@}}{RATE}) {OURS})", "mean"),
                query("vector(0.005)", "budget"),
            ],
            "percentunit",
            width=8,
            min=0,
            overrides=[of_query("B", ("custom.lineWidth", 2)), line("C", "red")],
        ),
        series(
            "Memory of the agents",
            "Resident; the 20 highest and the mean. Dashed: the budget. The driver's library alone takes over 20 MiB. Empty: no agent was scraped.",
            [
                query(f"topk(20, {EACH} (process_resident_memory_bytes{{@}} {OURS}))", "{{instance}}"),
                query(f"avg(process_resident_memory_bytes{{@}} {OURS})", "mean"),
                query("vector(25165824)", "budget"),
            ],
            "bytes",
            width=8,
            min=0,
            overrides=[of_query("B", ("custom.lineWidth", 2)), line("C", "red")],
        ),
        series(
            "Time of a round of reads",
            "How long the last round of each source took, of the slowest instance. A slow driver makes late windows. Empty: no source made a round.",
            [query("max by (source) (slicewatch_source_duration_seconds{@})", "{{source}}")],
            "s",
            width=8,
            log=True,
        ),
        series(
            "Threads and file descriptors",
            "Of the instance that has most. Flat is well; growing for ever is a leak. Empty: no agent was scraped.",
            [
                query(f"max(process_threads{{@}} {OURS})", "threads"),
                query(f"max(process_open_fds{{@}} {OURS})", "file descriptors"),
            ],
            "none",
            width=8,
            min=0,
        ),
        series(
            "Scrape time",
            "How long a scrape takes, the 20 slowest. It reads no device: slow is the network, or a large node. Empty: no agent was scraped.",
            [query(f"topk(20, {EACH} (scrape_duration_seconds{{@}} {OURS}))", "{{instance}}")],
            "s",
            width=8,
            min=0,
        ),
        series(
            "Series a scrape",
            "Samples that one scrape brings, the 20 largest: what Prometheus pays. dashboards/README.md has what makes them few.",
            [query(f"topk(20, {EACH} (scrape_samples_post_metric_relabeling{{@}} {OURS}))", "{{instance}}")],
            "none",
            width=8,
            min=0,
        ),
    ]


def quality():
    return [
        series(
            "Processes on GPUs",
            "Attributed to a container, or why not. Reasons at 0 are known to be 0. Empty: no agent was scraped.",
            [query("sum by (state, reason) (slicewatch_processes{@})", "{{state}} {{reason}}")],
            "none",
            width=8,
            stack=True,
            min=0,
        ),
        series(
            "Canaries by state",
            "GPUs by what their canary does, and why. Off under MIG and MPS unless asked for. Empty: no agent was scraped.",
            [query("count by (state, reason) (slicewatch_gpu_canary_state{@})", "{{state}}: {{reason}}")],
            "none",
            width=8,
            stack=True,
            min=0,
        ),
        series(
            "Measured badly",
            "Over all GPUs, each a second: process lists that were torn by moving memory, and probes that could not be launched. And the widest bounds between the clocks of GPU and host, in seconds.",
            [
                query(f"sum(rate(slicewatch_gpu_framebuffer_torn_windows_total{{@}}{RATE}))", "torn lists a second"),
                query(f"sum(rate(slicewatch_gpu_canary_missed_probes_total{{@}}{RATE}))", "missed probes a second"),
                query("max(slicewatch_gpu_canary_clock_error_seconds{@})", "clock error, s"),
            ],
            "none",
            width=8,
            min=0,
        ),
    ]


def found():
    return [
        table(
            "Versions",
            "Agents by version. More than one: a roll-out is under way, or it stopped.",
            [row_of("count by (version, rustc) (slicewatch_build_info{@})")],
            {"version": "Version", "rustc": "Rust", "Value": "Agents"},
            width=8,
            height=8,
            sort="Agents",
        ),
        table(
            "Findings of these instances",
            "One row a subject. A row always stands here: it says so if nothing was found, and if nobody was asked.",
            [
                row_of(
                    or_why_not(
                        "max by (severity, code, subject, instance) (slicewatch_finding{@})",
                        "slicewatch_finding{@}",
                        "nothing found",
                    )
                )
            ],
            {"severity": "Severity", "code": "Finding", "subject": "Subject", "instance": "Instance"},
            width=16,
            height=8,
            sort="Severity",
        ),
    ]


def made():
    return dashboard(
        "agent",
        "slicewatch / Agent",
        "Whether the agents are well, what they cost, and what they could not read.",
        [
            (None, stats()),
            ("Health", health()),
            ("Cost", cost()),
            ("How well it is measured", quality()),
            ("Findings", found()),
        ],
    )
