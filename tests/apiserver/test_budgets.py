"""Disruption budgets as an eviction sees them."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.errors import StatusError
from tiphys.api.object import Object
from tiphys.apiserver.endpoints.subresources.budgets import protects, spend

NOW = "2026-01-01T00:00:00Z"
READY: Object = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def budget(policy: str = "", **status: Any) -> Object:
    spec = {"unhealthyPodEvictionPolicy": policy} if policy else {}
    status = {"observedGeneration": 1, "currentHealthy": 2, "desiredHealthy": 1, **status}
    return {"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("found", "pod", "expected"),
    [
        (budget(), READY, True),
        (budget("AlwaysAllow"), READY, True),
        (budget("AlwaysAllow", currentHealthy=0), {}, False),
        (budget(), {}, False),
        (budget("IfHealthyBudget", currentHealthy=0), {}, True),
        (budget(currentHealthy=0, desiredHealthy=0), {}, True),
    ],
)
def test_whom_a_budget_protects(found: Object, pod: Object, expected: bool) -> None:
    assert protects(found, pod) is expected


def test_the_last_disruption_says_so_in_a_condition() -> None:
    status = spend(budget(disruptionsAllowed=2, disruptedPods={"o": NOW}), "p", NOW)["status"]
    assert (status["disruptionsAllowed"], status["disruptedPods"]) == (1, {"o": NOW, "p": NOW})
    assert "conditions" not in status
    last = spend(budget(disruptionsAllowed=1), "p", NOW)["status"]["conditions"]
    assert [(c["type"], c["status"], c["reason"]) for c in last] == [
        ("DisruptionAllowed", "False", "InsufficientPods"),
    ]


def condition(reason: str, message: str) -> list[Object]:
    return [{"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": message}]


@pytest.mark.parametrize(
    ("found", "reason", "seconds"),
    [
        (budget(observedGeneration=0), "is still being processed by the server.", 10),
        (budget(currentHealthy=1), "needs 1 healthy pods and has 1 currently", None),
        (budget(), "does not allow evicting pods currently", None),
        (
            budget(conditions=condition("InsufficientPods", "m")),
            "does not allow evicting pods currently (InsufficientPods): m",
            None,
        ),
        (
            budget(currentHealthy=0, conditions=condition("SyncFailed", "m")),
            "does not allow evicting pods currently because it failed sync: m",
            None,
        ),
    ],
)
def test_why_a_budget_is_not_spent(found: Object, reason: str, seconds: int | None) -> None:
    with pytest.raises(StatusError) as refused:
        spend(found, "p", NOW)
    details = refused.value.status["details"]
    assert refused.value.code == 429
    assert details["causes"] == [{"reason": "DisruptionBudget", "message": f"The disruption budget b {reason}"}]
    assert details.get("retryAfterSeconds") == seconds
