"""What the recording rules would have made of the history, by promtool itself."""

import json
import pathlib
import re
import shutil
import tempfile
import time

import history
import server

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def levels(rules):
    """Recording rules so ordered that each reads but series of levels before its own."""
    recording = [rule for rule in rules if rule["type"] == "recording"]
    names, done, order = {rule["name"] for rule in recording}, set(), []
    while recording:
        ready = [rule for rule in recording if not (set(NAME.findall(rule["query"])) & names) - done]
        if not ready:
            raise ValueError(f"recording rules that read each other in a circle: {[rule['name'] for rule in recording]}")
        order.append(ready)
        done |= {rule["name"] for rule in ready}
        recording = [rule for rule in recording if rule not in ready]
    return order


def rule_file(rules):
    """The rules as a file, in the groups that they have."""
    groups = {}
    for rule in rules:
        group = groups.setdefault(rule["group"], {"name": rule["group"], "interval": f"{rule['interval']:g}s", "rules": []})
        group["rules"].append({"record": rule["name"], "expr": rule["query"], "labels": rule.get("labels") or {}})
    return json.dumps({"groups": list(groups.values())})


def recorded(version, simulated, key):
    """The folder with the blocks of all recorded series."""
    files = server.rule_files()
    key = history.digest(key, pathlib.Path(__file__).read_bytes(), *(path.read_bytes() for path in files))

    def make(folder):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as work:
            prometheus = server.Prometheus(version, work, {"rule_files": [str(path) for path in files]})
            history.take(simulated / "blocks", prometheus.data)
            prometheus.start()
            try:
                for level in levels(prometheus.rules()):
                    rules, new = pathlib.Path(work) / "rules.yaml", pathlib.Path(work) / "new"
                    rules.write_text(rule_file(level))
                    content, said = version.tool(
                        "tsdb", "create-blocks-from", "rules", "--max-block-duration=54h", f"--url=http://{prometheus.address}",
                        f"--start={history.END - history.WEEK}", f"--end={history.END}", f"--output-dir={new}", rules)
                    if not content or "failed" in said:
                        raise RuntimeError(f"promtool cannot evaluate the recording rules:\n{said[-3000:]}")
                    # A server reads blocks that are there when it starts.
                    history.take(new, prometheus.data)
                    history.take(new, folder)
                    prometheus.restart()
                    for path in new.iterdir():
                        shutil.rmtree(path)
            finally:
                prometheus.stop()
        history.note(f"history: recording rules evaluated over it in {time.monotonic() - began:.1f} s")

    return history.kept("recorded", key, make)
