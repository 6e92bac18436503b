"""Service accounts: of the references to secrets only the names are kept.

Source: https://kubernetes.io/docs/concepts/security/service-accounts/
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.apiserver.registry.strategy import (
    Strategy,
    Write,
)


class ServiceAccountStrategy(Strategy):
    returns_deleted = True

    def prepare_create(self, obj: Object, write: Write) -> None:
        _names_only(obj)

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        _names_only(new)


def _names_only(account: Object) -> None:
    secrets = account.get("secrets")
    if secrets:
        account["secrets"] = [{"name": secret["name"]} if secret.get("name") else {} for secret in secrets]
