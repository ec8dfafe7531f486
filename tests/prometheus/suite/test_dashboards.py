"""Every query of every dashboard over the history, as Grafana asks it."""

import collections
import unittest

import expected
import fixture
import grafana
import history
from server import Refused


class Dashboards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = fixture.world()
        cls.dashboards = grafana.dashboards()

    def each(self, check):
        """Checks every dashboard on both versions; what is wrong is told all together."""
        def on_one(prometheus):
            wrong = []
            for dashboard in self.dashboards:
                wrong += [f"{dashboard.uid}, {problem}" for problem in check(prometheus, dashboard) or ()]
            return wrong

        for prometheus, wrong in zip(self.world.servers, fixture.on_both(on_one)):
            if wrong:
                self.fail(f"Prometheus {prometheus.version.name}, {len(wrong)}:\n  " + "\n  ".join(line[:1000] for line in wrong))

    def asked(self, prometheus, dashboard, picks, span):
        """Every query with its answer, or with Prometheus' refusal."""
        choices, options = dashboard.choose(prometheus, span, picks)
        for number, target in enumerate(dashboard.targets):
            try:
                yield number, target, dashboard.ask(prometheus, target, span, choices, options)[1]
            except Refused as refused:
                yield number, target, refused

    def test_there_are_dashboards(self):
        self.assertTrue(self.dashboards)
        self.assertEqual(set(expected.VIEWS), {dashboard.uid for dashboard in self.dashboards})
        for dashboard in self.dashboards:
            fixture.COUNTS["dashboards"] += 1
            fixture.COUNTS["panels"] += len(list(grafana.flat(dashboard.raw["panels"])))
            fixture.COUNTS["queries of panels and annotations"] += len(dashboard.targets)
            fixture.COUNTS["variables that are asked of Prometheus"] += sum(one.kind == "query" for one in dashboard.variables)

    def test_every_variable_has_something_to_choose(self):
        def check(prometheus, dashboard):
            for name, picks in expected.VIEWS[dashboard.uid].items():
                _, options = dashboard.choose(prometheus, history.LAST_HOURS, picks)
                for variable in dashboard.variables:
                    if not options[variable.name] and variable.name not in expected.VARIABLES_WITHOUT_OPTIONS:
                        yield f"{name}: ${variable.name} has nothing to choose"
                    fixture.COUNTS[f"variable queries answered ({prometheus.version.name})"] += variable.kind == "query"
        self.each(check)

    def test_every_panel_shows_something_where_there_is_something(self):
        def check(prometheus, dashboard):
            answered = collections.Counter()
            used = set()
            for view, picks in expected.VIEWS[dashboard.uid].items():
                span = history.LAST_WEEK if dashboard.uid in expected.OF_A_WEEK else history.LAST_HOURS
                panels = collections.Counter()
                for number, target, answer in self.asked(prometheus, dashboard, picks, span):
                    fixture.COUNTS[f"panel queries answered ({prometheus.version.name})"] += 1
                    if isinstance(answer, Refused):
                        yield f"{view}: {target.panel!r} is refused: {str(answer)[:400]}"
                        continue
                    answered[number] += len(answer)
                    # What happened in a range of time may be nothing.
                    if not target.is_annotation:
                        panels[target.panel] += len(answer)
                for panel, series in panels.items():
                    reason = expected.may_be_empty(dashboard.uid, panel, view)
                    if not series and not reason:
                        yield f"{view}: {panel!r} is empty"
                    used |= {(panel, view)} if series else set()
                    fixture.COUNTS[f"panels that show something ({prometheus.version.name})"] += bool(series)
                    fixture.COUNTS[f"panels rightly empty ({prometheus.version.name})"] += bool(not series and reason)
            for number, target in enumerate(dashboard.targets):
                if not answered[number] and not expected.never(dashboard.uid, target):
                    yield f"{target.panel!r} has a query that answers in no view: {target.expression}"
            for panel, view in expected.told_empty(dashboard.uid):
                if (panel, view) in used:
                    yield f"{view}: {panel!r} is in the table of empty panels and shows something"
        self.each(check)

    def test_what_panels_show_is_the_truth(self):
        """The last points of some panels of the GPU dashboard, against the simulation."""
        def check(prometheus, dashboard):
            for (uid, panel), (instance, compare) in expected.FIGURES.items():
                if uid != dashboard.uid:
                    continue
                looks = self.world.truth(instance)["looks"]
                wanted = compare(looks)
                shown = {}
                for _, target, answer in self.asked(prometheus, dashboard, {"instance": instance}, history.LAST_HOURS):
                    if target.panel == panel and not isinstance(answer, Refused):
                        # The first query of a name is the one that is compared.
                        shown = {**{legend(metric): sum(value for _, value in points[-20:]) / len(points[-20:])
                                    for metric, points in answer}, **shown}
                for name, (value, slack) in wanted.items():
                    if name not in shown:
                        yield f"{panel!r} does not show {name}, but {sorted(shown)}"
                    elif abs(shown[name] - value) > slack:
                        yield f"{panel!r} shows {shown[name]:g} for {name}; in truth it is {value:g}, give or take {slack:g}"
                    fixture.COUNTS["figures of panels compared with the truth"] += 1
        self.each(check)

    def test_no_range_of_time_breaks_a_query(self):
        """A quarter of which but a week is there, and a time before everything."""
        def check(prometheus, dashboard):
            for span in (history.LAST_QUARTER, history.BEFORE_ALL):
                for _, target, answer in self.asked(prometheus, dashboard, {}, span):
                    if isinstance(answer, Refused):
                        yield f"{span.name}: {target.panel!r} is refused: {str(answer)[:400]}"
                    fixture.COUNTS[f"queries of a history shorter than asked ({prometheus.version.name})"] += 1
        self.each(check)

    def test_an_agent_scraped_by_two_jobs_counts_once(self):
        def check(prometheus, dashboard):
            picks = {"instance": history.TWIN}
            one, both = ({number: keyed(answer) for number, _, answer in self.asked(prometheus, dashboard, {**picks, "job": job}, history.LAST_HOURS)
                          if not isinstance(answer, Refused)} for job in ([history.JOB], [grafana.ALL]))
            for number, target in enumerate(dashboard.targets):
                if expected.counts_twice(dashboard.uid, target.panel):
                    continue
                if one.get(number) is None or both.get(number) is None:
                    yield f"{target.panel!r} is refused"
                elif set(one[number]) != set(both[number]):
                    yield f"{target.panel!r} has {len(both[number])} series instead of {len(one[number])}: {target.expression}"
                else:
                    wrong = [(dict(key), difference) for key, value in one[number].items() if (difference := differ(value, both[number][key]))]
                    if wrong:
                        yield f"{target.panel!r} counts twice: {wrong[0]}: {target.expression}"
                fixture.COUNTS[f"queries that count an agent scraped twice once ({prometheus.version.name})"] += 1
        self.each(check)

    def test_hostile_names_can_be_chosen(self):
        def check(prometheus, dashboard):
            if not any(variable.name == "pod" for variable in dashboard.variables):
                return
            for name in history.HOSTILE:
                span = history.LAST_HOURS
                namespaces = prometheus.get("label/namespace/values", [("match[]", f'slicewatch_pod_info{{pod="{history.escaped(name)}"}}')])
                picks = {"instance": history.HOSTILE_NODE, "namespace": namespaces[0], "pod": name}
                shown = 0
                for _, target, answer in self.asked(prometheus, dashboard, picks, span):
                    if isinstance(answer, Refused):
                        yield f"{name!r}: {target.panel!r} is refused: {str(answer)[:400]}"
                    else:
                        shown += bool(answer)
                if shown < 0.6 * len(dashboard.targets):
                    yield f"{name!r}: only {shown} of {len(dashboard.targets)} queries show something"
                fixture.COUNTS[f"hostile pods shown ({prometheus.version.name})"] += 1
        self.each(check)


def legend(metric):
    return f"{metric['namespace']}/{metric['pod']}" if "pod" in metric else "all"


def keyed(series):
    return {tuple(sorted(metric.items())): points for metric, points in series}


def differ(one, other):
    """The first points that are not the same."""
    if len(one) != len(other):
        return f"{len(one)} points, {len(other)} points"
    for (at, left), (_, right) in zip(one, other):
        if not (abs(left - right) <= 1e-9 * max(1.0, abs(left)) or left != left and right != right):
            return f"{left}, {right} at {at:.0f}"
    return None
