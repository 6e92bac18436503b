"""EventRateLimit: how many events may be written a second, by all, by namespace, by user, or by source and object.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#eventratelimit
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from tiphys.api import errors
from tiphys.api.fielderrors import aggregate
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.runtime.clock import Clock

TYPES = ("Namespace", "Server", "SourceAndObject", "User")
_SOURCE = ("component", "host")
_OBJECT = ("kind", "namespace", "name", "uid", "apiVersion")


@dataclass(frozen=True, slots=True)
class Limit:
    """``qps`` events a second on average, ``burst`` at once; as many as ``size`` keys are known at a time."""

    type: str
    qps: float
    burst: int
    size: int = 4096


class EventRateLimit(Plugin):
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "events"), ("events.k8s.io", "events")))
    subresources = None

    def __init__(self, limits: Sequence[Limit], clock: Clock) -> None:
        self._enforcers = tuple(_Enforcer(limit) for limit in limits)
        self._clock = clock

    async def validate(self, attributes: Attributes) -> None:
        if attributes.dry_run:
            return
        now = self._clock.monotonic()
        reasons = [reason for enforcer in self._enforcers if (reason := enforcer.refusal(attributes, now))]
        if reasons:
            raise errors.over_rate(aggregate(reasons))


class _Enforcer:
    """A bucket of tokens for each key; the least recently used one is dropped if there are too many."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens, and when there were so many."""

    def refusal(self, attributes: Attributes, now: float) -> str:
        """Take a token; returns why none is left, or nothing."""
        limit, key = self._limit, _key(self._limit.type, attributes)
        tokens, since = self._buckets.pop(key, (float(limit.burst), now))
        tokens = min(float(limit.burst), tokens + (now - since) * limit.qps)
        accepted = tokens >= 1
        self._buckets[key] = (tokens - 1 if accepted else tokens, now)
        if len(self._buckets) > limit.size:
            self._buckets.popitem(last=False)
        return "" if accepted else f"limit reached on type {limit.type} for key {key}"


def _key(type: str, attributes: Attributes) -> str:
    match type:
        case "Namespace":
            return attributes.namespace
        case "User":
            return attributes.user.name
        case "SourceAndObject":
            event = attributes.new()
            source, about = _source(event), event.get("involvedObject") or event.get("regarding") or {}
            return "".join([*(source.get(name, "") for name in _SOURCE), *(about.get(name, "") for name in _OBJECT)])
    return ""


def _source(event: Object) -> Object:
    """Of either form of events; the new one keeps it under an older name."""
    return event.get("source") or event.get("deprecatedSource") or {}
