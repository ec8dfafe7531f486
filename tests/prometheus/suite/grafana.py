"""Dashboards as Grafana reads them: variables filled in, queries asked, for one range of time."""

import dataclasses
import json
import re

from server import DASHBOARDS

ALL = "$__all"
VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\[\[(\w+)(?::(\w+))?\]\]|\$(\w+)")
LABEL_VALUES = re.compile(r"^label_values\((?:(.+),\s*)?([a-zA-Z_][a-zA-Z0-9_]*)\s*\)$", re.S)
QUERY_RESULT = re.compile(r"^query_result\((.+)\)$", re.S)
METRICS = re.compile(r"^metrics\((.+)\)$", re.S)
LABEL_NAMES = re.compile(r"^label_names\(\s*\)$")
# Pixels of a panel, so points of a line.
POINTS = 1000


@dataclasses.dataclass(frozen=True)
class Range:
    """A range of time, and how often what is shown there was scraped."""

    name: str
    start: float
    end: float
    scrape: float

    @property
    def seconds(self):
        return self.end - self.start


def duration(seconds):
    """As Grafana writes it: in whole seconds, or milliseconds below."""
    return f"{seconds:.0f}s" if seconds >= 1 else f"{seconds * 1000:.0f}ms"


def parse_duration(text):
    number, unit = re.fullmatch(r">?(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", text.strip()).groups()
    return float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]


def plain(value):
    """A value that stands in a string of PromQL."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def in_regex(value):
    """A value that stands in a regular expression in a string of PromQL."""
    value = value.replace("\\", "\\\\\\\\").replace('"', '\\\\\\"')
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value)


def formatted(values, kind):
    """A variable whose format the query names."""
    if kind == "regex":
        escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value) for value in values]
        return escaped[0] if len(escaped) == 1 else "(" + "|".join(escaped) + ")"
    if kind == "pipe":
        return "|".join(values)
    if kind == "csv":
        return ",".join(values)
    if kind == "raw":
        return values[0] if len(values) == 1 else "{" + ",".join(values) + "}"
    if kind == "doublequote":
        return ",".join('"' + value.replace('"', '\\"') + '"' for value in values)
    raise ValueError(f"a format that the tests do not know: {kind}")


class Variable:
    """One entry of templating.list."""

    def __init__(self, raw):
        self.raw, self.name, self.kind = raw, raw["name"], raw["type"]
        self.multi, self.include_all = bool(raw.get("multi")), bool(raw.get("includeAll"))
        query = raw.get("query") or ""
        self.query = query.get("query", "") if isinstance(query, dict) else query
        self.label = f"variable {self.name}"

    def current(self, options):
        """What Grafana chooses where nobody has chosen."""
        chosen = (self.raw.get("current") or {}).get("value")
        chosen = chosen if isinstance(chosen, list) else [chosen]
        if self.kind in ("constant", "textbox"):
            return [self.query]
        if ALL in chosen and self.include_all or self.include_all and not any(chosen):
            return [ALL]
        kept = [value for value in chosen if value in options]
        return kept or options[:1]

    def text(self, chosen, options, kind):
        """What stands for it in a query."""
        values = chosen
        if ALL in chosen:
            if self.raw.get("allValue"):
                return self.raw["allValue"]
            values = options
        if kind:
            return formatted(values, kind)
        if not values:
            return ""
        if not self.multi and not self.include_all:
            return plain(values[0])
        escaped = [in_regex(value) for value in values]
        return escaped[0] if len(escaped) == 1 else "(" + "|".join(escaped) + ")"


@dataclasses.dataclass
class Target:
    """One query of a panel."""

    panel: str
    kind: str
    expression: str
    instant: bool
    minimum: float
    points: float
    is_annotation: bool = False


class Dashboard:
    """One file."""

    def __init__(self, path):
        raw = json.loads(path.read_text())
        self.raw, self.path, self.uid, self.title = raw, path, raw["uid"], raw["title"]
        self.variables = [Variable(one) for one in raw.get("templating", {}).get("list", [])]
        self.targets = [target for panel in flat(raw.get("panels", [])) for target in targets_of(panel)]
        for one in raw.get("annotations", {}).get("list", []):
            expression = one.get("expr") or (one.get("target") or {}).get("expr")
            if expression:
                self.targets.append(Target(f"annotation {one['name']}", "annotation", expression, False, 0, POINTS, True))

    def choose(self, prometheus, span, picks=()):
        """Asks every variable's query in turn, and chooses: `picks` where the variable has such an
        option, or else what Grafana would. Gives the choices and the options, by name."""
        picks, choices, options = dict(picks), {}, {}
        for variable in self.variables:
            options[variable.name] = found = self.options(prometheus, variable, span, choices, options)
            wanted = picks.get(variable.name)
            if wanted is not None:
                wanted = wanted(found) if callable(wanted) else wanted
                wanted = [wanted] if isinstance(wanted, str) else list(wanted)
                missing = [value for value in wanted if value not in found and value != ALL]
                if missing:
                    raise LookupError(f"{self.uid}: {variable.name} has no option {missing}, only {found[:20]}")
                choices[variable.name] = wanted
            else:
                choices[variable.name] = variable.current(found)
        return choices, options

    def options(self, prometheus, variable, span, choices, options):
        """What can be chosen."""
        if variable.kind == "custom":
            return [part.split(" : ")[-1].strip() for part in variable.query.split(",")]
        if variable.kind == "interval":
            return [part.strip() for part in variable.query.split(",")]
        if variable.kind != "query":
            return [variable.query]
        query = self.fill(variable.query, span, span.scrape, choices, options).strip()
        bounds = [("start", f"{span.start:.3f}"), ("end", f"{span.end:.3f}")]
        if found := LABEL_VALUES.match(query):
            selector, label = found.groups()
            found = prometheus.get(f"label/{label}/values", bounds + ([("match[]", selector)] if selector else []))
        elif found := QUERY_RESULT.match(query):
            found = [series(metric, value) for metric, value in prometheus.instant(found[1], span.end)]
        elif found := METRICS.match(query):
            found = [name for name in prometheus.get("label/__name__/values", bounds) if re.search(found[1], name)]
        elif LABEL_NAMES.match(query):
            found = prometheus.get("labels", bounds)
        else:
            raise ValueError(f"{self.uid}: a variable query that Grafana does not know: {query}")
        return extracted(found, variable.raw.get("regex"))

    def fill(self, text, span, step, choices, options):
        """A query with every variable filled in."""
        variables = {variable.name: variable for variable in self.variables}
        rate = max(step + span.scrape, 4 * span.scrape)
        built_in = {
            "__rate_interval": duration(rate), "__interval": duration(step), "__interval_ms": f"{step * 1000:.0f}",
            "__range": duration(span.seconds), "__range_s": f"{span.seconds:.0f}", "__range_ms": f"{span.seconds * 1000:.0f}",
            "__from": f"{span.start * 1000:.0f}", "__to": f"{span.end * 1000:.0f}",
            "__rate_interval_ms": f"{rate * 1000:.0f}",
        }

        def value(match):
            name, kind = match[1] or match[3] or match[5], match[2] or match[4]
            if name in built_in:
                return built_in[name]
            if name not in variables or name not in choices:
                raise ValueError(f"{self.uid}: ${name} is no variable that is known there: {text}")
            return variables[name].text(choices[name], options[name], kind)

        return VARIABLE.sub(value, text)

    def ask(self, prometheus, target, span, choices, options):
        """The answer of one query: series with their points."""
        step = max(span.seconds / target.points, span.scrape, target.minimum)
        step = nice(step)
        query = self.fill(target.expression, span, step, choices, options)
        if target.instant:
            return query, [(metric, [(span.end, value)]) for metric, value in prometheus.instant(query, span.end)]
        # Grafana begins at a multiple of the step.
        start = span.start - span.start % step
        return query, prometheus.range(query, start, span.end, step)


def nice(step):
    """The step rounded up as Grafana does, roughly: whole seconds."""
    for round_step in (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200):
        if step <= round_step:
            return round_step
    return 86400


def flat(panels):
    """Every panel, those of folded rows too."""
    for panel in panels:
        if panel.get("type") == "row":
            yield from flat(panel.get("panels", []))
        else:
            yield panel


def targets_of(panel):
    title = panel.get("title") or f"panel {panel.get('id')}"
    for target in panel.get("targets", []):
        if target.get("hide") or not target.get("expr"):
            continue
        minimum = target.get("interval") or panel.get("interval")
        yield Target(title, panel.get("type", ""), target["expr"], bool(target.get("instant")) and not target.get("range"),
                     parse_duration(minimum) if minimum else 0.0, panel.get("maxDataPoints") or POINTS)


def series(metric, value):
    """A series of query_result, as Grafana writes it."""
    metric = dict(metric)
    name = metric.pop("__name__", "")
    labels = ",".join(f'{key}="{text}"' for key, text in metric.items())
    return f"{name}{{{labels}}} {value:g} 0"


def extracted(values, pattern):
    """The part of each value that the variable's regex takes; each once, in order."""
    if pattern:
        body, flags = re.fullmatch(r"/(.*)/([a-z]*)", pattern, re.S).groups() if pattern.startswith("/") else (pattern, "")
        compiled = re.compile(re.sub(r"\(\?<(\w+)>", r"(?P<\1>", body), re.I if "i" in flags else 0)
        matches = [found for value in values if (found := compiled.search(value))]
        values = [found.groupdict().get("value") or next((part for part in found.groups() if part is not None), found[0])
                  for found in matches]
    return list(dict.fromkeys(values))


def dashboards():
    """Every dashboard that is there."""
    return [Dashboard(path) for path in sorted(DASHBOARDS.glob("*.json"))]
