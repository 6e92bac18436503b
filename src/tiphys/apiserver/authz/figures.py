"""Upstream's metrics of authorizers: their decisions, and the webhooks' calls and conditions.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tiphys.apiserver.webhooks.figures import Durations

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_PREFIX = "apiserver_authorization_"
_WEBHOOK = "Webhook"
_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CONDITION_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25)


class AuthorizationFigures:
    """Counts by labels, in their order."""

    def __init__(self) -> None:
        self.decisions: Counter[tuple[str, str, str]] = Counter()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._open: Counter[tuple[str, str]] = Counter()
        self._condition_errors: Counter[tuple[str, str]] = Counter()
        self._exclusions: Counter[tuple[str, str]] = Counter()
        self._call_seconds = Durations(
            f"{_PREFIX}webhook_duration_seconds", "Request latency in seconds.", ("name", "result"), _CALL_BUCKETS
        )
        self._condition_seconds = Durations(
            f"{_PREFIX}match_condition_evaluation_seconds",
            "Authorization match condition evaluation time in seconds, split by authorizer type and name.",
            ("type", "name"),
            _CONDITION_BUCKETS,
        )

    def asked(self, name: str, result: str, seconds: float) -> None:
        self._calls[name, result] += 1
        self._call_seconds.observe((name, result), seconds)

    def failed_open(self, name: str, result: str) -> None:
        self._open[name, result] += 1

    def conditions_failed(self, name: str) -> None:
        self._condition_errors[_WEBHOOK, name] += 1

    def conditions_evaluated(self, name: str, seconds: float) -> None:
        self._condition_seconds.observe((_WEBHOOK, name), seconds)

    def excluded(self, name: str) -> None:
        self._exclusions[_WEBHOOK, name] += 1

    def collect(self) -> Iterable[Metric]:
        """The metrics families, durations in seconds."""
        named, by_type = ("name", "result"), ("type", "name")
        yield _family(
            "decisions",
            "Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.",
            ("type", "name", "decision"),
            self.decisions,
        )
        yield _family("webhook_evaluations", "Round-trips to authorization webhooks.", named, self._calls)
        yield _family(
            "webhook_evaluations_fail_open", "NoOpinion results due to webhook timeout or error.", named, self._open
        )
        yield _family(
            "match_condition_evaluation_errors",
            "Total number of errors when an authorization webhook encounters a match condition error split by"
            " authorizer type and name.",
            by_type,
            self._condition_errors,
        )
        yield _family(
            "match_condition_exclusions",
            "Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.",
            by_type,
            self._exclusions,
        )
        yield self._call_seconds.collect()
        yield self._condition_seconds.collect()


def _family(name: str, help: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(_PREFIX + name, help, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
