"""What the scenarios cause: which alerts, and which panels have nothing to show and why."""

import history

# Alert: (nodes that have its cause, nodes where it may fire as well).
COPIES = {history.TWIN, history.HOSTILE_NODE}
ALERTS = {
    "SlicewatchAgentDown": ({history.GONE}, set()),
    "SlicewatchSourceFailing": ({"faults"}, set()),
    "SlicewatchFramebufferHigh": ({"memory-hog"}, {"slow-leak"}),
    "SlicewatchFramebufferExhaustedSoon": ({"slow-leak"}, {"memory-hog"}),
    "SlicewatchPodOverFairShare": ({"memory-hog"}, {"slow-leak"}),
    "SlicewatchLatencyContention": ({"noisy-neighbour"} | COPIES, {"many-pods", "faults", "mig", "churn", history.GONE}),
    "SlicewatchNoisyNeighbour": ({"noisy-neighbour"} | COPIES, {"many-pods", "mig", "churn", history.GONE}),
    "SlicewatchUnattributedMemory": ({"faults"}, set()),
    "SlicewatchXidInSharedDomain": ({"faults"}, set()),
    "SlicewatchSetupFinding": ({history.CHECK}, set()),
    "SlicewatchGpuNodeWithoutAgent": ({history.BARE}, set()),
}


def also(alert):
    return ALERTS[alert][1]


def starting(prefix):
    """Chooses the first option that starts so."""
    return lambda options: next(option for option in options if option.startswith(prefix))


def on(instance, **more):
    return {"instance": instance, **more}


# Dashboard: what is chosen in it, by a name.
VIEWS = {
    "slicewatch-agent": {"all": {}, "faults": on("faults"), "quiet": on("quiet")},
    "slicewatch-capacity": {
        "all": {}, "noisy-neighbour": on("noisy-neighbour"), "week": on("week"), "mig": on("mig"), "now-and-then": on("now-and-then"),
    },
    "slicewatch-fleet": {
        "all": {}, "noisy-neighbour": on("noisy-neighbour"), "memory-hog": on("memory-hog"), "many-pods": on("many-pods"),
        "mps": on("mps"), "quiet": on("quiet"), "slow-leak": on("slow-leak"),
    },
    "slicewatch-gpu": {
        "noisy-neighbour": on("noisy-neighbour"), "memory-hog": on("memory-hog"), "faults": on("faults"), "many-pods": on("many-pods"),
        "mig": on("mig", gpu_uuid=starting("MIG-")), "mps": on("mps"), "quiet": on("quiet"), "now-and-then": on("now-and-then"),
    },
    "slicewatch-pod": {
        "noisy-neighbour": on("noisy-neighbour", namespace="shop", pod=starting("search-api-")),
        "memory-hog": on("memory-hog", namespace="research"),
        "many-pods": on("many-pods", namespace="team-atlas", pod=starting("train-")),
        "mig": on("mig", namespace="inference", pod=starting("mistral-")),
        "mps": on("mps", namespace="hpc", pod=starting("viz-")),
        "quiet": on("quiet", namespace="search"),
        "faults": on("faults", namespace="ml-training"),
    },
}
# A cluster label is what somebody with many clusters adds.
VARIABLES_WITHOUT_OPTIONS = {"cluster"}
# Dashboards that show a week.
OF_A_WEEK = {"slicewatch-capacity"}

# Why a panel is empty in a view, and which.
EMPTY_BECAUSE = (
    ("under MIG and MPS the driver tells no time by process, and no canary runs", ("mig", "mps"), {
        "slicewatch-gpu": (
            "Contended", "Delay of a short request", "Delay of short requests", "Quantiles against the idle GPU", "Who makes short requests wait",
        ),
        "slicewatch-pod": (
            "GPU time", "Contended", "Waits because of others", "Active and contended", "What I wait", "Who makes requests wait on my GPUs",
            "Neighbours by what they inflict, now",
        ),
    }),
    ("a MIG instance has no ring at all", ("mig",), {"slicewatch-gpu": ("Busy", "GPU time by pod", "Busy and contended")}),
    ("XIDs are of cards, not of MIG instances", ("mig",), {"slicewatch-gpu": ("XID errors since the agent started",)}),
    ("under MPS nobody can tell who was active", ("mps",), {
        "slicewatch-fleet": ("Contended GPUs", "Contended time, the 20 highest", "Delay of short requests, the 20 highest"),
    }),
    ("the cards were never idle: there is no baseline", ("noisy-neighbour", "memory-hog", "many-pods", "mps", "slow-leak"), {
        "slicewatch-fleet": ("Delay over the idle baseline, the 20 highest",),
    }),
    ("a simulated source is read in no time", ("all", "faults", "quiet"), {"slicewatch-agent": ("Time of a round of reads",)}),
)
EMPTY = {
    (dashboard, panel, view): why
    for why, views, dashboards in EMPTY_BECAUSE for dashboard, panels in dashboards.items() for panel in panels for view in views
}
# (Dashboard, part of a query): why no view answers it.
NEVER = {
    ("slicewatch-agent", "slicewatch_source_duration_seconds"): "a simulated source is read in no time",
}
# (Dashboard, panel): why it tells of each job's scrape, and not of the agent.
TWICE = {
    ("slicewatch-agent", panel): "this dashboard is about targets: each of both is one"
    for panel in ("Agents", "Sources that are down", "Processes on GPUs", "Canaries by state", "Versions")
}


def last_pods(looks):
    """Pods of the last look, with what they gained since the look before, a second."""
    before, last = looks[-2:]
    seconds = last["at"] - before["at"]
    earlier = {(pod["namespace"], pod["pod"]): pod for pod in before["pods"]}
    for pod in last["pods"]:
        key = pod["namespace"], pod["pod"]
        if key in earlier:
            gained = {name: (pod[name] - earlier[key][name]) / seconds for name in ("gpu_seconds", "turn_seconds")}
            yield "/".join(key), pod, gained


def memory(looks):
    """Of ten minutes' mean; the trainer's goes up and down by some GiB, the others' stands still."""
    return {name: (pod["memory_bytes"], 8 << 30 if "finetune" in name else 0) for name, pod, _ in last_pods(looks)}


def gpu_time(looks):
    """A share of ten minutes has a standard error of less than a point."""
    return {name: (gained["gpu_seconds"], 0.03) for name, _, gained in last_pods(looks)}


def inflicted(looks):
    """Half of its turns; within a quarter of what all inflict, about 1.6 ms: ten minutes of probes tell no more."""
    return {name: (gained["turn_seconds"] / 2, 4e-4) for name, _, gained in last_pods(looks)}


# (Dashboard, panel): (node, what each pod is in truth and by how much a figure may be off).
FIGURES = {
    ("slicewatch-gpu", "Framebuffer by pod"): ("noisy-neighbour", memory),
    ("slicewatch-gpu", "GPU time by pod"): ("noisy-neighbour", gpu_time),
    ("slicewatch-gpu", "Who makes short requests wait"): ("noisy-neighbour", inflicted),
}


def may_be_empty(dashboard, panel, view):
    return EMPTY.get((dashboard, panel, view))


def told_empty(dashboard):
    return [(panel, view) for uid, panel, view in EMPTY if uid == dashboard]


def never(dashboard, target):
    return next((why for (uid, part), why in NEVER.items() if uid == dashboard and part in target.expression), None)


def counts_twice(dashboard, panel):
    return TWICE.get((dashboard, panel))
