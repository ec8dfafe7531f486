"""What a dashboard asks of Prometheus: its variables, its queries, the rows of its tables."""

import json
import re
import urllib.parse
import urllib.request


def escaped(value):
    """A value inside a regular expression inside a string of PromQL."""
    return re.sub(r"[$^*{}\[\]+?.()|]", r"\\\\\g<0>", value)


class Prometheus:
    def __init__(self, url, start, end):
        self.url, self.start, self.end = url.rstrip("/"), start, end

    def ask(self, path, **arguments):
        """One answer; an error of Prometheus is told with the query that it refused."""
        body = urllib.parse.urlencode(arguments, doseq=True).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", body, timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{self.url} refuses {arguments}: {error.read().decode()}") from error
        except urllib.error.URLError as error:
            raise SystemExit(f"{self.url} does not answer: {error.reason}") from error

    def instant(self, query):
        found = self.ask("query", query=query, time=self.end)
        return [(one["metric"], [(float(one["value"][0]), float(one["value"][1]))]) for one in found["result"]]

    def range(self, query, step):
        start = self.start - self.start % step
        found = self.ask("query_range", query=query, start=start, end=self.end, step=step)
        return [(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in found["result"]]

    def series(self, selector):
        return self.ask("series", **{"match[]": selector}, start=self.start, end=self.end)


class Variables:
    """The variables of a dashboard with a choice for each: as asked for, else All, else the first there is."""

    def __init__(self, dashboard, prometheus, chosen, scrape):
        self.prometheus, self.scrape, self.values, self.shown = prometheus, scrape, {}, []
        for one in dashboard["templating"]["list"]:
            if one["type"] == "query":
                self.resolve(one, chosen.get(one["name"]))

    def resolve(self, one, wanted):
        options = self.options(one)
        if wanted:
            picked = [value for text, value in options if wanted in (text, value)] or [wanted]
        elif one["includeAll"]:
            picked = None
        else:
            picked = [value for _, value in options[:1]]
        if picked is None and one.get("allValue"):
            value = one["allValue"]
        else:
            several = [value for _, value in options] if picked is None else picked
            value = "|".join(map(escaped, several)) if one["multi"] else "".join(several[:1])
        self.values[one["name"]] = value
        if one["hide"] == 0:
            names = dict((value, text) for text, value in options)
            self.shown.append((one["label"], "All" if picked is None else " + ".join(names.get(v, v) for v in picked)))

    def options(self, one):
        query = self.fill(one["query"], 60)
        call, _, rest = query.partition("(")
        if call == "label_values":
            selector, _, label = rest[:-1].rpartition(",")
            return sorted(
                {(labels[label.strip()],) * 2 for labels in self.prometheus.series(selector) if label.strip() in labels}
            )
        pattern = re.compile(one["regex"].strip("/").replace("(?<", "(?P<"))
        found = set()
        for labels, points in self.prometheus.instant(rest[:-1]):
            named = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
            match = pattern.search(f"{{{named}}} {points[0][1]}")
            if match:
                found.add((match["text"], match["value"]))
        return sorted(found)

    def fill(self, query, step):
        span = self.prometheus.end - self.prometheus.start
        fixed = {
            "__rate_interval": f"{max(4 * self.scrape, step + self.scrape)}s",
            "__interval": f"{step}s",
            "__range": f"{span}s",
            "__range_s": str(span),
        }

        def value(match):
            name = match[1] or match[2]
            return str({**fixed, **self.values}.get(name, match[0]))

        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, query)


def legend(text, labels):
    """A series' name, as Grafana makes it of its labels."""
    if not text:
        return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key != "__name__") or "value"
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), text)


def answers(panel, variables, width):
    """All series of a panel: (query's letter, name, labels, points)."""
    prometheus = variables.prometheus
    points = panel.get("maxDataPoints") or max(width, 100)
    step = max(variables.scrape, round((prometheus.end - prometheus.start) / points))
    found = []
    for target in panel.get("targets", []):
        query = variables.fill(target["expr"], step)
        asked = prometheus.instant(query) if target.get("instant") else prometheus.range(query, step)
        for labels, values in asked:
            found.append((target["refId"], legend(target.get("legendFormat"), labels), labels, values))
    return found, step


def rows(panel, found):
    """A table's headings and rows, after the transformations that our dashboards use."""
    many = len(panel["targets"]) > 1
    steps = {one["id"]: one["options"] for one in panel["transformations"]}
    key = steps.get("joinByField", {}).get("byField")
    made = {}
    for at, (ref, _, labels, points) in enumerate(found):
        row = made.setdefault(labels.get(key) if key else at, {})
        row.update(labels)
        row[f"Value #{ref}" if many else "Value"] = points[-1][1]
    kept = re.compile(steps["filterFieldsByName"]["include"]["pattern"])
    order, renamed = steps["organize"]["indexByName"], steps["organize"]["renameByName"]
    names = sorted(filter(kept.search, order), key=order.get)
    there = [name for name in names if any(name in row for row in made.values())]
    headings = [renamed.get(name, name) for name in there]
    body = [[row.get(name) for name in there] for row in made.values()]
    for sort in panel["options"].get("sortBy", []):
        if sort["displayName"] in headings:
            at = headings.index(sort["displayName"])
            # What is unknown stands last.
            body.sort(key=lambda row: (row[at] is not None and row[at] == row[at], row[at] or 0), reverse=sort["desc"])
    return headings, body
