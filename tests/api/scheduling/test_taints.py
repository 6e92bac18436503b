"""Which toleration covers which taint."""

from __future__ import annotations

import pytest

from tiphys.api.scheduling.taints import (
    EVICTING,
    HARD,
    SOFT,
    Taint,
    Toleration,
    taint,
    taints_of,
    tolerates,
    toleration,
    tolerations_of,
    untolerated,
)

BAR = Taint("foo", "bar", "NoSchedule")


@pytest.mark.parametrize(
    ("described", "covered", "expected"),
    [
        ({"key": "foo", "operator": "Exists", "effect": "NoSchedule"}, Taint("foo", "", "NoSchedule"), True),
        ({"key": "foo", "operator": "Exists", "effect": "NoSchedule"}, BAR, True),
        ({"key": "", "operator": "Exists", "effect": "NoSchedule"}, BAR, True),
        ({"operator": "Exists"}, BAR, True),
        ({"key": "other", "operator": "Exists"}, BAR, False),
        ({"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoSchedule"}, BAR, True),
        ({"key": "foo", "value": "bar"}, BAR, True),
        ({"key": "foo", "operator": "Equal", "value": "baz", "effect": "NoSchedule"}, BAR, False),
        ({"key": "foo", "operator": "Equal", "value": "bar", "effect": "NoExecute"}, BAR, False),
        # Validation forbids Equal without a key; if it is there all the same, it means any key.
        ({"operator": "Equal", "value": "bar"}, BAR, True),
        ({"key": "foo"}, Taint("foo", "", "NoSchedule"), True),
        ({"key": "foo", "operator": "Unknown", "value": "bar"}, BAR, False),
    ],
)
def test_tolerates(described: dict[str, str], covered: Taint, expected: bool) -> None:
    assert tolerates(toleration(described), covered) is expected


MAX, MIN = str(2**63 - 1), str(-(2**63))


@pytest.mark.parametrize(
    ("operator", "bound", "value", "expected"),
    [
        ("Gt", "100", "200", True),
        ("Gt", "200", "100", False),
        ("Gt", "100", "100", False),
        ("Gt", "-100", "-50", True),
        ("Gt", "-50", "-100", False),
        ("Gt", "0", "1", True),
        ("Gt", "0", "0", False),
        ("Gt", str(2**63 - 2), MAX, True),
        ("Gt", "100", MAX, True),
        ("Lt", "200", "100", True),
        ("Lt", "100", "200", False),
        ("Lt", "100", "100", False),
        ("Lt", "0", "-1", True),
        ("Lt", "0", "0", False),
        ("Lt", "0", MIN, True),
        *(("Gt", wrong, "200", False) for wrong in ("", "abc", "0100", "+100", "1.5", "-", "-0", str(-(2**63) - 1))),
        *(("Lt", "200", wrong, False) for wrong in ("", "abc", "0100", "+100", " 100", "-", "١", str(-(2**63) - 1))),
        ("Equal", "100", "200", False),
    ],
)
def test_comparisons(operator: str, bound: str, value: str, expected: bool) -> None:
    numeric, taint = Toleration("k", operator, bound, ""), Taint("k", value, "NoSchedule")
    assert tolerates(numeric, taint, comparisons=True) is expected
    assert not tolerates(numeric, taint)  # the feature is off in v1.36


def test_untolerated_taints_of_some_effects() -> None:
    node = {
        "spec": {
            "taints": [
                {"key": "a", "effect": "NoSchedule"},
                {"key": "b", "value": "v", "effect": "NoExecute"},
                {"key": "c", "effect": "PreferNoSchedule"},
            ]
        }
    }
    taints, tolerations = taints_of(node), tolerations_of({"tolerations": [{"key": "a", "operator": "Exists"}]})
    assert untolerated(taints, tolerations, HARD) == [taint(node["spec"]["taints"][1])]
    assert untolerated(taints, tolerations, EVICTING) == [Taint("b", "v", "NoExecute")]
    assert untolerated(taints, tolerations, SOFT) == [Taint("c", "", "PreferNoSchedule")]
    assert untolerated(taints, tolerations_of({"tolerations": [{"operator": "Exists"}]}), HARD) == []
    assert taints_of({"metadata": {}}) == taints_of({"spec": {"taints": None}}) == ()
