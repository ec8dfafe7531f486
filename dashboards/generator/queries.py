"""PromQL that several dashboards share, and the words for what it gives."""

from .grafana import annotation, words

# One agent's series of one device.
DEVICE = "cluster, job, instance, gpu_uuid"
# What a container is on a device: agents that are scraped twice count once.
CONTAINER = "gpu_uuid, namespace, pod, container"


def identity(carried, among=""):
    """The identity of each device, for joins. One whose sharing or MIG mode has just changed has two of them, for minutes
    after a restart of Prometheus."""
    return f"max by ({DEVICE}, {carried}) (slicewatch_gpu_info{{@{among}}})"


def by_gpu(query, among="", also=""):
    """One series a GPU with its readable name, for legends; `among` says of which GPUs, where few are asked for."""
    named = f"({query}) * on ({DEVICE}) group_left (gpu) {identity('gpu', among)}"
    return f"max by (instance, gpu, gpu_uuid{also}) ({named})"


GPU_NAME = "{{instance}} GPU {{gpu}}"
POD_NAME = "{{namespace}}/{{pod}}"


def by_pod(query):
    """One series a pod, of its containers together."""
    return f"sum by (namespace, pod) (max by ({CONTAINER}) ({query}))"


def beside(selector):
    """Keeps series of the devices on which something has a container."""
    return f"and on ({DEVICE}) slicewatch_pod_info{{@, {selector}}}"


STATES = words(
    (0, "here, activity unknown", "#8e8e8e"),
    (1, "granted, no process", "#c7d0d9"),
    (2, "idle", "#5794f2"),
    (3, "active alone", "#73bf69"),
    (4, "active beside others", "#ff780a"),
)
STATES_HELP = """Orange: active while others were active too. Green: active alone. Blue: resident without GPU time.
Light grey: granted, no process. Dark grey: its activity cannot be told, as under MIG and MPS. A gap: not on this GPU, or the
agent was not scraped. Active is 2 % of the time or more."""


def states(selector, keep=""):
    """What each pod is doing on a device, as the values of STATES. A pod that is gone has none, though its counters stay a while."""

    def over(metric):
        return f"max by (namespace, pod) (rate({metric}{{@{selector}}}[$__rate_interval]) {keep})"

    contended = over("slicewatch_pod_contended_seconds_total")
    active = over("slicewatch_pod_active_seconds_total")
    processes = f"max by (namespace, pod) (slicewatch_pod_processes{{@{selector}}} {keep})"
    info = f"max by (namespace, pod) (slicewatch_pod_info{{@{selector}}} {keep})"
    return f"""(
        4 * ({contended} > bool 0.02) > 0
        or 3 * ({active} > bool 0.02) > 0
        or (2 * ({processes} > bool 0) > 0 and {active})
        or ({processes} == 0) + 1
        or 0 * {info}
    ) and on (namespace, pod) {info}"""


def comings_and_goings(selector):
    """Annotations of pods that came to and left a device, and of XID errors.

    A device that was not known a step before has none: a gap of the agent or of Prometheus is no event.
    """

    def new(one, at, before):
        return f"({at} unless {before}) and on (instance, gpu_uuid) slicewatch_gpu_up{{@{selector}}} {one}"

    labels = "instance, gpu_uuid, namespace, pod"
    info = f"max by ({labels}) (slicewatch_pod_info{{@{selector}}})"
    earlier = f"max by ({labels}) (slicewatch_pod_info{{@{selector}}} offset $__interval)"
    errors = f"slicewatch_gpu_xid_errors_total{{@{selector}}}"
    more = f"max by (instance, gpu_uuid, xid) (increase({errors}[$__rate_interval])) > 0"
    # The first error of a number that does not start at 0.
    first = new(
        "offset $__interval",
        f"max by (instance, gpu_uuid, xid) ({errors}) > 0",
        f"max by (instance, gpu_uuid, xid) ({errors} offset $__interval)",
    )
    fault = "{{instance}} {{gpu_uuid}}: a fault that all tenants share"
    return [
        annotation("XID errors", "red", f"{more} or {first}", "XID {{xid}}", fault),
        annotation(
            "Pods that came",
            "blue",
            new("offset $__interval", info, earlier),
            f"came: {POD_NAME}",
            "{{instance}} {{gpu_uuid}}",
        ),
        annotation(
            "Pods that left",
            "#8e8e8e",
            new("", earlier, info),
            f"left: {POD_NAME}",
            "{{instance}} {{gpu_uuid}}",
            shown=False,
        ),
    ]


NOBODY = "absent(slicewatch_build_info{@})"


def said(text, query):
    """A row of a table of findings that says why there is none."""
    return f'label_replace({query}, "code", "{text}", "", "")'


def or_why_not(query, metric, nothing):
    """A table's rows; without any, one that tells `nothing was found` from `nobody was asked`."""
    agents = "count(slicewatch_build_info{@})"
    return f"""{query}
        or {said(nothing, f"{agents} unless count({metric})")}
        or {said("unknown: no agent was scraped", NOBODY)}"""
