"""The loads of the study, as data: options of the tenant."""

# Longer than a time slice of the GPU, back to back: it never gives the GPU up by itself.
HEAVY = {"kernel_ms": 8}
# Shorter than a slice, back to back: after each kernel others get a turn.
MEDIUM = {"kernel_ms": 0.5}
# On and off, both of random length.
HALF = {"kernel_ms": 4, "burst_on_ms": 100, "burst_off_ms": 100}
FIFTH = {"kernel_ms": 4, "burst_on_ms": 50, "burst_off_ms": 200}

KINDS = {"heavy": HEAVY, "medium": MEDIUM, "half": HALF, "fifth": FIFTH}

MIXES = {
    "heavy-1": ["heavy"],
    "heavy-2": ["heavy"] * 2,
    "heavy-3": ["heavy"] * 3,
    "medium-1": ["medium"],
    "medium-2": ["medium"] * 2,
    "medium-4": ["medium"] * 4,
    "half-1": ["half"],
    "half-2": ["half"] * 2,
    "fifth-3": ["fifth"] * 3,
    "fifth-6": ["fifth"] * 6,
    "heavy-half": ["heavy", "half"],
    "heavy-medium-half": ["heavy", "medium", "half"],
}
# Those that are measured again with many more probes: steady, crowded, mixed.
PRECISE = ["heavy-1", "medium-4", "heavy-half"]

WORDS = {
    "heavy-1": "1 heavy",
    "heavy-2": "2 heavy",
    "heavy-3": "3 heavy",
    "medium-1": "1 medium",
    "medium-2": "2 medium",
    "medium-4": "4 medium",
    "half-1": "1 bursty, 50 % duty",
    "half-2": "2 bursty, 50 % duty",
    "fifth-3": "3 bursty, 20 % duty",
    "fifth-6": "6 bursty, 20 % duty",
    "heavy-half": "heavy + bursty",
    "heavy-medium-half": "heavy + medium + bursty",
    "models": "a model being trained",
}

# The tenant whose requests are compared with the canary. It takes turns too, which the canary waits
# for and it does not itself: the fewer, the better they compare.
SHORT = {"kernel_ms": 0.1, "gaps": "exponential"}
# From an answer to its next request, on the mean. Who asks again soon after its own turn finds the
# others' just begun, and so waits longer than one who comes at any time: 7 % beside three heavy
# neighbours, whose circle takes 7 ms, with a gap of 10 ms. Half a circle is to be little beside it.
SHORT_GAP_MS = 50
SHORT_OWN_SECONDS = 0.0001

# Requests of more and more work, as one kernel and as several: (name, kernel, kernels).
LENGTHS = [
    ("0.1", 0.1, 1),
    ("0.5", 0.5, 1),
    ("2", 2, 1),
    ("2-by-20", 0.1, 20),
    ("5", 5, 1),
    ("12", 12, 1),
    ("12-by-24", 0.5, 24),
]
LENGTH_NEIGHBOURS = (0, 1, 2)


def neighbours(mix):
    """[(pod, options)] of a mix; each has its own seed."""
    kinds = MIXES[mix]
    return [(f"{kind}-{number}", {**KINDS[kind], "seed": 100 + number}) for number, kind in enumerate(kinds)]


def work_ms(kernel_ms, kernels):
    """GPU work of a request."""
    return kernel_ms * kernels
