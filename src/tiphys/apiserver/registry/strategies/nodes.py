"""Nodes: a new node may come with its status; later that is written by the subresource only.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#node-v1-core
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
    copy_field,
)


class NodeStrategy(Strategy):
    """The configuration of kubelets through the API is gone: its fields stay only if they were set before."""

    reset_fields = ("status",)

    def prepare_create(self, obj: Object, write: Write) -> None:
        obj.get("spec", {}).pop("configSource", None)
        obj.get("status", {}).pop("config", None)

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        copy_field(new, old, "status")
        if "configSource" not in old.get("spec", {}):
            new.get("spec", {}).pop("configSource", None)

    def prepare_status_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_status_update(new, old, write)
        if "config" not in old.get("status", {}):
            new.get("status", {}).pop("config", None)
