"""Values with their unit and colour, as the dashboards ask for them."""

import math

PALETTE = (
    "#73bf69 #f2cc0c #8ab8ff #ff780a #f2495c #5794f2 #b877d9 #705da0 #37872d #fade2a #447ebc #c15c17 #890f02".split()
)
COLORS = {
    "green": "#73bf69",
    "yellow": "#f2cc0c",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
    "text": "#d8d9da",
}


def color(name):
    return COLORS.get(name, name)


def number(value, unit, decimals=None):
    """A value as people read it."""
    if value is None or math.isnan(value):
        return "unknown" if value is None else "NaN"
    if math.isinf(value):
        return "Inf"
    if unit == "percentunit":
        return f"{value * 100:.{1 if decimals is None else decimals}f}%"
    if unit == "bytes":
        for name in ("B", "KiB", "MiB", "GiB", "TiB"):
            if abs(value) < 1024 or name == "TiB":
                return f"{value:.{0 if name == 'B' else 1}f} {name}"
            value /= 1024
    if unit == "s" and value != 0:
        for name, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
            if abs(value) >= size or name == "µs":
                return f"{value / size:.3g} {name}"
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}"


def mapped(value, mappings):
    """The word and colour of a value, where there are any."""
    if value is None:
        return None
    text = str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
    for one in mappings or []:
        if text in one["options"]:
            return one["options"][text]
    return None


def step_color(value, thresholds):
    found = "text"
    for step in (thresholds or {}).get("steps", []):
        if step["value"] is None or (value is not None and value >= step["value"]):
            found = step["color"]
    return color(found)
