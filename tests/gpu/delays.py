"""Delays of requests and of probes: read, cut, compared. Pure functions, tested without a GPU.

A series is a list of (time, seconds): when a request was asked for, and what it took. Times are
seconds of the host's CLOCK_MONOTONIC.

What sharing *adds* to a request is what it took with the neighbours, less what it takes alone:

- the added mean is the mean with, less the mean alone;
- the added p99 is the p99 with, less the *median* alone. Alone a request takes nearly the same each
  time, so with neighbours its p99 is the p99 of what was added, on top of an ordinary request. The
  p99 alone would be the wrong thing to take off: the slowest request alone and the longest wait for
  a neighbour hardly ever fall on the same request.

Of the canary's probes the same, with an idle GPU for "alone".
"""

import math
import random
import struct

# How the tenant's --record writes one request: asked, done (host), start of the kernel (GPU).
REQUEST = struct.Struct("<QQQ")
NANO = 1e-9
CONFIDENCE = 0.99
RESAMPLES = 2000
BLOCK_SECONDS = 1.0


class TooFew(ValueError):
    """There is too little to compute the figure from."""


def requests(record):
    """[(asked, took, start by the GPU's clock)] in seconds, of a record; a half request is left out."""
    whole = len(record) - len(record) % REQUEST.size
    rows = REQUEST.iter_unpack(record[:whole])
    return [(asked * NANO, (done - asked) * NANO, gpu * NANO if gpu else None) for asked, done, gpu in rows]


def probes(text, gpu_uuid):
    """[(launched, delay, started)] of the canary's trace; a line under way and other GPUs' are left out."""
    rows = []
    for line in text.split("\n")[:-1]:
        fields = line.split("\t")
        if len(fields) != 4 or fields[3] not in ("true", "false", "1", "0"):
            raise ValueError(f"not a probe: {line!r}")
        if fields[0] == gpu_uuid:
            rows.append((float(fields[1]), float(fields[2]), fields[3] in ("true", "1")))
    return rows


def shift(launched, now, agent_now):
    """What to add to the trace's times for CLOCK_MONOTONIC's: they are of that clock, or of the agent's.

    Whichever of the two the newest probe is younger by, and not in the future.
    """
    newest = max(launched, default=None)
    if newest is None:
        raise TooFew("the canary's trace is empty")
    ages = {0.0: now - newest, now - agent_now: agent_now - newest}
    return min(ages, key=lambda by: abs(ages[by]))


def cut(rows, begin, end):
    """The rows whose time is in [begin, end)."""
    return [row for row in rows if begin <= row[0] < end]


def mean(values):
    """Arithmetic mean."""
    if not values:
        raise TooFew("no value to take a mean of")
    return math.fsum(values) / len(values)


def rank(count, share):
    """How many of so many values lie above their quantile (nearest rank)."""
    return count - math.ceil(share * count - 1e-9)


def quantile(values, share):
    """By nearest rank."""
    if not values:
        raise TooFew("no value to take a quantile of")
    return sorted(values)[len(values) - 1 - rank(len(values), share)]


def added(values, alone):
    """Mean and p99 of what was added; see the top of this file."""
    return {
        "mean": mean(values) - mean(alone),
        "p99": quantile(values, 0.99) - quantile(alone, 0.5),
    }


class Blocks:
    """A series cut into blocks of time, for resampling."""

    def __init__(self, series, begin, end, seconds=BLOCK_SECONDS):
        self.count = max(1, int((end - begin) / seconds))
        length = (end - begin) / self.count
        place = [min(self.count - 1, max(0, int((at - begin) / length))) for at, _ in series]
        self.sums, self.sizes = [0.0] * self.count, [0] * self.count
        for block, (_, value) in zip(place, series):
            self.sums[block] += value
            self.sizes[block] += 1
        self._falling = sorted(((value, block) for block, (_, value) in zip(place, series)), reverse=True)

    def mean(self, weights):
        """Mean, each block taken so many times."""
        size = sum(weight * size for weight, size in zip(weights, self.sizes))
        if not size:
            raise TooFew("a resample without a value")
        return sum(weight * total for weight, total in zip(weights, self.sums)) / size

    def quantile(self, weights, share):
        """Quantile, each block taken so many times."""
        above = rank(sum(weight * size for weight, size in zip(weights, self.sizes)), share)
        for value, block in self._falling:
            above -= weights[block]
            if above < 0:
                return value
        raise TooFew("a resample without a value")


def draw(count, source):
    """How often each of so many blocks is taken in one resample."""
    weights = [0] * count
    for block in source.choices(range(count), k=count):
        weights[block] += 1
    return weights


def interval(values, confidence=CONFIDENCE):
    """The middle of the values that holds so much of them."""
    values = sorted(values)
    edge = int((1 - confidence) / 2 * len(values))
    return values[edge], values[len(values) - 1 - edge]


def compare(canary, canary_alone, victim, victim_alone, begin, end, resamples=RESAMPLES, seed=1):
    """What the canary says was added against what a victim says, both of the same time.

    Mean and p99 of each and their ratio, with the ratio's 99 % interval by a block bootstrap: blocks
    of a second are drawn with replacement, the same ones for both, since both met the same neighbours
    in them. What either takes alone is held fixed: it is known far better than what is added.
    """
    ours, theirs = Blocks(canary, begin, end), Blocks(victim, begin, end)
    base = {
        "mean": (mean(canary_alone), mean(victim_alone)),
        "p99": (quantile(canary_alone, 0.5), quantile(victim_alone, 0.5)),
    }
    of = {
        "mean": lambda blocks, weights: blocks.mean(weights),
        "p99": lambda blocks, weights: blocks.quantile(weights, 0.99),
    }
    source, drawn = random.Random(seed), {"mean": [], "p99": []}
    for _ in range(resamples):
        weights = draw(ours.count, source)
        for name, values in drawn.items():
            try:
                left = of[name](ours, weights) - base[name][0]
                right = of[name](theirs, weights) - base[name][1]
            except TooFew:
                continue
            values.append(left / right if right > 0 else math.inf)
    once = [1] * ours.count
    outcome = {}
    for name, values in drawn.items():
        left, right = of[name](ours, once) - base[name][0], of[name](theirs, once) - base[name][1]
        low, high = interval(values) if values else (math.nan, math.nan)
        ratio = left / right if right > 0 else math.inf
        outcome[name] = {"canary": left, "victim": right, "ratio": ratio, "low": low, "high": high}
    return outcome


def judge(figure, limit, figures_alone=False):
    """By which rule a ratio holds: "figure" within the limit, "interval" wider than the limit and
    around 1, or None."""
    if abs(figure["ratio"] - 1) <= limit:
        return "figure"
    wider = (figure["high"] - figure["low"]) / 2 > limit
    if not figures_alone and wider and figure["low"] <= 1 <= figure["high"]:
        return "interval"
    return None


def starts(groups, spinner, own, seconds=0.5):
    """From each request's asking to its kernel's start, of tenants of one host and GPU.

    The GPU's clock is tied to the host's by the requests of a tenant that spins, in windows: its kernel's
    start plus the kernel's own length is when it is done, but for the few microseconds until it sees that.
    {name: [(time, seconds)]}; requests without a start, or in a window without such a tie, are left out.
    """
    ties = {}
    for at, took, start in groups.get(spinner, []):
        if start is not None:
            window = int(at / seconds)
            ties[window] = max(ties.get(window, -math.inf), start + own - at - took)
    return {
        name: [
            (at, start - at - ties[int(at / seconds)])
            for at, _, start in rows
            if start is not None and int(at / seconds) in ties
        ]
        for name, rows in groups.items()
    }


def cdf(values, points=200):
    """[(value, share of values up to it)], thinned to so many points."""
    values = sorted(values)
    places = sorted({round(i * (len(values) - 1) / (points - 1)) for i in range(points)}) if values else []
    return [(values[place], (place + 1) / len(values)) for place in places]


def paired(differences):
    """Mean of paired differences and its standard error (None with fewer than two)."""
    middle = mean(differences)
    if len(differences) < 2:
        return middle, None
    variance = math.fsum((value - middle) ** 2 for value in differences) / (len(differences) - 1)
    return middle, math.sqrt(variance / len(differences))


def which_rule(alone, with_neighbours, said_added, neighbours):
    """Does a delay added once predict a request's time, or a share of the GPU?

    The two predictions, how far each is off (as a ratio less 1), and the nearer one's name.
    """
    delay, share = alone + said_added, alone * (1 + neighbours)
    off = {"delay": delay / with_neighbours - 1, "share": share / with_neighbours - 1}
    return {
        "slowdown": with_neighbours / alone,
        "predicted_by_delay": delay,
        "predicted_by_share": share,
        "off_by_delay": off["delay"],
        "off_by_share": off["share"],
        "rule": min(off, key=lambda name: abs(off[name])),
    }
