"""Config maps and secrets: one that is immutable is compared with what was sent, where empty is not absent.

Source: https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-immutable
"""

from __future__ import annotations

from tiphys.api.fielderrors import FieldError
from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)


class SealedStrategy(Strategy):
    def validate_update(self, new: Object, old: Object, write: Write) -> list[FieldError]:
        sent = write.as_sent(new) if old.get("immutable") else None
        return super().validate_update(sent or new, old, write)
