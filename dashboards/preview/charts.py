"""Panels as SVG and HTML. It is not Grafana: it is as much of it as shows whether a dashboard is good."""

import math
import time
from html import escape

from format import PALETTE, color, mapped, number, step_color

LEFT, RIGHT, TOP, BOTTOM = 70, 10, 8, 22


def settings(panel, ref, name):
    """The field's settings for one series: the defaults, then what overrides name it."""
    defaults = panel["fieldConfig"]["defaults"]
    found = {f"custom.{key}": value for key, value in defaults.get("custom", {}).items()}
    found.update({key: value for key, value in defaults.items() if key != "custom"})
    for override in panel["fieldConfig"]["overrides"]:
        matcher = override["matcher"]
        if matcher["options"] == (ref if matcher["id"] == "byFrameRefID" else name):
            found.update({one["id"]: one["value"] for one in override["properties"]})
    return found


class Frame:
    """A plot's corner points, with its time axis drawn."""

    def __init__(self, width, height, start, end, left=LEFT):
        self.width, self.height, self.start, self.end, self.left = width, height, start, end, left
        self.right, self.bottom = width - RIGHT, height - BOTTOM
        self.parts = []
        ticks = 6
        for tick in range(ticks + 1):
            at = start + (end - start) * tick / ticks
            form = "%H:%M" if end - start < 2 * 86400 else "%m-%d %H:%M"
            anchor = "middle" if tick < ticks else "end"
            x = self.x(at)
            self.parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{self.bottom}" class="grid"/>')
            self.parts.append(
                f'<text x="{x:.1f}" y="{height - 6}" text-anchor="{anchor}">{time.strftime(form, time.gmtime(at))}</text>'
            )

    def x(self, at):
        return self.left + (at - self.start) / (self.end - self.start) * (self.right - self.left)

    def svg(self):
        return f'<svg width="{self.width}" height="{self.height}">{"".join(self.parts)}</svg>'


def scale(low, high, log):
    """Values to 0..1, and the ticks of the axis."""
    if log:
        low, high = math.floor(math.log10(low)), math.ceil(math.log10(high))
        high = max(high, low + 1)
        return (lambda value: (math.log10(max(value, 10.0**low)) - low) / (high - low)), [
            10.0**n for n in range(low, high + 1)
        ]
    size = (high - low) or 1
    power = 10 ** math.floor(math.log10(size / 4))
    step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= size / 4)
    first = math.ceil(low / step - 1e-9)
    return (lambda value: (value - low) / size), [step * n for n in range(first, int(high / step + 1e-9) + 1)]


def timeseries(panel, found, step, width, height, start, end, marks):
    options = panel["fieldConfig"]["defaults"]
    unit, log = options.get("unit"), options["custom"]["scaleDistribution"]["type"] == "log"
    lines, base, grays = [], {}, 0
    for at, (ref, name, _, points) in enumerate(found):
        own = settings(panel, ref, name)
        paint = own.get("color", {})
        tone = color(paint["fixedColor"]) if paint.get("mode") in ("fixed", "shades") else PALETTE[at % len(PALETTE)]
        opacity = 1.0
        if paint.get("mode") == "shades":
            opacity, grays = max(0.4, 1 - grays * 0.12), grays + 1
        stacked = own.get("custom.stacking", {}).get("mode") == "normal"
        drawn = []
        for moment, value in points:
            if math.isnan(value) or math.isinf(value):
                continue
            low = base.get((value < 0, moment), 0.0) if stacked else 0.0
            if stacked:
                base[(value < 0, moment)] = low + value
            drawn.append((moment, low, low + value))
        lines.append((name, own, tone, opacity, stacked, drawn, [value for _, value in points if value == value]))
    tops = [value for line in lines for _, _, value in line[5]]
    if not tops:
        return f'<div class="empty" style="height:{height}px">No data</div>'
    low = options.get("min", min([*tops, options["custom"].get("axisSoftMin", math.inf)]))
    high = options.get("max", max(tops))
    if log:
        positive = [value for value in tops if value > 0] or [1]
        low, high = min(positive), max(positive)
    elif low == high:
        high = low + 1
    table = panel["options"]["legend"]["displayMode"] == "table"
    listed = min(len(lines), 6)
    plot = Frame(width, height - (16 * (listed + 1) + 4 if table else 22), start, end)
    place, ticks = scale(low, high, log)
    y = lambda value: plot.bottom - min(max(place(value), -0.02), 1.02) * (plot.bottom - TOP)
    for tick in ticks:
        plot.parts.append(f'<line x1="{LEFT}" x2="{plot.right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="grid"/>')
        plot.parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick, unit)}</text>')
    for moment, tone, _ in marks:
        x = plot.x(moment)
        plot.parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{plot.bottom}" stroke="{tone}" stroke-dasharray="3 2"/>'
        )
        plot.parts.append(f'<path d="M{x - 4:.1f} {plot.bottom + 6} h8 l-4 -6z" fill="{tone}"/>')
    for name, own, tone, opacity, stacked, drawn, _ in lines:
        for run in runs(drawn, step):
            dots = own.get("custom.drawStyle") == "points" or len(run) == 1
            upper = [f"{plot.x(moment):.1f},{y(value):.1f}" for moment, _, value in run]
            fill = own.get("custom.fillOpacity", 0) / 100
            if fill and not dots:
                floor = lambda value: y(value) if not log else plot.bottom
                lower = [f"{plot.x(moment):.1f},{floor(under):.1f}" for moment, under, _ in reversed(run)]
                plot.parts.append(
                    f'<polygon points="{" ".join(upper + lower)}" fill="{tone}" opacity="{fill * opacity:.2f}"/>'
                )
            if dots:
                plot.parts += [
                    f'<circle cx="{dot.split(",")[0]}" cy="{dot.split(",")[1]}" r="1.5" fill="{tone}"/>'
                    for dot in upper
                ]
            else:
                dash = ' stroke-dasharray="8 5"' if own.get("custom.lineStyle", {}).get("fill") == "dash" else ""
                plot.parts.append(
                    f'<polyline points="{" ".join(upper)}" fill="none" stroke="{tone}" opacity="{opacity:.2f}" stroke-width="{own.get("custom.lineWidth", 1) + 0.3}"{dash}/>'
                )
    key = lambda line: f'<i style="background:{line[2]};opacity:{line[3]:.2f}"></i>{escape(line[0])}'
    if table:
        decimals = options.get("decimals")
        entries = "".join(
            f"<tr><td>{key(line)}</td><td>{number(line[6][-1] if line[6] else None, unit, decimals)}</td><td>{number(max(line[6], default=None), unit, decimals)}</td></tr>"
            for line in sorted(lines, key=lambda line: -max(line[6], default=-math.inf))[:listed]
        )
        more = f" and {len(lines) - listed} more" if len(lines) > listed else ""
        return f'{plot.svg()}<table class="key"><tr><th>Name{more}</th><th>Last</th><th>Max</th></tr>{entries}</table>'
    return f'{plot.svg()}<div class="key">{" ".join(map(key, lines))}</div>'


def runs(points, step):
    """Points in stretches without a gap."""
    found = []
    for point in points:
        if found and point[0] - found[-1][-1][0] <= step * 1.5:
            found[-1].append(point)
        else:
            found.append([point])
    return found


def timeline(panel, found, step, width, height, start, end):
    mappings = panel["fieldConfig"]["defaults"]["mappings"]
    if not found:
        return f'<div class="empty" style="height:{height}px">No data</div>'
    shown = found[: panel["options"]["perPage"]]
    plot = Frame(width, height - 22, start, end, left=230)
    tall = (plot.bottom - TOP) / len(shown)
    for at, (_, name, _, points) in enumerate(shown):
        top = TOP + at * tall
        plot.parts.append(f'<text x="224" y="{top + tall / 2 + 4:.1f}" text-anchor="end">{escape(name[-36:])}</text>')
        stretches = []
        for moment, value in points:
            if stretches and stretches[-1][2] == value and moment - stretches[-1][1] <= step * 1.5:
                stretches[-1][1] = moment
            else:
                stretches.append([moment, moment, value])
        for begin, last, value in stretches:
            word = mapped(value, mappings) or {"text": number(value, "none"), "color": "#888"}
            x, right = plot.x(begin), min(plot.x(last + step), plot.right)
            plot.parts.append(
                f'<rect x="{x:.1f}" y="{top + tall * 0.08:.1f}" width="{max(right - x, 1):.1f}" height="{tall * 0.84:.1f}" fill="{color(word["color"])}" opacity="0.85"/>'
            )
            if right - x > 7 * len(word["text"]) and tall > 12:
                plot.parts.append(
                    f'<text x="{(x + right) / 2:.1f}" y="{top + tall / 2 + 4:.1f}" text-anchor="middle" class="on">{escape(word["text"])}</text>'
                )
    words = [word for one in mappings for word in one["options"].values() if word["text"]]
    key = " ".join(f'<i style="background:{color(word["color"])}"></i>{escape(word["text"])}' for word in words)
    return f'{plot.svg()}<div class="key">{key}</div>'


def heatmap(panel, found, step, width, height, start, end):
    edges = sorted(((float(labels["le"]), dict(points)) for _, _, labels, points in found), key=lambda one: one[0])
    cells, before = [], {}
    for edge, counts in edges:
        cells.append(
            (edge, {at: max(value - before.get(at, 0.0), 0.0) for at, value in counts.items() if value == value})
        )
        before = counts
    used = [at for at, (_, counts) in enumerate(cells) if any(value > 0 for value in counts.values())]
    if not used:
        return f'<div class="empty" style="height:{height}px">No data</div>'
    cells = cells[max(used[0] - 1, 0) : used[-1] + 2]
    most = max(value for _, counts in cells for value in counts.values())
    plot = Frame(width, height, start, end)
    tall = (plot.bottom - TOP) / len(cells)
    for at, (edge, counts) in enumerate(cells):
        top = plot.bottom - (at + 1) * tall
        plot.parts.append(
            f'<text x="{LEFT - 6}" y="{top + 5:.1f}" text-anchor="end">{"+Inf" if math.isinf(edge) else number(edge, "s")}</text>'
        )
        for moment, value in counts.items():
            if value > 0:
                x = plot.x(moment - step)
                strength = 0.08 + 0.92 * math.sqrt(value / most)
                plot.parts.append(
                    f'<rect x="{max(x, LEFT):.1f}" y="{top + 0.5:.1f}" width="{max(plot.x(moment) - x - 0.5, 0.5):.1f}" height="{tall - 1:.1f}" fill="#ff9830" opacity="{strength:.2f}"/>'
                )
    return plot.svg()


def stat(panel, found, height):
    options = panel["fieldConfig"]["defaults"]
    if not found:
        return f'<div class="stat" style="height:{height}px"><b class="unknown">{escape(options["noValue"])}</b></div>'
    values = []
    for _, name, _, points in found:
        value = next((value for _, value in reversed(points) if value == value), None)
        word = mapped(value, options.get("mappings")) or {}
        text = (
            name
            if panel["options"]["textMode"] == "name"
            else word.get("text") or number(value, options.get("unit"), options.get("decimals"))
        )
        tone = color(word["color"]) if word else step_color(value, options.get("thresholds"))
        label = f"<small>{escape(name)}</small>" if len(found) > 1 and panel["options"]["textMode"] != "name" else ""
        size = 28 if len(text) < 9 else 18
        values.append(f'<span>{label}<b style="color:{tone};font-size:{size}px">{escape(text)}</b></span>')
    return f'<div class="stat" style="height:{height}px">{"".join(values)}</div>'


def bars(panel, found, height):
    options = panel["fieldConfig"]["defaults"]
    if not found:
        return f'<div class="stat" style="height:{height}px"><b class="unknown">{escape(options["noValue"])}</b></div>'
    longest = options.get("max") or max(points[-1][1] for *_, points in found) or 1
    fit = max(int(height / 24), 1)
    body = ""
    for _, name, _, points in found[:fit]:
        value = points[-1][1]
        tone = step_color(value, options.get("thresholds"))
        part = min(max(value / longest, 0), 1) * 100
        body += f'<tr><td>{escape(name)}</td><td class="bar"><div style="width:{part:.1f}%;background:{tone}"></div></td><td style="color:{tone}">{number(value, options.get("unit"))}</td></tr>'
    more = f"<tr><td>and {len(found) - fit} more</td></tr>" if len(found) > fit else ""
    return f'<table class="bars">{body}{more}</table>'


def table(panel, headings, body, height):
    if not body:
        return f'<div class="empty" style="height:{height}px">No data</div>'
    fit = max(int(height / 23) - 1, 1)
    rows = ""
    for row in body[:fit]:
        cells = ""
        for heading, value in zip(headings, row):
            own = settings(panel, None, heading)
            if isinstance(value, float):
                word = mapped(value, own.get("mappings")) or {}
                text = word.get("text") or number(value, own.get("unit"), own.get("decimals"))
                tone = color(word["color"]) if word else step_color(value, own.get("thresholds"))
                cells += f'<td class="right" style="color:{tone}">{escape(text)}</td>'
            else:
                word = mapped(value, own.get("mappings")) or {}
                cells += f'<td style="color:{color(word.get("color", "text"))}">{escape(value or "")}</td>'
        rows += f"<tr>{cells}</tr>"
    heads = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    more = f'<div class="more">{len(body) - fit} more rows by scrolling</div>' if len(body) > fit else ""
    return f'<table class="rows"><tr>{heads}</tr>{rows}</table>{more}'
