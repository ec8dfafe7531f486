"""Pure functions of the acceptance run: parse what was read, compare it, write it down.

No I/O but the text that is handed in: test_accept.py runs all of it without a GPU.
"""

import json
import math
import re

MIB = 1 << 20
# The driver's ring of utilization samples: one each 200 ms, naming one process.
SAMPLES_A_SECOND = 5.0

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)?$")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPE = {"n": "\n", '"': '"', "\\": "\\"}


class Malformed(ValueError):
    """The text is not of the form it should have."""


def parse_metrics(text):
    """Prometheus text 0.0.4 as {name: [(labels, value)]}."""
    series = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = _SAMPLE.match(line)
        if not match:
            raise Malformed(f"not a sample: {line!r}")
        name, labels, value = match.groups()
        series.setdefault(name, []).append((_labels(labels or "", line), float(value)))
    return series


def _labels(text, line):
    labels, place = {}, 0
    while text[place:].strip():
        match = _LABEL.match(text, place)
        if not match:
            raise Malformed(f"labels not understood: {line!r}")
        labels[match[1]] = re.sub(r"\\(.)", lambda m: _ESCAPE.get(m[1], m[0]), match[2])
        place = match.end()
    return labels


def pick(series, name, **labels):
    """Sum of a metric's series that carry these labels; None where there is none."""
    values = [
        value
        for have, value in series.get(name, [])
        if all(have.get(key) == wanted for key, wanted in labels.items())
    ]
    return sum(values) if values else None


def value_of(reading):
    """The value of a Reading in JSON, {"value": x}; None where it is unknown."""
    return reading.get("value") if isinstance(reading, dict) else None


def json_lines(text):
    """Whole lines of a report; a line still being written is left out."""
    return [json.loads(line) for line in text.split("\n")[:-1] if line.strip()]


def busy_points(lines):
    """[(unix, cumulative busy seconds)] of a tenant's report, from the load's beginning."""
    totals = [line for line in lines if line["kind"] in ("interim", "final")]
    if not totals:
        return []
    return [(totals[0]["started_unix"], 0.0)] + [(t["unix"], t["busy_seconds"]) for t in totals]


def interpolate(points, at):
    """Value at a time between the points; beyond them, the nearest one's."""
    if not points:
        raise Malformed("a tenant reported no busy time: see its log")
    if at <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in zip(points, points[1:]):
        if at <= right:
            return low + (high - low) * (at - left) / (right - left) if right > left else high
    return points[-1][1]


def standard_error(share, samples):
    """Of a share that was estimated from so many samples with one winner each."""
    share = min(max(share, 0.0), 1.0)
    return math.sqrt(share * (1.0 - share) / samples) if samples > 0 else math.inf


def share_limit(share, samples):
    """Two points or three standard errors, whichever is larger."""
    return max(0.02, 3.0 * standard_error(share, samples))


def balance(gpu):
    """Does a device of a snapshot add up: rows + named remainders + unexplained = used?

    A window is whole where `unexplained` is known: then it must be exact.
    """
    memory = value_of(gpu["memory_bytes"])
    unexplained = value_of(gpu["unexplained_bytes"])
    remainders = value_of(gpu["unattributed_bytes"])
    rows = [value_of(row["memory_bytes"]) for row in gpu["containers"] if row.get("present", True)]
    processes = len(gpu["processes"])
    outcome = {
        "whole": None not in (memory, unexplained, remainders),
        "processes": processes,
        "limit_bytes": (16 + 8 * processes) * MIB,
        "unexplained_bytes": unexplained,
    }
    if outcome["whole"]:
        held = sum(row for row in rows if row is not None)
        outcome["rows_unknown"] = rows.count(None)
        outcome["difference_bytes"] = memory["used"] - held - sum(remainders.values()) - unexplained
    return outcome


def find_row(gpu, pod):
    """The row of a pod's container in a snapshot's device, or None."""
    return next((row for row in gpu["containers"] if row["pod"] == pod), None)


def row_is_live(gpu, pod):
    """Does the device still show a gauge of this pod?"""
    row = find_row(gpu, pod)
    return row is not None and row["present"] and value_of(row["memory_bytes"]) is not None


def cpu_seconds_of_stat(stat, ticks_a_second):
    """User and system time of /proc/PID/stat; the name in it may hold blanks and brackets."""
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / ticks_a_second


def parent_of_stat(stat):
    """The parent's PID of /proc/PID/stat."""
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def status_bytes(status, field):
    """A field of /proc/PID/status or smaps_rollup in bytes; None where it is not there."""
    match = re.search(rf"^{re.escape(field)}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def next_gap(kernel_ms, gap_ms, share, want):
    """The rest between requests of one kernel that would have given the wanted share of time."""
    if share <= 0:
        return gap_ms
    took = kernel_ms / share - gap_ms
    return round(max(0.0, kernel_ms / want - took), 4)


def pairs(gpu):
    """Who waited because of whom, with names."""
    pods = [row["pod"] for row in gpu["containers"]]
    return [
        {**pair, "victim": pods[pair["victim"]], "aggressor": pods[pair["aggressor"]]}
        for pair in gpu["canary"]["pairs"]
    ]


def went_down(rows):
    """How often a counter was lower than in the moment before: of pods' GPU time, probes and faults."""
    count = 0
    for before, after in zip(rows, rows[1:]):
        counters = [(before[name], after[name]) for name in ("probes", "xid_31")]
        counters += [(value, after["gpu_seconds"].get(pod)) for pod, value in before["gpu_seconds"].items()]
        count += sum(1 for old, new in counters if None not in (old, new) and new < old)
    return count


class Limits:
    """What a check holds its figures against. A figure that is unknown breaks its limit."""

    def __init__(self):
        self.rows = []

    def at_most(self, name, value, limit, unit=""):
        """Records a figure that must not be above the limit."""
        self._add(name, value, f"<= {_short(limit)}", unit, value is not None and value <= limit)

    def at_least(self, name, value, limit, unit=""):
        """Records a figure that must not be below the limit."""
        self._add(name, value, f">= {_short(limit)}", unit, value is not None and value >= limit)

    def _add(self, name, value, limit, unit, kept):
        self.rows.append(
            {"name": name, "value": value, "limit": limit, "unit": unit, "kept": bool(kept)}
        )

    def all_kept(self):
        """True where there are limits and none is broken."""
        return bool(self.rows) and all(row["kept"] for row in self.rows)


def _short(value):
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    return str(value)


def section(outcome):
    """One check as lines of Markdown: a table of what was held against what."""
    word = "passed" if outcome["passed"] else "**failed**"
    lines = ["", f"## {outcome['check']}: {word} ({outcome['seconds']:.0f} s)", ""]
    if outcome.get("error"):
        lines += ["Not finished:", "", "```", outcome["error"].strip(), "```", ""]
    lines += [f"- {note}" for note in (outcome.get("figures") or {}).get("notes", [])]
    if outcome["limits"]:
        lines += ["", "| figure | value | limit | |", "|---|---|---|---|"]
    for row in outcome["limits"]:
        unit = f" {row['unit']}" if row["unit"] else ""
        kept = "ok" if row["kept"] else "**broken**"
        name = row["name"].replace("|", "\\|")
        lines.append(f"| {name} | {_short(row['value'])}{unit} | {row['limit']}{unit} | {kept} |")
    return lines


def markdown(environment, outcomes):
    """The whole run as Markdown: where it was, then each check."""
    lines = ["# Acceptance on a GPU", ""]
    lines += [f"- {key}: {value}" for key, value in environment.items()]
    for outcome in outcomes:
        lines += section(outcome)
    return "\n".join(lines) + "\n"
