"""Nodes: a new node may come with its status; later that is written by the subresource only."""

from __future__ import annotations

from tiphys.apiserver.registry.strategy import Object, Strategy, Write, copy_field


class NodeStrategy(Strategy):
    def prepare_create(self, obj: Object, write: Write) -> None:
        """Everything may be set."""

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        copy_field(new, old, "status")
