"""Tokens in secrets: which ones nobody uses any more, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tiphys.api.object import Object
from tiphys.controlkit.objects import timestamp
from tiphys.controllers.access.legacytokens import (
    INVALID_SINCE,
    LAST_USED,
    LegacyTokenCleaner,
    TokenAction,
    decide,
    tracked_from,
)
from tiphys.runtime.clock import Clock
from tiphys.testing import Cluster

NOW = 1_767_225_600.0  # 2026-01-01
DAY = 24 * 3600.0
YEAR = 365 * DAY
ACCOUNT = {"metadata": {"name": "a", "uid": "u"}, "secrets": [{"name": "t"}]}


def secret(created: float = NOW - 2 * YEAR, uid: str = "u", **labels: str) -> Object:
    annotations = {"kubernetes.io/service-account.name": "a", "kubernetes.io/service-account.uid": uid}
    names = {"used": LAST_USED, "invalid": INVALID_SINCE}
    return {
        "metadata": {
            "name": "t",
            "namespace": "n",
            "creationTimestamp": timestamp(created),
            "annotations": annotations,
            "labels": {names[key]: value for key, value in labels.items()},
        }
    }


@pytest.mark.parametrize(
    ("token", "action"),
    [
        (secret(), TokenAction.MARK),
        (secret(uid=""), TokenAction.MARK),
        (secret(uid="another"), TokenAction.KEEP),
        (secret(created=NOW - YEAR), TokenAction.KEEP),
        (secret(created=NOW - YEAR - 1), TokenAction.MARK),
        (secret(used="2025-01-01"), TokenAction.KEEP),
        (secret(used="2024-12-31"), TokenAction.MARK),
        (secret(used="lately"), TokenAction.KEEP),
        (secret(used=""), TokenAction.KEEP),
        (secret(invalid="2025-01-01"), TokenAction.KEEP),
        (secret(invalid="2024-12-31"), TokenAction.REMOVE),
        (secret(invalid="2024-12-31", used="2025-06-01"), TokenAction.KEEP),
        (secret(invalid="soon"), TokenAction.MARK),
        (secret(invalid="2024-1-1"), TokenAction.MARK),
    ],
)
def test_what_becomes_of_a_token(token: Object, action: TokenAction) -> None:
    assert decide(token, ACCOUNT, (), NOW, YEAR) is action


def test_tokens_that_somebody_asked_for_or_that_a_pod_mounts_stay() -> None:
    assert decide(secret(), {**ACCOUNT, "secrets": []}, (), NOW, YEAR) is TokenAction.KEEP
    assert decide(secret(), None, (), NOW, YEAR) is TokenAction.KEEP
    assert decide(secret(), ACCOUNT, ("t",), NOW, YEAR) is TokenAction.KEEP
    going = secret()
    going["metadata"]["deletionTimestamp"] = timestamp(NOW)
    assert decide(going, ACCOUNT, (), NOW, YEAR) is TokenAction.KEEP


@pytest.mark.parametrize(
    ("data", "since"),
    [({"since": "2025-12-31"}, NOW), ({"since": "yesterday"}, None), ({}, None), (None, None)],
)
def test_uses_are_noted_from_the_end_of_the_first_day(data: dict[str, str] | None, since: float | None) -> None:
    assert tracked_from({"data": data} if data is not None else {}) == since


@dataclass(frozen=True, slots=True)
class Later:
    """A clock that is some seconds ahead of another."""

    clock: Clock
    seconds: float

    def now(self) -> float:
        return self.clock.now() + self.seconds

    def monotonic(self) -> float:
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


def test_an_unused_token_is_marked_and_then_removed() -> None:
    with Cluster(nodes=0, controllers=("serviceaccount-controller",)) as cluster:
        cluster.wait_until(lambda: cluster.get("v1", "ServiceAccount", "default"))
        for name in ("asked-for", "unused"):
            meta = {"name": name, "annotations": {"kubernetes.io/service-account.name": "default"}}
            kind = "kubernetes.io/service-account-token"
            cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": kind})
        cluster.patch("v1", "ServiceAccount", "default", {"secrets": [{"name": "unused"}]})

        def unused_after(days: float) -> Object | None:
            cluster.start_controller(
                lambda context: LegacyTokenCleaner(replace(context, clock=Later(context.clock, days * DAY)))
            )
            cluster.run_for(1)
            return cluster.get("v1", "Secret", "unused")

        for days in (0, 365):
            fresh = unused_after(days)
            assert fresh is not None
            assert "labels" not in fresh["metadata"]
        for days in (367, 367 + 364):
            marked = unused_after(days)
            assert marked is not None
            assert marked["metadata"]["labels"] == {INVALID_SINCE: "2027-01-03"}
        assert unused_after(367 + 366) is None
        asked = cluster.get("v1", "Secret", "asked-for")
        assert asked is not None
        assert "labels" not in asked["metadata"]
