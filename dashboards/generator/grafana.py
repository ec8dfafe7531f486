"""Grafana's JSON: the parts that every dashboard here is put together from.

A query is written with `@` where the target's matchers belong: `slicewatch_gpu_up{@}`.
"""

TAG = "slicewatch"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
TARGET = 'cluster=~"$cluster", job=~"$job", instance=~"$instance"'
WIDTH = 24


def expression(query):
    """A query on one line, with the target's matchers for each @."""
    return " ".join(query.split()).replace("@", TARGET)


# Queries


def query(text, legend="", **more):
    """A query over the range of time."""
    return {"expr": expression(text), "legendFormat": legend, "range": True, **more}


def now(text, legend="", **more):
    """A query at the end of the range of time."""
    return {"expr": expression(text), "legendFormat": legend, "range": False, "instant": True, **more}


def row_of(text):
    """A query at the end of the range of time whose series become rows of a table."""
    return now(text, format="table")


# Fields


def override(name, *properties):
    """Properties of the fields whose name matches a regular expression."""
    return {
        "matcher": {"id": "byRegexp", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }


def of_query(ref, *properties):
    """Properties of all fields of one query."""
    return {
        "matcher": {"id": "byFrameRefID", "options": ref},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }


def column(name, unit=None, *more):
    """A column of a table, by its name."""
    properties = ([("unit", unit)] if unit else []) + list(more)
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }


def fixed(color):
    return ("color", {"mode": "fixed", "fixedColor": color})


def line(ref, color, dash=True, width=1):
    """One query as a line over what is stacked under it."""
    style = {"fill": "dash", "dash": [10, 6]} if dash else {"fill": "solid"}
    return of_query(
        ref,
        ("custom.stacking", {"mode": "none", "group": "A"}),
        ("custom.fillOpacity", 0),
        ("custom.lineWidth", width),
        ("custom.lineStyle", style),
        fixed(color),
    )


def thresholds(*steps):
    """Colours from a value on; the first has no value."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in steps]}


def words(*entries):
    """Values as words with a colour: (value, text, colour)."""
    options = {
        str(value): {"text": text, "color": color, "index": index} for index, (value, text, color) in enumerate(entries)
    }
    return [{"type": "value", "options": options}]


def link(title, uid, **variables):
    """A link from a value to another dashboard, with the data source and range of time kept."""
    keep = "${datasource:queryparam}&${cluster:queryparam}&${job:queryparam}&${__url_time_range}"
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return {"title": title, "url": f"/d/{uid}?{keep}{chosen}", "targetBlank": False}


# Panels: each takes its title, its description, its queries and its width; `layout` gives the place.


def panel(kind, title, description, targets, width, height, defaults, options, overrides=(), **more):
    refs = "ABCDEFGHIJKLMNOP"
    return {
        "type": kind,
        "title": title,
        "description": " ".join(description.split()),
        "datasource": DATASOURCE,
        "targets": [{"refId": refs[at], "datasource": DATASOURCE, **target} for at, target in enumerate(targets)],
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "gridPos": {"w": width, "h": height},
        **more,
    }


def stat(
    title,
    description,
    targets,
    unit,
    steps=((None, "text"),),
    width=4,
    height=4,
    mappings=None,
    empty="no data",
    **more,
):
    """One figure. `empty` is what stands there when nothing is known: it never reads as good news."""
    defaults = {
        "unit": unit,
        "noValue": empty,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(*steps),
        "mappings": mappings or [],
    }
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": more.pop("text", "auto"),
    }
    defaults.update(more)
    return panel("stat", title, description, targets, width, height, defaults, options)


def series(
    title, description, targets, unit, width=12, height=9, stack=False, overrides=(), log=False, interval=None, **more
):
    """Lines over time; a gap is left where nothing is known. `interval` is the least step, as of what a rule records."""
    custom = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 30 if stack else 5,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
    }
    if stack:
        custom["axisSoftMin"] = 0
    defaults = {"unit": unit, "color": {"mode": "palette-classic"}, "custom": custom, **more}
    legend = {
        "displayMode": "table",
        "placement": "bottom",
        "showLegend": True,
        "calcs": ["lastNotNull", "max"],
        "sortBy": "Max",
        "sortDesc": True,
    }
    options = {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    least = {"interval": interval} if interval else {}
    return panel("timeseries", title, description, targets, width, height, defaults, options, overrides, **least)


def timeline(title, description, targets, mappings, width=24, height=8):
    """States over time, each in the colour of its mapping."""
    defaults = {
        "unit": "none",
        "color": {"mode": "fixed", "fixedColor": "#808080"},
        "mappings": mappings,
        "custom": {"fillOpacity": 80, "lineWidth": 0},
    }
    options = {
        "alignValue": "center",
        "mergeValues": True,
        "rowHeight": 0.85,
        "showValue": "auto",
        "perPage": 20,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel("state-timeline", title, description, targets, width, height, defaults, options, maxDataPoints=240)


def heatmap(title, description, targets, unit, width=12, height=9):
    """Counts by bucket and time."""
    defaults = {"custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}}}
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "steps": 64,
            "exponent": 0.5,
            "scale": "exponential",
            "reverse": False,
            "fill": "dark-orange",
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    return panel("heatmap", title, description, targets, width, height, defaults, options, maxDataPoints=180)


def bars(title, description, targets, unit, steps, width=12, height=9, maximum=None, empty="no data"):
    """One bar a series, the longest first where the query sorts."""
    defaults = {
        "unit": unit,
        "min": 0,
        "color": {"mode": "thresholds"},
        "thresholds": thresholds(*steps),
        "noValue": empty,
    }
    if maximum is not None:
        defaults["max"] = maximum
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "minVizHeight": 12,
        "minVizWidth": 8,
        "maxVizHeight": 24,
        "showUnfilled": True,
        "namePlacement": "auto",
        "sizing": "auto",
        "valueMode": "color",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel("bargauge", title, description, targets, width, height, defaults, options)


def table(title, description, targets, columns, width=24, height=9, join=None, sort=None, overrides=(), unit="none"):
    """Rows of instant queries, joined by one label where there are several.

    `columns` maps a field's name to the heading; what it does not name is left out.
    """
    steps = [{"id": "joinByField", "options": {"byField": join, "mode": "outer"}}] if join else []
    steps.append({"id": "filterFieldsByName", "options": {"include": {"pattern": f"^({'|'.join(columns)})$"}}})
    order = {name: at for at, name in enumerate(columns)}
    renamed = {name: heading for name, heading in columns.items() if name != heading}
    steps.append({"id": "organize", "options": {"excludeByName": {}, "indexByName": order, "renameByName": renamed}})
    defaults = {
        "unit": unit,
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False},
    }
    options = {"cellHeight": "sm", "showHeader": True, "sortBy": [{"displayName": sort, "desc": True}] if sort else []}
    return panel(
        "table", title, description, targets, width, height, defaults, options, overrides, transformations=steps
    )


def colored(*steps):
    """Properties of a column whose text takes the colour of its value."""
    return [
        ("custom.cellOptions", {"type": "color-text"}),
        ("thresholds", thresholds(*steps)),
        ("color", {"mode": "thresholds"}),
    ]


def layout(*sections):
    """Places panels in reading order: (heading, panels), a heading of None for none."""
    placed, number, y = [], 0, 0

    def place(one, x, width, height):
        nonlocal number
        number += 1
        at = {"x": x, "y": y, "w": width, "h": height}
        return {"id": number, **{key: value for key, value in one.items() if key != "gridPos"}, "gridPos": at}

    for heading, panels in sections:
        if heading:
            placed.append(place({"type": "row", "title": heading, "collapsed": False, "panels": []}, 0, WIDTH, 1))
            y += 1
        x = height = 0
        for one in panels:
            size = one["gridPos"]
            if x + size["w"] > WIDTH:
                x, y, height = 0, y + height, 0
            placed.append(place(one, x, size["w"], size["h"]))
            x, height = x + size["w"], max(height, size["h"])
        y += height
    return placed


# Variables and annotations


def variable(name, label, text, multi=False, everything=None, regex="", hide=0):
    """A variable that is asked of Prometheus; `everything` is what All means, and empty all its values."""
    made = {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": expression(text),
        "query": expression(text),
        "regex": regex,
        "refresh": 2,
        "sort": 1,
        "hide": hide,
        "multi": multi,
        "includeAll": everything is not None,
        "skipUrlSync": False,
        "options": [],
        "current": {},
    }
    if everything:
        made["allValue"] = everything
    if everything is not None:
        made["current"] = {"selected": True, "text": "All", "value": "$__all"}
    return made


def common_variables():
    """What every dashboard has: whose series. A cluster label need not be there, so All matches none too."""
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "skipUrlSync": False,
        "options": [],
        "current": {},
    }
    known = "slicewatch_build_info"
    return [
        source,
        variable("cluster", "Cluster", f"label_values({known}, cluster)", multi=True, everything=".*", hide=2),
        variable("job", "Job", f'label_values({known}{{cluster=~"$cluster"}}, job)', multi=True, everything=".+"),
        variable(
            "instance",
            "Instance",
            f'label_values({known}{{cluster=~"$cluster", job=~"$job"}}, instance)',
            multi=True,
            everything=".+",
        ),
    ]


def annotation(name, color, text, title, body, shown=True):
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": shown,
        "hide": False,
        "iconColor": color,
        "expr": expression(text),
        "titleFormat": title,
        "textFormat": body,
    }


def dashboard(name, title, description, sections, variables=(), annotations=(), since="now-3h"):
    """A whole dashboard, of the form that Grafana is provisioned with."""
    own = {
        "name": "Annotations & Alerts",
        "type": "dashboard",
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
    }
    links = {
        "title": "slicewatch",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }
    return {
        "id": None,
        "uid": f"slicewatch-{name}",
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "timepicker": {},
        "timezone": "",
        "fiscalYearStartMonth": 0,
        "weekStart": "",
        "links": [links],
        "annotations": {"list": [own, *annotations]},
        "templating": {"list": [*common_variables(), *variables]},
        "panels": layout(*sections),
    }
