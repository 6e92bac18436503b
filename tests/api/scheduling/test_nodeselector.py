"""Which nodes node selectors and required node affinity take."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.scheduling.nodeselector import required_nodes, takes_node

NODE = {"metadata": {"name": "n", "labels": {"disk": "ssd", "cores": "8", "empty": ""}}}


def requiring(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, True),
        ({"nodeSelector": {}}, True),
        ({"nodeSelector": {"disk": "ssd"}}, True),
        ({"nodeSelector": {"disk": "hdd"}}, False),
        ({"nodeSelector": {"absent": ""}}, False),
        ({"nodeSelector": {"empty": ""}}, True),
        (requiring(), False),
        (requiring({}), False),
        (requiring({}, {"matchFields": [expression("metadata.name", "In", "n")]}), True),
        (requiring({"matchFields": [expression("metadata.name", "NotIn", "n")]}), False),
        (requiring({"matchFields": [expression("metadata.name", "In", "m", "n")]}), True),
        (
            requiring(
                {
                    "matchFields": [expression("metadata.name", "In", "n")],
                    "matchExpressions": [expression("disk", "In", "hdd")],
                }
            ),
            False,
        ),
        ({"nodeSelector": {"disk": "hdd"}} | requiring({"matchExpressions": [expression("disk", "Exists")]}), False),
        # A wrong term matches nothing, and does not keep another from matching.
        (requiring({"matchExpressions": [expression("cores", "Gt")]}), False),
        (requiring({"matchExpressions": [expression("cores", "Gt", "1", "2")]}), False),
        (requiring({"matchExpressions": [expression("disk", "Like", "s")]}), False),
        (
            requiring(
                {"matchExpressions": [expression("disk", "Like", "s")]},
                {"matchExpressions": [expression("disk", "In", "ssd")]},
            ),
            True,
        ),
    ],
)
def test_takes_node(spec: dict[str, Any], fits: bool) -> None:
    assert takes_node(spec, NODE) is fits


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        (expression("disk", "In", "ssd", "nvme"), True),
        (expression("absent", "In", "ssd"), False),
        (expression("disk", "NotIn", "ssd"), False),
        (expression("absent", "NotIn", "x"), True),
        (expression("disk", "Exists"), True),
        (expression("absent", "Exists"), False),
        (expression("absent", "DoesNotExist"), True),
        (expression("cores", "Gt", "4"), True),
        (expression("cores", "Gt", "8"), False),
        (expression("cores", "Lt", "+9"), True),
        (expression("cores", "Gt", "-1"), True),
        (expression("cores", "Gt", "--1"), False),
        (expression("cores", "Gt", " 4"), False),
        (expression("cores", "Gt", "1_0"), False),
        (expression("cores", "Lt", str(2**63)), False),
        (expression("disk", "Gt", "4"), False),
        (expression("absent", "Lt", "4"), False),
    ],
)
def test_requirements(wanted: dict[str, Any], holds: bool) -> None:
    assert takes_node(requiring({"matchExpressions": [wanted]}), NODE) is holds


def test_names_of_the_only_nodes() -> None:
    def names(spec: dict[str, Any]) -> frozenset[str] | None:
        required = required_nodes(spec)
        assert required is not None
        return required.names

    by_name = {"matchFields": [expression("metadata.name", "In", "a", "b")]}
    assert names(requiring(by_name, {"matchFields": [expression("metadata.name", "In", "c")]})) == {"a", "b", "c"}
    assert names(requiring(by_name, {"matchExpressions": [expression("disk", "Exists")]})) is None
    assert names({"nodeSelector": {"disk": "ssd"}}) is None
