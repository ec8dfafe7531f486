"""The study's runs as rows, CSV and Markdown. Pure but for the reading of the run files."""

import csv
import json

import delays
import mixes
import runs

MEAN_LIMIT, P99_LIMIT = 0.05, 0.10
RULES = {"figure": "yes", "interval": "by its interval", None: "**no**"}


def read(folder):
    """Every run of a folder, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def mix_row(run, victim, measure):
    """What the canary says of a mix beside what one victim says: of its requests, or of their kernels' starts."""
    begin, end = (at for at in run["window"])
    if measure == "start":
        theirs, alone = runs.series(run["starts"][victim]), runs.values(run["alone"]["starts"])
    else:
        theirs, alone = runs.series(run["victims"][victim]), runs.values(run["alone"]["victims"][victim])
    canary = runs.series(run["canary"])
    outcome = delays.compare(canary, runs.values(run["idle"]), theirs, alone, begin, end)
    precise = run["name"].startswith("precise-")
    row = {
        "run": run["name"],
        "mix": run["mix"],
        "victim": victim,
        "measure": measure,
        "rate": run["rate"],
        "seconds": end - begin,
        "probes": len(canary),
        "given_up": sum(1 for probe in run["canary"] if not probe[2]),
        "missed": run["agent"]["missed"],
        "requests": len(theirs),
        "canary_idle_us": 1e6 * delays.mean(runs.values(run["idle"])),
        # With the victims alone: what they themselves make a probe wait is in what it says of a mix.
        "canary_victims_alone_us": 1e6 * delays.mean(runs.values(run["alone"]["canary"])),
        "alone_mean_us": 1e6 * delays.mean(alone),
    }
    for name, limit in (("mean", MEAN_LIMIT), ("p99", P99_LIMIT)):
        figure = outcome[name]
        row[f"canary_{name}_us"] = 1e6 * figure["canary"]
        row[f"victim_{name}_us"] = 1e6 * figure["victim"]
        row.update({f"{name}_{key}": figure[key] for key in ("ratio", "low", "high")})
        row[f"{name}_rule"] = delays.judge(figure, limit, figures_alone=precise)
    row["kept"] = None not in (row["mean_rule"], row["p99_rule"])
    row["histogram_probes"] = run["agent"]["histogram"]["probes"]
    row["histogram_mean_ratio"] = histogram_ratio(run)
    row["sum_gap"] = run["agent"]["gap"]
    return row


def compared(run):
    """(victim, measure) of each row of a run. How long who waits blocked takes to wake is the host's own, and
    changes with the neighbours' interrupts: of those, the kernel's start is compared as well."""
    for victim in run["victims"]:
        yield victim, "request"
        if victim != runs.SPINNER and run["starts"].get(victim):
            yield victim, "start"


def histogram_ratio(run):
    """Mean delay of the agent's histogram over that of the trace, in one window."""
    histogram = run["agent"]["histogram"]
    if not histogram["probes"] or not run["canary"]:
        return None
    return histogram["sum_seconds"] / histogram["probes"] / delays.mean(runs.values(run["canary"]))


def mix_rows(every, prefix):
    """The rows of the runs whose name begins so, in the order of the mixes; failed runs as they are."""
    order = [*mixes.MIXES, "models"]
    chosen = [run for name, run in every.items() if name.startswith(prefix)]
    rows = []
    for run in sorted(chosen, key=lambda run: order.index(run["mix"])):
        if run["error"]:
            rows.append({"run": run["name"], "mix": run["mix"], "error": run["error"], "kept": False})
            continue
        for victim, measure in compared(run):
            try:
                rows.append(mix_row(run, victim, measure))
            except delays.TooFew as error:
                rows.append({"run": run["name"], "mix": run["mix"], "victim": victim, "measure": measure,
                             "error": str(error), "kept": False})
    return rows


def length_rows(every):
    """Which rule tells the time of a request of so much work."""
    chosen = {
        (run["length"], run["heavy"]): run
        for name, run in every.items()
        if name.startswith("length-") and not run["error"]
    }
    rows = []
    for (name, heavy), run in sorted(chosen.items(), key=lambda item: (item[1]["work_ms"], *item[0])):
        alone = chosen.get((name, 0))
        if not heavy or not alone:
            continue
        victim = f"length-{name}"
        before, after = (delays.mean(runs.values(r["victims"][victim])) for r in (alone, run))
        p99 = [delays.quantile(runs.values(r["victims"][victim]), 0.99) for r in (alone, run)]
        said = exposed(run, victim)
        row = {
            "run": run["name"],
            "work_ms": run["work_ms"],
            "kernels": run["kernels"],
            "heavy": heavy,
            "requests": len(run["victims"][victim]),
            "alone_ms": 1000 * before,
            "beside_ms": 1000 * after,
            "alone_p99_ms": 1000 * p99[0],
            "beside_p99_ms": 1000 * p99[1],
            "canary_ms": 1000 * (delays.mean(runs.values(run["canary"])) - delays.mean(runs.values(run["idle"]))),
            "exposed_ms": None if said is None else 1000 * said,
        }
        # What the others inflicted on it, as the agent says; all that probes waited, where it does not.
        by = row["canary_ms"] if said is None else row["exposed_ms"]
        row.update(delays.which_rule(row["alone_ms"], row["beside_ms"], by, heavy))
        rows.append(row)
    return rows


def exposed(run, victim):
    """Delay a probe that the others inflicted while the victim was active, as the agent says."""
    pod = run["agent"]["pods"].get(victim)
    return pod["exposed_seconds"] / pod["exposed_probes"] if pod and pod["exposed_probes"] > 0 else None


def write_csv(path, rows):
    """All rows of one kind; the columns are those of any row, in the order of their coming."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def number(value, digits=0):
    """For a table; unknown is not zero."""
    return "unknown" if value is None else f"{value:,.{digits}f}"


def cell(row, name):
    """A ratio less 1 with its interval, in percent."""
    percent = [100 * (row[f"{name}_{key}"] - 1) for key in ("ratio", "low", "high")]
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*percent)


def named(row):
    """A tenant and what of it was measured."""
    name = row["victim"].removeprefix("short-")
    return f"{name}, its kernel's start" if row["measure"] == "start" else name


def mix_table(rows):
    """Markdown of canary against victims."""
    lines = [
        "| neighbours | tenant | probes | mean: canary / tenant, µs | off, % (99 % interval) | holds "
        "| p99: canary / tenant, µs | off, % (99 % interval) | holds |",
        "|---|---|---:|---:|---:|---|---:|---:|---|",
    ]
    for row in rows:
        words = mixes.WORDS[row["mix"]]
        if "error" in row:
            lines.append(f"| {words} | {row.get('victim', '')} | | | | **not finished**: {row['error']} | | | |")
            continue
        parts = [words, named(row), number(row["probes"])]
        for name in ("mean", "p99"):
            parts.append(f"{number(row[f'canary_{name}_us'])} / {number(row[f'victim_{name}_us'])}")
            parts += [cell(row, name), RULES[row[f"{name}_rule"]]]
        lines.append(f"| {' | '.join(parts)} |")
    return lines


def length_table(rows):
    """Markdown of the two rules."""
    lines = [
        "| work, ms | kernels | heavy | alone, ms | beside, ms | slowdown | agent: added, ms "
        "| alone + added, off | alone x (1 + heavy), off | nearer |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        said = row["canary_ms"] if row["exposed_ms"] is None else row["exposed_ms"]
        lines.append(
            f"| {row['work_ms']:g} | {row['kernels']} | {row['heavy']} | {number(row['alone_ms'], 2)} "
            f"| {number(row['beside_ms'], 2)} | {number(row['slowdown'], 2)}x | {number(said, 2)} "
            f"| {100 * row['off_by_delay']:+.0f} % | {100 * row['off_by_share']:+.0f} % | {row['rule']} |"
        )
    return lines


def histogram_line(rows):
    """How far the agent's histogram is from the trace of its own probes."""
    ratios = [row["histogram_mean_ratio"] for row in rows if row.get("histogram_mean_ratio")]
    gaps = [abs(row["sum_gap"]) for row in rows if row.get("sum_gap") is not None]
    if not ratios:
        return []
    worst = max(ratios, key=lambda ratio: abs(ratio - 1))
    line = f"Mean of the agent's histogram over that of its probes, worst run: {worst:.4f}."
    if gaps:
        line += f" Inflicted and unattributed off the histogram's sum: at most {100 * max(gaps):.3f} %."
    return ["", line]


def markdown(tables):
    """All of it, ready for RESULTS.md; tables without a row are left out."""
    lines = []
    for title, key, table in (
        ("Canary and tenant side by side", "mixes", mix_table),
        ("The same with many probes: the figures alone count", "precise", mix_table),
        ("Longer requests: which rule holds", "lengths", length_table),
    ):
        if tables[key]:
            lines += ["", f"### {title}", "", *table(tables[key])]
    lines += histogram_line(tables["mixes"] + tables["precise"])
    return "\n".join(lines).lstrip("\n") + "\n"
