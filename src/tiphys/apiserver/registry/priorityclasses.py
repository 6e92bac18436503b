"""Priority classes: their value never changes, so that they are of generation 1 for ever."""

from __future__ import annotations

from tiphys.apiserver.registry.strategy import Object, Strategy, Write


class PriorityClassStrategy(Strategy):
    def prepare_create(self, obj: Object, write: Write) -> None:
        obj["metadata"]["generation"] = 1
