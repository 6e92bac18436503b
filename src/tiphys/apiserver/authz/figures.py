"""Upstream's metrics of authorizers: their decisions, and the webhooks' calls and conditions.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiphys.runtime.vectors import CounterVec, HistogramVec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_PREFIX = "apiserver_authorization_"
_WEBHOOK = "Webhook"
_NAMED = ("name", "result")
_BY_TYPE = ("type", "name")
_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CONDITION_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25)


class AuthorizationFigures:
    def __init__(self) -> None:
        self.decisions = CounterVec(
            f"{_PREFIX}decisions",
            "Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.",
            (*_BY_TYPE, "decision"),
        )
        self._calls = CounterVec(f"{_PREFIX}webhook_evaluations", "Round-trips to authorization webhooks.", _NAMED)
        self._open = CounterVec(
            f"{_PREFIX}webhook_evaluations_fail_open", "NoOpinion results due to webhook timeout or error.", _NAMED
        )
        self._condition_errors = CounterVec(
            f"{_PREFIX}match_condition_evaluation_errors",
            "Total number of errors when an authorization webhook encounters a match condition error split by"
            " authorizer type and name.",
            _BY_TYPE,
        )
        self._exclusions = CounterVec(
            f"{_PREFIX}match_condition_exclusions",
            "Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.",
            _BY_TYPE,
        )
        self._call_seconds = HistogramVec(
            f"{_PREFIX}webhook_duration_seconds", "Request latency in seconds.", _NAMED, _CALL_BUCKETS
        )
        self._condition_seconds = HistogramVec(
            f"{_PREFIX}match_condition_evaluation_seconds",
            "Authorization match condition evaluation time in seconds, split by authorizer type and name.",
            _BY_TYPE,
            _CONDITION_BUCKETS,
        )

    def asked(self, name: str, result: str, seconds: float) -> None:
        self._calls.inc(name, result)
        self._call_seconds.observe(seconds, name, result)

    def failed_open(self, name: str, result: str) -> None:
        self._open.inc(name, result)

    def conditions_failed(self, name: str) -> None:
        self._condition_errors.inc(_WEBHOOK, name)

    def conditions_evaluated(self, name: str, seconds: float) -> None:
        self._condition_seconds.observe(seconds, _WEBHOOK, name)

    def excluded(self, name: str) -> None:
        self._exclusions.inc(_WEBHOOK, name)

    def collect(self) -> Iterable[Metric]:
        """The metrics families, durations in seconds."""
        for vector in (
            *(self.decisions, self._calls, self._open, self._condition_errors, self._exclusions),
            *(self._call_seconds, self._condition_seconds),
        ):
            yield from vector.collect()
