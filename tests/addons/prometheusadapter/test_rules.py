"""What the rules make of series, and which question they ask: pure."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tiphys.addons.prometheusadapter.catalog import Catalog, Labels, MetricSource, add_custom, add_external
from tiphys.addons.prometheusadapter.promql import CannotAsk, query
from tiphys.addons.prometheusadapter.rules import MetricRule, read_rules
from tiphys.addons.prometheusadapter.views import quantity
from tiphys.api.meta.selectors import EVERYTHING, parse_label_selector
from tiphys.client.resources import ResourcePath
from tiphys.controlkit.discovery import ServedResource
from tiphys.runtime.component import ConfigError


def served(group: str, plural: str, kind: str, *, namespaced: bool = True) -> ServedResource:
    return ServedResource(ResourcePath(group, "v1", plural, namespaced), kind, frozenset())


RESOURCES = (
    served("", "namespaces", "Namespace", namespaced=False),
    served("", "nodes", "Node", namespaced=False),
    served("", "pods", "Pod"),
    served("apps", "deployments", "Deployment"),
)
PODS = {"namespace": "{resource: namespace}", "pod": "{resource: pods}"}


def rule(
    name: str = "{}", resources: str = "", query: str = "<<.Series>>{<<.LabelMatchers>>}", filters: str = "[]"
) -> MetricRule:
    overrides = ", ".join(f"{label}: {about}" for label, about in PODS.items())
    resources = resources or f"{{overrides: {{{overrides}}}}}"
    fields = f"name: {name}, resources: {resources}, metricsQuery: '{query}', seriesFilters: {filters}"
    text = f"rules: [{{seriesQuery: x, {fields}}}]"
    return read_rules(text, "f").custom[0]


def catalog(rule: MetricRule, *series: Mapping[str, str]) -> Catalog:
    made, labels = Catalog(), Labels(rule, RESOURCES)
    for each in series:
        add_custom(made, rule, labels, each)
    return made


@pytest.mark.parametrize(
    ("name", "series", "metric"),
    [
        ("{}", "requests", "requests"),
        ('{matches: "^(.*)_total$"}', "requests_total", "requests"),
        ('{matches: "^(.*)_total$"}', "requests", "requests"),
        ('{matches: "^http_(?P<what>.*)_total$", as: "${what}_per_second"}', "http_hits_total", "hits_per_second"),
        ('{matches: "^(a|b)_(.*)$", as: "$2_of_${1}"}', "a_x", "a"),
        ('{matches: "^(a|b)_(.*)$", as: "${2}_of_${1}"}', "a_x", "x_of_a"),
        ('{matches: "a", as: "$$"}', "a", "$"),
        ('{as: "all"}', "whatever", "all"),
    ],
)
def test_a_series_name_becomes_a_metrics_as_gos_regular_expressions_put_it(name: str, series: str, metric: str) -> None:
    assert rule(name).name.name_of(series) == metric


def test_a_series_is_a_metric_of_each_object_that_its_labels_name() -> None:
    made = catalog(rule(), {"__name__": "m", "namespace": "shop", "pod": "web", "code": "200"})
    assert {about: (s.label, s.namespace_label) for (about, _), s in made.custom.items()} == {
        ("", "pods"): ("pod", "namespace"),
        ("", "namespaces"): ("namespace", ""),
    }


def test_an_object_of_a_namespace_needs_the_namespaces_label() -> None:
    assert catalog(rule(), {"__name__": "m", "pod": "web"}).custom == {}
    nodes = rule(resources="{overrides: {node: {resource: node}}}")
    made = catalog(nodes, {"__name__": "m", "node": "n1", "namespace": "x"})
    assert [(about, s.namespace_label) for (about, _), s in made.custom.items()] == [(("", "nodes"), "")]


def test_a_template_names_the_labels_of_every_kind() -> None:
    by_template = rule(resources='{template: "kube_<<.Group>>_<<.Resource>>"}')
    made = catalog(
        by_template, {"__name__": "m", "kube__namespace": "a", "kube_apps_deployment": "b", "kube__pod": "c"}
    )
    assert {about for about, _ in made.custom} == {("apps", "deployments"), ("", "pods"), ("", "namespaces")}


def test_filters_are_about_names() -> None:
    filtered = rule(filters="[{is: '^a'}, {isNot: 'z$'}]")
    names = ("ab", "az", "b")
    made = catalog(filtered, *({"__name__": name, "namespace": "n"} for name in names))
    assert [metric for _, metric in made.custom] == ["ab"]


def test_the_last_rule_that_makes_a_metric_has_it() -> None:
    made = catalog(rule(), {"__name__": "m", "namespace": "n"})
    later = rule(query="later")
    add_custom(made, later, Labels(later, RESOURCES), {"__name__": "m", "namespace": "n"})
    assert made.custom[("", "namespaces"), "m"].rule is later


def test_an_external_metric_is_one_of_the_namespace_unless_the_rule_says_otherwise() -> None:
    for resources, label in (("", "namespace"), ("{namespaced: false}", ""), ("{overrides: {}}", "")):
        made, one = Catalog(), rule(resources=resources)
        add_external(made, one, Labels(one, RESOURCES), {"__name__": "queue"})
        assert made.external["queue"].namespace_label == label


def source(text: str = "<<.Series>>{<<.LabelMatchers>>}") -> MetricSource:
    return MetricSource(rule(query=text), "m", "pod", "namespace")


@pytest.mark.parametrize(
    ("names", "selector", "text"),
    [
        (["a"], "", 'm{namespace="ns",pod="a"}'),
        (["a", "b.c"], "", 'm{namespace="ns",pod=~"a|b\\\\.c"}'),
        (["a"], "k=v,q!=w", 'm{namespace="ns",pod="a",k="v",q!="w"}'),
        (["a"], "k in (v,w)", 'm{namespace="ns",pod="a",k=~"v|w"}'),
        (["a"], "k notin (v.w)", 'm{namespace="ns",pod="a",k!~"v\\\\.w"}'),
        (["a"], "k,!q", 'm{namespace="ns",pod="a",k!="",q=""}'),
    ],
)
def test_the_question_names_objects_and_selectors(names: list[str], selector: str, text: str) -> None:
    assert query(source(), "ns", names, parse_label_selector(selector)) == text


def test_a_question_groups_and_finds_values_by_label() -> None:
    matchers = 'a="<<index .LabelValuesByName "pod">>",b="<<index .LabelValuesByName "x">>"'
    text = f"sum by (<< .GroupBy >>) (<<.Series>>{{{matchers}}})"
    assert query(source(text), "ns", ["p"], EVERYTHING) == 'sum by (pod) (m{a="p",b=""})'


def test_quotes_cannot_leave_a_value() -> None:
    assert query(source(), 'n"s\\', ["a\n"], EVERYTHING) == 'm{namespace="n\\"s\\\\",pod="a\\n"}'


@pytest.mark.parametrize("selector", ["example.com/k=v", "k>3"])
def test_what_prometheus_has_no_words_for_is_refused(selector: str) -> None:
    with pytest.raises(CannotAsk, match="k"):
        query(source(), "ns", ["a"], parse_label_selector(selector))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "500m"), (3.0, "3"), (0.0001, "0"), (float("nan"), "0"), (1234567.0, "1234567"), (-2.5, "-2500m"),
     (float("inf"), "9223372036854775807m")],
)  # fmt: skip
def test_values_are_quantities_in_thousandths(value: float, text: str) -> None:
    assert quantity(value) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a", "the file is no mapping"),
        ("nonsense: []", "unknown field 'nonsense'; there are rules, externalRules"),
        ("resourceRules: {}", "unknown field 'resourceRules'; `tiphys metrics-server` serves those"),
        ("rules: [{metricsQuery: x}]", r"rules\[0\].seriesQuery is needed"),
        ("rules: [{seriesQuery: x}]", r"rules\[0\].metricsQuery is needed"),
        ("rules: [{seriesQuery: x, metricsQuery: '<<.Nonsense>>'}]", "<<.Nonsense>> is not supported; use <<.Series>>"),
        ("rules: [{seriesQuery: x, metricsQuery: y, name: {matches: '('}}]", "is no regular expression"),
        ("rules: [{seriesQuery: x, metricsQuery: y, name: {matches: '(a)(b)'}}]", r"name.as: `matches` has 2 groups"),
        ("externalRules: [{seriesQuery: x, metricsQuery: y, resources: {template: '<<.Pod>>'}}]",
         r"externalRules\[0\].resources.template: <<.Pod>> is not supported; use <<.Group>>, <<.Resource>>"),
        ("rules: [{seriesQuery: x, metricsQuery: y, resources: {overrides: {a: {kind: Pod}}}}]",
         "unknown field 'kind'"),
        ("rules: [{seriesQuery: x, metricsQuery: y, seriesFilters: [{like: a}]}]", "a filter is {is: PATTERN}"),
        ("rules: 3", "rules is no list"),
    ],
)  # fmt: skip
def test_a_bad_rule_is_refused_by_its_field(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^f: .*{says}|^f.*{says}"):
        read_rules(text, "f")
