#!/usr/bin/env python3
"""Reads the dashboards into the types of Grafana's own SDK and writes them again: what is lost, or comes
back changed, Grafana 11.6 does not know, as a misspelt option or one of another panel.

    pip install -r tests/dashboards/requirements.txt && python3 tests/dashboards/roundtrip.py
"""

import copy
import json
import pathlib
import re
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

DASHBOARDS = pathlib.Path(__file__).resolve().parents[2] / "dashboards"

# Keys that Grafana knows and the SDK's types do not, with where Grafana reads them.
HARMLESS = {
    ".id": "null: a provisioned dashboard gets its id from the server",
    ".annotations.list[].titleFormat": "of the Prometheus data source, whose annotations have no type in the SDK",
    ".annotations.list[].textFormat": "of the Prometheus data source, whose annotations have no type in the SDK",
    ".templating.list[].definition": "the query as the list of variables shows it",
}


def again(dashboard):
    return json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard)))


def losses(before, after, path=""):
    """Yields (path, what was there, what came back) for all that is not the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from losses(value, after[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}", value, "nothing"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (one, other) in enumerate(zip(before, after)):
            yield from losses(one, other, f"{path}[{at}]")
    elif before != after:
        yield path, before, after


def kind(path):
    return re.sub(r"\[\d+\]", "[]", path)


def self_check(dashboard):
    """The comparison must see a misspelt option, or it proves nothing."""
    broken = copy.deepcopy(dashboard)
    custom = next(one for one in broken["panels"] if one["type"] == "timeseries")["fieldConfig"]["defaults"]["custom"]
    custom["linewidth"] = custom.pop("lineWidth")
    assert any(
        path.endswith(".linewidth") for path, *_ in losses(broken, again(broken))
    ), "a misspelt option was not seen"


def main():
    plugins.register_default_plugins()
    failed, seen = 0, set()
    files = sorted(DASHBOARDS.glob("*.json"))
    assert len(files) == 5, files
    for file in files:
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        self_check(dashboard)
        for path, before, after in losses(dashboard, again(dashboard)):
            seen.add(kind(path))
            if kind(path) not in HARMLESS:
                failed += 1
                print(f"{file.name}: {path}: {before!r} came back as {after!r}", file=sys.stderr)
    for path in HARMLESS.keys() - seen:
        failed += 1
        print(f"{path} is not lost any more: take it out of the list", file=sys.stderr)
    if failed:
        sys.exit(1)
    print(
        f"{len(files)} dashboards come back from Grafana's types whole, but for {len(HARMLESS)} keys known to be harmless"
    )


main()
