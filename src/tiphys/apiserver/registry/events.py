"""Events: they expire, and deletion waits for nobody."""

from __future__ import annotations

from tiphys.apiserver.registry.strategy import Strategy


class EventStrategy(Strategy):
    create_on_update = True
    collects_garbage = False
