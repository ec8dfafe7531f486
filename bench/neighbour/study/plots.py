"""Small SVG plots, written by hand: light, readable without colour, no script."""

import math
from xml.sax.saxutils import escape

import delays
import mixes
import runs

INK, GRID = "#222", "#ddd"
COLOURS = ("#1f6f8b", "#d9822b", "#7a5195", "#4d9221", "#b2182b", "#666666")
FONT = 'font-family="sans-serif" font-size="11"'


def text(x, y, words, anchor="start", **more):
    """One line of text."""
    rest = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}"{rest}>{escape(words)}</text>'


def line(x1, y1, x2, y2, colour=GRID):
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def svg(width, height, title, parts):
    """The whole picture on white."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    head += f'viewBox="0 0 {width} {height}" role="img" {FONT}>'
    body = "\n".join([f'<rect width="{width}" height="{height}" fill="#fff"/>', text(12, 20, title, font_weight="bold")]
                     + parts)
    return f"{head}\n<title>{escape(title)}</title>\n{body}\n</svg>\n"


def step(top):
    """A round step that makes four to eight of the way to the top."""
    unit = 1.0
    while unit * 8 < top:
        unit *= 10
    while unit * 8 / 10 >= top:
        unit /= 10
    return next((unit * part for part in (0.1, 0.2, 0.5) if unit * part * 8 >= top), unit)


def legend(x, y, names):
    """Coloured squares and names, side by side."""
    parts = []
    for colour, name in zip(COLOURS, names):
        parts += [f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>', text(x + 14, y, name)]
        x += 26 + 7 * len(name)
    return parts


def named(victim):
    """A victim in words."""
    return victim.replace("short-", "tenant, wait by ")


def tenant_words(row):
    """A victim and what of it was measured."""
    return named(row["victim"]) + (", its kernel's start" if row["measure"] == "start" else "")


def mixes_plot(rows):
    """Mean added delay of each mix: canary beside the victims, as bars."""
    rows = [row for row in rows if "error" not in row]
    groups = {}
    for row in rows:
        bars = groups.setdefault(row["mix"], {"canary": row["canary_mean_us"]})
        bars[tenant_words(row)] = row["victim_mean_us"]
    names = list(dict.fromkeys(name for bars in groups.values() for name in bars))
    top = max(value for bars in groups.values() for value in bars.values())
    left, bar, gap, width = 170, 10, 14, 780
    height = 70 + sum(bar * len(bars) + gap for bars in groups.values()) + 20
    scale = (width - left - 40) / top
    parts, at = legend(left, 42, names), 0.0
    while at <= top:
        x = left + at * scale
        parts += [line(x, 56, x, height - 30), text(x, height - 14, f"{at:,.0f}", "middle")]
        at += step(top)
    parts.append(text(width - 8, height - 2, "µs", "end"))
    y = 60
    for mix, bars in groups.items():
        parts.append(text(left - 8, y + bar * len(bars) / 2 + 4, mixes.WORDS[mix], "end"))
        for name, value in bars.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            length = max(0.0, value * scale)
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 1}" fill="{colour}"/>')
            y += bar
        y += gap
    return svg(width, height, "Mean delay that the neighbours add: canary and tenants", parts)


def cdf_plot(chosen):
    """Added delays of some runs, all quantiles: canary beside victims."""
    width, each, left, rows = 780, 170, 56, []
    for place, run in enumerate(chosen):
        curves = {"canary": shifted(run["canary"], run["idle"])}
        for victim, requests in run["victims"].items():
            curves[named(victim)] = shifted(requests, run["alone"]["victims"][victim])
        rows += small_cdf(curves, mixes.WORDS[run["mix"]], left, 72 + place * each, width - left - 30, each - 56)
        if not place:
            rows += legend(left, 42, curves)
    return svg(width, 60 + each * len(chosen), "Delay that the neighbours add, distribution", rows)


def shifted(rows, alone):
    """What was added to each, in microseconds."""
    usual = delays.quantile(runs.values(alone), 0.5)
    return [1e6 * (value - usual) for value in runs.values(rows)]


def small_cdf(curves, words, left, top, width, height):
    """One panel."""
    right = max(delays.quantile(values, 0.995) for values in curves.values())
    right = max(right, 1.0)
    parts, at = [text(left, top - 4, words)], 0.0
    while at <= right:
        x = left + at / right * width
        parts += [line(x, top, x, top + height), text(x, top + height + 14, f"{at:,.0f} µs", "middle")]
        at += step(right)
    for share in (0, 0.5, 1):
        y = top + height * (1 - share)
        parts += [line(left, y, left + width, y), text(left - 6, y + 4, f"{100 * share:.0f} %", "end")]
    for colour, values in zip(COLOURS, curves.values()):
        points = [(min(max(value, 0.0), right), share) for value, share in delays.cdf(values)]
        path = " ".join(f"{left + x / right * width:.1f},{top + height * (1 - y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return parts


def lengths_plot(rows):
    """Slowdown of requests by their work, measured, and what the two rules say."""
    width, height, left, bottom, top = 640, 340, 60, 290, 74
    works = sorted({row["work_ms"] for row in rows})
    first, last = works[0] / 1.3, works[-1] * 1.3
    most = max(max(row["slowdown"], 1 + row["heavy"]) for row in rows)
    most = min(most, 8.0) * 1.05

    def place(x, y):
        across = math.log(x / first) / math.log(last / first)
        return left + across * (width - left - 30), bottom - (min(y, most) - 1) / (most - 1) * (bottom - top)

    parts = []
    for work in works:
        x, _ = place(work, 1)
        parts += [line(x, top, x, bottom), text(x, bottom + 16, f"{work:g}", "middle")]
    parts.append(text(width / 2, bottom + 34, "work of a request, ms of GPU alone", "middle"))
    at = 1.0
    while at <= most:
        _, y = place(first, at)
        parts += [line(left, y, width - 30, y), text(left - 6, y + 4, f"{at:g}x", "end")]
        at += step(most - 1) if most > 1 else 1
    names = []
    for number, heavy in enumerate(sorted({row["heavy"] for row in rows})):
        colour = COLOURS[number]
        one = [(r["work_ms"], r) for r in rows if r["heavy"] == heavy and r["kernels"] == 1]
        names.append(f"{heavy} heavy: dots measured (small: several kernels), line by delay, dashes by share")
        points = [place(work, row["predicted_by_delay"] / row["alone_ms"]) for work, row in one]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        _, y = place(first, 1 + heavy)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 30}" y2="{y:.1f}" stroke="{colour}" '
                     'stroke-dasharray="5 4"/>')
        for row in (row for row in rows if row["heavy"] == heavy):
            x, y = place(row["work_ms"], row["slowdown"])
            shape = "4" if row["kernels"] == 1 else "2.5"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{shape}" fill="{colour}"/>')
    for number, name in enumerate(names):
        square = f'width="9" height="9" fill="{COLOURS[number]}"'
        parts += [f'<rect x="{left}" y="{30 + 14 * number}" {square}/>', text(left + 14, 38 + 14 * number, name)]
    title = "Slowdown beside heavy neighbours, by the work of a request (more than 8x at the edge)"
    return svg(width, height, title, parts)
