"""Limit ranges: one without a name gets a unique one.

Source: https://kubernetes.io/docs/concepts/policy/limit-range/
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)


class LimitRangeStrategy(Strategy):
    create_on_update = True

    def prepare_create(self, obj: Object, write: Write) -> None:
        if not obj["metadata"].get("name"):
            obj["metadata"]["name"] = obj["metadata"]["uid"]
