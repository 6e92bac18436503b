"""Several backends of an HTTPRoute's rule: what share each gets, what is done to its requests, and a real haproxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.addons.test_ingress import HTTP, Running, gateway, read, route
from tests.addons.test_ingress_filters import Asked, Mirror, full, redirect, request_headers, response_headers, rewrite
from tiphys.addons.ingress.configuration import Listening, files_of, same_but_targets
from tiphys.addons.ingress.gatewaystatus import route_status
from tiphys.addons.ingress.merging import merge
from tiphys.addons.ingress.model import Filters, HeaderChange, PathRule, Split, TargetGroup
from tiphys.addons.ingress.routebackends import MOST_SLOTS, slots_of
from tiphys.api.object import Object


def to(name: str = "web", **fields: Any) -> Object:
    return {"name": name, "port": 80, **fields}


def wishes_for(*references: Object, **rule: Any) -> Any:
    _, made = read(gateway(HTTP), route({"backendRefs": list(references), **rule}))
    assert made.parents[0].accepted[0], made.parents[0].accepted
    return made.wishes


def refusal(*references: Object, **rule: Any) -> tuple[str, str]:
    _, made = read(gateway(HTTP), route({"backendRefs": list(references), **rule}))
    assert made.wishes.rules == []
    (parent,) = route_status(made, 0.0)["parents"]
    accepted = next(c for c in parent["conditions"] if c["type"] == "Accepted")
    assert accepted["status"] == "False"
    return accepted["reason"], accepted["message"]


@pytest.mark.parametrize(
    ("weights", "slots"),
    [
        ([1, 1], [1, 1]),
        ([90, 10], [9, 1]),
        ([100, 50, 50], [2, 1, 1]),
        ([999, 1], [999, 1]),
        ([1_000_000, 1], [MOST_SLOTS, 1]),
        ([700_001, 300_000], [700, 300]),
    ],
)
def test_shares_are_small_numbers_in_the_proportion_of_the_weights(weights: list[int], slots: list[int]) -> None:
    assert slots_of(weights) == slots


def test_a_backend_that_leads_nowhere_keeps_its_share() -> None:
    _, made = read(gateway(HTTP), route({"backendRefs": [to(weight=3), to("gone", weight=1)]}))
    assert made.parents[0].accepted[0]
    assert made.parents[0].resolved[:2] == (False, "BackendNotFound")
    (split,) = made.wishes.splits
    assert split == Split("route_a_r_0", (("route_a_r_0_0", 3), ("route_a_r_0_1", 1)))
    assert [(group.name, group.resolved) for group in made.wishes.groups] == [
        ("route_a_r_0_0", True),
        ("route_a_r_0_1", False),
    ]


def test_a_backend_without_weight_gets_nothing_and_without_any_there_is_nobody() -> None:
    wishes = wishes_for(to(weight=0), to("grpc"))
    assert wishes.splits == []
    assert [(group.name, group.http2, group.resolved) for group in wishes.groups] == [("route_a_r_0", True, True)]
    for nobody in (wishes_for(to(weight=0), to("grpc", weight=0)), wishes_for()):
        assert [(group.name, group.resolved) for group in nobody.groups] == [("route_a_r_0", False)]


def test_each_backend_is_spoken_to_in_its_own_protocol() -> None:
    assert [group.http2 for group in wishes_for(to(), to("grpc")).groups] == [False, True]


def test_a_backends_filters_come_after_the_rules_and_of_answers_before() -> None:
    of_rule = [request_headers(set=[{"name": "a", "value": "1"}]), response_headers(remove=["b"])]
    of_backend = [request_headers(remove=["a"]), response_headers(set=[{"name": "b", "value": "2"}])]
    wishes = wishes_for(to(filters=of_backend), to("grpc"), filters=of_rule)
    first, second = wishes.groups
    assert first.filters == Filters(
        request=(HeaderChange("set", "a", "1"), HeaderChange("del", "a")),
        response=(HeaderChange("set", "b", "2"), HeaderChange("del", "b")),
    )
    assert second.filters == Filters(request=(HeaderChange("set", "a", "1"),), response=(HeaderChange("del", "b"),))


@pytest.mark.parametrize(
    ("filters", "reason", "message"),
    [
        ([{"type": "RequestMirror", "requestMirror": {}}], "UnsupportedValue", "RequestMirror is not served"),
        ([{"type": "ExtensionRef", "extensionRef": {}}], "UnsupportedValue", "ExtensionRef is not served"),
        ([redirect(hostname="a.example")], "UnsupportedValue", "RequestRedirect is not served for one backend"),
        ([rewrite(path=full("/x"))], "IncompatibleFilters", "URLRewrite is there for the rule already"),
        ([request_headers(set=[{"name": "te", "value": "x"}])], "UnsupportedValue", "belongs to the proxy"),
    ],
)
def test_what_is_not_served_for_a_backend_is_refused_by_name(filters: list[Object], reason: str, message: str) -> None:
    said = refusal(to(), to(filters=filters), filters=[rewrite(hostname="in.example")])
    assert said[0] == reason
    assert said[1].startswith("rules[0].backendRefs[1].filters: ")
    assert message in said[1]


def test_a_weight_is_one_of_the_specification() -> None:
    for weight in (-1, 1_000_001):
        assert refusal(to(weight=weight))[0] == "UnsupportedValue"


def test_only_what_is_served_is_split_and_a_changed_share_is_loaded(tmp_path: Path) -> None:
    routing = merge([wishes_for(to(weight=2), to("gone", weight=1))])
    assert [split.name for split in routing.splits] == ["route_a_r_0"]
    assert [group.name for group in routing.groups] == ["route_a_r_0_0", "route_a_r_0_1"]
    other = merge([wishes_for(to(weight=1), to("gone", weight=2))])
    assert not same_but_targets(routing, other)
    files = files_of(routing, Listening(("192.0.2.1",), 10080, 10443, tmp_path / "s"), Path("/f"), b"")
    assert files["splits.map"] == b"route_a_r_0 3\n"
    assert files["shares.map"].decode().splitlines() == [
        "route_a_r_0:0 route_a_r_0_0",
        "route_a_r_0:1 route_a_r_0_0",
        "route_a_r_0:2 route_a_r_0_1",
    ]


# A real haproxy.


@pytest.fixture
def mirrors() -> Iterator[tuple[Mirror, Mirror]]:
    made = Mirror(), Mirror()
    yield made
    for mirror in made:
        mirror.close()


@pytest.mark.root
def test_requests_are_shared_by_weight_and_what_leads_nowhere_answers_500(
    running: Running, mirrors: tuple[Mirror, Mirror]
) -> None:
    def marked(value: str) -> Filters:
        return Filters(request=(HeaderChange("set", "X-Backend", value),))

    one, two = mirrors
    groups = (
        TargetGroup("r_0", (one.target,), filters=marked("one")),
        TargetGroup("r_1", (two.target,), filters=marked("two")),
        TargetGroup("r_2", resolved=False),
        TargetGroup("r_3"),
        TargetGroup("whole", (one.target,)),
    )
    split = Split("r", (("r_0", 4), ("r_1", 2), ("r_2", 2), ("r_3", 2)))
    rules = PathRule("split", "/", "r"), PathRule("whole", "/", "whole")
    running.serve(*rules, groups=groups, splits=(split,))
    running.wait(lambda: Asked(running, "whole", "/", {}).status == 200)
    seen: Counter[str] = Counter()
    for _ in range(400):
        asked = Asked(running, "split", "/", {})
        seen[asked.request_header("x-backend")[0] if asked.status == 200 else str(asked.status)] += 1
    # Means of 160, 80, 80 and 80; six standard deviations around them.
    assert 101 <= seen["one"] <= 219, seen
    for part in ("two", "500", "503"):
        assert 32 <= seen[part] <= 128, seen
    assert sum(seen.values()) == 400
    assert {Asked(running, "whole", "/", {}).status for _ in range(20)} == {200}, "a rule with one backend is not split"
