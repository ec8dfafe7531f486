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

# (Dashboard, panel): {view: why it is empty there}.
EMPTY = {}
# (Dashboard, part of a query): why no view answers it.
NEVER = {
    ("slicewatch-agent", "slicewatch_source_duration_seconds"): "a simulated source is read in no time",
}
# (Dashboard, panel): why it tells of each job's scrape, and not of the agent.
TWICE = {
    ("slicewatch-agent", panel): "this dashboard is about targets: each of both is one"
    for panel in ("Agents", "Sources that are down", "Processes on GPUs", "Canaries by state", "Versions")
}


def may_be_empty(dashboard, panel, view):
    return EMPTY.get((dashboard, panel), {}).get(view)


def told_empty(dashboard):
    return [(panel, view) for (uid, panel), views in EMPTY.items() if uid == dashboard for view in views]


def never(dashboard, target):
    return next((why for (uid, part), why in NEVER.items() if uid == dashboard and part in target.expression), None)


def counts_twice(dashboard, panel):
    return TWICE.get((dashboard, panel))
