"""Whether informers have caught up with a controller's own writes.

A controller that reads what it wrote a moment ago from an informer may see the state from before, and do it twice. So
it notes the resource version of each write, and reconciles a key only when the informers are as new as that. Source:
https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/5647-stale-controller-handling
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client.informer import Informer
from tiphys.runtime.clock import Clock

PATIENCE = 30.0
"""Seconds after which a write that never shows is not waited for any more."""


def _number(version: str) -> int:
    return int(version) if version.isascii() and version.isdigit() else 0


class Consistency:
    """Versions written, by the key of the controller's object and the informer that must show them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._written: dict[str, dict[Informer, tuple[int, float]]] = {}

    def wrote(self, key: str, informer: Informer, written: Object) -> None:
        version = _number(written["metadata"].get("resourceVersion", ""))
        versions = self._written.setdefault(key, {})
        before = versions.get(informer, (0, 0.0))[0]
        versions[informer] = (max(version, before), self._clock.monotonic())

    def ready(self, key: str) -> bool:
        """Whether every informer shows what was written for ``key``."""
        versions = self._written.get(key)
        if versions is None:
            return True
        now = self._clock.monotonic()
        for informer, (version, since) in versions.items():
            if _number(informer.version) < version and now - since < PATIENCE:
                return False
        del self._written[key]
        return True

    def forget(self, key: str) -> None:
        self._written.pop(key, None)
